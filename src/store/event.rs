//! The tables `event_outbox` and `event`: what happened, first without a position, then in the log.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

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

/// Takes up to `most` events out of the outbox, oldest first.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn outbox_page(
    connection: &mut PgConnection,
    most: i64,
) -> Result<Vec<(Event, DateTime<Utc>)>, StoreError> {
    let mut rows = query!(
        "delete from event_outbox where id = any(array(
             select id from event_outbox order by id limit $1))
         returning id, organization_id, batch_id, workflow_execution_id, payload, created_at",
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.sort_unstable_by_key(|row| row.id);
    rows.into_iter()
        .map(|row| {
            let event = Event {
                organization: row.organization_id.into(),
                batch: row.batch_id.into(),
                execution: row.workflow_execution_id.map(Into::into),
                kind: from_json("an event", row.payload)?,
            };
            Ok((event, row.created_at))
        })
        .collect()
}

/// Gives events their positions, in order, and publishes them. Only whoever has the sequencer's lock may.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn publish_events(
    connection: &mut PgConnection,
    events: &[(Event, Option<DateTime<Utc>>)],
) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let organizations: Vec<Uuid> = events.iter().map(|(e, _)| e.organization.uuid()).collect();
    let batches: Vec<Uuid> = events.iter().map(|(e, _)| e.batch.uuid()).collect();
    let executions: Vec<Option<Uuid>> = events
        .iter()
        .map(|(e, _)| e.execution.map(WorkflowExecutionId::uuid))
        .collect();
    let types: Vec<String> = events
        .iter()
        .map(|(e, _)| e.kind.name().to_owned())
        .collect();
    let payloads = events
        .iter()
        .map(|(event, _)| to_json("an event", &event.kind))
        .collect::<Result<Vec<_>, _>>()?;
    let times: Vec<Option<DateTime<Utc>>> = events.iter().map(|&(_, at)| at).collect();
    query!(
        "with cursor as (
             update event_cursor set last_position = last_position + $7
             returning last_position - $7 as before
         )
         insert into event (position, organization_id, batch_id, workflow_execution_id, type, payload,
                            created_at)
         select cursor.before + e.number, e.organization_id, e.batch_id, e.execution_id, e.type, e.payload,
                coalesce(e.created_at, now())
         from cursor cross join unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[],
                                       $6::timestamptz[])
             with ordinality as e (organization_id, batch_id, execution_id, type, payload, created_at, number)",
        &organizations,
        &batches,
        &executions as &[Option<Uuid>],
        &types,
        &payloads,
        &times as &[Option<DateTime<Utc>>],
        i64::try_from(events.len()).unwrap_or(i64::MAX),
    )
    .execute(connection)
    .await?;
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
