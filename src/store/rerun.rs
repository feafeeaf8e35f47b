//! Working the documents of an ended batch again: a new execution for each of them in its next generation, without
//! checkpoints of its own. What still holds of earlier ones is found by its hash when a stage is worked.
//!
//! As with a retry, the first step opens the generation and counts what leaves, and the executions follow in bounded
//! steps.

use graphmill_jobs::{BatchId, DocumentId, OntologyId, OrganizationId, WorkflowExecutionId};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, ledger::Nanodollars};
use crate::flow::{EventKind, ExecutionStatus, Stage, WORKFLOW_VERSION, WorkflowType};

/// What leaves the counts of a batch whose documents are all worked again, from a stage on, as the event tells it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn rerun_counts(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    from: Stage,
) -> Result<EventKind, StoreError> {
    let row = query!(
        r#"select count(*) filter (where e.status = 'completed') as "completed!",
                  count(*) filter (where e.status = 'completed' and e.partial) as "partial!",
                  count(*) filter (where e.status = 'abandoned') as "abandoned!",
                  count(*) filter (where e.status = 'cancelled') as "cancelled!"
           from workflow_execution e
           where e.organization_id = $1 and e.batch_id = $2 and e.workflow_type = 'extraction'
             and e.withdrawn_at is null
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(EventKind::BatchRerun {
        generation,
        from,
        completed: row.completed.unsigned_abs(),
        partial: row.partial.unsigned_abs(),
        abandoned: row.abandoned.unsigned_abs(),
        cancelled: row.cancelled.unsigned_abs(),
    })
}

/// Changes what a batch is worked with. Its next generation must be opened in the same transaction.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn set_batch_setup(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    ontology: OntologyId,
    config: &Value,
) -> Result<(), StoreError> {
    query!(
        "update batch set ontology_id = $3, config = $4, updated_at = now()
         where organization_id = $1 and id = $2",
        organization.uuid(),
        batch.uuid(),
        ontology.uuid(),
        config,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest executions before `generation` of the batch's documents that have none in it, after `after`, by id.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn current_executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Vec<(WorkflowExecutionId, DocumentId)>, StoreError> {
    let rows = query!(
        r#"select e.id, e.document_id as "document_id!" from workflow_execution e
           where e.organization_id = $1 and e.batch_id = $2 and e.workflow_type = 'extraction'
             and e.withdrawn_at is null and e.id > $4 and e.generation < $3
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')
           order by e.id limit $5"#,
        organization.uuid(),
        batch.uuid(),
        generation,
        after.map_or(Uuid::nil(), WorkflowExecutionId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id.into(), row.document_id.into()))
        .collect())
}

/// Queues up to `most` executions of the batch's `generation`, after the old one `after`; returns the last old one that
/// was looked at, `None` when there are no more.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help, and adds nothing twice.
pub async fn add_reruns(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Option<WorkflowExecutionId>, StoreError> {
    let page = current_executions(
        &mut *connection,
        organization,
        batch,
        generation,
        after,
        most,
    )
    .await?;
    let old: Vec<Uuid> = page.iter().map(|(old, _)| old.uuid()).collect();
    let fresh: Vec<Uuid> = page
        .iter()
        .map(|_| WorkflowExecutionId::generate().uuid())
        .collect();
    query!(
        "with pair as (
             select * from unnest($3::uuid[], $4::uuid[]) as pair (old, fresh)
         ), added as (
             insert into workflow_execution (id, organization_id, batch_id, generation, document_id,
                                             workflow_type, workflow_version, status, current_activity)
             select pair.fresh, e.organization_id, e.batch_id, $2, e.document_id, $5, $6, $7, $8
             from pair join workflow_execution e on e.organization_id = $1 and e.id = pair.old
             -- Somebody else may be at the same re-run.
             on conflict (document_id, generation) where workflow_type = 'extraction' do nothing
             returning id
         )
         insert into checkpoint (workflow_execution_id, organization_id, stage, unit, input_hash, outcome, round,
                                 tries, deaths, failure, lease_epoch)
         -- A unit that took processes down works alone from the start. What was found is found by its hash.
         select pair.fresh, c.organization_id, c.stage, c.unit, c.input_hash, 'retry', 0, 1, least(c.deaths, 1),
                c.failure, 0
         from pair
         join added on added.id = pair.fresh
         join checkpoint c on c.organization_id = $1 and c.workflow_execution_id = pair.old
         where c.deaths > 0 and c.outcome <> 'done'",
        organization.uuid(),
        generation,
        &old,
        &fresh,
        WorkflowType::Extraction.as_str(),
        WORKFLOW_VERSION,
        ExecutionStatus::Queued.as_str(),
        WorkflowType::Extraction.first_stage().activity_name(),
    )
    .execute(&mut *connection)
    .await?;
    Ok(page.last().map(|(old, _)| *old))
}

/// What a batch's answered calls of a stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaidStage {
    /// Units that they were made for.
    pub units: u64,
    /// Calls.
    pub calls: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub completion_tokens: u64,
    /// What they cost; `None` if that is not known of all.
    pub cost: Option<Nanodollars>,
}

/// What a batch's answered calls of `stage` took.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn paid_by_stage(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    stage: Stage,
) -> Result<PaidStage, StoreError> {
    // A probe finds out how a server is talked to, once.
    let row = query!(
        r#"select count(*) as "calls!", count(distinct (workflow_execution_id, unit)) as "units!",
                  coalesce(sum(prompt_tokens), 0)::bigint as "prompt_tokens!",
                  coalesce(sum(completion_tokens), 0)::bigint as "completion_tokens!",
                  count(cost) as "priced!", coalesce(sum(cost) * 1000000000, 0)::bigint as "cost!"
           from llm_call
           where organization_id = $1 and batch_id = $2 and stage = $3 and outcome = 'answered'
             and prompt not like 'probe@%'"#,
        organization.uuid(),
        batch.uuid(),
        stage.as_str(),
    )
    .fetch_one(connection)
    .await?;
    Ok(PaidStage {
        units: row.units.unsigned_abs(),
        calls: row.calls.unsigned_abs(),
        prompt_tokens: row.prompt_tokens.unsigned_abs(),
        completion_tokens: row.completion_tokens.unsigned_abs(),
        cost: (row.priced == row.calls).then_some(row.cost),
    })
}

/// Units of `stage` that an execution has done.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn units_done(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    stage: Stage,
) -> Result<u64, StoreError> {
    let done = query_scalar!(
        r#"select count(*) as "done!" from checkpoint
           where organization_id = $1 and workflow_execution_id = $2 and stage = $3 and outcome = 'done'"#,
        organization.uuid(),
        execution.uuid(),
        stage.as_str(),
    )
    .fetch_one(connection)
    .await?;
    Ok(done.unsigned_abs())
}
