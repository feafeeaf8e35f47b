//! The table `checkpoint`: what became of each unit. One that is done is never written again, unless it was given
//! something else since.

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};

use super::{Fence, StoreError, from_json, parsed, to_json};
use crate::flow::{Failure, Stage};

/// A unit's checkpoint, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRow {
    /// The unit's stage.
    pub stage: Stage,
    /// Its number within the stage.
    pub unit: i32,
    /// The batch's round that its tries were made in.
    pub round: i32,
    /// Tries in that round; 0: it is inherited, which stands in the table as epoch 0.
    pub tries: i32,
    /// Processes that died while they worked on it alone.
    pub deaths: i32,
    /// SHA-256 of what the unit was given.
    pub input_hash: [u8; 32],
    /// What became of it.
    pub end: UnitEnd,
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitEnd {
    /// Done, with its output.
    Done(Value),
    /// Failed, with tries left.
    Retry(Failure),
    /// Failed for good in its round.
    Failed(Failure),
}

/// Checkpoints as the columns of a statement.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) stages: Vec<String>,
    pub(super) units: Vec<i32>,
    pub(super) rounds: Vec<i32>,
    pub(super) tries: Vec<i32>,
    pub(super) deaths: Vec<i32>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) outcomes: Vec<String>,
    pub(super) outputs: Vec<Option<Value>>,
    pub(super) failures: Vec<Option<Value>>,
}

impl Columns {
    pub(super) fn of(rows: &[CheckpointRow]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for row in rows {
            let (outcome, output, failure) = match &row.end {
                UnitEnd::Done(output) => ("done", Some(output.clone()), None),
                UnitEnd::Retry(failure) => ("retry", None, Some(to_json("a failure", failure)?)),
                UnitEnd::Failed(failure) => ("failed", None, Some(to_json("a failure", failure)?)),
            };
            columns.stages.push(row.stage.as_str().to_owned());
            columns.units.push(row.unit);
            columns.rounds.push(row.round);
            columns.tries.push(row.tries);
            columns.deaths.push(row.deaths);
            columns.hashes.push(row.input_hash.to_vec());
            columns.outcomes.push(outcome.to_owned());
            columns.outputs.push(output);
            columns.failures.push(failure);
        }
        Ok(columns)
    }
}

/// Writes checkpoints under a lease; `false`: the lease is lost, and nothing was written. Those that go with a settle
/// are written by [`settle`](super::settle) in the same way.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help, and writes nothing twice.
pub async fn record_units(
    connection: &mut PgConnection,
    fence: Fence,
    rows: &[CheckpointRow],
) -> Result<bool, StoreError> {
    let columns = Columns::of(rows)?;
    // The row is locked, so that a takeover can't come between the look at the epoch and the write.
    let held = query_scalar!(
        r#"with held as (
               select organization_id, id, lease_epoch from workflow_execution
               where organization_id = $1 and id = $2 and lease_epoch = $3 and lease_owner is not null
               for no key update
           ), written as (
               insert into checkpoint (organization_id, workflow_execution_id, lease_epoch, stage, unit,
                                       round, tries, input_hash, outcome, output, failure, deaths)
               -- Under epoch 0, which no lease has: inherited.
               select h.organization_id, h.id, case when u.tries = 0 then 0 else h.lease_epoch end, u.stage, u.unit,
                      u.round, greatest(u.tries, 1), u.hash, u.outcome, u.output, u.failure, u.deaths
               from held h
               cross join unnest($4::text[], $5::integer[], $6::integer[], $7::integer[], $8::bytea[],
                                 $9::text[], $10::jsonb[], $11::jsonb[], $12::integer[])
                   as u (stage, unit, round, tries, hash, outcome, output, failure, deaths)
               on conflict (workflow_execution_id, stage, unit) do update
               set lease_epoch = excluded.lease_epoch, round = excluded.round, tries = excluded.tries,
                   input_hash = excluded.input_hash, outcome = excluded.outcome,
                   output = excluded.output, failure = excluded.failure, deaths = excluded.deaths,
                   created_at = clock_timestamp()
               where checkpoint.outcome <> 'done' or checkpoint.input_hash <> excluded.input_hash
           )
           select count(*) as "count!" from held"#,
        fence.organization.uuid(),
        fence.execution.uuid(),
        fence.epoch,
        &columns.stages,
        &columns.units,
        &columns.rounds,
        &columns.tries,
        &columns.hashes,
        &columns.outcomes,
        &columns.outputs as &[Option<Value>],
        &columns.failures as &[Option<Value>],
        &columns.deaths,
    )
    .fetch_one(connection)
    .await?;
    Ok(held == 1)
}

/// The checkpoints of an execution; one that was retried has inherited some of later stages.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn checkpoints_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Vec<CheckpointRow>, StoreError> {
    let rows = query!(
        "select stage, unit, round, tries, deaths, input_hash, outcome, output, failure from checkpoint
         where organization_id = $1 and workflow_execution_id = $2",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let failure: Option<Failure> = row
                .failure
                .map(|failure| from_json("a failure", failure))
                .transpose()?;
            let end = match (row.outcome.as_str(), failure) {
                ("done", None) => UnitEnd::Done(row.output.unwrap_or(Value::Null)),
                ("retry", Some(failure)) => UnitEnd::Retry(failure),
                ("failed", Some(failure)) => UnitEnd::Failed(failure),
                (outcome, _) => {
                    return Err(StoreError::decode("a checkpoint")(
                        outcome.to_owned().into(),
                    ));
                }
            };
            Ok(CheckpointRow {
                stage: parsed("a stage", &row.stage)?,
                unit: row.unit,
                round: row.round,
                tries: row.tries,
                deaths: row.deaths,
                input_hash: row
                    .input_hash
                    .try_into()
                    .map_err(|_| StoreError::decode("a hash")("it is not 32 bytes long".into()))?,
                end,
            })
        })
        .collect()
}

/// What was found in a document before `generation`: each unit's checkpoints that are done, one for each input, the
/// newest.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn earlier_checkpoints(
    connection: &mut PgConnection,
    organization: OrganizationId,
    document: DocumentId,
    generation: i32,
) -> Result<Vec<CheckpointRow>, StoreError> {
    let rows = query!(
        "select distinct on (c.stage, c.unit, c.input_hash) c.stage, c.unit, c.round, c.tries, c.deaths, c.input_hash,
                c.output
         from workflow_execution e
         join checkpoint c on c.organization_id = e.organization_id and c.workflow_execution_id = e.id
         where e.organization_id = $1 and e.document_id = $2 and e.workflow_type = 'extraction' and e.generation < $3
           and c.outcome = 'done'
         order by c.stage, c.unit, c.input_hash, e.generation desc",
        organization.uuid(),
        document.uuid(),
        generation,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(CheckpointRow {
                stage: parsed("a stage", &row.stage)?,
                unit: row.unit,
                round: row.round,
                tries: row.tries,
                deaths: row.deaths,
                input_hash: row
                    .input_hash
                    .try_into()
                    .map_err(|_| StoreError::decode("a hash")("it is not 32 bytes long".into()))?,
                end: UnitEnd::Done(row.output.unwrap_or(Value::Null)),
            })
        })
        .collect()
}

/// What the units of a stage came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitCounts {
    /// The stage.
    pub stage: Stage,
    /// Units that are done.
    pub done: u64,
    /// Units that will be tried again.
    pub retry: u64,
    /// Units that failed for good.
    pub failed: u64,
}

/// What the units of an execution came to, by stage.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn unit_counts(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Vec<UnitCounts>, StoreError> {
    let rows = query!(
        r#"select stage, count(*) filter (where outcome = 'done') as "done!",
                  count(*) filter (where outcome = 'retry') as "retry!",
                  count(*) filter (where outcome = 'failed') as "failed!"
           from checkpoint where organization_id = $1 and workflow_execution_id = $2
           group by stage"#,
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(connection)
    .await?;
    let mut counts = rows
        .into_iter()
        .map(|row| {
            Ok(UnitCounts {
                stage: parsed("a stage", &row.stage)?,
                done: row.done.unsigned_abs(),
                retry: row.retry.unsigned_abs(),
                failed: row.failed.unsigned_abs(),
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    counts.sort_by_key(|counts| counts.stage);
    Ok(counts)
}

/// A unit that failed for good, in a document that went on without it or ended because of it.
#[derive(Debug, Clone)]
pub struct FailedUnit {
    /// The document's id as the caller gave it.
    pub external_id: String,
    /// The unit's stage.
    pub stage: Stage,
    /// Its number within the stage.
    pub unit: i32,
    /// Why.
    pub failure: Failure,
}

/// Units that failed for good, in documents of the batch that are partial, failed or abandoned: by document, stage and
/// number, `most` at most.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn failed_units(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<Vec<FailedUnit>, StoreError> {
    let rows = query!(
        r#"select d.external_id, c.stage, c.unit, c.failure as "failure!"
           from workflow_execution e
           join checkpoint c on c.organization_id = e.organization_id and c.workflow_execution_id = e.id
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           where e.organization_id = $1 and e.batch_id = $2
             and (e.partial or e.status in ('failed', 'abandoned')) and c.outcome = 'failed'
             and e.withdrawn_at is null
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')
           order by e.id, c.stage, c.unit
           limit $3"#,
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(FailedUnit {
                external_id: row.external_id,
                stage: parsed("a stage", &row.stage)?,
                unit: row.unit,
                failure: from_json("a failure", row.failure)?,
            })
        })
        .collect()
}

/// Calls of the extractor that a batch's checkpoints stand for: every try of a unit of `mentions`, `entities` and
/// `relations`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn calls(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<u64, StoreError> {
    let calls = query_scalar!(
        r#"select coalesce(sum(c.tries), 0) as "calls!" from checkpoint c
           join workflow_execution e
             on e.organization_id = c.organization_id and e.id = c.workflow_execution_id
           where e.organization_id = $1 and e.batch_id = $2
             and c.stage in ('mentions', 'entities', 'relations')
             -- Not those that a retry has inherited.
             and c.lease_epoch > 0"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(calls.unsigned_abs())
}
