-- Why: a batch says once that it has ended, to an address that its owner gave. What is owed is a row that the
-- sequencer writes in the transaction in which it moves the batch to its end; any replica delivers it, as often as it
-- takes, under one id. And how fast a batch is going must be known without reading its rows.

alter table batch
    add column notify_url text check (length(notify_url) between 1 and 2048),
    add column notifies boolean not null generated always as (notify_url is not null) stored,
    add column pace jsonb;
comment on column batch.notify_url is
    'Where to say that the batch has ended; null: nowhere. It may hold a secret of its owner, so the engine does not read it.';
comment on column batch.notifies is 'There is such an address: all that the sequencer must know.';
comment on column batch.pace is
    'Two earlier looks at how many documents had ended, by the database''s clock (flow::Pace): the rate and the time left.';

create table webhook_delivery (
    batch_id uuid not null,
    generation integer not null,
    organization_id uuid not null,
    id uuid not null,
    status text not null default 'waiting' check (status in ('waiting', 'delivered', 'given_up')),
    state_data jsonb not null,
    counts jsonb not null,
    body text,
    attempts integer not null default 0 check (attempts >= 0),
    next_due timestamptz not null default now(),
    lease_owner uuid,
    lease_epoch bigint not null default 0,
    lease_until timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    settled_at timestamptz,
    primary key (batch_id, generation, organization_id),
    unique (id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade,
    constraint webhook_lease_is_whole check ((lease_owner is null) = (lease_until is null)),
    constraint webhook_lease_needs_waiting check (lease_owner is null or status = 'waiting'),
    constraint webhook_settled_at_says_so check ((settled_at is not null) = (status <> 'waiting')),
    constraint webhook_gave_up_for_a_reason check (status <> 'given_up' or last_error is not null)
);
create index webhook_delivery_due on webhook_delivery (next_due) where status = 'waiting';
comment on table webhook_delivery is
    'That a generation of a batch has ended, to be told to its owner: exactly one row for each, delivered at least once.';
comment on column webhook_delivery.id is 'What receivers know a repeat by; the header `webhook-id`.';
comment on column webhook_delivery.state_data is 'The end, as the batch''s row had it: a retry moves the batch on.';
comment on column webhook_delivery.counts is 'The counts at the end.';
comment on column webhook_delivery.body is 'What is sent, byte by byte; fixed by the first attempt.';
comment on column webhook_delivery.attempts is 'Attempts that were begun; one may have been cut off.';
comment on column webhook_delivery.next_due is 'By the database''s clock.';
comment on column webhook_delivery.lease_epoch is 'Rises with every attempt; what a slower one has to say is refused.';
comment on column webhook_delivery.last_error is 'Why the last attempt failed, in our words: never what the receiver said.';

grant select, insert, update, delete on webhook_delivery to graphmill_app;
alter table webhook_delivery enable row level security;
create policy own_organization on webhook_delivery to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());

grant select (notifies, pace), update (pace) on batch to graphmill_engine;
grant select (batch_id, generation, organization_id, id, status, attempts, next_due, lease_owner, lease_epoch,
              lease_until),
      insert (batch_id, generation, organization_id, id, state_data, counts),
      update (status, attempts, next_due, lease_owner, lease_epoch, lease_until, last_error, settled_at)
    on webhook_delivery to graphmill_engine;
create policy every_organization on webhook_delivery to graphmill_engine using (true) with check (true);
