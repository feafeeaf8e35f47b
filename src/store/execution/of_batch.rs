//! The table `workflow_execution`, many rows of a batch at once: counting, cancelling, reviving, and the resolution.
//! Admitting is in `admit.rs`.
//!
//! A batch may have a million rows, and nothing here may cost more for that. So what a statement has picked is looked up
//! by an array of ids, not by a join: the planner takes what a limit lets through for a tenth of all that waits, and
//! for so many it would read the whole table. And each status is asked for by itself, so that its index serves.

use std::collections::HashMap;

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use crate::{
    flow::{EventKind, ExecutionStatus, Failure, Stage, WORKFLOW_VERSION, WorkflowType},
    store::{StoreError, to_json},
};

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
