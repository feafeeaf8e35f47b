//! Live progress: streams of the log over HTTP, from real server processes, as clients read them.

mod command;
mod exact;
mod reading;
mod shapes;
mod slow;

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use graphmill::store::LoggedEvent;
use graphmill_jobs::BatchId;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::support::{Ground, OURS, PATIENCE, Redis, bare, new_batch};

/// A server process at a port that stays the same over its restarts.
struct Replica {
    child: Child,
    port: u16,
}

impl Replica {
    /// Starts one at a free port, and waits until it listens.
    fn start(ground: &Ground, redis: &Redis) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Self::spawn(ground, redis, port);
        Self { child, port }
    }

    fn spawn(ground: &Ground, redis: &Redis, port: u16) -> Child {
        let mut child = bare()
            .env("DATABASE_URL", ground.url())
            .env("REDIS_URL", redis.url())
            .args(["serve", "--no-keys", "--listen"])
            .arg(format!("127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = lines.by_ref().map_while(Result::ok);
        let listens = listens.take(1000).any(|line| line.contains("listening"));
        assert!(listens, "it does not listen");
        // Nobody reads on, and a full pipe would stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        child
    }

    /// Kills it with -9, and starts it again at the same port.
    fn restart(&mut self, ground: &Ground, redis: &Redis) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(ground, redis, self.port);
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it has in memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// What a client is told: one field each, as the protocol has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
    retry: Option<String>,
    comment: bool,
}

impl Told {
    fn position(&self) -> i64 {
        self.id.as_ref().unwrap().parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.data.as_ref().unwrap()).unwrap()
    }
}

/// A stream of events, read as an `EventSource` reads it.
struct Reading {
    response: Response,
    text: String,
    told: VecDeque<Told>,
}

impl Reading {
    async fn open(client: &Client, url: &str, after: Option<i64>) -> Self {
        let response = Self::ask(client, url, after).await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        Self::of(response)
    }

    async fn ask(client: &Client, url: &str, after: Option<i64>) -> reqwest::Result<Response> {
        let mut request = client.get(url).header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        request.send().await
    }

    fn of(response: Response) -> Self {
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self {
            response,
            text: String::new(),
            told: VecDeque::new(),
        }
    }

    /// The next block of lines; none at the end; an error where the connection broke.
    async fn block(&mut self) -> reqwest::Result<Option<Told>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(Some(told));
            }
            let Some(chunk) = self.response.chunk().await? else {
                return Ok(None);
            };
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                self.told.push_back(parsed(&block));
            }
        }
    }

    /// The next event; none at the end.
    async fn event(&mut self) -> reqwest::Result<Option<Told>> {
        while let Some(told) = self.block().await? {
            if told.data.is_some() {
                return Ok(Some(told));
            }
        }
        Ok(None)
    }

    /// The next event, which must come.
    async fn must(&mut self) -> Told {
        let event = tokio::time::timeout(PATIENCE, self.event()).await;
        event.expect("in time").unwrap().expect("one more event")
    }

    /// All events up to the end, which must come.
    async fn rest(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        let read = async {
            while let Some(told) = self.event().await.unwrap() {
                all.push(told);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an end");
        all
    }
}

fn parsed(block: &str) -> Told {
    let mut told = Told::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = Some(value.strip_prefix(' ').unwrap_or(value).to_owned());
        match field {
            "id" => told.id = value,
            "event" => told.event = value,
            "data" => told.data = value,
            "retry" => told.retry = value,
            "" => told.comment = true,
            other => panic!("`{other}` is no field"),
        }
    }
    told
}

/// Writes events into the log as the sequencer does, of `bytes` each and without an effect.
async fn publish(ground: &Ground, batch: BatchId, count: usize, bytes: usize) {
    let sql = format!(
        "with cursor as (
             update event_cursor set last_position = last_position + {count}
             returning last_position - {count} as before
         )
         insert into event (position, organization_id, batch_id, type, payload, created_at)
         select before + number, '{}', '{}', 'BatchPaused',
                jsonb_build_object('type', 'BatchPaused', 'reason', repeat('x', {bytes})), clock_timestamp()
         from cursor, generate_series(1, {count}) as number;
         select pg_notify('graphmill_event', '')",
        OURS.uuid(),
        batch.uuid()
    );
    ground.execute(sql).await.unwrap();
}

/// The positions and names of a log, as a client that follows everything is told them.
fn whole(log: &[LoggedEvent]) -> Vec<(i64, String)> {
    log.iter()
        .map(|event| (event.position, event.kind.name().to_owned()))
        .collect()
}

/// A batch that nobody works.
async fn idle_batch(ground: &Ground, name: &str) -> BatchId {
    ground
        .submit(&new_batch(name), crate::support::documents(1))
        .await
}

/// A heartbeat must come within this.
const HEARTBEAT: Duration = Duration::from_secs(30);
