//! Real processes, killed with -9; what is left is finished by others, and the graph is the same as without the kill.
//!
//! The faults themselves are the example `chaos`, which is its own supervisor and its own verdict: here it runs in
//! short. Its witness is outside, and so is that of `examples/own_extractor.rs`: an extractor that appends (unit,
//! process, time) to a file before it works on a unit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
};

use graphmill::{
    flow::{FailurePolicy, Stage},
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    store::{self, Store},
    worker::Step,
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row};

use crate::support::{self, Database, Redis, example};

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;

/// A database, a Redis, a witness' file, and processes on them.
struct Scene {
    database: Database,
    redis: Redis,
    store: Store,
    witness: PathBuf,
}

/// A process that dies with the test.
struct Process(Child);

impl Process {
    fn kill(mut self) -> u32 {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    async fn new(name: &str) -> Self {
        let template = support::template().await;
        let database = Database::clone_of(template).await;
        let store = Store::connect(database.url(), &store::PoolSettings::default())
            .await
            .unwrap();
        let witness = support::folder(name).join("units");
        Self {
            database,
            redis: Redis::start(),
            store,
            witness,
        }
    }

    fn worker(&self, milliseconds: u32) -> Process {
        let child = example("own_extractor")
            .args(["worker", "--lease", "3s", "--log", "warn"])
            .env("DATABASE_URL", self.database.url())
            .env("REDIS_URL", self.redis.url())
            .env("WITNESS_FILE", &self.witness)
            .env("WITNESS_MS", milliseconds.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }

    async fn submit(&self, name: &str, documents: Vec<NewDocument>) -> BatchId {
        let batch = NewBatch {
            name: name.to_owned(),
            extractor: "witness".to_owned(),
            ontology: Arc::new(Ontology::builtin().unwrap()),
            settings: Settings::default(),
            model: None,
            concurrency: 4,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let mut submission = Submission::open(&self.store, ORGANIZATION, &batch)
            .await
            .unwrap();
        for document in documents {
            submission.add(document).await.unwrap();
        }
        submission.seal().await.unwrap()
    }

    async fn owner(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    /// Waits until one row with one true column comes back.
    async fn until(&self, what: &str, question: &'static str) {
        let mut connection = self.owner().await;
        support::eventually(what, async || {
            sqlx::raw_sql(question)
                .fetch_one(&mut connection)
                .await
                .unwrap()
                .get::<bool, _>(0)
        })
        .await;
    }

    async fn until_ended(&self, batch: BatchId) {
        support::eventually("the batch ends", async || {
            let mut read = self.store.app(ORGANIZATION).await.unwrap();
            let batch = store::batch_by_id(&mut read, ORGANIZATION, batch)
                .await
                .unwrap()
                .unwrap();
            batch.state.name().has_ended()
        })
        .await;
    }

    /// What the witness saw: for each process the units that it began, with repeats.
    fn seen(&self) -> BTreeMap<u32, Vec<String>> {
        let mut seen: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for line in fs::read_to_string(&self.witness)
            .unwrap_or_default()
            .lines()
        {
            let mut words = line.rsplitn(3, ' ');
            let (_, process, unit) = (
                words.next(),
                words.next().unwrap().parse().unwrap(),
                words.next().unwrap(),
            );
            seen.entry(process).or_default().push(unit.to_owned());
        }
        seen
    }
}

/// Runs `chaos` to its end: its lines of JSON, and what else it said.
fn chaos(arguments: &[&str]) -> (Vec<Value>, String) {
    let output = example("chaos")
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), said)
}

#[test]
fn a_kill_at_any_step_of_any_stage_changes_nothing() {
    let (cells, said) = chaos(&["matrix", "--only", "kill/", "--parallel", "10"]);
    for stage in Stage::ALL {
        for step in Step::ALL {
            let name = format!("kill/{stage}/{}", step.as_str());
            let cell = cells.iter().find(|cell| cell["fault"] == *name);
            let cell = cell.unwrap_or_else(|| panic!("no {name}:\n{said}"));
            // Only what lies between units may be missing, with its reason.
            let none = step == Step::UnitDone && cell["verdict"] == "none";
            assert!(none || cell["verdict"] == "passed", "{cell}");
            assert_eq!(cell["landed"], !none, "{cell}");
        }
    }
}

#[test]
fn a_short_run_under_faults_ends_as_an_undisturbed_one() {
    let (runs, said) = chaos(&["run", "--seed", "7", "--documents", "30", "--faults", "5"]);
    let [run] = &runs[..] else {
        panic!("one run: {said}")
    };
    assert_eq!(run["verdict"], "passed", "{run}");
    assert!(run["landed"].as_u64().unwrap() >= 5, "{run}");
}

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let mut documents: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    documents.sort();
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_that_follows_stage_two_the_row_says_classify_entities() {
    let scene = Scene::new("after-two").await;
    let (name, text) = examples().swap_remove(0);
    let batch = scene
        .submit("one", vec![NewDocument::new(name, text)])
        .await;
    let worker = scene.worker(300);
    scene
        .until(
            "the mentions are settled",
            "select exists (select from workflow_activity
                            where activity_name = 'extract-mentions' and status = 'completed')",
        )
        .await;
    worker.kill();
    let row = sqlx::raw_sql("select current_activity, status from workflow_execution")
        .fetch_one(&mut scene.owner().await)
        .await
        .unwrap();
    assert_eq!(row.get::<&str, _>(0), "classify-entities");
    assert_eq!(row.get::<&str, _>(1), "processing");
    let _second = scene.worker(0);
    scene.until_ended(batch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_batch_and_each_does_some() {
    let scene = Scene::new("two-workers").await;
    let documents: Vec<NewDocument> = (0..4)
        .flat_map(|copy| {
            examples().into_iter().map(move |(name, text)| {
                NewDocument::new(format!("{copy}-{name}"), format!("{text}\n\nCopy {copy}."))
            })
        })
        .collect();
    let (_first, _second) = (scene.worker(20), scene.worker(20));
    scene
        .until("both are there", "select count(*) = 2 from worker")
        .await;
    let batch = scene.submit("shared", documents).await;
    scene.until_ended(batch).await;
    let seen = scene.seen();
    assert_eq!(seen.len(), 2, "both worked");
    let mut units: Vec<&String> = seen.values().flatten().collect();
    units.sort_unstable();
    let all = units.len();
    units.dedup();
    assert_eq!(units.len(), all, "no unit was worked twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_resumed_on_its_private_servers() {
    let folder = support::folder("resumed-run");
    let witness = folder.join("units");
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let run = |arguments: &[&str], milliseconds: &str| {
        let mut command = example("own_extractor");
        command
            .args(["run", "--extractor", "witness", "--lease", "3s", "--json"])
            .args(arguments)
            .env("GRAPHMILL_DATA_DIR", folder.join("data"))
            .env("WITNESS_FILE", &witness)
            .env("WITNESS_MS", milliseconds)
            .stdout(Stdio::piped());
        command
    };
    let mut first = run(&[documents.to_str().unwrap(), "--name", "killed"], "50")
        .spawn()
        .unwrap();
    support::wait_for("some units are worked", || {
        let lines = fs::read_to_string(&witness)
            .unwrap_or_default()
            .lines()
            .count();
        (lines > 20).then_some(())
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let report = |output: std::process::Output| {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let resumed = report(run(&["--resume"], "0").output().unwrap());
    assert_eq!(resumed["name"], "killed");
    assert_eq!(resumed["state"], "Completed");
    assert_eq!(
        resumed["documents"]["completed"],
        resumed["documents"]["total"]
    );
    assert!(
        resumed["calls"]["reused"].as_u64().unwrap() > 0,
        "{resumed}"
    );
    let again = report(run(&["--resume", "killed"], "0").output().unwrap());
    assert_eq!(again["calls"]["made"], 0);
    let undisturbed = report(
        run(&[documents.to_str().unwrap(), "--name", "undisturbed"], "0")
            .output()
            .unwrap(),
    );
    for count in ["entities", "relations", "clusters"] {
        assert_eq!(resumed[count], undisturbed[count], "{count}");
    }
}
