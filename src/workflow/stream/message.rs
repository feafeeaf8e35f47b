//! What is said of an event: whole, for those who follow everything, or as progress alone.
//!
//! docs/EVENTS.md describes both. A release may add kinds of events and fields; what changes the meaning of one raises
//! [`VERSION`].

use chrono::{DateTime, SecondsFormat, Utc};
use graphmill_jobs::{BatchId, WorkflowExecutionId};
use serde::Serialize;
use serde_json::Value;

use crate::{
    flow::{Headway, HeadwayStatus, Stage},
    store::LogEntry,
};

/// The version of the messages.
pub(super) const VERSION: u8 = 1;

/// An event, whole.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventMessage<'a> {
    version: u8,
    position: i64,
    batch_id: BatchId,
    workflow_execution_id: Option<WorkflowExecutionId>,
    timestamp: String,
    /// Its type and what it says, as it is stored.
    #[serde(flatten)]
    payload: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<HeadwayStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<u8>,
}

impl<'a> EventMessage<'a> {
    /// What is said of `entry`.
    #[must_use]
    pub fn of(entry: &'a LogEntry) -> Self {
        let headway = entry.kind().and_then(|kind| kind.headway());
        Self {
            version: VERSION,
            position: entry.position,
            batch_id: entry.batch,
            workflow_execution_id: entry.execution,
            timestamp: timestamp(entry.created_at),
            payload: &entry.payload,
            status: headway.map(|headway| headway.status),
            progress: headway.map(|headway| headway.progress),
        }
    }
}

/// How far an execution is, or a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressMessage {
    /// Which execution; none: it is said of the batch as a whole.
    pub workflow_execution_id: Option<WorkflowExecutionId>,
    /// Which batch.
    pub batch_id: BatchId,
    /// The stage that it is at.
    pub stage: Stage,
    /// How that stage stands.
    pub status: HeadwayStatus,
    /// Percent of the whole execution or batch, rounded down.
    pub progress: u8,
    /// Units of the stage that are through; of a batch, its documents.
    pub current: u64,
    /// … of so many; 0 where that is not known.
    pub total: u64,
    /// Entities found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_count: Option<u64>,
    /// Relations found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation_count: Option<u64>,
    /// When, by the database's clock.
    pub timestamp: String,
}

impl ProgressMessage {
    /// What `entry` says of progress, if it says anything.
    #[must_use]
    pub fn of(entry: &LogEntry) -> Option<Self> {
        let Headway {
            stage,
            status,
            progress,
            current,
            total,
            entities,
            relations,
        } = entry.kind()?.headway()?;
        Some(Self {
            workflow_execution_id: entry.execution,
            batch_id: entry.batch,
            stage,
            status,
            progress,
            current,
            total,
            entity_count: entities,
            relation_count: relations,
            timestamp: timestamp(entry.created_at),
        })
    }
}

/// In UTC, with milliseconds.
pub(super) fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
