//! Postgres: the truth about every batch, document and execution. The sole room with SQL; one file a table.
//!
//! Functions take a connection and the caller owns the transaction. Two pools, two roles: [`Store::app`] opens a
//! transaction for one organization, in which row security shows nothing of any other; [`Store::engine`] crosses
//! organizations and reaches scheduling columns only. Nothing here decides a status: callers ask the machines of
//! `flow` and hand the result in. The database's clock decides every lease and due time.

mod activity;
mod api_key;
mod batch;
mod batch_trace;
mod begin;
mod board;
mod budget;
mod census;
mod checkpoint;
mod cluster;
mod document;
mod doubt;
mod event;
mod execution;
mod findings;
mod fleet;
mod found;
mod health;
mod idempotency;
mod ledger;
mod limit_notice;
mod link;
mod ontology;
mod organization;
mod organization_budget;
mod organization_limit;
mod patience;
mod prune;
mod rerun;
mod resolution;
mod retry;
mod schema;
mod sealed;
mod signal;
mod webhook;
mod worker;

use std::{str::FromStr, time::Duration};

use graphmill_jobs::OrganizationId;
use sqlx::{
    Connection as _, PgPool, Postgres, Transaction,
    migrate::MigrateError,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use activity::{Activity, activities};
pub use api_key::{
    ApiKey, FoundApiKey, NewApiKey, Scope, add_api_key, api_key_by_prefix, api_key_exists,
    api_keys, first_key_lock, revoke_api_key, touch_api_key,
};
pub use batch::{
    Batch, BatchMove, BatchSpec, BatchToAdmit, BatchToMove, ReadToMove, add_batch, batch_by_id,
    batch_by_name, batch_setup, batches, batches_looked_at, batches_to_move, existing_batches,
    keep_batch_open, last_unfinished_batch, move_batch, open_batches, open_batches_to_move,
    pause_batch, resume_batch, seal_batch, seal_stopped_batch, stop_batch,
};
pub use batch_trace::{BatchTrace, batch_trace};
pub use board::{
    LivingWorker, Resolutions, Shown, StageOfExecution, Standers, Standing, living_workers,
    resolutions_standing, shown_executions, stages_of_executions, standers_failed,
    standers_in_work, standers_waiting, standings,
};
pub use budget::{Budget, Caps, Spent, batches_with_budgets, budget, recount_budget, set_budget};
pub use census::{Census, PoolUse, census};
pub use checkpoint::{
    CheckpointRow, FailedUnit, UnitCounts, UnitEnd, calls, checkpoints_of, earlier_checkpoints,
    failed_units, record_units, unit_counts,
};
pub use cluster::{
    ClusterRow, Joined, NewCluster, NewKey, NewMember, Published, Resolvable, add_clusters,
    add_keys, add_members, cluster_page, clusters_by_key, clusters_elsewhere, clusters_of_entities,
    published_count, published_members, published_page, resolvable_by_id, resolvable_page,
    take_published,
};
pub use document::{
    Added, Changed, DocumentRow, DocumentState, Plan, Refused, StoredDocument, add_documents,
    add_refusals, apply_changes, document_page, document_text, documents_at_rest, failures,
    find_documents, intake_lock, plan_changes, remove_documents,
};
pub use doubt::{AskedUnit, Surroundings, asked_units, surroundings};
pub use event::{
    EventBell, LogEntry, LoggedEvent, OutboxRow, TailRow, Topic, append_event, events_after,
    last_of_batch, last_of_execution, last_position, log_after, log_tail, outbox_page,
    publish_events, sequencer_lock,
};
pub use execution::{
    AdmitLimits, Admitted, Execution, Fence, Lease, LeaseRequest, Mark, Passed, Ringable, Settled,
    Settlement, Silent, TakeUp, Takeover, admit, admit_from, admit_lock, cancel_stopped,
    documents_in_work, execution_by_id, execution_of_document, executions, executions_looked_at,
    hold, lease, mark_unrung, pass_on, processing_of, release, renew_leases, revive_failed, settle,
    settled_status, start_resolution, to_ring, waited_for,
};
pub use findings::{
    EntityRow, EvidenceRow, MentionRow, Place, RelationRow, add_chunks, add_graph, busiest,
    drop_older_graphs, entity_page, relation_page,
};
pub use fleet::{Bloat, Fleet, ServerLoad, SlowSession, Statement, fleet, server_load};
pub use found::{
    EntityFilter, FoundEntity, FoundRelation, Looked, NameRange, RelationFilter, cluster_by_id,
    entities_by_id, entities_by_name, entities_by_words, entities_of_batch, members_of,
    mentions_of, relations_by_id, relations_of, relations_of_all, relations_of_batch,
};
pub use health::{Health, Readiness, Work, health, readiness, work};
pub use idempotency::{
    AnsweredKey, KnownKey, Written, keep_answer, known_key, known_keys, note_written, take_key,
    take_keys,
};
pub use ledger::{
    CallRow, Claimed, Known, ListedCall, Nanodollars, Paid, Spending, Unanswered, call_page,
    claim_call, dropped_counts, file_answer, file_unanswered, know_endpoint, known_answer,
    known_of_endpoint, note_dropped, note_replay, renew_claim, replays,
};
pub use limit_notice::{BreakerNotice, notice_breaker, notice_limit};
pub use link::{
    Decided, Decision, LinkEnd, LinkMember, LinkRow, NewLink, Repointed, Side, add_proposals,
    decide_link, decided_of_batch, decided_of_entities, decided_of_link, link_by_id, link_ends,
    link_page, links_of_batch, repoint_member,
};
pub use ontology::{ensure_ontology, ontology_by_id};
pub use organization::{Organization, add_organization, organization_by_name, organizations};
pub use organization_budget::{
    BudgetChange, ORGANIZATION_BUDGET, OrganizationBudget, Period, batches_paused_by_budget,
    change_organization_budget, clear_organization_budget, months_over, open_organization_budget,
    organization_budget, recount_organization_budget, spent_in_all,
};
pub use organization_limit::{OrganizationLimits, set_organization_limits};
pub use patience::Patience;
pub use prune::{
    AnswerPlace, DecisionsPruned, Mended, PrunedBatch, PrunedEvents, Space, Step, Tally,
    TiedMember, Vacuumed, batches_ended_before, batches_with_unmoved_events, claim_batches,
    clusters_of_resolution, drop_dangling_links, events_pruned_to, going_batches, lock_clusters,
    mend_members, organizations_to_prune, prunable_batches, prune_answers, prune_batch_row,
    prune_decisions, prune_documents, prune_events, prune_events_of, prune_executions, prune_found,
    prune_lock, prune_resolution, resolutions_of, space, tied_members, vacuum,
};
pub use rerun::{
    PaidStage, add_reruns, current_executions, paid_by_stage, rerun_counts, set_batch_setup,
    units_done,
};
pub use resolution::{
    Publishable, abandoned_resolutions, begin_resolution, change_clusters, clusters_version,
    publish_resolution, resolution_written, sweep_resolution, take_turn,
};
pub use retry::{
    BatchToReopen, add_retries, batch_to_reopen, open_generation, retry_waiting, retryable,
};
pub use schema::{Schema, as_owner, check_schema, migrate, migrate_from};
pub use sealed::{SealedBatch, add_sealed};
pub use signal::{
    Interruption, SentSignal, answer_signals, interruptions, mark_delivered, orphaned_signals,
    send_signal, signals,
};
pub use webhook::{
    Notice, WebhookDelivery, WebhookLease, WebhookToSend, fix_webhook_body, lease_webhooks, notice,
    owe_webhook, renew_webhook, set_notify, settle_webhook, webhook_to_send, webhooks_lie_idle,
};
pub use worker::{forget_workers, see_worker};

/// What the store could not do. The variants say what was attempted; [`StoreError::is_transient`] whether trying
/// again can help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database address can't be read.
    #[error("DATABASE_URL is not an address of a Postgres database")]
    Address(#[source] sqlx::Error),
    /// The database can't be reached.
    #[error("Postgres can't be reached")]
    Connect(#[source] sqlx::Error),
    /// The schema could not be applied.
    #[error("the schema could not be applied")]
    Migrate(#[source] MigrateError),
    /// A statement failed.
    #[error("Postgres refused a statement")]
    Query(#[from] sqlx::Error),
    /// What is stored can't be read back.
    #[error("{what} is stored in a form that this version does not know")]
    Decode {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The batch's name is taken in its organization.
    #[error("the name `{0}` is taken by another batch")]
    NameTaken(String),
    /// The batch takes no more documents. Trying again does not help.
    #[error("the batch is sealed: it takes no more documents")]
    Sealed,
    /// The organization has as much as it may have. Trying again helps once it has less, or may have more.
    #[error("the organization may have {limit} {quota} at most")]
    Quota {
        /// Of what.
        quota: &'static str,
        /// How much it may have.
        limit: i64,
    },
    /// The organization's clusters have changed since this resolution began. Resolving again helps.
    #[error("the clusters have changed since the resolution began")]
    Overtaken,
}

impl StoreError {
    /// Whether trying again can help: the connection broke, the server restarts, or two transactions collided.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let (Self::Connect(error)
        | Self::Query(error)
        | Self::Migrate(
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
        )) = self
        else {
            return false;
        };
        match error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
        {
            // Classes 08 (connection), 40 (rollback), 53 (resources), 57P (shutdown).
            Some(code) => ["08", "40", "53", "57P"]
                .iter()
                .any(|class| code.starts_with(class)),
            None => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::PoolClosed
                    | sqlx::Error::WorkerCrashed
            ),
        }
    }

    /// Whether the data itself is at fault: what is stored can't be read, or what is to be stored breaks a rule. It
    /// will be no better the next time, for anybody.
    #[must_use]
    pub fn is_about_data(&self) -> bool {
        match self {
            Self::Decode { .. } => true,
            // Classes 22 (data exception) and 23 (integrity constraint).
            Self::Query(error) => error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code)
                .is_some_and(|code| code.starts_with("22") || code.starts_with("23")),
            Self::Address(_)
            | Self::Connect(_)
            | Self::Migrate(_)
            | Self::NameTaken(_)
            | Self::Sealed
            | Self::Quota { .. }
            | Self::Overtaken => false,
        }
    }

    fn decode(what: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Decode { what, source }
    }
}

/// After so long without use a connection is looked at before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// Connections of a process: how many it opens at most, and how long it waits for one.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// For requests and stages.
    pub app: u32,
    /// For scheduling: what asks for leases.
    pub engine: u32,
    /// For keeper, stager, sequencer and sweeper, apart from those: hundreds of stages that ask for leases at once
    /// would keep them waiting, and with them whoever has just come or is to stop. None: they share `engine`.
    pub drivers: u32,
    /// How long to wait for a connection, over a restart of the server too.
    pub acquire_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            app: 16,
            engine: 6,
            drivers: 3,
            acquire_timeout: Duration::from_secs(30),
        }
    }
}

/// The pools of a process.
#[derive(Debug, Clone)]
pub struct Store {
    app: PgPool,
    engine: PgPool,
    drivers: PgPool,
    connections: u32,
}

/// A connection, in or out of a transaction.
pub type Connection = sqlx::PgConnection;

/// A transaction for one organization.
pub type AppTransaction = Transaction<'static, Postgres>;

impl Store {
    /// Connects all pools.
    ///
    /// # Errors
    /// [`StoreError::Address`], or [`StoreError::Connect`] when the server can't be reached (trying again may help).
    pub async fn connect(url: &str, settings: &PoolSettings) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(StoreError::Address)?;
        let pool = |role: &str, connections: u32, own: &[(&str, &str)]| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(settings.acquire_timeout)
                // One that has just been used is taken to be alive: should it be dead, the work is tried again. One that
                // has lain idle may be from before a restart of the server, and nobody who only asks tries again.
                .test_before_acquire(false)
                .before_acquire(|connection, about| {
                    Box::pin(async move {
                        if about.idle_for >= IDLE {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
                .connect_lazy_with(
                    options
                        .clone()
                        .application_name(&format!("graphmill {role}"))
                        .options([("role", format!("graphmill_{role}"))])
                        .options([("idle_in_transaction_session_timeout", "10s")])
                        .options([("statement_timeout", "60s")])
                        // Every statement looks rows up by their keys: its plan does not depend on the
                        // parameters, and planning costs more than running it.
                        .options([("plan_cache_mode", "force_generic_plan")])
                        .options(own.iter().copied()),
                )
        };
        // Scheduling touches some rows of tables that may grow a thousandfold while a plan is kept: one made for a
        // small table must look rows up by an index too. What has no index then costs a fortune in the planner's
        // eyes, and would be compiled.
        let scheduling = [("enable_seqscan", "off"), ("jit", "off")];
        let engine = pool("engine", settings.engine, &scheduling);
        let store = Self {
            app: pool("app", settings.app, &[]),
            drivers: match settings.drivers {
                0 => engine.clone(),
                drivers => pool("engine", drivers, &scheduling),
            },
            engine,
            connections: settings.app + settings.engine + settings.drivers,
        };
        store.engine.acquire().await.map_err(StoreError::Connect)?;
        Ok(store)
    }

    /// Opens a transaction for `organization`, with nothing of any other in sight.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn app(&self, organization: OrganizationId) -> Result<AppTransaction, StoreError> {
        self.begin_for(organization, "begin", "").await
    }

    /// As [`Store::app`], but every statement is planned for its parameters and the tables as they are now: for the few
    /// that join many rows. A plan that was made while the tables were small reads all of one that has grown since.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn app_planned(
        &self,
        organization: OrganizationId,
    ) -> Result<AppTransaction, StoreError> {
        let planned = "; set local plan_cache_mode = force_custom_plan";
        self.begin_for(organization, "begin", planned).await
    }

    /// As [`Store::app`], but planned as for scheduling: for a look at what waits, which may be a million since a plan
    /// was made.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn app_scheduling(
        &self,
        organization: OrganizationId,
    ) -> Result<AppTransaction, StoreError> {
        let scheduling = "; set local enable_seqscan = off; set local jit = off";
        self.begin_for(organization, "begin", scheduling).await
    }

    /// As [`Store::app`], but every statement sees the rows as the first one does. To read only.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn app_snapshot(
        &self,
        organization: OrganizationId,
    ) -> Result<AppTransaction, StoreError> {
        let begin = "begin isolation level repeatable read read only";
        self.begin_for(organization, begin, "").await
    }

    /// `begin`, for an organization, with what else holds in it: one round trip.
    async fn begin_for(
        &self,
        organization: OrganizationId,
        begin: &str,
        and: &str,
    ) -> Result<AppTransaction, StoreError> {
        // The value is a UUID of ours.
        let id = organization.uuid().hyphenated();
        let begin = format!("{begin}; set local graphmill.organization = '{id}'{and}");
        Ok(begin::begin(&self.app, Some(begin)).await?)
    }

    /// A connection as requests have it, outside of any organization: nothing is in sight, but what a function gives.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn outside(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.app.acquire().await?)
    }

    /// A connection for scheduling, over all organizations.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn engine(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.engine.acquire().await?)
    }

    /// A connection as [`Store::engine`] gives it, for a process' drivers alone.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn driver(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.drivers.acquire().await?)
    }

    /// A transaction for scheduling, over all organizations, for a process' drivers.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn engine_transaction(&self) -> Result<AppTransaction, StoreError> {
        Ok(begin::begin(&self.drivers, None).await?)
    }

    /// The same for an admission, which need not be on the disk when its commit returns: a lease or a settle that builds
    /// on it is written to the log after it, so that a crash can't keep one of those and lose it. One that is lost is
    /// done again, and a job that was rung for it finds nothing to lease.
    ///
    /// One that leases must be: the epoch of a lease that was lost would be given again, and whoever holds it still
    /// believes in it.
    ///
    /// # Errors
    /// [`StoreError::Query`]; trying again may help.
    pub async fn admission(&self, leases: bool) -> Result<AppTransaction, StoreError> {
        if leases {
            return self.engine_transaction().await;
        }
        let begin = "begin; set local synchronous_commit = off".to_owned();
        Ok(begin::begin(&self.drivers, Some(begin)).await?)
    }

    /// Connections that this process may open at most.
    #[must_use]
    pub const fn max_connections(&self) -> u32 {
        self.connections
    }

    /// Closes all pools.
    pub async fn close(&self) {
        self.app.close().await;
        self.engine.close().await;
        self.drivers.close().await;
    }
}

/// Milliseconds for `make_interval`, which counts in seconds.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Parses what a CHECK constraint has already limited.
fn parsed<T: FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    text.parse()
        .map_err(|error: T::Err| StoreError::decode(what)(error.into()))
}

/// Reads a JSON column.
fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    json: serde_json::Value,
) -> Result<T, StoreError> {
    serde_json::from_value(json).map_err(|error| StoreError::decode(what)(error.into()))
}

/// Writes a JSON column.
fn to_json<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(value).map_err(|error| StoreError::decode(what)(error.into()))
}
