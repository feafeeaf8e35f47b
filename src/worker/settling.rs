//! What the executor writes: the settle of a stage, in one transaction, and what is given back before it is through.
//!
//! Every write is fenced by the lease. A transaction whose outcome is unknown is looked up in the rows.

use graphmill_jobs::Ring;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    executor::{Answered, ExecuteError, Executor},
    granted::Leased,
    passing::{self, Place},
    settle::{self, Decision},
    succession::{After, TakenUp},
    worked::{Output, Worked},
};
use crate::{
    flow::{ExecutionStatus, Failure, FailureCode, Signal, Stage},
    metrics::{self, Activity},
    pipeline::CheckpointError,
    store::{
        self, CheckpointRow, Fence, Lease, Passed, Patience, Ringable, Settled, Settlement,
        StoreError, Takeover,
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
    /// Who takes up a document that comes to this one's place.
    passes_to: Option<Takeover>,
}

/// What a settle came to.
struct Written {
    /// Where the execution stands.
    status: ExecutionStatus,
    /// Which attempt at the next stage is leased with it.
    attempt: Option<i32>,
    /// Who has come to its place.
    passed: Option<Passed>,
}

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
        // Whoever takes its process down must be found at the stage that does it: what is suspected goes step by step.
        if reserved.is_some() && !lease.suspect {
            let settled = &mut worked.keep;
            // Large, and most stages have none.
            let begun = self.head_start(answered, decision.stage, &next, settled);
            ahead = Box::pin(begun).await;
        }
        let place = match &ahead {
            Some(_) => passing::place(engine, answered, &decision),
            None => Place::Kept,
        };
        let mut write = Write {
            stage,
            lease,
            checkpoints: &worked.checkpoints,
            output: &worked.output,
            takeover: reserved.as_ref().map(|_| engine.takeover()),
            passes_to: place.slot().map(|_| engine.takeover()),
        };
        let asked = Instant::now();
        let written = self.write_through(&mut write, &mut decision).await;
        let is_granted = matches!(
            &written,
            Ok(Some(Written {
                attempt: Some(_),
                ..
            }))
        );
        if let Some(ahead) = ahead.take_if(|_| !is_granted) {
            self.began_in_vain(lease.fence, ahead).await;
        }
        let Some(Written {
            status,
            attempt,
            passed,
        }) = written?
        else {
            return Err(CheckpointError::LeaseLost.into());
        };
        if let Some(settled) = worked.keep {
            engine.recent.keep(lease.fence, settled);
        }
        activity.ended(decision.activity.as_str());
        Self::tell(&decision);
        if status != ExecutionStatus::Processing {
            return Ok(After::Ended {
                // Whoever can't work a batch is done with its documents soon, and must not draw them all to himself.
                frees: status == ExecutionStatus::Completed
                    && lease.document.is_some()
                    && answered.leaves_slot
                    && engine.keeps_place(),
            });
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
        next.attempt = attempt;
        let mut next = Leased::new(engine, decision.stage, next, asked, ahead);
        next.leaves_slot = passed.is_none() && !matches!(place, Place::LeftToOthers);
        let job = Ring {
            epoch: lease.fence.epoch,
            // The batch's row has it.
            traceparent: None,
            ..answered.ring.clone()
        };
        let mut taken_up = vec![TakenUp::new(engine, job, next, reserved)];
        if let (Some(passed), Place::PassedOn(slot)) = (passed, place) {
            taken_up.push(passing::takes_up(engine, passed, asked, slot));
        }
        Ok(After::TakenUp(taken_up))
    }

    /// Writes it, and tries again while that may help.
    async fn write_through(
        &self,
        write: &mut Write<'_>,
        decision: &mut Decision,
    ) -> Result<Option<Written>, StoreError> {
        let (mut patience, mut in_doubt) = (Patience::new(), false);
        loop {
            match self.write(write, decision).await {
                // What is wrong with another document must not keep this one from being settled.
                Err(error) if write.passes_to.take().is_some() => {
                    in_doubt |= patience.again(&error).await;
                }
                // The commit may have gone through before the connection broke.
                Err(error) if patience.again(&error).await => in_doubt = true,
                // Its own commit may be what has overtaken it.
                Ok(None) | Err(StoreError::Overtaken) if in_doubt => {
                    return self.look_up(write.stage, write.lease).await;
                }
                result => return result,
            }
        }
    }

    /// Where the execution stands if the settle was committed after all; `None` if somebody else has taken it up.
    async fn look_up(&self, stage: Stage, lease: &Lease) -> Result<Option<Written>, StoreError> {
        let mut read = self.0.store.app(lease.fence.organization).await?;
        let found = store::settled_status(&mut read, lease.fence, stage, self.0.id).await?;
        Ok(found.map(|(status, attempt)| Written {
            status,
            attempt,
            // Whoever has come to its place was leased for nobody: that runs out.
            passed: None,
        }))
    }

    /// One try of the settle's transaction.
    async fn write(
        &self,
        write: &Write<'_>,
        decision: &mut Decision,
    ) -> Result<Option<Written>, StoreError> {
        let Write {
            stage,
            lease,
            checkpoints,
            output,
            takeover,
            passes_to,
        } = *write;
        let fence = lease.fence;
        let mut transaction = match passes_to {
            None => self.0.store.app(fence.organization).await?,
            Some(_) => self.0.store.app_scheduling(fence.organization).await?,
        };
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
        let (mut attempt, mut passed) = (None, None);
        let status = match settlement {
            Settlement::Lost => return Ok(None),
            Settlement::Written => decision.status,
            Settlement::TakenUp(which) => {
                attempt = Some(which);
                if let Some(takeover) = passes_to {
                    let from = self.0.marks.of(lease.batch);
                    let incarnation = self.0.doorbell.incarnation();
                    passed = store::pass_on(
                        &mut transaction,
                        fence.organization,
                        lease.batch,
                        from,
                        takeover,
                        incarnation,
                    )
                    .await?;
                    if passed.is_none() {
                        self.0.marks.found_nobody(lease.batch);
                    }
                }
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
        Ok(Some(Written {
            status,
            attempt,
            passed,
        }))
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
