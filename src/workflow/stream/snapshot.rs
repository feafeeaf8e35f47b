//! How something stands at a position of the log: what a stream begins with.
//!
//! Invariant: it is true at its position, and the events after that position are what has changed since. A batch's is
//! read in one snapshot of the database in which its counts and the log agree; an execution's is read off the log,
//! since its row is ahead of it.

use chrono::DateTime;
use graphmill_jobs::{BatchId, WorkflowExecutionId};
use serde::Serialize;

use super::message::{ProgressMessage, VERSION, timestamp};
use crate::{
    flow::{BatchStateName, HeadwayStatus, Intake, Stage},
    store::{Batch, LogEntry},
    workflow::DocumentCounts,
};

/// How something stands.
#[derive(Debug, Clone)]
pub enum Snapshot {
    /// A batch.
    Batch(Box<BatchSnapshot>),
    /// An execution.
    Execution(Box<ExecutionSnapshot>),
}

/// How a batch stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchSnapshot {
    version: u8,
    r#type: &'static str,
    /// The position up to which it is true.
    pub position: i64,
    /// Which batch.
    pub batch_id: BatchId,
    /// Its name.
    pub name: String,
    /// Which try of the batch this is, from 1.
    pub generation: i32,
    /// Where it stands.
    pub state: &'static str,
    /// It takes documents until somebody seals it.
    pub open: bool,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// What became of its documents.
    pub documents: DocumentCounts,
    /// Entities found.
    pub entities: u64,
    /// Relations found.
    pub relations: u64,
    /// Clusters published.
    pub clusters: u64,
    /// How many documents are through each stage.
    pub stages: Vec<StageCount>,
    /// The furthest stage that it has entered.
    pub stage: Option<Stage>,
    /// How the batch stands.
    pub status: HeadwayStatus,
    /// Percent of the batch, rounded down: a document counts with the stages that it is through, and the resolution as
    /// the last percent.
    pub progress: u8,
    timestamp: String,
    #[serde(skip)]
    ended: u64,
    #[serde(skip)]
    accepted: u64,
}

/// A stage of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StageCount {
    /// Which one.
    pub stage: Stage,
    /// Documents that are through it.
    pub current: u64,
    /// Documents to work; of the resolution, 1.
    pub total: u64,
}

/// How an execution stands.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionSnapshot {
    version: u8,
    r#type: &'static str,
    /// The position up to which it is true; 0: nothing was told of it yet.
    pub position: i64,
    /// Which batch it belongs to.
    pub batch_id: BatchId,
    /// Which execution.
    pub workflow_execution_id: WorkflowExecutionId,
    /// The last event of it.
    pub last_event: Option<String>,
    /// How far it is, once it has started.
    pub progress: Option<ProgressMessage>,
}

impl Snapshot {
    /// The position up to which it is true.
    #[must_use]
    pub fn position(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.position,
            Self::Execution(execution) => execution.position,
        }
    }

    /// The same as progress alone; none for an execution that has not started.
    #[must_use]
    pub fn progress(&self) -> Option<ProgressMessage> {
        match self {
            Self::Batch(batch) => Some(batch.progress()),
            Self::Execution(execution) => execution.progress.clone(),
        }
    }
}

/// As JSON: the one that it is.
impl Serialize for Snapshot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Batch(batch) => batch.serialize(serializer),
            Self::Execution(execution) => execution.serialize(serializer),
        }
    }
}

impl BatchSnapshot {
    pub(super) fn of(batch: &Batch, position: i64) -> Self {
        let (counts, state) = (&batch.counts, batch.state.name());
        let stages: Vec<StageCount> = Stage::ALL
            .into_iter()
            .map(|stage| StageCount {
                stage,
                current: counts.through(stage),
                total: if stage == Stage::Resolve {
                    1
                } else {
                    counts.accepted
                },
            })
            .collect();
        let resolves = state == BatchStateName::Resolving || counts.resolution.is_some();
        let (status, progress) = standing(state, &stages);
        Self {
            version: VERSION,
            r#type: "Snapshot",
            position,
            batch_id: batch.id,
            name: batch.name.clone(),
            generation: batch.generation,
            state: state.as_str(),
            open: batch.intake == Intake::Open,
            paused: batch.paused.clone().filter(|_| !state.has_ended()),
            documents: counts.into(),
            entities: counts.entities,
            relations: counts.relations,
            clusters: counts.clusters,
            stages,
            stage: if resolves {
                Some(Stage::Resolve)
            } else {
                counts.furthest
            },
            status,
            progress,
            timestamp: timestamp(DateTime::from_timestamp_millis(batch.now_ms).unwrap_or_default()),
            ended: counts.ended(),
            accepted: counts.accepted,
        }
    }

    fn progress(&self) -> ProgressMessage {
        ProgressMessage {
            workflow_execution_id: None,
            batch_id: self.batch_id,
            stage: self.stage.unwrap_or(Stage::Chunk),
            status: self.status,
            progress: self.progress,
            current: self.ended,
            total: self.accepted,
            entity_count: Some(self.entities),
            relation_count: Some(self.relations),
            timestamp: self.timestamp.clone(),
        }
    }
}

/// How a batch stands, by its state and by how many documents are through its stages.
fn standing(state: BatchStateName, stages: &[StageCount]) -> (HeadwayStatus, u8) {
    let of_documents = stages.iter().filter(|count| count.stage != Stage::Resolve);
    let (current, total) = of_documents.fold((0, 0), |(current, total), count| {
        (
            current + u128::from(count.current),
            total + u128::from(count.total),
        )
    });
    let percent = (current.min(total) * 99).checked_div(total).unwrap_or(0);
    let percent = u8::try_from(percent).unwrap_or(99);
    match state {
        BatchStateName::Completed => (HeadwayStatus::Completed, 100),
        BatchStateName::Failed | BatchStateName::Cancelled => (HeadwayStatus::Failed, percent),
        BatchStateName::Pending => (HeadwayStatus::Started, percent),
        BatchStateName::Chunking
        | BatchStateName::ExtractingMentions
        | BatchStateName::ExtractingEntities
        | BatchStateName::ExtractingRelations
        | BatchStateName::Assembling
        | BatchStateName::Resolving => (HeadwayStatus::InProgress, percent),
    }
}

impl ExecutionSnapshot {
    /// Off its last entries, newest first.
    pub(super) fn of(id: WorkflowExecutionId, batch: BatchId, entries: &[LogEntry]) -> Self {
        let last = entries.first();
        Self {
            version: VERSION,
            r#type: "Snapshot",
            position: last.map_or(0, |entry| entry.position),
            batch_id: batch,
            workflow_execution_id: id,
            last_event: last.map(|entry| entry.name.clone()),
            progress: entries.iter().find_map(ProgressMessage::of),
        }
    }
}
