//! One and the same clustering, whatever the order of the documents and whoever dies when: twenty orders, each under
//! five schedules of crashes, with real processes that are killed by -9.

#[path = "../../../examples/chaos/chance.rs"]
#[expect(dead_code, reason = "the harness draws more than an order")]
mod chance;

use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
    sync::Arc,
};

use graphmill::{
    flow::FailurePolicy,
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    store,
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use uuid::Uuid;

use self::chance::Chance;
use super::{Clusters, clusters_of};
use crate::support::{Ground, Redis, eventually, example};

const ORDERS: usize = 20;

/// Names that are spelled in several ways, shared by several documents, and alike without being the same.
const TEXTS: [&str; 6] = [
    "Maria Keller was born in Vienna. She worked for International Business Machines (IBM) in Oslo.",
    "Mrs. Keller lives in Vienna. IBM is based in Armonk. Maria Keller married Jonas Novak in 1972.",
    "Jonas Novak works for Acme Corporation. The Acme Corporation is based in Lisbon.",
    "Helen Turner met J. Novak in Lisbon. She founded Acme Corp. in London on 13 March 1963.",
    "Peter Keller was born in Vienna on March 13, 1963. He studied at the University of Oslo.",
    "Angela Lindgren leads the University of Oslo. Zoë Müller and Zoe Muller work for Nestlé.",
];

/// A worker that dies with the test.
struct Worker(Child);

impl Worker {
    fn start(ground: &Ground, redis: &Redis) -> Self {
        let child = example("own_extractor")
            .args(["worker", "--lease", "3s", "--log", "error"])
            .env("DATABASE_URL", ground.url())
            .env("REDIS_URL", redis.url())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whose batch has the order of that number: the same one under every schedule, so that ids can be compared.
fn organization(order: usize) -> OrganizationId {
    Uuid::from_u128(0x7000_8000_0000_0000_0100 + order as u128).into()
}

/// When a worker is killed: as soon as so many executions are through, or so many resolutions have begun.
#[derive(Clone, Copy)]
enum Kill {
    Executions(i64),
    Resolutions(i64),
}

impl Kill {
    async fn comes(self, ground: &Ground) {
        let (sql, wanted) = match self {
            Self::Executions(wanted) => (
                "select count(*) from workflow_execution where status = 'completed'",
                wanted,
            ),
            Self::Resolutions(wanted) => (
                "select count(*) from workflow_activity where activity_name = 'resolve'",
                wanted,
            ),
        };
        eventually("it is time to kill", async || {
            ground.number(sql).await >= wanted
        })
        .await;
    }
}

/// Works one batch an order, each in an organization of its own, while workers are killed.
async fn under(schedule: u64, kills: &[Kill], flush: bool) -> Vec<Clusters> {
    let ground = Ground::new().await;
    let redis = Redis::start();
    let mut chance = Chance::new(schedule);
    let mut batches: Vec<(OrganizationId, BatchId)> = Vec::new();
    for order in 0..ORDERS {
        let organization = organization(order);
        let create = format!(
            "insert into organization (id, name) values ('{}', '{order}')",
            organization.uuid()
        );
        ground.execute(create).await.unwrap();
        let mut documents: Vec<NewDocument> = TEXTS
            .iter()
            .zip(0..)
            .map(|(&text, number)| NewDocument::new(format!("d{number}"), text))
            .collect();
        chance.shuffle(&mut documents);
        let batch = NewBatch {
            name: "one".to_owned(),
            extractor: "witness".to_owned(),
            ontology: Arc::new(Ontology::builtin().unwrap()),
            settings: Settings::default(),
            model: None,
            concurrency: 1 + u32::try_from(chance.below(6)).unwrap(),
            policy: FailurePolicy::ContinueOnFailure,
            tolerance: None,
            weight: 1,
            max_retries: 0,
        };
        let opened = Submission::open(&ground.store, organization, &batch).await;
        let mut submission = opened.unwrap();
        for document in documents {
            submission.add(document).await.unwrap();
        }
        batches.push((organization, submission.seal().await.unwrap()));
    }
    let mut workers = vec![
        Worker::start(&ground, &redis),
        Worker::start(&ground, &redis),
    ];
    for kill in kills {
        kill.comes(&ground).await;
        workers.remove(0).kill();
        if flush {
            let client = redis::Client::open(redis.url()).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let () = redis::cmd("FLUSHALL")
                .query_async(&mut connection)
                .await
                .unwrap();
        }
        workers.push(Worker::start(&ground, &redis));
    }
    let mut found = Vec::new();
    for (organization, batch) in batches {
        eventually("the batch ends", async || {
            let mut read = ground.store.app(organization).await.unwrap();
            let batch = store::batch_by_id(&mut read, organization, batch)
                .await
                .unwrap()
                .unwrap();
            batch.state.name().has_ended()
        })
        .await;
        found.push(clusters_of(&ground, organization, batch).await);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_orders_under_five_schedules_of_crashes_give_one_clustering() {
    use Kill::{Executions, Resolutions};
    let orders = i64::try_from(ORDERS).unwrap();
    let many = i64::try_from(ORDERS * TEXTS.len()).unwrap();
    let schedules: [(&[Kill], bool); 5] = [
        (&[], false),
        (&[Executions(10), Executions(many / 2)], false),
        (&[Resolutions(1), Resolutions(orders / 2)], false),
        (&[Resolutions(1), Resolutions(2), Resolutions(4)], false),
        (&[Executions(20), Resolutions(1)], true),
    ];
    let runs = schedules
        .into_iter()
        .zip(1..)
        .map(|((kills, flush), seed)| under(seed, kills, flush));
    let runs = futures_util::future::join_all(runs).await;
    let without_ids = |clusters: &Clusters| clusters.values().cloned().collect::<BTreeSet<_>>();
    let wanted = without_ids(&runs[0][0]);
    assert!(
        wanted.iter().any(|(.., members)| members.len() > 1),
        "{wanted:#?}"
    );
    for (run, schedule) in runs.iter().zip(0..) {
        for (order, clusters) in run.iter().enumerate() {
            let of = format!("order {order} under schedule {schedule}");
            assert_eq!(without_ids(clusters), wanted, "{of}");
            assert_eq!(clusters, &runs[0][order], "the ids of {of}");
        }
    }
}
