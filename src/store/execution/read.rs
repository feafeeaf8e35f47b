//! The table `workflow_execution`, as it is shown.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::stage;
use crate::{
    flow::{ExecutionStatus, Failure, Stage},
    store::{Looked, StoreError, from_json, parsed},
};

/// An execution, as it is shown.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Its id.
    pub id: WorkflowExecutionId,
    /// The batch.
    pub batch: BatchId,
    /// The document's id as the caller gave it; none for a resolution.
    pub document: Option<String>,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// The stage that it is at.
    pub stage: Stage,
    /// Completed with failed units.
    pub partial: bool,
    /// Why it failed last.
    pub error: Option<Failure>,
    /// Which try of the batch it belongs to.
    pub generation: i32,
    /// Extra rounds that it was given.
    pub round: i32,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Somebody works on it.
    pub leased: bool,
    /// When it is due, while it waits.
    pub due_at: DateTime<Utc>,
    /// When it was admitted first.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub completed_at: Option<DateTime<Utc>>,
}

macro_rules! read_execution {
    ($row:expr) => {{
        let row = $row;
        Ok::<Execution, StoreError>(Execution {
            id: row.id.into(),
            batch: row.batch_id.into(),
            document: row.external_id,
            status: parsed("a status", &row.status)?,
            stage: stage(&row.current_activity)?,
            partial: row.partial,
            error: row
                .error
                .map(|error| from_json("a failure", error))
                .transpose()?,
            generation: row.generation,
            round: row.round,
            paused: row.pause_reason,
            leased: row.leased,
            due_at: row.due_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
        })
    }};
}

/// Reads one execution.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn execution_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: WorkflowExecutionId,
) -> Result<Option<Execution>, StoreError> {
    let row = query!(
        r#"select e.id, e.batch_id, d.external_id as "external_id?", e.status, e.current_activity,
                  e.partial, e.error, e.generation, e.round, e.pause_reason, e.due_at, e.started_at,
                  e.completed_at, coalesce(e.lease_until > now(), false) as "leased!"
           from workflow_execution e
           left join document d on d.organization_id = e.organization_id and d.id = e.document_id
           where e.organization_id = $1 and e.id = $2"#,
        organization.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| read_execution!(row)).transpose()
}

/// A page of a batch's executions, by id, after `after`; of a document that was retried only the newest, of one that
/// was withdrawn none.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Vec<Execution>, StoreError> {
    let rows = query!(
        r#"select e.id, e.batch_id, d.external_id as "external_id?", e.status, e.current_activity,
                  e.partial, e.error, e.generation, e.round, e.pause_reason, e.due_at, e.started_at,
                  e.completed_at, coalesce(e.lease_until > now(), false) as "leased!"
           from workflow_execution e
           left join document d on d.organization_id = e.organization_id and d.id = e.document_id
           where e.organization_id = $1 and e.batch_id = $2 and e.id > $3 and e.withdrawn_at is null
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')
           order by e.id
           limit $4"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or(Uuid::nil(), WorkflowExecutionId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| read_execution!(row)).collect()
}

/// Looks at executions of a batch, by id, `most` of them behind `after`: those of the newest generation of documents
/// that it holds fit, if they have this status.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn executions_looked_at(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    status: Option<ExecutionStatus>,
    after: Option<WorkflowExecutionId>,
    most: i64,
) -> Result<Vec<Looked<WorkflowExecutionId, Execution>>, StoreError> {
    let rows = query!(
        r#"select e.id, e.batch_id, d.external_id as "external_id?", e.status, e.current_activity,
                  e.partial, e.error, e.generation, e.round, e.pause_reason, e.due_at, e.started_at,
                  e.completed_at, coalesce(e.lease_until > now(), false) as "leased!",
                  (e.withdrawn_at is null and ($4::text is null or e.status = $4)
                   and not exists (select from workflow_execution later
                                   where later.document_id = e.document_id and later.generation > e.generation
                                     and later.workflow_type = 'extraction')) as "fits!"
           from workflow_execution e
           left join document d on d.organization_id = e.organization_id and d.id = e.document_id
           where e.organization_id = $1 and e.batch_id = $2 and e.id > $3
           order by e.id
           limit $5"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or(Uuid::nil(), WorkflowExecutionId::uuid),
        status.map(ExecutionStatus::as_str),
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let fits = row.fits;
            let execution: Execution = read_execution!(row)?;
            Ok(Looked {
                key: execution.id,
                id: execution,
                fits,
            })
        })
        .collect()
}

/// How many documents of the batch are in work: those that hold one of its slots, so never many.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn documents_in_work(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<u64, StoreError> {
    let count = query_scalar!(
        r#"select count(*) as "count!" from workflow_execution
           where organization_id = $1 and batch_id = $2 and status = 'processing' and workflow_type = 'extraction'"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
}

/// The newest execution of the document that has this id in a batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn execution_of_document(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    external_id: &str,
) -> Result<Option<Execution>, StoreError> {
    let row = query!(
        r#"select e.id, e.batch_id, d.external_id as "external_id?", e.status, e.current_activity,
                  e.partial, e.error, e.generation, e.round, e.pause_reason, e.due_at, e.started_at,
                  e.completed_at, coalesce(e.lease_until > now(), false) as "leased!"
           from document d
           join workflow_execution e on e.organization_id = d.organization_id and e.document_id = d.id
                                    and e.workflow_type = 'extraction'
           where d.organization_id = $1 and d.batch_id = $2 and d.external_id = $3
             and d.refusal is null and d.withdrawn_at is null
           order by e.generation desc limit 1"#,
        organization.uuid(),
        batch.uuid(),
        external_id,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| read_execution!(row)).transpose()
}
