-- Why: a database that is never tidied up grows for ever. What has served its time goes by age: the logs of ended
-- batches, the bodies of answers, ended batches whole. It goes in steps, so a batch that is going must be told from one
-- that is there; who reads a log must learn that its beginning is gone; and rows must be found by what they belong to.

alter table batch
    add column pruning_since timestamptz,
    add column events_pruned_to bigint not null default 0 check (events_pruned_to >= 0),
    -- Nobody opens it again, whoever forgets to ask: the database says no.
    add constraint batch_pruned_stays_ended check (pruning_since is null or ended_at is not null);
create index batch_pruning on batch (id) where pruning_since is not null;
comment on column batch.pruning_since is
    'Set: it is being deleted, step by step, and is no batch any more for anybody else. Never taken back.';
comment on column batch.events_pruned_to is
    'The last position of its log that was deleted; whoever asks for what comes after a smaller one has missed events.';

alter table llm_call add column response_pruned_at timestamptz;
comment on column llm_call.response_pruned_at is
    'Set: the answer''s body was deleted for its age (`response` is empty), and the same question is paid again. What '
    'it took and cost stays.';
create index llm_call_body on llm_call (ended_at, id)
    where response is not null and response_pruned_at is null;

-- A cascade looks its rows up by what was deleted; without these it reads the whole table for each execution.
create index evidence_of_execution on evidence (workflow_execution_id);
create index workflow_signal_of_execution on workflow_signal (workflow_execution_id);
create index cluster_of_batch on cluster (batch_id);
create index same_as_of_batch on same_as (batch_id);

-- Logs are pruned by whoever may delete the batch.
grant delete on event to graphmill_app;

-- Pruning goes over organizations.
grant select (id, name) on organization to graphmill_engine;
do $$
begin
    if not exists (select from pg_policies where tablename = 'organization' and policyname = 'every_organization') then
        create policy every_organization on organization for select to graphmill_engine using (true);
    end if;
end
$$;
