-- Why: the state of the work. Postgres is the truth about every batch, document and execution; Redis only rings.
-- Foreign keys are composite, so that no row can point into another organization; but no index is led by the
-- organization: while a table has no statistics yet, the planner takes such an index for as good as the right one,
-- and a look-up by id reads every row of the organization.
-- The CHECKs say what the state machines of src/flow say; tests/it/machines.rs compares the two.

-- The organization of the current transaction; null when none is set, so that nothing matches.
create function current_organization() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('graphmill.organization', true), '')::uuid;

comment on function current_organization() is
    'The organization that the transaction was opened for; row-level security compares every row with it.';

create table organization (
    id uuid primary key,
    name text not null unique check (length(name) between 1 and 200),
    created_at timestamptz not null default now()
);
comment on table organization is 'Who owns rows. Every other table leads here.';

insert into organization (id, name) values ('00000000-0000-7000-8000-000000000001', 'default');

create table api_key (
    id uuid not null,
    organization_id uuid not null references organization,
    name text not null,
    prefix text not null,
    hash bytea not null unique,
    scopes text[] not null check (scopes <@ array['read', 'write', 'admin']),
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    primary key (id, organization_id)
);
comment on table api_key is 'Keys of the HTTP API and of producers: the hash only, never the key.';
comment on column api_key.prefix is 'What the key begins with, to recognize it by.';

create table ontology (
    id uuid not null,
    organization_id uuid not null references organization,
    name text not null,
    version integer not null check (version > 0),
    hash bytea not null,
    definition jsonb not null,
    created_at timestamptz not null default now(),
    primary key (id, organization_id),
    unique (hash, organization_id)
);
comment on table ontology is 'Classes and relation types that an extraction may use; a changed one is a new row.';
comment on column ontology.hash is 'SHA-256 of the definition.';

create table batch (
    id uuid not null,
    organization_id uuid not null references organization,
    name text not null check (length(name) between 1 and 200),
    ontology_id uuid not null,
    extractor text not null,
    config jsonb not null default '{}',
    concurrency integer not null check (concurrency between 1 and 10000),
    failure_policy text not null
        check (failure_policy in ('continue-on-failure', 'abort-all', 'retry-failed')),
    max_retries integer not null check (max_retries between 0 and 100),
    generation integer not null default 1 check (generation > 0),
    state text not null default 'Pending'
        check (state in ('Pending', 'Chunking', 'ExtractingMentions', 'ExtractingEntities',
                         'ExtractingRelations', 'Assembling', 'Resolving',
                         'Completed', 'Failed', 'Cancelled')),
    state_data jsonb not null default '{"name": "Pending"}',
    counts jsonb not null,
    stopping text check (stopping in ('cancel', 'abort')),
    sealed_at timestamptz,
    paused_at timestamptz,
    pause_reason text,
    resolution_id uuid,
    idempotency_key text,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz not null default now(),
    primary key (id, organization_id),
    unique (name, organization_id),
    unique (idempotency_key, organization_id),
    foreign key (organization_id, ontology_id) references ontology (organization_id, id),
    -- `is not distinct from`: a CHECK lets a null pass, and `{}` has no name.
    constraint batch_state_data_agrees check (state_data ->> 'name' is not distinct from state),
    constraint batch_ended_at_says_so
        check ((ended_at is not null) = (state in ('Completed', 'Failed', 'Cancelled'))),
    constraint batch_resolves_sealed check (state not in ('Resolving', 'Completed') or sealed_at is not null),
    constraint batch_pause_has_a_reason check ((paused_at is null) = (pause_reason is null))
) with (fillfactor = 60);
create index batch_open on batch (created_at)
    where state not in ('Completed', 'Failed', 'Cancelled');
comment on table batch is 'Documents that are extracted under one policy and resolved together. Only the sequencer moves it.';
comment on column batch.counts is 'What the batch''s events add up to, folded by the sequencer (flow::BatchCounts).';
comment on column batch.stopping is 'Set: nothing of the batch is admitted or leased any more.';
comment on column batch.concurrency is 'Documents in processing at once, over all replicas.';
comment on column batch.resolution_id is 'The published resolution: clusters of another one are invisible.';

create table document (
    id uuid not null,
    organization_id uuid not null,
    batch_id uuid not null,
    external_id text not null check (length(external_id) between 1 and 1024),
    title text,
    source_uri text,
    text text,
    text_chars integer check (text_chars >= 0),
    content_hash bytea,
    metadata jsonb not null default '{}',
    refusal jsonb,
    created_at timestamptz not null default now(),
    primary key (id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade,
    constraint document_has_a_text_or_a_refusal
        check ((text is null) = (refusal is not null)
               and (text is null) = (content_hash is null)
               and (text is null) = (text_chars is null))
);
create unique index document_external_id on document (batch_id, external_id)
    where refusal is null;
create unique index document_content on document (batch_id, content_hash)
    where refusal is null;
create index document_of_batch on document (batch_id, id);
comment on table document is 'What was submitted: a text, or the reason why it was refused.';
comment on column document.external_id is 'The caller''s id.';
comment on column document.content_hash is 'SHA-256 of the text.';

create table workflow_execution (
    id uuid not null,
    organization_id uuid not null,
    batch_id uuid not null,
    generation integer not null,
    document_id uuid,
    workflow_type text not null check (workflow_type in ('extraction', 'resolution')),
    workflow_version integer not null check (workflow_version > 0),
    status text not null default 'queued'
        check (status in ('queued', 'processing', 'retry', 'failed',
                          'completed', 'abandoned', 'cancelled')),
    current_activity text not null
        check (current_activity in ('chunk-text', 'extract-mentions', 'classify-entities',
                                    'extract-relations', 'assemble-graph', 'resolve')),
    round integer not null default 0 check (round >= 0),
    partial boolean not null default false,
    lease_owner uuid,
    lease_epoch bigint not null default 0,
    lease_until timestamptz,
    due_at timestamptz not null default now(),
    rung_at timestamptz,
    ring_incarnation bigint,
    paused_at timestamptz,
    pause_reason text,
    stop_requested_at timestamptz,
    input jsonb,
    output jsonb,
    error jsonb,
    checkpoint jsonb,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade,
    constraint execution_lease_is_whole check ((lease_owner is null) = (lease_until is null)),
    constraint execution_lease_needs_processing check (lease_owner is null or status = 'processing'),
    constraint execution_completed_at_says_so
        check ((completed_at is not null) = (status in ('completed', 'abandoned', 'cancelled'))),
    constraint execution_failure_has_a_reason
        check (status not in ('failed', 'abandoned') or error is not null),
    constraint execution_extracts_a_document
        check ((workflow_type = 'extraction') = (document_id is not null)),
    constraint execution_stage_of_its_workflow
        check ((workflow_type = 'resolution') = (current_activity = 'resolve')),
    constraint execution_pause_has_a_reason check ((paused_at is null) = (pause_reason is null))
) with (fillfactor = 60);
create unique index workflow_execution_document
    on workflow_execution (document_id, generation)
    where workflow_type = 'extraction';
create unique index workflow_execution_resolution
    on workflow_execution (batch_id, generation)
    where workflow_type = 'resolution';
-- Led by the batch: a global due index cost 1.3 s a tick at a million rows.
create index workflow_execution_due on workflow_execution (batch_id, due_at, id)
    where status in ('queued', 'retry');
create index workflow_execution_processing on workflow_execution (batch_id)
    where status = 'processing';
create index workflow_execution_failed on workflow_execution (batch_id) where status = 'failed';
-- The sweeper asks every second for stops that nobody delivers; that must cost nothing while there are none.
create index workflow_execution_stop on workflow_execution (id)
    where stop_requested_at is not null and status in ('queued', 'processing', 'retry', 'failed');
create index workflow_execution_batch on workflow_execution (batch_id, id);
comment on table workflow_execution is
    'One document''s pass through the stages, or a batch''s resolution. Hot: settles touch it, so lease and ring columns are in no index.';
comment on column workflow_execution.status is '`processing` is the batch''s concurrency slot; who works is the lease''s business.';
comment on column workflow_execution.lease_epoch is 'Rises with every lease; a write under an older one is refused.';
comment on column workflow_execution.lease_until is 'By the database''s clock.';
comment on column workflow_execution.rung_at is 'When a job was last pushed for it; null: not rung.';
comment on column workflow_execution.ring_incarnation is 'Which Redis the job was pushed to; another one means not rung.';
comment on column workflow_execution.round is 'Extra rounds that the batch''s policy gave it.';
comment on column workflow_execution.checkpoint is 'What the last settled stage left behind, in short.';

create table workflow_activity (
    id uuid not null,
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    activity_name text not null
        check (activity_name in ('chunk-text', 'extract-mentions', 'classify-entities',
                                 'extract-relations', 'assemble-graph', 'resolve')),
    activity_type text not null check (activity_type in ('extraction', 'resolution')),
    status text not null
        check (status in ('pending', 'running', 'completed', 'failed', 'cancelled', 'skipped')),
    attempt_number integer not null check (attempt_number > 0),
    lease_epoch bigint not null,
    input jsonb,
    output jsonb,
    error jsonb,
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    duration_ms bigint generated always as
        ((extract(epoch from completed_at - started_at) * 1000)::bigint) stored,
    primary key (workflow_execution_id, activity_name, lease_epoch),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    constraint activity_completed_at_says_so
        check ((completed_at is not null) = (status in ('completed', 'failed', 'cancelled', 'skipped'))),
    constraint activity_failure_has_a_reason check (status <> 'failed' or error is not null)
) with (fillfactor = 80);
comment on table workflow_activity is 'One attempt at one stage. Its key is (execution, stage, lease epoch).';
comment on column workflow_activity.duration_ms is 'Milliseconds by the database''s clock.';

create table workflow_signal (
    id uuid not null,
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    signal_name text not null check (signal_name in ('cancel', 'pause', 'resume', 'retry')),
    payload jsonb not null default '{}',
    outcome text check (outcome in ('delivered', 'too_late')),
    created_at timestamptz not null default now(),
    delivered_at timestamptz,
    primary key (id, organization_id),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    constraint signal_delivery_has_an_outcome check ((delivered_at is null) = (outcome is null))
);
create index workflow_signal_undelivered on workflow_signal (workflow_execution_id)
    where delivered_at is null;
comment on table workflow_signal is 'What somebody asked of an execution; `delivered_at` commits with the move, or with "too late".';

create table checkpoint (
    workflow_execution_id uuid not null,
    organization_id uuid not null,
    stage text not null
        check (stage in ('chunk', 'mentions', 'entities', 'relations', 'assemble', 'resolve')),
    unit integer not null check (unit >= 0),
    input_hash bytea not null,
    outcome text not null check (outcome in ('done', 'retry', 'failed')),
    failure jsonb,
    round integer not null default 0,
    tries integer not null check (tries > 0),
    output jsonb,
    lease_epoch bigint not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (workflow_execution_id, stage, unit),
    foreign key (organization_id, workflow_execution_id)
        references workflow_execution (organization_id, id) on delete cascade,
    constraint checkpoint_has_an_output_or_a_reason
        check ((outcome = 'done') = (failure is null))
);
comment on table checkpoint is 'What became of a unit (a chunk, or a group of mentions). One that is done is never worked again.';
comment on column checkpoint.input_hash is 'SHA-256 of what the unit was given.';
comment on column checkpoint.tries is 'Tries so far in this round.';
comment on column checkpoint.output is 'What it gave; null for a failed unit, and for the graph of `assemble`, which has tables of its own.';

create table event_outbox (
    id bigint generated always as identity primary key,
    organization_id uuid not null,
    batch_id uuid not null,
    workflow_execution_id uuid,
    type text not null,
    payload jsonb not null,
    created_at timestamptz not null default now()
);
comment on table event_outbox is 'Events that committed and have no position yet. Ids say nothing about order of commit.';

create table event (
    position bigint primary key,
    organization_id uuid not null,
    batch_id uuid not null,
    workflow_execution_id uuid,
    type text not null,
    payload jsonb not null,
    created_at timestamptz not null
);
create index event_of_batch on event (batch_id, position);
comment on table event is 'The log. A position becomes visible only after every smaller one.';

create table event_cursor (
    singleton boolean primary key default true check (singleton),
    last_position bigint not null
);
insert into event_cursor (last_position) values (0);
comment on table event_cursor is 'The last position given; its row is the sequencer''s.';

create table worker (
    id uuid primary key,
    version text not null,
    slots integer not null check (slots >= 0),
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
comment on table worker is 'Processes that work stages, as last seen. A row older than a minute is of the past.';
comment on column worker.slots is 'Jobs that the process works at once, over all stages.';
