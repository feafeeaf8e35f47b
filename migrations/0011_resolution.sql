-- Why: one graph over the batches of an organization. A cluster is the same thing in every batch that speaks of it: it
-- has one id, one name, and in each batch's published resolution a row of its own, so that a resolution is still
-- written unseen and shown by one pointer. Later batches find it by its keys. Why members are together is kept with
-- them; what is only likely is a link for people to decide, and what they decided outlives every resolution.

-- What no batch has published is swept by name from now on; what has none goes at once.
delete from cluster c using batch b
    where b.organization_id = c.organization_id and b.id = c.batch_id
      and c.resolution_id is distinct from b.resolution_id;

alter table cluster_member drop constraint cluster_member_organization_id_cluster_id_fkey;
alter table cluster_member drop constraint cluster_member_pkey;
alter table cluster drop constraint cluster_pkey;
-- Nothing ever read it; with it goes its unique index.
alter table cluster drop column ordinal;
alter table cluster add primary key (resolution_id, id, organization_id);
create index cluster_views on cluster (id);
comment on table cluster is
    'One real-world thing, as the resolution of a batch sees it: the same id in every batch that speaks of it. '
    'Visible while its resolution is the batch''s published one.';

alter table cluster_member
    add column resolution_id uuid,
    add column with_entity_id uuid,
    add column score real check (score between 0 and 1),
    add column reason text;
update cluster_member m set resolution_id = c.resolution_id
    from cluster c where c.organization_id = m.organization_id and c.id = m.cluster_id;
alter table cluster_member
    alter column resolution_id set not null,
    add primary key (resolution_id, cluster_id, entity_id, organization_id),
    add unique (entity_id, resolution_id, organization_id),
    add foreign key (organization_id, resolution_id, cluster_id)
        references cluster (organization_id, resolution_id, id) on delete cascade,
    add constraint member_joins_with_a_reason
        check ((with_entity_id is null) = (score is null) and (with_entity_id is null) = (reason is null));
comment on column cluster_member.with_entity_id is
    'The member that this one was merged with, of this batch or of another one; null for the first of its cluster.';
comment on column cluster_member.score is 'How sure that merge was, 0 to 1.';
comment on column cluster_member.reason is 'Why they are one thing (graph::Reason).';

create table cluster_key (
    key bigint not null,
    organization_id uuid not null,
    resolution_id uuid not null,
    cluster_id uuid not null,
    entity_id uuid not null,
    -- In this order the first few clusters of a key are read, and not all of them.
    primary key (key, cluster_id, resolution_id, organization_id),
    foreign key (organization_id, resolution_id, cluster_id)
        references cluster (organization_id, resolution_id, id) on delete cascade
);
create index cluster_key_of on cluster_key (resolution_id, cluster_id);
comment on table cluster_key is 'What later batches find a cluster by: keys of its names and values.';
comment on column cluster_key.key is 'Hash of a key (graph::block_keys). Two keys with one hash cost a comparison, no more.';
comment on column cluster_key.entity_id is 'A member that has the key.';

create table resolution (
    id uuid not null,
    organization_id uuid not null,
    batch_id uuid not null,
    workflow_execution_id uuid not null,
    digest bytea not null,
    written integer not null default 0 check (written >= 0),
    created_at timestamptz not null default now(),
    primary key (id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade
);
create index resolution_of on resolution (batch_id);
insert into resolution (id, organization_id, batch_id, workflow_execution_id, digest)
    select distinct on (b.id) b.resolution_id, b.organization_id, b.id, e.id, ''
    from batch b
    join workflow_execution e on e.organization_id = b.organization_id and e.batch_id = b.id
                             and e.workflow_type = 'resolution'
    where b.resolution_id is not null
    order by b.id, e.generation desc;
comment on table resolution is
    'Every resolution that has rows: the published ones, the one being written, and what a crash left to be swept.';
comment on column resolution.digest is 'SHA-256 of all that it writes: only the same result goes on where it stopped.';
comment on column resolution.written is 'Steps that are committed.';

create table resolution_turn (
    organization_id uuid primary key references organization,
    workflow_execution_id uuid,
    version bigint not null default 0
);
comment on table resolution_turn is 'Whose resolution is at work in the organization: one at a time.';
comment on column resolution_turn.workflow_execution_id is
    'It has the turn for as long as it holds its lease; nobody has to give it back.';
comment on column resolution_turn.version is
    'Rises with everything that changes clusters: a resolution that began before is not published.';

alter table same_as drop constraint same_as_pkey;
alter table same_as
    drop column left_cluster_id,
    drop column right_cluster_id,
    alter column resolution_id drop not null,
    add column left_entity_id uuid not null,
    add column right_entity_id uuid not null,
    add constraint link_is_between_two check (left_entity_id <> right_entity_id),
    add constraint link_is_proposed_or_decided check ((decision is null) = (resolution_id is not null));
create unique index same_as_proposed on same_as (id, resolution_id, organization_id) where decision is null;
create unique index same_as_decided on same_as (id, organization_id) where decision is not null;
create index same_as_of_resolution on same_as (resolution_id) where decision is null;
comment on table same_as is
    'Links between members of clusters that may be one thing: proposed by a resolution with a score and a reason, '
    'decided by people. The same pair has the same id whenever it is proposed.';
comment on column same_as.resolution_id is
    'Which resolution proposes it; visible while that is the published one. Null once decided: a decision stays.';
comment on column same_as.batch_id is 'The batch in whose resolution it was proposed, or a cluster was split.';

create table same_as_member (
    same_as_id uuid not null,
    organization_id uuid not null,
    side text not null check (side in ('left', 'right')),
    entity_id uuid not null,
    batch_id uuid not null,
    document_id uuid not null,
    name text not null,
    type text not null,
    primary key (same_as_id, entity_id, organization_id),
    foreign key (organization_id, batch_id) references batch (organization_id, id) on delete cascade
);
create index same_as_member_of on same_as_member (batch_id, same_as_id);
create index same_as_member_entity on same_as_member (entity_id);
comment on table same_as_member is
    'Whom a decision is about. Those on the left are one thing; accepted, the first on the right is the same one; '
    'rejected, none on the right is.';
comment on column same_as_member.document_id is
    'With name and type: how the entity is found again after its document was extracted anew.';

grant select, insert, update, delete on cluster_key, resolution, resolution_turn, same_as_member to graphmill_app;
do $$
declare
    owned text;
begin
    foreach owned in array array['cluster_key', 'resolution', 'resolution_turn', 'same_as_member'] loop
        execute format('alter table %I enable row level security', owned);
        execute format(
            'create policy own_organization on %I to graphmill_app
                 using (organization_id = current_organization())
                 with check (organization_id = current_organization())', owned);
    end loop;
end
$$;
