//! Documents that take down the process that works on them, keep its threads, or panic: real processes die of them and
//! are started again, as a supervisor would. The poison is found, and its neighbours are untouched.
//!
//! The witness is outside: the extractor of `examples/poison.rs` appends (unit, process, time) to a file before it
//! works on a unit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use graphmill::{
    extractors::{Extractor, Local},
    flow::{Failure, FailureCode, Stage},
    graph::{ExportFormat, Ontology, Text},
    pipeline::{
        self, CheckpointError, Checkpoints, Document, Errand, Gate, IsolatedError, Isolation,
        NewDocument, Open, Outcome, Settings, UnitOutcome, UnitRecord, Work, Workplace,
    },
    workflow::{self, NewBatch},
};
use graphmill_jobs::BatchId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{self, Ground, OURS, Redis, new_batch, without_ids};

/// A database, a Redis, a witness' file, and workers that are started again when they die.
struct Scene {
    ground: Ground,
    redis: Redis,
    witness: PathBuf,
    workers: Arc<Mutex<Workers>>,
}

#[derive(Default)]
struct Workers {
    alive: Vec<Child>,
    /// Every worker that there ever was.
    all: BTreeSet<u32>,
    /// How many died by themselves.
    died: usize,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.alive {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

/// One witnessed try.
struct Line {
    unit: String,
    process: u32,
    at_ms: i64,
}

/// The example program, built with the tests.
fn poison() -> Command {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let program = folder.join("examples/poison");
    assert!(program.exists(), "not built: cargo build --example poison");
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

impl Scene {
    async fn new(name: &str) -> Self {
        Self {
            ground: Ground::new().await,
            redis: Redis::start(),
            witness: support::folder(name).join("units"),
            workers: Arc::default(),
        }
    }

    fn command(&self, milliseconds: u32) -> Command {
        let mut command = poison();
        command
            .env("DATABASE_URL", self.ground.url())
            .env("REDIS_URL", self.redis.url())
            .env("WITNESS_FILE", &self.witness)
            .env("WITNESS_MS", milliseconds.to_string())
            .stdout(Stdio::null());
        command
    }

    fn start(&self, milliseconds: u32) {
        let mut command = self.command(milliseconds);
        let child = command
            .args(["worker", "--lease", "3s", "--log", "error"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut workers = self.workers.lock().unwrap();
        workers.all.insert(child.id());
        workers.alive.push(child);
    }

    /// Starts a new worker for each one that died.
    fn supervise(&self, milliseconds: u32) {
        let mut dead = 0;
        self.workers.lock().unwrap().alive.retain_mut(|worker| {
            let lives = worker.try_wait().unwrap().is_none();
            dead += usize::from(!lives);
            lives
        });
        self.workers.lock().unwrap().died += dead;
        for _ in 0..dead {
            self.start(milliseconds);
        }
    }

    /// Waits for the end of the batch, with a supervisor for the workers.
    async fn ended(&self, batch: BatchId, milliseconds: u32) {
        let ended = format!(
            "select count(*) from batch where id = '{}' and ended_at is not null",
            batch.uuid()
        );
        support::eventually("the batch ends", async || {
            self.supervise(milliseconds);
            self.ground.number(ended.as_str()).await == 1
        })
        .await;
    }

    /// Forgets what was done: it must not be taken for what follows.
    async fn forget(&self) {
        self.ground.execute("delete from batch").await.unwrap();
        fs::remove_file(&self.witness).unwrap();
    }

    /// The rows of a question with two columns, a text and a number.
    async fn rows(&self, question: &str) -> BTreeMap<String, i64> {
        let all = format!(
            "select coalesce(jsonb_object_agg(name, number)::text, '{{}}') from ({question}) as q (name, number)"
        );
        serde_json::from_str(&self.ground.text(all).await).unwrap()
    }

    async fn graph(&self, batch: BatchId) -> Value {
        let json = workflow::export(
            &self.ground.store,
            OURS,
            batch,
            ExportFormat::Json,
            Vec::new(),
        );
        without_ids(&serde_json::from_slice(&json.await.unwrap()).unwrap())
    }

    fn seen(&self) -> Vec<Line> {
        let seen = fs::read_to_string(&self.witness).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.rsplitn(3, ' ');
            let at_ms = words.next().unwrap().parse().unwrap();
            let process = words.next().unwrap().parse().unwrap();
            let unit = words.next().unwrap().to_owned();
            Line {
                unit,
                process,
                at_ms,
            }
        };
        seen.lines().map(line).collect()
    }

    /// No unit was begun again after its checkpoint was written.
    async fn nothing_was_repeated(&self) {
        let done = self
            .rows(
                "select d.external_id || '/' || c.stage || '/' || c.unit,
                        (extract(epoch from c.created_at) * 1000)::bigint
                 from checkpoint c
                 join workflow_execution e on e.id = c.workflow_execution_id
                 join document d on d.id = e.document_id
                 where c.outcome = 'done'",
            )
            .await;
        for line in self.seen() {
            if let Some(done_ms) = done.get(&line.unit) {
                assert!(
                    line.at_ms <= *done_ms,
                    "{} was begun again after its checkpoint",
                    line.unit
                );
            }
        }
    }

    /// `batch show --json`, as the command prints it.
    fn show(&self, batch: BatchId) -> Value {
        let output = self
            .command(0)
            .args(["batch", "show", &batch.to_string(), "--json"])
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn batch(name: &str) -> NewBatch {
    let mut batch = new_batch(name);
    "poison".clone_into(&mut batch.extractor);
    batch.settings.units.retry.first = Duration::from_millis(100);
    batch.settings.units.retry.longest = Duration::from_millis(300);
    batch.settings.units.soft_timeout = Duration::from_secs(1);
    batch.settings.units.hard_timeout = Duration::from_secs(2);
    batch.concurrency = 8;
    batch
}

fn article(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Twenty short articles.
fn healthy() -> Vec<NewDocument> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let paths = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = paths
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("a-history"))
        .collect();
    names.sort();
    names.truncate(20);
    let documents = names
        .into_iter()
        .map(|name| NewDocument::new(name.clone(), article(&name)));
    documents.collect()
}

/// A document with a chunk that poisons.
fn poisonous(kind: &str) -> NewDocument {
    let text =
        format!("Ada Lovelace was born in London. She said POISON-{kind} to Charles Babbage.");
    NewDocument::new(kind.to_lowercase(), text)
}

/// The value of `key` in each object of a list, by that of `by`.
fn by<'a>(list: &'a Value, by: &str, key: &str) -> BTreeMap<&'a str, &'a str> {
    let text = |value: &'a Value| value.as_str().unwrap();
    let list = list.as_array().unwrap().iter();
    list.map(|one| (text(&one[by]), text(&one[key]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_found_and_its_neighbours_are_untouched() {
    let scene = Scene::new("poison").await;
    let undisturbed = scene.ground.submit(&batch("undisturbed"), healthy()).await;
    scene.start(0);
    scene.start(0);
    scene.ended(undisturbed, 0).await;
    let expected = scene.graph(undisturbed).await;
    assert!(expected["relations"].as_array().unwrap().len() > 100);
    assert_eq!(scene.workers.lock().unwrap().died, 0);
    scene.forget().await;

    let mut documents = healthy();
    for (at, kind) in ["ABORT", "LOOP", "PANIC", "MEMORY"].into_iter().enumerate() {
        documents.insert(4 * at, poisonous(kind));
    }
    let poisoned = scene.ground.submit(&batch("poisoned"), documents).await;
    scene.ended(poisoned, 20).await;

    let shown = scene.show(poisoned);
    let codes = BTreeMap::from([
        ("abort", "quarantined"),
        ("loop", "timeout"),
        ("memory", "quarantined"),
        ("panic", "panic"),
    ]);
    assert_eq!(by(&shown["failures"], "document", "code"), codes, "{shown}");
    assert_eq!(by(&shown["failed_units"], "document", "code"), codes);
    assert_eq!(shown["documents"]["completed"], 20);
    let units = shown["failed_units"].as_array().unwrap();
    assert!(
        units
            .iter()
            .all(|unit| unit["stage"] == "mentions" && unit["unit"] == 0)
    );
    let why = by(&shown["failed_units"], "document", "message");
    assert_eq!(
        why["abort"],
        "it took its process down 3 times, working alone (signal 6); quarantined"
    );
    assert_eq!(scene.graph(poisoned).await, expected);
    scene.nothing_was_repeated().await;
    let deaths = scene
        .rows(
            "select d.external_id, max(c.deaths) from checkpoint c
             join workflow_execution e on e.id = c.workflow_execution_id
             join document d on d.id = e.document_id
             group by d.external_id having max(c.deaths) > 0",
        )
        .await;
    assert_eq!(
        deaths,
        BTreeMap::from([("abort".to_owned(), 3), ("memory".to_owned(), 3)])
    );
    // Each took down one worker, or one after the other; then children died in their place.
    let died = scene.workers.lock().unwrap().died;
    assert!((1..=4).contains(&died), "{died} workers died");
    let left =
        "select count(*) from workflow_execution where lost_leases > 0 or lease_owner is not null";
    assert_eq!(scene.ground.number(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_chunk_makes_its_document_partial_and_takes_nothing_else() {
    let scene = Scene::new("partial").await;
    let long = article("a-history-of-early-computing.txt");
    let paragraphs: Vec<&str> = long.split("\n\n").collect();
    let middle = paragraphs.len() / 2;
    let with = |word: &str| {
        let mut paragraphs: Vec<String> = paragraphs.iter().map(|&part| part.to_owned()).collect();
        paragraphs[middle] = format!("He said {word} to them. {}", paragraphs[middle]);
        vec![NewDocument::new("long", paragraphs.join("\n\n"))]
    };
    let mut whole = batch("whole");
    whole.settings.allow_partial = true;
    let undisturbed = scene.ground.submit(&whole, with("HARMLESS-WORD")).await;
    scene.start(0);
    scene.ended(undisturbed, 0).await;
    let expected = scene.graph(undisturbed).await;
    scene.forget().await;

    let poisoned = NewBatch {
        name: "poisoned".to_owned(),
        ..whole
    };
    let poisoned = scene.ground.submit(&poisoned, with("POISON-ABORT!")).await;
    scene.ended(poisoned, 0).await;
    let shown = scene.show(poisoned);
    assert_eq!(shown["state"], "Completed", "{shown}");
    assert_eq!(shown["documents"]["partial"], 1);
    assert_eq!(shown["failures"], json!([]));
    let failed = shown["failed_units"].as_array().unwrap();
    assert!(!failed.is_empty());
    assert!(
        failed.iter().all(|unit| unit["code"] == "quarantined"),
        "{shown}"
    );
    let execution = &shown["executions"][0];
    assert_eq!(
        (&execution["status"], &execution["partial"]),
        (&json!("completed"), &json!(true))
    );
    // Where a chunk has been poison once, the next stage does not try it in company.
    let stages: Vec<&Value> = failed.iter().map(|unit| &unit["stage"]).collect();
    assert!(stages.contains(&&json!("relations")), "{stages:?}");
    // One, or two: it may have begun while the stage before was being settled, which is looked at first then.
    let died = scene.workers.lock().unwrap().died;
    assert!((1..=2).contains(&died), "{died} workers died");
    // All that lies outside of the poisonous chunks is there.
    let chunks = failed.iter().filter(|unit| unit["stage"] == "mentions");
    let chunks: Vec<String> = chunks.map(|unit| unit["unit"].to_string()).collect();
    let spans = format!(
        "select c.start_char::text, c.end_char::bigint from chunk c
         join workflow_execution e on e.id = c.workflow_execution_id
         where e.batch_id = '{}' and c.ordinal in ({})",
        poisoned.uuid(),
        chunks.join(", ")
    );
    let spans: Vec<(i64, i64)> = scene
        .rows(&spans)
        .await
        .into_iter()
        .map(|(start, end)| (start.parse().unwrap(), end))
        .collect();
    let mentions = |graph: &Value| -> BTreeSet<String> {
        let entities = graph["entities"].as_array().unwrap().iter();
        let all = entities.flat_map(|entity| entity["mentions"].as_array().unwrap());
        let outside = all.filter(|mention| {
            let (start, end) = (
                mention["start"].as_i64().unwrap(),
                mention["end"].as_i64().unwrap(),
            );
            !spans.iter().any(|&(from, to)| from <= start && end <= to)
        });
        // Its class may hang on a name in the chunk that is missing.
        let names = outside.map(|mention| format!("{} {}", mention["start"], mention["text"]));
        names.collect()
    };
    let found = mentions(&scene.graph(poisoned).await);
    assert!(found.len() > 50, "{} mentions", found.len());
    let expected = mentions(&expected);
    let differs: Vec<_> = found.symmetric_difference(&expected).collect();
    assert!(differs.is_empty(), "{differs:?}");
    scene.nothing_was_repeated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_decides_what_becomes_of_a_partial_document() {
    let scene = Scene::new("partial-flag").await;
    let folder = support::folder("partial-flag-documents");
    let part = "Ada Lovelace was born in London. She met Charles Babbage in London. ".repeat(20);
    let text = format!("{part}\n\n{part}\n\nShe said POISON-PANIC. {part}\n\n{part}");
    fs::write(folder.join("long.txt"), text).unwrap();
    let run = |partial: &[&str]| {
        let mut command = scene.command(0);
        command.args([
            "run",
            "--extractor",
            "poison",
            "--unit-retries",
            "0",
            "--json",
            "--log",
            "off",
        ]);
        let output = command
            .args(partial)
            .arg(&folder)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    // The extractor says that its calls cost money: what they gave is kept.
    for flags in [&["--partial", "allow"][..], &[]] {
        let (code, report) = run(flags);
        assert_eq!(
            (code, &report["documents"]["partial"]),
            (Some(0), &json!(1)),
            "{report}"
        );
        assert!(report["entities"].as_u64().unwrap() > 0);
    }
    let (code, report) = run(&["--partial", "fail"]);
    assert_eq!(
        (code, &report["documents"]["abandoned"]),
        (Some(1), &json!(1)),
        "{report}"
    );
    assert_eq!(report["failures"][0]["code"], "panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_healthy_document_is_blamed_for_a_kill_storm() {
    const STORM: Duration = Duration::from_secs(14);
    let scene = Scene::new("kill-storm").await;
    let documents = healthy().into_iter().take(10).collect();
    let id = scene.ground.submit(&batch("storm"), documents).await;
    scene.start(300);
    scene.start(300);
    let (begun, mut killed) = (std::time::Instant::now(), 0);
    let mut blows = tokio::time::interval(Duration::from_millis(700));
    blows.tick().await;
    while begun.elapsed() < STORM {
        blows.tick().await;
        scene.workers.lock().unwrap().alive[0].kill().unwrap();
        support::eventually("it is dead", async || {
            scene.workers.lock().unwrap().alive[0]
                .try_wait()
                .unwrap()
                .is_some()
        })
        .await;
        killed += 1;
        // The new one is the last in line.
        scene.supervise(300);
    }
    assert!(killed >= 15, "{killed} were killed");
    scene.ended(id, 0).await;
    let completed = "select count(*) from workflow_execution where status = 'completed' and document_id is not null";
    assert_eq!(scene.ground.number(completed).await, 10);
    let blamed = "select count(*) from checkpoint where deaths > 0 or outcome <> 'done'";
    assert_eq!(scene.ground.number(blamed).await, 0);
    let lost = "select count(*) from workflow_activity where error->>'code' = 'lease_lost'";
    assert!(scene.ground.number(lost).await > 0, "the storm has hit");
    scene.nothing_was_repeated().await;
    let workers = scene.workers.lock().unwrap().all.clone();
    assert!(
        scene
            .seen()
            .iter()
            .any(|line| !workers.contains(&line.process)),
        "some units were suspects and worked alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_yields_costs_a_thread_once_and_the_neighbours_nothing() {
    let scene = Scene::new("never-yields").await;
    let mut documents: Vec<NewDocument> = healthy().into_iter().take(4).collect();
    for number in 0..4 {
        let NewDocument { text, .. } = poisonous("LOOP");
        documents.push(NewDocument::new(
            format!("loop{number}"),
            format!("{text} Number {number}."),
        ));
    }
    let mut batch = batch("never-yields");
    batch.settings.units.hard_timeout = Duration::from_millis(4500);
    batch.settings.units.retry.retries = 1;
    let batch = scene.ground.submit(&batch, documents).await;
    // Each unit of the neighbours takes longer than a lease lasts without being renewed.
    scene.start(3500);
    scene.ended(batch, 3500).await;
    assert_eq!(scene.workers.lock().unwrap().died, 0);
    let lost = "select count(*) from workflow_activity where error->>'code' = 'lease_lost'";
    assert_eq!(scene.ground.number(lost).await, 0);
    let shown = scene.show(batch);
    assert_eq!(shown["documents"]["completed"], 4, "{shown}");
    assert_eq!(shown["documents"]["abandoned"], 4, "{shown}");
    let worker = *scene.workers.lock().unwrap().all.first().unwrap();
    let mut tries: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for line in scene.seen() {
        if line.unit.starts_with("loop") {
            tries.entry(line.unit).or_default()[usize::from(line.process != worker)] += 1;
        }
    }
    assert_eq!(tries.len(), 4);
    assert!(
        tries.values().all(|tries| *tries == [1, 1]),
        "one try in the worker, one alone: {tries:?}"
    );
}

/// An isolation whose processes die as often as it is told, and which counts what it is sent.
struct Mortal {
    dies: usize,
    sent: AtomicUsize,
}

#[async_trait]
impl Isolation for Mortal {
    async fn work(
        &self,
        errand: &Errand,
        _gate: &dyn Gate,
    ) -> Result<Result<Value, Failure>, IsolatedError> {
        if self.sent.fetch_add(1, Ordering::SeqCst) < self.dies {
            return Err(IsolatedError::Died {
                signal: Some(11),
                code: None,
            });
        }
        let sent = Errand::from_json(&errand.to_json().unwrap()).unwrap();
        let extractors = graphmill::extractors::Extractors::builtin();
        Ok(pipeline::perform(&sent, &extractors).await)
    }
}

struct Kept(Vec<UnitRecord>);

#[async_trait]
impl Checkpoints for Kept {
    async fn record(
        &mut self,
        records: Vec<UnitRecord>,
        _last: bool,
    ) -> Result<(), CheckpointError> {
        self.0.extend(records);
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

fn suspect(isolation: &Arc<Mortal>) -> Work {
    Work {
        document: Document {
            name: "long".into(),
            text: Text::new(article("a-history-of-early-computing.txt")),
        },
        extractor: Arc::new(Local::new()) as Arc<dyn Extractor>,
        ontology: Arc::new(Ontology::builtin().unwrap()),
        settings: Settings::default(),
        round: 0,
        pause: CancellationToken::new(),
        workplace: Workplace {
            isolation: Some(Arc::clone(isolation) as Arc<dyn Isolation>),
            suspect: true,
            ..Workplace::here()
        },
        gate: Arc::new(Open),
        past: graphmill::pipeline::Past::default(),
    }
}

const DOCUMENT: [Stage; 5] = [
    Stage::Chunk,
    Stage::Mentions,
    Stage::Entities,
    Stage::Relations,
    Stage::Assemble,
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_worked_alone_is_what_is_worked_in_company() {
    let isolation = Arc::new(Mortal {
        dies: 0,
        sent: AtomicUsize::new(0),
    });
    let alone = suspect(&isolation);
    let mut company = alone.clone();
    company.workplace = Workplace::here();
    let expected = pipeline::extract(&company).await.unwrap();
    let mut records = Vec::new();
    for stage in DOCUMENT {
        let sent = isolation.sent.load(Ordering::SeqCst);
        let outcome = pipeline::run(stage, &alone, &mut records, &mut Kept(Vec::new())).await;
        let Outcome::Settled { graph, units, .. } = outcome.unwrap() else {
            panic!("{stage} did not settle");
        };
        let sent = isolation.sent.load(Ordering::SeqCst) - sent;
        assert_eq!(sent, units, "{stage}: every unit was an errand");
        if let Some(graph) = graph {
            assert_eq!(format!("{graph:?}"), format!("{expected:?}"));
            return;
        }
    }
    panic!("no graph");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_deaths_alone_are_quarantine_at_any_stage_and_two_are_none() {
    for stage in DOCUMENT {
        for dies in [2, 3] {
            let whole = Arc::new(Mortal {
                dies: 0,
                sent: AtomicUsize::new(0),
            });
            let mut before = Vec::new();
            for earlier in DOCUMENT.into_iter().take_while(|&earlier| earlier < stage) {
                let mut work = suspect(&whole);
                work.workplace.suspect = false;
                let done = pipeline::run(earlier, &work, &mut before, &mut Kept(Vec::new())).await;
                assert!(matches!(done.unwrap(), Outcome::Settled { .. }));
            }
            let mortal = Arc::new(Mortal {
                dies,
                sent: AtomicUsize::new(0),
            });
            let mut work = suspect(&mortal);
            // One after the other, so that the deaths are all of the first unit.
            (work.settings.parallel_chunks, work.settings.parallel_groups) = (1, 1);
            work.settings.units.retry.retries = 0;
            let mut records = before;
            let mut last = Kept(Vec::new());
            // A death at a time: the others of the stage wait behind it.
            for death in 1..=dies {
                mortal.sent.store(dies - 1, Ordering::SeqCst);
                let outcome = pipeline::run(stage, &work, &mut records, &mut last)
                    .await
                    .unwrap();
                // Its settle ends the suspicion; the deaths stay.
                work.workplace.suspect = false;
                let of_stage = records.iter().filter(|record| record.stage == stage);
                let died: Vec<_> = of_stage.filter(|record| record.deaths > 0).collect();
                assert_eq!((died.len(), died[0].deaths as usize), (1, death), "{stage}");
                match (&died[0].outcome, outcome) {
                    (UnitOutcome::Retry(why), Outcome::Retry { failure, .. }) => {
                        assert!(death < 3);
                        assert_eq!(
                            (why.code, failure.code),
                            (FailureCode::ProcessDied, FailureCode::ProcessDied)
                        );
                    }
                    (UnitOutcome::Failed(why), Outcome::Failed { failure }) => {
                        assert_eq!(death, 3, "{stage}");
                        assert_eq!(
                            (why.code, failure.code),
                            (FailureCode::Quarantined, FailureCode::Quarantined)
                        );
                        assert_eq!(why.details["signal"], 11);
                    }
                    other => panic!("{stage}: {other:?}"),
                }
            }
            let again = pipeline::run(stage, &work, &mut records, &mut last)
                .await
                .unwrap();
            match dies {
                2 => assert!(
                    matches!(again, Outcome::Settled { .. }),
                    "{stage}: {again:?}"
                ),
                _ => assert!(
                    matches!(again, Outcome::Failed { .. }),
                    "{stage}: {again:?}"
                ),
            }
        }
    }
}
