//! An ended batch, deleted whole: marked, then taken apart from its leaves to its row.

use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Step, Tally};
use crate::store::{StoreError, organization_limit::count_documents};

/// A batch that is old enough to go.
#[derive(Debug, Clone, Copy)]
pub struct PrunedBatch {
    /// Which one.
    pub id: BatchId,
    /// It stays for now: it has a webhook to deliver.
    pub owes_webhook: bool,
}

/// Batches that ended at least `age` seconds ago, after `after`, by id.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prunable_batches(
    connection: &mut PgConnection,
    organization: OrganizationId,
    age: f64,
    after: Option<BatchId>,
    most: i64,
) -> Result<Vec<PrunedBatch>, StoreError> {
    let rows = query!(
        r#"select b.id, exists (select from webhook_delivery w
                                where w.batch_id = b.id and w.organization_id = b.organization_id
                                  and w.status = 'waiting') as "owes_webhook!"
           from batch b
           where b.organization_id = $1 and b.ended_at <= now() - make_interval(secs => $2)
             and b.pruning_since is null and b.id > $3
           order by b.id limit $4"#,
        organization.uuid(),
        age,
        after.map_or_else(Uuid::nil, BatchId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PrunedBatch {
            id: row.id.into(),
            owes_webhook: row.owes_webhook,
        })
        .collect())
}

/// Marks batches as going: their clusters are published no more, their names are free, and nobody opens them again.
/// One that was opened meanwhile, or that owes a webhook, is left alone. The organization's clusters must be locked
/// (`change_clusters`).
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn claim_batches(
    connection: &mut PgConnection,
    organization: OrganizationId,
    age: f64,
    batches: &[BatchId],
) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = batches.iter().map(|id| id.uuid()).collect();
    let claimed = query!(
        "update batch b
         set pruning_since = now(), resolution_id = null, name = 'pruned ' || b.id
         where b.organization_id = $1 and b.id = any($2)
           and b.ended_at <= now() - make_interval(secs => $3) and b.pruning_since is null
           and not exists (select from webhook_delivery w
                           where w.batch_id = b.id and w.organization_id = b.organization_id
                             and w.status = 'waiting')",
        organization.uuid(),
        &ids,
        age,
    )
    .execute(&mut *connection)
    .await?;
    // Whoever sends a submission again is not answered with a batch that is going.
    query!(
        "delete from idempotency_key k
         using batch b
         where k.organization_id = $1 and k.batch_id = any($2)
           and b.organization_id = k.organization_id and b.id = k.batch_id and b.pruning_since is not null",
        organization.uuid(),
        &ids,
    )
    .execute(connection)
    .await?;
    Ok(claimed.rows_affected())
}

/// The organization's batches that are going.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn going_batches(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<BatchId>, StoreError> {
    let ids = query_scalar!(
        "select id from batch where organization_id = $1 and pruning_since is not null order by id",
        organization.uuid(),
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

/// What hangs on executions, by table: up to `step.most` rows of each.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_found(
    connection: &mut PgConnection,
    organization: OrganizationId,
    executions: &[WorkflowExecutionId],
    step: Step,
) -> Result<Vec<(String, Tally)>, StoreError> {
    let ids: Vec<Uuid> = executions.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        r#"with evidence_page as materialized (
               select ctid, pg_column_size(text) + 100 as bytes from evidence
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), evidence_gone as (
               delete from evidence where ctid = any(array(select ctid from evidence_page where $4))
           ), relation_page as materialized (
               select ctid, pg_column_size(predicate) + 130 as bytes from relation
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), relation_gone as (
               delete from relation where ctid = any(array(select ctid from relation_page where $4))
           ), entity_page as materialized (
               select ctid, pg_column_size(name) + pg_column_size(mentions) + 120 as bytes from entity
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), entity_gone as (
               delete from entity where ctid = any(array(select ctid from entity_page where $4))
           ), mention_page as materialized (
               select ctid, pg_column_size(text) + pg_column_size(type) + 110 as bytes from mention
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), mention_gone as (
               delete from mention where ctid = any(array(select ctid from mention_page where $4))
           ), chunk_page as materialized (
               select ctid, 80 as bytes from chunk
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), chunk_gone as (
               delete from chunk where ctid = any(array(select ctid from chunk_page where $4))
           ), dropped_item_page as materialized (
               select ctid, pg_column_size(reason) + 90 as bytes from dropped_item
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), dropped_item_gone as (
               delete from dropped_item where ctid = any(array(select ctid from dropped_item_page where $4))
           ), checkpoint_page as materialized (
               select ctid, coalesce(pg_column_size(output), 0) + 150 as bytes from checkpoint
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), checkpoint_gone as (
               delete from checkpoint where ctid = any(array(select ctid from checkpoint_page where $4))
           ), workflow_activity_page as materialized (
               select ctid, coalesce(pg_column_size(output), 0) + coalesce(pg_column_size(error), 0) + 180 as bytes from workflow_activity
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), workflow_activity_gone as (
               delete from workflow_activity where ctid = any(array(select ctid from workflow_activity_page where $4))
           ), workflow_signal_page as materialized (
               select ctid, pg_column_size(payload) + 120 as bytes from workflow_signal
               where organization_id = $1 and workflow_execution_id = any($2) limit $3
           ), workflow_signal_gone as (
               delete from workflow_signal where ctid = any(array(select ctid from workflow_signal_page where $4))
           )
           select 'evidence' as "table!", count(*) as "rows!", coalesce(sum(bytes), 0)::bigint as "bytes!" from evidence_page
           union all select 'relation', count(*), coalesce(sum(bytes), 0)::bigint from relation_page
           union all select 'entity', count(*), coalesce(sum(bytes), 0)::bigint from entity_page
           union all select 'mention', count(*), coalesce(sum(bytes), 0)::bigint from mention_page
           union all select 'chunk', count(*), coalesce(sum(bytes), 0)::bigint from chunk_page
           union all select 'dropped_item', count(*), coalesce(sum(bytes), 0)::bigint from dropped_item_page
           union all select 'checkpoint', count(*), coalesce(sum(bytes), 0)::bigint from checkpoint_page
           union all select 'workflow_activity', count(*), coalesce(sum(bytes), 0)::bigint from workflow_activity_page
           union all select 'workflow_signal', count(*), coalesce(sum(bytes), 0)::bigint from workflow_signal_page"#,
        organization.uuid(),
        &ids,
        step.most,
        step.delete,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.table, Tally::of(row.rows, row.bytes)))
        .collect())
}

/// The executions of a batch after `after`, by id, `step.most` at most. They are deleted by [`prune_executions`].
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<WorkflowExecutionId>,
    step: Step,
) -> Result<(Vec<WorkflowExecutionId>, Tally), StoreError> {
    let rows = query!(
        r#"with page as materialized (
               select id, coalesce(pg_column_size(input), 0) + coalesce(pg_column_size(output), 0)
                          + coalesce(pg_column_size(checkpoint), 0) + 300 as bytes
               from workflow_execution
               where organization_id = $1 and batch_id = $2 and id > $3 order by id limit $4
           ), gone as (
               delete from workflow_execution
               where organization_id = $1 and id = any(array(select id from page where $5))
           )
           select id as "id!", bytes::bigint as "bytes!" from page order by id"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or_else(Uuid::nil, WorkflowExecutionId::uuid),
        step.most,
        step.delete,
    )
    .fetch_all(connection)
    .await?;
    let mut gone = Tally::default();
    for row in &rows {
        gone.add(Tally::of(1, row.bytes));
    }
    Ok((rows.into_iter().map(|row| row.id.into()).collect(), gone))
}

/// Documents of a batch after `after`, by id; the last of them, `None` if there are no more.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<Uuid>,
    step: Step,
) -> Result<(Tally, Option<Uuid>), StoreError> {
    let rows = query!(
        r#"with page as materialized (
               select id, counted, bytes from (
                   select id, counted, bytes, sum(bytes) over (order by id) as upto from (
                       select id, refusal is null and withdrawn_at is null as counted, coalesce(pg_column_size(text), 0) + pg_column_size(metadata) + 200 as bytes
                       from document
                       where organization_id = $1 and batch_id = $2 and id > $3 order by id limit $4
                   ) as rest
               -- A large text is thousands of rows behind the scenes.
               ) as summed where upto - bytes < 16000000
           ), gone as (
               delete from document where organization_id = $1 and id = any(array(select id from page where $5))
           )
           select id as "id!", counted as "counted!", bytes::bigint as "bytes!" from page order by id"#,
        organization.uuid(),
        batch.uuid(),
        after.unwrap_or_default(),
        step.most,
        step.delete,
    )
    .fetch_all(&mut *connection)
    .await?;
    if step.delete {
        let counted = rows.iter().filter(|row| row.counted).count();
        let counted = i64::try_from(counted).unwrap_or(i64::MAX);
        count_documents(connection, organization, -counted).await?;
    }
    let mut gone = Tally::default();
    for row in &rows {
        gone.add(Tally::of(1, row.bytes));
    }
    Ok((gone, rows.last().map(|row| row.id)))
}

/// Events of a batch's log after `after`, whatever their age; the last of them, `None` if there are no more.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_events_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: i64,
    step: Step,
) -> Result<(Tally, Option<i64>), StoreError> {
    let row = query!(
        r#"with page as materialized (
               select position, pg_column_size(payload) + 100 as bytes from event
               where organization_id = $1 and batch_id = $2 and position > $3
               order by position limit $4
           ), gone as (
               delete from event where position = any(array(select position from page where $5))
           )
           select count(*) as "rows!", coalesce(sum(bytes), 0)::bigint as "bytes!", max(position) as last from page"#,
        organization.uuid(),
        batch.uuid(),
        after,
        step.most,
        step.delete,
    )
    .fetch_one(connection)
    .await?;
    Ok((Tally::of(row.rows, row.bytes), row.last))
}

/// The row of a batch that is going, last of all; with it its budget and its webhooks, which are few. `false` if it was
/// not marked, or is not empty yet.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_batch_row(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<bool, StoreError> {
    let gone = query!(
        "delete from batch b
         where b.organization_id = $1 and b.id = $2 and b.pruning_since is not null
           and not exists (select from document d where d.organization_id = b.organization_id and d.batch_id = b.id)
           and not exists (select from workflow_execution e
                           where e.organization_id = b.organization_id and e.batch_id = b.id)",
        organization.uuid(),
        batch.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() == 1)
}

/// Which of these batches have events that wait for their position.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_with_unmoved_events(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batches: &[BatchId],
) -> Result<Vec<BatchId>, StoreError> {
    let ids: Vec<Uuid> = batches.iter().map(|id| id.uuid()).collect();
    let ids = query_scalar!(
        "select distinct batch_id from event_outbox where organization_id = $1 and batch_id = any($2)",
        organization.uuid(),
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}
