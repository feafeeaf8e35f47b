//! What a client does with batches: submit documents, follow, signal, read the report, export the graph. The command
//! line and the HTTP API are two faces of this room.
//!
//! It writes rows and reads them; making them move is the worker's business, which may be another process.

mod budget;
mod change;
mod export;
mod forecast;
mod identity;
mod link;
mod progress;
mod prune;
mod recipe;
mod report;
mod rerun;
mod service;
mod signal;
mod submit;
mod tree;
mod webhook;

pub use budget::{BudgetReport, begin_month, change_budget, organization_budget, rebuild_budgets};
pub use change::{RemoveError, Removed, is_at_rest, remove_documents, seal_batch};
pub use export::{ExportFailure, export, export_with};
pub use forecast::{Forecast, StageForecast, forecast};
pub use identity::{cluster_id, link_id};
pub use link::{
    ClusterMemberReport, ClusterReport, LinkChange, LinkEndReport, LinkError, LinkReport, cluster,
    decide, links, split,
};
pub use progress::{Done, ProgressReport, StageProgress};
pub use prune::{Ages, Kind as PrunedKind, Pruned, prune};
pub use recipe::{Setup, setup, unit_records};
pub use report::{
    BatchDetails, BatchReport, BatchStatus, CallCounts, DocumentCounts, ExecutionReport,
    FailedUnitReport, FailureReport, SpentReport, calls_so_far, details, find_batch, list, report,
    status,
};
pub use rerun::{NewPrompt, Rerun, RerunError, Rerunning, rerun};
pub use service::{ActivityReport, History, SignalReport, WorkflowService};
pub use signal::{BatchSignalled, SignalError, block_batch, signal_batch, signal_execution};
pub use submit::{NewBatch, Submission, SubmitError, fresh_name, notify};
pub use tree::{Edge, joined, parted};
pub use webhook::{WebhookReport, completion, webhook};
