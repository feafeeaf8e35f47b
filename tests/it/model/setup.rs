//! How large a model is, what may go wrong in it, and which mistake is built into it.

use graphmill::flow::{FailurePolicy, Stage};

/// What the world or a user does to the system. Each costs one of the budget, and none of it counts as progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A worker dies and comes back empty.
    Crash,
    /// A worker stands still, its leases run out, and it goes on later as if nothing had happened.
    Freeze,
    /// Redis loses everything.
    Flush,
    /// A job turns up that nobody pushed just now: a duplicate, a stale or a made-up one.
    Foreign,
    /// A ring is lost between the commit and the push, or does not fit its queue's window.
    LostRing,
    /// A worker drains, and hands its lease back.
    Drain,
    /// A unit fails: its stage is postponed, or out of tries.
    Trouble,
    /// Somebody cancels the execution.
    Cancel,
    /// [`Fault::Crash`], but only before the settle.
    EarlyCrash,
}

impl Fault {
    /// Every fault; an early crash is a crash.
    pub(crate) const ALL: [Self; 8] = [
        Self::Crash,
        Self::Freeze,
        Self::Flush,
        Self::Foreign,
        Self::LostRing,
        Self::Drain,
        Self::Trouble,
        Self::Cancel,
    ];
}

/// A mistake that a developer could make, or a line of defence that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The settle's `where` names the execution and forgets the epoch.
    SettleWithoutEpoch,
    /// The settle's `where` names the epoch and forgets that the lease may have been taken away without a successor.
    SettleWithoutOwner,
    /// A takeover writes a new owner and leaves the epoch as it is.
    LeaseKeepsEpoch,
    /// The lease forgets to ask whether somebody holds one.
    LeaseOverLive,
    /// The lease compares the epoch, and trusts the queue that a job is for the stage that the row is in.
    LeaseWithoutStage,
    /// The lease compares the stage, as if a job said no more than "work this stage": jobs without an epoch.
    LeaseWithoutEpoch,
    /// The successor is pushed, then the transaction commits: "to save the round trip".
    PushFirst,
    /// The job is acknowledged when it is fetched, as queues do by default.
    AckFirst,
    /// The sweeper rings for what was never rung, and takes every ring for answered sooner or later.
    SweepWithoutPatience,
    /// The sweeper does not ask which Redis a ring went to.
    SweepWithoutIncarnation,
    /// There is no sweeper.
    NoSweep,
    /// Stops are left to the holder of the lease, who may be gone.
    NoOrphanedStops,
    /// What a process kept of a document is used whenever it is there.
    RecentWithoutEpoch,
    /// No mistake, another design: the queue delivers a dead worker's job again, once its lease is over.
    Redelivery,
}

/// One model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) executions: usize,
    pub(crate) workers: usize,
    /// Where the executions begin; the later, the smaller the model.
    pub(crate) first: Stage,
    /// Units of every stage.
    pub(crate) units: u8,
    /// How many faults there are in all.
    pub(crate) budget: u8,
    pub(crate) faults: &'static [Fault],
    pub(crate) policy: FailurePolicy,
    pub(crate) max_retries: i32,
    pub(crate) flaws: &'static [Flaw],
}

impl Setup {
    /// One document with two stages to go, two units each, and two workers.
    pub(crate) const SMALL: Self = Self {
        executions: 1,
        workers: 2,
        first: Stage::Relations,
        units: 2,
        budget: 2,
        faults: &Fault::ALL,
        policy: FailurePolicy::RetryFailed,
        max_retries: 1,
        flaws: &[],
    };

    pub(crate) fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }

    pub(crate) fn allows(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The stages that the model goes through.
    pub(crate) fn road(&self) -> impl Iterator<Item = Stage> {
        std::iter::successors(Some(self.first), |stage| stage.next())
    }

    /// All units of a stage, as a mask.
    pub(crate) const fn whole(&self) -> u8 {
        (1 << self.units) - 1
    }
}
