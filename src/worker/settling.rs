//! What the executor writes: the settle of a stage, in one transaction, and what is given back before it is through.
//!
//! Every write is fenced by the lease. A transaction whose outcome is unknown is looked up in the rows.

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    executor::{Answered, ExecuteError, Executor},
    granted::Leased,
    settle::{self, Decision},
    succession::After,
    worked::{Output, Worked},
};
use crate::{
    flow::{ExecutionStatus, Failure, FailureCode, Signal, Stage},
    metrics::{self, Activity},
    pipeline::CheckpointError,
    store::{
        self, CheckpointRow, Fence, Lease, Patience, Ringable, Settled, Settlement, StoreError,
        Takeover,
    },
};

/// What a settle writes.
#[derive(Clone, Copy)]
struct Write<'a> {
    stage: Stage,
    lease: &'a Lease,
    checkpoints: &'a [CheckpointRow],
    output: &'a Output,
    takeover: Option<Takeover>,
}

/// Where the execution stands after a settle, and which attempt at the next stage is leased with it; `None` if the
/// lease was lost.
type Written = Option<(ExecutionStatus, Option<i32>)>;

impl Executor {
    /// Writes everything that the stage gave in one transaction; returns what is to be done about the next one.
    pub(super) async fn settle(
        &self,
        answered: Answered<'_>,
        mut worked: Worked,
        activity: &mut Activity<'_>,
    ) -> Result<After, ExecuteError> {
        let engine = &*self.0;
        let Answered { stage, lease, .. } = answered;
        let mut decision = settle::decide(stage, lease, worked.end, worked.reached)?;
        let reserved = self.reserve(lease, &decision, answered.onward);
        let mut next = Lease {
            fence: Fence {
                epoch: lease.fence.epoch + 1,
                ..lease.fence
            },
            partial: decision.partial,
            suspect: false,
            ..lease.clone()
        };
        let mut ahead = None;
        if reserved.is_some() {
            let settled = &mut worked.keep;
            // Large, and most stages have none.
            let begun = self.head_start(answered, decision.stage, &next, settled);
            ahead = Box::pin(begun).await;
        }
        let takeover = reserved.as_ref().map(|_| Takeover {
            owner: engine.id,
            lasts: engine.settings.lease,
        });
        let write = Write {
            stage,
            lease,
            checkpoints: &worked.checkpoints,
            output: &worked.output,
            takeover,
        };
        let (mut patience, mut in_doubt) = (Patience::new(), false);
        let asked = Instant::now();
        let written = loop {
            match self.write(&write, &mut decision).await {
                // The commit may have gone through before the connection broke.
                Err(error) if patience.again(&error).await => in_doubt = true,
                // Its own commit may be what has overtaken it.
                Ok(None) | Err(StoreError::Overtaken) if in_doubt => {
                    break self.look_up(stage, lease).await?;
                }
                result => break result?,
            }
        };
        let Some((status, attempt)) = written else {
            return Err(CheckpointError::LeaseLost.into());
        };
        if let Some(ahead) = ahead.take_if(|_| attempt.is_none()) {
            self.began_in_vain(lease.fence, ahead).await;
        }
        if let Some(settled) = worked.keep {
            engine.recent.keep(lease.fence, settled);
        }
        activity.ended(decision.activity.as_str());
        Self::tell(&decision);
        if status != ExecutionStatus::Processing {
            return Ok(After::Ended(status));
        }
        let (Some(attempt), Some(reserved)) = (attempt, reserved) else {
            return Ok(After::Ring(Ringable {
                organization: lease.fence.organization,
                batch: lease.batch,
                execution: lease.fence.execution,
                epoch: lease.fence.epoch,
                stage: decision.stage,
                version: answered.ring.version,
            }));
        };
        let fence = next.fence;
        next.attempt = attempt;
        let next = Leased::new(engine, decision.stage, next, asked, ahead);
        engine.granted.keep(decision.stage, next);
        Ok(After::TakenUp(fence, reserved))
    }

    /// Where the execution stands if the settle was committed after all; `None` if somebody else has taken it up.
    async fn look_up(&self, stage: Stage, lease: &Lease) -> Result<Written, StoreError> {
        let mut read = self.0.store.app(lease.fence.organization).await?;
        store::settled_status(&mut read, lease.fence, stage, self.0.id).await
    }

    /// One try of the settle's transaction.
    async fn write(
        &self,
        write: &Write<'_>,
        decision: &mut Decision,
    ) -> Result<Written, StoreError> {
        let Write {
            stage,
            lease,
            checkpoints,
            output,
            takeover,
        } = *write;
        let fence = lease.fence;
        let mut transaction = self.0.store.app(fence.organization).await?;
        // What the events tell of comes before the settle; all else after it, when the lease is known to be held.
        match output {
            Output::None | Output::Chunks(_) => {}
            Output::Graph(..) => {
                if let (true, Some(document)) = (lease.generation > 1, lease.document) {
                    let replaced =
                        store::drop_older_graphs(&mut transaction, fence, document).await?;
                    decision.replaces(replaced);
                }
            }
            Output::Resolution(resolution) => {
                store::publish_resolution(&mut transaction, fence, lease.batch, *resolution)
                    .await?;
            }
        }
        let settled = Settled {
            status: decision.status,
            stage: decision.stage,
            worked: stage,
            activity: decision.activity,
            partial: decision.partial,
            wait: decision.wait,
            error: decision.error.as_ref(),
            output: decision.output.clone(),
            checkpoint: decision.checkpoint.clone(),
            units: checkpoints,
            incarnation: self.0.doorbell.incarnation(),
            events: &decision.events,
            takeover,
        };
        let settlement = store::settle(&mut transaction, fence, lease.batch, &settled).await?;
        if settlement == Settlement::Lost {
            return Ok(None);
        }
        match output {
            Output::None | Output::Resolution(_) => {}
            Output::Chunks(chunks) => store::add_chunks(&mut transaction, fence, chunks).await?,
            Output::Graph(text, graph) => {
                store::add_graph(&mut transaction, fence, text, graph).await?;
            }
        }
        let mut attempt = None;
        let status = match settlement {
            Settlement::Lost => return Ok(None),
            Settlement::Written => decision.status,
            Settlement::TakenUp(which) => {
                attempt = Some(which);
                decision.status
            }
            Settlement::Signalled => {
                let heard =
                    (decision.status == ExecutionStatus::Cancelled).then_some(Signal::Cancel);
                let (organization, execution) = (fence.organization, fence.execution);
                store::answer_signals(&mut transaction, organization, execution, heard)
                    .await?
                    .unwrap_or(decision.status)
            }
        };
        transaction.commit().await?;
        Ok(Some((status, attempt)))
    }

    /// Gives the lease back before the stage is through, with the checkpoints of what is.
    pub(super) async fn hand_back(
        &self,
        lease: &Lease,
        checkpoints: &[CheckpointRow],
        activity: &mut Activity<'_>,
    ) -> Result<(), ExecuteError> {
        let mut patience = Patience::new();
        loop {
            match self.write_back(lease, checkpoints).await {
                Err(error) if patience.again(&error).await => {}
                result => {
                    if result? {
                        activity.handed_back();
                        info!("handed back");
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn write_back(
        &self,
        lease: &Lease,
        checkpoints: &[CheckpointRow],
    ) -> Result<bool, StoreError> {
        let fence = lease.fence;
        let mut transaction = self.0.store.app(fence.organization).await?;
        if !checkpoints.is_empty()
            && !store::record_units(&mut transaction, fence, checkpoints).await?
        {
            return Ok(false);
        }
        let reason = Failure::transient(
            FailureCode::HandedBack,
            "the worker was asked to pause or to stop, and handed it back",
        );
        let released = store::release(&mut transaction, fence, &reason).await?;
        let (organization, execution) = (fence.organization, fence.execution);
        store::answer_signals(&mut transaction, organization, execution, None).await?;
        transaction.commit().await?;
        Ok(released)
    }

    /// Logs and counts a failure once, where it is settled.
    fn tell(decision: &Decision) {
        let Some(failure) = &decision.error else {
            return;
        };
        let (status, code, cause) = (decision.status, failure.code.as_str(), &failure.message);
        let (work, stage) = (&metrics::get().work, decision.stage.as_str());
        match decision.status {
            ExecutionStatus::Retry => {
                work.retried(stage, code);
                let wait = decision.wait.as_millis();
                info!(%status, code, cause, wait_ms = wait, "a stage will be tried again");
            }
            ExecutionStatus::Queued
            | ExecutionStatus::Processing
            | ExecutionStatus::Failed
            | ExecutionStatus::Completed
            | ExecutionStatus::Abandoned
            | ExecutionStatus::Cancelled => {
                work.failed(stage, code);
                warn!(%status, code, cause, "a document failed");
            }
        }
    }
}
