//! What a client does with batches: submit documents, follow, cancel, read the report, export the graph. The command
//! line and the HTTP API are two faces of this room.
//!
//! It writes rows and reads them; making them move is the worker's business, which may be another process.

mod export;
mod report;
mod submit;

pub use export::{ExportFailure, export};
pub use report::{
    BatchDetails, BatchReport, CallCounts, DocumentCounts, ExecutionReport, FailedUnitReport,
    FailureReport, StageReport, details, find_batch, list, report,
};
pub use submit::{NewBatch, Submission, SubmitError, cancel_batch, fresh_name};
