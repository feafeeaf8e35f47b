//! The table `workflow_execution`: admitting. One statement gives out a batch's free slots, tells of it, and leases what
//! whoever admits goes on with himself.
//!
//! A batch may have a million rows, and an admission may cost no more for that: see `of_batch.rs`. Invariant: the count
//! against the batch's concurrency is taken under its lock.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowActivityId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Fence, Lease, Ringable, Takeover, stage};
use crate::{
    flow::{Stage, WORKFLOW_VERSION},
    store::{StoreError, parsed, seconds},
};

/// What an admission gave.
#[derive(Debug, Default)]
pub struct Admitted {
    /// To be rung now.
    pub rings: Vec<Ringable>,
    /// Leased with their admission, and the jobs that would have been rung.
    pub taken_up: Vec<(Ringable, Lease)>,
    /// Whether the limit stopped it: more are due.
    pub more: bool,
    /// Where it came to among what is due; none if nothing was admitted.
    pub reached: Option<Mark>,
}

/// A place among what is due: the due time and the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(super) DateTime<Utc>, pub(super) Uuid);

/// Takes the batch's admission lock for the rest of the transaction. It must be a statement of its own, before
/// [`admit`]: a count in the statement that locks would see what was there before the lock.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn admit_lock(connection: &mut PgConnection, batch: BatchId) -> Result<bool, StoreError> {
    Ok(query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1::uuid::text, 1)) as "locked!""#,
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?)
}

/// Admits executions of the batch that are queued or due for a retry, at most `most` and never more than the batch's
/// concurrency allows. The admitted are marked as rung at `incarnation`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn admit(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: usize,
    incarnation: i64,
) -> Result<Admitted, StoreError> {
    let limits = AdmitLimits {
        most,
        ..AdmitLimits::default()
    };
    admit_from(connection, organization, batch, None, limits, incarnation).await
}

/// What bounds an admission besides the batch's own concurrency.
#[derive(Debug, Clone, Copy)]
pub struct AdmitLimits {
    /// At most so many now.
    pub most: usize,
    /// Not more than so many in processing: the batch's part, while others want theirs.
    pub processing: Option<u64>,
    /// Who goes on with some of them himself.
    pub take_up: Option<TakeUp>,
}

impl Default for AdmitLimits {
    fn default() -> Self {
        Self {
            most: usize::MAX,
            processing: None,
            take_up: None,
        }
    }
}

/// Who takes up the first of what he admits.
#[derive(Debug, Clone, Copy)]
pub struct TakeUp {
    /// Who, and for how long.
    pub takeover: Takeover,
    /// At most so many: those that he has a slot of the first stage for.
    pub most: usize,
}

/// [`admit`], but looking from a place on only: at the head of the index lie the entries of all that was admitted
/// since the last vacuum, and to read past 150,000 of them takes 12 ms. What lies before the place (it committed late,
/// or was paused) is left to a look without one.
///
/// With [`AdmitLimits::take_up`] those that begin are leased in the same step, the first ones that are due, if a job for
/// them would get the lease (`flow::ExecutionView::may_lease`). The transaction must be durable then
/// (`Store::admission`).
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub async fn admit_from(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    from: Option<Mark>,
    limits: AdmitLimits,
    incarnation: i64,
) -> Result<Admitted, StoreError> {
    let Mark(from_due, from_id) = from.unwrap_or(Mark(DateTime::UNIX_EPOCH, Uuid::nil()));
    let takeover = limits.take_up.map(|it| it.takeover);
    let attempts: Vec<Uuid> = (0..limits.take_up.map_or(0, |it| it.most))
        .map(|_| WorkflowActivityId::generate().uuid())
        .collect();
    let rows = query!(
        r#"with slots as (
               select greatest(0, least($3::bigint, least(b.concurrency, $8::bigint) - (
                   select count(*) from workflow_execution e
                   where e.batch_id = b.id and e.status = 'processing'))) as free,
                   b.failure_policy, b.max_retries
               from batch b
               where b.organization_id = $1 and b.id = $2
                 and b.stopping is null and b.paused_at is null and b.ended_at is null
           ), due as (
               select e.id, e.due_at, e.status = 'queued' as fresh, e.lease_epoch,
                      e.current_activity = $9 and e.stop_requested_at is null as begins
               from workflow_execution e
               where e.batch_id = $2 and e.status in ('queued', 'retry') and e.due_at <= now()
                 and (e.due_at, e.id) >= ($6, $7) and e.paused_at is null and e.workflow_version <= $5
               order by e.due_at, e.id
               -- No row in slots (stopping, paused, ended) is no slot: a null limit would be no limit.
               limit coalesce((select free from slots), 0)
               for update skip locked
           ), taken as (
               -- The rest of what a lease asks is so of all that is due: nobody holds what waits.
               select id from due where begins order by due_at, id limit cardinality($10::uuid[])
           ), admitted as (
               -- By an array, not by a join: what a limit lets through is taken for a tenth of all that waits, and
               -- for so many the planner would read the whole table (1 s at a million).
               update workflow_execution e
               set status = 'processing', due_at = now(), rung_at = now(), ring_incarnation = $4,
                   lease_owner = case when e.id = any(t.ids) then $11::uuid end,
                   lease_until = case when e.id = any(t.ids) then now() + make_interval(secs => $12) end,
                   lease_epoch = e.lease_epoch + case when e.id = any(t.ids) then 1 else 0 end,
                   updated_at = now(), started_at = coalesce(e.started_at, now())
               from (select array(select id from taken) as ids) t
               where e.organization_id = $1 and e.id = any(array(select id from due))
               returning e.id, e.lease_epoch, e.lease_owner, e.current_activity, e.workflow_version,
                         e.workflow_type, e.generation, e.document_id, e.round, e.partial, e.lost_leases
           ), begun as (
               -- No attempt to close: whoever has settled or given back has ended his.
               insert into workflow_activity (id, organization_id, workflow_execution_id, activity_name,
                                              activity_type, status, attempt_number, lease_epoch)
               select ($10::uuid[])[row_number() over ()], $1, a.id, a.current_activity, a.workflow_type,
                      'running', 1 + (
                          select count(*) from workflow_activity w
                          where w.organization_id = $1 and w.workflow_execution_id = a.id
                            and w.activity_name = a.current_activity),
                      a.lease_epoch
               from admitted a where a.lease_owner is not null
               returning workflow_execution_id, attempt_number
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select $1, $2, a.id, 'DocumentStarted', '{"type": "DocumentStarted"}'
               from admitted a join due on due.id = a.id
               where due.fresh and a.workflow_type = 'extraction'
           )
           select a.id as "id!", due.lease_epoch as "rung_epoch!", a.lease_epoch as "lease_epoch!",
                  a.current_activity as "current_activity!", a.workflow_version as "workflow_version!",
                  due.due_at as "due_at!", a.generation as "generation!", a.document_id, a.round as "round!",
                  a.partial as "partial!", a.lost_leases > 0 as "suspect!",
                  s.failure_policy as "failure_policy!", s.max_retries as "max_retries!",
                  b.attempt_number as "attempt?"
           from admitted a join due on due.id = a.id cross join slots s
           left join begun b on b.workflow_execution_id = a.id
           order by a.id"#,
        organization.uuid(),
        batch.uuid(),
        i64::try_from(limits.most).unwrap_or(i64::MAX),
        incarnation,
        WORKFLOW_VERSION,
        from_due,
        from_id,
        limits
            .processing
            .map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX)),
        Stage::Chunk.activity_name(),
        &attempts,
        takeover.map(|takeover| takeover.owner.uuid()),
        takeover.map_or(0.0, |takeover| seconds(takeover.lasts)),
    )
    .fetch_all(connection)
    .await?;
    let mut admitted = Admitted {
        more: !rows.is_empty() && rows.len() == limits.most,
        reached: rows.iter().map(|row| Mark(row.due_at, row.id)).max(),
        ..Admitted::default()
    };
    for row in rows {
        let ring = Ringable {
            organization,
            batch,
            execution: row.id.into(),
            epoch: row.rung_epoch,
            stage: stage(&row.current_activity)?,
            version: row.workflow_version,
        };
        let Some(attempt) = row.attempt else {
            admitted.rings.push(ring);
            continue;
        };
        let lease = Lease {
            fence: Fence {
                organization,
                execution: ring.execution,
                epoch: row.lease_epoch,
            },
            batch,
            generation: row.generation,
            document: row.document_id.map(Into::into),
            round: row.round,
            attempt,
            partial: row.partial,
            suspect: row.suspect,
            policy: parsed("a failure policy", &row.failure_policy)?,
            max_retries: row.max_retries,
        };
        admitted.taken_up.push((ring, lease));
    }
    Ok(admitted)
}
