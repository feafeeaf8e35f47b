//! The table `workflow_signal`: what somebody asked of an execution. A signal's delivery commits with the move that
//! it causes, or with "too late".
//!
//! Signals are answered under a lock on the execution's row, in the order in which they came: by whoever sends one,
//! if nobody works on the execution; else by the holder of the lease; else, when the holder is gone, by the sweeper.

use graphmill_jobs::{OrganizationId, WorkflowExecutionId, WorkflowSignalId};
use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{
    Fence, StoreError,
    event::append_event,
    execution::{keys, stage},
    parsed, to_json,
};
use crate::flow::{
    Answer, Event, EventKind, ExecutionStatus, Failure, PAUSED_BY_HAND, Signal, Stage, Standing,
};

/// A signal, as it is shown.
#[derive(Debug, Clone)]
pub struct SentSignal {
    /// Its id.
    pub id: WorkflowSignalId,
    /// What was asked.
    pub signal: Signal,
    /// `delivered` or `too_late`, once it is.
    pub outcome: Option<String>,
}

/// Writes a signal down and answers it, if nobody holds a lease on the execution; else its holder will. `None`: there
/// is no such execution.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn send_signal(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    signal: Signal,
    payload: &Value,
) -> Result<Option<SentSignal>, StoreError> {
    let id = WorkflowSignalId::generate();
    let sent = query!(
        "insert into workflow_signal (id, organization_id, workflow_execution_id, signal_name, payload)
         select $3, organization_id, id, $4, $5 from workflow_execution
         where organization_id = $1 and id = $2
         for update",
        organization.uuid(),
        execution.uuid(),
        id.uuid(),
        signal.as_str(),
        payload,
    )
    .execute(&mut *connection)
    .await?;
    if sent.rows_affected() == 0 {
        return Ok(None);
    }
    answer_signals(&mut *connection, organization, execution, None).await?;
    let sent = signals(connection, organization, execution).await?;
    Ok(sent.into_iter().find(|sent| sent.id == id))
}

/// Answers the open signals of an execution that can be answered now; returns where it stands then, `None` if there
/// is no such execution. `heard` is the signal that whoever calls has just acted upon, in the same transaction.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn answer_signals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    heard: Option<Signal>,
) -> Result<Option<ExecutionStatus>, StoreError> {
    let Some(row) = query!(
        r#"select batch_id, status, current_activity, document_id, round, paused_at is not null as "paused!",
                  coalesce(lease_until > now(), false) as "leased!"
           from workflow_execution where organization_id = $1 and id = $2 for update"#,
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?
    else {
        return Ok(None);
    };
    let before = Standing {
        status: parsed("a status", &row.status)?,
        paused: row.paused,
        leased: row.leased,
    };
    let open = query!(
        "select id, signal_name from workflow_signal
         where organization_id = $1 and workflow_execution_id = $2 and delivered_at is null order by id",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut now = before;
    // For the holder of the lease, and what else is to be written.
    let (mut stop, mut pause, mut retry) = (false, false, false);
    let (mut delivered, mut too_late): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for asked in open {
        let signal: Signal = parsed("a signal", &asked.signal_name)?;
        match signal.answer(Standing {
            paused: now.paused || pause,
            ..now
        }) {
            Answer::Done(after) => {
                now = after;
                retry |= signal == Signal::Retry;
                delivered.push(asked.id);
            }
            Answer::Holder => {
                stop |= signal == Signal::Cancel;
                pause |= signal == Signal::Pause;
                // A pause that somebody has resumed before its holder saw it is over.
                continue;
            }
            Answer::TooLate if heard == Some(signal) => delivered.push(asked.id),
            Answer::TooLate => too_late.push(asked.id),
        }
        if signal == Signal::Resume {
            pause = false;
            settle_pauses(&mut *connection, organization, execution, asked.id).await?;
        }
    }
    if now.status.is_final() {
        now.paused = false;
    }
    let after = Standing {
        paused: now.paused || pause,
        ..now
    };
    if after != before || stop || retry {
        write(
            &mut *connection,
            organization,
            execution,
            (before, after),
            stop,
            retry,
        )
        .await?;
    }
    if now.status != before.status {
        close_attempt(&mut *connection, organization, execution).await?;
    }
    mark(&mut *connection, organization, &delivered, "delivered").await?;
    mark(&mut *connection, organization, &too_late, "too_late").await?;
    let stage = match row.document_id {
        Some(_) => Some(stage(&row.current_activity)?),
        None => None,
    };
    for kind in told(before, after, stage, row.round) {
        let event = Event {
            organization,
            batch: row.batch_id.into(),
            execution: Some(execution),
            kind,
        };
        append_event(&mut *connection, &event).await?;
    }
    Ok(Some(now.status))
}

/// Writes how an execution stands after its signals: `stop` is for the holder of its lease to see, `due` is what a
/// retry makes it.
async fn write(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    (before, after): (Standing, Standing),
    stop: bool,
    due: bool,
) -> Result<(), StoreError> {
    let moved = after.status != before.status;
    query!(
        "update workflow_execution
         set status = $3, round = round + case when $4 then 1 else 0 end,
             paused_at = case when $5 then coalesce(paused_at, now()) end,
             pause_reason = case when $5 then coalesce(pause_reason, $10) end,
             stop_requested_at = case when $6 then coalesce(stop_requested_at, now()) else stop_requested_at end,
             due_at = case when $7 then now() else due_at end,
             completed_at = case when $8 then now() else completed_at end,
             -- A lease that had run out when somebody answered was lost.
             lost_leases = lost_leases + case when $9 and lease_owner is not null then 1 else 0 end,
             lease_owner = case when not $9 then lease_owner end,
             lease_until = case when not $9 then lease_until end,
             updated_at = now()
         where organization_id = $1 and id = $2",
        organization.uuid(),
        execution.uuid(),
        after.status.as_str(),
        before.status == ExecutionStatus::Failed && after.status == ExecutionStatus::Retry,
        after.paused,
        stop,
        due || moved,
        after.status.is_final() && moved,
        moved,
        PAUSED_BY_HAND,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What the log says of an answer: of a document at `stage`, or of a resolution.
fn told(before: Standing, now: Standing, stage: Option<Stage>, round: i32) -> Vec<EventKind> {
    let is_document = stage.is_some();
    let mut told = Vec::new();
    if now.status != before.status {
        match (now.status, before.status) {
            // A batch waits for the end of its resolution, however it ends.
            (ExecutionStatus::Cancelled, _) if !is_document => {
                told.push(EventKind::ResolutionAbandoned {
                    failure: Failure::cancelled(),
                });
            }
            (ExecutionStatus::Cancelled, from) => told.push(EventKind::DocumentCancelled {
                was_failed: from == ExecutionStatus::Failed,
                stage,
            }),
            (ExecutionStatus::Retry, ExecutionStatus::Failed) => {
                told.push(EventKind::DocumentRevived { round: round + 1 });
            }
            (_, _) => {}
        }
    }
    if is_document && !now.status.is_final() {
        match (before.paused, now.paused) {
            (false, true) => told.push(EventKind::DocumentPaused),
            (true, false) => told.push(EventKind::DocumentResumed),
            (true, true) | (false, false) => {}
        }
    }
    told
}

/// Closes the attempt that ends with a signal.
async fn close_attempt(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<(), StoreError> {
    query!(
        "update workflow_activity set status = 'cancelled', completed_at = now(), error = $3
         where organization_id = $1 and workflow_execution_id = $2 and status = 'running'",
        organization.uuid(),
        execution.uuid(),
        to_json("a failure", &Failure::cancelled())?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks the open pauses that came before a resume: both were heard.
async fn settle_pauses(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    before: Uuid,
) -> Result<(), StoreError> {
    query!(
        "update workflow_signal set delivered_at = now(), outcome = 'delivered'
         where organization_id = $1 and workflow_execution_id = $2 and id < $3 and signal_name = 'pause'
           and delivered_at is null",
        organization.uuid(),
        execution.uuid(),
        before,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn mark(
    connection: &mut PgConnection,
    organization: OrganizationId,
    signals: &[Uuid],
    outcome: &str,
) -> Result<(), StoreError> {
    if signals.is_empty() {
        return Ok(());
    }
    query!(
        "update workflow_signal set delivered_at = now(), outcome = $3
         where organization_id = $1 and id = any($2)",
        organization.uuid(),
        signals,
        outcome,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says that a signal that came too late for its execution was heard all the same, in the transaction that acts on it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn mark_delivered(
    connection: &mut PgConnection,
    organization: OrganizationId,
    signal: WorkflowSignalId,
) -> Result<(), StoreError> {
    mark(connection, organization, &[signal.uuid()], "delivered").await
}

/// The signals of an execution, in order.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn signals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Vec<SentSignal>, StoreError> {
    let rows = query!(
        "select id, signal_name, outcome from workflow_signal
         where organization_id = $1 and workflow_execution_id = $2 order by id",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(SentSignal {
                id: row.id.into(),
                signal: parsed("a signal", &row.signal_name)?,
                outcome: row.outcome,
            })
        })
        .collect()
}

/// What a holder must know of an execution that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Stop now: a signal, or the batch stops.
    Stop,
    /// Give the lease back at the next unit boundary: it is paused, or its batch is.
    Pause,
}

/// Which of these leases are to be interrupted.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn interruptions(
    connection: &mut PgConnection,
    fences: &[Fence],
) -> Result<Vec<(WorkflowExecutionId, Interruption)>, StoreError> {
    let (organizations, executions, _) = keys(
        fences
            .iter()
            .map(|fence| (fence.organization, fence.execution, fence.epoch)),
    );
    let rows = query!(
        r#"select e.id, (e.stop_requested_at is not null or b.stopping is not null) as "stop!"
           from unnest($1::uuid[], $2::uuid[]) as held (organization_id, id)
           -- One look-up by key after the other: `offset 0` keeps the planner from turning them round. Without
           -- statistics it began with the batch, and read all of its executions for each lease.
           cross join lateral (
               select x.id, x.organization_id, x.batch_id, x.stop_requested_at, x.paused_at
               from workflow_execution x
               where x.organization_id = held.organization_id and x.id = held.id
               offset 0
           ) e
           cross join lateral (
               select y.stopping, y.paused_at from batch y
               where y.organization_id = e.organization_id and y.id = e.batch_id
               offset 0
           ) b
           where e.stop_requested_at is not null or b.stopping is not null
              or e.paused_at is not null or b.paused_at is not null"#,
        &organizations,
        &executions,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let interruption = if row.stop {
                Interruption::Stop
            } else {
                Interruption::Pause
            };
            (row.id.into(), interruption)
        })
        .collect())
}

/// Executions with a signal that nobody will answer: it was left to the holder of a lease, and the lease is gone
/// since. A thousand at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn orphaned_signals(
    connection: &mut PgConnection,
) -> Result<Vec<(OrganizationId, WorkflowExecutionId)>, StoreError> {
    let rows = query!(
        "select distinct e.organization_id, e.id
         from workflow_signal s
         join workflow_execution e on e.organization_id = s.organization_id and e.id = s.workflow_execution_id
         where s.delivered_at is null and (e.lease_until is null or e.lease_until < now())
         limit 1000",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.organization_id.into(), row.id.into()))
        .collect())
}
