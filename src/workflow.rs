//! What a client does with batches: submit documents, follow, signal, read the report, export the graph. The command
//! line and the HTTP API are two faces of this room.
//!
//! It writes rows and reads them; making them move is the worker's business, which may be another process.

mod export;
mod identity;
mod link;
mod report;
mod service;
mod signal;
mod submit;
mod tree;

pub use export::{ExportFailure, export};
pub use identity::{cluster_id, link_id};
pub use link::{
    ClusterMemberReport, ClusterReport, LinkChange, LinkEndReport, LinkError, LinkReport, cluster,
    decide, links, split,
};
pub use report::{
    BatchDetails, BatchReport, CallCounts, DocumentCounts, ExecutionReport, FailedUnitReport,
    FailureReport, SpentReport, StageReport, calls_so_far, details, find_batch, list, report,
};
pub use service::{ActivityReport, History, SignalReport, WorkflowService};
pub use signal::{BatchSignalled, SignalError, block_batch, signal_batch, signal_execution};
pub use submit::{NewBatch, Submission, SubmitError, fresh_name};
pub use tree::{Edge, joined, parted};
