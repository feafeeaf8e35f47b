//! The table `workflow_signal`: what somebody asked of an execution. A signal's delivery commits with the move that
//! it causes, or with "too late".

use graphmill_jobs::{OrganizationId, WorkflowExecutionId, WorkflowSignalId};
use sqlx::{PgConnection, query};

use super::{StoreError, event::append_event, parsed};
use crate::flow::{Event, EventKind, ExecutionEvent, ExecutionStatus, Failure};

/// A signal, as it is shown.
#[derive(Debug, Clone)]
pub struct Signal {
    /// Its id.
    pub id: WorkflowSignalId,
    /// `cancel`, `pause`, `resume` or `retry`.
    pub name: String,
    /// `delivered` or `too_late`, once it is.
    pub outcome: Option<String>,
}

/// Asks an execution to stop. Without a live lease it stops now; else its holder stops it at the next unit boundary
/// or settle. `None`: there is no such execution.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn cancel_execution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Option<WorkflowSignalId>, StoreError> {
    let Some(row) = query!(
        r#"select batch_id, status, document_id, coalesce(lease_until > now(), false) as "leased!"
           from workflow_execution where organization_id = $1 and id = $2 for update"#,
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?
    else {
        return Ok(None);
    };
    let status: ExecutionStatus = parsed("a status", &row.status)?;
    let id = WorkflowSignalId::generate();
    let outcome = match status.on(ExecutionEvent::Cancel) {
        Err(_) => Some("too_late"),
        Ok(_) if row.leased => None,
        Ok(next) => {
            query!(
                "update workflow_execution
                 set status = $3, completed_at = now(), updated_at = now(), lease_owner = null,
                     lease_until = null
                 where organization_id = $1 and id = $2",
                organization.uuid(),
                execution.uuid(),
                next.as_str(),
            )
            .execute(&mut *connection)
            .await?;
            query!(
                "update workflow_activity set status = 'cancelled', completed_at = now()
                 where organization_id = $1 and workflow_execution_id = $2 and status = 'running'",
                organization.uuid(),
                execution.uuid(),
            )
            .execute(&mut *connection)
            .await?;
            // One that waited for a holder who went away has had its way too.
            deliver_signals(&mut *connection, organization, execution, false).await?;
            let event = Event {
                organization,
                batch: row.batch_id.into(),
                execution: Some(execution),
                kind: cancelled(row.document_id.is_some(), status == ExecutionStatus::Failed),
            };
            append_event(&mut *connection, &event).await?;
            Some("delivered")
        }
    };
    if outcome.is_none() {
        query!(
            "update workflow_execution set stop_requested_at = coalesce(stop_requested_at, now())
             where organization_id = $1 and id = $2",
            organization.uuid(),
            execution.uuid(),
        )
        .execute(&mut *connection)
        .await?;
    }
    query!(
        "insert into workflow_signal (id, organization_id, workflow_execution_id, signal_name, outcome,
                                      delivered_at)
         values ($1, $2, $3, 'cancel', $4, case when $4::text is not null then now() end)",
        id.uuid(),
        organization.uuid(),
        execution.uuid(),
        outcome,
    )
    .execute(connection)
    .await?;
    Ok(Some(id))
}

/// Marks the execution's open signals, in the transaction of the move that they caused (or came too late for);
/// returns how many there were.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn deliver_signals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    too_late: bool,
) -> Result<u64, StoreError> {
    let delivered = query!(
        "update workflow_signal
         set delivered_at = now(), outcome = case when $3 then 'too_late' else 'delivered' end
         where organization_id = $1 and workflow_execution_id = $2 and delivered_at is null",
        organization.uuid(),
        execution.uuid(),
        too_late,
    )
    .execute(connection)
    .await?;
    Ok(delivered.rows_affected())
}

/// The signals of an execution, in order.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn signals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Vec<Signal>, StoreError> {
    let rows = query!(
        "select id, signal_name, outcome from workflow_signal
         where organization_id = $1 and workflow_execution_id = $2 order by id",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Signal {
            id: row.id.into(),
            name: row.signal_name,
            outcome: row.outcome,
        })
        .collect())
}

/// What the log says of an execution that was stopped. A batch waits for the end of its resolution, however it ends.
fn cancelled(is_document: bool, was_failed: bool) -> EventKind {
    if is_document {
        EventKind::DocumentCancelled { was_failed }
    } else {
        EventKind::ResolutionAbandoned {
            failure: Failure::cancelled(),
        }
    }
}

/// Executions with a stop that nobody will deliver: asked for while leased, and the lease is gone since (it ran out,
/// or its holder settled a retry or a failure before it saw the stop).
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn orphaned_stops(
    connection: &mut PgConnection,
) -> Result<Vec<(OrganizationId, WorkflowExecutionId)>, StoreError> {
    let rows = query!(
        "select organization_id, id from workflow_execution
         where stop_requested_at is not null and status in ('queued', 'processing', 'retry', 'failed')
           and (lease_until is null or lease_until < now())
         limit 1000",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.organization_id.into(), row.id.into()))
        .collect())
}

/// Stops an execution whose stop was asked for earlier and that nobody holds any more; `false` if it moved since.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn apply_orphaned_stop(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<bool, StoreError> {
    let stopped = query!(
        r#"with idle as (
             select organization_id, id, status from workflow_execution
             where organization_id = $1 and id = $2 and stop_requested_at is not null
               and status in ('queued', 'processing', 'retry', 'failed')
               and (lease_until is null or lease_until < now())
             for update
         ), stopped as (
             update workflow_execution e
             set status = 'cancelled', completed_at = now(), updated_at = now(), lease_owner = null,
                 lease_until = null
             from idle
             where e.organization_id = idle.organization_id and e.id = idle.id
             returning e.organization_id, e.id, e.batch_id, e.document_id, idle.status as before
         ), closed as (
             update workflow_activity a set status = 'cancelled', completed_at = now()
             from stopped s
             where a.organization_id = s.organization_id and a.workflow_execution_id = s.id
               and a.status = 'running'
         )
         select batch_id, document_id, before = 'failed' as "was_failed!" from stopped"#,
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(stopped) = stopped else {
        return Ok(false);
    };
    deliver_signals(&mut *connection, organization, execution, false).await?;
    let event = Event {
        organization,
        batch: stopped.batch_id.into(),
        execution: Some(execution),
        kind: cancelled(stopped.document_id.is_some(), stopped.was_failed),
    };
    append_event(connection, &event).await?;
    Ok(true)
}
