-- Why: the graph is asked over HTTP: for entities by name, by the beginning of a name and by the words in it, within one
-- organization. And a submission may be sent twice, by whoever got no answer to the first.

-- A column and not an index on an expression: under row security only comparisons that can't leak become conditions
-- of an index, and `lower` is not one of them.
alter table entity add column name_key text collate "C"
    generated always as (lower(left(name, 200))) stored;
comment on column entity.name_key is 'The beginning of its name in lower case: what it is looked up and listed by.';
create index entity_name on entity (name_key, organization_id, id);

-- The organization is a word like those of the name, so that the index itself keeps to one organization.
create index entity_words on entity using gin (
    (to_tsvector('simple', left(name, 200)) || array_to_tsvector(array[organization_id::text])));

-- `@@` may leak as well, so it can't use the index under row security. This runs as the owner, asks for one
-- organization by itself and gives ids alone: who reads the rows behind them is bound by row security again.
create function entities_with_words(words text, after uuid, most integer) returns setof uuid
    language sql stable security definer set search_path = public, pg_temp
    as $$
        with asked as materialized (
            select websearch_to_tsquery('simple', words) as query
        ), found as materialized (
            select n.id from entity n
            where (to_tsvector('simple', left(n.name, 200)) || array_to_tsvector(array[n.organization_id::text]))
                      @@ (select query && quote_literal(current_organization()::text)::tsquery from asked
                          -- Without a word that must be there it would be all of the organization.
                          where querytree(query) not in ('', 'T'))
              and n.organization_id = current_organization()
        )
        select id from found where id > after order by id limit most
    $$;
comment on function entities_with_words(text, uuid, integer) is
    'Ids of the entities of the transaction''s organization whose names have these words, in the order of their ids.';
revoke execute on function entities_with_words(text, uuid, integer) from public;
grant execute on function entities_with_words(text, uuid, integer) to graphmill_app;

-- Nothing ever wrote it: a key belongs to a request, which ends, and not to its batch, which stays.
alter table batch drop column idempotency_key;

create table idempotency_key (
    key text not null check (length(key) between 1 and 255),
    organization_id uuid not null references organization,
    batch_id uuid not null,
    request_hash bytea not null,
    body_bytes bigint not null default 0 check (body_bytes >= 0),
    body_hash bytea,
    whole boolean not null default false,
    answer jsonb,
    created_at timestamptz not null default now(),
    primary key (key, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade,
    constraint key_of_a_whole_body_knows_it check (not whole or body_hash is not null),
    constraint key_answers_a_whole_body check (answer is null or whole)
);
create index idempotency_key_age on idempotency_key (created_at);
comment on table idempotency_key is
    'Submissions that were sent with a key: the same key with the same body is the same batch. Written in the transaction that opens the batch; forgotten after a day.';
comment on column idempotency_key.request_hash is 'SHA-256 of everything that was asked but the body.';
comment on column idempotency_key.body_bytes is 'How much of the body is written down for sure.';
comment on column idempotency_key.body_hash is 'SHA-256 of so much of it.';
comment on column idempotency_key.whole is 'That is all of it.';
comment on column idempotency_key.answer is 'What was answered, and is answered to every repeat.';

grant select, insert, update, delete on idempotency_key to graphmill_app;
alter table idempotency_key enable row level security;
create policy own_organization on idempotency_key to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());
