//! The sequencer: one at a time over all replicas. It moves committed events from the outbox to the log, gives them
//! their positions, and in the same transaction folds them into the batches' counts and moves the batches.
//!
//! A settle touches no batch row and no count, so documents never wait for one another; and since positions are given
//! here alone, a reader that has seen one has seen every smaller one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use graphmill_jobs::{BatchId, OrganizationId};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::{error, info, warn};

use super::Engine;
use crate::{
    flow::{BatchEvent, BatchState, Event, EventKind, IllegalMove, NextStep, Stage, Stopping},
    store::{self, BatchMove, BatchToMove, Connection, StoreError},
};

/// Events moved in one step.
const STEP: i64 = 1000;
/// Documents revived in one step.
const REVIVE_STEP: i64 = 1000;
/// How long it sleeps while nothing happens: other replicas' events wait that long at most.
const IDLE: Duration = Duration::from_millis(100);
/// How often every open batch is looked at whether or not it has events, so that an empty one ends too.
const LEVEL: Duration = Duration::from_secs(1);

/// Tells the sequencer that there are events.
#[derive(Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub(super) fn ring(&self) {
        self.0.notify_one();
    }
}

/// What a step may run into.
#[derive(Debug, thiserror::Error)]
enum SequenceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
}

/// Moves events and batches until the process stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut leveled = Instant::now();
    let mut failing = false;
    let mut busy = true;
    loop {
        let wait = if busy {
            engine.settings.sequencer
        } else {
            IDLE
        };
        tokio::select! {
            () = engine.drained.cancelled() => {
                // What this process has settled is folded before it goes, if it can be.
                while let Ok(true) = step(&engine, false).await {}
                return;
            }
            () = engine.sequencer.0.notified() => {
                // Settles that come together are moved together.
                sleep(Duration::from_millis(2)).await;
            }
            () = sleep(wait) => {}
        }
        let level = leveled.elapsed() >= LEVEL;
        match step(&engine, level).await {
            Ok(moved) => {
                failing = false;
                busy = moved;
                if level {
                    leveled = Instant::now();
                }
            }
            Err(problem) if !failing => {
                failing = true;
                busy = false;
                match problem {
                    SequenceError::Illegal(illegal) => error!(%illegal, "a batch can't be moved"),
                    SequenceError::Store(_) => warn!(
                        error = &problem as &dyn std::error::Error,
                        "events could not be moved"
                    ),
                }
            }
            Err(_) => busy = false,
        }
    }
}

/// One step: up to [`STEP`] events, and the batches that they tell of (all open ones if `level`). Returns whether
/// there was something to do.
async fn step(engine: &Engine, level: bool) -> Result<bool, SequenceError> {
    let mut transaction = engine.store.engine_transaction().await?;
    if !store::sequencer_lock(&mut transaction).await? {
        return Ok(false);
    }
    let page = store::outbox_page(&mut transaction, STEP).await?;
    if page.is_empty() && !level {
        return Ok(false);
    }
    let mut by_batch: BTreeMap<BatchId, Vec<EventKind>> = BTreeMap::new();
    let mut log: Vec<(Event, Option<_>)> = Vec::with_capacity(page.len());
    for (event, at) in page {
        by_batch
            .entry(event.batch)
            .or_default()
            .push(event.kind.clone());
        log.push((event, Some(at)));
    }
    let mut batches = Vec::new();
    if !by_batch.is_empty() {
        let touched: Vec<BatchId> = by_batch.keys().copied().collect();
        batches = store::open_batches_to_move(&mut transaction, Some(&touched)).await?;
    }
    if level {
        let seen: BTreeSet<BatchId> = batches.iter().map(|batch| batch.id).collect();
        let all = store::open_batches_to_move(&mut transaction, None).await?;
        batches.extend(all.into_iter().filter(|batch| !seen.contains(&batch.id)));
    }
    let mut wake = Vec::new();
    for mut batch in batches {
        let before = (batch.state.clone(), batch.counts);
        for kind in by_batch.remove(&batch.id).unwrap_or_default() {
            batch.counts.fold(&kind);
        }
        let told = advance(&mut transaction, &mut batch, &mut wake).await?;
        let organization = batch.organization;
        log.extend(told.into_iter().map(|kind| {
            (
                Event {
                    organization,
                    batch: batch.id,
                    execution: None,
                    kind,
                },
                None,
            )
        }));
        if (&batch.state, batch.counts) != (&before.0, before.1) {
            let (state, counts) = (&batch.state, &batch.counts);
            let to = BatchMove {
                organization,
                id: batch.id,
                state,
                counts,
            };
            store::move_batch(&mut transaction, &to).await?;
        }
    }
    store::publish_events(&mut transaction, &log).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    for (organization, batch) in wake {
        engine.stager.ring(organization, batch);
    }
    if !log.is_empty() {
        engine.moved.send_modify(|times| *times += 1);
    }
    Ok(!log.is_empty())
}

/// Moves a batch as far as its counts call for; returns what there is to tell.
async fn advance(
    connection: &mut Connection,
    batch: &mut BatchToMove,
    wake: &mut Vec<(OrganizationId, BatchId)>,
) -> Result<Vec<EventKind>, SequenceError> {
    let mut told = Vec::new();
    loop {
        match batch
            .counts
            .next_step(batch.state.name(), batch.policy, batch.stopping)
        {
            NextStep::Wait => break,
            NextStep::Move(event) => {
                told.push(announced(&event));
                batch.state = batch.state.on(event)?;
                if batch.state.name().has_ended() {
                    info!(batch.id = %batch.id, state = %batch.state.name(), "a batch has ended");
                }
            }
            NextStep::StartResolution => {
                store::start_resolution(connection, batch.organization, batch.id, batch.generation)
                    .await?;
                let progress = batch.counts.progress();
                batch.state = batch
                    .state
                    .on(BatchEvent::Enter(Stage::Resolve, progress))?;
                told.push(EventKind::ResolutionStarted);
                wake.push((batch.organization, batch.id));
            }
            NextStep::Revive => {
                store::revive_failed(connection, batch.organization, batch.id, REVIVE_STEP).await?;
                wake.push((batch.organization, batch.id));
                // The events of the revived are folded by the next step.
                break;
            }
            NextStep::Abort => {
                store::stop_batch(connection, batch.organization, batch.id, Stopping::Abort)
                    .await?;
                batch.stopping = Some(Stopping::Abort);
            }
        }
    }
    let progress = batch.counts.progress();
    let state = std::mem::replace(&mut batch.state, BatchState::Pending);
    batch.state = state.with_progress(progress);
    Ok(told)
}

/// What the log says of a batch's move.
fn announced(event: &BatchEvent) -> EventKind {
    match event {
        BatchEvent::Enter(stage, _) => EventKind::StageEntered { stage: *stage },
        BatchEvent::Complete(_) => EventKind::BatchCompleted,
        BatchEvent::Fail(failure) => EventKind::BatchFailed {
            failure: failure.clone(),
        },
        BatchEvent::Cancel(_) => EventKind::BatchCancelled,
        BatchEvent::Retry => EventKind::BatchSealed,
    }
}
