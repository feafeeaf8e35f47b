//! Calls of models, end to end: the real binary, real processes, and the scripted model server as the witness. What the
//! server billed is joined to what the ledger says.

mod adjudication;
mod answers;
mod budget;
mod estimate;
mod limits;
mod losses;
mod once;
mod organization;
mod pruned;
mod replicas;
mod setup;
mod storm;
mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use graphmill::{
    flow::RetryPolicy,
    mock_model::{Entry, Event},
    pipeline::{ModelChoice, NewDocument},
    store::Caps,
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::BatchId;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{self, Ground, OURS, Redis, Said, bare, documents, new_batch, say};

/// The key that every process has; it must never be seen.
const KEY: &str = "sk-nobody-may-read-this";

/// A database, a Redis, and a folder to work in.
struct Scene {
    ground: Ground,
    redis: Redis,
    folder: PathBuf,
}

/// A line of `calls --json`.
#[derive(Debug, Clone, Deserialize)]
struct Call {
    id: String,
    request_hash: String,
    outcome: String,
    #[serde(default)]
    error: Option<String>,
}

/// A process that dies with the test.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scene {
    async fn new(name: &str) -> Self {
        Self {
            ground: Ground::new().await,
            redis: Redis::start(),
            folder: support::folder(&format!("calls-{name}")),
        }
    }

    /// The binary, with nobody to call.
    fn binary(&self) -> Command {
        let mut command = bare();
        for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY"] {
            command.env_remove(name);
        }
        command
            .env("DATABASE_URL", self.ground.url())
            .env("REDIS_URL", self.redis.url())
            .current_dir(&self.folder);
        command
    }

    /// The binary, with that server to call.
    fn calling(&self, base_url: &str) -> Command {
        let mut command = self.binary();
        command
            .env("OPENAI_BASE_URL", base_url)
            .env("OPENAI_API_KEY", KEY)
            .env("GRAPHMILL_MODEL", "mock");
        command
    }

    /// `run` with the extractor `openai`.
    fn run(&self, base_url: &str, name: &str, arguments: &[&str]) -> Said {
        let mut command = self.calling(base_url);
        command
            .args(["run", "--extractor", "openai", "--json", "--name", name])
            .args(["--retry-delay", "10ms"])
            .args(arguments);
        say(&mut command)
    }

    /// A worker with a short lease.
    fn worker(&self, base_url: &str, arguments: &[&str]) -> Process {
        let mut command = self.working(base_url);
        self.process(command.args(arguments))
    }

    /// What starts such a worker.
    fn working(&self, base_url: &str) -> Command {
        let mut command = self.calling(base_url);
        command
            .args(["worker", "--lease", "3s", "--stager-period", "20ms"])
            .args(["--sweeper-period", "100ms", "--log", "graphmill=info"])
            .stdout(Stdio::null());
        command
    }

    /// Starts it; its log is kept.
    fn process(&self, command: &mut Command) -> Process {
        let name = format!("{}.log", uuid::Uuid::new_v4());
        let log = self.folder.join(name);
        let stderr = File::create(&log).unwrap();
        let child = command.stderr(stderr).spawn().unwrap();
        Process { child, log }
    }

    /// Submits a batch of the extractor `openai` for workers to work.
    async fn submit(&self, batch: NewBatch, documents: Vec<NewDocument>) -> BatchId {
        let mut submission = Submission::open(&self.ground.store, OURS, &batch)
            .await
            .unwrap();
        for document in documents {
            submission.add(document).await.unwrap();
        }
        submission.seal().await.unwrap()
    }

    /// Documents in a file, for `run`.
    fn file(&self, documents: &[NewDocument]) -> String {
        let file = self.folder.join("documents.jsonl");
        let lines: Vec<String> = documents
            .iter()
            .map(|document| {
                serde_json::json!({ "id": document.id, "text": document.text }).to_string()
            })
            .collect();
        fs::write(&file, lines.join("\n")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// The ledger of a batch, as the binary lists it.
    fn ledger(&self, batch: &str) -> Vec<Call> {
        self.lines(batch)
            .into_iter()
            .map(|line| serde_json::from_value(line).unwrap())
            .collect()
    }

    fn lines(&self, batch: &str) -> Vec<Value> {
        let said = say(self.binary().args(["calls", batch, "--json"])).exits(0);
        said.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// `batch show --json`.
    fn show(&self, batch: &str) -> Value {
        say(self.binary().args(["batch", "show", batch, "--json"]))
            .exits(0)
            .json()
    }

    /// Waits until the batch is paused; why.
    async fn paused(&self, batch: BatchId) -> String {
        support::poll("the batch is paused", async || {
            self.ground.batch(batch).await.paused
        })
        .await
    }

    /// Waits for the batch's end: all its documents are completed.
    async fn completed(&self, batch: BatchId, wanted: usize) {
        self.ground.ended(batch).await;
        let shown = self.show(&batch.to_string());
        assert_eq!(shown["documents"]["completed"], wanted, "{shown}");
    }
}

/// A batch of the extractor `openai` with units that may be tried very often.
fn batch(name: &str, caps: Caps) -> NewBatch {
    let mut batch = NewBatch {
        extractor: "openai".to_owned(),
        model: Some((
            ModelChoice {
                name: "mock".to_owned(),
                price: None,
                fresh: false,
            },
            caps,
        )),
        concurrency: 16,
        ..new_batch(name)
    };
    batch.settings.units.retry = RetryPolicy {
        retries: 100,
        first: Duration::from_millis(10),
        longest: Duration::from_millis(50),
    };
    batch
}

fn answered(bill: &[Entry]) -> impl Iterator<Item = &Entry> {
    bill.iter().filter(|entry| entry.event == Event::Answered)
}

fn received(bill: &[Entry]) -> usize {
    bill.iter()
        .filter(|entry| entry.event == Event::Received)
        .count()
}

/// How many requests cost something.
fn billed(bill: &[Entry]) -> usize {
    answered(bill).filter(|entry| entry.billed).count()
}

/// What they cost in tokens.
fn billed_tokens(bill: &[Entry]) -> u64 {
    answered(bill)
        .filter(|entry| entry.billed)
        .map(|entry| entry.prompt_tokens + entry.completion_tokens)
        .sum()
}

fn with<'c>(ledger: &'c [Call], outcome: &str) -> Vec<&'c Call> {
    ledger
        .iter()
        .filter(|call| call.outcome == outcome)
        .collect()
}

/// Joins a bill to the ledger: everything that arrived has its row, each answer was billed once, and what was billed
/// for the same question more than once is in doubt but for one. Returns how often that was so.
#[track_caller]
fn assert_paid_once(bill: &[Entry], ledger: &[Call]) -> usize {
    let rows: BTreeMap<&str, &Call> = ledger.iter().map(|call| (call.id.as_str(), call)).collect();
    assert_eq!(rows.len(), ledger.len(), "an id is listed twice");
    let mut sent = BTreeSet::new();
    let mut questions: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    // The server's own idea of what is the same question.
    let mut bodies: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for entry in bill {
        let id = entry.call.as_deref().expect("a call has its id");
        let row = rows.get(id).unwrap_or_else(|| panic!("{id} has no row"));
        assert_ne!(row.outcome, "cached", "{id} was sent");
        match entry.event {
            Event::Received => assert!(sent.insert(id), "{id} was sent twice"),
            Event::Answered if entry.billed => {
                questions.entry(&row.request_hash).or_default().push(row);
                bodies.entry(&entry.request_sha256).or_default().push(row);
            }
            Event::Answered => {}
        }
    }
    for call in with(ledger, "answered") {
        assert!(sent.contains(call.id.as_str()), "{call:?} was never sent");
    }
    let mut again = 0;
    for (question, rows) in questions.iter().chain(&bodies) {
        let certain = rows.iter().filter(|row| row.outcome != "in_doubt").count();
        assert!(certain <= 1, "{question} was paid again: {rows:#?}");
    }
    for rows in questions.values() {
        again += rows.len() - 1;
    }
    again
}
