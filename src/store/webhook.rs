//! The table `webhook_delivery`: that a generation of a batch has ended, to be told to its owner.
//!
//! The row is written with the batch's last move, so that none is missing and none is there twice. Whoever leases it
//! may be killed at any instant: the lease runs out and another replica sends again, under the same id.

use std::time::Duration;

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WebhookDeliveryId, WorkerId};
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, from_json, parsed, seconds, to_json};
use crate::flow::{BatchCounts, BatchState, DeliveryStatus};

/// Sets where to say that the batch has ended; `false` if it has ended.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn set_notify(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    address: &str,
) -> Result<bool, StoreError> {
    let set = query!(
        "update batch set notify_url = $3, updated_at = now()
         where organization_id = $1 and id = $2 and ended_at is null",
        organization.uuid(),
        batch.uuid(),
        address,
    )
    .execute(connection)
    .await?;
    Ok(set.rows_affected() == 1)
}

/// Writes down that the end of a batch's generation is to be told, if anybody wants to know. In the transaction of the
/// move, as the sequencer; a second call changes nothing.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn owe_webhook(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    state: &BatchState,
    counts: &BatchCounts,
) -> Result<(), StoreError> {
    query!(
        "insert into webhook_delivery (batch_id, generation, organization_id, id, state_data, counts)
         select id, $3, organization_id, $4, $5, $6 from batch
         where organization_id = $1 and id = $2 and notifies
         on conflict (batch_id, generation, organization_id) do nothing",
        organization.uuid(),
        batch.uuid(),
        generation,
        WebhookDeliveryId::generate().uuid(),
        to_json("a batch state", state)?,
        to_json("counts", counts)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A delivery that this process may attempt.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLease {
    /// Whose.
    pub organization: OrganizationId,
    /// Of which batch.
    pub batch: BatchId,
    /// Of which try of it.
    pub generation: i32,
    /// The same at every attempt.
    pub id: WebhookDeliveryId,
    /// What a later attempt will have more of.
    pub epoch: i64,
    /// Which attempt this is, from 1.
    pub attempt: i32,
}

/// Leases up to `most` deliveries that are due, but for those that somebody else is leasing.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn lease_webhooks(
    connection: &mut PgConnection,
    owner: WorkerId,
    lasts: Duration,
    most: i64,
) -> Result<Vec<WebhookLease>, StoreError> {
    let rows = query!(
        "with due as (
             select batch_id, generation, organization_id from webhook_delivery
             where status = 'waiting' and next_due <= now() and (lease_until is null or lease_until <= now())
             order by next_due limit $3
             for update skip locked
         )
         update webhook_delivery d
         set lease_owner = $1, lease_epoch = d.lease_epoch + 1, attempts = d.attempts + 1,
             lease_until = now() + make_interval(secs => $2)
         from due
         where d.batch_id = due.batch_id and d.generation = due.generation
           and d.organization_id = due.organization_id
         returning d.organization_id, d.batch_id, d.generation, d.id, d.lease_epoch, d.attempts",
        owner.uuid(),
        seconds(lasts),
        most,
    )
    .fetch_all(connection)
    .await?;
    let leases = rows.into_iter().map(|row| WebhookLease {
        organization: row.organization_id.into(),
        batch: row.batch_id.into(),
        generation: row.generation,
        id: row.id.into(),
        epoch: row.lease_epoch,
        attempt: row.attempts,
    });
    Ok(leases.collect())
}

/// Keeps a lease for longer; `false` if it is lost.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn renew_webhook(
    connection: &mut PgConnection,
    lease: &WebhookLease,
    lasts: Duration,
) -> Result<bool, StoreError> {
    let renewed = query!(
        "update webhook_delivery set lease_until = now() + make_interval(secs => $4)
         where batch_id = $1 and generation = $2 and lease_epoch = $3 and lease_owner is not null",
        lease.batch.uuid(),
        lease.generation,
        lease.epoch,
        seconds(lasts),
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// What is needed to attempt a delivery.
#[derive(Debug, Clone)]
pub struct WebhookToSend {
    /// Where to.
    pub address: String,
    /// What is sent, if an attempt was made before.
    pub body: Option<String>,
    /// The batch's name.
    pub name: String,
    /// How it ended.
    pub state: BatchState,
    /// What its events added up to.
    pub counts: BatchCounts,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Reads what is needed to attempt a delivery; `None` if the lease is lost, or nobody wants to know any more.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn webhook_to_send(
    connection: &mut PgConnection,
    lease: &WebhookLease,
) -> Result<Option<WebhookToSend>, StoreError> {
    let row = query!(
        r#"select b.notify_url as "notify_url!", b.name, b.created_at, d.body, d.state_data, d.counts,
                  d.created_at as ended_at, extract(epoch from now())::bigint as "now!"
           from webhook_delivery d
           join batch b on b.organization_id = d.organization_id and b.id = d.batch_id
           where d.organization_id = $1 and d.batch_id = $2 and d.generation = $3 and d.lease_epoch = $4
             and d.lease_owner is not null and b.notify_url is not null"#,
        lease.organization.uuid(),
        lease.batch.uuid(),
        lease.generation,
        lease.epoch,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(WebhookToSend {
            address: row.notify_url,
            body: row.body,
            name: row.name,
            state: from_json("a batch state", row.state_data)?,
            counts: from_json("counts", row.counts)?,
            created_at: row.created_at,
            ended_at: row.ended_at,
            now: row.now,
        })
    })
    .transpose()
}

/// Fixes what is sent; `false` if the lease is lost.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn fix_webhook_body(
    connection: &mut PgConnection,
    lease: &WebhookLease,
    body: &str,
) -> Result<bool, StoreError> {
    let fixed = query!(
        "update webhook_delivery set body = $5
         where organization_id = $1 and batch_id = $2 and generation = $3 and lease_epoch = $4
           and lease_owner is not null and body is null",
        lease.organization.uuid(),
        lease.batch.uuid(),
        lease.generation,
        lease.epoch,
        body,
    )
    .execute(connection)
    .await?;
    Ok(fixed.rows_affected() == 1)
}

/// Writes what came of an attempt, and gives the lease back; `false` if it was lost before.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn settle_webhook(
    connection: &mut PgConnection,
    lease: &WebhookLease,
    status: DeliveryStatus,
    wait: Duration,
    error: Option<&str>,
) -> Result<bool, StoreError> {
    let settled = query!(
        "update webhook_delivery
         set status = $4, next_due = now() + make_interval(secs => $5), last_error = $6,
             lease_owner = null, lease_until = null, settled_at = case when $4 <> 'waiting' then now() end
         where batch_id = $1 and generation = $2 and lease_epoch = $3 and lease_owner is not null",
        lease.batch.uuid(),
        lease.generation,
        lease.epoch,
        status.as_str(),
        seconds(wait),
        error,
    )
    .execute(connection)
    .await?;
    Ok(settled.rows_affected() == 1)
}

/// Whether a delivery has been due for a minute and nobody attempts it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn webhooks_lie_idle(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let idle = query_scalar!(
        r#"select exists (select from webhook_delivery
                          where status = 'waiting' and next_due < now() - interval '1 minute'
                            and (lease_until is null or lease_until <= now())) as "idle!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(idle)
}

/// A batch's webhook: where it goes, and how its last delivery stands.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Where to.
    pub address: String,
    /// The delivery of the newest generation that has ended, if one has.
    pub delivery: Option<WebhookDelivery>,
}

/// How a delivery stands.
#[derive(Debug, Clone)]
pub struct WebhookDelivery {
    /// What receivers know a repeat by.
    pub id: WebhookDeliveryId,
    /// Which generation's end it tells of.
    pub generation: i32,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts that were begun.
    pub attempts: i32,
    /// When the next one is due, while it waits.
    pub next_due: Option<DateTime<Utc>>,
    /// Milliseconds until then, not below 0.
    pub wait_ms: i64,
    /// When it was delivered or given up.
    pub settled_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// The webhook of a batch; `None` if it has none.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn notice(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<Notice>, StoreError> {
    let address = query_scalar!(
        "select notify_url from batch where organization_id = $1 and id = $2",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(address) = address.flatten() else {
        return Ok(None);
    };
    let row = query!(
        r#"select id, generation, status, attempts, next_due, settled_at, last_error,
                  greatest(extract(epoch from next_due - now()) * 1000, 0)::bigint as "wait_ms!"
           from webhook_delivery where organization_id = $1 and batch_id = $2
           order by generation desc limit 1"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    let delivery = row.map(|row| {
        let status = parsed("a delivery's status", &row.status)?;
        Ok::<_, StoreError>(WebhookDelivery {
            id: row.id.into(),
            generation: row.generation,
            status,
            attempts: row.attempts,
            next_due: (status == DeliveryStatus::Waiting).then_some(row.next_due),
            wait_ms: row.wait_ms,
            settled_at: row.settled_at,
            last_error: row.last_error,
        })
    });
    Ok(Some(Notice {
        address,
        delivery: delivery.transpose()?,
    }))
}
