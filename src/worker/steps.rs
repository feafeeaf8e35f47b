//! The steps of answering a ring, made visible: whoever tests recovery must act at an exact one (kill the process
//! after the commit and before the push, say), not somewhere near it.
//!
//! Knows nothing of what a watcher does. Without one, a step costs an atomic load.

use std::sync::OnceLock;

use graphmill_jobs::WorkflowExecutionId;

use crate::flow::Stage;

/// A step of answering a ring, in order; the lease is held from [`Step::Leased`] until [`Step::Settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The lease is granted; nothing was written under it. A stage with a head start has begun its calls.
    Leased,
    /// The checkpoint of a unit is durable, and others are still to come.
    UnitDone,
    /// The work is done; nothing of the settle was sent.
    Worked,
    /// The settle is committed; the successor was not rung for.
    Settled,
    /// The successor was rung for; the ring that was answered is not acknowledged.
    Rung,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [
        Self::Leased,
        Self::UnitDone,
        Self::Worked,
        Self::Settled,
        Self::Rung,
    ];

    /// The step's name in flags and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::UnitDone => "unit-done",
            Self::Worked => "worked",
            Self::Settled => "settled",
            Self::Rung => "rung",
        }
    }
}

type Watcher = Box<dyn Fn(Stage, Step, WorkflowExecutionId) + Send + Sync>;

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has `watcher` called at every step of every stage in this process, on the task that takes the step. The first
/// watcher stays; a later one is dropped.
pub fn watch_steps(watcher: impl Fn(Stage, Step, WorkflowExecutionId) + Send + Sync + 'static) {
    // A second watcher would be a test's mistake, and no reason to stop.
    let _ = WATCHER.set(Box::new(watcher));
}

/// Says that `execution` has come to `step` of `stage`.
pub(super) fn reached(stage: Stage, step: Step, execution: WorkflowExecutionId) {
    if let Some(watcher) = WATCHER.get() {
        watcher(stage, step, execution);
    }
}
