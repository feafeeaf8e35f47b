//! Errors as data: what went wrong with a unit, a document or a batch, in the shape that tables and output carry.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why something failed or was refused. Nothing in it comes from a document's text, a prompt or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure, stable over releases.
    pub code: FailureCode,
    /// One sentence for people: what failed, and the remedy where there is one.
    pub message: String,
    /// Whether trying the same again can help.
    pub retryable: bool,
    /// More, by code; `null` where there is no more to say.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// The closed set of failure codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// Refused: no text in it.
    Empty,
    /// Refused: the bytes are not UTF-8.
    NotUtf8,
    /// Refused: over the size limit.
    TooLarge,
    /// Refused: NUL bytes, so not a text.
    Binary,
    /// Refused: the same text is already in the batch.
    Duplicate,
    /// Refused: the same id is already in the batch.
    DuplicateId,
    /// Refused: a JSONL line that can't be read.
    BrokenLine,
    /// Refused: the file can't be read.
    Unreadable,
    /// The extractor returned an error.
    Extractor,
    /// A limit, the breaker or a server that asked to be left alone: no failure, and no try.
    Waiting,
    /// Nothing goes on until somebody does something about it: the account, the key, the budget. No try either.
    Blocked,
    /// The code that worked the unit panicked.
    Panic,
    /// The unit took longer than the hard timeout.
    Timeout,
    /// The worker that held the lease went away.
    LeaseLost,
    /// The worker gave it back before it was through.
    HandedBack,
    /// The worker could not do its part, for a reason of its own.
    Worker,
    /// The unit took down the process that worked it alone.
    ProcessDied,
    /// It did so so often that it is not worked again.
    Quarantined,
    /// Stopped by a signal or by the batch's policy.
    Cancelled,
    /// A stored output can't be read back.
    Corrupt,
    /// No document of the batch succeeded, or its policy ended it.
    BatchFailed,
    /// A kind that a newer version has written.
    #[serde(other)]
    Unknown,
}

impl FailureCode {
    /// The code as tables and output spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::Binary => "binary",
            Self::Duplicate => "duplicate",
            Self::DuplicateId => "duplicate_id",
            Self::BrokenLine => "broken_line",
            Self::Unreadable => "unreadable",
            Self::Extractor => "extractor",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::LeaseLost => "lease_lost",
            Self::HandedBack => "handed_back",
            Self::Worker => "worker",
            Self::ProcessDied => "process_died",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
            Self::Corrupt => "corrupt",
            Self::BatchFailed => "batch_failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Failure {
    /// A failure that trying again may cure.
    #[must_use]
    pub fn transient(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: true,
            details: serde_json::Value::Null,
        }
    }

    /// Stopped by a signal, or with its batch.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::terminal(
            FailureCode::Cancelled,
            "stopped by a signal, or with its batch",
        )
    }

    /// A failure that trying again can't cure.
    #[must_use]
    pub fn terminal(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: false,
            details: serde_json::Value::Null,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}
