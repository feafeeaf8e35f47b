//! One and the same clustering, whatever the order of the documents and whoever dies when: twenty orders, each under
//! five schedules of crashes, with real processes that are killed by -9.

#[path = "../../../examples/chaos/chance.rs"]
#[expect(dead_code, reason = "the harness draws more than an order")]
mod chance;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Stdio},
};

use graphmill::{
    pipeline::NewDocument,
    store,
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use uuid::Uuid;

use self::chance::Chance;
use super::{
    Clusters,
    adjudicated::{DOUBTS, asking, paid},
    clusters_of,
};
use crate::support::{Ground, ModelServer, Redis, eventually, example, new_batch};

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
    fn start(ground: &Ground, redis: &Redis, server: Option<&ModelServer>) -> Self {
        let mut command = example("own_extractor");
        command
            .args(["worker", "--lease", "3s", "--log", "error"])
            // Twenty of them and more are at work on the tests' one server; who finds no place there does not start.
            .args(["--connections", "10"])
            .env("DATABASE_URL", ground.url())
            .env("REDIS_URL", redis.url())
            .stdout(Stdio::null());
        if let Some(server) = server {
            // A call that breaks off because its worker is killed says nothing of the server.
            command
                .env("OPENAI_BASE_URL", server.base_url())
                .args(["--breaker-failures", "100000"]);
        }
        Self(command.spawn().unwrap())
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

/// When a worker is killed: as soon as so many executions are through, so many resolutions have begun, so many questions
/// are on their way, or so many are answered.
#[derive(Clone, Copy)]
enum Kill {
    Executions(i64),
    Resolutions(i64),
    Asked(i64),
    Answered(i64),
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
            Self::Asked(wanted) => (
                "select count(*) from llm_call where prompt like 'pairs@%'",
                wanted,
            ),
            Self::Answered(wanted) => (
                "select count(*) from checkpoint where stage = 'resolve'",
                wanted,
            ),
        };
        eventually("it is time to kill", async || {
            ground.number(sql).await >= wanted
        })
        .await;
    }
}

/// What came of a schedule.
struct Came {
    /// Of each order.
    clusters: Vec<Clusters>,
    ground: Ground,
}

/// Works one batch an order, each in an organization of its own, while workers are killed; with a server of a model,
/// which is asked about names, the documents are others.
async fn under(schedule: u64, kills: &[Kill], flush: bool, server: Option<&ModelServer>) -> Came {
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
        let texts: &[&str] = if server.is_some() { &DOUBTS } else { &TEXTS };
        let mut documents: Vec<NewDocument> = texts
            .iter()
            .zip(0..)
            .map(|(&text, number)| NewDocument::new(format!("d{number}"), text))
            .collect();
        chance.shuffle(&mut documents);
        let plain = match server {
            Some(_) => asking("one", 50, 2),
            None => new_batch("one"),
        };
        let batch = NewBatch {
            extractor: "witness".to_owned(),
            concurrency: 1 + u32::try_from(chance.below(6)).unwrap(),
            ..plain
        };
        let opened = Submission::open(&ground.store, organization, &batch).await;
        let mut submission = opened.unwrap();
        for document in documents {
            submission.add(document).await.unwrap();
        }
        batches.push((organization, submission.seal().await.unwrap()));
    }
    let mut workers = vec![
        Worker::start(&ground, &redis, server),
        Worker::start(&ground, &redis, server),
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
        workers.push(Worker::start(&ground, &redis, server));
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
    Came {
        clusters: found,
        ground,
    }
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
        .map(|((kills, flush), seed)| under(seed, kills, flush, None));
    assert_one_clustering(&futures_util::future::join_all(runs).await);
}

/// The same clusters under the same ids, whatever the order and the schedule.
#[track_caller]
fn assert_one_clustering(runs: &[Came]) {
    let runs: Vec<&Vec<Clusters>> = runs.iter().map(|run| &run.clusters).collect();
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

#[tokio::test(flavor = "multi_thread")]
async fn each_question_is_asked_once_in_twenty_orders_under_five_schedules() {
    use Kill::{Answered, Asked, Executions};
    let orders = i64::try_from(ORDERS).unwrap();
    // Each batch asks three.
    let all = orders * 3;
    let schedules: [(&[Kill], bool); 5] = [
        (&[], false),
        (&[Executions(10), Answered(2)], false),
        (&[Asked(1), Asked(all / 2)], false),
        (
            &[Answered(1), Answered(orders), Answered(2 * orders)],
            false,
        ),
        (&[Asked(2), Answered(5)], true),
    ];
    let mut servers = Vec::new();
    for _ in 0..schedules.len() {
        servers.push(ModelServer::start("latency = \"20ms\"").await);
    }
    let runs = (1..)
        .zip(schedules)
        .zip(&servers)
        .map(|((seed, (kills, flush)), server)| under(seed, kills, flush, Some(server)));
    let runs = futures_util::future::join_all(runs).await;
    assert_one_clustering(&runs);
    let mut asked: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for ((run, server), schedule) in runs.iter().zip(&servers).zip(0..) {
        let paid = paid(server);
        // The same bytes, whatever the order: each once an organization, which is an order.
        let mut bodies: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &paid {
            *bodies.entry(&entry.request_sha256).or_default() += 1;
        }
        assert_eq!(bodies.len(), 3, "schedule {schedule}: {bodies:?}");
        asked.insert(bodies.keys().map(|&body| body.to_owned()).collect());
        // Whose worker was killed before the answer was written down is in doubt, and says so; no other was paid again.
        let answered =
            "select id::text from llm_call where prompt like 'pairs@%' and outcome = 'answered'";
        let answered = run.ground.texts(answered).await;
        assert_eq!(answered.len(), ORDERS * 3, "schedule {schedule}");
        let doubtful =
            "select count(*) from llm_call where prompt like 'pairs@%' and outcome = 'in_doubt'";
        let doubtful = run.ground.number(doubtful).await;
        let beyond = i64::try_from(paid.len()).unwrap() - all;
        println!(
            "schedule {schedule}: {} paid, {doubtful} in doubt",
            paid.len()
        );
        assert!(
            (0..=doubtful).contains(&beyond),
            "schedule {schedule}: {beyond}"
        );
        let once = "select count(distinct (organization_id, request_hash)) from llm_call
                    where prompt like 'pairs@%' and outcome = 'answered'";
        assert_eq!(run.ground.number(once).await, all, "schedule {schedule}");
    }
    assert_eq!(asked.len(), 1, "every schedule asks the same");
}
