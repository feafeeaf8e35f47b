//! `run`, `batch` and `export` on documents good and bad.

use std::process::Stdio;

use serde_json::Value;

use super::{REPORT, assert_keys, assert_report, number};
use crate::support::{self, Redis, examples, say};

#[tokio::test(flavor = "multi_thread")]
async fn broken_documents_are_refused_by_name_and_the_others_go_on() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let broken = examples("broken");
    let said = say(command()
        .args(["run", "--json", "--name", "broken"])
        .args([&broken, &broken.join("broken-line.jsonl")]))
    .exits(1);
    let report = said.json();
    assert_report(&report);
    let batch = report["batch_id"].as_str().unwrap();
    assert!(
        said.stderr.contains(&format!("batch {batch} (broken)")),
        "{said:#?}"
    );
    let code = |name: &str| {
        let failures = report["failures"].as_array().unwrap();
        let failure = failures
            .iter()
            .find(|failure| failure["document"].as_str().unwrap().ends_with(name));
        failure.unwrap_or_else(|| panic!("{name}: {report}"))["code"].clone()
    };
    for (name, wanted) in [
        ("binary.txt", "binary"),
        ("empty.txt", "empty"),
        ("whitespace.txt", "empty"),
        ("not-utf8.txt", "not_utf8"),
        ("duplicate-b.txt", "duplicate"),
        ("broken-line.jsonl:2", "broken_line"),
        ("broken-line.jsonl:4", "broken_line"),
    ] {
        assert_eq!(code(name), wanted, "{name}");
    }
    assert_eq!(report["documents"]["refused"], 6);
    assert_eq!(report["documents"]["duplicate"], 1);
    assert_eq!(report["documents"]["completed"], 5);

    let listed = say(command().args(["batch", "list", "--json"]))
        .exits(0)
        .json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_keys(&listed[0], &REPORT);
    assert_eq!(listed[0]["documents"], report["documents"]);
    let shown = say(command().args(["batch", "show", "broken", "--json"]))
        .exits(0)
        .json();
    assert_keys(
        &shown,
        &[
            &REPORT[..],
            &[
                "generation",
                "paused",
                "failed_units",
                "stage",
                "progress",
                "webhook",
                "executions",
            ],
        ]
        .concat(),
    );
    assert_eq!(shown["batch_id"], batch);

    let said = say(command().args(["run", "--name", "broken"]).arg(&broken)).exits(2);
    assert!(said.stderr.contains("--resume broken"), "{said:#?}");
    assert_eq!(said.stdout, "");
    let said = say(command().args(["batch", "show", "nope"])).exits(2);
    assert!(
        said.stderr.contains("there is no batch `nope`"),
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_usable_is_wrong_usage_and_duplicates_alone_are_fine() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let run = || {
        let mut command = support::command(&database, &redis);
        command.args(["run", "--json"]);
        command
    };
    let broken = examples("broken");
    let said = say(run().args([broken.join("empty.txt"), broken.join("binary.txt")])).exits(2);
    assert_report(&said.json());
    let said = say(run().args([
        broken.join("duplicate-a.txt"),
        broken.join("duplicate-b.txt"),
    ]));
    let report = said.exits(0).json();
    assert_report(&report);
    assert_eq!(report["documents"]["duplicate"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_its_shape_in_both_places() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let file = support::folder("cli-export").join("graph.json");
    let run = say(command()
        .args([
            "run",
            "--name",
            "n",
            "--export",
            &format!("json:{}", file.display()),
        ])
        .arg(examples("broken").join("good.txt")))
    .exits(0);
    assert!(run.stdout.contains("n: completed"), "{run:#?}");
    let export: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_keys(
        &export,
        &[
            "batch_id",
            "documents",
            "entities",
            "relations",
            "clusters",
            "same_as",
        ],
    );
    let first = |list: &str| &export[list][0];
    assert_keys(
        first("documents"),
        &["id", "document_id", "state", "partial", "text_sha256"],
    );
    assert_keys(
        first("entities"),
        &["id", "document", "name", "type", "mentions"],
    );
    let mention = &export["entities"][0]["mentions"][0];
    assert_keys(mention, &["start", "end", "text", "type", "confidence"]);
    let relation = [
        "id",
        "document",
        "subject",
        "predicate",
        "object",
        "confidence",
        "evidence",
    ];
    assert_keys(first("relations"), &relation);
    assert_keys(
        &export["relations"][0]["evidence"][0],
        &["start", "end", "text"],
    );
    assert_keys(first("clusters"), &["id", "name", "type", "members"]);
    let link = [
        "id",
        "left",
        "left_name",
        "left_cluster",
        "right",
        "right_name",
        "right_cluster",
        "score",
        "reason",
        "status",
    ];
    // Which of two classes Fortran has is for people to say.
    assert_keys(first("same_as"), &link);

    let again = say(command().args(["export", "n"])).exits(0).json();
    assert_eq!(again, export);
    std::fs::remove_file(&file).unwrap();
    let to_file = say(command().args(["export", "n", "--output"]).arg(&file)).exits(0);
    assert_eq!(to_file.stdout, "");
    assert!(file.exists() && !file.with_extension("json.partial").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_written_to_and_never_replaced() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let folder = support::folder("cli-device");
    // Links, so that a mistake would cost no more than them.
    let link = |name: &str| {
        let link = folder.join(name);
        std::os::unix::fs::symlink(format!("/dev/{name}"), &link).unwrap();
        link
    };
    let (null, full) = (link("null"), link("full"));
    say(command()
        .args([
            "run",
            "--name",
            "n",
            "--export",
            &format!("json:{}", null.display()),
        ])
        .arg(examples("broken").join("good.txt")))
    .exits(0);
    let said = say(command().args(["export", "n", "--output"]).arg(&full)).exits(2);
    assert!(said.stderr.contains("can't be written"), "{said:#?}");
    assert!(null.is_symlink() && full.is_symlink());
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for arguments in [&["export", "n"][..], &["batch", "list"]] {
        let done = command()
            .args(arguments)
            .stdout(full())
            .stderr(Stdio::piped())
            .output();
        let said = support::Said::from(done.unwrap()).exits(2);
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    let said = say(command().args(["export", "n", "--output", "/nonexistent/x"])).exits(2);
    assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_not_an_error() {
    let (database, redis) = (support::migrated().await, Redis::start());
    for json in [None, Some("--json")] {
        let mut child = support::command(&database, &redis)
            .arg("run")
            .args(json)
            .arg(examples("broken").join("good.txt"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let said = support::Said::from(child.wait_with_output().unwrap()).exits(0);
        assert!(!said.stderr.contains("graphmill:"), "{said:#?}");
    }
    let report = say(support::command(&database, &redis).args(["batch", "list", "--json"])).json();
    assert_eq!(report.as_array().map(Vec::len), Some(2));
    assert!(
        report
            .as_array()
            .unwrap()
            .iter()
            .all(|batch| number(&batch["entities"]) > 0)
    );
}
