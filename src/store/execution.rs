//! The table `workflow_execution`: ringing and leasing; admitting is in `admit.rs`, settling in `settle.rs`.
//!
//! Every write of a worker is fenced by the lease epoch: a row that somebody else leased since is not touched, and
//! the caller learns that it lost the lease.

mod admit;
mod of_batch;
mod pass_on;
mod read;
mod settle;

use std::time::Duration;

use graphmill_jobs::{
    BatchId, DocumentId, OrganizationId, WorkerId, WorkflowActivityId, WorkflowExecutionId,
};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

pub use admit::{AdmitLimits, Admitted, Mark, TakeUp, admit, admit_from, admit_lock};
pub use of_batch::{cancel_stopped, processing_of, revive_failed, start_resolution, waited_for};
pub use pass_on::{Passed, pass_on};
pub use read::{
    Execution, documents_in_work, execution_by_id, execution_of_document, executions,
    executions_looked_at,
};

pub use settle::{Settled, Settlement, Takeover, settle, settled_status};

use super::{StoreError, parsed, seconds, to_json};
use crate::flow::{Failure, FailurePolicy, Stage, WORKFLOW_VERSION};

/// What makes a worker's write refusable: it names the lease that it is made under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// Whose execution.
    pub organization: OrganizationId,
    /// Which one.
    pub execution: WorkflowExecutionId,
    /// The lease's epoch.
    pub epoch: i64,
}

/// An execution for which a job is to be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ringable {
    /// Whose.
    pub organization: OrganizationId,
    /// Its batch.
    pub batch: BatchId,
    /// Which one.
    pub execution: WorkflowExecutionId,
    /// Its lease epoch.
    pub epoch: i64,
    /// The stage that it waits for.
    pub stage: Stage,
    /// Its workflow version.
    pub version: i32,
}

/// Executions that have gone silent.
#[derive(Debug, Clone)]
pub struct Silent {
    /// What is to be rung for.
    pub rings: Vec<Ringable>,
    /// How many of them somebody had leased, and let the lease run out.
    pub expired: usize,
}

/// Executions that are admitted and due, that nobody works, and whose job is missing: not rung yet, rung more than
/// `patience` ago, or rung at another incarnation of Redis. They are marked as rung at `incarnation`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn to_ring(
    connection: &mut PgConnection,
    incarnation: i64,
    patience: Duration,
    most: usize,
) -> Result<Silent, StoreError> {
    let rows = query!(
        r#"with silent as (
               select id from workflow_execution
               where status = 'processing' and due_at <= now() and paused_at is null
                 and stop_requested_at is null
                 and not exists (select from batch b
                                 where b.organization_id = workflow_execution.organization_id
                                   and b.id = workflow_execution.batch_id and b.paused_at is not null)
                 and (lease_until is null or lease_until < now())
                 and (rung_at is null or rung_at < now() - make_interval(secs => $2)
                      or ring_incarnation is distinct from $1)
                 and workflow_version <= $4
               order by rung_at nulls first
               limit $3
               for update skip locked
           )
           update workflow_execution e
           set rung_at = now(), ring_incarnation = $1
           where e.id = any(array(select id from silent))
           returning e.organization_id, e.batch_id, e.id, e.lease_epoch, e.current_activity, e.workflow_version,
                     e.lease_until is not null as "expired!""#,
        incarnation,
        seconds(patience),
        i64::try_from(most).unwrap_or(i64::MAX),
        WORKFLOW_VERSION,
    )
    .fetch_all(connection)
    .await?;
    let expired = rows.iter().filter(|row| row.expired).count();
    let rings = rows
        .into_iter()
        .map(|row| {
            Ok(Ringable {
                organization: row.organization_id.into(),
                batch: row.batch_id.into(),
                execution: row.id.into(),
                epoch: row.lease_epoch,
                stage: stage(&row.current_activity)?,
                version: row.workflow_version,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Silent { rings, expired })
}

/// Says that no job was pushed for these after all (the queue's window is full, or Redis is away).
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn mark_unrung(
    connection: &mut PgConnection,
    rings: &[Ringable],
) -> Result<(), StoreError> {
    let (organizations, executions, epochs) = keys(
        rings
            .iter()
            .map(|ring| (ring.organization, ring.execution, ring.epoch)),
    );
    query!(
        "update workflow_execution e set rung_at = null
         from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as ring (organization_id, id, epoch)
         where e.organization_id = ring.organization_id and e.id = ring.id
           and e.lease_epoch = ring.epoch and e.status = 'processing'",
        &organizations,
        &executions,
        &epochs,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Who wants to work what.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest {
    /// As the job has it.
    pub fence: Fence,
    /// The stage of the job's queue.
    pub stage: Stage,
    /// Who asks.
    pub owner: WorkerId,
    /// How long the lease lasts without being renewed.
    pub lasts: Duration,
}

/// A granted lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// To fence every write with.
    pub fence: Fence,
    /// The batch.
    pub batch: BatchId,
    /// The batch's generation that the execution belongs to.
    pub generation: i32,
    /// The document, unless it is a resolution.
    pub document: Option<DocumentId>,
    /// The batch's round that the execution is in.
    pub round: i32,
    /// Which attempt at the stage this is, from 1.
    pub attempt: i32,
    /// Units failed for good in an earlier stage.
    pub partial: bool,
    /// A lease of it ran out since its last settle: what was in work under it may have taken the process down.
    pub suspect: bool,
    /// What the batch does about a document that fails.
    pub policy: FailurePolicy,
    /// Rounds that it has to give.
    pub max_retries: i32,
}

#[cfg(test)]
impl Lease {
    /// A first attempt, of some batch.
    pub(crate) fn first(fence: Fence, document: Option<DocumentId>) -> Self {
        Self {
            fence,
            batch: BatchId::generate(),
            generation: 1,
            document,
            round: 0,
            attempt: 1,
            partial: false,
            suspect: false,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
        }
    }
}

/// Leases the execution that a job rings for: one statement, which grants it only if the job still tells the truth
/// (its stage and epoch are the row's) and nobody else holds it. `None` makes the job a no-op.
///
/// The attempt is written down as running, and one that lost its lease is closed. A lease that ran out is no try of
/// anything, but it makes the execution suspect until it settles.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn lease(
    connection: &mut PgConnection,
    request: &LeaseRequest,
) -> Result<Option<Lease>, StoreError> {
    let lost = to_json(
        "a failure",
        &Failure::transient(
            crate::flow::FailureCode::LeaseLost,
            "the worker that held the lease went away",
        ),
    )?;
    let row = query!(
        r#"with leased as (
               update workflow_execution e
               set lease_owner = $5, lease_epoch = e.lease_epoch + 1,
                   -- A lease that was given back has no owner any more: this one ran out.
                   lost_leases = e.lost_leases + case when e.lease_owner is null then 0 else 1 end,
                   lease_until = now() + make_interval(secs => $6), updated_at = now()
               from batch b
               where e.organization_id = $1 and e.id = $2 and e.lease_epoch = $3
                 and e.current_activity = $4 and e.status = 'processing' and e.due_at <= now()
                 and (e.lease_until is null or e.lease_until < now())
                 and e.paused_at is null and e.stop_requested_at is null and e.workflow_version <= $9
                 and b.organization_id = e.organization_id and b.id = e.batch_id
                 and b.stopping is null and b.paused_at is null
               returning e.organization_id, e.id, e.lease_epoch, e.batch_id, e.generation,
                         e.document_id, e.round, e.partial, e.lost_leases, e.workflow_type,
                         b.failure_policy, b.max_retries
           ), lost as (
               -- By parameters, not by a join with the row that was leased: a plan made while the table is small
               -- would read all of it.
               update workflow_activity
               set status = 'failed', completed_at = now(), error = $8
               where organization_id = $1 and workflow_execution_id = $2 and status = 'running'
                 and exists (select from leased)
           ), begun as (
               insert into workflow_activity (id, organization_id, workflow_execution_id, activity_name,
                                              activity_type, status, attempt_number, lease_epoch)
               select $7, l.organization_id, l.id, $4, l.workflow_type, 'running', 1 + (
                          select count(*) from workflow_activity a
                          where a.organization_id = $1 and a.workflow_execution_id = $2
                            and a.activity_name = $4),
                      l.lease_epoch
               from leased l
               returning attempt_number
           )
           select l.lease_epoch, l.batch_id, l.generation, l.document_id, l.round, l.partial,
                  l.lost_leases > 0 as "suspect!", l.failure_policy, l.max_retries, b.attempt_number
           from leased l cross join begun b"#,
        request.fence.organization.uuid(),
        request.fence.execution.uuid(),
        request.fence.epoch,
        request.stage.activity_name(),
        request.owner.uuid(),
        seconds(request.lasts),
        WorkflowActivityId::generate().uuid(),
        lost,
        WORKFLOW_VERSION,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Lease {
            fence: Fence {
                epoch: row.lease_epoch,
                ..request.fence
            },
            batch: row.batch_id.into(),
            generation: row.generation,
            document: row.document_id.map(Into::into),
            round: row.round,
            attempt: row.attempt_number,
            partial: row.partial,
            suspect: row.suspect,
            policy: parsed("a failure policy", &row.failure_policy)?,
            max_retries: row.max_retries,
        })
    })
    .transpose()
}

/// Renews the leases that `owner` holds; returns the ones that it still does.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn renew_leases(
    connection: &mut PgConnection,
    owner: WorkerId,
    fences: &[Fence],
    lasts: Duration,
) -> Result<Vec<WorkflowExecutionId>, StoreError> {
    let (organizations, executions, epochs) = keys(
        fences
            .iter()
            .map(|fence| (fence.organization, fence.execution, fence.epoch)),
    );
    let held = query_scalar!(
        "update workflow_execution e set lease_until = now() + make_interval(secs => $5)
         from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as held (organization_id, id, epoch)
         where e.organization_id = held.organization_id and e.id = held.id
           and e.lease_epoch = held.epoch and e.lease_owner = $4
         returning e.id",
        &organizations,
        &executions,
        &epochs,
        owner.uuid(),
        seconds(lasts),
    )
    .fetch_all(connection)
    .await?;
    Ok(held.into_iter().map(Into::into).collect())
}

/// Locks the execution's row if the lease is still held; `false` if it is lost. Nobody takes it over before the
/// transaction ends.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn hold(connection: &mut PgConnection, fence: Fence) -> Result<bool, StoreError> {
    let held = query_scalar!(
        r#"select true as "held!" from workflow_execution
           where organization_id = $1 and id = $2 and lease_epoch = $3 and lease_owner is not null
           for no key update"#,
        fence.organization.uuid(),
        fence.execution.uuid(),
        fence.epoch,
    )
    .fetch_optional(connection)
    .await?;
    Ok(held.is_some())
}

/// Gives a lease back with nothing settled, so that the work can go on elsewhere at once: the attempt is closed as
/// cancelled, for `reason`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn release(
    connection: &mut PgConnection,
    fence: Fence,
    reason: &Failure,
) -> Result<bool, StoreError> {
    let released = query!(
        "with released as (
             update workflow_execution
             set lease_owner = null, lease_until = null, rung_at = null, updated_at = now()
             where organization_id = $1 and id = $2 and lease_epoch = $3 and lease_owner is not null
             returning organization_id, id, lease_epoch
         )
         update workflow_activity a
         set status = 'cancelled', completed_at = now(), error = $4
         from released r
         where a.organization_id = r.organization_id and a.workflow_execution_id = r.id
           and a.lease_epoch = r.lease_epoch and a.status = 'running'",
        fence.organization.uuid(),
        fence.execution.uuid(),
        fence.epoch,
        to_json("a failure", reason)?,
    )
    .execute(connection)
    .await?;
    Ok(released.rows_affected() > 0)
}

pub(super) fn stage(activity: &str) -> Result<Stage, StoreError> {
    Stage::of_activity(activity)
        .ok_or_else(|| StoreError::decode("an activity name")(activity.to_owned().into()))
}

pub(super) fn keys(
    keys: impl Iterator<Item = (OrganizationId, WorkflowExecutionId, i64)>,
) -> (Vec<Uuid>, Vec<Uuid>, Vec<i64>) {
    let (mut organizations, mut executions, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
    for (organization, execution, epoch) in keys {
        organizations.push(organization.uuid());
        executions.push(execution.uuid());
        epochs.push(epoch);
    }
    (organizations, executions, epochs)
}
