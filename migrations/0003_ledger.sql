-- Why: one row for every model call, written before it is made; and what a batch may spend.

create table llm_call (
    id uuid not null,
    organization_id uuid not null references organization,
    batch_id uuid,
    workflow_execution_id uuid,
    stage text,
    unit integer,
    provider text not null,
    model text not null,
    request_hash bytea not null,
    sample integer not null default 0,
    attempt integer not null check (attempt > 0),
    outcome text not null check (outcome in ('intent', 'answered', 'rejected', 'in_doubt')),
    response bytea,
    prompt_tokens bigint check (prompt_tokens >= 0),
    cached_tokens bigint check (cached_tokens >= 0),
    completion_tokens bigint check (completion_tokens >= 0),
    cost numeric check (cost >= 0),
    reserved_cost numeric check (reserved_cost >= 0),
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (id, organization_id),
    check (outcome <> 'answered' or response is not null)
);
create unique index llm_call_open_claim on llm_call (request_hash, organization_id)
    where outcome = 'intent';
create index llm_call_answer on llm_call (request_hash, organization_id) where outcome = 'answered';
comment on table llm_call is 'The ledger. A request with an answered row is never paid again.';
comment on column llm_call.response is 'The raw answer, durable before it is parsed.';

create table budget (
    organization_id uuid not null references organization,
    batch_id uuid not null,
    max_cost numeric check (max_cost >= 0),
    max_tokens bigint check (max_tokens >= 0),
    reserved_cost numeric not null default 0,
    spent_cost numeric not null default 0,
    reserved_tokens bigint not null default 0,
    spent_tokens bigint not null default 0,
    primary key (batch_id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade
);
comment on table budget is 'What a batch may spend, has reserved and has spent; can be rebuilt from the ledger.';
