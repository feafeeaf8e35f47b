//! What a small batch feels of a large one: the time that ten documents take while thousands wait, against their time
//! alone.
//!
//! ```text
//! cargo bench --bench fairness                     # 10,000 waiting, 9 small batches
//! cargo bench --bench fairness -- 100000 15        # waiting, small batches
//! cargo bench --bench fairness -- 10000 9 slow 16  # one extractor only, documents of 16 times the text
//! ```
//!
//! Two extractors: `local`, which keeps every core busy, and `slow`, which waits 100 ms in each call as a model would.
//! The large batch has the default concurrency, then 1,000; the small ones always the default. Private servers with
//! everything forced to the disk, one worker with the default slots in this process. A small batch is measured from
//! its opening to its end, resolution and all, as its submitter sees it; small batches alone and small batches in
//! company are run in one process, and the figure is the ratio of their medians. The large batch's rate is told for
//! the time in which it had company, and for when it had none: what it loses is what the small ones took.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use graphmill::{
    config::{LogArgs, LogFormat},
    extractors::{ChunkText, ExtractError, Extractor, Extractors, Local, UnitName},
    flow::FailurePolicy,
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
    pipeline::{NewDocument, Settings},
    queue::Queue,
    servers::{self, Servers},
    store::{self, PoolSettings, Store},
    telemetry,
    worker::{Worker, WorkerSettings},
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;
/// What a call of the slow extractor takes.
const LATENCY: Duration = Duration::from_millis(100);
/// Documents of a small batch.
const FEW: usize = 10;
/// Documents in parallel of a small batch, and of the large one.
const PARALLEL: u32 = 5;
const LARGE: [u32; 2] = [5, 1000];
/// How long the large batch runs alone before the first small one comes, and between two of them.
const ALONE: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(400);

/// The local extractor, with a model's latency.
struct Slow(Local);

#[async_trait]
impl Extractor for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn is_paid(&self) -> bool {
        true
    }

    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.mentions(unit, chunk, ontology).await
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.classify(unit, text, group, ontology).await
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.relations(unit, chunk, mentions, ontology).await
    }
}

struct Bench {
    store: Store,
    worker: Worker,
    ontology: Arc<Ontology>,
    texts: Vec<String>,
    /// How much longer the large batch's documents are.
    times: usize,
    runs: usize,
}

/// What a large batch did while it was watched.
#[derive(Clone, Copy, Default)]
struct Pace {
    documents: u64,
    seconds: f64,
}

impl Pace {
    fn a_second(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let documents = self.documents as f64;
        documents / self.seconds.max(1e-9)
    }
}

impl Bench {
    async fn submit(
        &mut self,
        extractor: &str,
        count: usize,
        concurrency: u32,
        times: usize,
    ) -> Result<BatchId> {
        self.runs += 1;
        let run = self.runs;
        let batch = NewBatch {
            name: format!("{extractor}-{run}"),
            extractor: extractor.to_owned(),
            ontology: Arc::clone(&self.ontology),
            settings: Settings::default(),
            model: None,
            concurrency,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
        };
        let mut submission = Submission::open(&self.store, ORGANIZATION, &batch).await?;
        for number in 0..count {
            let text = &self.texts[number % self.texts.len()];
            let text = vec![text.as_str(); times].join("\n\n");
            let text = format!("{text}\n\nCopy {number} of run {run}.");
            submission
                .add(NewDocument::new(format!("d{number}"), text))
                .await?;
        }
        let id = submission.seal().await?;
        self.worker.wake(ORGANIZATION, id);
        Ok(id)
    }

    async fn look(&self, id: BatchId) -> Result<(bool, u64)> {
        let mut read = self.store.app(ORGANIZATION).await?;
        let batch = store::batch_by_id(&mut read, ORGANIZATION, id).await?;
        let batch = batch.context("the batch is gone")?;
        Ok((batch.state.name().has_ended(), batch.counts.completed))
    }

    async fn ended(&self, id: BatchId) -> Result<()> {
        let mut moved = self.worker.moved();
        while !self.look(id).await?.0 {
            let _ = tokio::time::timeout(Duration::from_millis(200), moved.changed()).await;
        }
        Ok(())
    }

    /// The seconds that a small batch takes.
    async fn small(&mut self, extractor: &str) -> Result<f64> {
        let begun = Instant::now();
        let id = self.submit(extractor, FEW, PARALLEL, 1).await?;
        self.ended(id).await?;
        let took = begun.elapsed().as_secs_f64();
        anyhow::ensure!(
            self.look(id).await?.1 == FEW as u64,
            "some did not complete"
        );
        Ok(took)
    }

    async fn alone(&mut self, extractor: &str, runs: usize) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        for _ in 0..runs {
            took.push(self.small(extractor).await?);
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(took)
    }

    /// The same beside a large batch, while that one lasts; and the large one's pace with and without company.
    async fn in_company(
        &mut self,
        extractor: &str,
        waiting: usize,
        concurrency: u32,
        runs: usize,
    ) -> Result<(Vec<f64>, Pace, Pace)> {
        let large = self
            .submit(extractor, waiting, concurrency, self.times)
            .await?;
        let (mut took, mut with, mut without) = (Vec::new(), Pace::default(), Pace::default());
        let mut wait = ALONE;
        while took.len() < runs {
            let (begun, before) = (Instant::now(), self.look(large).await?.1);
            tokio::time::sleep(wait).await;
            let (ended, middle) = self.look(large).await?;
            if ended {
                break;
            }
            without.documents += middle - before;
            without.seconds += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let one = self.small(extractor).await?;
            let (ended, after) = self.look(large).await?;
            if ended {
                break;
            }
            with.documents += after - middle;
            with.seconds += begun.elapsed().as_secs_f64();
            took.push(one);
            wait = BETWEEN;
        }
        // What is left of it is of no interest.
        graphmill::workflow::signal_batch(
            &self.store,
            ORGANIZATION,
            large,
            graphmill::flow::Signal::Cancel,
        )
        .await?;
        self.ended(large).await?;
        Ok((took, with, without))
    }
}

/// The short example documents.
fn texts() -> Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documents");
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let text = fs::read_to_string(&path)?;
            if text.len() < 4000 {
                texts.push(text);
            }
        }
    }
    texts.sort();
    Ok(texts)
}

fn quantile(values: &[f64], of_hundred: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
        .get((values.len() * of_hundred / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let number = |at: usize, default| {
        arguments
            .get(at)
            .map_or(Ok(default), |number| number.parse::<usize>())
    };
    let (waiting, runs, times) = (number(0, 10_000)?, number(1, 9)?, number(3, 1)?);
    let only = arguments.get(2).filter(|name| *name != "both").cloned();

    let logs = LogArgs {
        log: None,
        log_format: LogFormat::Text,
    };
    telemetry::init(&logs, "warn")?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    #[expect(clippy::disallowed_methods, reason = "a bench has no config room")]
    let search_path = std::env::var_os("PATH");
    let settings = servers::Settings {
        search_path,
        ..servers::Settings::new(folder.path().join("data"))
    };
    let servers = tokio::task::spawn_blocking(|| Servers::start(settings)).await??;
    let url = servers.database_url().context("no database")?.to_owned();
    store::migrate(&url).await?;
    let store = Store::connect(&url, &PoolSettings::default()).await?;
    let queue = Queue::connect(servers.redis_url().context("no Redis")?).await?;
    let extractors = Extractors::builtin().with(Slow(Local::new()));
    let settings = WorkerSettings::default();
    let worker = Worker::start(store.clone(), queue, extractors, settings).await?;
    let mut bench = Bench {
        store,
        worker,
        ontology: Arc::new(Ontology::builtin()?),
        texts: texts()?,
        times,
        runs: 0,
    };
    println!("{FEW} documents, alone and beside {waiting}");
    for extractor in ["local", "slow"] {
        if only.as_ref().is_some_and(|only| only != extractor) {
            continue;
        }
        // Connections, plans and caches are warm before anything counts.
        bench.alone(extractor, 3).await?;
        for concurrency in LARGE {
            let alone = bench.alone(extractor, runs).await?;
            let (company, with, without) = bench
                .in_company(extractor, waiting, concurrency, runs)
                .await?;
            let (solo, busy) = (quantile(&alone, 50), quantile(&company, 50));
            println!(
                "{extractor:<6} beside {concurrency:>4} in parallel: alone {:>6.0} ms   in company {:>6.0} ms (90th {:>6.0}, {} runs)   \
                 ratio {:.2}   the large one {:.0}/s, alone {:.0}/s",
                solo * 1e3,
                busy * 1e3,
                quantile(&company, 90) * 1e3,
                company.len(),
                busy / solo,
                with.a_second(),
                without.a_second(),
            );
        }
    }
    bench.worker.drain(Duration::from_secs(5)).await;
    bench.store.close().await;
    tokio::task::spawn_blocking(move || servers.stop()).await?;
    Ok(())
}
