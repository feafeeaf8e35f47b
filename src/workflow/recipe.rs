//! What the stages of a batch are worked with, as its row keeps it: what a batch was opened with, and for each stage
//! what a re-run has put in its place.

use std::sync::Arc;

use graphmill_jobs::{BatchId, OntologyId, OrganizationId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    graph::Ontology,
    pipeline::{
        BatchConfig, ByStage, ModelChoice, Recipe, Settings, UnitOutcome, UnitOutput, UnitRecord,
    },
    store::{self, CheckpointRow, Connection, StoreError, UnitEnd},
};

/// The key in a batch's configuration.
const RECIPES: &str = "recipes";

/// What a batch's documents are worked with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The extractor's name.
    pub extractor: String,
    /// How stages work.
    pub settings: Settings,
    /// The model that is called, if any.
    pub model: Option<ModelChoice>,
    /// What each stage is worked with.
    pub recipes: ByStage<Recipe>,
}

/// What a stage is worked with, where it differs from what the batch was opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    ontology: Option<OntologyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<Arc<str>>,
    #[serde(skip_serializing_if = "is_zero")]
    again: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn decode(error: serde_json::Error) -> StoreError {
    StoreError::Decode {
        what: "a batch's configuration",
        source: error.into(),
    }
}

/// What a batch's documents are worked with; `None` if it is gone.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn setup(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<Setup>, StoreError> {
    let Some((extractor, ontology, config)) =
        store::batch_setup(&mut *connection, organization, batch).await?
    else {
        return Ok(None);
    };
    let stored: ByStage<Stored> = match config.get(RECIPES) {
        Some(recipes) => serde_json::from_value(recipes.clone()).map_err(decode)?,
        None => ByStage::default(),
    };
    let BatchConfig { settings, model } = serde_json::from_value(config).map_err(decode)?;
    let mut recipes = ByStage::splat(Recipe::new(Arc::new(
        store::ontology_by_id(&mut *connection, organization, ontology).await?,
    )));
    for stage in ByStage::<Stored>::STAGES {
        let Stored {
            ontology: own,
            prompt,
            again,
        } = stored.of(stage).clone();
        let Some(recipe) = recipes.of_mut(stage) else {
            continue;
        };
        (recipe.prompt, recipe.again) = (prompt, again);
        if let Some(own) = own.filter(|own| *own != ontology) {
            let own = store::ontology_by_id(&mut *connection, organization, own).await?;
            recipe.ontology = Arc::new(own);
        }
    }
    Ok(Some(Setup {
        extractor,
        settings,
        model,
        recipes,
    }))
}

/// Changes what a batch's stages are worked with; `newest` is the ontology that was given last. Its next generation
/// must be opened in the same transaction.
pub(super) async fn change(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    recipes: &ByStage<Recipe>,
    newest: &Ontology,
) -> Result<(), StoreError> {
    let Some((_, _, mut config)) =
        store::batch_setup(&mut *connection, organization, batch).await?
    else {
        return Ok(());
    };
    let newest = store::ensure_ontology(&mut *connection, organization, newest).await?;
    let mut stored = ByStage::<Stored>::default();
    for stage in ByStage::<Stored>::STAGES {
        let recipe = recipes.of(stage);
        let ontology =
            store::ensure_ontology(&mut *connection, organization, &recipe.ontology).await?;
        if let Some(stored) = stored.of_mut(stage) {
            *stored = Stored {
                ontology: Some(ontology),
                prompt: recipe.prompt.clone(),
                again: recipe.again,
            };
        }
    }
    if let Value::Object(fields) = &mut config {
        let recipes = serde_json::to_value(&stored).map_err(decode)?;
        fields.insert(RECIPES.to_owned(), recipes);
    }
    store::set_batch_setup(connection, organization, batch, newest, &config).await
}

/// Checkpoints as the stages read them.
///
/// # Errors
/// [`StoreError::Decode`]; trying again does not help.
pub fn unit_records(rows: Vec<CheckpointRow>) -> Result<Vec<UnitRecord>, StoreError> {
    rows.into_iter().map(to_record).collect()
}

fn to_record(row: CheckpointRow) -> Result<UnitRecord, StoreError> {
    let outcome = match row.end {
        UnitEnd::Done(json) => {
            let output =
                UnitOutput::from_json(row.stage, json).map_err(|error| StoreError::Decode {
                    what: "a checkpoint",
                    source: error.into(),
                })?;
            UnitOutcome::Done(output.ok_or_else(|| StoreError::Decode {
                what: "a checkpoint",
                source: "its stage keeps none".into(),
            })?)
        }
        UnitEnd::Retry(failure) => UnitOutcome::Retry(failure),
        UnitEnd::Failed(failure) => UnitOutcome::Failed(failure),
    };
    Ok(UnitRecord {
        stage: row.stage,
        unit: row.unit,
        round: row.round,
        tries: u32::try_from(row.tries).unwrap_or(0),
        deaths: u32::try_from(row.deaths).unwrap_or(0),
        input_hash: row.input_hash,
        outcome,
    })
}
