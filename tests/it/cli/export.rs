//! `export` to files, folders and pipes: whole or not at all, the same twice, and nothing of others is replaced.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::support::{self, Database, Redis, bare, examples, say};

const FORMATS: [&str; 6] = ["json", "csv", "turtle", "json-ld", "graphml", "cypher"];
const TABLES: [&str; 8] = [
    "clusters.csv",
    "documents.csv",
    "entities.csv",
    "evidence.csv",
    "members.csv",
    "mentions.csv",
    "relations.csv",
    "same_as.csv",
];

/// A batch `n` of one document.
async fn batch() -> (Database, Redis) {
    let (database, redis) = (support::migrated().await, Redis::start());
    let good = examples("broken").join("good.txt");
    say(support::command(&database, &redis)
        .args(["run", "--name", "n"])
        .arg(good))
    .exits(0);
    (database, redis)
}

/// What is in a folder, by name.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every byte of a file, or of a folder's files.
fn bytes(path: &Path) -> Vec<Vec<u8>> {
    if path.is_dir() {
        let files = listed(path).into_iter().map(|name| path.join(name));
        return files.map(|file| fs::read(file).unwrap()).collect();
    }
    vec![fs::read(path).unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_the_same_twice_and_whole_in_its_place() {
    let (database, redis) = batch().await;
    let command = || support::command(&database, &redis);
    let folder = support::folder("cli-export-formats");
    let export = |format: &str, path: &Path| {
        say(command()
            .args(["export", "n", "--format", format, "--output"])
            .arg(path))
    };
    let json: Value = say(command().args(["export", "n"])).exits(0).json();
    let count = |list: &str| json[list].as_array().unwrap().len();
    for format in FORMATS {
        let (first, second) = (folder.join(format), folder.join(format!("{format}-2/")));
        // A trailing slash is no part of a name.
        let second = if format == "csv" {
            second
        } else {
            folder.join(format!("{format}-2"))
        };
        for path in [&first, &second, &first] {
            let said = export(format, path).exits(0);
            assert_eq!((&*said.stdout, &*said.stderr), ("", ""));
        }
        assert_eq!(bytes(&first), bytes(&second), "{format}");
        if format != "csv" {
            let said = say(command().args(["export", "n", "--format", format])).exits(0);
            assert_eq!(vec![said.stdout.into_bytes()], bytes(&first), "{format}");
        }
    }
    assert_eq!(listed(&folder.join("csv")), TABLES);
    let rows = |table: &str| {
        let mut reader = csv::Reader::from_path(folder.join("csv").join(table)).unwrap();
        reader.records().map(Result::unwrap).count()
    };
    for list in ["documents", "entities", "relations", "clusters"] {
        assert_eq!(rows(&format!("{list}.csv")), count(list), "{list}");
    }
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (turtle, graphml) = (text("turtle"), text("graphml"));
    assert_eq!(
        turtle.matches(" a rdf:Statement").count(),
        count("relations")
    );
    assert_eq!(turtle.matches(" a gm:Entity").count(), count("entities"));
    let nodes = count("documents") + count("entities") + count("clusters");
    assert_eq!(graphml.matches("<node ").count(), nodes);
    let left: Vec<String> = listed(&folder)
        .into_iter()
        .filter(|name| name.contains(".partial") || name.contains(".replaced"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_others_is_never_touched() {
    let (database, redis) = batch().await;
    let folder = support::folder("cli-export-folder");
    let export = |path: &Path| {
        let mut command = support::command(&database, &redis);
        command.args(["export", "n", "--format", "csv", "--output"]);
        say(command.arg(path).current_dir(&folder))
    };
    let refused = |path: &Path, wanted: &str| {
        let said = export(path).exits(2);
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    };
    let mine = folder.join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("thesis.md"), "years of work").unwrap();
    fs::write(mine.join("entities.csv"), "mine").unwrap();
    refused(&mine, "there is something else");
    assert_eq!(listed(&mine), ["entities.csv", "thesis.md"]);
    assert_eq!(
        fs::read_to_string(mine.join("entities.csv")).unwrap(),
        "mine"
    );
    refused(&mine.join("thesis.md"), "there is something else");
    for path in [".", "..", "/"] {
        let said = export(Path::new(path)).exits(2);
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    refused(Path::new("/dev/null"), "there is something else");
    refused(Path::new("/nonexistent/x"), "can't be written");
    assert_eq!(listed(&folder), ["mine"]);

    // What a killed export left is not in the way; an empty folder is a place; a link leads to its folder.
    let (out, real) = (folder.join("out"), folder.join("real"));
    let left = folder.join("out.partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("entities.csv"), "half").unwrap();
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, folder.join("link")).unwrap();
    export(&out).exits(0);
    export(&folder.join("link")).exits(0);
    assert_eq!(listed(&folder), ["link", "mine", "out", "real"]);
    assert!(folder.join("link").is_symlink());
    assert_eq!(listed(&real), TABLES);
    assert_eq!(bytes(&out), bytes(&real));
    // Somebody's notes in what is left of one are not swept away with it.
    fs::create_dir(&left).unwrap();
    fs::write(left.join("notes"), "mine").unwrap();
    refused(&out, "can't be written");
    assert_eq!(listed(&left), ["notes"]);
    assert_eq!(bytes(&out), bytes(&real));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_closed_pipe_are_as_ever() {
    let (database, redis) = batch().await;
    let command = || support::command(&database, &redis);
    for format in FORMATS.into_iter().filter(|format| *format != "csv") {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let done = command()
            .args(["export", "n", "--format", format])
            .stdout(full)
            .stderr(Stdio::piped())
            .output();
        let said = support::Said::from(done.unwrap()).exits(2);
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
        let mut child = command()
            .args(["export", "n", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let said = support::Said::from(child.wait_with_output().unwrap()).exits(0);
        assert_eq!(said.stderr, "", "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_exports_to_a_folder_and_iris_begin_with_a_base() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let folder: PathBuf = support::folder("cli-export-run").join("tables");
    say(command()
        .args(["run", "--name", "n", "--export"])
        .arg(format!("csv:{}", folder.display()))
        .arg(examples("broken").join("good.txt")))
    .exits(0);
    assert_eq!(listed(&folder), TABLES);
    let said = say(command().args([
        "export",
        "n",
        "--format",
        "turtle",
        "--base-iri",
        "https://x.org/kg/",
    ]))
    .exits(0);
    assert!(
        said.stdout.contains("@prefix id: <https://x.org/kg/> ."),
        "{said:#?}"
    );
    assert!(
        said.stdout
            .contains("@prefix class: <https://x.org/kg/class/> .")
    );
}

#[test]
fn what_makes_no_sense_is_said_before_a_server_is_started() {
    let folder = support::folder("cli-export-usage");
    for (arguments, wanted) in [
        (&["--format", "csv"][..], "say where with --output FOLDER"),
        (&["--base-iri", "https://x.org/"], "json has no IRIs"),
        (
            &["--format", "turtle", "--base-iri", "x"],
            "is no IRI that begins with",
        ),
        (
            &["--format", "turtle", "--base-iri", "https://x.org"],
            "does not end in",
        ),
        (
            &["--format", "xml"],
            "use `json`, `csv`, `turtle`, `json-ld`, `graphml` or `cypher`",
        ),
        (
            &["--output", "/nonexistent/x"],
            "`/nonexistent/x` can't be written",
        ),
    ] {
        let said = say(bare()
            .args(["export", "n"])
            .args(arguments)
            .current_dir(&folder))
        .exits(2);
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(said.stdout, "");
    }
    assert!(listed(&folder).is_empty(), "no servers were started");
}
