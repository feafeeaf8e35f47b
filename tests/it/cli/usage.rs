//! Wrong usage and servers that are not there: one clear line, the right exit code, and no long wait.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{self, Database, Redis, bare, examples, say};

#[test]
fn a_wrong_value_is_answered_with_the_right_ones() {
    for (arguments, wanted) in [
        (["--concurrency", "0"], "1..=10000"),
        (
            ["--failure-policy", "x"],
            "continue-on-failure, abort-all, retry-failed",
        ),
        (["--extractor", "x"], "choose from local"),
        (["--partial", "x"], "allow, fail"),
        (["--export", "x:y"], "use `json`, `csv`, `turtle`"),
        (["--export", "json"], "FORMAT:PATH"),
        (
            ["--export", "json:/nonexistent/x"],
            "`/nonexistent/x` can't be written",
        ),
        (["--name", ""], "1 to 200 characters"),
        (["--max-retries", "101"], "0..=100"),
    ] {
        let said = say(bare().arg("run").arg(examples("documents")).args(arguments)).exits(2);
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(said.stdout, "");
    }
}

#[test]
fn a_path_without_documents_is_refused_before_a_server_is_started() {
    let empty = support::folder("cli-empty");
    for (path, wanted) in [
        ("/nonexistent", "does not exist"),
        (empty.to_str().unwrap(), "holds no documents"),
    ] {
        for command in ["run", "extract"] {
            let said = say(bare().args([command, path]).current_dir(&empty)).exits(2);
            assert!(said.stderr.contains(wanted), "{said:#?}");
        }
    }
    let said = say(bare().arg("run").current_dir(&empty)).exits(2);
    assert!(said.stderr.contains("no PATH"), "{said:#?}");
    assert!(!empty.join(".graphmill").exists());
}

#[test]
fn an_unreachable_server_is_one_line_at_once() {
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let redis = Redis::start();
    for (database_url, redis_url, wanted) in [
        (
            "postgres://x@127.0.0.1:1/x".to_owned(),
            redis.url().to_owned(),
            "Postgres can't be reached",
        ),
        (
            format!("postgres://x@{silent}/x"),
            redis.url().to_owned(),
            "no answer within 4 s",
        ),
        (
            "nonsense".to_owned(),
            redis.url().to_owned(),
            "DATABASE_URL is not an address",
        ),
    ] {
        let begun = Instant::now();
        let said = say(bare()
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", redis_url)
            .args(["run", "--json"])
            .arg(examples("documents")))
        .exits(3);
        assert!(begun.elapsed() < Duration::from_secs(8), "{said:#?}");
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(
            (said.stderr.lines().count(), said.stdout.as_str()),
            (1, ""),
            "{said:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_no_batch_is_left_behind() {
    let database = support::migrated().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    for (url, wanted) in [
        (
            "redis://127.0.0.1:1".to_owned(),
            "connecting to Redis failed",
        ),
        (format!("redis://{silent}"), "connecting to Redis failed"),
        ("nonsense".to_owned(), "is not an address of Redis"),
    ] {
        let begun = Instant::now();
        let mut command = bare();
        command
            .env("DATABASE_URL", database.url())
            .env("REDIS_URL", url);
        let said = say(command.arg("run").arg(examples("documents"))).exits(3);
        assert!(begun.elapsed() < Duration::from_secs(8), "{said:#?}");
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    }
    let redis = Redis::start();
    let said = say(support::command(&database, &redis).args(["batch", "list", "--json"])).exits(0);
    assert_eq!(said.stdout, "[]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_schema_says_migrate() {
    let database = Database::create().await;
    let redis = Redis::start();
    let command = || support::command(&database, &redis);
    let said = say(command().arg("run").arg(examples("documents"))).exits(3);
    assert!(said.stderr.contains("run `graphmill migrate`"), "{said:#?}");
    let said = say(command().arg("doctor")).exits(3);
    assert!(said.stdout.contains("→ graphmill migrate"), "{said:#?}");
    let said = say(command().arg("migrate")).exits(0);
    assert!(
        said.stderr.contains("migrated the schema from version 0"),
        "{said:#?}"
    );
    let said = say(command().arg("migrate")).exits(0);
    assert_eq!(said.stderr, "the schema is up to date\n");
    let said = say(command().args(["batch", "list"])).exits(0);
    assert_eq!(said.stdout, "no batches yet: graphmill run PATH\n");
    let said = say(command().args(["run", "--resume"])).exits(2);
    assert!(
        said.stderr.contains("there is no batch to go on with"),
        "{said:#?}"
    );
    let doctor = say(command().args(["doctor", "--json"])).json();
    let failing: Vec<_> = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .filter(|check| check["check"] != "durability" && check["check"] != "connections")
        .collect();
    assert!(failing.is_empty(), "{failing:?}");
}

#[test]
fn missing_binaries_are_one_line_with_the_remedy() {
    let folder = support::folder("cli-missing");
    let missing = |arguments: &[&str]| {
        say(bare()
            .args(arguments)
            .current_dir(&folder)
            .env("PATH", "/nonexistent")
            .env("GRAPHMILL_REDIS_SERVER", "/nonexistent"))
        .exits(3)
    };
    let said = missing(&["batch", "list"]);
    assert!(said.stderr.contains("./do setup"), "{said:#?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:#?}");
    let said = missing(&["doctor"]);
    assert!(said.stdout.contains("FAIL servers"), "{said:#?}");
    let said = say(bare().args(["--no-embedded", "batch", "list"])).exits(3);
    assert!(said.stderr.contains("DATABASE_URL is not set"), "{said:#?}");
}
