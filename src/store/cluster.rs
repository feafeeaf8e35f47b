//! The tables `cluster` and `cluster_member`. A resolution writes under an id of its own in bounded steps, invisible
//! until its settle makes that id the batch's published one.

use graphmill_jobs::{BatchId, ClusterId, EntityId, OrganizationId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, findings::Place};
use crate::graph::{ClassId, Cluster, ResolvableEntity};

/// A page of the entities to resolve, after `after`, and where it ends. Documents are numbered on from `document`, that of
/// the entity at `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resolvable_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<Place>,
    mut document: u32,
    most: i64,
) -> Result<(Vec<ResolvableEntity<EntityId>>, Option<Place>), StoreError> {
    let (execution, ordinal) = Place::key(after);
    let rows = query!(
        "select n.workflow_execution_id, n.ordinal, n.id, n.name, n.value, n.type as class
         from workflow_execution e
         join entity n on n.organization_id = e.organization_id and n.workflow_execution_id = e.id
         where e.organization_id = $1 and e.batch_id = $2 and e.status = 'completed' and e.id >= $3
           and (n.workflow_execution_id, n.ordinal) > ($3, $4)
         order by n.workflow_execution_id, n.ordinal limit $5",
        organization.uuid(),
        batch.uuid(),
        execution,
        ordinal,
        most,
    )
    .fetch_all(connection)
    .await?;
    let last = rows.last().map(|row| Place {
        execution: row.workflow_execution_id.into(),
        ordinal: row.ordinal,
    });
    let mut of = execution;
    let entities = rows
        .into_iter()
        .map(|row| {
            if row.workflow_execution_id != of {
                of = row.workflow_execution_id;
                document = document.saturating_add(1);
            }
            ResolvableEntity {
                id: row.id.into(),
                document,
                name: row.name,
                aliases: Vec::new(),
                value: row.value,
                class: Some(ClassId::new(row.class)),
                label: None,
                context: None,
            }
        })
        .collect();
    Ok((entities, last))
}

/// Writes clusters of a resolution, the first of which has the number `first`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_clusters(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    resolution: Uuid,
    first: usize,
    clusters: &[Cluster<EntityId>],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = clusters
        .iter()
        .map(|_| ClusterId::generate().uuid())
        .collect();
    let names: Vec<String> = clusters
        .iter()
        .map(|cluster| cluster.name.clone())
        .collect();
    let types: Vec<String> = clusters
        .iter()
        .map(|cluster| {
            let class = cluster.class.as_ref().map_or("", ClassId::as_str);
            class.to_owned()
        })
        .collect();
    query!(
        "insert into cluster (organization_id, batch_id, resolution_id, ordinal, id, name, type)
         select $1, $2, $3, $4 + c.number - 1, c.id, c.name, c.type
         from unnest($5::uuid[], $6::text[], $7::text[]) with ordinality as c (id, name, type, number)",
        organization.uuid(),
        batch.uuid(),
        resolution,
        i64::try_from(first).unwrap_or(i64::MAX),
        &ids,
        &names,
        &types,
    )
    .execute(&mut *connection)
    .await?;
    let (mut of, mut members): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for (cluster, &id) in clusters.iter().zip(&ids) {
        for member in &cluster.members {
            of.push(id);
            members.push(member.uuid());
        }
    }
    query!(
        "insert into cluster_member (organization_id, cluster_id, entity_id)
         select $1, m.cluster_id, m.entity_id
         from unnest($2::uuid[], $3::uuid[]) as m (cluster_id, entity_id)",
        organization.uuid(),
        &of,
        &members,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes a resolution the batch's published one. It belongs into the transaction of the resolution's settle.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn publish_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    resolution: Uuid,
) -> Result<(), StoreError> {
    query!(
        "update batch set resolution_id = $3 where organization_id = $1 and id = $2",
        organization.uuid(),
        batch.uuid(),
        resolution,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes up to `most` clusters of the batch that no published resolution has: what a crash or a rerun left behind.
/// Returns how many.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn drop_unpublished_clusters(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<u64, StoreError> {
    let dropped = query!(
        "delete from cluster where (organization_id, id) in (
             select c.organization_id, c.id from cluster c
             join batch b on b.organization_id = c.organization_id and b.id = c.batch_id
             where c.organization_id = $1 and c.batch_id = $2
               and c.resolution_id is distinct from b.resolution_id
             limit $3)",
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .execute(connection)
    .await?;
    Ok(dropped.rows_affected())
}

/// A cluster, as it is exported.
#[derive(Debug, Clone)]
pub struct ClusterRow {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// The entities that it unites, in order.
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
           from batch b
           join cluster c on c.organization_id = b.organization_id and c.batch_id = b.id
                         and c.resolution_id = b.resolution_id
           cross join lateral (
               select array_agg(entity_id order by entity_id) as members from cluster_member m
               where m.organization_id = c.organization_id and m.cluster_id = c.id
           ) m
           where b.organization_id = $1 and b.id = $2 and c.id > $3
           order by c.id limit $4"#,
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
