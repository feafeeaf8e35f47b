//! The report of a batch: what became of every document, in the shape that `--json` and the HTTP API print.

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use serde::Serialize;

use super::{AdjudicationReport, ProgressReport, WebhookReport, adjudication};
use crate::{
    flow::{BatchCounts, BatchStateName, ExecutionStatus, Intake, Stage},
    store::{self, Batch, Store, StoreError},
};

/// Failures that a report lists at most; the counts are always whole.
const FAILURES: i64 = 1000;
/// Executions that [`details`] lists at most.
const EXECUTIONS: i64 = 10_000;

/// A batch, in one object.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct BatchReport {
    /// Its id.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: &'static str,
    /// It is kept open: it takes documents until somebody seals it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// What became of its documents.
    pub documents: DocumentCounts,
    /// Entities found.
    pub entities: u64,
    /// Relations found.
    pub relations: u64,
    /// Clusters published.
    pub clusters: u64,
    /// Milliseconds from its opening to its end, or until now.
    pub duration_ms: u64,
    /// Calls of the extractor.
    pub calls: CallCounts,
    /// What was asked about names that may be of one thing, if somebody is; not in a list of batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjudication: Option<AdjudicationReport>,
    /// Documents that failed or were refused, and why; a thousand at most.
    pub failures: Vec<FailureReport>,
    /// Units that failed for good, in documents that are partial or failed, and why; a thousand at most.
    #[serde(skip)]
    pub failed_units: Vec<FailedUnitReport>,
}

/// Documents of a batch. Once it has ended,
/// total = completed + failed + abandoned + cancelled + refused + duplicate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DocumentCounts {
    /// Submitted, whatever became of them.
    pub total: u64,
    /// Completed, partial ones among them.
    pub completed: u64,
    /// Completed with failed units.
    pub partial: u64,
    /// Waiting for another round; 0 once the batch has ended.
    pub failed: u64,
    /// Given up.
    pub abandoned: u64,
    /// Stopped.
    pub cancelled: u64,
    /// Refused at the door, duplicates aside.
    pub refused: u64,
    /// Refused because the batch already had their text.
    pub duplicate: u64,
}

impl From<&BatchCounts> for DocumentCounts {
    fn from(counts: &BatchCounts) -> Self {
        Self {
            total: counts.submitted(),
            completed: counts.completed,
            partial: counts.partial,
            failed: counts.failed,
            abandoned: counts.abandoned,
            cancelled: counts.cancelled,
            refused: counts.refused,
            duplicate: counts.duplicate,
        }
    }
}

/// Calls of the extractor: paid calls of a model, or tries of units where none is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CallCounts {
    /// Made while the command ran (for a stored batch: in all).
    pub made: u64,
    /// Made before, and not made again.
    pub reused: u64,
    /// What the batch has spent in all, where a model is called.
    #[serde(flatten)]
    pub spent: Option<SpentReport>,
}

/// What a batch has spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SpentReport {
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, read from a cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// US dollars, as far as prices are known.
    pub cost: f64,
    /// US dollars that calls in work and calls in doubt may cost at most.
    pub reserved_cost: f64,
}

/// How often a batch has called.
struct Calls {
    /// In all.
    made: u64,
    /// Answered from the ledger, with answers that this or another batch has paid.
    replayed: u64,
    spent: Option<SpentReport>,
}

/// Calls of a batch in all: of the model, or of an extractor that calls none.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn calls_so_far(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<u64, StoreError> {
    let mut transaction = store.app(organization).await?;
    Ok(calls(&mut transaction, organization, id).await?.made)
}

impl From<store::Budget> for SpentReport {
    fn from(budget: store::Budget) -> Self {
        let tokens = |count: i64| u64::try_from(count).unwrap_or(0);
        Self {
            prompt_tokens: tokens(budget.prompt_tokens),
            cached_tokens: tokens(budget.cached_tokens),
            completion_tokens: tokens(budget.completion_tokens),
            cost: dollars(budget.spent.cost),
            reserved_cost: dollars(budget.reserved.cost),
        }
    }
}

async fn calls(
    transaction: &mut store::AppTransaction,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Calls, StoreError> {
    let Some(budget) = store::budget(transaction, organization, id).await? else {
        return Ok(Calls {
            made: store::calls(transaction, organization, id).await?,
            replayed: 0,
            spent: None,
        });
    };
    Ok(Calls {
        made: u64::try_from(budget.calls).unwrap_or(0),
        replayed: store::replays(transaction, organization, id).await?,
        spent: Some(budget.into()),
    })
}

/// Billionths of a dollar, as dollars.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to nine million dollars"
)]
pub(super) fn dollars(nanodollars: i64) -> f64 {
    nanodollars as f64 / 1e9
}

/// A document that failed or was refused.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct FailureReport {
    /// The caller's id.
    pub document: String,
    /// The kind of failure.
    pub code: &'static str,
    /// What failed, and the remedy where there is one.
    pub message: String,
}

impl From<store::Refused> for FailureReport {
    fn from(refused: store::Refused) -> Self {
        Self {
            document: refused.external_id,
            code: refused.failure.code.as_str(),
            message: refused.failure.message,
        }
    }
}

/// A unit (a chunk, or a group of mentions) that failed for good.
#[derive(Debug, Clone, Serialize)]
pub struct FailedUnitReport {
    /// The caller's id of its document.
    pub document: String,
    /// Its stage.
    pub stage: Stage,
    /// Its number within the stage.
    pub unit: i32,
    /// The kind of failure.
    pub code: &'static str,
    /// What failed, and the remedy where there is one.
    pub message: String,
}

/// A batch and how far it is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct BatchStatus {
    /// The report.
    #[serde(flatten)]
    pub report: BatchReport,
    /// Which try of the batch this is, from 1.
    pub generation: i32,
    /// Why it is paused, if it is: nothing of it is begun then.
    pub paused: Option<String>,
    /// The furthest stage that one of its executions has entered.
    #[schema(value_type = Option<String>)]
    pub stage: Option<Stage>,
    /// How far it is.
    pub progress: ProgressReport,
    /// How the news of its end stands, if somebody wants to be told.
    pub webhook: Option<WebhookReport>,
}

/// A batch with its executions.
#[derive(Debug, Clone, Serialize)]
pub struct BatchDetails {
    /// The batch.
    #[serde(flatten)]
    pub status: BatchStatus,
    /// Units that failed for good, in documents that are partial or failed, and why; a thousand at most.
    pub failed_units: Vec<FailedUnitReport>,
    /// Its executions; ten thousand at most.
    pub executions: Vec<ExecutionReport>,
}

/// An execution.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ExecutionReport {
    /// Its id.
    #[schema(value_type = String)]
    pub id: WorkflowExecutionId,
    /// The caller's id of its document; none for the resolution.
    pub document: Option<String>,
    /// Where it stands.
    pub status: &'static str,
    /// The activity that it is at or ended in.
    pub current_activity: &'static str,
    /// Completed with failed units.
    pub partial: bool,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Why it failed last.
    pub error: Option<FailureReport>,
}

impl From<store::Execution> for ExecutionReport {
    fn from(execution: store::Execution) -> Self {
        Self {
            id: execution.id,
            status: execution.status.as_str(),
            current_activity: execution.stage.activity_name(),
            partial: execution.partial && execution.status == ExecutionStatus::Completed,
            paused: execution.paused,
            error: execution.error.map(|failure| FailureReport {
                document: execution.document.clone().unwrap_or_default(),
                code: failure.code.as_str(),
                message: failure.message,
            }),
            document: execution.document,
        }
    }
}

/// Finds a batch by its id or its name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn find_batch(
    store: &Store,
    organization: OrganizationId,
    wanted: &str,
) -> Result<Option<BatchId>, StoreError> {
    // No batch has such a name, and Postgres takes no NUL.
    if wanted.chars().any(char::is_control) {
        return Ok(None);
    }
    let mut transaction = store.app(organization).await?;
    if let Ok(id) = wanted.parse::<BatchId>()
        && let Some(batch) = store::batch_by_id(&mut transaction, organization, id).await?
    {
        return Ok(Some(batch.id));
    }
    store::batch_by_name(&mut transaction, organization, wanted).await
}

/// The report of a batch; `calls_before` are those that count as reused. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn report(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
    calls_before: u64,
) -> Result<Option<BatchReport>, StoreError> {
    let mut transaction = store.app(organization).await?;
    read(&mut transaction, organization, id, calls_before).await
}

/// The same, with a transaction that is open.
pub(super) async fn read(
    transaction: &mut store::AppTransaction,
    organization: OrganizationId,
    id: BatchId,
    calls_before: u64,
) -> Result<Option<BatchReport>, StoreError> {
    let Some(batch) = store::batch_by_id(transaction, organization, id).await? else {
        return Ok(None);
    };
    let calls = calls(transaction, organization, id).await?;
    let failed = failed(transaction, organization, &batch).await?;
    Ok(Some(BatchReport {
        adjudication: adjudication(transaction, organization, &batch).await?,
        ..of(&batch, &calls, calls_before, failed)
    }))
}

/// A batch and how far it is. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn status(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<BatchStatus>, StoreError> {
    let mut transaction = store.app(organization).await?;
    let Some(batch) = store::batch_by_id(&mut transaction, organization, id).await? else {
        return Ok(None);
    };
    let in_work = store::documents_in_work(&mut transaction, organization, id).await?;
    let calls = calls(&mut transaction, organization, id).await?;
    let failed = failed(&mut transaction, organization, &batch).await?;
    let notice = store::notice(&mut transaction, organization, id).await?;
    let adjudication = adjudication(&mut transaction, organization, &batch).await?;
    let resolves =
        batch.state.name() == BatchStateName::Resolving || batch.counts.resolution.is_some();
    Ok(Some(BatchStatus {
        report: BatchReport {
            adjudication,
            ..of(&batch, &calls, 0, failed)
        },
        generation: batch.generation,
        stage: if resolves {
            Some(Stage::Resolve)
        } else {
            batch.counts.furthest
        },
        progress: ProgressReport::of(&batch, in_work),
        webhook: notice.map(WebhookReport::from),
        paused: batch.paused.filter(|_| !batch.state.name().has_ended()),
    }))
}

/// A batch with its executions. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn details(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<BatchDetails>, StoreError> {
    let Some(status) = status(store, organization, id).await? else {
        return Ok(None);
    };
    let mut transaction = store.app(organization).await?;
    let executions =
        store::executions(&mut transaction, organization, id, None, EXECUTIONS).await?;
    Ok(Some(BatchDetails {
        failed_units: status.report.failed_units.clone(),
        status,
        executions: executions.into_iter().map(ExecutionReport::from).collect(),
    }))
}

/// What a batch may spend and has spent.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CostReport {
    /// The batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// Calls of a model that were answered and paid.
    pub calls: u64,
    /// Answers that were used again and cost nothing.
    pub reused: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, read from a cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// US dollars, as far as prices are known.
    pub cost: f64,
    /// US dollars that calls in work and calls in doubt may cost at most.
    pub reserved_cost: f64,
    /// Tokens that they may take at most.
    pub reserved_tokens: u64,
    /// The cap in US dollars, if there is one.
    pub max_cost: Option<f64>,
    /// The cap in tokens, if there is one.
    pub max_tokens: Option<i64>,
}

/// What a batch may spend and has spent; nothing, if it calls no model. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn cost(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<CostReport>, StoreError> {
    let mut transaction = store.app(organization).await?;
    if store::batch_by_id(&mut transaction, organization, id)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    let reused = store::replays(&mut transaction, organization, id).await?;
    let budget = store::budget(&mut transaction, organization, id).await?;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Some(match budget {
        None => CostReport {
            batch_id: id,
            calls: 0,
            reused,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            cost: 0.0,
            reserved_cost: 0.0,
            reserved_tokens: 0,
            max_cost: None,
            max_tokens: None,
        },
        Some(budget) => CostReport {
            batch_id: id,
            calls: count(budget.calls),
            reused,
            prompt_tokens: count(budget.prompt_tokens),
            cached_tokens: count(budget.cached_tokens),
            completion_tokens: count(budget.completion_tokens),
            cost: dollars(budget.spent.cost),
            reserved_cost: dollars(budget.reserved.cost),
            reserved_tokens: count(budget.reserved.tokens),
            max_cost: budget.caps.cost.map(dollars),
            max_tokens: budget.caps.tokens,
        },
    }))
}

/// The name of a batch's extractor. `None`: there is no such batch.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn extractor_of(
    store: &Store,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<String>, StoreError> {
    let mut read = store.app(organization).await?;
    let setup = store::batch_setup(&mut read, organization, id).await?;
    Ok(setup.map(|(extractor, ..)| extractor))
}

/// The report of a batch that was written down just now.
pub(super) fn fresh(id: BatchId, name: String, documents: u64) -> BatchReport {
    BatchReport {
        batch_id: id,
        name,
        state: BatchStateName::Pending.as_str(),
        open: false,
        documents: DocumentCounts {
            total: documents,
            ..DocumentCounts::default()
        },
        entities: 0,
        relations: 0,
        clusters: 0,
        duration_ms: 0,
        calls: CallCounts::default(),
        adjudication: None,
        failures: Vec::new(),
        failed_units: Vec::new(),
    }
}

/// What failed of a batch.
struct Failed {
    documents: Vec<store::Refused>,
    units: Vec<store::FailedUnit>,
}

async fn failed(
    transaction: &mut store::AppTransaction,
    organization: OrganizationId,
    batch: &Batch,
) -> Result<Failed, StoreError> {
    let documents = store::failures(transaction, organization, batch.id, FAILURES).await?;
    let units = store::failed_units(transaction, organization, batch.id, FAILURES).await?;
    Ok(Failed { documents, units })
}

fn of(batch: &Batch, calls: &Calls, before: u64, failed: Failed) -> BatchReport {
    let counts = &batch.counts;
    BatchReport {
        batch_id: batch.id,
        name: batch.name.clone(),
        state: batch.state.name().as_str(),
        open: batch.intake == Intake::Open,
        documents: counts.into(),
        entities: counts.entities,
        relations: counts.relations,
        clusters: counts.clusters,
        duration_ms: batch.duration_ms.unsigned_abs(),
        calls: CallCounts {
            made: calls.made.saturating_sub(before),
            reused: before.min(calls.made) + calls.replayed,
            spent: calls.spent,
        },
        adjudication: None,
        failures: failed
            .documents
            .into_iter()
            .map(FailureReport::from)
            .collect(),
        failed_units: failed
            .units
            .into_iter()
            .map(|unit| FailedUnitReport {
                document: unit.external_id,
                stage: unit.stage,
                unit: unit.unit,
                code: unit.failure.code.as_str(),
                message: unit.failure.message,
            })
            .collect(),
    }
}
