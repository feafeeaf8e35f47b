//! The table `workflow_execution`: settling a stage. One statement writes its last checkpoints, the execution's move,
//! the attempt's end and the events; and, for whoever goes on with the next stage at once, the lease of that one.
//!
//! Invariant: it is fenced. Who has lost the lease writes nothing of all this.

use std::time::Duration;

use graphmill_jobs::{BatchId, WorkerId, WorkflowActivityId};
use serde_json::Value;
use sqlx::{PgConnection, query};

use super::Fence;
use crate::{
    flow::{ActivityStatus, EventKind, ExecutionStatus, Failure, Stage},
    store::{CheckpointRow, StoreError, checkpoint::Columns, parsed, seconds, to_json},
};

/// The move that settles a stage, as the machines decided it.
#[derive(Debug, Clone)]
pub struct Settled<'a> {
    /// The execution's next status.
    pub status: ExecutionStatus,
    /// The stage that it waits for or ended in.
    pub stage: Stage,
    /// The stage that was worked.
    pub worked: Stage,
    /// The attempt's end.
    pub activity: ActivityStatus,
    /// Units failed for good, here or before.
    pub partial: bool,
    /// When a retry is due, from now.
    pub wait: Duration,
    /// Why it failed, if it did.
    pub error: Option<&'a Failure>,
    /// What the execution gave, once it is completed.
    pub output: Option<Value>,
    /// What the stage left behind, in short.
    pub checkpoint: Value,
    /// Checkpoints of units that are not written yet.
    pub units: &'a [CheckpointRow],
    /// Where the successor's job is about to be pushed.
    pub incarnation: i64,
    /// What to tell.
    pub events: &'a [EventKind],
    /// Who has a slot for the next stage and takes it up, if there is one and it may be leased.
    pub takeover: Option<Takeover>,
}

/// Who takes up the next stage.
#[derive(Debug, Clone, Copy)]
pub struct Takeover {
    /// Who settles.
    pub owner: WorkerId,
    /// How long the lease lasts without being renewed.
    pub lasts: Duration,
}

/// What came of a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is written.
    Written,
    /// It is written, and the next stage is leased to the one who settles: this is which attempt at it.
    TakenUp(i32),
    /// It is written, and a signal waits for an answer in the same transaction.
    Signalled,
    /// The lease is lost: nothing is written, and the transaction must be rolled back.
    Lost,
}

/// Settles a stage: the units that are left, the execution's move, the attempt's end and the events, in one statement;
/// outputs go into the same transaction.
///
/// With [`Settled::takeover`] the next stage is leased in the same step, under the next epoch, if a job for it would
/// get the lease (`flow::ExecutionView::may_lease`): nobody has asked the execution or its batch to pause or to stop.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub async fn settle(
    connection: &mut PgConnection,
    fence: Fence,
    batch: BatchId,
    settled: &Settled<'_>,
) -> Result<Settlement, StoreError> {
    let error = settled
        .error
        .map(|failure| to_json("a failure", failure))
        .transpose()?;
    let (types, payloads) = event_columns(settled.events)?;
    let units = Columns::of(settled.units)?;
    let takeover = settled
        .takeover
        .filter(|_| settled.status == ExecutionStatus::Processing);
    let row = query!(
        r#"with moved as (
               update workflow_execution e
               set status = $4, current_activity = $5, partial = $6,
                   due_at = case when $4 = 'retry' then now() + make_interval(secs => $7) else due_at end,
                   -- The execution's own signals are asked of the row as it is once it is locked.
                   lease_owner = case when e.stop_requested_at is null and e.paused_at is null then t.owner end,
                   lease_until = case when e.stop_requested_at is null and e.paused_at is null
                                           and t.owner is not null
                                      then now() + make_interval(secs => $19) end,
                   lease_epoch = e.lease_epoch + case when e.stop_requested_at is null and e.paused_at is null
                                                           and t.owner is not null then 1 else 0 end,
                   lost_leases = 0,
                   rung_at = case when $4 = 'processing' then now() end, ring_incarnation = $8,
                   error = $9, output = coalesce($10, output), checkpoint = $11,
                   completed_at = case when $12 then now() end, updated_at = now()
               from (select (select $18::uuid from batch b
                             where b.organization_id = $1 and b.id = $15
                               and b.stopping is null and b.paused_at is null) as owner,
                            -- One moment for the end of the one attempt and the beginning of the next.
                            clock_timestamp() as at) t
               where e.organization_id = $1 and e.id = $2 and e.lease_epoch = $3 and e.lease_owner is not null
               returning e.organization_id, e.id, e.workflow_type, e.lease_epoch, e.lease_owner, t.at,
                         (stop_requested_at is not null or paused_at is not null) as signalled
           ), written as (
               insert into checkpoint (organization_id, workflow_execution_id, lease_epoch, stage, unit,
                                       round, tries, input_hash, outcome, output, failure, deaths)
               -- Under epoch 0, which no lease has: inherited.
               select m.organization_id, m.id, case when u.tries = 0 then 0 else $3 end, u.stage, u.unit,
                      u.round, greatest(u.tries, 1), u.hash, u.outcome, u.output, u.failure, u.deaths
               from moved m
               cross join unnest($21::text[], $22::integer[], $23::integer[], $24::integer[], $25::bytea[],
                                 $26::text[], $27::jsonb[], $28::jsonb[], $29::integer[])
                   as u (stage, unit, round, tries, hash, outcome, output, failure, deaths)
               on conflict (workflow_execution_id, stage, unit) do update
               set lease_epoch = excluded.lease_epoch, round = excluded.round, tries = excluded.tries,
                   input_hash = excluded.input_hash, outcome = excluded.outcome,
                   output = excluded.output, failure = excluded.failure, deaths = excluded.deaths,
                   created_at = clock_timestamp()
               where checkpoint.outcome <> 'done' or checkpoint.input_hash <> excluded.input_hash
           ), ended as (
               update workflow_activity
               set status = $13, completed_at = (select at from moved), error = $9,
                   output = case when $9::jsonb is null then $11::jsonb end
               where organization_id = $1 and workflow_execution_id = $2 and activity_name = $14
                 and lease_epoch = $3 and exists (select from moved)
           ), begun as (
               insert into workflow_activity (id, organization_id, workflow_execution_id, activity_name,
                                              activity_type, status, attempt_number, lease_epoch, started_at)
               select $20, m.organization_id, m.id, $5, m.workflow_type, 'running', 1 + (
                          select count(*) from workflow_activity a
                          where a.organization_id = $1 and a.workflow_execution_id = $2
                            and a.activity_name = $5),
                      m.lease_epoch, m.at
               from moved m where m.lease_owner is not null
               returning attempt_number
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select m.organization_id, $15, m.id, e.type, e.payload
               from moved m cross join unnest($16::text[], $17::jsonb[]) as e (type, payload)
           )
           select m.signalled as "signalled!", (select attempt_number from begun) as attempt
           from moved m"#,
        fence.organization.uuid(),
        fence.execution.uuid(),
        fence.epoch,
        settled.status.as_str(),
        settled.stage.activity_name(),
        settled.partial,
        seconds(settled.wait),
        settled.incarnation,
        error,
        settled.output,
        settled.checkpoint,
        settled.status.is_final(),
        settled.activity.as_str(),
        settled.worked.activity_name(),
        batch.uuid(),
        &types,
        &payloads,
        takeover.map(|takeover| takeover.owner.uuid()),
        takeover.map_or(0.0, |takeover| seconds(takeover.lasts)),
        WorkflowActivityId::generate().uuid(),
        &units.stages,
        &units.units,
        &units.rounds,
        &units.tries,
        &units.hashes,
        &units.outcomes,
        &units.outputs as &[Option<Value>],
        &units.failures as &[Option<Value>],
        &units.deaths,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(Settlement::Lost);
    };
    Ok(match row.attempt {
        _ if row.signalled => Settlement::Signalled,
        Some(attempt) => Settlement::TakenUp(attempt),
        None => Settlement::Written,
    })
}

fn event_columns(events: &[EventKind]) -> Result<(Vec<String>, Vec<Value>), StoreError> {
    let types = events.iter().map(|event| event.name().to_owned());
    let payloads = events.iter().map(|event| to_json("an event", event));
    Ok((types.collect(), payloads.collect::<Result<_, _>>()?))
}

/// Where an execution stands if the attempt under `fence` has ended and nobody but `owner` has leased it since, and
/// which attempt at the next stage was leased to him with its end; else `None`. It tells a settle that was committed
/// from one that was not, when the connection broke in between.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn settled_status(
    connection: &mut PgConnection,
    fence: Fence,
    stage: Stage,
    owner: WorkerId,
) -> Result<Option<(ExecutionStatus, Option<i32>)>, StoreError> {
    let row = query!(
        r#"select e.status, next.attempt_number as "attempt?" from workflow_execution e
           join workflow_activity a on a.organization_id = e.organization_id and a.workflow_execution_id = e.id
           left join workflow_activity next
             on next.organization_id = e.organization_id and next.workflow_execution_id = e.id
            and next.lease_epoch = $3::bigint + 1 and next.activity_name = e.current_activity
            -- By the settle, that is, and not by a job that found it later.
            and next.started_at = a.completed_at
           where e.organization_id = $1 and e.id = $2
             and (e.lease_epoch = $3::bigint and e.lease_owner is null
                  or e.lease_epoch = $3::bigint + 1 and e.lease_owner = $5 and next.status = 'running')
             and a.lease_epoch = $3 and a.activity_name = $4 and a.status <> 'running'"#,
        fence.organization.uuid(),
        fence.execution.uuid(),
        fence.epoch,
        stage.activity_name(),
        owner.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((parsed("a status", &row.status)?, row.attempt)))
        .transpose()
}
