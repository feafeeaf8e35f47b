//! The table `workflow_execution`: a document that needs its place no longer passes it on to the next one of its batch.
//!
//! Invariant: as many documents are in extraction after it as before; and what it admits is admitted and leased as
//! [`super::admit_from`] and [`super::lease`] do it.

use chrono::DateTime;
use graphmill_jobs::{BatchId, OrganizationId, WorkflowActivityId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{Fence, Lease, Mark, Takeover};
use crate::{
    flow::{Stage, WORKFLOW_VERSION},
    store::{StoreError, parsed, seconds},
};

/// Longer texts are left to whoever works the document: a settle is not to wait for them. **Source:** ours; a read of
/// so much takes a millisecond.
const LONGEST_TEXT: i32 = 256 << 10;

/// Who has come to a place.
#[derive(Debug)]
pub struct Passed {
    /// Its first lease.
    pub lease: Lease,
    /// The workflow version of its job.
    pub version: i32,
    /// The document's id of its owner.
    pub name: String,
    /// Its text, unless it is long.
    pub text: Option<String>,
    /// Where it was among what is due.
    pub mark: Mark,
}

/// Admits the first document of the batch that is due from `from` on, and leases its first stage: the caller's
/// transaction settles another one of the batch beyond what takes a place. `None`: nobody is due, or the first one has
/// been worked before, or the batch stops or is paused; then the stager sees to it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn pass_on(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    from: Option<Mark>,
    takeover: Takeover,
    incarnation: i64,
) -> Result<Option<Passed>, StoreError> {
    let Mark(from_due, from_id) = from.unwrap_or(Mark(DateTime::UNIX_EPOCH, Uuid::nil()));
    let row = query!(
        r#"with due as (
               -- Whatever has a history is read and rung for by others.
               select e.id, e.due_at,
                      e.status = 'queued' and e.lease_epoch = 0 and e.generation = 1
                      and e.current_activity = $9 and e.workflow_type = 'extraction'
                      and e.stop_requested_at is null as is_new
               from workflow_execution e
               where e.batch_id = $2 and e.status in ('queued', 'retry') and e.due_at <= now()
                 and (e.due_at, e.id) >= ($3, $4) and e.paused_at is null and e.workflow_version <= $5
               order by e.due_at, e.id
               limit (select count(*) from batch b
                      where b.organization_id = $1 and b.id = $2
                        and b.stopping is null and b.paused_at is null and b.ended_at is null)
               for update skip locked
           ), admitted as (
               -- By its id alone: a plan made while the table was small took the index of one of the other conditions.
               update workflow_execution e
               set status = 'processing', due_at = now(), rung_at = now(), ring_incarnation = $6,
                   updated_at = now(), started_at = now(), lease_epoch = 1, lease_owner = $7,
                   lease_until = now() + make_interval(secs => $8)
               where e.organization_id = $1 and e.id = any(array(select id from due where is_new))
               returning e.id, e.document_id, e.round, e.workflow_version
           ), begun as (
               insert into workflow_activity (id, organization_id, workflow_execution_id, activity_name,
                                              activity_type, status, attempt_number, lease_epoch)
               select $10, $1, a.id, $9, 'extraction', 'running', 1, 1 from admitted a
           ), told as (
               insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
               select $1, $2, a.id, 'DocumentStarted', '{"type": "DocumentStarted"}' from admitted a
           )
           -- Each look-up by itself: a plan made while the tables are small could read all of one for a join.
           select a.id, a.document_id as "document_id!", a.round, a.workflow_version,
                  (select due_at from due) as "due_at!",
                  (select failure_policy from batch b
                   where b.organization_id = $1 and b.id = $2) as "failure_policy!",
                  (select max_retries from batch b where b.organization_id = $1 and b.id = $2) as "max_retries!",
                  (select d.external_id from document d
                   where d.organization_id = $1 and d.id = a.document_id) as "external_id!",
                  (select case when octet_length(d.text) <= $11 then d.text end from document d
                   where d.organization_id = $1 and d.id = a.document_id) as text
           from admitted a"#,
        organization.uuid(),
        batch.uuid(),
        from_due,
        from_id,
        WORKFLOW_VERSION,
        incarnation,
        takeover.owner.uuid(),
        seconds(takeover.lasts),
        Stage::Chunk.activity_name(),
        WorkflowActivityId::generate().uuid(),
        LONGEST_TEXT,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let fence = Fence {
            organization,
            execution: row.id.into(),
            epoch: 1,
        };
        Ok(Passed {
            lease: Lease {
                fence,
                batch,
                generation: 1,
                document: Some(row.document_id.into()),
                round: row.round,
                attempt: 1,
                partial: false,
                suspect: false,
                policy: parsed("a failure policy", &row.failure_policy)?,
                max_retries: row.max_retries,
            },
            version: row.workflow_version,
            name: row.external_id,
            text: row.text,
            mark: Mark(row.due_at, row.id),
        })
    })
    .transpose()
}
