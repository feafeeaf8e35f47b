-- Why: a batch has a life. Documents come while it is open, also after its end; a document that was sent again with
-- another text takes the place of its old version, and one that was removed is withdrawn. What was withdrawn stays as
-- it ended, with its checkpoints and its calls, but nothing of it is counted, exported or resolved any more; its
-- graph is deleted when it is withdrawn, so that no reader of the graph has to ask.

alter table document
    add column withdrawn_at timestamptz,
    add column replaced_by uuid,
    add constraint document_replaced_is_withdrawn check (replaced_by is null or withdrawn_at is not null);
comment on column document.withdrawn_at is 'Set: removed from its batch, or replaced by a newer version.';
comment on column document.replaced_by is 'The version that took its place; null: it was removed.';

-- One current version of an id, and one current document of a text. Each look keeps an index that nothing else of the
-- table can stand in for (see 0007), so the condition is that of the queries, to the word.
drop index document_external_id;
create unique index document_external_id on document (batch_id, external_id)
    where refusal is null and withdrawn_at is null;
drop index document_content;
create unique index document_content on document (batch_id, content_hash)
    where content_hash is not null and withdrawn_at is null;
drop index document_refused;
create index document_refused on document (batch_id, external_id)
    where refusal is not null and withdrawn_at is null;
-- What was withdrawn and comes back brings its checkpoints along.
create index document_withdrawn on document (batch_id, external_id)
    where withdrawn_at is not null;

alter table workflow_execution
    add column withdrawn_at timestamptz,
    add constraint execution_withdrawn_is_final check (withdrawn_at is null or completed_at is not null);
comment on column workflow_execution.withdrawn_at is
    'Its document''s, repeated, so that counting a batch''s executions needs no look at a million documents.';

alter table batch
    add column filling text default 'submission' check (filling in ('submission', 'retry', 'addition'));
comment on column batch.filling is
    'Who seals it, while it is not sealed: what fills it at this moment, or was cut off. Null: it is kept open, and '
    'somebody seals it by hand.';
update batch set filling = 'retry' where generation > 1 and sealed_at is null;
