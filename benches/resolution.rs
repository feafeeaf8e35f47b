//! What a resolution costs, and that the second one, and small ones beside a large one, cost by their own size.
//!
//! ```text
//! cargo bench --bench resolution                    # 300,000 entities of 30,000 things, 20 small batches
//! cargo bench --bench resolution -- 30000 3000 5    # entities, things, small batches
//! cargo bench --bench resolution -- 300000 30000 20 analyzed
//! ```
//!
//! Private servers of its own, everything forced to the disk, one real `graphmill worker`. Entities are filled in by
//! SQL, ten a document, as if their documents had been extracted; what is measured is the worker's resolution alone,
//! by the database's clock, and its steps, by the worker's log. Without `analyzed`, autovacuum is off and no statistics
//! are ever made: plans are as bad as they get.
//!
//! First the small batches in an organization of their own, one after the other: the measure. Then in another one a
//! large batch, the same again twice, a second one of the same things, and the same small ones.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "shared/ground.rs"]
mod ground;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use graphmill::{
    config::{LogArgs, LogFormat},
    flow::{FailurePolicy, Stage},
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    servers::Servers,
    store::{PoolSettings, Store},
    telemetry,
    workflow::{self, NewBatch, Rerun, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

/// Entities of a document, with a mention each.
const EACH: u64 = 10;
/// Entities of a small batch.
const SMALL: u64 = 500;
/// How often it looks whether a batch has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Statements that take longer are listed. **Source:** what the project wants of each.
const SLOW: &str = "1s";

struct Site {
    things: u64,
    batches: u64,
    folder: PathBuf,
    store: Store,
    owner: PgPool,
    ontology: Arc<Ontology>,
    worker: Child,
    servers: Servers,
    logged: usize,
}

/// How long a resolution took, in seconds.
#[derive(Clone, Copy)]
struct Took(f64);

impl Site {
    async fn build(folder: &Path, things: u64, analyzed: bool) -> Result<Self> {
        let servers = ground::servers(folder).await?;
        let url = servers.database_url().context("no database")?.to_owned();
        let redis_url = servers.redis_url().context("no Redis")?.to_owned();
        let store = Store::connect(&url, &PoolSettings::default()).await?;
        let owner = PgPool::connect(&url).await?;
        let log = File::create(folder.join("worker.log"))?;
        let mut site = Self {
            things,
            batches: 0,
            folder: folder.to_owned(),
            store,
            owner,
            ontology: Arc::new(Ontology::builtin()?),
            worker: Command::new("true").spawn()?,
            servers,
            logged: 0,
        };
        for sql in [
            &format!("alter system set log_min_duration_statement = '{SLOW}'"),
            &format!("alter system set autovacuum = {analyzed}"),
            "select pg_reload_conf()",
            "create table thing (number bigint primary key, name text not null)",
        ] {
            site.sql(sql).await?;
        }
        site.names().await?;
        site.worker.wait()?;
        site.worker = Command::new(env!("CARGO_BIN_EXE_graphmill"))
            .args(["worker", "--log", "warn,graphmill::worker::resolution=info"])
            .env("DATABASE_URL", &url)
            .env("REDIS_URL", &redis_url)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(site)
    }

    /// Names of two words, of which many share the second.
    async fn names(&self) -> Result<()> {
        const FIRST: [&str; 12] = [
            "Ada", "Bela", "Carlo", "Dora", "Emil", "Frida", "Gustav", "Hanna", "Igor", "Jana",
            "Karl", "Lena",
        ];
        const SYLLABLES: [&str; 20] = [
            "ba", "den", "kor", "li", "mar", "no", "pel", "ri", "sta", "tur", "vo", "wen", "zam",
            "gel", "hof", "jun", "fras", "dui", "chi", "bro",
        ];
        let names: Vec<String> = (0..self.things)
            .map(|number| {
                let syllable = |at: u32| {
                    let at = (number / 12 / 20_u64.pow(at)) % 20;
                    SYLLABLES[usize::try_from(at).unwrap_or(0)]
                };
                let first = FIRST[usize::try_from(number % 12).unwrap_or(0)];
                let last: String = (0..4).map(syllable).collect();
                let (initial, rest) = last.split_at(1);
                format!("{first} {}{rest}", initial.to_uppercase())
            })
            .collect();
        sqlx::raw_sql(AssertSqlSafe(format!(
            "insert into thing select t.number - 1, t.name from unnest('{{{}}}'::text[]) with ordinality as t (name, number)",
            names.join(",")
        )))
        .execute(&self.owner)
        .await?;
        Ok(())
    }

    /// A batch of so many entities, in documents that are done; the whole batch is resolved when this returns.
    async fn batch(
        &mut self,
        organization: OrganizationId,
        entities: u64,
    ) -> Result<(BatchId, Took)> {
        self.batches += 1;
        let number = self.batches;
        let batch = NewBatch {
            name: format!("batch-{number}"),
            extractor: "local".to_owned(),
            ontology: Arc::clone(&self.ontology),
            settings: Settings::default(),
            model: None,
            concurrency: 1,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let mut submission = Submission::open(&self.store, organization, &batch).await?;
        let id = submission.batch();
        let which = id.uuid();
        self.sql(format!(
            "update batch set paused_at = now(), pause_reason = 'bench' where id = '{which}'"
        ))
        .await?;
        let documents = entities / EACH;
        for document in 0..documents {
            let text = format!("Batch {number}, note {document}.");
            submission
                .add(NewDocument::new(format!("d{document:09}"), text))
                .await?;
        }
        // All are there before any is filled in; the batch waits for its seal.
        submission.finish(true).await?;
        // Which thing an entity is: neighbours are others, and every thing comes up as often as any.
        let (things, from) = (self.things, number * SMALL);
        for sql in [
            format!(
                "update workflow_execution set status = 'completed', current_activity = 'assemble-graph',
                        completed_at = now() where batch_id = '{which}'"
            ),
            format!(
                "create temp table filled as
                 select gen_random_uuid() as id, e.id as execution, e.organization_id, o.ordinal, t.name
                 from (select id, organization_id, row_number() over (order by id) - 1 as number
                       from workflow_execution where batch_id = '{which}') e
                 cross join generate_series(0, {EACH} - 1) o (ordinal)
                 join thing t on t.number = (({from} + e.number * {EACH} + o.ordinal) * 7919) % {things};
                 insert into entity (id, workflow_execution_id, organization_id, ordinal, name, type, mentions)
                 select id, execution, organization_id, ordinal, name, 'person', array[ordinal] from filled;
                 insert into mention (workflow_execution_id, organization_id, ordinal, entity_id, start_char, end_char,
                                      text, type, label, confidence)
                 select execution, organization_id, ordinal, id, ordinal * 20, ordinal * 20 + 10, name, 'person', 'PER',
                        0.9
                 from filled;
                 drop table filled"
            ),
            format!(
                "insert into event_outbox (organization_id, batch_id, type, payload)
                 select b.organization_id, b.id, 'DocumentCompleted', jsonb_build_object(
                     'type', 'DocumentCompleted', 'partial', false, 'entities', {EACH}, 'relations', 0)
                 from batch b cross join generate_series(1, {documents}) where b.id = '{which}'"
            ),
        ] {
            self.sql(sql).await?;
        }
        while self
            .number(&format!(
                "select (counts ->> 'completed')::bigint from batch where id = '{which}'"
            ))
            .await?
            < documents
        {
            tokio::time::sleep(LOOK).await;
        }
        self.sql(format!(
            "update batch set paused_at = null, pause_reason = null where id = '{which}'"
        ))
        .await?;
        workflow::seal_batch(&self.store, organization, id).await?;
        let took = self.resolved(id).await?;
        Ok((id, took))
    }

    async fn again(&self, organization: OrganizationId, id: BatchId) -> Result<Took> {
        let rerun = Rerun {
            from: Stage::Resolve,
            ontology: None,
            prompt: None,
            force: false,
        };
        // Not the documents: what is measured is their resolution.
        workflow::rerun(&self.store, organization, id, &rerun).await?;
        self.resolved(id).await
    }

    /// How long the batch's newest resolution took, once it is through.
    async fn resolved(&self, id: BatchId) -> Result<Took> {
        let which = id.uuid();
        let begun = Instant::now();
        loop {
            let row = sqlx::raw_sql(AssertSqlSafe(format!(
                "select b.state, extract(epoch from e.completed_at - e.started_at)::float8
                 from batch b left join workflow_execution e
                 on e.batch_id = b.id and e.generation = b.generation and e.workflow_type = 'resolution'
                 where b.id = '{which}'"
            )))
            .fetch_one(&self.owner)
            .await?;
            let state: String = row.try_get(0)?;
            if state == "Completed" {
                return Ok(Took(row.try_get::<Option<f64>, _>(1)?.unwrap_or(0.0)));
            }
            ensure!(state != "Failed", "the batch failed");
            ensure!(
                begun.elapsed() < Duration::from_secs(900),
                "no end: {state}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn sql(&self, sql: impl Into<String>) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(&self.owner)
            .await?;
        Ok(())
    }

    async fn number(&self, sql: &str) -> Result<u64> {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&self.owner)
            .await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?)?)
    }

    /// What the worker has said of its steps since it was last asked, and the peak of its memory until now.
    fn say(&mut self, what: &str, took: Took) -> Result<()> {
        let log = fs::read_to_string(self.folder.join("worker.log"))?;
        let new: Vec<&str> = log.lines().skip(self.logged).collect();
        self.logged += new.len();
        println!("{what:<28} {:>7.2} s   worker {}", took.0, self.peak()?);
        for line in new.iter().rev().take(1) {
            let steps = line
                .split_once("clusters=")
                .map_or(*line, |(_, steps)| steps);
            println!("    clusters={steps}");
        }
        Ok(())
    }

    fn peak(&self) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.worker.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line.context("the worker is gone")?.trim().to_owned())
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

/// The statements that Postgres found slow, each once, but for the bench's own.
fn slow(folder: &Path) -> Result<Vec<String>> {
    let mut slow = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "log") && !path.ends_with("worker.log") {
            let text = fs::read_to_string(path)?;
            slow.extend(
                text.lines()
                    .filter(|line| line.contains("duration: ") && line.contains("execute"))
                    .map(|line| line.chars().take(200).collect()),
            );
        }
    }
    Ok(slow)
}

fn median(values: &[Took]) -> f64 {
    let mut values: Vec<f64> = values.iter().map(|took| took.0).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let analyzed = arguments.iter().any(|argument| argument == "analyzed");
    let numbers: Vec<u64> = arguments
        .iter()
        .filter(|argument| *argument != "analyzed")
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let argument = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (entities, things, few) = (argument(0, 300_000), argument(1, 30_000), argument(2, 20));
    let logs = LogArgs {
        log: None,
        log_format: LogFormat::Text,
    };
    telemetry::init(&logs, "warn")?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut site = Site::build(folder.path(), things, analyzed).await?;
    let alone = OrganizationId::from(Uuid::now_v7());
    site.sql(format!(
        "insert into organization (id, name) values ('{}', 'alone')",
        alone.uuid()
    ))
    .await?;
    let mut small_alone = Vec::new();
    for _ in 0..few {
        small_alone.push(site.batch(alone, SMALL).await?.1);
    }
    if let Some(&last) = small_alone.last() {
        site.say("a small one by itself", last)?;
    }
    let ours = OrganizationId::DEFAULT;
    let (large, first) = site.batch(ours, entities).await?;
    site.say("large, first", first)?;
    let second = site.again(ours, large).await?;
    site.say("large, again", second)?;
    let third = site.again(ours, large).await?;
    site.say("large, a third time", third)?;
    let (_, shared) = site.batch(ours, entities).await?;
    site.say("another of the same things", shared)?;
    let fourth = site.again(ours, large).await?;
    site.say("the first one beside it", fourth)?;
    let mut small = Vec::new();
    for _ in 0..few {
        small.push(site.batch(ours, SMALL).await?.1);
    }
    if let Some(&last) = small.last() {
        site.say("a small one beside them", last)?;
    }
    let clusters = site
        .number("select count(*) from cluster c join batch b on b.resolution_id = c.resolution_id")
        .await?;
    let links = site.number("select count(*) from same_as").await?;
    let slow = slow(folder.path())?;
    for line in &slow {
        println!("slow: {line}");
    }
    println!(
        "{}",
        json!({
            "entities": entities, "things": things, "analyzed": analyzed,
            "first_s": first.0, "again_s": [second.0, third.0], "ratio": second.0 / first.0,
            "shared_s": shared.0, "first_beside_it_s": fourth.0,
            "small_alone_s": median(&small_alone), "small_s": median(&small),
            "published_clusters": clusters, "links": links,
            "worker_peak": site.peak()?, "slow_statements": slow.len(),
        })
    );
    site.stop().await
}
