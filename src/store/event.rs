//! The tables `event_outbox` and `event`: what happened, first without a position, then in the log.
//!
//! Whoever follows the log reads it in [`log`], and is woken by the transaction that gives positions: one message a
//! step, however many events it has, and no settle sends any.

mod log;

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

pub use log::{
    EventBell, LogEntry, TailRow, Topic, last_of_batch, last_of_execution, last_position,
    log_after, log_tail,
};

use super::{StoreError, from_json, to_json};
use crate::flow::{Event, EventKind};

/// Writes an event to the outbox. It becomes visible with the transaction, and gets its position later.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn append_event(connection: &mut PgConnection, event: &Event) -> Result<(), StoreError> {
    query!(
        "insert into event_outbox (organization_id, batch_id, workflow_execution_id, type, payload)
         values ($1, $2, $3, $4, $5)",
        event.organization.uuid(),
        event.batch.uuid(),
        event.execution.map(WorkflowExecutionId::uuid),
        event.kind.name(),
        to_json("an event", &event.kind)?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the sequencer's lock for the rest of the transaction; `false`: another replica has it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn sequencer_lock(connection: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('graphmill.sequencer', 0)) as "locked!""#
    )
    .fetch_one(connection)
    .await?)
}

/// A row of the outbox.
#[derive(Debug)]
pub struct OutboxRow {
    /// Its place there.
    pub id: i64,
    /// Which batch it tells of.
    pub batch: BatchId,
    /// What happened, if this version can read it.
    pub kind: Result<EventKind, StoreError>,
}

/// Reads up to `most` events of the outbox, oldest first, but for those of the batches `except`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn outbox_page(
    connection: &mut PgConnection,
    except: &[BatchId],
    most: i64,
) -> Result<Vec<OutboxRow>, StoreError> {
    let except: Vec<Uuid> = except.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        "select id, batch_id, payload from event_outbox
         where batch_id <> all($1) order by id limit $2",
        &except,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OutboxRow {
            id: row.id,
            batch: row.batch_id.into(),
            kind: from_json("an event", row.payload),
        })
        .collect())
}

/// Moves these rows of the outbox to the log, as they are, in the order of their ids, and adds `told` behind them; all
/// get their positions here. Only whoever has the sequencer's lock may.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn publish_events(
    connection: &mut PgConnection,
    rows: &[i64],
    told: &[Event],
) -> Result<(), StoreError> {
    let events = rows.len() + told.len();
    if events == 0 {
        return Ok(());
    }
    let organizations: Vec<Uuid> = told.iter().map(|e| e.organization.uuid()).collect();
    let batches: Vec<Uuid> = told.iter().map(|e| e.batch.uuid()).collect();
    let executions: Vec<Option<Uuid>> = told
        .iter()
        .map(|e| e.execution.map(WorkflowExecutionId::uuid))
        .collect();
    let types: Vec<String> = told.iter().map(|e| e.kind.name().to_owned()).collect();
    let payloads = told
        .iter()
        .map(|event| to_json("an event", &event.kind))
        .collect::<Result<Vec<_>, _>>()?;
    let published = query_scalar!(
        r#"with cursor as (
             update event_cursor set last_position = last_position + $1
             returning last_position - $1 as before
         ), taken as (
             delete from event_outbox where id = any($2)
             returning id, organization_id, batch_id, workflow_execution_id, type, payload, created_at
         ), log as (
             -- Numbered here, not joined with the array: the payloads stay in the database.
             select row_number() over (order by id) as number, organization_id, batch_id,
                    workflow_execution_id, type, payload, created_at
             from taken
             union all
             select cardinality($2) + e.number, e.organization_id, e.batch_id, e.execution_id, e.type,
                    e.payload, now()
             from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::jsonb[])
                 with ordinality as e (organization_id, batch_id, execution_id, type, payload, number)
         ), published as (
             insert into event (position, organization_id, batch_id, workflow_execution_id, type, payload,
                                created_at)
             select cursor.before + log.number, log.organization_id, log.batch_id,
                    log.workflow_execution_id, log.type, log.payload, log.created_at
             from cursor cross join log
             returning 1
         ), counted as (
             select count(*) as events from published
         )
         -- Whoever follows the log is told when this is committed (store::EventBell).
         select events as "events!" from counted cross join pg_notify('graphmill_event', '')"#,
        i64::try_from(events).unwrap_or(i64::MAX),
        rows,
        &organizations,
        &batches,
        &executions as &[Option<Uuid>],
        &types,
        &payloads,
    )
    .fetch_one(connection)
    .await?;
    if published.unsigned_abs() != events as u64 {
        // Somebody took rows away by hand. The positions must have no gaps: the next step sees what is left.
        return Err(sqlx::Error::RowNotFound.into());
    }
    Ok(())
}

/// An event of the log.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Its place in the log.
    pub position: i64,
    /// Which execution it tells of, where it tells of one.
    pub execution: Option<WorkflowExecutionId>,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The events of a batch after a position, in order, `most` at most.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn events_after(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: i64,
    most: i64,
) -> Result<Vec<LoggedEvent>, StoreError> {
    let rows = query!(
        "select position, workflow_execution_id, payload, created_at from event
         where organization_id = $1 and batch_id = $2 and position > $3
         order by position limit $4",
        organization.uuid(),
        batch.uuid(),
        after,
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LoggedEvent {
                position: row.position,
                execution: row.workflow_execution_id.map(Into::into),
                kind: from_json("an event", row.payload)?,
                created_at: row.created_at,
            })
        })
        .collect()
}
