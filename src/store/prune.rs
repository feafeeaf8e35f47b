//! Deleting what has served its time, step by step: each function is one bounded statement or a few, says what goes
//! (or would go), and is safe to repeat.
//!
//! Knows the tables and who needs what of them; must not know how long anything is kept. Invariants: nothing of a batch
//! that has not ended goes, nor an answer that such a batch was given; a batch that is going is marked first, and is no
//! batch for anybody else from then on.

mod batch;
mod cluster;
mod space;

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

pub use batch::{
    PrunedBatch, batches_with_unmoved_events, claim_batches, going_batches, prunable_batches,
    prune_batch_row, prune_documents, prune_events_of, prune_executions, prune_found,
};
pub use cluster::{
    DecisionsPruned, Mended, TiedMember, clusters_of_resolution, drop_dangling_links,
    lock_clusters, mend_members, prune_decisions, prune_resolution, resolutions_of, tied_members,
};
pub use space::{Space, Vacuumed, space, vacuum};

use super::StoreError;

/// Rows of one kind, and what they take without their indexes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// Bytes of the rows themselves, as they are stored.
    pub bytes: u64,
}

impl Tally {
    const fn of(rows: i64, bytes: i64) -> Self {
        Self {
            rows: rows.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
        }
    }

    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// How much a step takes, and whether it deletes or only counts.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Rows of a table, at most.
    pub most: i64,
    /// Delete them.
    pub delete: bool,
}

/// Lets one prune at a time take a step, for the rest of the transaction.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    query!("select pg_advisory_xact_lock(hashtextextended('graphmill.prune', 0))")
        .execute(connection)
        .await?;
    Ok(())
}

/// All organizations, with their names. As the engine may read them.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn organizations_to_prune(
    connection: &mut PgConnection,
) -> Result<Vec<(OrganizationId, String)>, StoreError> {
    let rows = query!("select id, name from organization order by id")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id.into(), row.name))
        .collect())
}

/// Batches that ended at least `age` seconds ago, after `after`, by id.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_ended_before(
    connection: &mut PgConnection,
    organization: OrganizationId,
    age: f64,
    after: Option<BatchId>,
    most: i64,
) -> Result<Vec<BatchId>, StoreError> {
    let ids = query_scalar!(
        "select id from batch
         where organization_id = $1 and ended_at <= now() - make_interval(secs => $2) and pruning_since is null
           and id > $3
         order by id limit $4",
        organization.uuid(),
        age,
        after.map_or_else(Uuid::nil, BatchId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

/// What a step over a log has come to.
#[derive(Debug, Clone, Copy)]
pub struct PrunedEvents {
    /// What went.
    pub gone: Tally,
    /// Up to which position; `None`: nothing is left that is old enough.
    pub to: Option<i64>,
}

/// A step over the log of an ended batch: the oldest events after `after`, up to the first that is younger than `age`
/// seconds. The batch says up to where its log is gone.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_events(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    age: f64,
    after: i64,
    step: Step,
) -> Result<PrunedEvents, StoreError> {
    let row = query!(
        r#"with held as materialized (
               -- One that is opened again at this moment keeps its log.
               select id from batch where organization_id = $1 and id = $2 and ended_at is not null
               for no key update skip locked
           ), page as materialized (
               select e.position, e.created_at, pg_column_size(e.payload) + 100 as bytes
               from held join event e on e.batch_id = held.id
               where e.organization_id = $1 and e.position > $4
               order by e.position limit $5
           ), old as materialized (
               select position, bytes from page
               where position < coalesce((select min(position) from page
                                          where created_at > now() - make_interval(secs => $3)),
                                         9223372036854775807)
           ), gone as (
               delete from event where position = any(array(select position from old where $6))
           ), marked as (
               update batch b set events_pruned_to = greatest(b.events_pruned_to, old.last)
               from (select max(position) as last from old) as old
               where b.organization_id = $1 and b.id = $2 and old.last is not null and $6
           )
           select count(*) as "rows!", coalesce(sum(bytes), 0)::bigint as "bytes!", max(position) as "last" from old"#,
        organization.uuid(),
        batch.uuid(),
        age,
        after,
        step.most,
        step.delete,
    )
    .fetch_one(connection)
    .await?;
    Ok(PrunedEvents {
        gone: Tally::of(row.rows, row.bytes),
        to: row.last,
    })
}

/// Up to which position the log of a batch is gone; 0: it is whole.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn events_pruned_to(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<i64>, StoreError> {
    Ok(query_scalar!(
        "select events_pruned_to from batch where organization_id = $1 and id = $2",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?)
}

/// Where a step over the ledger goes on.
pub type AnswerPlace = (DateTime<Utc>, Uuid);

/// A step over the ledger: the bodies of answers that came at least `age` seconds ago, after `after`. One stays for as
/// long as a batch that has not ended asked the same question: it may ask again. Returns what went, and where the next
/// step goes on; `None` at the end.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_answers(
    connection: &mut PgConnection,
    organization: OrganizationId,
    age: f64,
    after: Option<AnswerPlace>,
    step: Step,
) -> Result<(Tally, Option<AnswerPlace>), StoreError> {
    let (ended, id) = after.unwrap_or((DateTime::UNIX_EPOCH, Uuid::nil()));
    let row = query!(
        r#"with page as materialized (
               select id, ended_at, request_hash, pg_column_size(response) as bytes from llm_call
               where organization_id = $1 and response is not null and response_pruned_at is null
                 and ended_at <= now() - make_interval(secs => $2) and (ended_at, id) > ($3, $4)
               order by ended_at, id limit $5
           ), old as materialized (
               select p.id, p.bytes from page p
               where not exists (
                   select from llm_call c
                   join batch b on b.organization_id = c.organization_id and b.id = c.batch_id
                   where c.organization_id = $1 and c.request_hash = p.request_hash and b.ended_at is null)
           ), gone as (
               -- Empty, not null: what was paid stays paid, in every sum.
               update llm_call set response = '', response_pruned_at = now()
               where organization_id = $1 and id = any(array(select id from old where $6))
           ), last as (
               select ended_at, id from page order by ended_at desc, id desc limit 1
           )
           select (select count(*) from old) as "rows!",
                  (select coalesce(sum(bytes), 0)::bigint from old) as "bytes!",
                  last.ended_at as "ended_at?", last.id as "id?"
           from (select) as one left join last on true"#,
        organization.uuid(),
        age,
        ended,
        id,
        step.most,
        step.delete,
    )
    .fetch_one(connection)
    .await?;
    Ok((Tally::of(row.rows, row.bytes), row.ended_at.zip(row.id)))
}
