//! The executor: answers a ring in named steps: lease, load, work, settle (`settling`), ring for the successor.
//!
//! Where this process has a slot for the next stage, the settle leases that too, and the job is handed on to the worker
//! of that stage here: a hop as any other, without a way through somebody else's hands and a second transaction. A
//! stage that waits for a model begins its calls while the settle before it is being written (`head_start`).
//!
//! Whatever happens, the ring counts as answered: retries come from `due_at`, and what a crash leaves behind is found
//! by its expired lease.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use graphmill_jobs::{Ring, WorkflowExecutionId};
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, error, field, info_span, warn};

use super::{
    Engine, NO_EXTRACTOR_WAIT,
    granted::Leased,
    keeper::{Hold, Stops, Why},
    resolution,
    settle::End,
    steps::{Step, reached},
    succession::After,
    traced::{self, Attempt},
    turns::{self, Place},
    worked::{Came, Worked},
};
use crate::{
    flow::{Failure, FailureCode, IllegalMove, Stage},
    pipeline::CheckpointError,
    queue::{Handler, Onward},
    store::{self, Lease, LeaseRequest, Patience, StoreError},
    telemetry::TraceContext,
    workflow,
};

/// How long an execution waits that a worker could not work for a reason of its own.
const TROUBLE_WAIT: Duration = Duration::from_secs(5);

/// Answers the rings of every stage.
pub(super) struct Executor(pub(super) Arc<Engine>);

/// What is being answered.
#[derive(Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) stage: Stage,
    pub(super) ring: &'a Ring,
    pub(super) lease: &'a Lease,
    pub(super) hold: &'a Hold,
    pub(super) onward: &'a Onward,
    /// Its end leaves a slot of the batch that may be filled here.
    pub(super) leaves_slot: bool,
}

/// What a stage in work is held by.
#[derive(Clone)]
pub(super) struct Reins {
    pub(super) stops: Stops,
    /// Its turns.
    pub(super) place: Arc<Place>,
    /// What its calls hang below, in its trace.
    pub(super) trace: Option<TraceContext>,
}

/// Why a ring's work came to nothing. The lease runs out, and somebody takes it up again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecuteError {
    /// Postgres did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A bug: the machines and the executor disagree.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// The batch or the document is gone.
    #[error("its batch or its document is gone")]
    Gone,
    /// A bug: trying again would run into the same.
    #[error("the resolution panicked")]
    Resolution,
}

#[async_trait]
impl Handler for Executor {
    async fn handle(&self, stage: Stage, ring: Ring, onward: &Onward) {
        if self.0.workplace.is_worn_out() {
            // Nothing can be worked here any more; the sweeper rings again, and somebody else may answer.
            return;
        }
        let span = span(stage, ring.execution);
        async {
            match self.answer(stage, &ring, onward).await {
                Ok(()) => {}
                Err(ExecuteError::Checkpoint(CheckpointError::LeaseLost)) => {
                    debug!("the lease is lost: the work is dropped");
                }
                Err(error) => error!(
                    error = &error as &dyn std::error::Error,
                    "a stage could not be settled; it will be taken up again"
                ),
            }
        }
        .instrument(span)
        .await;
    }
}

impl Executor {
    async fn answer(&self, stage: Stage, ring: &Ring, onward: &Onward) -> Result<(), ExecuteError> {
        let engine = &*self.0;
        let taken = match engine.granted.take(stage, ring) {
            Some(granted) => Some(granted),
            None => self.lease(stage, ring).await?,
        };
        match taken {
            Some(leased) => Box::pin(self.work_on(stage, ring, leased, onward)).await,
            None => Ok(()),
        }
    }

    /// Works under a lease, from its beginning to what follows it.
    pub(super) async fn work_on(
        &self,
        stage: Stage,
        ring: &Ring,
        leased: Leased,
        onward: &Onward,
    ) -> Result<(), ExecuteError> {
        let engine = &*self.0;
        let Leased {
            lease,
            mut hold,
            mut activity,
            ahead,
            leaves_slot,
        } = leased;
        Span::current().record("attempt", lease.attempt);
        Span::current().record("batch.id", field::display(lease.batch));
        reached(stage, Step::Leased, ring.execution);
        let (mut attempt, reins, running) = if let Some(ahead) = ahead {
            ahead.go_on(&lease)
        } else {
            let attempt = Attempt::begin(engine, stage, &lease).await;
            let reins = self.reins(&lease, hold.stops.clone(), &attempt);
            (attempt, reins, None)
        };
        let (place, hang_up) = (Arc::clone(&reins.place), reins.stops.hang_up.clone());
        let working = async {
            match running {
                Some(running) => running.ended().await,
                None => self.work(stage, &lease, reins).await,
            }
        };
        let worked = tokio::select! {
            biased;
            why = hold.ended() => match why {
                // What is being paid for is carried to its end.
                Why::Lost => {
                    attempt.ends_without("lost");
                    return Ok(());
                }
                Why::Drain => {
                    attempt.ends_without("handed-back");
                    hang_up.cancel();
                    return self.hand_back(&lease, &[], &mut activity).await;
                }
                Why::Stop => {
                    hang_up.cancel();
                    Came::Through(Worked::ended(End::Stopped).into())
                }
            },
            worked = working => match worked {
                Ok(worked) => worked,
                Err(error) => Came::Through(Worked::ended(given_up(error)?).into()),
            },
        };
        let mut worked = match worked {
            Came::Through(worked) => *worked,
            Came::ToAPause(checkpoints) => {
                attempt.ends_without("handed-back");
                return self.hand_back(&lease, &checkpoints, &mut activity).await;
            }
        };
        reached(stage, Step::Worked, ring.execution);
        let block = worked.block.take();
        place.enter().await;
        attempt.ends(&worked.end);
        let mut is_last = traced::is_last(&lease, &worked.end);
        let settling = attempt.settling();
        let answered = Answered {
            stage,
            ring,
            lease: &lease,
            hold: &hold,
            onward,
            leaves_slot,
        };
        let settled = async {
            match self.settle(answered, worked, &mut activity).await {
                Ok(after) => Ok(after),
                Err(error) => {
                    let failed = Worked::ended(given_up(error)?);
                    attempt.ends(&failed.end);
                    is_last = traced::is_last(&lease, &failed.end);
                    self.settle(answered, failed, &mut activity).await
                }
            }
        };
        let after = Box::pin(in_turn(&place, turns::WRITING, settled)).await?;
        drop((activity, settling));
        if is_last && matches!(after, After::Ended { .. }) {
            attempt.execution_done(&lease);
        }
        drop(hold);
        place.leave();
        reached(stage, Step::Settled, ring.execution);
        if let Some(reason) = block {
            warn!(batch.id = %lease.batch, reason, "the batch is paused");
            // Should this be lost, the next document to be worked runs into the same.
            workflow::block_batch(&engine.store, ring.organization, lease.batch, &reason).await?;
        }
        self.go_on(ring, &lease, after, onward).await?;
        reached(stage, Step::Rung, ring.execution);
        Ok(())
    }

    async fn lease(&self, stage: Stage, ring: &Ring) -> Result<Option<Leased>, ExecuteError> {
        let engine = &*self.0;
        let asked = Instant::now();
        let request = LeaseRequest {
            fence: store::Fence {
                organization: ring.organization,
                execution: ring.execution,
                epoch: ring.epoch,
            },
            stage,
            owner: engine.id,
            lasts: engine.settings.lease,
        };
        let mut patience = Patience::new();
        let lease = loop {
            let asked = async {
                let mut connection = engine.store.engine().await?;
                store::lease(&mut connection, &request).await
            };
            match asked.await {
                // One that was granted without our hearing of it makes the next answer a no: it runs out.
                Err(error) if patience.again(&error).await => {}
                answer => break answer?,
            }
        };
        Ok(lease.map(|lease| Leased::new(engine, stage, lease, asked, None)))
    }

    /// What the work under `lease` is held by.
    pub(super) fn reins(&self, lease: &Lease, stops: Stops, attempt: &Attempt) -> Reins {
        let engine = &*self.0;
        let weight = engine.shares.weight(lease.batch);
        Reins {
            stops,
            place: Arc::new(Place::new(engine.turns.clone(), lease.batch, weight)),
            trace: attempt.context(),
        }
    }

    async fn work(&self, stage: Stage, lease: &Lease, reins: Reins) -> Result<Came, ExecuteError> {
        let engine = &*self.0;
        let place = Arc::clone(&reins.place);
        let Some(document) = lease.document else {
            let resolved = resolution::work(&self.0, lease, reins).await?;
            return Ok(Came::of_resolution(resolved));
        };
        place.enter().await;
        let context = self.context(lease).await?;
        let settled = match engine.recent.take(lease.fence) {
            Some(settled) => settled,
            None => self.read(lease, document).await?,
        };
        let Some(loaded) = self.load(stage, lease, &context, settled, reins, None) else {
            let failure = Failure::transient(
                FailureCode::Extractor,
                format!(
                    "this worker does not have the extractor `{}`: it waits for one that has",
                    context.extractor_name
                ),
            );
            let end = End::Retry {
                failure,
                wait: NO_EXTRACTOR_WAIT,
            };
            return Ok(Came::Through(Worked::ended(end).into()));
        };
        if loaded.is_paid() {
            // Whoever waits for a model leaves the processors to others meanwhile.
            place.leave();
        }
        Ok(in_turn(&place, place.longest(), loaded.run(engine)).await?)
    }
}

/// What is logged of an attempt is found by this.
pub(super) fn span(stage: Stage, execution: WorkflowExecutionId) -> Span {
    info_span!(
        "activity",
        batch.id = field::Empty,
        execution.id = %execution,
        stage = %stage,
        attempt = field::Empty,
        trace_id = field::Empty,
    )
}

/// Runs `work` in one turn after another. While it waits for the next it goes on: it is to be paid for, and others are to
/// leave it room while they owe it some.
pub(super) async fn in_turns<T>(place: &Place, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        if let Ok(output) = tokio::time::timeout(place.longest(), &mut work).await {
            return output;
        }
        place.leave();
        tokio::select! {
            biased;
            output = &mut work => return output,
            () = place.enter() => {}
        }
    }
}

/// Runs `work`; a turn that lasts for longer than that meanwhile is taken from it.
async fn in_turn<T>(place: &Place, longest: Duration, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(longest, &mut work).await {
            Ok(output) => return output,
            Err(_) => place.leave_after(longest),
        }
    }
}

/// What becomes of an execution that can't be worked. If its data can't be read or stored it fails, since whoever took
/// it up again would run into the same. Anything else is this worker's trouble: it is tried again, here or elsewhere,
/// and that is no try of a unit. A lost lease is handed on: there is nothing to write.
fn given_up(error: ExecuteError) -> Result<End, ExecuteError> {
    let about = match &error {
        ExecuteError::Checkpoint(CheckpointError::LeaseLost) => return Err(error),
        ExecuteError::Store(StoreError::Overtaken) => {
            return Ok(End::Retry {
                failure: Failure::transient(FailureCode::Waiting, error.to_string()),
                wait: Duration::ZERO,
            });
        }
        ExecuteError::Store(error) => Some(error),
        ExecuteError::Checkpoint(CheckpointError::Write(source)) => source.downcast_ref(),
        ExecuteError::Resolution => {
            let failure = Failure::terminal(FailureCode::Panic, error.to_string());
            return Ok(End::Failed { failure });
        }
        ExecuteError::Illegal(_) | ExecuteError::Gone => None,
    };
    let is_about_data = about.is_some_and(StoreError::is_about_data);
    error!(
        error = &error as &dyn std::error::Error,
        is_about_data, "a stage could not be worked"
    );
    Ok(if is_about_data {
        let message = "what is stored for this stage, or what it found, can't be used; the worker's log says why";
        End::Failed {
            failure: Failure::terminal(FailureCode::Corrupt, message),
        }
    } else {
        let message = "the worker could not do its part; its log says why";
        End::Retry {
            failure: Failure::transient(FailureCode::Worker, message),
            wait: TROUBLE_WAIT,
        }
    })
}
