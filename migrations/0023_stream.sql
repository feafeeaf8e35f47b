-- Why: whoever follows one execution resumes from a position of the log, and must not read the log of a batch of a
-- million documents for it. Ids of executions rise with time, and what is in work at once was made at once: the
-- sequencer writes into a few pages of the index at a time.

create index event_of_execution on event (workflow_execution_id, position)
    where workflow_execution_id is not null;
