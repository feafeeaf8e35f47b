//! The table `limit_notice`: what was told last of the waits of a batch's calls, so that a fleet says it once.
//!
//! Whoever gets `true` here tells it in the same transaction. Of a batch that has ended nothing is told any more.

use std::time::Duration;

use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{PgConnection, query};

use super::{StoreError, seconds};

/// How the breaker stands, as a batch is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerNotice {
    /// Nobody calls.
    Open,
    /// One call tries how the server is.
    HalfOpen,
    /// Calls go through again.
    Closed,
}

/// Whether it is to be told that calls wait for a limit: not if that was told within `again`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn notice_limit(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    model: &str,
    again: Duration,
) -> Result<bool, StoreError> {
    let noticed = query!(
        "insert into limit_notice as n (organization_id, batch_id, model, limited_at)
         select b.organization_id, b.id, $3, now() from batch b
         where b.organization_id = $1 and b.id = $2 and b.ended_at is null
         on conflict (batch_id, model, organization_id) do update set limited_at = excluded.limited_at
         where n.limited_at is null or n.limited_at < now() - make_interval(secs => $4)",
        organization.uuid(),
        batch.uuid(),
        model,
        seconds(again),
    )
    .execute(connection)
    .await?;
    Ok(noticed.rows_affected() == 1)
}

/// Whether it is to be told how the breaker stands: not if it is said already, nor within `again` of the same. A
/// closed breaker is told to whoever was told of an open one, and at once.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn notice_breaker(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    model: &str,
    breaker: BreakerNotice,
    again: Duration,
) -> Result<bool, StoreError> {
    let (organization, batch, again) = (organization.uuid(), batch.uuid(), seconds(again));
    let noticed = match breaker {
        BreakerNotice::Open => {
            query!(
                "insert into limit_notice as n (organization_id, batch_id, model, breaker, opened_at)
                 select b.organization_id, b.id, $3, 'open', now() from batch b
                 where b.organization_id = $1 and b.id = $2 and b.ended_at is null
                 on conflict (batch_id, model, organization_id)
                 do update set breaker = excluded.breaker, opened_at = excluded.opened_at
                 where n.breaker is distinct from 'open'
                   and (n.opened_at is null or n.opened_at < now() - make_interval(secs => $4))",
                organization,
                batch,
                model,
                again,
            )
            .execute(connection)
            .await?
        }
        BreakerNotice::HalfOpen => {
            query!(
                "update limit_notice set breaker = 'half-open', probed_at = now()
                 where organization_id = $1 and batch_id = $2 and model = $3 and breaker = 'open'
                   and (probed_at is null or probed_at < now() - make_interval(secs => $4))
                   and exists (select from batch b where b.organization_id = $1 and b.id = $2
                                                     and b.ended_at is null)",
                organization,
                batch,
                model,
                again,
            )
            .execute(connection)
            .await?
        }
        BreakerNotice::Closed => {
            query!(
                "update limit_notice set breaker = 'closed'
                 where organization_id = $1 and batch_id = $2 and model = $3 and breaker in ('open', 'half-open')
                   and exists (select from batch b where b.organization_id = $1 and b.id = $2
                                                     and b.ended_at is null)",
                organization,
                batch,
                model,
            )
            .execute(connection)
            .await?
        }
    };
    Ok(noticed.rows_affected() == 1)
}
