//! What follows a settle: the next stage is rung for, or handed on to this process' own worker of it with the lease
//! that came with the settle. A document that is completed leaves its slot to the stager, who goes on with another one in the
//! same way.
//!
//! Invariants: a stage is taken up only with a slot for it; and a lease whose job does not reach its worker is given
//! back, at once or by the sweeper.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use graphmill_jobs::{Ring, WorkflowExecutionId};
use tracing::warn;

use super::{
    Engine, doorbell,
    executor::{ExecuteError, Executor},
    granted::Leased,
    settle::Decision,
};
use crate::{
    flow::ExecutionStatus,
    metrics,
    queue::{Onward, Reserved},
    store::{Fence, Lease, Ringable},
};

/// What is to be done after a settle.
pub(super) enum After {
    /// The execution has ended, or waits.
    Ended(ExecutionStatus),
    /// The next stage is rung for.
    Ring(Ringable),
    /// This process has leased the next stage, and its job is handed on.
    TakenUp(Fence, Reserved),
}

impl Executor {
    /// A slot for the next stage, if this process can go on with it.
    pub(super) fn reserve(
        &self,
        lease: &Lease,
        decision: &Decision,
        onward: &Onward,
    ) -> Option<Reserved> {
        let engine = &*self.0;
        let goes_on = decision.status == ExecutionStatus::Processing
            && !engine.workplace.is_worn_out()
            && !engine.stop.is_cancelled();
        let first = engine.shares.goes_first(lease.batch);
        goes_on
            .then(|| onward.reserve(decision.stage, first))
            .flatten()
    }

    /// Does what is to be done after a settle under `lease`, which `ring` had asked for.
    pub(super) async fn go_on(
        &self,
        ring: &Ring,
        lease: &Lease,
        after: After,
        onward: &Onward,
    ) -> Result<(), ExecuteError> {
        let engine = &*self.0;
        match after {
            After::Ring(next) => {
                engine.sequencer.ring_soon();
                doorbell::ring(engine, vec![next], false).await;
            }
            After::TakenUp(next, reserved) => {
                engine.sequencer.ring_soon();
                let job = Ring {
                    epoch: lease.fence.epoch,
                    // The batch's row has it.
                    traceparent: None,
                    ..ring.clone()
                };
                hand_on(&self.0, job, next, reserved, onward).await?;
            }
            After::Ended(status) => {
                // A batch may end with it, and a slot of the batch is free again.
                engine.sequencer.ring();
                // Whoever can't work a batch is done with its documents soon, and must not draw them all to himself.
                let worked = status == ExecutionStatus::Completed && lease.document.is_some();
                if worked {
                    engine.stager.freed(ring.organization, lease.batch);
                } else {
                    engine.stager.ring(ring.organization, lease.batch);
                }
            }
        }
        Ok(())
    }

    /// Gives a lease back whose job did not come, or must not begin.
    async fn hand_back_unworked(&self, unworked: Leased) -> Result<(), ExecuteError> {
        let Leased {
            lease,
            hold: _hold,
            mut activity,
            ..
        } = unworked;
        self.hand_back(&lease, &[], &mut activity).await
    }
}

/// Hands the job of a stage that is leased here on to its worker in this process; if the worker does not get it, the lease
/// under `fence` goes back.
async fn hand_on(
    engine: &Arc<Engine>,
    job: Ring,
    fence: Fence,
    reserved: Reserved,
    onward: &Onward,
) -> Result<(), ExecuteError> {
    let stage = reserved.stage();
    if reserved.hand(job.clone()).await {
        metrics::get().work.rung(stage.as_str(), "handed_on", 1);
    } else if let Some(unworked) = engine.granted.withdraw(fence) {
        let executor = Executor(Arc::clone(engine));
        if unworked.ahead.is_some() {
            // Its calls go on to their checkpoints, as those of any stage in work do.
            Box::pin(executor.work_on(stage, &job, unworked, onward)).await?;
        } else {
            executor.hand_back_unworked(unworked).await?;
        }
    }
    Ok(())
}

/// The same for several at once: the worker takes them in one turn.
pub(super) async fn hand_on_all(
    engine: Arc<Engine>,
    jobs: Vec<(Ring, Fence, Reserved)>,
    onward: Onward,
) {
    let handed = jobs.into_iter().map(async |(job, fence, reserved)| {
        if let Err(error) = hand_on(&engine, job, fence, reserved, &onward).await {
            warn_of(fence.execution, &error);
        }
    });
    join_all(handed).await;
}

/// Gives back leases whose jobs have not come for so long.
pub(super) async fn give_back(engine: &Arc<Engine>, longer_than: Duration) {
    for unworked in engine.granted.forgotten(longer_than) {
        let execution = unworked.lease.fence.execution;
        let executor = Executor(Arc::clone(engine));
        if let Err(error) = executor.hand_back_unworked(unworked).await {
            warn_of(execution, &error);
        }
    }
}

/// Says that a lease is left to run out.
fn warn_of(execution: WorkflowExecutionId, error: &ExecuteError) {
    warn!(
        error = error as &dyn std::error::Error,
        execution.id = %execution,
        "a lease could not be given back"
    );
}
