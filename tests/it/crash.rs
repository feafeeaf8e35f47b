//! Real processes, killed with -9 in the middle of every stage; what is left is finished by another one, and the graph
//! is the same as without the kill.
//!
//! The witness is outside: the extractor of `examples/own_extractor.rs` appends (unit, process, time) to a file before
//! it works on a unit. No unit may appear there again after its checkpoint.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use graphmill::{
    flow::{FailurePolicy, Stage},
    graph::{ExportFormat, Ontology},
    pipeline::{NewDocument, Settings},
    store::{self, Store},
    workflow::{self, NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row};

use crate::support::{self, Database, Redis};

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
        let child = own_extractor()
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
            concurrency: 4,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
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

    /// The units that have a checkpoint, as the witness names them.
    async fn checkpointed(&self) -> BTreeSet<String> {
        let rows = sqlx::raw_sql(
            "select d.external_id || '/' || c.stage || '/' || c.unit from checkpoint c
             join workflow_execution e on e.id = c.workflow_execution_id
             join document d on d.id = e.document_id
             where c.outcome = 'done' and c.stage in ('mentions', 'entities', 'relations')",
        )
        .fetch_all(&mut self.owner().await)
        .await
        .unwrap();
        rows.into_iter().map(|row| row.get(0)).collect()
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

    /// The batch's graph without its ids: what was found, document by document.
    async fn graph(&self, batch: BatchId) -> Value {
        let json = workflow::export(
            &self.store,
            ORGANIZATION,
            batch,
            ExportFormat::Json,
            Vec::new(),
        );
        without_ids(&serde_json::from_slice(&json.await.unwrap()).unwrap())
    }
}

/// An export with every id replaced by what it stands for, sorted.
pub(crate) fn without_ids(export: &Value) -> Value {
    let list = |name: &str| export[name].as_array().unwrap().clone();
    let mut stands_for: HashMap<String, Value> = HashMap::new();
    let mut entities = Vec::new();
    for mut entity in list("entities") {
        let id = entity["id"].as_str().unwrap().to_owned();
        entity.as_object_mut().unwrap().remove("id");
        let first = &entity["mentions"][0]["start"];
        stands_for.insert(
            id,
            serde_json::json!([entity["document"], entity["name"], first]),
        );
        entities.push(entity);
    }
    let named = |id: &Value| stands_for[id.as_str().unwrap()].clone();
    let mut relations = Vec::new();
    for mut relation in list("relations") {
        relation["subject"] = named(&relation["subject"]);
        relation["object"] = named(&relation["object"]);
        relation.as_object_mut().unwrap().remove("id");
        relations.push(relation);
    }
    let mut clusters = Vec::new();
    for mut cluster in list("clusters") {
        let mut members: Vec<Value> = cluster["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(named)
            .collect();
        members.sort_by_key(Value::to_string);
        cluster["members"] = members.into();
        cluster.as_object_mut().unwrap().remove("id");
        clusters.push(cluster);
    }
    for list in [&mut entities, &mut relations, &mut clusters] {
        list.sort_by_key(Value::to_string);
    }
    serde_json::json!({ "entities": entities, "relations": relations, "clusters": clusters })
}

/// The example program with the witness, built with the tests.
fn own_extractor() -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples/own_extractor");
    assert!(
        program.exists(),
        "not built: cargo build --example own_extractor"
    );
    let mut command = Command::new(program);
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "GRAPHMILL_DATA_DIR",
        "GRAPHMILL_LOG",
    ] {
        command.env_remove(name);
    }
    command
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

/// Two short documents and the long one.
fn three() -> Vec<NewDocument> {
    examples()
        .into_iter()
        .filter(|(name, _)| {
            [
                "a-history-of-early-computing.txt",
                "ada-lovelace.txt",
                "alan-turing.txt",
            ]
            .contains(&name.as_str())
        })
        .map(|(name, text)| NewDocument::new(name, text))
        .collect()
}

/// The graph of an undisturbed run of `documents`.
async fn undisturbed(scene: &Scene, documents: Vec<NewDocument>) -> Value {
    let batch = scene.submit("undisturbed", documents).await;
    let worker = scene.worker(0);
    scene.until_ended(batch).await;
    worker.kill();
    fs::remove_file(&scene.witness).unwrap();
    let graph = scene.graph(batch).await;
    assert!(
        graph["entities"].as_array().unwrap().len() > 100,
        "there is something to compare"
    );
    // Its checkpoints must not be taken for those of the run that follows.
    sqlx::raw_sql("delete from batch")
        .execute(&mut scene.owner().await)
        .await
        .unwrap();
    graph
}

/// A question whose answer is true in the middle of the stage.
fn in_the_middle_of(stage: Stage) -> &'static str {
    match stage {
        // Blocked in its settle by a lock on the table that it writes.
        Stage::Chunk => {
            "select exists (select from workflow_execution
                            where current_activity = 'chunk-text' and lease_owner is not null)"
        }
        Stage::Assemble => {
            "select exists (select from workflow_execution
                            where current_activity = 'assemble-graph' and lease_owner is not null)"
        }
        // Some units have their checkpoints, and others don't.
        Stage::Mentions => {
            "select exists (select from checkpoint c
                            join workflow_execution e on e.id = c.workflow_execution_id
                            where c.stage = 'mentions' and c.unit >= 0
                              and e.current_activity = 'extract-mentions')"
        }
        Stage::Entities => {
            "select exists (select from checkpoint c
                            join workflow_execution e on e.id = c.workflow_execution_id
                            where c.stage = 'entities' and e.current_activity = 'classify-entities')"
        }
        Stage::Relations => {
            "select exists (select from checkpoint c
                            join workflow_execution e on e.id = c.workflow_execution_id
                            where c.stage = 'relations' and e.current_activity = 'extract-relations')"
        }
        Stage::Resolve => {
            "select exists (select from workflow_execution
                            where current_activity = 'resolve' and lease_owner is not null)"
        }
    }
}

/// What keeps a stage without units from settling.
const fn lock_for(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Chunk => Some("begin; lock table chunk in share mode"),
        Stage::Assemble => Some("begin; lock table entity in share mode"),
        Stage::Resolve => Some("begin; lock table cluster in share mode"),
        Stage::Mentions | Stage::Entities | Stage::Relations => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_any_stage_changes_nothing() {
    for stage in Stage::ALL {
        let scene = Scene::new(&format!("kill-{stage}")).await;
        let expected = undisturbed(&scene, three()).await;
        let batch = scene.submit("killed", three()).await;

        let mut lock = scene.owner().await;
        if let Some(statement) = lock_for(stage) {
            sqlx::raw_sql(statement).execute(&mut lock).await.unwrap();
        }
        let first = scene.worker(60);
        scene
            .until(
                &format!("in the middle of {stage}"),
                in_the_middle_of(stage),
            )
            .await;
        let killed = first.kill();
        lock.close().await.unwrap();
        let before = scene.checkpointed().await;

        let second = scene.worker(0);
        scene.until_ended(batch).await;
        drop(second);
        assert_eq!(scene.graph(batch).await, expected, "killed in {stage}");
        let mut again = BTreeMap::new();
        for (process, units) in scene.seen() {
            for unit in units {
                if process != killed {
                    assert!(
                        !before.contains(&unit),
                        "{unit} was worked again after its checkpoint"
                    );
                    *again.entry(unit).or_insert(0) += 1;
                }
            }
        }
        assert!(
            again.values().all(|&times| times == 1),
            "killed in {stage}: {again:?}"
        );
        let done = scene.checkpointed().await;
        assert!(
            done.iter()
                .all(|unit| before.contains(unit) || again.contains_key(unit))
        );
    }
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
async fn a_megabyte_is_killed_between_its_units_and_finished() {
    let scene = Scene::new("megabyte").await;
    let corpus: Vec<String> = examples().into_iter().map(|(_, text)| text).collect();
    let mut text = String::new();
    while text.len() < 1 << 20 {
        text.push_str(&corpus.join("\n\n"));
        text.push_str("\n\n");
    }
    let document = || vec![NewDocument::new("megabyte", text.clone())];
    let expected = undisturbed(&scene, document()).await;
    let batch = scene.submit("killed", document()).await;
    let mut killed = BTreeSet::new();
    let mut before = BTreeSet::new();
    for question in [
        "select count(*) > 100 from checkpoint where stage = 'mentions'",
        "select count(*) > 20 from checkpoint where stage = 'entities'",
        "select count(*) > 200 from checkpoint where stage = 'relations'",
    ] {
        let worker = scene.worker(2);
        scene.until(question, question).await;
        let seen_before: usize = before.len();
        killed.insert(worker.kill());
        before = scene.checkpointed().await;
        assert!(before.len() > seen_before);
    }
    let last = scene.worker(0);
    let last_process = last.0.id();
    scene.until_ended(batch).await;
    drop(last);
    assert_eq!(scene.graph(batch).await, expected);
    let chunks = sqlx::raw_sql("select count(*) from chunk")
        .fetch_one(&mut scene.owner().await)
        .await
        .unwrap()
        .get::<i64, _>(0);
    assert!(chunks >= 500, "{chunks} chunks");
    let seen = scene.seen();
    assert!(killed.iter().all(|process| seen.contains_key(process)));
    let again = &seen[&last_process];
    assert!(
        again.iter().all(|unit| !before.contains(unit)),
        "worked again after its checkpoint"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_a_batch_and_each_does_some() {
    let scene = Scene::new("two-workers").await;
    let documents: Vec<NewDocument> = examples()
        .into_iter()
        .map(|(name, text)| NewDocument::new(name, text))
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
        let mut command = own_extractor();
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
