//! What a webhook says of a batch's end, and how its delivery stands.
//!
//! Invariant: no text of a document, and no message of an extractor, which may quote one.

use chrono::{DateTime, SecondsFormat, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WebhookDeliveryId};
use serde::Serialize;
use serde_json::{Value, json};

use super::{DocumentCounts, SpentReport};
use crate::{
    flow::{BatchState, BatchStateName},
    notify::Address,
    store::{self, Notice, Store, StoreError, WebhookLease, WebhookToSend},
};

/// How the news of a batch's end stands.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct WebhookReport {
    /// Where it goes, without the query.
    pub url: String,
    /// The delivery, once the batch has ended.
    #[serde(flatten)]
    pub delivery: Option<DeliveryReport>,
}

/// How a delivery stands.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct DeliveryReport {
    /// The header `webhook-id`, the same at every attempt.
    #[schema(value_type = String)]
    pub delivery_id: WebhookDeliveryId,
    /// Which generation's end it tells of.
    pub generation: i32,
    /// `waiting`, `delivered` or `given_up`.
    pub status: &'static str,
    /// Attempts that were begun.
    pub attempts: i32,
    /// When the next one is due, while it waits.
    #[schema(value_type = Option<String>)]
    pub next_due: Option<DateTime<Utc>>,
    /// When it was delivered or given up.
    #[schema(value_type = Option<String>)]
    pub settled_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Milliseconds until the next attempt is due.
    #[serde(skip)]
    pub wait_ms: u64,
}

impl From<Notice> for WebhookReport {
    fn from(notice: Notice) -> Self {
        Self {
            url: Address::parse(&notice.address)
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            delivery: notice.delivery.map(|delivery| DeliveryReport {
                delivery_id: delivery.id,
                generation: delivery.generation,
                status: delivery.status.as_str(),
                attempts: delivery.attempts,
                next_due: delivery.next_due,
                settled_at: delivery.settled_at,
                last_error: delivery.last_error,
                wait_ms: delivery.wait_ms.unsigned_abs(),
            }),
        }
    }
}

/// How the news of a batch's end stands; `None` if nobody wants to be told.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn webhook(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<WebhookReport>, StoreError> {
    let mut transaction = store.app(organization).await?;
    let notice = store::notice(&mut transaction, organization, batch).await?;
    Ok(notice.map(WebhookReport::from))
}

/// Where a delivery goes, and the body that every attempt sends: the first attempt fixes it. Also the time, in seconds
/// since 1970. `None` if the lease is lost, or nobody wants to be told any more.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn completion(
    store: &Store,
    lease: &WebhookLease,
) -> Result<Option<(String, String, i64)>, StoreError> {
    let mut transaction = store.app(lease.organization).await?;
    let Some(end) = store::webhook_to_send(&mut transaction, lease).await? else {
        return Ok(None);
    };
    let body = if let Some(body) = end.body {
        body
    } else {
        let budget = store::budget(&mut transaction, lease.organization, lease.batch).await?;
        let body = told(lease, &end, budget.map(SpentReport::from)).to_string();
        if !store::fix_webhook_body(&mut transaction, lease, &body).await? {
            return Ok(None);
        }
        body
    };
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(Some((end.address, body, end.now)))
}

/// The body. Released fields stay; further ones may come.
fn told(lease: &WebhookLease, end: &WebhookToSend, spent: Option<SpentReport>) -> Value {
    let name = end.state.name();
    let kind = match name {
        BatchStateName::Completed => "batch.completed",
        BatchStateName::Cancelled => "batch.cancelled",
        // No other state is an end.
        BatchStateName::Failed
        | BatchStateName::Pending
        | BatchStateName::Chunking
        | BatchStateName::ExtractingMentions
        | BatchStateName::ExtractingEntities
        | BatchStateName::ExtractingRelations
        | BatchStateName::Assembling
        | BatchStateName::Resolving => "batch.failed",
    };
    let error = if let BatchState::Failed { error } = &end.state {
        json!({ "code": error.code.as_str(), "message": error.message })
    } else {
        Value::Null
    };
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    // Rounded as the database rounds it in the report.
    let duration_ms = ((end.ended_at - end.created_at)
        .num_microseconds()
        .unwrap_or(0)
        + 500)
        / 1000;
    let counts = &end.counts;
    json!({
        "type": kind,
        "timestamp": time(end.ended_at),
        "data": {
            "batch_id": lease.batch,
            "name": end.name,
            "state": name.as_str(),
            "generation": lease.generation,
            "error": error,
            "documents": DocumentCounts::from(counts),
            "entities": counts.entities,
            "relations": counts.relations,
            "clusters": counts.clusters,
            "spent": spent,
            "created_at": time(end.created_at),
            "ended_at": time(end.ended_at),
            "duration_ms": duration_ms,
        },
    })
}
