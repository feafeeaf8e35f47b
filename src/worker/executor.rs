//! The executor: answers a ring in named steps: lease, load, work, settle (`settling`), ring for the successor.
//!
//! Where this process has a slot for the next stage, the settle leases that too, and the job is handed on to the worker
//! of that stage here: a hop as any other, without a way through somebody else's hands and a second transaction.
//!
//! Whatever happens, the ring counts as answered: retries come from `due_at`, and what a crash leaves behind is found
//! by its expired lease.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use graphmill_jobs::Ring;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, error, field, info_span, warn};

use super::{
    Engine, NO_EXTRACTOR_WAIT,
    batches::BatchContext,
    gate::LeaseGate,
    granted::Leased,
    keeper::Why,
    recent, resolution,
    settle::End,
    sink::Sink,
    steps::{Step, reached},
    succession::After,
    traced::{self, Attempt},
    turns::{self, Place},
    worked::{Came, Worked},
};
use crate::{
    calls::Caller,
    flow::{Failure, FailureCode, IllegalMove, Stage},
    graph::Text,
    pipeline::{self, CheckpointError, Document, Past, UnitRecord, Work, Workplace},
    queue::{Handler, Onward},
    store::{self, Lease, LeaseRequest, Patience, StoreError},
    telemetry::TraceContext,
    workflow,
};

/// How long an execution waits that a worker could not work for a reason of its own.
const TROUBLE_WAIT: Duration = Duration::from_secs(5);

/// Answers the rings of every stage.
pub(super) struct Executor(pub(super) Arc<Engine>);

/// What a stage in work is held by.
pub(super) struct Reins {
    /// No further unit is to be begun.
    pub(super) pause: CancellationToken,
    /// Nobody waits for its calls any more.
    pub(super) hang_up: CancellationToken,
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
        let span = info_span!(
            "activity",
            batch.id = field::Empty,
            execution.id = %ring.execution,
            stage = %stage,
            attempt = field::Empty,
            trace_id = field::Empty,
        );
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
        let Some(Leased {
            lease,
            mut hold,
            mut activity,
        }) = taken
        else {
            return Ok(());
        };
        Span::current().record("attempt", lease.attempt);
        Span::current().record("batch.id", field::display(lease.batch));
        reached(stage, Step::Leased, ring.execution);
        let mut attempt = Attempt::begin(engine, stage, &lease).await;
        let hang_up = CancellationToken::new();
        let weight = engine.shares.weight(lease.batch);
        let place = Arc::new(Place::new(engine.turns.clone(), lease.batch, weight));
        let reins = Reins {
            pause: hold.pause.clone(),
            hang_up: hang_up.clone(),
            place: Arc::clone(&place),
            trace: attempt.context(),
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
            worked = self.work(stage, &lease, reins) => match worked {
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
        let settled = async {
            match self
                .settle(stage, &lease, ring.version, worked, onward, &mut activity)
                .await
            {
                Ok(after) => Ok(after),
                Err(error) => {
                    let failed = Worked::ended(given_up(error)?);
                    attempt.ends(&failed.end);
                    is_last = traced::is_last(&lease, &failed.end);
                    self.settle(stage, &lease, ring.version, failed, onward, &mut activity)
                        .await
                }
            }
        };
        let after = in_turn(&place, turns::WRITING, settled).await?;
        drop((activity, settling));
        if is_last && matches!(after, After::Ended(_)) {
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
        self.go_on(ring, &lease, after).await?;
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
        Ok(lease.map(|lease| Leased::new(engine, stage, lease, asked)))
    }

    async fn work(&self, stage: Stage, lease: &Lease, reins: Reins) -> Result<Came, ExecuteError> {
        let engine = &*self.0;
        let place = Arc::clone(&reins.place);
        let Some(document) = lease.document else {
            let resolved = resolution::work(&self.0, lease, reins).await?;
            return Ok(Came::of_resolution(resolved));
        };
        place.enter().await;
        let organization = lease.fence.organization;
        let context = engine
            .batches
            .get(engine, organization, (lease.batch, lease.generation))
            .await?
            .ok_or(ExecuteError::Gone)?;
        // What a suspect has done is written at once: it may die again before long.
        let is_paid = context.extractor.as_ref().is_some_and(|it| it.is_paid());
        let paid = is_paid && stage != Stage::Chunk || lease.suspect;
        let loaded = self
            .load(stage, lease, document, &context, reins, paid)
            .await?;
        let Some(work) = loaded else {
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
        let (work, mut records) = work;
        if paid {
            // Whoever waits for a model leaves the processors to others meanwhile.
            place.leave();
        }
        let mut sink = Sink::new(engine, stage, lease, paid);
        let run = pipeline::run(stage, &work, &mut records, &mut sink);
        let outcome = in_turn(&place, place.longest(), run).await?;
        let reached = sink.reached();
        Ok(Came::of(
            stage,
            outcome,
            records,
            work,
            sink.rest(),
            reached,
        ))
    }

    /// The document with its checkpoints; `None` if this process lacks the batch's extractor.
    async fn load(
        &self,
        stage: Stage,
        lease: &Lease,
        document: graphmill_jobs::DocumentId,
        context: &BatchContext,
        reins: Reins,
        paid: bool,
    ) -> Result<Option<(Work, Vec<UnitRecord>)>, ExecuteError> {
        let Some(extractor) = context.extractor.clone() else {
            return Ok(None);
        };
        let Reins {
            pause,
            hang_up,
            place,
            trace,
        } = reins;
        // Units that wait for a model have no turns.
        let place = (!paid).then_some(place);
        let recipe = context.recipes.of(stage);
        let recent::Settled {
            document,
            records,
            earlier,
        } = match self.0.recent.take(lease.fence) {
            Some(settled) => settled,
            None => self.read(lease, document).await?,
        };
        let gate = Arc::new(LeaseGate::new(Arc::clone(&self.0), lease.fence, place));
        let mut workplace = Workplace {
            suspect: lease.suspect,
            ..self.0.workplace.clone()
        };
        let mut extractor = extractor;
        if let (Some(access), Some(model)) = (&self.0.access, &context.model) {
            let door = access.door(Caller {
                organization: lease.fence.organization,
                batch: lease.batch,
                execution: lease.fence.execution,
                weight: self.0.shares.weight(lease.batch),
                model: model.clone(),
                prompt: recipe.prompt.clone(),
                gate: gate.clone(),
                hang_up,
                trace,
            });
            if let Some(calling) = extractor.calling(door) {
                extractor = calling;
                // A process of its own would have no way to the ledger, and what computes here is our own code.
                workplace.isolation = None;
            }
        }
        let work = Work {
            document,
            extractor,
            ontology: Arc::clone(&recipe.ontology),
            settings: context.settings,
            round: lease.round,
            pause,
            workplace,
            gate,
            past: Past {
                digests: context.digests,
                earlier,
            },
        };
        Ok(Some((work, records)))
    }

    /// Reads the document and its checkpoints.
    async fn read(
        &self,
        lease: &Lease,
        document: graphmill_jobs::DocumentId,
    ) -> Result<recent::Settled, ExecuteError> {
        let (organization, execution) = (lease.fence.organization, lease.fence.execution);
        let mut read = self.0.store.app(organization).await?;
        let (name, text) = store::document_text(&mut read, organization, document)
            .await?
            .ok_or(ExecuteError::Gone)?;
        let mut records = Vec::new();
        // Its first lease of all, in the batch's first generation: nobody can have left anything.
        if lease.fence.epoch > 1 || lease.generation > 1 {
            let rows = store::checkpoints_of(&mut read, organization, execution).await?;
            records = workflow::unit_records(rows)?;
        }
        let mut earlier = None;
        if lease.generation > 1 {
            let generation = lease.generation;
            let rows =
                store::earlier_checkpoints(&mut read, organization, document, generation).await?;
            earlier = Some(workflow::unit_records(rows)?.into());
        }
        // Nothing waits for its end.
        drop(read);
        let document = Document {
            name: name.into(),
            text: Text::new(text),
        };
        Ok(recent::Settled {
            document,
            records,
            earlier,
        })
    }
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
