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
    Ended {
        /// It was worked here to its end, and leaves a slot of its batch.
        frees: bool,
    },
    /// The next stage is rung for.
    Ring(Ringable),
    /// This process has leased the next stage, and perhaps another document's first one; the jobs are handed on.
    TakenUp(Vec<TakenUp>),
}

/// A stage that was leased here, and whose job is to be handed on.
pub(super) struct TakenUp {
    job: Ring,
    fence: Fence,
    /// The slot for it.
    reserved: Reserved,
}

impl TakenUp {
    /// Keeps what is leased for `job`, which is about to be handed on to where `reserved` is.
    pub(super) fn new(engine: &Engine, job: Ring, leased: Leased, reserved: Reserved) -> Self {
        let fence = leased.lease.fence;
        engine.granted.keep(reserved.stage(), leased);
        Self {
            job,
            fence,
            reserved,
        }
    }
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
            After::TakenUp(taken_up) => {
                engine.sequencer.ring_soon();
                let handed = taken_up
                    .into_iter()
                    .map(|taken_up| hand_on(&self.0, taken_up, onward));
                // Each to its end, whatever becomes of the others.
                join_all(handed)
                    .await
                    .into_iter()
                    .collect::<Result<(), _>>()?;
            }
            After::Ended { frees } => {
                // A batch may end with it, and a slot of the batch is free again.
                engine.sequencer.ring();
                if frees {
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
            ahead,
            ..
        } = unworked;
        if let Some(ahead) = ahead {
            let hang_up = ahead.drop_work("handed-back");
            if self.0.stop.is_cancelled() {
                hang_up.cancel();
            }
        }
        self.hand_back(&lease, &[], &mut activity).await
    }
}

/// Hands the job of a stage that is leased here on to its worker in this process; if the worker does not get it, the lease
/// goes back.
async fn hand_on(
    engine: &Arc<Engine>,
    taken_up: TakenUp,
    onward: &Onward,
) -> Result<(), ExecuteError> {
    let TakenUp {
        job,
        fence,
        reserved,
    } = taken_up;
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
pub(super) async fn hand_on_all(engine: Arc<Engine>, taken_up: Vec<TakenUp>, onward: Onward) {
    let handed = taken_up.into_iter().map(async |taken_up| {
        let execution = taken_up.fence.execution;
        if let Err(error) = hand_on(&engine, taken_up, &onward).await {
            warn_of(execution, &error);
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
