//! An admission that leases nothing is not waited for by the disk: what is left of it when Postgres dies. All of it or nothing, and never a
//! later step without it.

use std::time::Duration;

use graphmill::{
    flow::Stage,
    servers::{Server, Servers, Settings},
    store::{
        self, AdmitLimits, Admitted, Fence, Lease, LeaseRequest, PoolSettings, Store, TakeUp,
        Takeover,
    },
    workflow::Submission,
};
use graphmill_jobs::{BatchId, WorkerId, WorkflowExecutionId};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, Row};

use crate::support::{self, OURS, documents, new_batch};

/// Executions that are leased.
const HELD: &str =
    "select count(*) from workflow_execution where lease_epoch = 1 and lease_owner is not null";

/// A Postgres of its own that writes to the disk only what somebody waits for.
struct Scene {
    servers: Servers,
    store: Store,
    batch: BatchId,
    writer: u32,
}

impl Scene {
    /// With three documents in a batch.
    async fn new(name: &str) -> Self {
        let settings = Settings {
            redis: false,
            ..support::settings(name)
        };
        let servers = tokio::task::spawn_blocking(|| Servers::start(settings).unwrap())
            .await
            .unwrap();
        let url = servers.database_url().unwrap();
        store::migrate(url).await.unwrap();
        let store = Store::connect(url, &PoolSettings::default()).await.unwrap();
        let batch = new_batch(name);
        let mut submission = Submission::open(&store, OURS, &batch).await.unwrap();
        for document in documents(3) {
            submission.add(document).await.unwrap();
        }
        let batch = submission.seal().await.unwrap();
        let writer = number(
            url,
            "select pid::bigint from pg_stat_activity where backend_type = 'walwriter'",
        )
        .await
        .unwrap();
        let writer = u32::try_from(writer).unwrap();
        signal(writer, Signal::STOP);
        Self {
            servers,
            store,
            batch,
            writer,
        }
    }

    async fn admit(&self) -> Admitted {
        self.admit_and_take_up(0).await
    }

    async fn admit_and_take_up(&self, most: usize) -> Admitted {
        let takeover = Takeover {
            owner: WorkerId::generate(),
            lasts: Duration::from_secs(15),
        };
        let limits = AdmitLimits {
            take_up: (most > 0).then_some(TakeUp { takeover, most }),
            ..AdmitLimits::default()
        };
        let leases = limits.take_up.is_some();
        let mut transaction = self.store.admission(leases).await.unwrap();
        assert!(
            store::admit_lock(&mut transaction, self.batch)
                .await
                .unwrap()
        );
        let admitted = store::admit_from(&mut transaction, OURS, self.batch, None, limits, 42)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        admitted
    }

    async fn lease(&self, execution: WorkflowExecutionId) -> Option<Lease> {
        let request = LeaseRequest {
            fence: Fence {
                organization: OURS,
                execution,
                epoch: 0,
            },
            stage: Stage::Chunk,
            owner: WorkerId::generate(),
            lasts: Duration::from_secs(15),
        };
        let mut connection = self.store.engine().await.unwrap();
        store::lease(&mut connection, &request).await.unwrap()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        number(self.servers.database_url().unwrap(), sql)
            .await
            .unwrap()
    }

    async fn processing(&self) -> i64 {
        self.count("select count(*) from workflow_execution where status = 'processing'")
            .await
    }

    async fn told(&self) -> i64 {
        self.count("select (select count(*) from event_outbox) + (select count(*) from event)")
            .await
    }

    /// Postgres dies, and comes back with what was on the disk.
    async fn crash(&mut self) {
        let before = self.servers.pid(Server::Postgres).unwrap();
        signal(before, Signal::KILL);
        signal(self.writer, Signal::KILL);
        let url = self.servers.database_url().unwrap();
        support::eventually("Postgres is there again", async || {
            self.servers
                .pid(Server::Postgres)
                .is_some_and(|pid| pid != before)
                && number(url, "select 1::bigint").await.is_ok()
        })
        .await;
        // Connections of before are broken.
        self.store = Store::connect(url, &PoolSettings::default()).await.unwrap();
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

async fn number(url: &str, sql: &'static str) -> Result<i64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let row = sqlx::raw_sql(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_lost_is_done_again_and_its_jobs_find_nothing() {
    let mut scene = Scene::new("admission-lost").await;
    let told = scene.told().await;
    let first = scene.admit().await;
    assert_eq!((first.rings.len(), scene.processing().await), (3, 3));
    assert!(scene.told().await > told);
    scene.crash().await;
    assert_eq!((scene.processing().await, scene.told().await), (0, told));
    for ring in &first.rings {
        assert!(scene.lease(ring.execution).await.is_none());
    }
    let again = scene.admit().await;
    let ids = |admitted: &Admitted| {
        let mut ids: Vec<_> = admitted
            .rings
            .iter()
            .map(|ring| (ring.execution, ring.epoch, ring.stage))
            .collect();
        ids.sort_unstable();
        ids
    };
    // The jobs that were rung for the first one are those of the second.
    assert_eq!(ids(&again), ids(&first));
    for ring in &again.rings {
        assert!(scene.lease(ring.execution).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_kept_keeps_its_admission() {
    let mut scene = Scene::new("admission-kept").await;
    let told = scene.told().await;
    let admitted = scene.admit().await;
    let leased = admitted.rings[0].execution;
    assert!(scene.lease(leased).await.is_some());
    scene.crash().await;
    assert_eq!(scene.processing().await, 3);
    assert!(scene.told().await > told);
    assert_eq!(scene.count(HELD).await, 1);
    assert!(scene.admit().await.rings.is_empty());
}

/// Were its lease lost, the next one would have its epoch.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_leases_is_kept() {
    let mut scene = Scene::new("admission-leased").await;
    let admitted = scene.admit_and_take_up(2).await;
    assert_eq!((admitted.rings.len(), admitted.taken_up.len()), (1, 2));
    scene.crash().await;
    assert_eq!(scene.processing().await, 3);
    assert_eq!(scene.count(HELD).await, 2);
    for (ring, _) in &admitted.taken_up {
        assert!(scene.lease(ring.execution).await.is_none());
    }
}
