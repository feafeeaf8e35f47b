//! The decisions of the protocol, as pure functions: who may be admitted, rung for, leased, written to and stopped,
//! and what a settled stage moves.
//!
//! Most of them are taken inside SQL statements, because they must be taken under the row's lock; each function names
//! the statements that say the same. `tests/it/decisions.rs` compares the two over every combination of what they
//! look at, and `tests/it/model.rs` explores what follows from them. Whoever changes one changes the other.

use super::{
    ActivityEvent, ActivityStatus, ExecutionEvent, ExecutionStatus, IllegalMove, Stage, Verdict,
    WORKFLOW_VERSION,
};

/// The lease of an execution's row, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseState {
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Live,
    /// Somebody held it and did not renew it; his name still stands in the row.
    Expired,
}

impl LeaseState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Free, Self::Live, Self::Expired];
}

/// What is known of the last ring for an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingView {
    /// A job was pushed at some time.
    pub rung: bool,
    /// So long ago that it should have been answered.
    pub overdue: bool,
    /// To the Redis that is there now.
    pub here: bool,
}

/// What the statements look at in the row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchView {
    /// It is being cancelled or aborted.
    pub stopping: bool,
    /// It is paused.
    pub paused: bool,
    /// It has ended.
    pub ended: bool,
}

/// What the statements look at in the row of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExecutionView {
    /// Where it stands.
    pub status: ExecutionStatus,
    /// The stage that it waits for or is in.
    pub stage: Stage,
    /// The lease's epoch.
    pub epoch: i64,
    /// The lease.
    pub lease: LeaseState,
    /// Its due time has come.
    pub due: bool,
    /// It is paused.
    pub paused: bool,
    /// Somebody asked it to stop while it was leased.
    pub stop_requested: bool,
    /// Its workflow version.
    pub version: i32,
}

impl ExecutionView {
    /// Whether the stager may give it a slot (`store::admit`, its concurrency aside).
    #[must_use]
    pub fn may_admit(&self, batch: BatchView) -> bool {
        self.status.on(ExecutionEvent::Admit).is_ok()
            && self.due
            && !self.paused
            && self.version <= WORKFLOW_VERSION
            && !(batch.stopping || batch.paused || batch.ended)
    }

    /// Whether a job gets the lease (`store::lease`; of the stage that follows one, `store::settle`; of what was just
    /// admitted, `store::admit_from`): it still tells the truth, there is something to do, and nobody does it.
    #[must_use]
    pub fn may_lease(&self, batch: BatchView, stage: Stage, epoch: i64) -> bool {
        self.tells_the_truth(stage, epoch)
            && self.is_to_be_worked()
            && !(batch.stopping || batch.paused)
    }

    /// Whether a job's stage and epoch are the row's. An epoch is used up by the lease that it gave, so that of all
    /// copies of a job one at most is answered.
    #[must_use]
    pub fn tells_the_truth(&self, stage: Stage, epoch: i64) -> bool {
        self.stage == stage && self.epoch == epoch
    }

    /// Whether the sweeper rings for it (`store::to_ring`): there is something to do, nobody does it, and no job is
    /// known to be on its way.
    #[must_use]
    pub fn must_ring(&self, batch: BatchView, ring: RingView) -> bool {
        self.is_to_be_worked() && !batch.paused && (!ring.rung || ring.overdue || !ring.here)
    }

    /// Whether it can be worked, and nobody works it.
    fn is_to_be_worked(&self) -> bool {
        self.status == ExecutionStatus::Processing
            && self.due
            && self.lease != LeaseState::Live
            && !self.paused
            && !self.stop_requested
            && self.version <= WORKFLOW_VERSION
    }

    /// Whether a write under the lease of `epoch` counts (`store::settle`, `store::release`, `store::record_units`,
    /// `store::renew_leases`): nobody leased it since, and nobody took the lease away. An expired lease that nobody
    /// took still serves: its work is whole.
    #[must_use]
    pub fn may_write(&self, epoch: i64) -> bool {
        self.epoch == epoch && self.lease != LeaseState::Free
    }

    /// Whether a stop can be applied to the row at once (`store::answer_signals`, `store::cancel_stopped`): it is not final, and no holder is there to do it.
    #[must_use]
    pub fn may_stop(&self) -> bool {
        self.status.on(ExecutionEvent::Cancel).is_ok() && self.lease != LeaseState::Live
    }
}

/// Whether what a process kept of the settle at `settled` is all there is to know under the lease `leased`: nobody
/// held the execution in between, so nobody can have added a checkpoint.
#[must_use]
pub const fn follows_directly(settled: i64, leased: i64) -> bool {
    settled + 1 == leased
}

/// How the work on a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageEnd {
    /// Every unit is done, or failed for good where that is allowed.
    Done,
    /// To be tried again later.
    Postponed,
    /// Out of tries; what the policy says about it.
    Failed(Verdict),
    /// Stopped on request.
    Stopped,
}

/// The move that settles a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// The execution's next status.
    pub status: ExecutionStatus,
    /// The stage that it waits for or ended in.
    pub stage: Stage,
    /// How the attempt ended.
    pub activity: ActivityStatus,
}

/// What follows from the end of `stage` for an execution that is in `processing`: the machines' answer, which
/// `store::settle` writes as it is.
///
/// # Errors
/// [`IllegalMove`]: a bug in the machines; trying again does not help.
pub fn settled(stage: Stage, end: StageEnd) -> Result<Move, IllegalMove> {
    let from = ExecutionStatus::Processing;
    let (status, activity) = match (end, stage.next()) {
        (StageEnd::Done, Some(_)) => (from.on(ExecutionEvent::Advance)?, ActivityEvent::Complete),
        (StageEnd::Done, None) => (from.on(ExecutionEvent::Complete)?, ActivityEvent::Complete),
        (StageEnd::Postponed, _) => (from.on(ExecutionEvent::Postpone)?, ActivityEvent::Fail),
        (StageEnd::Failed(verdict), _) => {
            let failed = from.on(ExecutionEvent::Fail)?;
            let status = match verdict {
                Verdict::AwaitRound => failed,
                Verdict::Abandon => failed.on(ExecutionEvent::Abandon)?,
            };
            (status, ActivityEvent::Fail)
        }
        (StageEnd::Stopped, _) => (from.on(ExecutionEvent::Cancel)?, ActivityEvent::Cancel),
    };
    Ok(Move {
        status,
        stage: match end {
            StageEnd::Done => stage.next().unwrap_or(stage),
            StageEnd::Postponed | StageEnd::Failed(_) | StageEnd::Stopped => stage,
        },
        activity: ActivityStatus::Running.on(activity)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: BatchView = BatchView {
        stopping: false,
        paused: false,
        ended: false,
    };

    fn row(lease: LeaseState) -> ExecutionView {
        ExecutionView {
            status: ExecutionStatus::Processing,
            stage: Stage::Mentions,
            epoch: 3,
            lease,
            due: true,
            paused: false,
            stop_requested: false,
            version: WORKFLOW_VERSION,
        }
    }

    #[test]
    fn whoever_may_be_leased_may_be_rung_for_and_the_other_way_round() {
        let missing = RingView {
            rung: false,
            overdue: false,
            here: false,
        };
        for lease in LeaseState::ALL {
            let row = row(lease);
            assert_eq!(
                row.may_lease(OPEN, row.stage, row.epoch),
                row.must_ring(OPEN, missing),
                "{lease:?}: a ring that nobody can answer, or an answer that nobody rings for"
            );
        }
    }

    #[test]
    fn an_expired_lease_serves_until_somebody_takes_it() {
        assert!(row(LeaseState::Expired).may_write(3));
        assert!(!row(LeaseState::Expired).may_write(2));
        assert!(!row(LeaseState::Free).may_write(3));
    }

    #[test]
    fn a_stage_that_is_done_leads_to_the_next_and_the_last_one_ends_it() {
        for stage in Stage::ALL {
            let done = settled(stage, StageEnd::Done).unwrap();
            assert_eq!(done.status.is_final(), stage.next().is_none(), "{stage}");
            assert_eq!(done.stage, stage.next().unwrap_or(stage));
            for end in [
                StageEnd::Postponed,
                StageEnd::Failed(Verdict::AwaitRound),
                StageEnd::Failed(Verdict::Abandon),
                StageEnd::Stopped,
            ] {
                let moved = settled(stage, end).unwrap();
                assert_eq!(moved.stage, stage, "{end:?}");
                assert!(moved.activity.is_final());
                assert_ne!(moved.status, ExecutionStatus::Processing);
            }
        }
    }
}
