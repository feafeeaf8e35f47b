//! The table `workflow_execution`, many rows of a batch at once: admitting, cancelling, reviving, and the resolution.
//!
//! A batch may have a million rows, and nothing here may cost more for that. So what a statement has picked is looked up
//! by an array of ids, not by a join: the planner takes what a limit lets through for a tenth of all that waits, and
//! for so many it would read the whole table. And each status is asked for by itself, so that its index serves.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Ringable, stage};
use crate::{
    flow::{EventKind, ExecutionStatus, Failure, Stage, WORKFLOW_VERSION, WorkflowType},
    store::{StoreError, to_json},
};

/// What an admission gave.
#[derive(Debug, Default)]
pub struct Admitted {
    /// To be rung now.
    pub rings: Vec<Ringable>,
    /// Whether the limit stopped it: more are due.
    pub more: bool,
    /// Where it came to among what is due; none if nothing was admitted.
    pub reached: Option<Mark>,
}

/// A place among what is due: the due time and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(DateTime<Utc>, Uuid);

/// Takes the batch's admission lock for the rest of the transaction. It must be a statement of its own, before
/// [`admit`]: a count in the statement that locks would see what was there before the lock.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn admit_lock(connection: &mut PgConnection, batch: BatchId) -> Result<bool, StoreError> {
    Ok(query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1::uuid::text, 1)) as "locked!""#,
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?)
}

/// Admits executions of the batch that are queued or due for a retry, at most `most` and never more than the batch's
/// concurrency allows. The admitted are marked as rung at `incarnation`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn admit(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: usize,
    incarnation: i64,
) -> Result<Admitted, StoreError> {
    let limits = AdmitLimits {
        most,
        ..AdmitLimits::default()
    };
    admit_from(connection, organization, batch, None, limits, incarnation).await
}

/// What bounds an admission besides the batch's own concurrency.
#[derive(Debug, Clone, Copy)]
pub struct AdmitLimits {
    /// At most so many now.
    pub most: usize,
    /// Not more than so many in processing: the batch's part, while others want theirs.
    pub processing: Option<u64>,
}

impl Default for AdmitLimits {
    fn default() -> Self {
        Self {
            most: usize::MAX,
            processing: None,
        }
    }
}

/// [`admit`], but looking from a place on only: at the head of the index lie the entries of all that was admitted
/// since the last vacuum, and to read past 150,000 of them takes 12 ms. What lies before the place (it committed late,
/// or was paused) is left to a look without one.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn admit_from(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    from: Option<Mark>,
    limits: AdmitLimits,
    incarnation: i64,
) -> Result<Admitted, StoreError> {
    let Mark(from_due, from_id) = from.unwrap_or(Mark(DateTime::UNIX_EPOCH, Uuid::nil()));
    let rows = query!(
        r#"with slots as (
               select greatest(0, least($3::bigint, least(b.concurrency, $8::bigint) - (
                   select count(*) from workflow_execution e
                   where e.batch_id = b.id and e.status = 'processing'))) as free
               from batch b
               where b.organization_id = $1 and b.id = $2
                 and b.stopping is null and b.paused_at is null and b.ended_at is null
           ), due as (
               select e.id, e.due_at, e.status = 'queued' as fresh
               from workflow_execution e
               where e.batch_id = $2 and e.status in ('queued', 'retry') and e.due_at <= now()
                 and (e.due_at, e.id) >= ($6, $7) and e.paused_at is null and e.workflow_version <= $5
               order by e.due_at, e.id
               -- No row in slots (stopping, paused, ended) is no slot: a null limit would be no limit.
               limit coalesce((select free from slots), 0)
               for update skip locked
           ), admitted as (
               -- By an array, not by a join: what a limit lets through is taken for a tenth of all that waits, and
               -- for so many the planner would read the whole table (1 s at a million).
               update workflow_execution e
               set status = 'processing', due_at = now(), rung_at = now(), ring_incarnation = $4,
                   updated_at = now(), started_at = coalesce(e.started_at, now())
               where e.organization_id = $1 and e.id = any(array(select id from due))
               returning e.id, e.lease_epoch, e.current_activity, e.workflow_version, e.workflow_type
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select $1, $2, a.id, 'DocumentStarted', '{"type": "DocumentStarted"}'
               from admitted a join due on due.id = a.id
               where due.fresh and a.workflow_type = 'extraction'
           )
           select a.id, a.lease_epoch, a.current_activity, a.workflow_version, due.due_at
           from admitted a join due on due.id = a.id
           order by a.id"#,
        organization.uuid(),
        batch.uuid(),
        i64::try_from(limits.most).unwrap_or(i64::MAX),
        incarnation,
        WORKFLOW_VERSION,
        from_due,
        from_id,
        limits
            .processing
            .map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX)),
    )
    .fetch_all(connection)
    .await?;
    let more = !rows.is_empty() && rows.len() == limits.most;
    let reached = rows.iter().map(|row| Mark(row.due_at, row.id)).max();
    let rings = rows
        .into_iter()
        .map(|row| {
            Ok(Ringable {
                organization,
                batch,
                execution: row.id.into(),
                epoch: row.lease_epoch,
                stage: stage(&row.current_activity)?,
                version: row.workflow_version,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Admitted {
        rings,
        more,
        reached,
    })
}

/// How many executions each of these batches has in processing; those without any are left out.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn processing_of(
    connection: &mut PgConnection,
    batches: &[BatchId],
) -> Result<HashMap<BatchId, u64>, StoreError> {
    let ids: Vec<Uuid> = batches.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        r#"select batch_id, count(*) as "count!" from workflow_execution
           where batch_id = any($1) and status = 'processing' group by batch_id"#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.batch_id.into(), row.count.unsigned_abs()))
        .collect())
}

/// Cancels what a stopping batch has not begun or has not in work, at most `most` at a time; returns how many.
/// What is in work stops at its next unit boundary.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn cancel_stopped(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<u64, StoreError> {
    let stages: HashMap<&str, Stage> = Stage::ALL
        .into_iter()
        .map(|stage| (stage.activity_name(), stage))
        .collect();
    let cancelled = query_scalar!(
        r#"with waiting as (
               -- Each status by its own index: one condition on all of them would read past everything that was
               -- cancelled before, at every step.
               select id, status from workflow_execution
               where organization_id = $1 and batch_id = $2 and status in ('queued', 'retry')
               order by due_at, id limit $3
               for update skip locked
           ), silent as (
               select id, status from workflow_execution
               where organization_id = $1 and batch_id = $2 and status = 'processing'
                 and (lease_until is null or lease_until < now())
               limit $3
               for update skip locked
           ), failed as (
               select id, status from workflow_execution
               where organization_id = $1 and batch_id = $2 and status = 'failed'
               limit $3
               for update skip locked
           ), idle as (
               select * from waiting union all select * from silent union all select * from failed
               limit $3
           ), cancelled as (
               update workflow_execution e
               set status = 'cancelled', completed_at = now(), updated_at = now(),
                   lease_owner = null, lease_until = null
               where e.organization_id = $1 and e.id = any(array(select id from idle))
               returning e.id, e.workflow_type, e.current_activity
           ), closed as (
               update workflow_activity a
               set status = 'cancelled', completed_at = now()
               where a.organization_id = $1 and a.workflow_execution_id = any(array(select id from cancelled))
                 and a.status = 'running'
           ), delivered as (
               update workflow_signal s
               set delivered_at = now(), outcome = 'delivered'
               where s.organization_id = $1 and s.workflow_execution_id = any(array(select id from cancelled))
                 and s.delivered_at is null
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select $1, $2, c.id, 'DocumentCancelled',
                      jsonb_build_object('type', 'DocumentCancelled', 'wasFailed', idle.status = 'failed',
                                         'stage', $5::jsonb -> c.current_activity)
               from cancelled c join idle on idle.id = c.id where c.workflow_type = 'extraction'
               union all
               select $1, $2, id, 'ResolutionAbandoned', $4
               from cancelled where workflow_type = 'resolution'
           )
           select count(*) as "count!" from cancelled"#,
        organization.uuid(),
        batch.uuid(),
        most,
        to_json("an event", &EventKind::ResolutionAbandoned { failure: Failure::cancelled() })?,
        to_json("the stages", &stages)?,
    )
    .fetch_one(connection)
    .await?;
    Ok(cancelled.unsigned_abs())
}

/// Gives failed documents of the batch another round, at most `most` at a time; returns how many.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn revive_failed(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<u64, StoreError> {
    let revived = query_scalar!(
        r#"with failed as (
               select id from workflow_execution
               where organization_id = $1 and batch_id = $2 and status = 'failed'
               limit $3
               for update skip locked
           ), revived as (
               update workflow_execution e
               set status = 'retry', round = e.round + 1, due_at = now(), updated_at = now()
               where e.organization_id = $1 and e.id = any(array(select id from failed))
               returning e.organization_id, e.id, e.round
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select organization_id, $2, id, 'DocumentRevived',
                      jsonb_build_object('type', 'DocumentRevived', 'round', round)
               from revived
           )
           select count(*) as "count!" from revived"#,
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .fetch_one(connection)
    .await?;
    Ok(revived.unsigned_abs())
}

/// Queues the resolution of a batch's generation, and returns which execution it is; a second call changes nothing.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn start_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
) -> Result<WorkflowExecutionId, StoreError> {
    let id = query_scalar!(
        "insert into workflow_execution (id, organization_id, batch_id, generation, workflow_type,
                                         workflow_version, status, current_activity)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (batch_id, generation) where workflow_type = 'resolution'
             -- Nothing changes; a conflict that does nothing would not say which one it is.
             do update set updated_at = workflow_execution.updated_at
         returning id",
        WorkflowExecutionId::generate().uuid(),
        organization.uuid(),
        batch.uuid(),
        generation,
        WorkflowType::Resolution.as_str(),
        WORKFLOW_VERSION,
        ExecutionStatus::Queued.as_str(),
        WorkflowType::Resolution.first_stage().activity_name(),
    )
    .fetch_one(connection)
    .await?;
    Ok(id.into())
}

/// What documents of a batch wait for, if any do: a limit, the breaker, somebody else's call.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn waited_for(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<String>, StoreError> {
    // Those that are put off are due soon, or have just been.
    Ok(query_scalar!(
        r#"select error ->> 'message' as "message!" from workflow_execution
           where organization_id = $1 and batch_id = $2 and status = 'retry'
             and due_at > now() - interval '1 second' and error ->> 'code' = 'waiting'
           order by due_at limit 1"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?)
}
