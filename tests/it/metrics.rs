//! Metrics, scraped from real processes with a strict reader: what they say is what the tables say, every name that the
//! dashboard and the alerts ask for is there and documented, and no label is an id.

#![allow(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "counts are whole numbers, and small ones"
)]

mod alone;
mod counted;
mod page;
mod queries;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use reqwest::Client;

use self::page::Page;
use crate::support::{Ground, Redis, bare, say};

/// A process with a listener for metrics.
struct Process {
    child: Child,
    metrics: String,
    /// Where it serves the API, if it does.
    api: Option<String>,
}

impl Process {
    /// Starts it, and waits until its listeners are there.
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["--metrics", "127.0.0.1:0", "--log", "graphmill=info"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut metrics, mut api) = (None, None);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            let address = address(&line);
            if line.contains("metrics are served") {
                metrics = address;
                break;
            } else if line.contains("listening") {
                api = address;
            }
        }
        // Nobody reads on, and a full pipe would stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            metrics: metrics.expect("it serves metrics"),
            api,
        }
    }

    /// What it says of itself, read strictly.
    async fn scrape(&self) -> Page {
        let url = format!("http://{}/metrics", self.metrics);
        let answer = client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let form = answer.headers()["content-type"].to_str().unwrap();
        assert!(
            form.starts_with("application/openmetrics-text; version=1.0.0"),
            "{form}"
        );
        Page::read(&answer.text().await.unwrap())
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line of the log, whose fields' names may have escape codes in them.
fn address(line: &str) -> Option<String> {
    let rest = &line[line.find("127.0.0.1:")?..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// The binary on these servers.
fn binary(ground: &Ground, redis: &Redis) -> Command {
    let mut command = bare();
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    command
        .env("DATABASE_URL", ground.url())
        .env("REDIS_URL", redis.url());
    command
}

/// What starts a worker with a short lease.
fn worker(ground: &Ground, redis: &Redis) -> Command {
    let mut command = binary(ground, redis);
    command
        .args(["worker", "--lease", "3s", "--stager-period", "20ms"])
        .args(["--sweeper-period", "100ms"]);
    command
}

/// A file of the repository.
fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_page_of_the_metrics_is_the_one_that_the_code_makes() {
    let wanted = say(bare().args(["docs", "metrics"])).exits(0).stdout;
    assert!(
        file("docs/METRICS.md") == wanted,
        "docs/METRICS.md is not what the code says; this writes it: \
         cargo run --locked -- docs metrics > docs/METRICS.md"
    );
}
