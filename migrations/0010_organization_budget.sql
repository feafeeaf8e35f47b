-- Why: a cap over all batches of an organization. It has a row only while it has a cap, so that the calls of the
-- others touch no row that they share; the row begins with what the ledger says, and is kept like a batch's budget
-- from then on.
--
-- Locks are taken in this order: llm_call, budget, organization_budget.

create table organization_budget (
    organization_id uuid not null references organization,
    period text not null default 'total' check (period in ('total', 'month')),
    counted_from timestamptz not null default '-infinity',
    max_cost numeric check (max_cost >= 0),
    max_tokens bigint check (max_tokens >= 0),
    reserved_cost numeric not null default 0 check (reserved_cost >= 0),
    spent_cost numeric not null default 0 check (spent_cost >= 0),
    reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
    spent_tokens bigint not null default 0 check (spent_tokens >= 0),
    primary key (organization_id)
) with (fillfactor = 50);
comment on table organization_budget is
    'What all batches of an organization may spend, have reserved and have spent; can be rebuilt from the ledger. No '
    'row is no cap.';
comment on column organization_budget.period is
    'total: whatever was ever called counts. month: what was called in this calendar month (UTC).';
comment on column organization_budget.counted_from is
    'Calls that were begun before it do not count, whenever they end: the beginning of the month.';
comment on column organization_budget.max_cost is 'US dollars.';

grant select, insert, update, delete on organization_budget to graphmill_app;
grant select (organization_id, period, counted_from) on organization_budget to graphmill_engine;
alter table organization_budget enable row level security;
create policy own_organization on organization_budget to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());
create policy every_organization on organization_budget for select to graphmill_engine using (true);
