//! The vocabulary that producers and workers share: ids with a readable prefix, and the typed jobs.
//!
//! A job carries ids, never content: Postgres holds the truth and a job is only the ring at its door. A lost
//! job is rung again, a duplicate or stale one changes nothing.
//!
//! ```
//! use graphmill_jobs::{BatchId, IdError};
//!
//! let id = BatchId::generate();
//! assert_eq!(id.to_string().parse::<BatchId>()?, id);
//! # Ok::<(), IdError>(())
//! ```
//!
//! With the feature `enqueue` there is a client too (`Client`), which puts documents on the queue of submissions: the one
//! queue whose entries carry content.

#[cfg(feature = "enqueue")]
mod enqueue;
mod id;
mod job;
pub mod submit_queue;

#[cfg(feature = "enqueue")]
pub use enqueue::{
    Addition, Ask, Client, Document, DocumentCounts, EnqueueError, Envelope, Options, Receipt,
    RefusedDocument, Seal, Submission, Ticket,
};

pub use id::{
    BatchId, ClusterId, DocumentId, EntityId, IdError, LinkId, LlmCallId, OntologyId,
    OrganizationId, RelationId, WebhookDeliveryId, WorkerId, WorkflowActivityId,
    WorkflowExecutionId, WorkflowSignalId,
};
pub use job::{
    AssembleGraph, ChunkText, ClassifyEntities, ExtractMentions, ExtractRelations, Resolve, Ring,
    StageJob,
};

/// What the README shows compiles.
#[cfg(all(doctest, feature = "enqueue"))]
#[doc = include_str!("../README.md")]
struct Readme;
