-- Why: an ended batch may be worked again from a stage on, with another ontology or another prompt. Its next generation
-- is then filled with all of its documents, and whoever does that may be cut off.

alter table batch drop constraint batch_filling_check;
alter table batch add constraint batch_filling_check
    check (filling in ('submission', 'retry', 'addition', 'rerun'));
comment on column batch.ontology_id is
    'What may be found, as it was said last; `config` has what each stage is worked with, where that differs.';
