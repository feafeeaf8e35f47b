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

mod id;
mod job;

pub use id::{
    BatchId, ClusterId, DocumentId, EntityId, IdError, LinkId, LlmCallId, OntologyId,
    OrganizationId, RelationId, WebhookDeliveryId, WorkerId, WorkflowActivityId,
    WorkflowExecutionId, WorkflowSignalId,
};
pub use job::{
    AssembleGraph, ChunkText, ClassifyEntities, ExtractMentions, ExtractRelations, Resolve, Ring,
    StageJob,
};
