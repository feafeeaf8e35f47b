//! The queues against a real `redis-server`: what a ring becomes, and what Redis or a broken job can do to workers.

mod ending;
mod growing;
mod handing;
mod limits;
mod ringing;
mod speed;
mod trouble;

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use graphmill::{
    flow::Stage,
    queue::{Handler, Onward, Queue, Slots, Workers, WorkersConfig},
};
use graphmill_jobs::{OrganizationId, Ring, WorkerId, WorkflowExecutionId};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// A Redis of the test's own, on a socket in a directory of its own.
pub(crate) struct TestRedis {
    dir: TempDir,
    server: Child,
}

impl TestRedis {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Self::spawn(&dir);
        let redis = Self { dir, server };
        redis.answers().await;
        redis
    }

    fn spawn(dir: &TempDir) -> Child {
        Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocket",
            ])
            .arg(dir.path().join("redis.sock"))
            .arg("--dir")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "redis+unix://{}",
            self.dir.path().join("redis.sock").display()
        )
    }

    async fn answers(&self) {
        until("redis answers", async || {
            let client = redis::Client::open(self.url()).unwrap();
            client.get_multiplexed_async_connection().await.is_ok()
        })
        .await;
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.server = Self::spawn(&self.dir);
        self.answers().await;
    }

    fn signal(&self, name: &str) {
        let id = self.server.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Everything in Redis but who works there and which incarnation it is.
    async fn leftovers(&self) -> Vec<String> {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut self.raw().await)
            .await
            .unwrap();
        keys.into_iter()
            .filter(|key| {
                !key.contains(":workers")
                    && key != "core:apalis:queues:list"
                    && key != "graphmill:sentinel"
            })
            .collect()
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "waited in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A handler that counts, and that waits at a gate if it is told to.
#[derive(Default)]
struct Probe {
    seen: Mutex<HashMap<(Stage, String, i64), usize>>,
    begun: AtomicUsize,
    ended: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    gate: Option<Semaphore>,
    panics: bool,
}

impl Probe {
    fn gated() -> Self {
        Self {
            gate: Some(Semaphore::new(0)),
            ..Self::default()
        }
    }

    fn open(&self, times: usize) {
        self.gate.as_ref().unwrap().add_permits(times);
    }

    fn times(&self, stage: Stage, ring: &Ring) -> usize {
        let key = (stage, ring.execution.to_string(), ring.epoch);
        self.seen.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    async fn ended(&self, wanted: usize) {
        until(&format!("{wanted} have ended"), async || {
            self.ended.load(Ordering::SeqCst) >= wanted
        })
        .await;
    }

    async fn running(&self, wanted: usize) {
        until(&format!("{wanted} are running"), async || {
            self.running.load(Ordering::SeqCst) >= wanted
        })
        .await;
    }
}

#[async_trait]
impl Handler for Probe {
    async fn handle(&self, stage: Stage, ring: Ring, _: &Onward) {
        let key = (stage, ring.execution.to_string(), ring.epoch);
        *self.seen.lock().unwrap().entry(key).or_default() += 1;
        self.begun.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "the handler of this test panics");
    }
}

fn ring(epoch: i64) -> Ring {
    Ring {
        execution: WorkflowExecutionId::generate(),
        organization: OrganizationId::DEFAULT,
        epoch,
        version: 1,
        traceparent: None,
    }
}

fn rings(count: usize) -> Vec<Ring> {
    (0..count).map(|_| ring(0)).collect()
}

fn work(queue: &Queue, slots: Slots, probe: &Arc<Probe>) -> Workers {
    let config = WorkersConfig::new(WorkerId::generate(), slots);
    Workers::start(queue, config, Arc::clone(probe) as Arc<dyn Handler>)
}

const WINDOW: usize = 10_000;
const SECONDS: Duration = Duration::from_secs(20);
