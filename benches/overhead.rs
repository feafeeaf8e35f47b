//! What durability costs: the durable path against the direct one, the same extractor, documents and parallelism.
//!
//! ```text
//! cargo bench --bench overhead                       # the example documents, 8 in parallel, 5 pairs
//! cargo bench --bench overhead -- FILE.jsonl 32 7    # a file, documents in parallel, pairs
//! ```
//!
//! Two extractors: `local`, which keeps every core busy, and `slow`, which waits 100 ms in each call as a model would.
//! Pairs alternate within one run, since machines are noisy; the figures are medians of their ratios. The servers are
//! private ones with everything forced to the disk, and starting them is not counted.
//!
//! The durable path does more than the direct one: it resolves the batch, which ends after its last document. So there
//! are two ratios: *documents* is from the submission to the end of the last document, what the direct path does too;
//! *batch* is to the end of the batch. What a resolution takes grows with what the organization has, here with the
//! batches of the run.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "shared/ground.rs"]
mod ground;
#[path = "shared/slow.rs"]
mod slow;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use graphmill::{
    config::{LogArgs, LogFormat},
    extractors::{Extractors, Local},
    flow::FailurePolicy,
    graph::{Ontology, Text},
    pipeline::{self, Document, NewDocument, Settings, Work},
    queue::Queue,
    store::{self, PoolSettings, Store},
    telemetry,
    worker::{Worker, WorkerSettings},
    workflow::{self, NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use slow::Slow;

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;

struct Bench {
    url: String,
    store: Store,
    worker: Worker,
    extractors: Extractors,
    ontology: Arc<Ontology>,
    documents: Vec<(String, String)>,
    parallel: usize,
    runs: u32,
}

impl Bench {
    async fn direct(&self, extractor: &str) -> Result<Duration> {
        let extractor = self
            .extractors
            .get(extractor)
            .context("no such extractor")?;
        let begun = Instant::now();
        let mut done = stream::iter(&self.documents)
            .map(|(name, text)| {
                let work = Work {
                    document: Document {
                        name: name.as_str().into(),
                        text: Text::new(text.as_str()),
                    },
                    extractor: Arc::clone(&extractor),
                    ontology: Arc::clone(&self.ontology),
                    settings: Settings::default(),
                    round: 0,
                    pause: CancellationToken::new(),
                    workplace: pipeline::Workplace::here(),
                    gate: Arc::new(pipeline::Open),
                    past: pipeline::Past::default(),
                };
                tokio::spawn(async move { pipeline::extract(&work).await.map(|_| ()) })
            })
            .buffer_unordered(self.parallel);
        while let Some(result) = done.next().await {
            result??;
        }
        Ok(begun.elapsed())
    }

    async fn durable(&mut self, extractor: &str) -> Result<Durable> {
        self.runs += 1;
        let batch = NewBatch {
            name: format!("{extractor}-{}", self.runs),
            extractor: extractor.to_owned(),
            ontology: Arc::clone(&self.ontology),
            settings: Settings::default(),
            model: None,
            concurrency: u32::try_from(self.parallel)?,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let begun = Instant::now();
        let mut submission = Submission::open(&self.store, ORGANIZATION, &batch).await?;
        for (name, text) in &self.documents {
            submission
                .add(NewDocument::new(name.as_str(), text.as_str()))
                .await?;
        }
        let id = submission.seal().await?;
        self.worker.wake(ORGANIZATION, id);
        let mut moved = self.worker.moved();
        loop {
            let mut read = self.store.app(ORGANIZATION).await?;
            let batch = store::batch_by_id(&mut read, ORGANIZATION, id).await?;
            drop(read);
            if batch.context("the batch is gone")?.state.name().has_ended() {
                break;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), moved.changed()).await;
        }
        let took = begun.elapsed();
        let report = workflow::report(&self.store, ORGANIZATION, id, 0).await?;
        let completed = report.context("no report")?.documents.completed;
        anyhow::ensure!(
            usize::try_from(completed)? == self.documents.len(),
            "only {completed} completed"
        );
        let resolution = self.after_the_documents(id).await?;
        Ok(Durable {
            batch: id,
            took,
            documents: took.saturating_sub(resolution),
        })
    }

    /// How long the batch went on after its last document.
    async fn after_the_documents(&self, batch: BatchId) -> Result<Duration> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "select extract(epoch from b.ended_at - max(a.completed_at))::float8
             from batch b
             join workflow_execution e on e.batch_id = b.id and e.workflow_type = 'extraction'
             join workflow_activity a on a.workflow_execution_id = e.id
             where b.id = '{}' group by b.ended_at",
            batch.uuid()
        )))
        .fetch_one(&mut connection)
        .await?;
        Ok(Duration::from_secs_f64(row.try_get::<f64, _>(0)?.max(0.0)))
    }
}

struct Durable {
    batch: BatchId,
    /// To the end of the batch.
    took: Duration,
    /// To the end of its last document.
    documents: Duration,
}

/// The documents of a JSONL file, or the short example documents several times over.
fn documents(file: Option<&Path>) -> Result<Vec<(String, String)>> {
    if let Some(file) = file {
        return fs::read_to_string(file)?
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line)?;
                let field = |name: &str| {
                    line[name]
                        .as_str()
                        .map(str::to_owned)
                        .context("a line without id or text")
                };
                Ok((field("id")?, field("text")?))
            })
            .collect();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let mut documents = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        if text.len() < 4000 {
            let name = path
                .file_name()
                .context("no name")?
                .to_string_lossy()
                .into_owned();
            for copy in 0..5 {
                documents.push((format!("{name}-{copy}"), format!("{text}\n\nCopy {copy}.")));
            }
        }
    }
    documents.sort();
    Ok(documents)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds from lease to settle, and from a settle to the next lease: median and 99th percentile of a batch.
async fn latencies(url: &str, batch: BatchId) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "with step as (
             select a.activity_name, a.started_at, a.completed_at,
                    lag(a.completed_at) over (partition by a.workflow_execution_id order by a.lease_epoch) as before
             from workflow_activity a
             join workflow_execution e on e.id = a.workflow_execution_id
             where e.batch_id = '{}' and e.workflow_type = 'extraction'
         ), measured as (
             select activity_name, extract(epoch from completed_at - started_at) * 1000 as worked,
                    extract(epoch from started_at - before) * 1000 as hop
             from step
         )
         select activity_name,
                percentile_cont(0.5) within group (order by worked)::float8,
                percentile_cont(0.99) within group (order by worked)::float8,
                percentile_cont(0.5) within group (order by hop)::float8,
                percentile_cont(0.99) within group (order by hop)::float8
         from measured group by activity_name order by activity_name",
        batch.uuid()
    )))
    .fetch_all(&mut connection)
    .await?;
    println!(
        "    stage               lease to settle p50 / p99    settle to next lease p50 / p99   (ms)"
    );
    for row in rows {
        let ms = |column: usize| row.try_get::<f64, _>(column).unwrap_or(f64::NAN);
        println!(
            "    {:<18}  {:>9.1} / {:>7.1}            {:>9.1} / {:>7.1}",
            row.get::<&str, _>(0),
            ms(1),
            ms(2),
            ms(3),
            ms(4)
        );
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let file = arguments
        .first()
        .filter(|file| *file != "examples")
        .map(PathBuf::from);
    let parallel = arguments.get(1).map_or(Ok(8), |number| number.parse())?;
    let pairs: usize = arguments.get(2).map_or(Ok(5), |number| number.parse())?;

    let logs = LogArgs {
        log: None,
        log_format: LogFormat::Text,
    };
    telemetry::init(&logs, "warn")?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let servers = ground::servers(folder.path().join("data")).await?;
    let url = servers.database_url().context("no database")?.to_owned();
    let store = Store::connect(&url, &PoolSettings::default()).await?;
    let queue = Queue::connect(servers.redis_url().context("no Redis")?).await?;
    let extractors = Extractors::builtin().with(Slow(Local::new()));
    let settings = WorkerSettings {
        slots: parallel,
        ..WorkerSettings::default()
    };
    let worker = Worker::start(store.clone(), queue, extractors.clone(), settings).await?;
    let mut bench = Bench {
        url: url.clone(),
        store,
        worker,
        extractors,
        ontology: Arc::new(Ontology::builtin()?),
        documents: documents(file.as_deref())?,
        parallel,
        runs: 0,
    };
    println!(
        "{} documents, {parallel} in parallel, {pairs} pairs",
        bench.documents.len()
    );
    for extractor in ["local", "slow"] {
        // Connections, plans and caches are warm before anything counts.
        bench.direct(extractor).await?;
        bench.durable(extractor).await?;
        let (mut documents, mut batches) = (Vec::new(), Vec::new());
        let (mut rates, mut last) = (Vec::new(), None);
        println!("{extractor}");
        for pair in 0..pairs {
            let (direct, durable) = if pair % 2 == 0 {
                let direct = bench.direct(extractor).await?;
                (direct, bench.durable(extractor).await?)
            } else {
                let durable = bench.durable(extractor).await?;
                (bench.direct(extractor).await?, durable)
            };
            let ratio = |durable: Duration| durable.as_secs_f64() / direct.as_secs_f64();
            let (of_documents, of_batch) = (ratio(durable.documents), ratio(durable.took));
            println!(
                "    direct {direct:>9.2?}   documents {:>9.2?} ratio {of_documents:.3}   batch {:>9.2?} ratio {of_batch:.3}",
                durable.documents, durable.took
            );
            documents.push(of_documents);
            batches.push(of_batch);
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            rates.push(bench.documents.len() as f64 * 60.0 / durable.took.as_secs_f64());
            last = Some(durable.batch);
        }
        println!(
            "  median ratio: documents {:.3}, batch {:.3}; {:.0} documents a minute",
            median(documents),
            median(batches),
            median(rates)
        );
        if let Some(batch) = last {
            latencies(&url, batch).await?;
        }
    }
    bench.worker.drain(Duration::from_secs(5)).await;
    bench.store.close().await;
    tokio::task::spawn_blocking(move || servers.stop()).await?;
    Ok(())
}
