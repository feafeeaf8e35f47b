//! The table `organization_limit`: what an organization may ask for and have.
//!
//! Invariants: an organization without a limit has no row, and pays nothing for those of others. The count of stored
//! documents moves in the transaction that adds or withdraws them, as its last statement: its row is locked until the
//! commit, and whoever holds it waits for nobody.

use graphmill_jobs::OrganizationId;
use sqlx::{Connection, PgConnection, query, query_scalar};

use super::StoreError;
use crate::flow::RequestRate;

/// What an organization may ask for and have; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrganizationLimits {
    /// Requests of the HTTP API.
    pub rate: Option<RequestRate>,
    /// Batches that have not ended.
    pub open_batches: Option<u32>,
    /// Documents that are stored, over all batches.
    pub documents: Option<u64>,
}

/// Sets an organization's limits, and counts what it has anew; none at all is no row.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help, unless the role may not.
pub async fn set_organization_limits(
    connection: &mut PgConnection,
    organization: OrganizationId,
    limits: OrganizationLimits,
) -> Result<(), StoreError> {
    if limits == OrganizationLimits::default() {
        query!(
            "delete from organization_limit where organization_id = $1",
            organization.uuid(),
        )
        .execute(connection)
        .await?;
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    // Whoever began before there was a row does not count; so they are waited for, and counted here. Whoever comes
    // now waits for the commit, and sees the row.
    query!("lock table document in share row exclusive mode")
        .execute(&mut *transaction)
        .await?;
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    query!(
        "insert into organization_limit (organization_id, requests_per_second, burst, max_open_batches, max_documents,
                                         documents)
         select $1, $2, $3, $4, $5, count(*) from document
         where organization_id = $1 and refusal is null and withdrawn_at is null
         on conflict (organization_id) do update
         set requests_per_second = excluded.requests_per_second, burst = excluded.burst,
             max_open_batches = excluded.max_open_batches, max_documents = excluded.max_documents,
             documents = excluded.documents",
        organization.uuid(),
        limits.rate.map(|rate| whole(rate.per_second)),
        limits.rate.map(|rate| whole(rate.burst)),
        limits.open_batches.map(whole),
        limits
            .documents
            .map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Counts documents that were added or, below zero, withdrawn.
///
/// # Errors
/// [`StoreError::Quota`] if that is more than the organization may store; [`StoreError::Query`], and trying again may
/// help.
pub(super) async fn count_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    change: i64,
) -> Result<(), StoreError> {
    if change == 0 {
        return Ok(());
    }
    let row = query!(
        "update organization_limit set documents = greatest(documents + $2, 0)
         where organization_id = $1 returning documents, max_documents",
        organization.uuid(),
        change,
    )
    .fetch_optional(connection)
    .await?;
    match row {
        Some(row) if change > 0 => within("documents", row.documents, row.max_documents),
        Some(_) | None => Ok(()),
    }
}

/// Checks a batch that was just opened: whether there may be one more, and whether it may have a document.
///
/// # Errors
/// [`StoreError::Quota`] if not; [`StoreError::Query`], and trying again may help.
pub(super) async fn check_open_batches(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    // One at a time: who comes next counts after our commit.
    let row = query!(
        "select max_open_batches, max_documents, documents from organization_limit where organization_id = $1
         for update",
        organization.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(());
    };
    within(
        "documents",
        row.documents.saturating_add(1),
        row.max_documents,
    )?;
    let Some(most) = row.max_open_batches else {
        return Ok(());
    };
    let open = query_scalar!(
        r#"select count(*) as "count!" from batch
           where organization_id = $1 and state not in ('Completed', 'Failed', 'Cancelled')"#,
        organization.uuid(),
    )
    .fetch_one(connection)
    .await?;
    within("open batches", open, Some(most.into()))
}

fn within(quota: &'static str, wanted: i64, most: Option<i64>) -> Result<(), StoreError> {
    match most {
        Some(limit) if wanted > limit => Err(StoreError::Quota { quota, limit }),
        Some(_) | None => Ok(()),
    }
}
