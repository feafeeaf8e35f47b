-- Why: nothing that is asked while a batch is filled or worked may read all of it. With a million documents, looking
-- for known ids made every step of a submission read every document of the batch (at 63,000 documents a step of 500
-- took 0.3 s and rising), and a report read every document and execution to list the few that failed.

-- Each look has an index that nothing else of the table can stand in for: while the table has no statistics yet, the
-- planner takes every index led by the batch whose condition holds for as good as the right one. For the same reason
-- they are made after `document_of_batch`: of equals it takes the newest.
drop index document_external_id;
create unique index document_external_id on document (batch_id, external_id) where refusal is null;
drop index document_content;
create unique index document_content on document (batch_id, content_hash) where content_hash is not null;
create index document_refused on document (batch_id, external_id) where refusal is not null;
create index workflow_execution_abandoned on workflow_execution (batch_id) where status = 'abandoned';
