//! Signals: cancel, pause, resume and retry, for an execution and for a batch. They only write rows; whoever works on
//! what they concern, on whichever replica, feels them within a second.

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId, WorkflowSignalId};
use serde_json::json;

use super::submit::seal;
use crate::{
    flow::{
        BatchEvent, Event, EventKind, Filling, Intake, PAUSED_BY_HAND, ResolutionEnd, Signal,
        Stopping,
    },
    store::{self, Connection, SentSignal, Store, StoreError},
};

/// Executions that are queued again in one step. **Source:** no transaction may last five seconds, and each brings
/// its checkpoints along.
const STEP: i64 = 200;
/// Documents that are re-run, in one step: they bring nothing along.
const RERUN_STEP: i64 = 1000;
/// Executions that are made due in one step.
const WAITING_STEP: i64 = 1000;

/// What came of a signal to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSignalled {
    /// It is heard.
    Done,
    /// So many documents get another try.
    Retrying(u64),
    /// The batch has ended: only a retry would reach it.
    Ended,
    /// It changes nothing: the batch is stopping or paused already, is not paused, or has nothing to retry.
    Nothing,
}

/// Why a signal could not be given.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The store did not do its part; it says whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug: the machines and this room disagree.
    #[error(transparent)]
    Illegal(#[from] crate::flow::IllegalMove),
}

/// Signals an execution; `None`: there is no such execution. A retry of one that has ended opens the next generation
/// of its batch, if that has ended too.
///
/// # Errors
/// [`SignalError`]; trying again may help, and signals twice at worst.
pub async fn signal_execution(
    store: &Store,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    signal: Signal,
) -> Result<Option<SentSignal>, SignalError> {
    let mut transaction = store.app(organization).await?;
    let Some(mut sent) = store::send_signal(
        &mut transaction,
        organization,
        execution,
        signal,
        &json!({}),
    )
    .await?
    else {
        return Ok(None);
    };
    transaction.commit().await.map_err(StoreError::from)?;
    if signal == Signal::Retry && sent.outcome.as_deref() == Some("too_late") {
        let mut read = store.app(organization).await?;
        let found = store::execution_by_id(&mut read, organization, execution).await?;
        drop(read);
        if let Some(found) = found.filter(|found| found.status.is_final())
            && let BatchSignalled::Retrying(_) =
                retry(store, organization, found.batch, Some((execution, sent.id))).await?
        {
            sent.outcome = Some("delivered".to_owned());
        }
    }
    Ok(Some(sent))
}

/// Signals a batch.
///
/// # Errors
/// [`SignalError`]; trying again may help.
pub async fn signal_batch(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    signal: Signal,
) -> Result<BatchSignalled, SignalError> {
    if signal == Signal::Retry {
        return retry(store, organization, batch, None).await;
    }
    if signal == Signal::Cancel {
        // A retry or a re-run that was cut off has counted documents that it has not added: they must be there to be stopped.
        let mut read = store.app(organization).await?;
        let found = store::batch_by_id(&mut read, organization, batch).await?;
        drop(read);
        if found.is_some_and(|found| is_refilled(found.intake)) {
            add_retries(store, organization, batch).await?;
        }
    }
    let mut transaction = store.app(organization).await?;
    let heard = match signal {
        Signal::Cancel => cancel(&mut transaction, organization, batch).await?,
        Signal::Pause => pause(&mut transaction, organization, batch, PAUSED_BY_HAND).await?,
        Signal::Resume | Signal::Retry => resume(&mut transaction, organization, batch).await?,
    };
    let found = store::batch_by_id(&mut transaction, organization, batch).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(match found {
        _ if heard => BatchSignalled::Done,
        Some(found) if found.state.name().has_ended() => BatchSignalled::Ended,
        Some(_) | None => BatchSignalled::Nothing,
    })
}

/// Flags a batch to stop: nothing more of it is admitted, and what is in work stops. It takes no more documents
/// either: one whose submission was cut off would wait for its seal for ever.
async fn cancel(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<bool, StoreError> {
    // Before the row is locked: the sequencer must not wait for a submission.
    store::intake_lock(connection, batch).await?;
    // What is stopped does not wait to be resumed.
    store::resume_batch(connection, organization, batch).await?;
    let stopped = store::stop_batch(connection, organization, batch, Stopping::Cancel).await?;
    if stopped {
        seal(connection, organization, batch).await?;
    }
    Ok(stopped)
}

/// Pauses a batch that can't go on until somebody does something about it: `reason` says what. `false`: it is paused,
/// stopping or ended already.
///
/// # Errors
/// [`StoreError`]; trying again may help, and does no harm.
pub async fn block_batch(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    reason: &str,
) -> Result<bool, StoreError> {
    let mut transaction = store.app(organization).await?;
    let paused = pause(&mut transaction, organization, batch, reason).await?;
    transaction.commit().await?;
    Ok(paused)
}

async fn pause(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    reason: &str,
) -> Result<bool, StoreError> {
    let paused = store::pause_batch(connection, organization, batch, reason).await?;
    if paused {
        let reason = reason.to_owned();
        let event = Event::of_batch(organization, batch, EventKind::BatchPaused { reason });
        store::append_event(connection, &event).await?;
    }
    Ok(paused)
}

async fn resume(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<bool, StoreError> {
    let resumed = store::resume_batch(connection, organization, batch).await?;
    if resumed {
        let event = Event::of_batch(organization, batch, EventKind::BatchResumed);
        store::append_event(connection, &event).await?;
    }
    Ok(resumed)
}

/// Gives documents another try. While the batch runs, those that wait for a round or for their next try come at once;
/// once it has ended, those that were given up, stopped or left partial get an execution in the next generation.
async fn retry(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    only: Option<(WorkflowExecutionId, WorkflowSignalId)>,
) -> Result<BatchSignalled, SignalError> {
    let (only, asked) = only.unzip();
    let mut transaction = store.app(organization).await?;
    let Some(mut found) = store::batch_to_reopen(&mut transaction, organization, batch).await?
    else {
        return Ok(BatchSignalled::Nothing);
    };
    let mut taken_up = 0;
    if found.state.name().has_ended() {
        let generation = found.generation + 1;
        let event =
            store::retryable(&mut transaction, organization, batch, generation, only).await?;
        if let EventKind::BatchRetried {
            abandoned,
            cancelled,
            partial,
            ..
        } = event
        {
            taken_up = abandoned + cancelled + partial;
        }
        // Without a document to try again there may still be a resolution that was given up or stopped.
        let resolved = found.counts.resolution == Some(ResolutionEnd::Completed);
        if taken_up == 0 && (only.is_some() || resolved || found.counts.completed == 0) {
            return Ok(BatchSignalled::Nothing);
        }
        found.generation = generation;
        found.state = found.state.on(BatchEvent::Retry)?;
        found.counts.fold(&event);
        store::open_generation(
            &mut transaction,
            organization,
            batch,
            &found,
            Filling::Retry,
        )
        .await?;
        let event = Event::of_batch(organization, batch, event);
        store::append_event(&mut transaction, &event).await?;
        if only.is_some() {
            // With nothing to be cut off: which one it was is written nowhere else.
            store::add_retries(
                &mut transaction,
                organization,
                batch,
                generation,
                only,
                None,
                1,
            )
            .await?;
            if let Some(signal) = asked {
                store::mark_delivered(&mut transaction, organization, signal).await?;
            }
            seal(&mut transaction, organization, batch).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            return Ok(BatchSignalled::Retrying(taken_up));
        }
    } else if !is_refilled(found.intake) {
        drop(transaction);
        return retry_waiting(store, organization, batch).await;
    }
    // Else a retry was cut off, or goes on elsewhere at this moment: both may finish it.
    transaction.commit().await.map_err(StoreError::from)?;
    add_retries(store, organization, batch).await?;
    Ok(BatchSignalled::Retrying(taken_up))
}

/// A retry or a re-run goes on, or was cut off.
pub(super) const fn is_refilled(intake: Intake) -> bool {
    matches!(intake, Intake::Filling(filling) if filling.is_of_its_own())
}

/// Adds what is missing of the executions of the batch's generation, in steps, and seals the batch. Doing it twice, or
/// in two places at once, adds nothing twice.
pub(super) async fn add_retries(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let mut transaction = store.app(organization).await?;
        let Some(found) = store::batch_by_id(&mut transaction, organization, batch).await? else {
            return Ok(());
        };
        if !is_refilled(found.intake) {
            return Ok(());
        }
        let (connection, generation) = (&mut transaction, found.generation);
        let last = if found.intake == Intake::Filling(Filling::Rerun) {
            store::add_reruns(
                connection,
                organization,
                batch,
                generation,
                after,
                RERUN_STEP,
            )
            .await?
        } else {
            store::add_retries(
                connection,
                organization,
                batch,
                generation,
                None,
                after,
                STEP,
            )
            .await?
        };
        if last.is_none() {
            seal(&mut transaction, organization, batch).await?;
        }
        transaction.commit().await?;
        if last.is_none() {
            return Ok(());
        }
        after = last;
    }
}

/// It runs: nothing is final that could be tried again, but what waits need not.
async fn retry_waiting(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<BatchSignalled, SignalError> {
    let mut woken = 0;
    loop {
        let mut transaction = store.app(organization).await?;
        let step =
            store::retry_waiting(&mut transaction, organization, batch, WAITING_STEP).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        woken += step;
        if step == 0 {
            return Ok(match woken {
                0 => BatchSignalled::Nothing,
                woken => BatchSignalled::Retrying(woken),
            });
        }
    }
}
