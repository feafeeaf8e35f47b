//! What the work on a stage begins with: the batch's recipe, the document with its checkpoints, and the way to the model.

use std::sync::Arc;

use graphmill_jobs::DocumentId;

use super::{
    Engine,
    batches::BatchContext,
    executor::{ExecuteError, Executor, Reins},
    gate::LeaseGate,
    head_start::Grant,
    recent,
    sink::Sink,
    worked::Came,
};
use crate::{
    calls::Caller,
    flow::Stage,
    graph::Text,
    pipeline::{self, CheckpointError, Document, Past, UnitRecord, Work, Workplace},
    store::{self, Lease},
    workflow,
};

/// A stage that is ready to be worked.
pub(super) struct Loaded {
    stage: Stage,
    lease: Lease,
    work: Work,
    records: Vec<UnitRecord>,
    paid: bool,
    grant: Option<Grant>,
}

impl Loaded {
    /// Whether it waits for a model, and each of its checkpoints is written at once.
    pub(super) const fn is_paid(&self) -> bool {
        self.paid
    }

    /// Works the units that have no checkpoint.
    pub(super) async fn run(mut self, engine: &Engine) -> Result<Came, CheckpointError> {
        let mut sink = Sink::new(engine, self.stage, &self.lease, self.paid, self.grant);
        let outcome = pipeline::run(self.stage, &self.work, &mut self.records, &mut sink).await?;
        let reached = sink.reached();
        Ok(Came::of(
            self.stage,
            outcome,
            self.records,
            self.work,
            sink.rest(),
            reached,
        ))
    }
}

impl Executor {
    /// What the documents of the lease's batch are worked with.
    pub(super) async fn context(&self, lease: &Lease) -> Result<Arc<BatchContext>, ExecuteError> {
        let engine = &*self.0;
        let batch = (lease.batch, lease.generation);
        engine
            .batches
            .get(engine, lease.fence.organization, batch)
            .await?
            .ok_or(ExecuteError::Gone)
    }

    /// The stage, with the document as it was `settled` last; `None` if this process lacks the batch's extractor.
    /// `grant`: the lease is still to be granted.
    pub(super) fn load(
        &self,
        stage: Stage,
        lease: &Lease,
        context: &BatchContext,
        settled: recent::Settled,
        reins: Reins,
        grant: Option<Grant>,
    ) -> Option<Loaded> {
        let mut extractor = context.extractor.clone()?;
        // What a suspect has done is written at once: it may die again before long.
        let paid = extractor.is_paid() && stage != Stage::Chunk || lease.suspect;
        let Reins {
            stops,
            place,
            trace,
        } = reins;
        // Units that wait for a model have no turns.
        let place = (!paid).then_some(place);
        let recipe = context.recipes.of(stage);
        let gate = LeaseGate::new(Arc::clone(&self.0), lease.fence, place, grant.clone());
        let gate = Arc::new(gate);
        let mut workplace = Workplace {
            suspect: lease.suspect,
            ..self.0.workplace.clone()
        };
        if let (Some(access), Some(model)) = (&self.0.access, &context.model) {
            let door = access.door(Caller {
                organization: lease.fence.organization,
                batch: lease.batch,
                execution: lease.fence.execution,
                weight: self.0.shares.weight(lease.batch),
                model: model.clone(),
                prompt: recipe.prompt.clone(),
                gate: gate.clone(),
                hang_up: stops.hang_up,
                trace,
            });
            if let Some(calling) = extractor.calling(door) {
                extractor = calling;
                // A process of its own would have no way to the ledger, and what computes here is our own code.
                workplace.isolation = None;
            }
        }
        let recent::Settled {
            document,
            records,
            earlier,
        } = settled;
        let work = Work {
            document,
            extractor,
            ontology: Arc::clone(&recipe.ontology),
            settings: context.settings,
            round: lease.round,
            pause: stops.pause,
            workplace,
            gate,
            past: Past {
                digests: context.digests,
                earlier,
            },
        };
        Some(Loaded {
            stage,
            lease: lease.clone(),
            work,
            records,
            paid,
            grant,
        })
    }

    /// Reads the document and its checkpoints.
    pub(super) async fn read(
        &self,
        lease: &Lease,
        document: DocumentId,
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
