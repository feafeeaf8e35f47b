//! A run's stage: its servers, its replicas, its batches, and questions about their rows.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use graphmill::{
    flow::FailurePolicy,
    graph::{ExportFormat, Ontology},
    pipeline::{NewDocument, Settings},
    store::{PoolSettings, Store},
    workflow::{self, NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, task::JoinSet, time::sleep};
use uuid::Uuid;

use crate::{
    documents::LONG,
    fleet::{Fleet, Launch},
    graph::without_ids,
    ground::{Base, Ground},
    plan::Plan,
    witness,
};

/// The supervisor's own part of the connections.
const POOLS: PoolSettings = PoolSettings {
    app: 2,
    engine: 1,
    drivers: 0,
    acquire_timeout: Duration::from_secs(30),
};

/// How a scene is set.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) replicas: usize,
    /// Jobs of each stage that a replica works at once.
    pub(crate) slots: usize,
    pub(crate) lease: Duration,
    /// How long a unit takes: of a short document, of the long one.
    pub(crate) units: (Duration, Duration),
    /// Replicas that die are started again.
    pub(crate) again: bool,
}

/// Everything that belongs to a run.
pub(crate) struct Scene {
    pub(crate) ground: Ground,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) plan: Plan,
    pub(crate) lease: Duration,
    pub(crate) witness: PathBuf,
    /// What ends later: the thaw of who is frozen.
    pub(crate) later: Mutex<JoinSet<()>>,
    pub(crate) begun: Instant,
    store: Store,
}

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) execution: String,
    pub(crate) owner: String,
    pub(crate) epoch: i64,
    pub(crate) activity: String,
}

impl Scene {
    pub(crate) async fn set(base: &Base, setting: &Setting) -> Result<Self> {
        let ground = Ground::start(base, &setting.name).await?;
        let plan = Plan::new(ground.folder.join("plan"))?;
        let witness = ground.folder.join("units");
        let store = Store::connect(&ground.database_url, &POOLS).await?;
        let launch = Launch {
            arguments: vec![
                "--lease".to_owned(),
                format!("{}s", setting.lease.as_secs()),
                "--slots".to_owned(),
                setting.slots.to_string(),
            ],
            witness: witness.clone(),
            short: setting.units.0,
            long: setting.units.1,
            seed: setting.seed,
            again: setting.again,
        };
        let fleet = Fleet::start(&ground, plan.clone(), launch, setting.replicas);
        Ok(Self {
            ground,
            fleet,
            plan,
            lease: setting.lease,
            witness,
            later: Mutex::default(),
            begun: Instant::now(),
            store,
        })
    }

    /// Milliseconds since the scene was set.
    pub(crate) fn clock(&self) -> u128 {
        self.begun.elapsed().as_millis()
    }

    /// Submits a batch, in an organization of its own: the clusters of a batch follow from those that the organization
    /// has, so that the graphs of two batches would depend on which of them is resolved first.
    pub(crate) async fn submit(
        &self,
        name: &str,
        documents: Vec<NewDocument>,
        settings: Settings,
        concurrency: u32,
    ) -> Result<BatchId> {
        let batch = NewBatch {
            name: name.to_owned(),
            extractor: witness::NAME.to_owned(),
            ontology: Arc::new(Ontology::builtin()?),
            settings,
            model: None,
            concurrency,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let organization = OrganizationId::from(Uuid::now_v7());
        self.ground
            .rows(format!(
                "insert into organization (id, name) values ('{}', '{name}') on conflict do nothing",
                organization.uuid()
            ))
            .await?;
        let mut submission = Submission::open(&self.store, organization, &batch).await?;
        for document in documents {
            submission.add(document).await?;
        }
        Ok(submission.seal().await?)
    }

    /// Waits for the end of every batch; what is stuck comes back.
    pub(crate) async fn until_ended(&self, within: Duration) -> Result<Option<String>> {
        let begun = Instant::now();
        while self.open_batches().await? > 0 {
            if begun.elapsed() > within {
                let stuck = self
                    .ground
                    .rows(
                        "select b.name, b.state, e.id, e.status, e.current_activity, e.lease_epoch, e.lease_owner,
                                e.lease_until, e.due_at, e.rung_at, e.lost_leases, e.error, now()
                         from batch b left join workflow_execution e
                           on e.batch_id = b.id and e.status not in ('completed', 'abandoned', 'cancelled')
                         where b.ended_at is null",
                    )
                    .await?;
                let lines = stuck.iter().fold(String::new(), |mut lines, row| {
                    let _ = write!(lines, "\n  {}", row.join(" "));
                    lines
                });
                return Ok(Some(lines));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(None)
    }

    /// Batches that have not ended.
    pub(crate) async fn open_batches(&self) -> Result<i64> {
        let question = "select count(*) from batch where ended_at is null";
        self.ground.number(question).await
    }

    /// The execution of the document with this id.
    pub(crate) async fn execution(&self, document: &str) -> Result<WorkflowExecutionId> {
        let rows = self
            .ground
            .rows(format!(
                "select e.id from workflow_execution e join document d on d.id = e.document_id
                 where d.external_id = '{document}'"
            ))
            .await?;
        let id = rows.first().and_then(|row| row.first());
        let uuid: Uuid = id.context("no such document")?.parse()?;
        Ok(uuid.into())
    }

    pub(crate) async fn long_execution(&self) -> Result<WorkflowExecutionId> {
        self.execution(LONG).await
    }

    /// The leases that are held now.
    pub(crate) async fn held(&self) -> Result<Vec<Held>> {
        let rows = self
            .ground
            .rows(
                "select id, replace(lease_owner::text, '-', ''), lease_epoch, current_activity
                 from workflow_execution where lease_until > now()",
            )
            .await?;
        rows.into_iter()
            .map(|row| {
                let [execution, owner, epoch, activity] =
                    <[String; 4]>::try_from(row).ok().context("four columns")?;
                Ok(Held {
                    execution,
                    owner,
                    epoch: epoch.parse()?,
                    activity,
                })
            })
            .collect()
    }

    /// Those of one worker.
    pub(crate) async fn held_by(&self, owner: &str) -> Result<Vec<Held>> {
        let mut held = self.held().await?;
        held.retain(|lease| lease.owner == owner);
        Ok(held)
    }

    /// Where an execution stands, leased or not; its id as it is printed.
    pub(crate) async fn row_of(&self, execution: &str) -> Result<Option<Held>> {
        let id: WorkflowExecutionId = execution.parse()?;
        let rows = self
            .ground
            .rows(format!(
                "select lease_epoch, current_activity from workflow_execution where id = '{}'",
                id.uuid()
            ))
            .await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(None);
        };
        Ok(Some(Held {
            execution: id.uuid().to_string(),
            owner: String::new(),
            epoch: row[0].parse()?,
            activity: row[1].clone(),
        }))
    }

    /// Which of these have not moved since: leased anew, settled, or final.
    pub(crate) async fn unmoved(&self, held: &[Held]) -> Result<Vec<Held>> {
        let ids: Vec<String> = held
            .iter()
            .map(|lease| format!("'{}'", lease.execution))
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .ground
            .rows(format!(
                "select id, lease_epoch, current_activity, status from workflow_execution where id in ({})",
                ids.join(", ")
            ))
            .await?;
        Ok(held
            .iter()
            .filter(|lease| {
                rows.iter().any(|row| {
                    row[0] == lease.execution
                        && row[1] == lease.epoch.to_string()
                        && row[2] == lease.activity
                        && row[3] == "processing"
                })
            })
            .cloned()
            .collect())
    }

    /// Waits until all of these have moved; seconds since `since`.
    pub(crate) async fn until_moved(
        &self,
        held: &[Held],
        since: Instant,
        within: Duration,
    ) -> Result<Option<f64>> {
        while !self.unmoved(held).await?.is_empty() {
            if since.elapsed() > within {
                return Ok(None);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Some(since.elapsed().as_secs_f64()))
    }

    /// Waits for the next lease that somebody is granted; seconds from now.
    pub(crate) async fn until_next_lease(&self, within: Duration) -> Result<Option<f64>> {
        let leases = "select coalesce(sum(lease_epoch), 0) from workflow_execution";
        let since = Instant::now();
        let before = self.ground.number(leases).await?;
        while self.ground.number(leases).await? == before {
            if since.elapsed() > within {
                return Ok(None);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(Some(since.elapsed().as_secs_f64()))
    }

    async fn organization(&self, batch: BatchId) -> Result<OrganizationId> {
        let question = format!(
            "select organization_id from batch where id = '{}'",
            batch.uuid()
        );
        let rows = self.ground.rows(question).await?;
        let id = rows.first().and_then(|row| row.first());
        Ok(id.context("no such batch")?.parse::<Uuid>()?.into())
    }

    /// The batch's graph without its ids, and a hash of it.
    pub(crate) async fn graph(&self, batch: BatchId) -> Result<(String, String)> {
        // New connections: those of before may have been cut.
        let store = Store::connect(&self.ground.database_url, &POOLS).await?;
        let json = workflow::export(
            &store,
            self.organization(batch).await?,
            batch,
            ExportFormat::Json,
            Vec::new(),
        );
        let json = json.await?;
        store.close().await;
        let graph = without_ids(&serde_json::from_slice(&json)?).to_string();
        let hash = Sha256::digest(&graph)
            .iter()
            .take(8)
            .fold(String::new(), |mut hash, byte| {
                let _ = write!(hash, "{byte:02x}");
                hash
            });
        Ok((hash, graph))
    }

    /// Waits until nobody is frozen any more.
    pub(crate) async fn until_thawed(&self) {
        let mut later = self.later.lock().await;
        while later.join_next().await.is_some() {}
    }

    /// Stops the servers; the folder goes, unless it is kept.
    pub(crate) async fn strike_set(self, keep: bool) -> Result<()> {
        self.fleet.drain(Duration::ZERO).await;
        self.store.close().await;
        self.ground.stop(keep).await
    }
}
