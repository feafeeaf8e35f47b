//! What a client does with batches: submit documents, follow, signal, read the report, export the graph. The command
//! line and the HTTP API are two faces of this room.
//!
//! It writes rows and reads them; making them move is the worker's business, which may be another process.

mod change;
mod export;
mod forecast;
mod recipe;
mod report;
mod rerun;
mod service;
mod signal;
mod submit;

pub use change::{RemoveError, Removed, is_at_rest, remove_documents, seal_batch};
pub use export::{ExportFailure, export};
pub use forecast::{Forecast, StageForecast, forecast};
pub use recipe::{Setup, setup, unit_records};
pub use report::{
    BatchDetails, BatchReport, CallCounts, DocumentCounts, ExecutionReport, FailedUnitReport,
    FailureReport, SpentReport, StageReport, calls_so_far, details, find_batch, list, report,
};
pub use rerun::{NewPrompt, Rerun, RerunError, Rerunning, rerun};
pub use service::{ActivityReport, History, SignalReport, WorkflowService};
pub use signal::{BatchSignalled, SignalError, block_batch, signal_batch, signal_execution};
pub use submit::{NewBatch, Submission, SubmitError, fresh_name};
