//! Leases that this process took up when it settled the stage before: the jobs that they are for are on their way to
//! it, through its own desks.
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

use super::keeper::Hold;
use crate::{
    flow::{Stage, follows_directly},
    store::{Fence, Lease},
};

#[derive(Default)]
pub(super) struct Granted(Mutex<HashMap<WorkflowExecutionId, Grant>>);

struct Grant {
    stage: Stage,
    lease: Lease,
    hold: Hold,
    since: Instant,
}

impl Granted {
    pub(super) fn keep(&self, stage: Stage, lease: Lease, hold: Hold) {
        let grant = Grant {
            stage,
            hold,
            since: Instant::now(),
            lease,
        };
        self.lock().insert(grant.lease.fence.execution, grant);
    }

    /// What a job that rings for `stage` finds leased already.
    pub(super) fn take(&self, stage: Stage, ring: &Ring) -> Option<(Lease, Hold)> {
        self.take_if(ring.execution, |grant| {
            grant.stage == stage && follows_directly(ring.epoch, grant.lease.fence.epoch)
        })
    }

    /// The lease again, if no handler has it yet.
    pub(super) fn withdraw(&self, fence: Fence) -> Option<(Lease, Hold)> {
        self.take_if(fence.execution, |grant| grant.lease.fence == fence)
    }

    /// Those whose jobs have not come for so long.
    pub(super) fn forgotten(&self, longer_than: Duration) -> Vec<(Lease, Hold)> {
        self.lock()
            .extract_if(|_, grant| grant.since.elapsed() >= longer_than)
            .map(|(_, grant)| (grant.lease, grant.hold))
            .collect()
    }

    fn take_if(
        &self,
        execution: WorkflowExecutionId,
        is_it: impl Fn(&Grant) -> bool,
    ) -> Option<(Lease, Hold)> {
        let mut grants = self.lock();
        if !grants.get(&execution).is_some_and(is_it) {
            return None;
        }
        let grant = grants.remove(&execution)?;
        Some((grant.lease, grant.hold))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkflowExecutionId, Grant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
