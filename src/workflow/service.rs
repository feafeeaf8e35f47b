//! The service: what a program asks of single executions, in one place: start, status, signal, history.

use chrono::{DateTime, Utc};
use graphmill_jobs::{
    BatchId, OrganizationId, WorkflowActivityId, WorkflowExecutionId, WorkflowSignalId,
};
use serde::Serialize;

use super::{
    NewBatch, SignalError, Submission, SubmitError, report::ExecutionReport,
    signal::signal_execution,
};
use crate::{
    flow::{Failure, Signal},
    pipeline::NewDocument,
    store::{self, SentSignal, Store, StoreError},
};

/// Executions of one organization, for programs.
#[derive(Debug, Clone)]
pub struct WorkflowService {
    store: Store,
    organization: OrganizationId,
}

/// Everything that is known of an execution.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct History {
    /// Where it stands.
    #[serde(flatten)]
    pub execution: ExecutionReport,
    /// Its batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// Which try of the batch it belongs to.
    pub generation: i32,
    /// Extra rounds that it was given.
    pub round: i32,
    /// Somebody works on it.
    pub leased: bool,
    /// When it is due, while it waits.
    #[schema(value_type = Option<String>)]
    pub due_at: Option<DateTime<Utc>>,
    /// When it was admitted first.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    #[schema(value_type = Option<String>)]
    pub completed_at: Option<DateTime<Utc>>,
    /// The attempts at its stages, in order.
    pub activities: Vec<ActivityReport>,
    /// What its units came to, by stage.
    #[schema(value_type = Vec<Object>)]
    pub units: Vec<store::UnitCounts>,
    /// What was asked of it, in order.
    pub signals: Vec<SignalReport>,
}

/// One attempt at one stage.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ActivityReport {
    /// Its id.
    #[schema(value_type = String)]
    pub id: WorkflowActivityId,
    /// The activity.
    pub name: &'static str,
    /// Where it stands.
    pub status: &'static str,
    /// Which attempt at the stage it is, from 1.
    pub attempt: i32,
    /// When it began.
    #[schema(value_type = String)]
    pub started_at: DateTime<Utc>,
    /// Milliseconds, once it has ended.
    pub duration_ms: Option<i64>,
    /// Why it failed, or was given back.
    #[schema(value_type = Option<Object>)]
    pub error: Option<Failure>,
}

/// Something that was asked of an execution.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SignalReport {
    /// Its id.
    #[schema(value_type = String)]
    pub id: WorkflowSignalId,
    /// What was asked.
    #[schema(value_type = String)]
    pub signal: Signal,
    /// `delivered` or `too_late`; none while the holder of the lease has not answered.
    pub outcome: Option<String>,
}

impl From<SentSignal> for SignalReport {
    fn from(sent: SentSignal) -> Self {
        Self {
            id: sent.id,
            signal: sent.signal,
            outcome: sent.outcome,
        }
    }
}

impl WorkflowService {
    /// The executions of `organization`.
    #[must_use]
    pub const fn new(store: Store, organization: OrganizationId) -> Self {
        Self {
            store,
            organization,
        }
    }

    /// Submits one document as a batch of its own; returns its execution. The rows are durable then, and any worker
    /// takes them up.
    ///
    /// # Errors
    /// [`SubmitError`]; it says whether trying again can help.
    pub async fn start(
        &self,
        batch: &NewBatch,
        document: NewDocument,
    ) -> Result<WorkflowExecutionId, SubmitError> {
        let mut submission = Submission::open(&self.store, self.organization, batch).await?;
        submission.add(document).await?;
        let id = submission.seal().await?;
        let mut read = self.store.app(self.organization).await?;
        let mut rows = store::executions(&mut read, self.organization, id, None, 1).await?;
        rows.pop()
            .map(|execution| execution.id)
            .ok_or_else(|| SubmitError::Refused)
    }

    /// Where an execution stands; `None`: there is no such execution.
    ///
    /// # Errors
    /// [`StoreError`]; trying again may help.
    pub async fn status(
        &self,
        execution: WorkflowExecutionId,
    ) -> Result<Option<ExecutionReport>, StoreError> {
        let mut read = self.store.app(self.organization).await?;
        let found = store::execution_by_id(&mut read, self.organization, execution).await?;
        Ok(found.map(ExecutionReport::from))
    }

    /// Asks something of an execution; `None`: there is no such execution. The outcome is open while the holder of
    /// its lease has not answered, which takes a second at most, or a unit for a pause.
    ///
    /// # Errors
    /// [`SignalError`]; trying again may help, and signals twice at worst.
    pub async fn signal(
        &self,
        execution: WorkflowExecutionId,
        signal: Signal,
    ) -> Result<Option<SignalReport>, SignalError> {
        let sent = signal_execution(&self.store, self.organization, execution, signal).await?;
        Ok(sent.map(SignalReport::from))
    }

    /// Ends an execution: [`Signal::Cancel`].
    ///
    /// # Errors
    /// As [`WorkflowService::signal`].
    pub async fn cancel(
        &self,
        execution: WorkflowExecutionId,
    ) -> Result<Option<SignalReport>, SignalError> {
        self.signal(execution, Signal::Cancel).await
    }

    /// Lets a paused execution go on: [`Signal::Resume`].
    ///
    /// # Errors
    /// As [`WorkflowService::signal`].
    pub async fn resume(
        &self,
        execution: WorkflowExecutionId,
    ) -> Result<Option<SignalReport>, SignalError> {
        self.signal(execution, Signal::Resume).await
    }

    /// Everything that is known of an execution; `None`: there is no such execution.
    ///
    /// # Errors
    /// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
    pub async fn history(
        &self,
        execution: WorkflowExecutionId,
    ) -> Result<Option<History>, StoreError> {
        let organization = self.organization;
        let mut read = self.store.app(organization).await?;
        let Some(found) = store::execution_by_id(&mut read, organization, execution).await? else {
            return Ok(None);
        };
        let activities = store::activities(&mut read, organization, execution).await?;
        let units = store::unit_counts(&mut read, organization, execution).await?;
        let signals = store::signals(&mut read, organization, execution).await?;
        Ok(Some(History {
            batch_id: found.batch,
            generation: found.generation,
            round: found.round,
            leased: found.leased,
            due_at: (!found.status.is_final()).then_some(found.due_at),
            started_at: found.started_at,
            completed_at: found.completed_at,
            activities: activities
                .into_iter()
                .map(|activity| ActivityReport {
                    id: activity.id,
                    name: activity.stage.activity_name(),
                    status: activity.status.as_str(),
                    attempt: activity.attempt,
                    started_at: activity.started_at,
                    duration_ms: activity.duration_ms,
                    error: activity.error,
                })
                .collect(),
            units,
            signals: signals.into_iter().map(SignalReport::from).collect(),
            execution: found.into(),
        }))
    }
}
