//! What a backlog costs: the drain rate, Redis' memory and a worker's memory with a million documents waiting against
//! a thousand.
//!
//! ```text
//! cargo bench --bench backlog                      # 1,000,000 waiting, 5 pairs of windows, 20 s each
//! cargo bench --bench backlog -- 100000 3 10       # waiting, pairs, seconds of a window
//! cargo bench --bench backlog -- 1000000 5 20 150000   # and so many gone before, with no vacuum since
//! ```
//!
//! Two sites, each with private servers of its own, everything forced to the disk, and one real `graphmill worker`: one
//! has the backlog, the other a thousand. One batch is paused while the other is measured, and the windows alternate
//! within one run, since machines are noisy: the figure is the median of the pairs' ratios. A producer keeps both
//! backlogs at their size, in steps of 500, so that both sites carry the same load and the large one pays for its
//! larger indexes there too. Documents completed are the sequencer's own count.
//!
//! Statistics and visibility maps are made once after the filling (`vacuum analyze`), as autovacuum would a minute
//! later: a window must not measure what follows any bulk load. Autovacuum is on all the time. With a fourth argument
//! that many more documents are filled in and completed by plain updates after the vacuum, oldest first: this is what
//! the head of the due index looks like when autovacuum has not come by for that long.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "shared/ground.rs"]
mod ground;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use graphmill::{
    config::{LogArgs, LogFormat},
    flow::FailurePolicy,
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    servers::Servers,
    store::{PoolSettings, Store},
    telemetry,
    workflow::{self, NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;
/// The backlog that the large one is held against.
const FEW: u64 = 1_000;
/// Documents that the producer adds at once. **Source:** a step of a submission.
const STEP: u64 = 500;
/// How long a batch runs before its window begins. **Source:** what was in flight at the pause is rung again after 5 s.
const WARM_UP: Duration = Duration::from_secs(6);
/// How often the producer and the meters look.
const LOOK: Duration = Duration::from_millis(100);
/// Documents in parallel: more than the worker has slots, so that admission is what is tested; and the default.
const PARALLEL: [u32; 2] = [64, 5];

/// Servers, a worker and a batch that is not sealed.
struct Site {
    waiting: u64,
    /// How many were ever added.
    added: u64,
    id: BatchId,
    submission: Submission,
    store: Store,
    owner: PgPool,
    redis: MultiplexedConnection,
    worker: Child,
    servers: Servers,
    memory: Memory,
}

/// Memory in bytes, and keys.
#[derive(Clone, Copy, Default)]
struct Memory {
    redis_before: u64,
    redis_most: u64,
    keys_before: u64,
    keys_most: u64,
    worker_before: u64,
    worker_most: u64,
}

impl Site {
    async fn build(folder: &Path, waiting: u64, gone: u64) -> Result<Self> {
        let servers = ground::servers(folder).await?;
        let url = servers.database_url().context("no database")?.to_owned();
        let redis_url = servers.redis_url().context("no Redis")?.to_owned();
        let store = Store::connect(&url, &PoolSettings::default()).await?;
        let owner = PgPool::connect(&url).await?;
        let batch = NewBatch {
            name: "backlog".to_owned(),
            extractor: "local".to_owned(),
            ontology: Arc::new(Ontology::builtin()?),
            settings: Settings::default(),
            model: None,
            concurrency: PARALLEL[0],
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let submission = Submission::open(&store, ORGANIZATION, &batch).await?;
        let mut redis = redis::Client::open(redis_url.as_str())?
            .get_multiplexed_async_connection()
            .await?;
        let worker = Command::new(env!("CARGO_BIN_EXE_graphmill"))
            .args(["worker", "--log", "warn"])
            .env("DATABASE_URL", &url)
            .env("REDIS_URL", &redis_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let memory = Memory {
            redis_before: used_memory(&mut redis).await?,
            keys_before: keys(&mut redis).await?,
            ..Memory::default()
        };
        let mut site = Self {
            waiting,
            added: 0,
            id: submission.batch(),
            submission,
            store,
            owner,
            redis,
            worker,
            servers,
            memory,
        };
        site.pause(true).await?;
        let begun = Instant::now();
        site.add(waiting + gone).await?;
        println!(
            "  {} documents submitted in {:.1} s",
            waiting + gone,
            begun.elapsed().as_secs_f64()
        );
        // A million documents leave Postgres with log files to use again; a thousand would have it make new ones.
        site.sql("create table ballast (text text)").await?;
        site.sql(
            "insert into ballast select repeat(md5(i::text), 20) from generate_series(1, 500000) i",
        )
        .await?;
        site.sql("drop table ballast").await?;
        // `vacuum` runs in no transaction, so each is a call of its own.
        for table in ["document", "workflow_execution", "batch"] {
            site.sql(format!("vacuum (analyze) {table}")).await?;
        }
        site.sql("checkpoint").await?;
        site.age(gone).await?;
        site.memory.worker_before = resident(site.worker.id())?;
        Ok(site)
    }

    /// Adds documents, in whole steps, each of which is durable when it returns.
    async fn add(&mut self, documents: u64) -> Result<()> {
        for _ in 0..documents {
            let number = self.added;
            let text = format!("Ada Lovelace met Charles Babbage in London, note {number}.");
            let document = NewDocument::new(format!("d{number:09}"), text);
            self.submission.add(document).await?;
            self.added += 1;
        }
        Ok(())
    }

    /// Completes the oldest by hand, as a drain leaves their rows and index entries behind.
    async fn age(&mut self, gone: u64) -> Result<()> {
        for _ in 0..gone.div_ceil(STEP) {
            self.sql(format!(
                "update workflow_execution set status = 'processing', due_at = now() where id in (
                     select id from workflow_execution where batch_id = '{}' and status = 'queued'
                     order by due_at, id limit {STEP})",
                self.id.uuid()
            ))
            .await?;
            self.sql(
                "update workflow_execution set status = 'completed', completed_at = now() where status = 'processing'",
            )
            .await?;
        }
        self.sql(format!(
            "insert into event_outbox (organization_id, batch_id, type, payload)
             select organization_id, id, 'DocumentCompleted', jsonb_build_object(
                 'type', 'DocumentCompleted', 'partial', false, 'entities', 0, 'relations', 0)
             from batch cross join generate_series(1, {gone})"
        ))
        .await?;
        while self.completed().await? < gone {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn sql(&self, sql: impl Into<String>) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(&self.owner)
            .await?;
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.owner)
            .await?;
        Ok(row.try_get(0)?)
    }

    async fn pause(&self, paused: bool) -> Result<()> {
        let to = if paused {
            "now(), pause_reason = 'bench'"
        } else {
            "null, pause_reason = null"
        };
        self.sql(format!("update batch set paused_at = {to}")).await
    }

    async fn completed(&self) -> Result<u64> {
        let counted = self
            .number("select (counts ->> 'completed')::bigint from batch")
            .await?;
        Ok(u64::try_from(counted)?)
    }

    /// Runs the batch for a while; returns documents completed a second.
    async fn window(&mut self, lasts: Duration) -> Result<f64> {
        self.pause(false).await?;
        self.run_for(WARM_UP).await?;
        let (begun, before) = (Instant::now(), self.completed().await?);
        self.run_for(lasts).await?;
        let (done, took) = (self.completed().await? - before, begun.elapsed());
        self.pause(true).await?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        Ok(done as f64 / took.as_secs_f64())
    }

    /// Keeps the backlog at its size and the meters read.
    async fn run_for(&mut self, lasts: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            tokio::time::sleep(LOOK).await;
            let waiting = self.added - self.completed().await?;
            if waiting + STEP / 2 < self.waiting {
                self.add(STEP).await?;
            }
            let memory = &mut self.memory;
            memory.redis_most = memory.redis_most.max(used_memory(&mut self.redis).await?);
            memory.keys_most = memory.keys_most.max(keys(&mut self.redis).await?);
            memory.worker_most = memory.worker_most.max(resident(self.worker.id())?);
        }
        Ok(())
    }

    /// What the tables and the report look like at this size.
    async fn tables(&self) -> Result<Value> {
        sqlx::raw_sql("select pg_stat_clear_snapshot()")
            .execute(&self.owner)
            .await?;
        let hot = "select (100 * n_tup_hot_upd / greatest(n_tup_upd, 1))::bigint
                   from pg_stat_user_tables where relname = 'workflow_execution'";
        let begun = Instant::now();
        workflow::report(&self.store, ORGANIZATION, self.id, 0).await?;
        let report = begun.elapsed();
        let begun = Instant::now();
        workflow::details(&self.store, ORGANIZATION, self.id).await?;
        Ok(json!({
            "executions_mb": mb(self.number("select pg_table_size('workflow_execution')").await?),
            "due_index_mb": mb(self.number("select pg_relation_size('workflow_execution_due')").await?),
            "outbox_mb": mb(self.number("select pg_total_relation_size('event_outbox')").await?),
            "hot_updates_percent": self.number(hot).await?,
            "report_ms": report.as_millis(),
            "batch_show_ms": begun.elapsed().as_millis(),
        }))
    }

    async fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.worker);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        tokio::task::spawn_blocking(move || self.worker.wait()).await??;
        self.store.close().await;
        self.owner.close().await;
        tokio::task::spawn_blocking(move || self.servers.stop()).await?;
        Ok(())
    }
}

async fn used_memory(redis: &mut MultiplexedConnection) -> Result<u64> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(redis).await?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.context("no used_memory")?.trim().parse()?)
}

async fn keys(redis: &mut MultiplexedConnection) -> Result<u64> {
    Ok(redis::cmd("DBSIZE").query_async(redis).await?)
}

/// The memory of a process that is in use.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .context("the worker is gone")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib * 1024)
}

fn mb(bytes: impl TryInto<i64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let bytes = bytes.try_into().unwrap_or(i64::MAX) as f64;
    (bytes / 1e4).round() / 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn size(site: &Site) -> Value {
    let memory = site.memory;
    json!({
        "waiting": site.waiting,
        "redis_mb": [mb(memory.redis_before), mb(memory.redis_most)],
        "redis_keys": [memory.keys_before, memory.keys_most],
        "worker_rss_mb": [mb(memory.worker_before), mb(memory.worker_most)],
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let numbers = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .map(|argument| argument.parse::<u64>())
        .collect::<Result<Vec<_>, _>>()?;
    let argument = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (waiting, pairs) = (argument(0, 1_000_000), argument(1, 5));
    let (lasts, gone) = (Duration::from_secs(argument(2, 20)), argument(3, 0));

    let logs = LogArgs {
        log: None,
        log_format: LogFormat::Text,
    };
    telemetry::init(&logs, "warn")?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!("filling");
    let mut many = Site::build(&folder.path().join("many"), waiting, gone).await?;
    let mut few = Site::build(&folder.path().join("few"), FEW, 0).await?;

    let mut rates = Vec::new();
    println!("{pairs} pairs of windows of {} s each", lasts.as_secs());
    for parallel in PARALLEL {
        let mut ratios = Vec::new();
        for site in [&many, &few] {
            site.sql(format!("update batch set concurrency = {parallel}"))
                .await?;
        }
        for pair in 0..pairs {
            let (of_many, of_few) = if pair % 2 == 0 {
                let of_many = many.window(lasts).await?;
                (of_many, few.window(lasts).await?)
            } else {
                let of_few = few.window(lasts).await?;
                (many.window(lasts).await?, of_few)
            };
            let ratio = of_many / of_few;
            println!(
                "  {parallel:>3} in parallel: {waiting} waiting {of_many:>7.1}/s   {FEW} waiting {of_few:>7.1}/s   ratio {ratio:.3}"
            );
            ratios.push(ratio);
        }
        let ratio = median(ratios.clone());
        rates.push(json!({ "parallel": parallel, "ratios": ratios, "median": ratio }));
        println!("  median ratio {ratio:.3}");
    }
    let (large, small) = (size(&many), size(&few));
    println!(
        "waiting      Redis MB before/most   Redis keys before/most   worker RSS MB before/most"
    );
    for site in [&large, &small] {
        println!(
            "{:<12} {:<22} {:<24} {}",
            site["waiting"].to_string(),
            site["redis_mb"].to_string(),
            site["redis_keys"].to_string(),
            site["worker_rss_mb"]
        );
    }
    let tables = [many.tables().await?, few.tables().await?];
    println!(
        "{}",
        json!({ "gone": gone, "rates": rates, "many": large, "few": small, "tables": tables })
    );
    many.stop().await?;
    few.stop().await?;
    Ok(())
}
