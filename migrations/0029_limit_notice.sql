-- Why: whoever follows a batch is told that its calls wait, for a limit or for the breaker. Thousands of calls of a
-- whole fleet may wait for the same at once; that it is said once is decided here.

create table limit_notice (
    organization_id uuid not null,
    batch_id uuid not null,
    model text not null,
    limited_at timestamptz,
    breaker text check (breaker in ('open', 'half-open', 'closed')),
    opened_at timestamptz,
    probed_at timestamptz,
    primary key (batch_id, model, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade
);
comment on table limit_notice is 'What was told last of the waits of a batch''s calls of a model.';
comment on column limit_notice.limited_at is 'When it was told last that they wait for a limit.';
comment on column limit_notice.breaker is 'How the breaker stands as far as was told; null: nothing was.';
comment on column limit_notice.opened_at is 'When it was told last that the breaker is open.';
comment on column limit_notice.probed_at is 'When it was told last that a call tries how the server is.';

grant select, insert, update, delete on limit_notice to graphmill_app;
alter table limit_notice enable row level security;
create policy own_organization on limit_notice to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());
