-- Why: a trace runs from whoever submits a batch to what becomes of it, over processes that never meet. What they have
-- in common is the batch's row, so the context stands there: Redis may be wiped, and a job with it.

alter table batch
    add column traceparent text
        check (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$'
               and traceparent !~ '^00-0{32}-' and traceparent !~ '-0{16}-0[01]$');
comment on column batch.traceparent is
    'W3C trace context that the batch''s work hangs below: of the submission, or of whoever asked for it. Null: none.';
