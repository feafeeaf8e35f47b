//! Working an ended batch again from a stage on, with another ontology, another prompt, or the same ones.
//!
//! Its next generation has a new execution for every document that it holds. They go through all stages; what was
//! found before with the same input and the same recipe is not worked again, so the stages before the one that is
//! named cost nothing, and so does going back.

use std::sync::Arc;

use graphmill_jobs::{BatchId, OrganizationId};

use super::{
    recipe::{self, Setup},
    signal::{add_retries, is_refilled},
    submit::{SubmitError, seal},
};
use crate::{
    flow::{BatchChange, BatchEvent, Event, EventKind, Filling, Stage},
    graph::Ontology,
    pipeline::{ByStage, Recipe},
    store::{self, Batch, Connection, Store, StoreError},
};

/// What is to be worked again, and how.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// The first stage that is worked otherwise; not `chunk`.
    pub from: Stage,
    /// What may be found, in that stage and those after it; `None`: what they had.
    pub ontology: Option<Arc<Ontology>>,
    /// The prompt of that stage, if it is to be another one.
    pub prompt: Option<NewPrompt>,
    /// Work its units again even if nothing has changed for them.
    pub force: bool,
}

/// What a stage's model is to be asked with.
#[derive(Debug, Clone)]
pub enum NewPrompt {
    /// The extractor's own prompt.
    BuiltIn,
    /// This one, which the extractor has checked.
    Own(Arc<str>),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rerunning {
    /// So many documents go through their stages again, in that generation.
    Documents {
        /// How many.
        documents: u64,
        /// Which generation.
        generation: i32,
    },
    /// Nothing would change: nothing was done.
    Nothing,
    /// A re-run or a retry that had been cut off is complete now.
    GoesOn,
}

/// Why a batch could not be worked again.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// As with a change of what it holds.
    #[error(transparent)]
    Change(#[from] SubmitError),
    /// There is no such batch.
    #[error("there is no such batch")]
    Unknown,
    /// The stage has no units that an ontology, a prompt or a repetition would change.
    #[error(
        "`{0}` asks no extractor: an ontology or a prompt is for `mentions`, `entities` or `relations`"
    )]
    NoRecipe(Stage),
    /// Documents are cut by the settings that the batch was opened with.
    #[error("a batch is not cut anew: begin another one")]
    Chunks,
}

impl From<StoreError> for RerunError {
    fn from(error: StoreError) -> Self {
        Self::Change(error.into())
    }
}

impl Rerun {
    /// What the stages are worked with once this is done.
    ///
    /// # Errors
    /// [`RerunError::NoRecipe`], [`RerunError::Chunks`].
    pub(super) fn applied_to(&self, old: &ByStage<Recipe>) -> Result<ByStage<Recipe>, RerunError> {
        let mut recipes = old.clone();
        if self.from == Stage::Chunk {
            return Err(RerunError::Chunks);
        }
        if let Some(ontology) = &self.ontology {
            let later = ByStage::<Recipe>::STAGES.into_iter();
            for stage in later.filter(|&stage| stage >= self.from) {
                if let Some(recipe) = recipes.of_mut(stage) {
                    recipe.ontology = Arc::clone(ontology);
                }
            }
        }
        let Some(first) = recipes.of_mut(self.from) else {
            if self.ontology.is_some() || self.prompt.is_some() {
                return Err(RerunError::NoRecipe(self.from));
            }
            return Ok(recipes);
        };
        match &self.prompt {
            None => {}
            Some(NewPrompt::BuiltIn) => first.prompt = None,
            Some(NewPrompt::Own(text)) => first.prompt = Some(Arc::clone(text)),
        }
        if self.force && *first == *old.of(self.from) {
            first.again += 1;
        }
        Ok(recipes)
    }

    /// Whether there is something to do: another recipe, or stages that ask no extractor, which were named for it.
    pub(super) fn changes(&self, old: &ByStage<Recipe>, new: &ByStage<Recipe>) -> bool {
        old != new || matches!(self.from, Stage::Assemble | Stage::Resolve)
    }
}

/// Works an ended batch again. Cut off, it goes on by another call, or by a retry.
///
/// # Errors
/// [`RerunError`]; trying again may help if the store says so, and does nothing twice.
pub async fn rerun(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    rerun: &Rerun,
) -> Result<Rerunning, RerunError> {
    let mut transaction = store.app(organization).await?;
    let (found, setup) = asked(&mut transaction, organization, batch).await?;
    let recipes = rerun.applied_to(&setup.recipes)?;
    if is_refilled(found.intake) && recipes == setup.recipes {
        drop(transaction);
        add_retries(store, organization, batch).await?;
        return Ok(Rerunning::GoesOn);
    }
    let Some(mut found) = store::batch_to_reopen(&mut transaction, organization, batch).await?
    else {
        return Err(RerunError::Unknown);
    };
    // With its row locked: somebody else may have come first.
    found
        .intake
        .take(found.state.name(), found.stopping, BatchChange::Rerun)
        .map_err(SubmitError::from)?;
    if !rerun.changes(&setup.recipes, &recipes) {
        return Ok(Rerunning::Nothing);
    }
    let generation = found.generation + 1;
    let documents;
    let event = if rerun.from == Stage::Resolve {
        documents = 0;
        EventKind::BatchRerun {
            generation,
            from: rerun.from,
            completed: 0,
            partial: 0,
            abandoned: 0,
            cancelled: 0,
        }
    } else {
        documents = found.counts.accepted;
        let connection = &mut transaction;
        store::rerun_counts(connection, organization, batch, generation, rerun.from).await?
    };
    found.generation = generation;
    found.state = found
        .state
        .on(BatchEvent::Reopen)
        .map_err(SubmitError::from)?;
    found.counts.fold(&event);
    let newest = rerun.ontology.as_ref();
    let newest = newest.unwrap_or(&setup.recipes.of(Stage::Relations).ontology);
    if recipes != setup.recipes {
        recipe::change(&mut transaction, organization, batch, &recipes, newest).await?;
    }
    let filling = Filling::Rerun;
    store::open_generation(&mut transaction, organization, batch, &found, filling).await?;
    let event = Event::of_batch(organization, batch, event);
    store::append_event(&mut transaction, &event).await?;
    if rerun.from == Stage::Resolve {
        seal(&mut transaction, organization, batch).await?;
    }
    transaction.commit().await.map_err(StoreError::from)?;
    if rerun.from != Stage::Resolve {
        add_retries(store, organization, batch).await?;
    }
    Ok(Rerunning::Documents {
        documents,
        generation,
    })
}

/// The batch, with its intake lock taken, and what it is worked with.
pub(super) async fn asked(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<(Batch, Setup), RerunError> {
    // Before the row is locked: the sequencer must not wait for a submission.
    store::intake_lock(connection, batch).await?;
    let found = store::batch_by_id(connection, organization, batch)
        .await?
        .ok_or(RerunError::Unknown)?;
    let setup = recipe::setup(connection, organization, batch)
        .await?
        .ok_or(RerunError::Unknown)?;
    Ok((found, setup))
}
