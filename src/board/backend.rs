//! What the board asks of a backend, answered from Postgres for one stage of one organization.
//!
//! Knows the traits of apalis that the board asks. No worker ever polls this backend and nothing can be pushed to it:
//! the board wants both in the same type. Invariant: nothing is read outside of the organization's row security, but
//! which workers there are.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use apalis_core::{
    backend::{
        Backend, BackendConfig, FetchById, Filter, ListAllTasks, ListQueues, ListTasks,
        ListWorkers, Metrics, QueueInfo, RunningWorker, StatType, Statistic, WireFormatBackend,
        codec::Codec, finalize::Ephemeral,
    },
    layers::Identity,
    task::{Task, task_id::TaskId},
    worker::context::WorkerContext,
};
use futures_util::Sink;
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use serde_json::Value;

use super::{
    count::{self, Count, Counted, Counts, Rows},
    task,
};
use crate::{
    flow::Stage,
    store::{self, LivingWorker, Standing, Store, StoreError},
};

/// Batches of which rows are counted one by one at most, the newest first.
const LOOKED_INTO: usize = 200;

/// Why the board shows nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum BoardError {
    /// Rows could not be read. Trying again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task can't be told. Trying again does not help.
    #[error("the board takes no such task")]
    Task(#[source] serde_json::Error),
    /// Somebody tried to enqueue. Trying again does not help.
    #[error("the board only shows: documents come in through the HTTP API")]
    OnlyShows,
}

/// A stage of one organization.
#[derive(Debug, Clone)]
pub(super) struct StageOfOne {
    store: Store,
    organization: OrganizationId,
    stage: Stage,
}

impl StageOfOne {
    pub(super) const fn new(store: Store, organization: OrganizationId, stage: Stage) -> Self {
        Self {
            store,
            organization,
            stage,
        }
    }

    /// What stands at every stage, as one moment has it.
    async fn counts(&self) -> Result<Counts, StoreError> {
        let (organization, mut read) = (
            self.organization,
            self.store.app_snapshot(self.organization).await?,
        );
        let standings = store::standings(&mut read, organization).await?;
        let open = batches(&standings, |of| !of.ended);
        let in_work = store::standers_in_work(&mut read, organization, &open).await?;
        let mut failed = batches(&standings, count::needs_failed);
        failed.truncate(LOOKED_INTO);
        let failed = store::standers_failed(&mut read, organization, &failed).await?;
        let mut waiting = batches(&standings, count::needs_waiting);
        waiting.truncate(LOOKED_INTO);
        let waiting = store::standers_waiting(&mut read, organization, &waiting).await?;
        let counted = Counted {
            taken: Rows::of(&in_work, |standers| !standers.leased),
            in_work: Rows::of(&in_work, |standers| standers.leased),
            failed: Rows::of(&failed, |_| true),
            waiting: Rows::of(&waiting, |_| true),
            resolutions: store::resolutions_standing(&mut read, organization).await?,
        };
        Ok(count::counts(&standings, &counted))
    }

    async fn tasks(
        &self,
        filter: &Filter,
        at: Option<Stage>,
    ) -> Result<Vec<Task<Value>>, BoardError> {
        let mut read = self.store.app_snapshot(self.organization).await?;
        let shown = task::shown(filter.status.as_ref());
        let (skip, most) = (filter.offset().into(), filter.limit().into());
        let wanted =
            store::shown_executions(&mut read, self.organization, shown, at, skip, most).await?;
        let found = store::stages_of_executions(&mut read, self.organization, &wanted).await?;
        found
            .iter()
            .filter_map(|execution| task::task(execution, &[]))
            .collect::<Result<_, _>>()
            .map_err(BoardError::Task)
    }

    async fn task(&self, id: &TaskId) -> Result<Option<Task<Value>>, BoardError> {
        let Ok(id) = id.to_string().parse::<WorkflowExecutionId>() else {
            return Ok(None);
        };
        let mut read = self.store.app_snapshot(self.organization).await?;
        let wanted = [(id, self.stage)];
        let found = store::stages_of_executions(&mut read, self.organization, &wanted).await?;
        let Some(execution) = found.first() else {
            return Ok(None);
        };
        let mut attempts = store::activities(&mut read, self.organization, id).await?;
        attempts.retain(|attempt| attempt.stage == self.stage);
        task::task(execution, &attempts)
            .transpose()
            .map_err(BoardError::Task)
    }

    /// Processes work every stage.
    async fn workers(&self, queue: &str) -> Result<Vec<RunningWorker>, StoreError> {
        let seconds = |at: chrono::DateTime<chrono::Utc>| at.timestamp().unsigned_abs();
        let workers = self.living().await?;
        Ok(workers
            .into_iter()
            .map(|worker| RunningWorker {
                id: worker.id.to_string(),
                queue: queue.to_owned(),
                backend: format!("graphmill {}", worker.version),
                started_at: seconds(worker.started_at),
                last_heartbeat: seconds(worker.seen_at),
                layers: format!("{} slots", worker.slots),
            })
            .collect())
    }

    async fn living(&self) -> Result<Vec<LivingWorker>, StoreError> {
        store::living_workers(&mut *self.store.engine().await?).await
    }
}

/// The batches that stand alone and of which this holds, the newest first.
fn batches(standings: &[Standing], holds: impl Fn(&Standing) -> bool) -> Vec<BatchId> {
    standings
        .iter()
        .filter(|of| holds(of))
        .filter_map(|of| of.batch)
        .collect()
}

/// Says in the log what the board could not read: it shows no more than that there is nothing.
fn told<T, E: Into<BoardError>>(read: Result<T, E>) -> Result<T, BoardError> {
    read.map_err(|error| {
        let error = error.into();
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the board could not be filled"
        );
        error
    })
}

/// By the names that the board knows. It counts pages of a list by some of them.
fn statistics(count: &Count) -> Vec<Statistic> {
    let numbers = [
        ("RUNNING_JOBS", count.in_work),
        ("QUEUE_BACKLOG", count.taken),
        ("PENDING_JOBS", count.waiting),
        ("DONE_JOBS", count.through),
        ("FAILED_JOBS", count.failed),
        ("KILLED_JOBS", count.stopped),
        ("TOTAL_JOBS", count.total()),
    ]
    .map(|(title, number)| (title, StatType::Number, number.to_string()));
    let success = count.success().map(|success| {
        let percent = format!("{}.{:02}", success / 100, success % 100);
        ("SUCCESS_RATE", StatType::Percentage, percent)
    });
    (1..)
        .zip(numbers.into_iter().chain(success))
        .map(|(priority, (title, stat_type, value))| Statistic {
            title: title.to_owned(),
            stat_type,
            value,
            priority: Some(priority),
        })
        .collect()
}

impl Metrics for StageOfOne {
    async fn global(&self) -> Result<Vec<Statistic>, BoardError> {
        let mut all = Count::default();
        for count in &told(self.counts().await)? {
            all.add(count);
        }
        Ok(statistics(&all))
    }

    async fn fetch_by_queue(&self) -> Result<Vec<Statistic>, BoardError> {
        let counts = told(self.counts().await)?;
        Ok(statistics(&counts[self.stage.place()]))
    }
}

impl ListQueues for StageOfOne {
    async fn list_queues(&self) -> Result<Vec<QueueInfo>, BoardError> {
        let counts = told(self.counts().await)?;
        let workers: Vec<String> = told(self.living().await)?
            .iter()
            .map(|worker| worker.id.to_string())
            .collect();
        let day = |count: &u64| usize::try_from(*count).unwrap_or(usize::MAX);
        Ok(Stage::ALL
            .into_iter()
            .zip(&counts)
            .map(|(stage, count)| QueueInfo {
                name: stage.as_str().to_owned(),
                stats: statistics(count),
                workers: workers.clone(),
                activity: count.by_day.iter().map(day).collect(),
            })
            .collect())
    }
}

impl ListWorkers for StageOfOne {
    async fn list_workers(&self) -> Result<Vec<RunningWorker>, BoardError> {
        told(self.workers(self.stage.as_str()).await)
    }

    async fn list_all_workers(&self) -> Result<Vec<RunningWorker>, BoardError> {
        told(self.workers("all").await)
    }
}

impl ListTasks for StageOfOne {
    async fn list_tasks(&self, filter: &Filter) -> Result<Vec<Task<Value>>, BoardError> {
        told(self.tasks(filter, Some(self.stage)).await)
    }
}

impl ListAllTasks for StageOfOne {
    async fn list_all_tasks(&self, filter: &Filter) -> Result<Vec<Task<Value>>, BoardError> {
        told(self.tasks(filter, None).await)
    }
}

impl FetchById for StageOfOne {
    async fn fetch_by_id(&mut self, id: &TaskId) -> Result<Option<Task<Value>>, BoardError> {
        told(self.task(id).await)
    }
}

impl Backend for StageOfOne {
    type Task = Task<Value>;
    type Error = BoardError;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), BoardError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Value>, BoardError>>> {
        Poll::Ready(None)
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), BoardError>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for StageOfOne {
    type Args = Value;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// Arguments are JSON already.
#[derive(Debug, Clone, Copy)]
pub(super) struct AsTheyAre;

impl Codec<Value> for AsTheyAre {
    type Error = Infallible;
    type Compact = Value;

    fn encode(&self, value: &Value) -> Result<Value, Infallible> {
        Ok(value.clone())
    }

    fn decode(&self, value: &Value) -> Result<Value, Infallible> {
        Ok(value.clone())
    }
}

impl WireFormatBackend for StageOfOne {
    type Codec = AsTheyAre;
    type Compact = Value;

    fn codec(&self) -> &AsTheyAre {
        &AsTheyAre
    }
}

impl Sink<Task<Value>> for StageOfOne {
    type Error = BoardError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoardError>> {
        Poll::Ready(Err(BoardError::OnlyShows))
    }

    fn start_send(self: Pin<&mut Self>, _: Task<Value>) -> Result<(), BoardError> {
        Err(BoardError::OnlyShows)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoardError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), BoardError>> {
        Poll::Ready(Ok(()))
    }
}
