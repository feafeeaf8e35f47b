-- Why: the ledger at work. A row for a call is written before the call is made, and claims its request: whoever has
-- the same question waits for that row's answer. The claim is kept alive by whoever makes the call; once it has run
-- out, nobody knows whether the call was billed (in doubt), and it may be made again. Writing an answer is never
-- fenced: a paid answer is kept, whoever holds what by then.

alter table llm_call
    add column operation text not null default 'chat' check (operation in ('chat', 'embeddings')),
    add column endpoint text not null default '',
    add column prompt text not null default '',
    add column claim_until timestamptz,
    add column reserved_tokens bigint check (reserved_tokens >= 0),
    add column http_status integer,
    add column error text,
    add column late boolean not null default false,
    add column answer_id uuid;
alter table llm_call drop constraint llm_call_outcome_check;
alter table llm_call add constraint llm_call_outcome_check
    check (outcome in ('intent', 'answered', 'rejected', 'in_doubt', 'cached'));
alter table llm_call add constraint llm_call_claim check (outcome <> 'intent' or claim_until is not null);
alter table llm_call add constraint llm_call_cached check ((outcome = 'cached') = (answer_id is not null));

comment on column llm_call.outcome is
    'intent: it is being made. answered: its answer is here. rejected: the server refused it, nothing is owed. in_doubt: '
    'sent, and nobody knows whether it was billed. cached: nothing was sent, the answer of answer_id was used again.';
comment on column llm_call.prompt is 'The prompt''s name and version.';
comment on column llm_call.claim_until is 'Until when the one who makes the call is believed to be alive.';
comment on column llm_call.reserved_tokens is 'What the call may take at most; reserved in the budget until it is known.';
comment on column llm_call.reserved_cost is 'The same, in US dollars.';
comment on column llm_call.late is 'The answer came after the call had been given up: it was in doubt, and another one was made.';
comment on column llm_call.sample is 'The how-manyeth answer to the same question was wanted; an unusable answer raises it.';

drop index llm_call_answer;
create index llm_call_request on llm_call (request_hash, organization_id);
create index llm_call_batch on llm_call (batch_id, id);

alter table budget
    add column calls bigint not null default 0,
    add column prompt_tokens bigint not null default 0,
    add column cached_tokens bigint not null default 0,
    add column completion_tokens bigint not null default 0;
comment on column budget.calls is 'Calls that were answered and paid.';
comment on column budget.reserved_cost is 'US dollars that calls in work and calls in doubt may cost at most.';

create table model_endpoint (
    organization_id uuid not null references organization,
    endpoint text not null,
    model text not null,
    known text not null,
    updated_at timestamptz not null default now(),
    primary key (endpoint, model, organization_id)
);
comment on table model_endpoint is 'What was found out about an endpoint and a model by asking: it is not asked again.';
comment on column model_endpoint.known is 'The form of structured output that works there, as the extractor spells it.';

grant select, insert, update, delete on model_endpoint to graphmill_app;
alter table model_endpoint enable row level security;
create policy own_organization on model_endpoint to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());

create table dropped_item (
    organization_id uuid not null,
    workflow_execution_id uuid not null,
    stage text not null,
    unit integer not null,
    reason text not null,
    count integer not null check (count > 0),
    primary key (workflow_execution_id, stage, unit, reason, organization_id),
    foreign key (workflow_execution_id, organization_id)
        references workflow_execution (id, organization_id) on delete cascade
);
comment on table dropped_item is
    'What a model said for a unit and was not published, by reason: a quote that is not in the text, a relation that the '
    'ontology does not allow. Counts alone; the answer itself is in the ledger.';

grant select, insert, update, delete on dropped_item to graphmill_app;
alter table dropped_item enable row level security;
create policy own_organization on dropped_item to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());
