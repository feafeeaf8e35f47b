//! What a producer is told: that its rows are durable, or why not.
//!
//! Knows the JSON, of which `tests/golden/` has a copy. Invariant: a field that a later version adds is no error.

use serde::{Deserialize, Serialize};

use crate::BatchId;

/// What became of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Receipt {
    /// All of it is durable.
    Accepted {
        /// The batch.
        batch_id: BatchId,
        /// Its name.
        #[serde(default)]
        batch: String,
        /// No more documents are awaited.
        #[serde(default)]
        sealed: bool,
        /// It was submitted before, and this is what was answered then.
        #[serde(default)]
        again: bool,
        /// What became of the documents.
        #[serde(default)]
        documents: DocumentCounts,
        /// Those that were refused, 100 at most; the others went on.
        #[serde(default)]
        refused: Vec<RefusedDocument>,
    },
    /// Nothing of it was stored, and it never will be.
    Refused {
        /// The kind of mistake, for programs.
        code: String,
        /// What is wrong, for people.
        message: String,
        /// Where: `submit.documents[3].title`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
}

/// What became of the documents of an envelope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DocumentCounts {
    /// Those that the batch did not have.
    pub added: u64,
    /// Those that had another text.
    pub replaced: u64,
    /// Those that it had as they are.
    pub unchanged: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// A document that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDocument {
    /// The producer's id of it.
    pub document: String,
    /// The kind of failure.
    pub code: String,
    /// What is wrong with it, and the remedy where there is one.
    pub message: String,
}
