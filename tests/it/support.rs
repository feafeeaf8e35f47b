//! What the tests stand on: a database and a Redis of their own, without anything to set up and nothing of the
//! environment's `DATABASE_URL` or `REDIS_URL`.
//!
//! One private Postgres per test process, started by the first test that asks; a database per test, cloned from a
//! template; a Redis per test that asks. The servers die with the process. Their folders stay until the next run.

#![allow(dead_code, reason = "not every helper has its user yet")]

mod collector;
mod database;
mod drill;
/// The harness compares graphs in the same way.
#[path = "../../examples/chaos/graph.rs"]
mod graph;
mod graphmill;
mod ground;
mod model_server;
mod process;
mod redis;
mod settled;

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, thread};

use ::graphmill::servers::{Durability, Settings};

pub(crate) use self::graphmill::{Said, bare, command, examples, migrated, say};
pub(crate) use collector::{Collector, Seen};
pub(crate) use database::{Database, MAX_CONNECTIONS, template};
pub(crate) use drill::{Drill, Scripted, quick};
pub(crate) use graph::without_ids;
pub(crate) use ground::{
    BUDGETS_THAT_ARE_WRONG, Ground, OURS, documents, new_batch, poll, refusal, texts,
};
pub(crate) use model_server::{ModelProcess, ModelServer, bill};
pub(crate) use process::{Keeper, example, is_running, keep};
pub(crate) use redis::Redis;
pub(crate) use settled::completed;

/// Room that a folder in memory must have, in bytes.
const ROOM: u64 = 1 << 30;

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Settings for throw-away servers in a fresh folder of this process, with the binaries that `./do setup` left.
pub(crate) fn settings(name: &str) -> Settings {
    #[expect(clippy::disallowed_methods, reason = "the tests have no config room")]
    let env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    Settings {
        durability: Durability::Test,
        pg_bin: env("GRAPHMILL_PG_BIN").map(PathBuf::from),
        redis_server: env("GRAPHMILL_REDIS_SERVER").map(PathBuf::from),
        library_path: env("GRAPHMILL_LIBRARY_PATH"),
        search_path: env("PATH"),
        ..Settings::new(folder(name))
    }
}

/// An empty folder of this process: in memory where there is room, else in `target`.
pub(crate) fn folder(name: &str) -> PathBuf {
    let in_memory = rustix::fs::statvfs("/dev/shm")
        .is_ok_and(|shm| shm.f_bavail.saturating_mul(shm.f_frsize) >= ROOM);
    let base = if in_memory {
        "/dev/shm"
    } else {
        env!("CARGO_TARGET_TMPDIR")
    };
    let user = rustix::process::geteuid().as_raw();
    let prefix = format!("graphmill-it-{user}-");
    remove_folders_of_the_dead(base, &prefix);
    let folder = PathBuf::from(base)
        .join(format!("{prefix}{}", std::process::id()))
        .join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn remove_folders_of_the_dead(base: &str, prefix: &str) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(prefix).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !is_running(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Waits until `look` says yes; panics with `what` when it never does.
pub(crate) async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !look().await {
        assert!(begin.elapsed() < 2 * PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `look` finds something; panics with `what` when it never does.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
