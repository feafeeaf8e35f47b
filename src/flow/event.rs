//! What happened, as the durable log tells it. A settle writes its events without a position; the sequencer gives
//! them one and folds them into the batch's counts.

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use serde::{Deserialize, Serialize};

use super::{Failure, Stage};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose it is.
    pub organization: OrganizationId,
    /// Which batch it tells of.
    pub batch: BatchId,
    /// Which execution, where it tells of one.
    pub execution: Option<WorkflowExecutionId>,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// One that tells of a batch, and of none of its executions.
    #[must_use]
    pub const fn of_batch(organization: OrganizationId, batch: BatchId, kind: EventKind) -> Self {
        Self {
            organization,
            batch,
            execution: None,
            kind,
        }
    }
}

/// How far a document had come in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Units that were done, or had failed for good.
    pub current: u64,
    /// Units that the stage had.
    pub total: u64,
}

/// What a document's newest graph takes the place of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Entities that are gone.
    pub entities: u64,
    /// Relations that are gone.
    pub relations: u64,
}

impl Replaced {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What a batch no longer counts, now that a document is withdrawn from it: each field is to be taken off the count
/// of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Withdrawn {
    /// It was to be worked.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// It had been refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Its text had been another document's.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: u64,
    /// It had completed.
    #[serde(skip_serializing_if = "is_zero")]
    pub completed: u64,
    /// It had completed with failed units.
    #[serde(skip_serializing_if = "is_zero")]
    pub partial: u64,
    /// It was waiting for another round.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// It had been given up.
    #[serde(skip_serializing_if = "is_zero")]
    pub abandoned: u64,
    /// … in an earlier generation.
    #[serde(skip_serializing_if = "is_zero")]
    pub abandoned_before: u64,
    /// It had been stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub cancelled: u64,
    /// Entities that are gone.
    #[serde(skip_serializing_if = "is_zero")]
    pub entities: u64,
    /// Relations that are gone.
    #[serde(skip_serializing_if = "is_zero")]
    pub relations: u64,
    /// Stages that it was through.
    #[serde(skip_serializing_if = "are_zero")]
    pub passed: [u64; Stage::OF_A_DOCUMENT],
}

fn are_zero(counts: &[u64; Stage::OF_A_DOCUMENT]) -> bool {
    counts.iter().all(|&count| count == 0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Whose limit calls wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitCause {
    /// The server's: it answered that there are too many calls, or asked to be left alone (`Retry-After`).
    Server,
    /// Ours, of requests a minute.
    Requests,
    /// Ours, of tokens a minute.
    Tokens,
}

/// What can happen. The `type` and the fields are the wire format; a release may add kinds and fields and changes
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum EventKind {
    /// A batch was opened.
    BatchCreated {
        /// Its name, unique in the organization.
        name: String,
    },
    /// Documents were written durably.
    DocumentsAdded {
        /// How many will be worked.
        accepted: u64,
        /// How many were refused, duplicates aside.
        refused: u64,
        /// How many had a text that the batch already has.
        duplicate: u64,
    },
    /// A document was sent again with another text: its old version is withdrawn. The new one is among those that a
    /// `DocumentsAdded` tells of.
    DocumentReplaced {
        /// The old version.
        document: DocumentId,
        /// The new one; none if it was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<DocumentId>,
        /// What is no longer counted.
        was: Withdrawn,
    },
    /// A document was taken out of its batch.
    DocumentRemoved {
        /// Which one.
        document: DocumentId,
        /// What is no longer counted.
        was: Withdrawn,
    },
    /// The batch takes documents until somebody seals it.
    BatchKeptOpen,
    /// No more documents will come.
    BatchSealed,
    /// A document was admitted for the first time.
    DocumentStarted,
    /// Units of a stage that takes a while have their checkpoints: told with them, in the same transaction.
    StageProgress {
        /// Which one.
        stage: Stage,
        /// Units that are done, or have failed for good.
        current: u64,
        /// Units in all.
        total: u64,
    },
    /// A stage of a document settled.
    StageCompleted {
        /// Which one.
        stage: Stage,
        /// How many units it had.
        units: u64,
        /// How many of them failed for good.
        failed_units: u64,
    },
    /// A stage will be tried again.
    StageRetried {
        /// Which one.
        stage: Stage,
        /// Why.
        failure: Failure,
        /// Milliseconds until it is due.
        wait_ms: u64,
        /// How far it had come, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reached: Option<Reached>,
    },
    /// Every stage of a document settled.
    DocumentCompleted {
        /// Some of its units failed.
        partial: bool,
        /// Entities found in it.
        entities: u64,
        /// Relations found in it.
        relations: u64,
        /// What an earlier generation had found in it, which this replaces.
        #[serde(default, skip_serializing_if = "Replaced::is_nothing")]
        replaced: Replaced,
    },
    /// A document used up its tries and waits for another round.
    DocumentFailed {
        /// Why.
        failure: Failure,
        /// The stage that it failed in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        /// How far it had come in that stage, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reached: Option<Reached>,
    },
    /// A failed document got another round.
    DocumentRevived {
        /// Which round, from 1.
        round: i32,
    },
    /// A document was given up.
    DocumentAbandoned {
        /// Why.
        failure: Failure,
        /// The stage that it failed in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        /// How far it had come in that stage, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reached: Option<Reached>,
    },
    /// A document was stopped.
    DocumentCancelled {
        /// It was waiting for another round.
        was_failed: bool,
        /// The stage that it was at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
    },
    /// A document waits until somebody resumes it.
    DocumentPaused,
    /// A paused document may go on.
    DocumentResumed,
    /// Every document is final; the resolution begins.
    ResolutionStarted,
    /// The batch's clusters are published.
    ResolutionCompleted {
        /// How many there are.
        clusters: u64,
    },
    /// The resolution was given up or stopped.
    ResolutionAbandoned {
        /// Why.
        failure: Failure,
    },
    /// Somebody has decided about links, and so the batch's clusters are others now.
    ClustersChanged {
        /// How many there are.
        clusters: u64,
    },
    /// The furthest stage of the batch moved on.
    StageEntered {
        /// To which one.
        stage: Stage,
    },
    /// Nothing of the batch is begun until somebody resumes it.
    BatchPaused {
        /// Why.
        reason: String,
    },
    /// A paused batch may go on.
    BatchResumed,
    /// Calls of the batch wait for a limit of their model. Told once in ten seconds at most.
    RateLimited {
        /// The model, as its server knows it.
        model: String,
        /// Whose limit.
        cause: LimitCause,
        /// Milliseconds until calls may go on, as far as that is known.
        wait_ms: u64,
    },
    /// Calls of the batch's model fail one after the other, and nobody makes any for a while.
    BreakerOpened {
        /// The model, as its server knows it.
        model: String,
        /// Failures in a row.
        failures: u32,
        /// Milliseconds until one call tries how the server is.
        wait_ms: u64,
    },
    /// The breaker is half-open: a call of the batch tries how the server is.
    BreakerProbed {
        /// The model, as its server knows it.
        model: String,
    },
    /// Calls of the batch's model go through again.
    BreakerClosed {
        /// The model, as its server knows it.
        model: String,
    },
    /// An ended batch was opened again: documents of it get another try, in its next generation.
    BatchRetried {
        /// Which generation begins, from 2.
        generation: i32,
        /// How many of them had been given up.
        abandoned: u64,
        /// How many had been stopped.
        cancelled: u64,
        /// How many had completed with failed units.
        partial: u64,
        /// How many of them all had been through each stage, which they go through again.
        #[serde(default)]
        passed: [u64; Stage::OF_A_DOCUMENT],
    },
    /// An ended batch was opened again, because what it holds changes: what has completed is not worked again.
    BatchReopened {
        /// Which generation begins, from 2.
        generation: i32,
    },
    /// An ended batch was opened again: every document of it is worked again, from a stage on.
    BatchRerun {
        /// Which generation begins, from 2.
        generation: i32,
        /// The first stage that is worked otherwise.
        from: Stage,
        /// How many of its documents had completed.
        completed: u64,
        /// How many of those had failed units.
        partial: u64,
        /// How many had been given up.
        abandoned: u64,
        /// How many had been stopped.
        cancelled: u64,
    },
    /// The batch is done.
    BatchCompleted,
    /// The batch ended without success.
    BatchFailed {
        /// Why.
        failure: Failure,
    },
    /// The batch was stopped by hand.
    BatchCancelled,
}

impl EventKind {
    /// The event's type, as the log's `type` column has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BatchCreated { .. } => "BatchCreated",
            Self::DocumentsAdded { .. } => "DocumentsAdded",
            Self::DocumentReplaced { .. } => "DocumentReplaced",
            Self::DocumentRemoved { .. } => "DocumentRemoved",
            Self::BatchKeptOpen => "BatchKeptOpen",
            Self::BatchSealed => "BatchSealed",
            Self::DocumentStarted => "DocumentStarted",
            Self::StageProgress { .. } => "StageProgress",
            Self::StageCompleted { .. } => "StageCompleted",
            Self::StageRetried { .. } => "StageRetried",
            Self::DocumentCompleted { .. } => "DocumentCompleted",
            Self::DocumentFailed { .. } => "DocumentFailed",
            Self::DocumentRevived { .. } => "DocumentRevived",
            Self::DocumentAbandoned { .. } => "DocumentAbandoned",
            Self::DocumentCancelled { .. } => "DocumentCancelled",
            Self::DocumentPaused => "DocumentPaused",
            Self::DocumentResumed => "DocumentResumed",
            Self::ResolutionStarted => "ResolutionStarted",
            Self::ResolutionCompleted { .. } => "ResolutionCompleted",
            Self::ResolutionAbandoned { .. } => "ResolutionAbandoned",
            Self::ClustersChanged { .. } => "ClustersChanged",
            Self::StageEntered { .. } => "StageEntered",
            Self::BatchPaused { .. } => "BatchPaused",
            Self::BatchResumed => "BatchResumed",
            Self::RateLimited { .. } => "RateLimited",
            Self::BreakerOpened { .. } => "BreakerOpened",
            Self::BreakerProbed { .. } => "BreakerProbed",
            Self::BreakerClosed { .. } => "BreakerClosed",
            Self::BatchRetried { .. } => "BatchRetried",
            Self::BatchReopened { .. } => "BatchReopened",
            Self::BatchRerun { .. } => "BatchRerun",
            Self::BatchCompleted => "BatchCompleted",
            Self::BatchFailed { .. } => "BatchFailed",
            Self::BatchCancelled => "BatchCancelled",
        }
    }
}
