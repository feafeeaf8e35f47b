//! What durability costs: the durable path against the direct one, the same extractor, documents and parallelism.
//!
//! ```text
//! cargo bench --bench overhead                       # the example documents, 8 in parallel, 5 pairs
//! cargo bench --bench overhead -- FILE.jsonl 32 7    # a file, documents in parallel, pairs
//! ```
//!
//! Two extractors: `local`, which keeps every core busy, and `slow`, which waits 100 ms in each call as a model would.
//! Pairs alternate within one run, since machines are noisy; the figure is the median of their ratios. The servers are
//! private ones with everything forced to the disk, and starting them is not counted.

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

    async fn durable(&mut self, extractor: &str) -> Result<(Duration, BatchId)> {
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
        Ok((took, id))
    }
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
        let (mut ratios, mut rates, mut last) = (Vec::new(), Vec::new(), None);
        println!("{extractor}");
        for pair in 0..pairs {
            let (direct, (durable, batch)) = if pair % 2 == 0 {
                let direct = bench.direct(extractor).await?;
                (direct, bench.durable(extractor).await?)
            } else {
                let durable = bench.durable(extractor).await?;
                (bench.direct(extractor).await?, durable)
            };
            let ratio = durable.as_secs_f64() / direct.as_secs_f64();
            println!("    direct {direct:>9.2?}   durable {durable:>9.2?}   ratio {ratio:.3}");
            ratios.push(ratio);
            #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
            rates.push(bench.documents.len() as f64 * 60.0 / durable.as_secs_f64());
            last = Some(batch);
        }
        println!(
            "  median ratio {:.3}, {:.0} documents a minute",
            median(ratios),
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
