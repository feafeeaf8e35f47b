-- Why: whoever asks over HTTP shows a key, and the key says for which organization. It is looked up before there is an
-- organization, where row security shows the app nothing; so one function, which runs as its owner, gives the row of
-- one prefix, and nobody gets a list. And what an organization may have and ask for can be capped.

alter table api_key
    add column last_used_at timestamptz,
    add constraint api_key_name_is_short check (length(name) between 1 and 200),
    add constraint api_key_prefix_is_short check (length(prefix) between 1 and 32),
    add constraint api_key_hash_is_sha256 check (octet_length(hash) = 32),
    add constraint api_key_may_something check (cardinality(scopes) > 0);
create unique index api_key_prefix on api_key (prefix);
comment on column api_key.hash is
    'SHA-256 of the secret part. It is random and long (200 bits): nothing slower is needed to keep it from being guessed.';
comment on column api_key.scopes is 'What it may do: `read`, `write` (and read), `admin` (and both).';
comment on column api_key.last_used_at is 'To within some minutes: a request writes it only when it is older.';

create table organization_limit (
    organization_id uuid primary key references organization,
    requests_per_second integer check (requests_per_second between 1 and 1000000),
    burst integer check (burst between 1 and 1000000),
    max_open_batches integer check (max_open_batches >= 0),
    max_documents bigint check (max_documents >= 0),
    documents bigint not null default 0,
    constraint organization_limit_burst_of_a_rate check (burst is null or requests_per_second is not null)
) with (fillfactor = 50);
comment on table organization_limit is
    'What an organization may ask for and have. No row is no limit: what others write touches no row that they share.';
comment on column organization_limit.requests_per_second is 'Requests of the HTTP API, over all replicas.';
comment on column organization_limit.burst is 'Requests that may come at once after a pause; null: those of one second.';
comment on column organization_limit.max_open_batches is 'Batches that have not ended.';
comment on column organization_limit.max_documents is 'Documents that are stored, over all batches.';
comment on column organization_limit.documents is
    'Documents that are stored, kept by whoever adds or withdraws them from the row''s first commit on.';

grant select, update (documents) on organization_limit to graphmill_app;
alter table organization_limit enable row level security;
create policy own_organization on organization_limit to graphmill_app
    using (organization_id = current_organization())
    with check (organization_id = current_organization());

create function api_key_by_prefix(wanted text)
    returns table (id uuid, organization_id uuid, hash bytea, scopes text[], revoked boolean,
                   expires_in double precision, idle boolean, now_ms bigint,
                   requests_per_second integer, burst integer)
    language sql stable security definer
    set search_path = pg_catalog, public, pg_temp
    as $$
        select k.id, k.organization_id, k.hash, k.scopes, k.revoked_at is not null,
               extract(epoch from k.expires_at - now())::double precision,
               k.last_used_at is null or k.last_used_at < now() - interval '5 minutes',
               (extract(epoch from now()) * 1000)::bigint,
               l.requests_per_second, l.burst
        from public.api_key k
        left join public.organization_limit l on l.organization_id = k.organization_id
        where k.prefix = wanted
    $$;
comment on function api_key_by_prefix(text) is
    'The key with this prefix, whoever''s it is, and how many requests its organization may make. `expires_in` is in '
    'seconds, negative when it is over; null: never.';
revoke all on function api_key_by_prefix(text) from public;
grant execute on function api_key_by_prefix(text) to graphmill_app;

create function api_key_exists()
    returns boolean
    language sql stable security definer
    set search_path = pg_catalog, public, pg_temp
    as $$
        select exists (select from public.api_key k
                       where k.revoked_at is null and (k.expires_at is null or k.expires_at > now()))
    $$;
comment on function api_key_exists() is 'Any organization has a key that may be used.';
revoke all on function api_key_exists() from public;
grant execute on function api_key_exists() to graphmill_app;

-- A command may name any organization.
grant select (id, name) on organization to graphmill_engine;
create policy every_organization on organization for select to graphmill_engine using (true);
