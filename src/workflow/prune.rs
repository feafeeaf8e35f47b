//! Deleting what has served its time, by age: the logs of ended batches, the bodies of answers, ended batches whole.
//!
//! Everything goes in steps, each a transaction of its own that takes a fraction of a second, and each safe to repeat:
//! a prune that was killed goes on when it is run again. Invariant: what a batch that has not ended needs, stays.

mod heal;
mod whole;

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use graphmill_jobs::{BatchId, OrganizationId};
use serde::Serialize;
use tracing::debug;
use uuid::Uuid;

use crate::store::{self, Connection, Step, Store, StoreError, Tally};

/// Rows that a step begins with.
const FIRST: i64 = 500;
/// Rows of a step, at most.
const MOST: i64 = 5_000;
/// How long a step should take. **Source:** no transaction of a prune may last a second; with this a machine that is
/// four times slower from one step to the next keeps to that.
const WANTED: Duration = Duration::from_millis(200);
/// Batches that are looked at in one step.
const BATCHES: i64 = 200;
/// Tries of a step that another transaction collides with.
const TRIES: usize = 5;
/// The longest age that is told from an older one. **Source:** a date of Postgres.
const OLDEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How old what goes must be, by kind; `None`: nothing of it goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ages {
    /// Events, in the logs of ended batches.
    pub events: Option<Duration>,
    /// Bodies of models' answers.
    pub answers: Option<Duration>,
    /// Ended batches, by their end.
    pub batches: Option<Duration>,
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ended batches, whole.
    Batches,
    /// Their documents.
    Documents,
    /// Passes of documents, and resolutions.
    Executions,
    /// Attempts at stages.
    Activities,
    /// What was asked of executions.
    Signals,
    /// What units gave.
    Checkpoints,
    /// How documents were cut.
    Chunks,
    /// Names in documents.
    Mentions,
    /// Things in documents.
    Entities,
    /// Statements of documents.
    Relations,
    /// Where documents state them.
    Evidence,
    /// What models said and was not published, counted.
    Dropped,
    /// A batch's view of clusters: members, keys, and themselves.
    Clusters,
    /// Links that were proposed.
    Proposals,
    /// Links that people decided.
    Decisions,
    /// Events.
    Events,
    /// Bodies of models' answers.
    Answers,
}

impl Kind {
    /// The kind in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Documents => "documents",
            Self::Executions => "executions",
            Self::Activities => "activities",
            Self::Signals => "signals",
            Self::Checkpoints => "checkpoints",
            Self::Chunks => "chunks",
            Self::Mentions => "mentions",
            Self::Entities => "entities",
            Self::Relations => "relations",
            Self::Evidence => "evidence",
            Self::Dropped => "dropped",
            Self::Clusters => "clusters",
            Self::Proposals => "proposals",
            Self::Decisions => "decisions",
            Self::Events => "events",
            Self::Answers => "answers",
        }
    }

    /// The tables that it is in.
    #[must_use]
    pub const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Batches => &["batch", "budget", "webhook_delivery"],
            Self::Documents => &["document"],
            Self::Executions => &["workflow_execution"],
            Self::Activities => &["workflow_activity"],
            Self::Signals => &["workflow_signal"],
            Self::Checkpoints => &["checkpoint"],
            Self::Chunks => &["chunk"],
            Self::Mentions => &["mention"],
            Self::Entities => &["entity"],
            Self::Relations => &["relation"],
            Self::Evidence => &["evidence"],
            Self::Dropped => &["dropped_item"],
            Self::Clusters => &["cluster", "cluster_member", "cluster_key", "resolution"],
            Self::Proposals => &["same_as"],
            Self::Decisions => &["same_as", "same_as_member"],
            Self::Events => &["event", "batch"],
            Self::Answers => &["llm_call"],
        }
    }

    /// The kind of the rows of a table that hangs on executions.
    fn of_table(table: &str) -> Option<Self> {
        Some(match table {
            "evidence" => Self::Evidence,
            "relation" => Self::Relations,
            "entity" => Self::Entities,
            "mention" => Self::Mentions,
            "chunk" => Self::Chunks,
            "dropped_item" => Self::Dropped,
            "checkpoint" => Self::Checkpoints,
            "workflow_activity" => Self::Activities,
            "workflow_signal" => Self::Signals,
            _ => return None,
        })
    }
}

/// What a prune has come to.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// What went, or would go.
    pub gone: BTreeMap<Kind, Tally>,
    /// Batches that are old enough and stay for now: they have a webhook to deliver, or events without a position.
    pub waiting: u64,
    /// Decisions about entities that go which stay, since both their sides have others.
    pub decisions_kept: u64,
}

impl Pruned {
    fn add(&mut self, kind: Kind, tally: Tally) {
        if tally.rows > 0 {
            self.gone.entry(kind).or_default().add(tally);
        }
    }

    /// Adds what another prune has come to.
    pub fn merge(&mut self, other: Self) {
        for (kind, tally) in other.gone {
            self.add(kind, tally);
        }
        self.waiting += other.waiting;
        self.decisions_kept += other.decisions_kept;
    }
}

/// Prunes an organization, or says what would go (`dry`). `rows` fixes the size of a step; else it is found by its
/// speed.
///
/// # Errors
/// [`StoreError`]; what went is gone, and trying again goes on from there.
pub async fn prune(
    store: &Store,
    organization: OrganizationId,
    ages: Ages,
    dry: bool,
    rows: Option<i64>,
) -> Result<Pruned, StoreError> {
    let mut pruning = Pruning {
        store,
        organization,
        delete: !dry,
        most: rows.unwrap_or(FIRST),
        fixed: rows.is_some(),
        pruned: Pruned::default(),
        going: HashSet::new(),
        links: HashSet::new(),
    };
    if let Some(age) = ages.batches {
        pruning.batches(seconds(age)).await?;
    }
    if let Some(age) = ages.events {
        pruning.events(seconds(age)).await?;
    }
    if let Some(age) = ages.answers {
        pruning.answers(seconds(age)).await?;
    }
    Ok(pruning.pruned)
}

fn seconds(age: Duration) -> f64 {
    age.min(OLDEST).as_secs_f64()
}

/// A prune at work.
struct Pruning<'s> {
    store: &'s Store,
    organization: OrganizationId,
    delete: bool,
    /// Rows of the next step.
    most: i64,
    fixed: bool,
    pruned: Pruned,
    /// Batches that would go: what is theirs is counted once.
    going: HashSet<BatchId>,
    /// Decisions that were counted.
    links: HashSet<Uuid>,
}

impl Pruning<'_> {
    /// One step, in a transaction of its own; repeated if another one collides with it.
    async fn step<T>(
        &mut self,
        what: &'static str,
        mut work: impl AsyncFnMut(&mut Connection, OrganizationId, Step) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let step = Step {
            most: self.most,
            delete: self.delete,
        };
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let began = Instant::now();
            let once = async {
                let mut transaction = self.store.app(self.organization).await?;
                if self.delete {
                    store::prune_lock(&mut transaction).await?;
                }
                let locked = Instant::now();
                let done = work(&mut transaction, self.organization, step).await?;
                transaction.commit().await?;
                Ok::<_, StoreError>((done, locked.elapsed()))
            };
            match once.await {
                Err(error) if error.is_transient() && tries < TRIES => {}
                Err(error) => return Err(error),
                Ok((done, took)) => {
                    self.pace(took);
                    debug!(
                        what,
                        rows = step.most,
                        duration_ms = began.elapsed().as_millis(),
                        "pruned a step"
                    );
                    break done;
                }
            }
        };
        Ok(done)
    }

    fn pace(&mut self, took: Duration) {
        if self.fixed {
            return;
        }
        if took > WANTED {
            self.most = (self.most / 2).max(10);
        } else if took < WANTED / 4 {
            self.most = (self.most * 2).min(MOST);
        }
    }

    /// The logs of ended batches.
    async fn events(&mut self, age: f64) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self
                .step("batches", async |connection, organization, _| {
                    store::batches_ended_before(connection, organization, age, last, BATCHES).await
                })
                .await?;
            let Some(&end) = page.last() else {
                return Ok(());
            };
            last = Some(end);
            for batch in page {
                if self.going.contains(&batch) {
                    continue;
                }
                let mut after = 0;
                loop {
                    let done = self
                        .step("events", async |connection, organization, step| {
                            store::prune_events(connection, organization, batch, age, after, step)
                                .await
                        })
                        .await?;
                    self.pruned.add(Kind::Events, done.gone);
                    match done.to {
                        Some(to) => after = to,
                        None => break,
                    }
                }
            }
        }
    }

    /// The bodies of answers.
    async fn answers(&mut self, age: f64) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let (gone, to) = self
                .step("answers", async |connection, organization, step| {
                    store::prune_answers(connection, organization, age, last, step).await
                })
                .await?;
            self.pruned.add(Kind::Answers, gone);
            if to.is_none() {
                return Ok(());
            }
            last = to;
        }
    }
}
