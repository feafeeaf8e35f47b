//! What following costs and how late it is: the memory of a server with thousands of idle subscribers, and the time from
//! the transaction in which something happens to the socket of whoever follows it.
//!
//! ```text
//! cargo bench --bench stream                 # 2,000 idle subscribers, 20 followers, 300 documents
//! cargo bench --bench stream -- 2000 20 300
//! ```
//!
//! A real server process on private servers with everything forced to the disk; one worker in this process, with the
//! local extractor. The idle ones follow a batch each by turns out of a hundred, in which nothing happens; the
//! followers one that is worked. Lag is the time of arrival less the event's own (when its transaction began), so the
//! settle, the sequencer, the server and the socket are in it; both are of one machine's clock.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "shared/ground.rs"]
mod ground;

use std::{
    io::{BufRead, BufReader as StdReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use graphmill::{
    extractors::Extractors,
    flow::FailurePolicy,
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    queue::Queue,
    store::{PoolSettings, Store},
    worker::{Worker, WorkerSettings},
    workflow::{NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};

const ORGANIZATION: OrganizationId = OrganizationId::DEFAULT;
/// Batches that the idle ones follow.
const IDLE_BATCHES: usize = 100;
/// Subscribers that connect at once.
const AT_ONCE: usize = 50;

/// A server process; killed with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(database: &str, redis: &str) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_graphmill"))
            .env("DATABASE_URL", database)
            .env("REDIS_URL", redis)
            .args(["serve", "--no-keys", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = StdReader::new(child.stderr.take().context("its log")?).lines();
        let port = loop {
            let line = lines.next().context("it does not listen")??;
            if let Some((_, rest)) = line
                .split_once("127.0.0.1:")
                .filter(|_| line.contains("listening"))
            {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse()?;
            }
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { child, port })
    }

    /// What it has in memory, in megabytes.
    fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kilobytes.context("VmRSS")?.parse::<f64>()? / 1024.0)
    }

    async fn subscribe(port: u16, batch: BatchId) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request =
            format!("GET /api/batches/{batch}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Up to the snapshot: it is served.
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        while !text.windows(8).any(|window| window == b"Snapshot") {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                bail!("refused: {}", String::from_utf8_lossy(&text));
            }
            text.extend_from_slice(&buffer[..read]);
        }
        Ok(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both ends are on one machine, whose clock Postgres has too.
#[expect(clippy::disallowed_methods, reason = "a lag is told by a clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The lags of all events that a follower is told, in milliseconds; without those that had no sequencer yet.
async fn lags(stream: TcpStream, since: DateTime<Utc>) -> Result<Vec<f64>> {
    let mut lines = BufReader::new(stream).lines();
    let mut lags = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let arrived = now();
        let event: serde_json::Value = serde_json::from_str(data)?;
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "Snapshot" {
            continue;
        }
        let at = event["timestamp"].as_str().context("a timestamp")?;
        let at = at.parse::<DateTime<Utc>>()?;
        if at > since {
            #[expect(clippy::cast_precision_loss, reason = "seconds, in microseconds")]
            lags.push((arrived - at).num_microseconds().unwrap_or(i64::MAX) as f64 / 1000.0);
        }
        if kind == "BatchCompleted" {
            return Ok(lags);
        }
    }
    bail!("the stream ended before the batch did")
}

struct Bench {
    store: Store,
    ontology: Arc<Ontology>,
}

impl Bench {
    async fn submit(
        &self,
        name: String,
        documents: Vec<NewDocument>,
        sealed: bool,
    ) -> Result<BatchId> {
        let batch = NewBatch {
            name,
            extractor: "local".to_owned(),
            ontology: Arc::clone(&self.ontology),
            settings: Settings::default(),
            model: None,
            concurrency: 8,
            policy: FailurePolicy::ContinueOnFailure,
            max_retries: 0,
            tolerance: None,
            weight: 1,
            traceparent: None,
        };
        let mut submission = Submission::open(&self.store, ORGANIZATION, &batch).await?;
        for document in documents {
            submission.add(document).await?;
        }
        let id = submission.batch();
        submission.finish(!sealed).await?;
        Ok(id)
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at]
}

#[tokio::main]
async fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|given| given.parse().ok())
        .collect();
    let number = |place: usize, usual| numbers.get(place).copied().unwrap_or(usual);
    let (idle, followers, count) = (number(0, 2000), number(1, 20), number(2, 300));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let servers = ground::servers(folder.path().join("data")).await?;
    let (database, redis) = (
        servers.database_url().context("Postgres")?.to_owned(),
        servers.redis_url().context("Redis")?.to_owned(),
    );
    let bench = Bench {
        store: Store::connect(&database, &PoolSettings::default()).await?,
        ontology: Arc::new(Ontology::builtin()?),
    };
    let server = Server::start(&database, &redis)?;
    let mut quiet = Vec::new();
    for batch in 0..IDLE_BATCHES {
        quiet.push(
            bench
                .submit(format!("quiet-{batch}"), Vec::new(), false)
                .await?,
        );
    }
    println!("a server with nobody: {:.1} MB", server.memory()?);
    let mut held = Vec::with_capacity(idle);
    while held.len() < idle {
        let mut opening = JoinSet::new();
        for place in held.len()..(held.len() + AT_ONCE).min(idle) {
            opening.spawn(Server::subscribe(server.port, quiet[place % quiet.len()]));
        }
        for opened in opening.join_all().await {
            held.push(opened?);
        }
    }
    println!(
        "with {} idle subscribers: {:.1} MB",
        held.len(),
        server.memory()?
    );

    let texts: Vec<String> = std::fs::read_dir("examples/documents")?
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .collect();
    let documents = (0..count).map(|number| {
        let text = &texts[number % texts.len()];
        NewDocument::new(number.to_string(), format!("{text}\n{number}"))
    });
    let batch = bench
        .submit("worked".to_owned(), documents.collect(), true)
        .await?;
    let begun = now();
    let mut following = JoinSet::new();
    for _ in 0..followers {
        let stream = Server::subscribe(server.port, batch).await?;
        following.spawn(lags(stream, begun));
    }
    let worker = Worker::start(
        bench.store.clone(),
        Queue::connect(&redis).await?,
        Extractors::builtin(),
        WorkerSettings::default(),
    )
    .await?;
    let mut all = Vec::new();
    while let Some(told) = following.join_next().await {
        all.extend(told??);
    }
    let took = now() - begun;
    all.sort_by(f64::total_cmp);
    println!(
        "{count} documents in {} ms, {} events told to {followers} followers: lag p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        took.num_milliseconds(),
        all.len(),
        percentile(&all, 0.5),
        percentile(&all, 0.99),
        all.last().copied().unwrap_or_default(),
    );
    println!("the server then: {:.1} MB", server.memory()?);
    drop(held);
    worker.drain(Duration::from_secs(5)).await;
    Ok(())
}
