//! Reading the log: what a batch or an execution has been through, from a position on, and the tail of it all.
//!
//! Entries are handed on as they are stored, so that an older version passes on what a newer one has written.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use serde_json::Value;
use sqlx::{
    PgConnection, PgPool, postgres::PgListener, postgres::PgPoolOptions, query, query_scalar,
};
use uuid::Uuid;

use crate::{
    flow::EventKind,
    store::{Store, StoreError},
};

/// On which channel the sequencer says that there are new events. Nothing is lost with a message: the log is looked
/// at every second as well.
const CHANNEL: &str = "graphmill_event";

/// What a part of the log tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A batch, with all its executions.
    Batch(BatchId),
    /// One execution.
    Execution(WorkflowExecutionId),
}

/// An entry of the log, as it is stored.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its place in the log.
    pub position: i64,
    /// Which batch it tells of.
    pub batch: BatchId,
    /// Which execution it tells of, where it tells of one.
    pub execution: Option<WorkflowExecutionId>,
    /// The event's type.
    pub name: String,
    /// The event, with its type.
    pub payload: Value,
    /// When it happened, by the database's clock.
    pub created_at: DateTime<Utc>,
}

impl LogEntry {
    /// What happened; none if a newer version has written it.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        serde::Deserialize::deserialize(&self.payload).ok()
    }
}

macro_rules! entry {
    ($row:expr) => {{
        let row = $row;
        LogEntry {
            position: row.position,
            batch: row.batch_id.into(),
            execution: row.workflow_execution_id.map(Into::into),
            name: row.r#type,
            payload: row.payload,
            created_at: row.created_at,
        }
    }};
}

/// The entries of a topic after a position, in order, `most` at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn log_after(
    connection: &mut PgConnection,
    organization: OrganizationId,
    topic: Topic,
    after: i64,
    most: i64,
) -> Result<Vec<LogEntry>, StoreError> {
    Ok(match topic {
        Topic::Batch(batch) => query!(
            "select position, batch_id, workflow_execution_id, type, payload, created_at from event
             where organization_id = $1 and batch_id = $2 and position > $3
             order by position limit $4",
            organization.uuid(),
            batch.uuid(),
            after,
            most,
        )
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| entry!(row))
        .collect(),
        Topic::Execution(execution) => query!(
            "select position, batch_id, workflow_execution_id, type, payload, created_at from event
             where organization_id = $1 and workflow_execution_id = $2 and position > $3
             order by position limit $4",
            organization.uuid(),
            execution.uuid(),
            after,
            most,
        )
        .fetch_all(connection)
        .await?
        .into_iter()
        .map(|row| entry!(row))
        .collect(),
    })
}

/// The last entries of an execution, newest first, `most` at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn last_of_execution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
    most: i64,
) -> Result<Vec<LogEntry>, StoreError> {
    let rows = query!(
        "select position, batch_id, workflow_execution_id, type, payload, created_at from event
         where organization_id = $1 and workflow_execution_id = $2
         order by position desc limit $3",
        organization.uuid(),
        execution.uuid(),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| entry!(row)).collect())
}

/// The position of a batch's last event; 0: it has none yet.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn last_of_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<i64, StoreError> {
    // Not max(): its plan would be the index, backwards, only where the planner sees through it.
    let last = query_scalar!(
        "select position from event where organization_id = $1 and batch_id = $2
         order by position desc limit 1",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.unwrap_or(0))
}

/// A row of the log's tail.
#[derive(Debug, Clone)]
pub struct TailRow {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Its place in the log.
    pub position: i64,
    /// Which batch it tells of.
    pub batch: BatchId,
    /// Which execution it tells of, where it tells of one.
    pub execution: Option<WorkflowExecutionId>,
    /// The entry, if it was asked for.
    pub entry: Option<LogEntry>,
    /// How long ago it happened when this was read, in seconds, by the database's clock.
    pub age: f64,
}

/// The log after a position, over all organizations, `most` rows at most; whole entries of these batches and
/// executions, and of the others only that they are there.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn log_tail(
    connection: &mut PgConnection,
    after: i64,
    batches: &[Uuid],
    executions: &[Uuid],
    most: i64,
) -> Result<Vec<TailRow>, StoreError> {
    let rows = query!(
        r#"select organization_id, position, batch_id, workflow_execution_id, type, created_at,
                  extract(epoch from clock_timestamp() - created_at)::float8 as "age!",
                  case when batch_id = any($2) or workflow_execution_id = any($3) then payload end as payload
           from event where position > $1 order by position limit $4"#,
        after,
        batches,
        executions,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (batch, execution) = (
                row.batch_id.into(),
                row.workflow_execution_id.map(Into::into),
            );
            TailRow {
                organization: row.organization_id.into(),
                position: row.position,
                batch,
                execution,
                age: row.age,
                entry: row.payload.map(|payload| LogEntry {
                    position: row.position,
                    batch,
                    execution,
                    name: row.r#type,
                    payload,
                    created_at: row.created_at,
                }),
            }
        })
        .collect())
}

/// The last position that was given.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn last_position(connection: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(query_scalar!("select last_position from event_cursor")
        .fetch_one(connection)
        .await?)
}

/// Hears that there are new events, on a connection of its own.
#[derive(Debug)]
pub struct EventBell(PgListener);

impl EventBell {
    /// Waits until it rings; one ring may stand for many events.
    ///
    /// # Errors
    /// [`StoreError::Query`]: the connection is gone. Make another one, and look at the log: rings may have been missed.
    pub async fn rung(&mut self) -> Result<(), StoreError> {
        // None: the connection was lost and is there again, which is as good as a ring.
        self.0.try_recv().await?;
        Ok(())
    }
}

impl Store {
    /// Begins to listen for new events.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn event_bell(&self) -> Result<EventBell, StoreError> {
        // Not out of the pool: it would be kept from the drivers for as long as somebody listens.
        let own: PgPool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with((*self.engine.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        Ok(EventBell(listener))
    }
}
