//! Passing a place on: a document that makes no more calls leaves its place in the batch to the next one.
//!
//! What is left of it, its publication, waits for Postgres alone; and a place that stands empty meanwhile, and until
//! the stager has filled it, is time in which a model is not asked. So the settle that ends a document's calls admits
//! the next one and leases its first stage. Only where somebody waits for a model, and while a batch is alone: several
//! share what there is, and that is the stager's to say.
//!
//! Nor is it so where other workers are: there every second place is filled through the queue.
//!
//! Invariants: calls are made for no more documents of a batch than it may have at a time; and a place is passed on only by
//! a document whose publication begins here at once, so that those can't pile up.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use graphmill_jobs::{BatchId, Ring};
use tokio::time::Instant;

use super::{
    Engine, executor::Answered, granted::Leased, recent, settle::Decision, succession::TakenUp,
};
use crate::{
    flow::Stage,
    graph::Text,
    metrics,
    pipeline::Document,
    queue::Reserved,
    store::{Fence, Mark, Passed},
};

/// How long a mark is remembered: what became due before it waits that long at most, or for the stager.
const REMEMBER: Duration = Duration::from_secs(1);
/// How long nobody is looked for where nobody was found: it costs a look at all that was admitted before. The stager looks
/// as often.
const NOBODY: Duration = Duration::from_millis(250);

/// Where passing on has come to among what is due in each batch.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<BatchId, Reached>>);

struct Reached {
    /// None: nobody was found.
    mark: Option<Mark>,
    until: Instant,
}

impl Marks {
    /// Where to look from, if anywhere was reached.
    pub(super) fn of(&self, batch: BatchId) -> Option<Mark> {
        self.lock().get(&batch)?.mark
    }

    /// Whether nobody was found a moment ago.
    fn is_in_vain(&self, batch: BatchId) -> bool {
        let now = Instant::now();
        let mut marks = self.lock();
        marks.retain(|_, reached| now < reached.until);
        marks
            .get(&batch)
            .is_some_and(|reached| reached.mark.is_none())
    }

    /// The first mark says for how long it and its successors hold: now and then the whole is looked at.
    pub(super) fn reached(&self, batch: BatchId, mark: Option<Mark>) {
        let mut marks = self.lock();
        let Some(mark) = mark else {
            let until = Instant::now() + NOBODY;
            marks.insert(batch, Reached { mark: None, until });
            return;
        };
        let known = marks.entry(batch).or_insert_with(|| Reached {
            mark: Some(mark),
            until: Instant::now() + REMEMBER,
        });
        known.mark = known.mark.max(Some(mark));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BatchId, Reached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a document's place when its calls have ended.
pub(super) enum Place {
    /// It keeps it until its end.
    Kept,
    /// It is passed on to one for which there is a slot here.
    PassedOn(Reserved),
    /// It keeps it until its end, and leaves it to whoever has room then.
    LeftToOthers,
}

impl Place {
    pub(super) const fn slot(&self) -> Option<&Reserved> {
        match self {
            Self::PassedOn(slot) => Some(slot),
            Self::Kept | Self::LeftToOthers => None,
        }
    }
}

impl Engine {
    /// Whether the place of a document that is worked here is filled here. Beside other workers only every second one
    /// is: the others go through the queue, so that whoever has come later, or has less to do, gets his part.
    pub(super) fn keeps_place(&self) -> bool {
        let own = self.settings.slots * Stage::Resolve as usize;
        let is_alone = self.doorbell.capacity() <= own;
        is_alone
            || self
                .places
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(2)
    }
}

/// What becomes of the place of the document that is settled.
pub(super) fn place(engine: &Engine, of: Answered<'_>, decision: &Decision) -> Place {
    let batch = of.lease.batch;
    let is_alone = engine.shares.know(batch) && engine.shares.most(batch).is_none();
    // Whoever has been worked before is read and rung for by others.
    let passes = decision.stage == Stage::Assemble
        && of.lease.generation == 1
        && is_alone
        && !engine.marks.is_in_vain(batch)
        && !engine.doorbell.is_away();
    if !passes {
        return Place::Kept;
    }
    if !engine.keeps_place() {
        return Place::LeftToOthers;
    }
    let first = engine.shares.goes_first(batch);
    of.onward
        .reserve(Stage::Chunk, first)
        .map_or(Place::Kept, Place::PassedOn)
}

/// The document has come to its place: its first stage is leased here, and begins with what was read of it. `asked`:
/// before that.
pub(super) fn takes_up(
    engine: &Engine,
    passed: Passed,
    asked: Instant,
    reserved: Reserved,
) -> TakenUp {
    let Passed {
        lease,
        version,
        name,
        text,
        mark,
    } = passed;
    engine.marks.reached(lease.batch, Some(mark));
    metrics::get().work.admitted(1);
    let fence = lease.fence;
    let before = Fence {
        epoch: fence.epoch - 1,
        ..fence
    };
    if let Some(text) = text {
        let document = Document {
            name: name.into(),
            text: Text::new(text),
        };
        let settled = recent::Settled {
            document,
            records: Vec::new(),
            earlier: None,
        };
        engine.recent.keep(before, settled);
    }
    let leased = Leased::new(engine, Stage::Chunk, lease, asked, None);
    engine.granted.keep(Stage::Chunk, leased);
    let job = Ring {
        execution: fence.execution,
        organization: fence.organization,
        epoch: before.epoch,
        version,
        traceparent: None,
    };
    TakenUp {
        job,
        fence,
        reserved,
    }
}
