//! Leases that this process took up when it settled the stage before, or admitted the document: the jobs that they are for
//! are on their way to it, through its own desks.
//!
//! Invariant: a lease is taken out once, by the handler that works under it or by whoever gives it back; it is held
//! and renewed until then, and one whose job does not come is given back.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use graphmill_jobs::{Ring, WorkflowExecutionId};
use tokio::time::Instant;

use super::{Engine, head_start::HeadStart, keeper::Hold};
use crate::{
    flow::{Stage, follows_directly},
    metrics::{self, Activity},
    store::{Fence, Lease},
};

/// A lease that this process holds, and counts as an attempt from then on.
pub(super) struct Leased {
    pub(super) lease: Lease,
    pub(super) hold: Hold,
    pub(super) activity: Activity<'static>,
    /// The stage, if it has begun already.
    pub(super) ahead: Option<HeadStart>,
    /// Its end leaves a slot of the batch that may be filled here.
    pub(super) leaves_slot: bool,
}

impl Leased {
    /// `asked`: before the lease was. `ahead`: what was begun for it, and counts from now on.
    pub(super) fn new(
        engine: &Engine,
        stage: Stage,
        lease: Lease,
        asked: Instant,
        ahead: Option<HeadStart>,
    ) -> Self {
        let stops = ahead.as_ref().map(HeadStart::stops).unwrap_or_default();
        let hold = engine.held.hold(lease.fence, asked, stops);
        if engine.stop.is_cancelled() {
            hold.stops.pause.cancel();
        }
        if let Some(ahead) = &ahead {
            ahead.grant();
        }
        Self {
            lease,
            hold,
            activity: metrics::get().work.activity(stage.as_str()),
            ahead,
            leaves_slot: true,
        }
    }
}

#[derive(Default)]
pub(super) struct Granted(Mutex<HashMap<WorkflowExecutionId, Grant>>);

struct Grant {
    stage: Stage,
    leased: Leased,
    since: Instant,
}

impl Granted {
    pub(super) fn keep(&self, stage: Stage, leased: Leased) {
        let execution = leased.lease.fence.execution;
        let grant = Grant {
            stage,
            leased,
            since: Instant::now(),
        };
        let older = self.lock().insert(execution, grant);
        // Outside of the lock: the end of a hold takes another.
        drop(older);
    }

    /// What a job that rings for `stage` finds leased already.
    pub(super) fn take(&self, stage: Stage, ring: &Ring) -> Option<Leased> {
        self.take_if(ring.execution, |grant| {
            grant.stage == stage && follows_directly(ring.epoch, grant.leased.lease.fence.epoch)
        })
    }

    /// The lease again, if no handler has it yet.
    pub(super) fn withdraw(&self, fence: Fence) -> Option<Leased> {
        self.take_if(fence.execution, |grant| grant.leased.lease.fence == fence)
    }

    /// Those whose jobs have not come for so long.
    pub(super) fn forgotten(&self, longer_than: Duration) -> Vec<Leased> {
        self.lock()
            .extract_if(|_, grant| grant.since.elapsed() >= longer_than)
            .map(|(_, grant)| grant.leased)
            .collect()
    }

    fn take_if(
        &self,
        execution: WorkflowExecutionId,
        is_it: impl Fn(&Grant) -> bool,
    ) -> Option<Leased> {
        let mut grants = self.lock();
        if !grants.get(&execution).is_some_and(is_it) {
            return None;
        }
        grants.remove(&execution).map(|grant| grant.leased)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkflowExecutionId, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use graphmill_jobs::OrganizationId;

    use super::*;
    use crate::worker::keeper::{Held, Stops};

    fn leased(held: &Held, epoch: i64, execution: WorkflowExecutionId) -> Leased {
        let fence = Fence {
            organization: OrganizationId::DEFAULT,
            execution,
            epoch,
        };
        Leased {
            hold: held.hold(fence, Instant::now(), Stops::default()),
            activity: metrics::get().work.activity(Stage::Mentions.as_str()),
            ahead: None,
            leaves_slot: true,
            lease: Lease::first(fence, None),
        }
    }

    fn job(epoch: i64, execution: WorkflowExecutionId) -> Ring {
        Ring {
            execution,
            organization: OrganizationId::DEFAULT,
            epoch,
            version: 1,
            traceparent: None,
        }
    }

    #[test]
    fn a_lease_is_taken_once_and_by_the_job_that_it_is_for() {
        let (held, granted) = (Held::default(), Granted::default());
        let execution = WorkflowExecutionId::generate();
        granted.keep(Stage::Mentions, leased(&held, 2, execution));
        // Of another stage, a stale one, and one that is rung after it was lost.
        assert!(granted.take(Stage::Chunk, &job(1, execution)).is_none());
        assert!(granted.take(Stage::Mentions, &job(0, execution)).is_none());
        assert!(granted.take(Stage::Mentions, &job(2, execution)).is_none());
        let taken = granted.take(Stage::Mentions, &job(1, execution)).unwrap();
        assert!(granted.take(Stage::Mentions, &job(1, execution)).is_none());
        assert!(granted.withdraw(taken.lease.fence).is_none());
        assert!(granted.forgotten(Duration::ZERO).is_empty());
    }

    #[test]
    fn a_lease_whose_job_does_not_come_is_found() {
        let (held, granted) = (Held::default(), Granted::default());
        let execution = WorkflowExecutionId::generate();
        granted.keep(Stage::Mentions, leased(&held, 2, execution));
        assert!(granted.forgotten(Duration::from_secs(60)).is_empty());
        let found = granted.forgotten(Duration::ZERO);
        assert_eq!(found.len(), 1);
        // The job may come after all.
        assert!(granted.take(Stage::Mentions, &job(1, execution)).is_none());
        // A later one takes its place: the older was lost to somebody else meanwhile.
        granted.keep(Stage::Mentions, leased(&held, 2, execution));
        granted.keep(Stage::Mentions, leased(&held, 4, execution));
        assert!(granted.take(Stage::Mentions, &job(1, execution)).is_none());
        let taken = granted.take(Stage::Mentions, &job(3, execution)).unwrap();
        assert_eq!(taken.lease.fence.epoch, 4);
    }
}
