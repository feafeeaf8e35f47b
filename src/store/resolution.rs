//! The tables `resolution` and `resolution_turn`: who may resolve in an organization, how far it has written, and what
//! is left to be swept.
//!
//! Invariant: of an organization's resolutions at most one writes at a time, and it is published only if nothing has
//! changed the clusters since it began.

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Fence, StoreError};

/// Takes the organization's turn for an execution that holds its lease; `None` while another one has it. Else the
/// version that the clusters are at.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn take_turn(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Option<i64>, StoreError> {
    ensure_turn(connection, organization).await?;
    Ok(query_scalar!(
        "update resolution_turn t set workflow_execution_id = $2
         where t.organization_id = $1
           and (t.workflow_execution_id is null or t.workflow_execution_id = $2
                or not exists (select from workflow_execution e
                               where e.organization_id = t.organization_id and e.id = t.workflow_execution_id
                                 and e.status = 'processing' and e.lease_until > now()))
         returning t.version",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_optional(connection)
    .await?)
}

/// Locks the clusters of the organization against being published, to change them in this transaction: a resolution
/// that is at work meanwhile begins anew.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn change_clusters(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    ensure_turn(connection, organization).await?;
    query!(
        "update resolution_turn set version = version + 1 where organization_id = $1",
        organization.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A number that rises with everything that changes the organization's clusters.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clusters_version(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<i64, StoreError> {
    let version = query_scalar!(
        "select version from resolution_turn where organization_id = $1",
        organization.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(version.unwrap_or(0))
}

async fn ensure_turn(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    query!(
        "insert into resolution_turn (organization_id)
         select $1 where not exists (select from resolution_turn where organization_id = $1)
         on conflict do nothing",
        organization.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A resolution that is to be published: it has been written, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publishable {
    /// Its id.
    pub resolution: Uuid,
    /// What the clusters were at when it began.
    pub version: i64,
}

/// Makes a resolution the batch's published one. It belongs into the transaction of the resolution's settle.
///
/// # Errors
/// [`StoreError::Overtaken`] if the clusters have changed since it began: it has to begin anew. [`StoreError::Query`];
/// trying again may help.
pub async fn publish_resolution(
    connection: &mut PgConnection,
    fence: Fence,
    batch: BatchId,
    publishable: Publishable,
) -> Result<(), StoreError> {
    let published = query!(
        "with turn as (
             update resolution_turn set version = version + 1
             where organization_id = $1 and workflow_execution_id = $3 and version = $5
             returning organization_id
         )
         update batch b set resolution_id = $4 from turn t
         where b.organization_id = t.organization_id and b.id = $2",
        fence.organization.uuid(),
        batch.uuid(),
        fence.execution.uuid(),
        publishable.resolution,
        publishable.version,
    )
    .execute(connection)
    .await?;
    if published.rows_affected() == 0 {
        return Err(StoreError::Overtaken);
    }
    Ok(())
}

/// Goes on with what this execution has begun to write if it is the same result, or else begins: the resolution's id,
/// and how many steps of it are written.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn begin_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    execution: WorkflowExecutionId,
    digest: &[u8; 32],
) -> Result<(Uuid, usize), StoreError> {
    let begun = query!(
        "select r.id, r.written from resolution r
         join batch b on b.organization_id = r.organization_id and b.id = r.batch_id
         where r.organization_id = $1 and r.batch_id = $2 and r.workflow_execution_id = $3 and r.digest = $4
           and r.id is distinct from b.resolution_id
         order by r.id desc limit 1",
        organization.uuid(),
        batch.uuid(),
        execution.uuid(),
        &digest[..],
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(begun) = begun {
        return Ok((begun.id, usize::try_from(begun.written).unwrap_or(0)));
    }
    let id = Uuid::now_v7();
    query!(
        "insert into resolution (id, organization_id, batch_id, workflow_execution_id, digest)
         values ($1, $2, $3, $4, $5)",
        id,
        organization.uuid(),
        batch.uuid(),
        execution.uuid(),
        &digest[..],
    )
    .execute(connection)
    .await?;
    Ok((id, 0))
}

/// Says how many steps of a resolution are written, in the transaction of the last of them.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resolution_written(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resolution: Uuid,
    steps: usize,
) -> Result<(), StoreError> {
    let steps = i32::try_from(steps).unwrap_or(i32::MAX);
    query!(
        "update resolution set written = $3 where organization_id = $1 and id = $2",
        organization.uuid(),
        resolution,
        steps,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The organization's resolutions that no batch has published, but for `current`: what crashes, repeats and decisions
/// have left behind. Whoever has the turn may sweep them.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn abandoned_resolutions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    current: Uuid,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "select r.id from resolution r
         join batch b on b.organization_id = r.organization_id and b.id = r.batch_id
         where r.organization_id = $1 and r.id <> $2 and r.id is distinct from b.resolution_id
         order by r.id",
        organization.uuid(),
        current,
    )
    .fetch_all(connection)
    .await?)
}

/// Removes up to `most` rows of a kind of an abandoned resolution, and itself with the last; `false` once it is gone.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn sweep_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resolution: Uuid,
    most: i64,
) -> Result<bool, StoreError> {
    let links = query!(
        "delete from same_as where ctid = any(array(
             select ctid from same_as
             where organization_id = $1 and resolution_id = $2 and decision is null limit $3))",
        organization.uuid(),
        resolution,
        most,
    )
    .execute(&mut *connection)
    .await?;
    if links.rows_affected() > 0 {
        return Ok(true);
    }
    let members = query!(
        "delete from cluster_member where ctid = any(array(
             select ctid from cluster_member where organization_id = $1 and resolution_id = $2 limit $3))",
        organization.uuid(),
        resolution,
        most,
    )
    .execute(&mut *connection)
    .await?;
    if members.rows_affected() > 0 {
        return Ok(true);
    }
    // Their keys go with them; each has a few.
    let clusters = query!(
        "delete from cluster where (resolution_id, id) in (
             select resolution_id, id from cluster where organization_id = $1 and resolution_id = $2 limit $3)",
        organization.uuid(),
        resolution,
        most,
    )
    .execute(&mut *connection)
    .await?;
    if clusters.rows_affected() > 0 {
        return Ok(true);
    }
    query!(
        "delete from resolution where organization_id = $1 and id = $2",
        organization.uuid(),
        resolution,
    )
    .execute(connection)
    .await?;
    Ok(false)
}
