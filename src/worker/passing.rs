//! Passing a place on: a document that makes no more calls leaves its place in the batch to the next one.
//!
//! What is left of it, its publication, waits for Postgres alone; and a place that stands empty meanwhile, and until
//! the stager has filled it, is time in which a model is not asked. So the settle that ends a document's calls admits
//! the next one and leases its first stage. Only where somebody waits for a model, and while a batch is alone: several
//! share what there is, and that is the stager's to say. Where other workers are, every second place is filled through
//! the queue.
//!
//! Invariants: calls are made for no more documents of a batch than it may have at a time; and a place is passed on only by
//! a document whose publication begins here at once, so that those can't pile up.

use std::sync::atomic::Ordering;

use graphmill_jobs::Ring;
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
    store::{Fence, Passed},
};

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
        let is_alone = self.doorbell.capacity() <= self.own_capacity();
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
    engine.marks.reached(lease.batch, mark);
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
    let job = Ring {
        execution: fence.execution,
        organization: fence.organization,
        epoch: before.epoch,
        version,
        traceparent: None,
    };
    let leased = Leased::new(engine, Stage::Chunk, lease, asked, None);
    TakenUp::new(engine, job, leased, reserved)
}
