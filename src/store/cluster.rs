//! The tables `cluster`, `cluster_member` and `cluster_key`: what a batch's resolution says, and what other batches have
//! published. A resolution writes under an id of its own in bounded steps, invisible until its settle makes that id the
//! batch's published one.

use graphmill_jobs::{BatchId, ClusterId, DocumentId, EntityId, OrganizationId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, findings::Place};

/// Names of an entity besides its own that are read at most. **Source:** a document that has more of them repeats
/// itself.
const ALIASES: i64 = 8;
/// Clusters that one key leads to at most. **Source:** names that more things share tell none of them apart.
const SHARING: i32 = 16;

/// An entity to be resolved.
#[derive(Debug, Clone)]
pub struct Resolvable {
    /// Its id.
    pub id: EntityId,
    /// Its batch.
    pub batch: BatchId,
    /// Its document.
    pub document: DocumentId,
    /// The caller's id of its document.
    pub external: String,
    /// Its place among the entities of its document.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// How else its document calls it.
    pub aliases: Vec<String>,
    /// The normal form of its value, if it is one.
    pub value: Option<String>,
    /// Its class.
    pub class: String,
}

/// A page of the entities to resolve, after `after`, and where it ends. Documents are looked up one by one (`offset 0`):
/// beside a large batch Postgres would rather read all documents that the organization has, 250 ms of 100,000.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resolvable_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<Place>,
    most: i64,
) -> Result<(Vec<Resolvable>, Option<Place>), StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        r#"select n.workflow_execution_id, n.ordinal, n.id, d.id as document, d.external_id, n.name, n.value,
                  n.type as class,
                  case when n.value is null and cardinality(n.mentions) > 1 then array(
                      select distinct m.text from mention m
                      where m.organization_id = n.organization_id
                        and m.workflow_execution_id = n.workflow_execution_id
                        and m.ordinal = any(n.mentions) and m.text <> n.name
                      order by m.text limit $6) else '{}' end as "aliases!"
           from workflow_execution e
           cross join lateral (
               select d.id, d.external_id from document d
               where d.organization_id = e.organization_id and d.id = e.document_id offset 0
           ) as d
           join entity n on n.organization_id = e.organization_id and n.workflow_execution_id = e.id
           where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
             and (n.workflow_execution_id, n.ordinal) > ($3, $4)
           order by n.workflow_execution_id, n.ordinal limit $5"#,
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
        ALIASES,
    )
    .fetch_all(connection)
    .await?;
    let last = rows
        .last()
        .map(|row| Place::new(row.workflow_execution_id, row.ordinal));
    let entities = rows
        .into_iter()
        .map(|row| Resolvable {
            id: row.id.into(),
            batch,
            document: row.document.into(),
            external: row.external_id,
            ordinal: row.ordinal,
            name: row.name,
            aliases: row.aliases,
            value: row.value,
            class: row.class,
        })
        .collect();
    Ok((entities, last))
}

/// These entities, whatever their batch; those that are gone are left out. Documents as in [`resolvable_page`].
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resolvable_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    ids: &[EntityId],
) -> Result<Vec<Resolvable>, StoreError> {
    let rows = query!(
        r#"select n.ordinal, n.id, d.batch_id, d.id as document, d.external_id, n.name, n.value, n.type as class,
                  case when n.value is null and cardinality(n.mentions) > 1 then array(
                      select distinct m.text from mention m
                      where m.organization_id = n.organization_id
                        and m.workflow_execution_id = n.workflow_execution_id
                        and m.ordinal = any(n.mentions) and m.text <> n.name
                      order by m.text limit $3) else '{}' end as "aliases!"
           from entity n
           join workflow_execution e on e.organization_id = n.organization_id and e.id = n.workflow_execution_id
           cross join lateral (
               select d.id, d.batch_id, d.external_id from document d
               where d.organization_id = e.organization_id and d.id = e.document_id offset 0
           ) as d
           where n.organization_id = $1 and n.id = any($2)
           order by n.id"#,
        organization.uuid(),
        &uuids(ids),
        ALIASES,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Resolvable {
            id: row.id.into(),
            batch: row.batch_id.into(),
            document: row.document.into(),
            external: row.external_id,
            ordinal: row.ordinal,
            name: row.name,
            aliases: row.aliases,
            value: row.value,
            class: row.class,
        })
        .collect())
}

/// A cluster to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
}

/// Why a member is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The member that it was merged with.
    pub with: EntityId,
    /// How sure, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: String,
}

/// A member to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMember {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Who.
    pub entity: EntityId,
    /// Why; `None` for the first.
    pub joined: Option<Joined>,
}

/// A key to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewKey {
    /// Its hash.
    pub key: i64,
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which member has it.
    pub entity: EntityId,
}

/// Writes clusters of a resolution.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_clusters(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    resolution: Uuid,
    clusters: &[NewCluster],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = clusters.iter().map(|cluster| cluster.id.uuid()).collect();
    let names: Vec<String> = clusters
        .iter()
        .map(|cluster| cluster.name.clone())
        .collect();
    let types: Vec<String> = clusters
        .iter()
        .map(|cluster| cluster.class.clone())
        .collect();
    query!(
        "insert into cluster (organization_id, batch_id, resolution_id, id, name, type)
         select $1, $2, $3, c.id, c.name, c.type
         from unnest($4::uuid[], $5::text[], $6::text[]) as c (id, name, type)",
        organization.uuid(),
        batch.uuid(),
        resolution,
        &ids,
        &names,
        &types,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes members of clusters that are written.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_members(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resolution: Uuid,
    members: &[NewMember],
) -> Result<(), StoreError> {
    let of: Vec<Uuid> = members.iter().map(|member| member.cluster.uuid()).collect();
    let entities: Vec<Uuid> = members.iter().map(|member| member.entity.uuid()).collect();
    let joined = || members.iter().map(|member| member.joined.as_ref());
    let with: Vec<Option<Uuid>> = joined()
        .map(|joined| joined.map(|joined| joined.with.uuid()))
        .collect();
    let scores: Vec<Option<f32>> = joined()
        .map(|joined| joined.map(|joined| joined.score))
        .collect();
    let reasons: Vec<Option<String>> = joined()
        .map(|joined| joined.map(|joined| joined.reason.clone()))
        .collect();
    query!(
        "insert into cluster_member (organization_id, resolution_id, cluster_id, entity_id, with_entity_id, score,
                                     reason)
         select $1, $2, m.cluster_id, m.entity_id, m.with_entity_id, m.score, m.reason
         from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::real[], $7::text[])
             as m (cluster_id, entity_id, with_entity_id, score, reason)",
        organization.uuid(),
        resolution,
        &of,
        &entities,
        &with as &[Option<Uuid>],
        &scores as &[Option<f32>],
        &reasons as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes keys of clusters that are written.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_keys(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    resolution: Uuid,
    keys: &[NewKey],
) -> Result<(), StoreError> {
    let hashes: Vec<i64> = keys.iter().map(|key| key.key).collect();
    let of: Vec<Uuid> = keys.iter().map(|key| key.cluster.uuid()).collect();
    let entities: Vec<Uuid> = keys.iter().map(|key| key.entity.uuid()).collect();
    query!(
        "insert into cluster_key (organization_id, batch_id, resolution_id, key, cluster_id, entity_id)
         select $1, $2, $3, k.key, k.cluster_id, k.entity_id
         from unnest($4::bigint[], $5::uuid[], $6::uuid[]) as k (key, cluster_id, entity_id)",
        organization.uuid(),
        batch.uuid(),
        resolution,
        &hashes,
        &of,
        &entities,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The published clusters of other batches that have one of these keys, each with a member that has it: the first few
/// of every key.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clusters_by_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    other_than: BatchId,
    keys: &[i64],
) -> Result<Vec<(ClusterId, EntityId)>, StoreError> {
    // From cluster to cluster of each key, however many batches speak of one. Row by row, each by its key: for joins
    // the planner reads whole tables, once for every key asked.
    let rows = query!(
        r#"with recursive step as (
               select asked.key, f.cluster_id, f.entity_id, 1 as nth
               from unnest($3::bigint[]) as asked (key)
               cross join lateral (
                   select k.cluster_id, k.entity_id
                   from cluster_key k
                   cross join lateral (
                       select from batch b
                       where b.organization_id = k.organization_id and b.id = k.batch_id
                         and b.resolution_id = k.resolution_id
                       offset 0
                   ) as b
                   -- A document that is extracted anew takes its entities along before its batch is resolved anew.
                   cross join lateral (
                       select from entity n where n.organization_id = k.organization_id and n.id = k.entity_id
                       offset 0
                   ) as n
                   where k.organization_id = $1 and k.key = asked.key and k.batch_id <> $2
                   order by k.cluster_id
                   limit 1
               ) as f
               union all
               select step.key, f.cluster_id, f.entity_id, step.nth + 1
               from step
               cross join lateral (
                   select k.cluster_id, k.entity_id
                   from cluster_key k
                   cross join lateral (
                       select from batch b
                       where b.organization_id = k.organization_id and b.id = k.batch_id
                         and b.resolution_id = k.resolution_id
                       offset 0
                   ) as b
                   cross join lateral (
                       select from entity n where n.organization_id = k.organization_id and n.id = k.entity_id
                       offset 0
                   ) as n
                   where k.organization_id = $1 and k.key = step.key and k.cluster_id > step.cluster_id
                     and k.batch_id <> $2
                   order by k.cluster_id
                   limit 1
               ) as f
               where step.nth < $4
           )
           select distinct cluster_id as "cluster!", entity_id as "entity!" from step order by 1, 2"#,
        organization.uuid(),
        other_than.uuid(),
        keys,
        SHARING,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.cluster.into(), row.entity.into()))
        .collect())
}

/// Which of these clusters other batches have published, with their names and classes.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clusters_elsewhere(
    connection: &mut PgConnection,
    organization: OrganizationId,
    other_than: BatchId,
    ids: &[ClusterId],
) -> Result<Vec<NewCluster>, StoreError> {
    // By their ids, whatever the planner holds of joins; they have one name in all batches.
    let rows = query!(
        "select c.id, c.name, c.class
         from unnest($3::uuid[]) as asked (id)
         cross join lateral (
             select c.id, c.name, c.type as class
             from cluster c
             cross join lateral (
                 select from batch b
                 where b.organization_id = c.organization_id and b.id = c.batch_id
                   and b.resolution_id = c.resolution_id
                 offset 0
             ) as b
             where c.organization_id = $1 and c.id = asked.id and c.batch_id <> $2
             limit 1
         ) as c
         order by c.id",
        organization.uuid(),
        other_than.uuid(),
        &uuids(ids),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| NewCluster {
            id: row.id.into(),
            name: row.name,
            class: row.class,
        })
        .collect())
}

/// A member of a published cluster, with all that its cluster's row says.
#[derive(Debug, Clone)]
pub struct Published {
    /// The batch that publishes it.
    pub batch: BatchId,
    /// The batch's published resolution.
    pub resolution: Uuid,
    /// The cluster.
    pub cluster: NewCluster,
    /// The member.
    pub entity: EntityId,
    /// Why it is one.
    pub joined: Option<Joined>,
}

macro_rules! published {
    ($row:expr) => {
        Published {
            batch: $row.batch_id.into(),
            resolution: $row.resolution_id,
            cluster: NewCluster {
                id: $row.id.into(),
                name: $row.name,
                class: $row.class,
            },
            entity: $row.entity_id.into(),
            joined: match ($row.with_entity_id, $row.score, $row.reason) {
                (Some(with), Some(score), Some(reason)) => Some(Joined {
                    with: with.into(),
                    score,
                    reason,
                }),
                _ => None,
            },
        }
    };
}

/// A page of a batch's published members, by cluster and entity, after `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn published_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<(ClusterId, EntityId)>,
    most: i64,
) -> Result<Vec<Published>, StoreError> {
    let (cluster, entity) = after.map_or((Uuid::nil(), Uuid::nil()), |(cluster, entity)| {
        (cluster.uuid(), entity.uuid())
    });
    // First the page, from one table in its key's order, then what belongs to it: a join may be planned while the
    // tables are empty, and then reads and sorts, for every page, all that is left.
    let rows = query!(
        "select c.batch_id, m.resolution_id, m.cluster_id as id, c.name, c.type as class, m.entity_id,
                m.with_entity_id, m.score, m.reason
         from (
             select m.organization_id, m.resolution_id, m.cluster_id, m.entity_id, m.with_entity_id, m.score, m.reason
             from cluster_member m
             where m.organization_id = $1
               and m.resolution_id = (select b.resolution_id from batch b where b.organization_id = $1 and b.id = $2)
               and (m.cluster_id, m.entity_id) > ($3, $4)
             order by m.cluster_id, m.entity_id limit $5
         ) as m
         cross join lateral (
             select c.batch_id, c.name, c.type from cluster c
             where c.organization_id = m.organization_id and c.resolution_id = m.resolution_id
               and c.id = m.cluster_id
             offset 0
         ) as c
         order by m.cluster_id, m.entity_id",
        organization.uuid(),
        batch.uuid(),
        cluster,
        entity,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| published!(row)).collect())
}

/// The published members of these clusters, in all batches; `most` of them at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn published_members(
    connection: &mut PgConnection,
    organization: OrganizationId,
    clusters: &[ClusterId],
    most: i64,
) -> Result<Vec<Published>, StoreError> {
    let rows = query!(
        "select c.batch_id, c.resolution_id, c.id, c.name, c.type as class, m.entity_id, m.with_entity_id, m.score,
                m.reason
         from unnest($2::uuid[]) as asked (id)
         cross join lateral (
             select c.organization_id, c.batch_id, c.resolution_id, c.id, c.name, c.type
             from cluster c
             cross join lateral (
                 select from batch b
                 where b.organization_id = c.organization_id and b.id = c.batch_id
                   and b.resolution_id = c.resolution_id
                 offset 0
             ) as b
             where c.organization_id = $1 and c.id = asked.id
             offset 0
         ) as c
         join cluster_member m on m.organization_id = c.organization_id and m.resolution_id = c.resolution_id
                              and m.cluster_id = c.id
         order by c.id, m.entity_id limit $3",
        organization.uuid(),
        &uuids(clusters),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| published!(row)).collect())
}

/// The published clusters that these entities are members of.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clusters_of_entities(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entities: &[EntityId],
) -> Result<Vec<(EntityId, ClusterId)>, StoreError> {
    let rows = query!(
        "select m.entity_id, m.cluster_id
         from unnest($2::uuid[]) as asked (id)
         cross join lateral (
             select m.entity_id, m.cluster_id
             from cluster_member m
             cross join lateral (
                 select c.batch_id from cluster c
                 where c.organization_id = m.organization_id and c.resolution_id = m.resolution_id
                   and c.id = m.cluster_id
                 offset 0
             ) as c
             cross join lateral (
                 select from batch b
                 where b.organization_id = m.organization_id and b.id = c.batch_id
                   and b.resolution_id = m.resolution_id
                 offset 0
             ) as b
             where m.organization_id = $1 and m.entity_id = asked.id
             offset 0
         ) as m
         order by m.entity_id",
        organization.uuid(),
        &uuids(entities),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.entity_id.into(), row.cluster_id.into()))
        .collect())
}

/// Removes clusters from published resolutions, so that they can be written anew in the same transaction.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn take_published(
    connection: &mut PgConnection,
    organization: OrganizationId,
    clusters: &[ClusterId],
) -> Result<(), StoreError> {
    query!(
        "delete from cluster where ctid = any(array(
             select c.at from unnest($2::uuid[]) as asked (id)
             cross join lateral (
                 select c.ctid as at
                 from cluster c
                 cross join lateral (
                     select from batch b
                     where b.organization_id = c.organization_id and b.id = c.batch_id
                       and b.resolution_id = c.resolution_id
                     offset 0
                 ) as b
                 where c.organization_id = $1 and c.id = asked.id
                 offset 0
             ) as c))",
        organization.uuid(),
        &uuids(clusters),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many clusters a batch has published.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn published_count(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<u64, StoreError> {
    let row = query!(
        r#"select count(*) as "count!" from batch b
           join cluster c on c.organization_id = b.organization_id and c.resolution_id = b.resolution_id
           where b.organization_id = $1 and b.id = $2"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(row.count.unsigned_abs())
}

/// A cluster, as it is exported.
#[derive(Debug, Clone)]
pub struct ClusterRow {
    /// Its id, which it has in every batch that speaks of it.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// The entities of this batch that it unites, in order.
    pub members: Vec<EntityId>,
}

/// A page of a batch's published clusters, by id, after `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn cluster_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<ClusterId>,
    most: i64,
) -> Result<Vec<ClusterRow>, StoreError> {
    let rows = query!(
        r#"select c.id, c.name, c.type as class, m.members as "members!"
           -- First the page, in its key's order; see `published_page`.
           from (
               select c.organization_id, c.resolution_id, c.id, c.name, c.type
               from cluster c
               where c.organization_id = $1 and c.id > $3
                 and c.resolution_id = (select b.resolution_id from batch b where b.organization_id = $1 and b.id = $2)
               order by c.id limit $4
           ) as c
           cross join lateral (
               select array_agg(entity_id order by entity_id) as members from cluster_member m
               where m.organization_id = c.organization_id and m.resolution_id = c.resolution_id
                 and m.cluster_id = c.id
           ) m
           order by c.id"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or(Uuid::nil(), ClusterId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ClusterRow {
            id: row.id.into(),
            name: row.name,
            class: row.class,
            members: row.members.into_iter().map(Into::into).collect(),
        })
        .collect())
}

pub(super) fn uuids<I: Copy + Into<Uuid>>(ids: &[I]) -> Vec<Uuid> {
    ids.iter().map(|&id| id.into()).collect()
}
