//! Another try for the documents of a batch that has ended: new executions in its next generation, which inherit the
//! checkpoints of what was done. The old executions stay as they ended.
//!
//! The first step opens the generation and counts what it will retry; the executions follow in bounded steps; the
//! batch is sealed by the last one. A retry that was cut off goes on where it stopped: a document has one execution
//! in a generation.

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    StoreError,
    batch::{intake, stopping},
    execution::revive_failed,
    to_json,
};
use crate::flow::{
    BatchCounts, BatchState, EventKind, ExecutionStatus, Filling, Intake, Stage, Stopping,
    WORKFLOW_VERSION, WorkflowType,
};

/// How a batch stands whose next generation may be opened; its row is locked.
#[derive(Debug, Clone)]
pub struct BatchToReopen {
    /// The generation that it is in.
    pub generation: i32,
    /// Where it stands.
    pub state: BatchState,
    /// What its events add up to.
    pub counts: BatchCounts,
    /// Whether it takes documents.
    pub intake: Intake,
    /// Why it is being stopped.
    pub stopping: Option<Stopping>,
}

/// Locks and reads a batch whose next generation may be opened.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn batch_to_reopen(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<BatchToReopen>, StoreError> {
    let row = query!(
        "select generation, state_data, counts, sealed_at, filling, stopping from batch
         where organization_id = $1 and id = $2 and pruning_since is null for update",
        organization.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(BatchToReopen {
            generation: row.generation,
            state: super::from_json("a batch state", row.state_data)?,
            counts: super::from_json("counts", row.counts)?,
            intake: intake(row.sealed_at.is_some(), row.filling)?,
            stopping: stopping(row.stopping)?,
        })
    })
    .transpose()
}

/// How many documents of the batch a retry would take up: the event that says so. With `only`, one of them at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn retryable(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    only: Option<WorkflowExecutionId>,
) -> Result<EventKind, StoreError> {
    let stages: Vec<String> = Stage::of_a_document()
        .map(|stage| stage.activity_name().to_owned())
        .collect();
    let row = query!(
        r#"select count(*) filter (where e.status = 'abandoned') as "abandoned!",
                  count(*) filter (where e.status = 'cancelled') as "cancelled!",
                  count(*) filter (where e.status = 'completed') as "partial!",
                  -- Through a stage: at a later one, or completed.
                  array[count(*) filter (where e.status = 'completed' or at > 1),
                        count(*) filter (where e.status = 'completed' or at > 2),
                        count(*) filter (where e.status = 'completed' or at > 3),
                        count(*) filter (where e.status = 'completed' or at > 4),
                        count(*) filter (where e.status = 'completed')] as "passed!"
           from workflow_execution e
           cross join lateral array_position($4::text[], e.current_activity) as at
           where e.organization_id = $1 and e.batch_id = $2 and e.workflow_type = 'extraction'
             and e.withdrawn_at is null
             and (e.status in ('abandoned', 'cancelled') or e.status = 'completed' and e.partial)
             and ($3::uuid is null or e.id = $3)
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')"#,
        organization.uuid(),
        batch.uuid(),
        only.map(WorkflowExecutionId::uuid),
        &stages,
    )
    .fetch_one(connection)
    .await?;
    let mut passed = [0; Stage::OF_A_DOCUMENT];
    for (to, count) in passed.iter_mut().zip(row.passed) {
        *to = count.unsigned_abs();
    }
    Ok(EventKind::BatchRetried {
        passed,
        generation,
        abandoned: row.abandoned.unsigned_abs(),
        cancelled: row.cancelled.unsigned_abs(),
        partial: row.partial.unsigned_abs(),
    })
}

/// Opens the next generation of a batch whose row is locked, with the state and counts that the machines gave.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn open_generation(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    to: &BatchToReopen,
    filling: Filling,
) -> Result<(), StoreError> {
    query!(
        "update batch
         set generation = $3, state = $4, state_data = $5, counts = $6, sealed_at = null, ended_at = null,
             filling = $7, stopping = null, paused_at = null, pause_reason = null, updated_at = now()
         where organization_id = $1 and id = $2",
        organization.uuid(),
        batch.uuid(),
        to.generation,
        to.state.name().as_str(),
        to_json("a batch state", &to.state)?,
        to_json("counts", &to.counts)?,
        filling.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Queues up to `most` executions of the batch's `generation`, after the old one `after`, each with the checkpoints
/// of what was done; returns the last old one that was looked at, `None` when there are no more.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help, and adds nothing twice.
pub async fn add_retries(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    only: Option<WorkflowExecutionId>,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Option<WorkflowExecutionId>, StoreError> {
    let page: Vec<Uuid> = query_scalar!(
        "select e.id from workflow_execution e
         where e.organization_id = $1 and e.batch_id = $2 and e.workflow_type = 'extraction'
           and e.withdrawn_at is null
           and (e.status in ('abandoned', 'cancelled') or e.status = 'completed' and e.partial)
           and ($4::uuid is null or e.id = $4) and e.id > $5 and e.generation < $3
           and not exists (select from workflow_execution later
                           where later.document_id = e.document_id and later.generation > e.generation
                             and later.workflow_type = 'extraction')
         order by e.id limit $6",
        organization.uuid(),
        batch.uuid(),
        generation,
        only.map(WorkflowExecutionId::uuid),
        after.map_or(Uuid::nil(), WorkflowExecutionId::uuid),
        most,
    )
    .fetch_all(&mut *connection)
    .await?;
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
             -- Somebody else may be at the same retry.
             on conflict (document_id, generation) where workflow_type = 'extraction' do nothing
             returning id
         )
         insert into checkpoint (workflow_execution_id, organization_id, stage, unit, input_hash, outcome, round,
                                 tries, deaths, output, failure, lease_epoch)
         -- Under epoch 0, which no lease has: inherited. A unit that took processes down works alone from the start.
         select pair.fresh, c.organization_id, c.stage, c.unit, c.input_hash,
                case when c.outcome = 'done' then 'done' else 'retry' end, 0, 1, least(c.deaths, 1), c.output,
                c.failure, 0
         from pair
         join added on added.id = pair.fresh
         join checkpoint c on c.organization_id = $1 and c.workflow_execution_id = pair.old
         where c.outcome = 'done' or c.deaths > 0",
        organization.uuid(),
        generation,
        &page,
        &fresh,
        WorkflowType::Extraction.as_str(),
        WORKFLOW_VERSION,
        ExecutionStatus::Queued.as_str(),
        WorkflowType::Extraction.first_stage().activity_name(),
    )
    .execute(&mut *connection)
    .await?;
    Ok(page.last().copied().map(Into::into))
}

/// Lets what waits in a running batch come at once: documents that wait for another round get it, and tries that
/// wait for their time are due; `most` of each at most. Returns how many documents that were.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn retry_waiting(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<u64, StoreError> {
    let runs = query_scalar!(
        r#"select stopping is null as "runs!" from batch where organization_id = $1 and id = $2"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    if runs != Some(true) {
        return Ok(0);
    }
    let due = query!(
        "update workflow_execution set due_at = now(), updated_at = now()
         where organization_id = $1 and id = any(array(
             select id from workflow_execution
             where organization_id = $1 and batch_id = $2 and status = 'retry' and due_at > now()
             limit $3))
           and status = 'retry'",
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .execute(&mut *connection)
    .await?;
    let revived = revive_failed(connection, organization, batch, most).await?;
    Ok(due.rows_affected() + revived)
}
