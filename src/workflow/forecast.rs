//! What working a batch again would do and cost, before anything is done: every document is planned with what earlier
//! generations found. Writes nothing.
//!
//! Exact up to the first stage of a document in which a unit would be worked; what follows it depends on what it
//! finds, and is as much as the last run had at most, as far as anybody knows.

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use serde::Serialize;

use super::{
    recipe::{Setup, unit_records},
    rerun::{Rerun, RerunError, asked},
    submit::SubmitError,
};
use crate::{
    flow::{BatchChange, Stage},
    graph::Text,
    pipeline::{ByStage, Digests, Document, Foresight, Recipe},
    store::{self, AppTransaction, PaidStage, Store, StoreError},
};

/// Documents that are planned in one transaction.
const STEP: i64 = 50;

/// What a re-run would do.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Forecast {
    /// The batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// The first stage that is worked otherwise.
    #[schema(value_type = String)]
    pub from: Stage,
    /// Nothing is done.
    pub dry_run: bool,
    /// Whether there would be anything to do.
    pub changes: bool,
    /// Documents that would go through their stages.
    pub documents: u64,
    /// What each stage with an extractor would take.
    pub stages: Vec<StageForecast>,
    /// Calls of a model, as far as can be told.
    pub calls: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub completion_tokens: u64,
    /// US dollars; `None` if the price is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// What one stage would take.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct StageForecast {
    /// The stage.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// Units that will be worked.
    pub worked: u64,
    /// Units whose checkpoints are taken instead.
    pub reused: u64,
    /// Units besides these of which nobody knows yet: as many as the last run had.
    pub up_to: u64,
    /// Calls of a model, for what is worked and what may be.
    pub calls: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub completion_tokens: u64,
    /// US dollars; `None` if the price is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What tokens and costs are taken from: the batch's own calls, or an estimate by the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
}

/// Units of a stage, over all documents.
#[derive(Debug, Clone, Copy, Default)]
struct Units {
    worked: u64,
    reused: u64,
    up_to: u64,
    /// By the texts: units, and tokens of prompts and answers.
    estimated: (u64, u64, u64),
}

/// What a re-run would do and cost.
///
/// # Errors
/// [`RerunError`]; trying again may help if the store says so.
pub async fn forecast(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    rerun: &Rerun,
    foresight: &Foresight,
) -> Result<Forecast, RerunError> {
    let mut read = store.app(organization).await?;
    let (found, setup) = asked(&mut read, organization, batch).await?;
    found
        .intake
        .take(found.state.name(), found.stopping, BatchChange::Rerun)
        .map_err(SubmitError::from)?;
    let recipes = rerun.applied_to(&setup.recipes)?;
    let mut forecast = Forecast {
        batch_id: batch,
        from: rerun.from,
        dry_run: true,
        changes: rerun.changes(&setup.recipes, &recipes),
        documents: 0,
        stages: Vec::new(),
        calls: 0,
        prompt_tokens: 0,
        completion_tokens: 0,
        cost: None,
    };
    if !forecast.changes || rerun.from == Stage::Resolve {
        return Ok(forecast);
    }
    let mut paid = ByStage::<PaidStage>::default();
    if foresight.calls_models() {
        for stage in ByStage::<PaidStage>::STAGES {
            if let Some(paid) = paid.of_mut(stage) {
                *paid = store::paid_by_stage(&mut read, organization, batch, stage).await?;
            }
        }
    }
    drop(read);
    let planner = Planner {
        organization,
        generation: found.generation + 1,
        setup: &setup,
        recipes: &recipes,
        digests: foresight.digests(&recipes, setup.model.as_ref()),
        foresight,
        guesses: foresight.calls_models()
            && ByStage::<PaidStage>::STAGES
                .iter()
                .any(|&stage| paid.of(stage).units == 0),
    };
    let mut units = ByStage::<Units>::default();
    let mut after = None;
    loop {
        let mut read = store.app(organization).await?;
        let page = store::current_executions(
            &mut read,
            organization,
            batch,
            planner.generation,
            after,
            STEP,
        )
        .await?;
        let Some(&(last, _)) = page.last() else { break };
        for (execution, document) in page {
            planner
                .add(&mut read, execution, document, &mut units)
                .await?;
            forecast.documents += 1;
        }
        after = Some(last);
    }
    for stage in ByStage::<Units>::STAGES {
        let units = *units.of(stage);
        forecast.add(
            &setup,
            stage,
            units,
            foresight.calls_models().then(|| *paid.of(stage)),
        );
    }
    let costs = forecast.stages.iter().map(|stage| stage.cost);
    forecast.cost = foresight
        .calls_models()
        .then(|| costs.sum::<Option<f64>>())
        .flatten();
    Ok(forecast)
}

/// Plans documents one by one.
struct Planner<'a> {
    organization: OrganizationId,
    generation: i32,
    setup: &'a Setup,
    recipes: &'a ByStage<Recipe>,
    digests: Digests,
    foresight: &'a Foresight,
    /// Some stage has no calls to go by.
    guesses: bool,
}

impl Planner<'_> {
    async fn add(
        &self,
        read: &mut AppTransaction,
        execution: WorkflowExecutionId,
        document: DocumentId,
        units: &mut ByStage<Units>,
    ) -> Result<(), StoreError> {
        let organization = self.organization;
        let Some((name, text)) = store::document_text(&mut *read, organization, document).await?
        else {
            return Ok(());
        };
        let rows =
            store::earlier_checkpoints(&mut *read, organization, document, self.generation).await?;
        let document = Document {
            name: name.into(),
            text: Text::new(text),
        };
        if self.guesses {
            let settings = self.setup.settings;
            let estimate = self.foresight.estimate(&document, self.recipes, settings);
            for stage in ByStage::<Units>::STAGES {
                let of_stage = estimate.of(stage);
                if let Some(units) = units.of_mut(stage) {
                    units.estimated.0 += of_stage.calls;
                    units.estimated.1 += of_stage.prompt_tokens;
                    units.estimated.2 += of_stage.completion_tokens;
                }
            }
        }
        let foreseen = self.foresight.of(
            document,
            self.recipes,
            self.digests,
            self.setup.settings,
            unit_records(rows)?,
        );
        for stage in ByStage::<Units>::STAGES {
            let up_to = match foreseen.of(stage) {
                Some(_) => 0,
                None => store::units_done(&mut *read, organization, execution, stage).await?,
            };
            if let Some(units) = units.of_mut(stage) {
                let foreseen = foreseen.of(stage).unwrap_or_default();
                units.worked += foreseen.worked as u64;
                units.reused += foreseen.reused as u64;
                units.up_to += up_to;
            }
        }
        Ok(())
    }
}

impl Forecast {
    /// Adds a stage; `paid` if its units ask a model.
    fn add(&mut self, setup: &Setup, stage: Stage, units: Units, paid: Option<PaidStage>) {
        let most = units.worked + units.up_to;
        let mut line = StageForecast {
            stage,
            worked: units.worked,
            reused: units.reused,
            up_to: units.up_to,
            calls: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            cost: None,
            by: None,
        };
        if let Some(paid) = paid {
            let price = setup.model.as_ref().and_then(|model| model.price);
            let (estimated, prompt, completion) = units.estimated;
            let share = |of: u64, by: u64| (of * most).div_ceil(by.max(1));
            if paid.units > 0 {
                line.by = Some("calls");
                line.calls = share(paid.calls, paid.units);
                line.prompt_tokens = share(paid.prompt_tokens, paid.units);
                line.completion_tokens = share(paid.completion_tokens, paid.units);
                line.cost = paid.cost.map(|cost| dollars(cost, most, paid.units));
            } else {
                line.by = Some("estimate");
                line.calls = most;
                line.prompt_tokens = share(prompt, estimated);
                line.completion_tokens = share(completion, estimated);
                line.cost = price.map(|price| {
                    let tokens = u128::from(line.prompt_tokens) * u128::from(price.input)
                        + u128::from(line.completion_tokens) * u128::from(price.output);
                    dollars(i64::try_from(tokens / 1000).unwrap_or(i64::MAX), 1, 1)
                });
            }
            if most == 0 {
                line.by = None;
                line.cost = Some(0.0);
            }
        }
        self.calls += line.calls;
        self.prompt_tokens += line.prompt_tokens;
        self.completion_tokens += line.completion_tokens;
        self.stages.push(line);
    }
}

/// Billionths of a dollar that `by` units cost, as dollars for `of`.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn dollars(cost: i64, of: u64, by: u64) -> f64 {
    cost as f64 / 1e9 * of as f64 / by.max(1) as f64
}
