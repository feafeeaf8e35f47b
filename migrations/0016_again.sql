-- Why: a resolution must cost by its batch's size and not by its organization's, the second one as much as the first.

-- A batch skips its own keys without a look at their clusters.
alter table cluster_key add column batch_id uuid;
update cluster_key k set batch_id = c.batch_id
    from cluster c
    where c.organization_id = k.organization_id and c.resolution_id = k.resolution_id and c.id = k.cluster_id;
alter table cluster_key alter column batch_id set not null;
comment on column cluster_key.batch_id is 'Its cluster''s, repeated.';

-- Links are exported in pages.
drop index same_as_of_resolution;
create index same_as_of_resolution on same_as (resolution_id, id) where decision is null;

-- A batch that gives up while it is open is sealed by the sequencer, so that it ends.
grant select (filling), update (sealed_at) on batch to graphmill_engine;
