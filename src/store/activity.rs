//! The table `workflow_activity`: the attempts at stages. They are begun and ended by `lease` and `settle`, in the
//! same statement as the execution's move; here they are read.

use chrono::{DateTime, Utc};
use graphmill_jobs::{OrganizationId, WorkflowActivityId, WorkflowExecutionId};
use sqlx::{PgConnection, query};

use super::{StoreError, from_json, parsed};
use crate::flow::{ActivityStatus, Failure, Stage};

/// One attempt at one stage.
#[derive(Debug, Clone)]
pub struct Activity {
    /// Its id.
    pub id: WorkflowActivityId,
    /// The stage.
    pub stage: Stage,
    /// Where it stands.
    pub status: ActivityStatus,
    /// Which attempt at the stage it is, from 1.
    pub attempt: i32,
    /// What it gave, in short.
    pub output: Option<serde_json::Value>,
    /// Why it failed, or was given back.
    pub error: Option<Failure>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Milliseconds by the database's clock, once it has ended.
    pub duration_ms: Option<i64>,
}

/// The attempts of an execution, in order.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn activities(
    connection: &mut PgConnection,
    organization: OrganizationId,
    execution: WorkflowExecutionId,
) -> Result<Vec<Activity>, StoreError> {
    let rows = query!(
        "select id, activity_name, status, attempt_number, output, error, started_at, duration_ms
         from workflow_activity
         where organization_id = $1 and workflow_execution_id = $2
         order by lease_epoch",
        organization.uuid(),
        execution.uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let stage = Stage::of_activity(&row.activity_name)
                .ok_or_else(|| StoreError::decode("an activity name")(row.activity_name.into()))?;
            Ok(Activity {
                id: row.id.into(),
                stage,
                status: parsed("a status", &row.status)?,
                attempt: row.attempt_number,
                output: row.output,
                error: row
                    .error
                    .map(|error| from_json("a failure", error))
                    .transpose()?,
                started_at: row.started_at,
                duration_ms: row.duration_ms,
            })
        })
        .collect()
}
