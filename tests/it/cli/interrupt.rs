//! Ctrl-C and SIGTERM in the middle of a run, and going on afterwards.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{assert_report, many, number};
use crate::support::{self, Database, Redis, Said, say, wait_for};

/// A run that is under way.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    heard: String,
}

impl Running {
    /// Starts a run, and waits until some of its documents are completed and many are not.
    fn start(database: &Database, redis: &Redis, path: &std::path::Path, name: &str) -> Self {
        let mut child = support::command(database, redis)
            .args(["run", "--json", "--name", name])
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut running = Self {
            child,
            stderr,
            heard: String::new(),
        };
        running.hear("batch batch_");
        wait_for("a document that is completed", || {
            let list =
                say(support::command(database, redis).args(["batch", "show", name, "--json"]));
            (number(&list.json()["documents"]["completed"]) > 0).then_some(())
        });
        running
    }

    /// Reads stderr up to a line that contains `wanted`.
    fn hear(&mut self, wanted: &str) {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(
                self.stderr.read_line(&mut line).unwrap() > 0,
                "{}",
                self.heard
            );
            self.heard.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> Said {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let mut said = Said::from(self.child.wait_with_output().unwrap());
        said.stderr = self.heard + &rest;
        said
    }
}

fn resume(database: &Database, redis: &Redis, arguments: &[&str]) -> Value {
    let said = say(support::command(database, redis)
        .args(["run", "--json", "--resume"])
        .args(arguments))
    .exits(0);
    let report = said.json();
    assert_report(&report);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_how_to_go_on_and_does() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let documents = many("cli-interrupt", 200);
    let mut made = 0;
    for (name, signal) in [("int", Signal::INT), ("term", Signal::TERM)] {
        let running = Running::start(&database, &redis, &documents, name);
        running.signal(signal);
        let said = running.end().exits(130);
        let report = said.json();
        let batch = report["batch_id"].as_str().unwrap();
        let hint = format!("interrupted; go on with: graphmill run --resume {batch}\n");
        assert!(said.stderr.ends_with(&hint), "{said:#?}");
        let arguments: &[&str] = if name == "int" { &[] } else { &[batch] };
        let report = resume(&database, &redis, arguments);
        assert_eq!(report["batch_id"], batch);
        assert_eq!(report["documents"]["completed"], 200);
        assert!(number(&report["calls"]["reused"]) > 0, "{report}");
        made = number(&report["calls"]["made"]) + number(&report["calls"]["reused"]);
        let again = resume(&database, &redis, &[batch]);
        assert_eq!(
            again["calls"],
            serde_json::json!({ "made": 0, "reused": made })
        );
        assert_eq!(again["duration_ms"], report["duration_ms"]);
    }
    assert!(made >= 400, "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_stops_hard_and_nothing_is_lost() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let documents = many("cli-hard", 200);
    let mut running = Running::start(&database, &redis, &documents, "hard");
    running.signal(Signal::INT);
    running.hear("draining");
    running.signal(Signal::INT);
    let said = running.end().exits(130);
    assert!(
        said.stderr
            .contains("go on with: graphmill run --resume batch_"),
        "{said:#?}"
    );
    let report = resume(&database, &redis, &["hard"]);
    assert_eq!(report["documents"]["completed"], 200);
}
