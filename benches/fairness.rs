//! What a small batch feels of a large one: the time that ten documents take while thousands wait, against their time
//! alone.
//!
//! ```text
//! cargo bench --bench fairness                     # 10,000 waiting, 9 small batches
//! cargo bench --bench fairness -- 100000 15        # waiting, small batches
//! cargo bench --bench fairness -- 10000 9 slow 16  # one extractor only, documents of 16 times the text
//! cargo bench --bench fairness -- 10000 9 both 1 2 # the small batches are another organization's
//! ```
//!
//! Two extractors: `local`, which keeps every core busy, and `slow`, which waits 100 ms in each call as a model would.
//! The large batch has the default concurrency, then 1,000; the small ones always the default. Private servers with
//! everything forced to the disk, one worker with the default slots in this process. A small batch is measured from
//! its opening to its end, resolution and all, as its submitter sees it; small batches alone (half of them before the
//! large one, half after it) and small batches in company are run in one process, and the figure is the ratio of their
//! medians. The large batch's rate is told for the time in which it had company, and for when it had none: what it
//! loses is what the small ones took. Below stands where the time of the small ones went, by the rows' timestamps.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "shared/ground.rs"]
mod ground;
#[path = "shared/slow.rs"]
mod slow;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use graphmill::{
    config::{LogArgs, LogFormat},
    extractors::{Extractors, Local},
    flow::FailurePolicy,
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    queue::Queue,
    store::{self, PoolSettings, Store},
    telemetry,
    worker::{Worker, WorkerSettings},
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use sqlx::{AssertSqlSafe, PgPool, Row};

use slow::Slow;

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;
/// The submitter of the small batches, if it is another one.
const SECOND: &str = "00000000-0000-7000-8000-000000000002";
/// Documents of a small batch.
const FEW: usize = 10;
/// Documents in parallel of a small batch, and of the large one.
const PARALLEL: u32 = 5;
const LARGE: [u32; 2] = [5, 1000];
/// How long the large batch runs alone before the first small one comes, and between two of them.
const ALONE: Duration = Duration::from_secs(2);
const BETWEEN: Duration = Duration::from_millis(400);

struct Bench {
    store: Store,
    /// Sees all rows.
    owner: PgPool,
    /// Whose the small batches are.
    few: OrganizationId,
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
        organization: OrganizationId,
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
            traceparent: None,
        };
        let mut submission = Submission::open(&self.store, organization, &batch).await?;
        for number in 0..count {
            let text = &self.texts[number % self.texts.len()];
            let text = vec![text.as_str(); times].join("\n\n");
            let text = format!("{text}\n\nCopy {number} of run {run}.");
            submission
                .add(NewDocument::new(format!("d{number}"), text))
                .await?;
        }
        let id = submission.seal().await?;
        self.worker.wake(organization, id);
        Ok(id)
    }

    async fn look(&self, organization: OrganizationId, id: BatchId) -> Result<(bool, u64)> {
        let mut read = self.store.app(organization).await?;
        let batch = store::batch_by_id(&mut read, organization, id).await?;
        let batch = batch.context("the batch is gone")?;
        Ok((batch.state.name().has_ended(), batch.counts.completed))
    }

    async fn ended(&self, organization: OrganizationId, id: BatchId) -> Result<()> {
        let mut moved = self.worker.moved();
        while !self.look(organization, id).await?.0 {
            let _ = tokio::time::timeout(Duration::from_millis(200), moved.changed()).await;
        }
        Ok(())
    }

    /// How long a small batch takes, and where.
    async fn small(&mut self, extractor: &str) -> Result<Small> {
        let begun = Instant::now();
        let few = self.few;
        let id = self.submit(few, extractor, FEW, PARALLEL, 1).await?;
        let submitted = begun.elapsed().as_secs_f64();
        self.ended(few, id).await?;
        let took = begun.elapsed().as_secs_f64();
        anyhow::ensure!(
            self.look(few, id).await?.1 == FEW as u64,
            "some did not complete"
        );
        let mut parts = self.parts(id).await?;
        parts[0] = submitted;
        parts[PARTS.len() - 1] = took - parts.iter().sum::<f64>();
        let steps = self.steps(id).await?;
        Ok(Small { took, parts, steps })
    }

    /// The parts of a batch's time that follow upon one another.
    async fn parts(&self, id: BatchId) -> Result<Vec<f64>> {
        let row = self
            .row(format!(
                "select extract(epoch from d.first - b.sealed_at)::float8,
                        extract(epoch from d.last - d.first)::float8,
                        extract(epoch from r.started_at - d.last)::float8,
                        extract(epoch from a.started_at - r.started_at)::float8,
                        extract(epoch from a.completed_at - a.started_at)::float8,
                        extract(epoch from b.ended_at - a.completed_at)::float8
                 from batch b
                 cross join lateral (
                     select min(e.started_at) as first, max(a.completed_at) as last
                     from workflow_execution e join workflow_activity a on a.workflow_execution_id = e.id
                     where e.batch_id = b.id and e.workflow_type = 'extraction') d
                 join workflow_execution r on r.batch_id = b.id and r.workflow_type = 'resolution'
                 join workflow_activity a on a.workflow_execution_id = r.id and a.status = 'completed'
                 where b.id = '{}'",
                id.uuid()
            ))
            .await?;
        let mut parts = vec![0.0];
        for column in 0..6 {
            // Where the worker admitted before the submitter heard of the seal, that is no time.
            parts.push(row.try_get::<f64, _>(column)?.max(0.0));
        }
        parts.push(0.0);
        Ok(parts)
    }

    /// What a stage of a document takes on average: from the settle before it to its lease, from there to its settle;
    /// and from the end of a document to the admission of the next.
    async fn steps(&self, id: BatchId) -> Result<Vec<f64>> {
        let row = self
            .row(format!(
                "with step as (
                     select a.started_at, a.completed_at, lag(a.completed_at, 1, e.started_at)
                            over (partition by e.id order by a.lease_epoch) as before
                     from workflow_activity a join workflow_execution e on e.id = a.workflow_execution_id
                     where e.batch_id = '{0}' and e.workflow_type = 'extraction'
                 ), document as (
                     select started_at, completed_at, row_number() over (order by started_at) as began,
                            row_number() over (order by completed_at) as ended
                     from workflow_execution where batch_id = '{0}' and workflow_type = 'extraction'
                 )
                 select extract(epoch from avg(step.started_at - step.before))::float8,
                        extract(epoch from avg(step.completed_at - step.started_at))::float8,
                        (select extract(epoch from avg(n.started_at - d.completed_at))::float8
                         from document d join document n on n.began = d.ended + {PARALLEL})
                 from step",
                id.uuid()
            ))
            .await?;
        Ok(vec![row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
    }

    async fn row(&self, sql: String) -> Result<sqlx::postgres::PgRow> {
        Ok(sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_one(&self.owner)
            .await?)
    }

    async fn alone(&mut self, extractor: &str, runs: usize) -> Result<Vec<Small>> {
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
    ) -> Result<(Vec<Small>, Pace, Pace)> {
        let large = self
            .submit(ORGANIZATION, extractor, waiting, concurrency, self.times)
            .await?;
        let (mut took, mut with, mut without) = (Vec::new(), Pace::default(), Pace::default());
        let mut wait = ALONE;
        while took.len() < runs {
            let (begun, before) = (Instant::now(), self.look(ORGANIZATION, large).await?.1);
            tokio::time::sleep(wait).await;
            let (ended, middle) = self.look(ORGANIZATION, large).await?;
            if ended {
                break;
            }
            without.documents += middle - before;
            without.seconds += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let one = self.small(extractor).await?;
            let (ended, after) = self.look(ORGANIZATION, large).await?;
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
        self.ended(ORGANIZATION, large).await?;
        Ok((took, with, without))
    }
}

/// What follows upon one another from a submitter's first word to its hearing of the end.
const PARTS: [&str; 8] = [
    "submit",
    "admit",
    "documents",
    "fold",
    "ring",
    "resolve",
    "end",
    "hear",
];
/// What a document's stages are made of.
const STEPS: [&str; 3] = ["wait for the lease", "lease to settle", "next admission"];

/// One small batch, in seconds.
struct Small {
    took: f64,
    parts: Vec<f64>,
    steps: Vec<f64>,
}

/// The medians of each part, alone and in company, in milliseconds.
fn tell(title: &str, names: &[&str], alone: &[Small], company: &[Small], of: fn(&Small) -> &[f64]) {
    print!("       {title}");
    for (at, name) in names.iter().enumerate() {
        let median = |all: &[Small]| {
            let values: Vec<f64> = all.iter().map(|one| of(one)[at]).collect();
            quantile(&values, 50) * 1e3
        };
        print!("   {name} {:.0} / {:.0}", median(alone), median(company));
    }
    println!();
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
    let organizations = number(4, 1)?;
    let only = arguments.get(2).filter(|name| *name != "both").cloned();

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
    let settings = WorkerSettings::default();
    let worker = Worker::start(store, queue, extractors, settings).await?;
    // A submitter is a process of its own, with connections of its own.
    let store = Store::connect(&url, &PoolSettings::default()).await?;
    let owner = PgPool::connect(&url).await?;
    let mut few = ORGANIZATION;
    if organizations > 1 {
        few = OrganizationId::from(uuid::Uuid::parse_str(SECOND)?);
        let second = format!("insert into organization (id, name) values ('{SECOND}', 'second')");
        sqlx::raw_sql(AssertSqlSafe(second)).execute(&owner).await?;
    }
    let mut bench = Bench {
        store,
        owner,
        few,
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
            let mut alone = bench.alone(extractor, runs.div_ceil(2)).await?;
            let (company, with, without) = bench
                .in_company(extractor, waiting, concurrency, runs)
                .await?;
            tokio::time::sleep(ALONE).await;
            alone.extend(bench.alone(extractor, runs.div_ceil(2)).await?);
            let took = |all: &[Small]| all.iter().map(|one| one.took).collect::<Vec<_>>();
            let (of_alone, of_company) = (took(&alone), took(&company));
            let (solo, busy) = (quantile(&of_alone, 50), quantile(&of_company, 50));
            println!(
                "{extractor:<6} beside {concurrency:>4} in parallel: alone {:>6.0} ms   in company {:>6.0} ms (90th {:>6.0}, {} runs)   \
                 ratio {:.2}   the large one {:.0}/s, alone {:.0}/s",
                solo * 1e3,
                busy * 1e3,
                quantile(&of_company, 90) * 1e3,
                company.len(),
                busy / solo,
                with.a_second(),
                without.a_second(),
            );
            tell("alone / in company, ms:", &PARTS, &alone, &company, |one| {
                &one.parts
            });
            tell("a stage of a document:", &STEPS, &alone, &company, |one| {
                &one.steps
            });
        }
    }
    bench.worker.drain(Duration::from_secs(5)).await;
    bench.store.close().await;
    bench.owner.close().await;
    tokio::task::spawn_blocking(move || servers.stop()).await?;
    Ok(())
}
