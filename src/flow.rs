//! What may happen to a piece of work: stages, the state machines of executions, activities and batches, the
//! failure policies, retries, signals and the events that tell of it all.
//!
//! Pure: no async, no clock, no I/O, and no other room. One transition function per machine; nothing else in the
//! house decides a status, and the SQL CHECKs say the same (`tests/it/machines.rs` compares them).

mod activity;
mod batch;
mod change;
mod counts;
mod delivery;
mod event;
mod execution;
mod failure;
mod headway;
mod pace;
mod policy;
mod protocol;
mod rate;
mod retry;
mod share;
mod signal;
mod stage;

pub use activity::{ActivityEvent, ActivityStatus};
pub use batch::{BatchEvent, BatchState, BatchStateName, NextStep, Progress, Stopping};
pub use change::{Admission, BatchChange, Filling, Intake};
pub use counts::{BatchCounts, ResolutionEnd};
pub use delivery::{DeliveryStatus, Heard, after_attempt};
pub use event::{Event, EventKind, LimitCause, Reached, Replaced, Withdrawn};
pub use execution::{ExecutionEvent, ExecutionStatus};
pub use failure::{Failure, FailureCode};
pub use headway::{Headway, HeadwayStatus};
pub use pace::Pace;
pub use policy::{FailurePolicy, FailureRules, PartialPolicy, Tolerance, Verdict};
pub use protocol::{
    BatchView, ExecutionView, LeaseState, Move, RingView, StageEnd, follows_directly, settled,
};
pub use rate::RequestRate;
pub use retry::RetryPolicy;
pub use share::{Contender, Share, shares};
pub use signal::{Answer, PAUSED_BY_HAND, Signal, Standing};
pub use stage::{Stage, WORKFLOW_VERSION, WorkflowType};

/// A move that a state machine does not allow: a bug, a lost race, or a user who asks a batch for what it can't do as
/// it stands. Trying the same move again does not help while the state is the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal move of {machine}: `{event}` in state `{state}`")]
pub struct IllegalMove {
    /// Which machine refused: `execution`, `activity` or `batch`; of a batch also what kind of one refused.
    pub machine: &'static str,
    /// The state that it was in.
    pub state: &'static str,
    /// What was asked of it.
    pub event: &'static str,
}
