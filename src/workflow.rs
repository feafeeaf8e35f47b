//! What a client does with batches: submit documents, follow, signal, read the report, export the graph. The command
//! line and the HTTP API are two faces of this room.
//!
//! It writes rows and reads them; making them move is the worker's business, which may be another process.

mod add;
mod adjudication;
mod body;
mod budget;
mod change;
mod desk;
mod explore;
mod export;
mod forecast;
mod identity;
mod intake;
mod link;
mod once;
mod page;
mod progress;
mod prune;
mod recipe;
mod report;
mod rerun;
mod service;
mod signal;
mod spending;
mod stream;
mod submit;
mod tree;
mod webhook;
mod whole;

pub use add::{Added, MOST_ADDED, SealedOnce, add_once, seal_once};
pub use adjudication::{AdjudicationReport, adjudicates, adjudication};
pub use body::{AdditionBody, DocumentBody, SubmissionBody, Unfit, read_body};
pub use budget::{
    BudgetReport, begin_month, change_budget, organization_budget, raise_caps, rebuild_budgets,
};
pub use change::{RemoveError, Removed, is_at_rest, remove_documents, seal_batch};
pub use desk::{Desk, Filed, Parcel};
pub use explore::{
    Bounds, End, EntityDetails, EntityKey, EntityQuery, EntityReport, EvidenceReport, MemberReport,
    MentionReport, RelationEnd, RelationQuery, RelationReport, Subgraph, SubgraphEdge,
    SubgraphNode, Thing, ThingReport, entity, entity_page, relation_page, subgraph, thing,
};
pub use export::{ExportFailure, Reader, export, export_paced, export_version, export_with};
pub use forecast::{Forecast, StageForecast, forecast};
pub use identity::{cluster_id, link_id};
pub use intake::{Checked, Entry, Webhooks, check, entries};
pub use link::{
    ClusterMemberReport, ClusterReport, LinkChange, LinkEndReport, LinkError, LinkReport, cluster,
    decide, links, split,
};
pub use once::{
    KEY_CHARACTERS, Once, Opened, WholeRequest, go_on, is_key, keep_answer, known_key,
    note_written, open_once,
};
pub use page::{CallReport, ExecutionFilter, Page, batch_page, call_page, execution_page};
pub use progress::{Done, ProgressReport, StageProgress};
pub use prune::{Ages, Kind as PrunedKind, Pruned, prune};
pub use recipe::{Setup, setup, unit_records};
pub use report::{
    BatchDetails, BatchReport, BatchStatus, CallCounts, CostReport, DocumentCounts,
    ExecutionReport, FailedUnitReport, FailureReport, SpentReport, calls_so_far, cost, details,
    extractor_of, find_batch, report, status,
};
pub use rerun::{NewPrompt, Rerun, RerunError, Rerunning, rerun};
pub use service::{ActivityReport, History, SignalReport, WorkflowService};
pub use signal::{BatchSignalled, SignalError, block_batch, signal_batch, signal_execution};
pub use spending::{ModelDefaults, caps};
pub use stream::{
    BatchSnapshot, EventMessage, ExecutionSnapshot, Feed, Follower, Following, ProgressMessage,
    Snapshot, StageCount, follow_batch, follow_execution,
};
pub use submit::{NewBatch, Submission, SubmitError, fresh_name, is_name, notify};
pub use tree::{Edge, joined, parted};
pub use webhook::{WebhookReport, completion, webhook};
pub use whole::{HandInError, HandedIn, hand_in};
