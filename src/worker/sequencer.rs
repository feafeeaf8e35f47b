//! The sequencer: one at a time over all replicas. It moves committed events from the outbox to the log, gives them
//! their positions, and in the same transaction folds them into the batches' counts and moves the batches.
//!
//! A settle touches no batch row and no count, so documents never wait for one another; and since positions are given
//! here alone, a reader that has seen one has seen every smaller one. No batch stops another: one that can't be moved
//! (an event of a newer version, a state that can't be read, an illegal move, a row that somebody else has locked)
//! keeps its events in the outbox, in order, until it can be.

mod held;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use self::held::{Held, Problem};
use super::Engine;
use crate::{
    flow::{
        BatchEvent, BatchState, Event, EventKind, IllegalMove, NextStep, Pace, Stage, Stopping,
    },
    metrics,
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
pub(super) struct Bell {
    now: Notify,
    soon: Notify,
}

impl Bell {
    /// Somebody may wait for them: at once.
    pub(super) fn ring(&self) {
        self.now.notify_one();
    }

    /// Within a tick: nobody waits for what a stage's end tells, and a step for many costs hardly more than one for it.
    pub(super) fn ring_soon(&self) {
        self.soon.notify_one();
    }

    /// Waits for `longest`, or until there is something to move, and others' settles of the same moment are in.
    async fn wait(&self, tick: Duration, longest: Duration) {
        tokio::select! {
            () = self.now.notified() => {}
            () = self.soon.notified() => {
                tokio::select! {
                    () = self.now.notified() => {}
                    () = sleep(tick) => return,
                }
            }
            () = sleep(longest) => return,
        }
        // Settles that come together are moved together.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Moves events and batches until the process stops.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut leveled = Instant::now();
    let mut failing = false;
    let mut busy = true;
    let mut held = Held::default();
    loop {
        let wait = if busy {
            engine.settings.sequencer
        } else {
            IDLE
        };
        tokio::select! {
            () = engine.drained.cancelled() => {
                // What this process has settled is folded before it goes, if it can be.
                while let Ok(true) = step(&engine, &mut held, false).await {}
                return;
            }
            () = engine.sequencer.wait(engine.settings.sequencer, wait) => {}
        }
        let level = leveled.elapsed() >= LEVEL;
        match step(&engine, &mut held, level).await {
            Ok(moved) => {
                failing = false;
                busy = moved;
                if level {
                    leveled = Instant::now();
                }
            }
            Err(problem) => {
                busy = false;
                if !failing {
                    failing = true;
                    warn!(
                        error = &problem as &dyn std::error::Error,
                        "events could not be moved"
                    );
                }
            }
        }
    }
}

/// One step: up to [`STEP`] events, and the batches that they tell of (all open ones if `level`). Returns whether
/// there was something to do.
async fn step(engine: &Engine, held: &mut Held, level: bool) -> Result<bool, StoreError> {
    let mut transaction = engine.store.engine_transaction().await?;
    if !store::sequencer_lock(&mut transaction).await? {
        return Ok(false);
    }
    let mut except = held.batches();
    let page = store::outbox_page(&mut transaction, &except, STEP).await?;
    if page.is_empty() && !level {
        return Ok(false);
    }
    let (mut by_batch, mut problems) = readable(page);
    let touched: Vec<BatchId> = by_batch.keys().copied().collect();
    let mut batches = Vec::new();
    if !touched.is_empty() {
        batches = store::batches_to_move(&mut transaction, &touched).await?;
    }
    if level {
        except.extend(touched.into_iter().chain(problems.keys().copied()));
        batches.extend(store::open_batches_to_move(&mut transaction, &except).await?);
    }
    let mut done = Done::default();
    for (id, read) in batches {
        let events = by_batch.remove(&id).unwrap_or_default();
        let mut moved = match read
            .map_err(Problem::from)
            .and_then(|batch| Ok(Moved::of(batch, &events)?))
        {
            Ok(moved) => moved,
            Err(problem) => {
                problems.insert(id, problem);
                continue;
            }
        };
        match moved.write(&mut transaction).await {
            Ok(()) => done.add(moved, &events),
            Err(error) if error.is_about_data() => {
                // The database's own rules say no, and the transaction is lost: the next one does without this batch.
                held.hold(id, &error.into());
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
    }
    // What is left has a batch that somebody has locked, or that is gone.
    let left: Vec<BatchId> = by_batch.keys().copied().collect();
    let mut locked = BTreeSet::new();
    if !left.is_empty() {
        locked.extend(store::existing_batches(&mut transaction, &left).await?);
    }
    for (id, events) in by_batch {
        if !locked.contains(&id) {
            done.names
                .extend(events.iter().map(|(_, kind)| kind.name()));
            done.rows.extend(events.into_iter().map(|(row, _)| row));
        }
    }
    done.rows.sort_unstable();
    store::publish_events(&mut transaction, &done.rows, &done.told).await?;
    transaction.commit().await?;

    let busy = !done.is_empty() || !problems.is_empty();
    for id in done.batches.iter().filter(|id| !problems.contains_key(id)) {
        held.release(*id);
    }
    for (id, problem) in problems {
        held.hold(id, &problem);
    }
    for id in locked {
        held.wait(id);
    }
    done.tell(engine);
    Ok(busy)
}

type ByBatch = BTreeMap<BatchId, Vec<(i64, EventKind)>>;

/// Each batch's events up to the first that can't be read, and what is wrong with that one.
fn readable(page: Vec<store::OutboxRow>) -> (ByBatch, BTreeMap<BatchId, Problem>) {
    let (mut by_batch, mut problems) = (ByBatch::new(), BTreeMap::new());
    for row in page {
        if problems.contains_key(&row.batch) {
            continue;
        }
        match row.kind {
            Ok(kind) => by_batch.entry(row.batch).or_default().push((row.id, kind)),
            Err(error) => _ = problems.insert(row.batch, error.into()),
        }
    }
    (by_batch, problems)
}

/// What a step has moved.
#[derive(Default)]
struct Done {
    rows: Vec<i64>,
    told: Vec<Event>,
    batches: Vec<BatchId>,
    ended: Vec<(BatchId, &'static str)>,
    wake: Vec<(OrganizationId, BatchId)>,
    /// What is in the log then, to be counted.
    names: Vec<&'static str>,
}

impl Done {
    fn add(&mut self, moved: Moved, events: &[(i64, EventKind)]) {
        let Moved {
            batch,
            ends,
            told,
            deeds,
            resolution,
            ..
        } = moved;
        self.rows.extend(events.iter().map(|(row, _)| *row));
        let moved = events.iter().map(|(_, kind)| kind.name());
        self.names
            .extend(moved.chain(told.iter().map(EventKind::name)));
        self.batches.push(batch.id);
        if ends {
            self.ended.push((batch.id, batch.state.name().as_str()));
        }
        if deeds
            .iter()
            .any(|deed| matches!(deed, Deed::StartResolution | Deed::Revive))
        {
            self.wake.push((batch.organization, batch.id));
        }
        self.told.extend(told.into_iter().map(|kind| Event {
            organization: batch.organization,
            batch: batch.id,
            execution: resolution.filter(|_| matches!(kind, EventKind::ResolutionStarted)),
            kind,
        }));
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.told.is_empty()
    }

    /// Once it is committed.
    fn tell(self, engine: &Engine) {
        for name in &self.names {
            metrics::get().work.event(name);
        }
        if !self.is_empty() {
            engine.moved.send_modify(|times| *times += 1);
        }
        if !self.ended.is_empty() {
            engine.notifier.ring();
        }
        for (id, state) in self.ended {
            info!(batch.id = %id, state, "a batch has ended");
        }
        for (organization, batch) in self.wake {
            engine.stager.ring(organization, batch);
        }
    }
}

/// What is to be done about a batch besides moving it.
#[derive(Debug, Clone, Copy)]
enum Deed {
    StartResolution,
    Revive,
    Abort,
    Seal,
}

/// A batch, moved as far as its events call for. Nothing is written yet: an illegal move leaves nothing behind.
struct Moved {
    batch: BatchToMove,
    changed: bool,
    /// This move is the end of its generation.
    ends: bool,
    told: Vec<EventKind>,
    deeds: Vec<Deed>,
    /// The resolution that it has begun.
    resolution: Option<WorkflowExecutionId>,
}

impl Moved {
    fn of(mut batch: BatchToMove, events: &[(i64, EventKind)]) -> Result<Self, IllegalMove> {
        let before = (batch.state.clone(), batch.counts, batch.pace);
        for (_, kind) in events {
            batch.counts.fold(kind);
        }
        let (mut told, mut deeds) = (Vec::new(), Vec::new());
        let had_ended = batch.state.name().has_ended();
        loop {
            match batch
                .counts
                .next_step(batch.state.name(), batch.rules, batch.stopping)
            {
                NextStep::Wait => break,
                NextStep::Move(event) => {
                    told.push(announced(&event));
                    batch.state = batch.state.on(event)?;
                }
                NextStep::StartResolution => {
                    let progress = batch.counts.progress();
                    batch.state = batch
                        .state
                        .on(BatchEvent::Enter(Stage::Resolve, progress))?;
                    told.push(EventKind::ResolutionStarted);
                    deeds.push(Deed::StartResolution);
                }
                NextStep::Revive => {
                    deeds.push(Deed::Revive);
                    // The events of the revived are folded by the next step.
                    break;
                }
                NextStep::Abort => {
                    deeds.push(Deed::Abort);
                    batch.stopping = Some(Stopping::Abort);
                }
                NextStep::Seal => {
                    deeds.push(Deed::Seal);
                    // What was added before it is counted first: the seal is folded by the next step.
                    break;
                }
            }
        }
        let progress = batch.counts.progress();
        let state = std::mem::replace(&mut batch.state, BatchState::Pending);
        batch.state = state.with_progress(progress);
        batch.pace = pace(&batch, events);
        Ok(Self {
            changed: (&batch.state, batch.counts, batch.pace) != (&before.0, before.1, before.2),
            ends: !had_ended && batch.state.name().has_ended(),
            batch,
            told,
            deeds,
            resolution: None,
        })
    }

    async fn write(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let (organization, id) = (self.batch.organization, self.batch.id);
        for deed in &self.deeds {
            match deed {
                Deed::StartResolution => {
                    let generation = self.batch.generation;
                    let begun =
                        store::start_resolution(connection, organization, id, generation).await?;
                    self.resolution = Some(begun);
                }
                Deed::Revive => {
                    store::revive_failed(connection, organization, id, REVIVE_STEP).await?;
                }
                Deed::Abort => {
                    store::stop_batch(connection, organization, id, Stopping::Abort).await?;
                }
                Deed::Seal => {
                    if store::seal_stopped_batch(connection, organization, id).await? {
                        let sealed = Event::of_batch(organization, id, EventKind::BatchSealed);
                        store::append_event(connection, &sealed).await?;
                    }
                }
            }
        }
        if self.changed {
            let (state, counts) = (&self.batch.state, &self.batch.counts);
            let to = BatchMove {
                organization,
                id,
                state,
                counts,
                pace: self.batch.pace,
            };
            store::move_batch(connection, &to).await?;
            if self.ends {
                let generation = self.batch.generation;
                store::owe_webhook(connection, organization, id, generation, state, counts).await?;
            }
        }
        Ok(())
    }
}

/// How fast a batch goes: from its first document on, and anew after a pause.
fn pace(batch: &BatchToMove, events: &[(i64, EventKind)]) -> Option<Pace> {
    batch.counts.furthest?;
    let ended = batch.counts.ended();
    let paused = |kind: &EventKind| matches!(kind, EventKind::BatchResumed);
    let pace = batch
        .pace
        .filter(|_| !events.iter().any(|(_, kind)| paused(kind)));
    Some(pace.map_or_else(
        || Pace::begin(batch.now_ms, ended),
        |pace| pace.look(batch.now_ms, ended),
    ))
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
        BatchEvent::Retry | BatchEvent::Reopen => EventKind::BatchSealed,
    }
}
