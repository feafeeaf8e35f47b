//! Producers: what they push is taken in by real workers, once, whatever is pushed again, refused or killed in between.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use graphmill_jobs::{Addition, Client, Document, Receipt, Seal, Submission, Ticket};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::{
    api::{Process, new_key, serving},
    support::{self, Database, PATIENCE, Redis, command, eventually, example, say},
};

const DATA: &str = "graphmill:submit:data";
const ACTIVE: &str = "graphmill:submit:active";
/// A word that stands in texts alone, so that it must not be found in any error or log.
const SECRET: &str = "Zanzibar";

/// Servers, a key, and whatever processes a test starts on them.
struct Scene {
    database: Database,
    redis: Redis,
    key: String,
    connection: MultiplexedConnection,
}

impl Scene {
    async fn new() -> Self {
        let (database, redis) = (support::migrated().await, Redis::start());
        let key = new_key(&database, &redis, &["--scope", "write"]);
        // Whoever waits for a receipt may wait for long.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let server = redis::Client::open(redis.url()).unwrap();
        let connection = server
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap();
        Self {
            database,
            redis,
            key,
            connection,
        }
    }

    fn worker(&self) -> Process {
        let arguments = ["worker", "--lease", "3s"];
        Process::start(&arguments, &self.database, &self.redis)
    }

    async fn client(&self) -> Client {
        Client::connect(self.redis.url(), &self.key).await.unwrap()
    }

    async fn redis<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut asked = redis::cmd(command[0]);
        for argument in &command[1..] {
            asked.arg(argument);
        }
        asked
            .query_async(&mut self.connection.clone())
            .await
            .unwrap()
    }

    /// Pushes a payload as a producer does.
    async fn push(&self, payload: impl AsRef<[u8]>) -> Ticket {
        let id = format!("submit:{}", uuid::Uuid::new_v4().simple());
        let () = redis::pipe()
            .atomic()
            .hset(DATA, &id, payload.as_ref())
            .rpush(ACTIVE, &id)
            .publish("tasks:graphmill:submit:active:available", &id)
            .exec_async(&mut self.connection.clone())
            .await
            .unwrap();
        Ticket { id }
    }

    /// What a payload's producer is told, as it is written.
    async fn told(&self, payload: impl AsRef<[u8]>) -> Value {
        let id = self.push(payload).await.id;
        let list = format!("graphmill:submit:receipt:{id}");
        let told: Option<(String, String)> = self.redis(&["BLPOP", &list, "60"]).await;
        serde_json::from_str(&told.expect("a receipt").1).unwrap()
    }

    /// An envelope with this scene's key.
    fn envelope(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut envelope = json!({"v": 1, "api_key": self.key, "key": "k"});
        change(&mut envelope);
        envelope.to_string()
    }

    async fn number(&self, sql: impl Into<String>) -> i64 {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        let row = sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        row.get(0)
    }

    async fn until(&self, what: &str, sql: &str, wanted: i64) {
        eventually(what, async || self.number(sql).await >= wanted).await;
    }

    /// A producer of the examples.
    fn producer(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .env("REDIS_URL", self.redis.url())
            .env("GRAPHMILL_API_KEY", &self.key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Nothing of what was submitted is in Redis any more, nor anybody's key.
    async fn assert_nothing_left(&self) {
        eventually("the queue is empty", async || {
            let left: (i64, i64, i64, i64) = (
                self.redis(&["HLEN", DATA]).await,
                self.redis(&["LLEN", ACTIVE]).await,
                self.redis(&["ZCARD", "graphmill:submit:taken"]).await,
                self.redis(&["ZCARD", "graphmill:submit:scheduled"]).await,
            );
            left == (0, 0, 0, 0)
        })
        .await;
        let secret = &self.key[16..40];
        for key in self
            .redis::<Vec<String>>(&["KEYS", "graphmill:submit:*"])
            .await
        {
            let kind: String = self.redis(&["TYPE", &key]).await;
            let held: Vec<String> = match kind.as_str() {
                "list" => self.redis(&["LRANGE", &key, "0", "-1"]).await,
                "hash" => self.redis(&["HGETALL", &key]).await,
                other => panic!("{key} is a {other}"),
            };
            assert!(!held.iter().any(|held| held.contains(secret)), "{key}");
        }
        let aside: Vec<String> = self
            .redis(&["LRANGE", "graphmill:set-aside", "0", "-1"])
            .await;
        assert!(!aside.iter().any(|held| held.contains(secret)), "{aside:?}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has redis-py: the system's, whichever others there are.
fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(root().join("examples/producers/submit.py"));
    command
}

/// Documents of some words each, one a line.
fn lines(folder: &str, count: usize) -> PathBuf {
    let path = support::folder(folder).join("documents.jsonl");
    let lines: Vec<String> = (0..count)
        .map(|i| {
            let text = format!("Ada Lovelace sent letter {i} to Charles Babbage in London.");
            json!({"id": format!("letter {i}"), "text": text}).to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

#[track_caller]
fn succeeded(output: Output) -> String {
    let (stdout, stderr) = (output.stdout, output.stderr);
    let said = String::from_utf8(stdout).unwrap();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&stderr)
    );
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_documents_from_python_redelivered_and_partly_duplicated_are_each_processed_once()
 {
    let scene = Scene::new().await;
    let file = lines("producers-1000", 1000);
    let arguments = ["letters", file.to_str().unwrap(), "240"];
    let first = scene.producer(python(), &arguments).spawn().unwrap();
    eventually("all is pushed", async || {
        scene.redis::<i64>(&["HLEN", DATA]).await == 1001
    })
    .await;

    // Every third envelope is pushed again as another push, and every fifth id a second time.
    let envelopes: Vec<(String, Vec<u8>)> = redis::cmd("HGETALL")
        .arg(DATA)
        .query_async(&mut scene.connection.clone())
        .await
        .unwrap();
    for (i, (id, payload)) in envelopes.iter().enumerate() {
        if i % 3 == 0 {
            scene.push(payload).await;
        }
        if i % 5 == 0 {
            let _: i64 = scene.redis(&["LPUSH", ACTIVE, id]).await;
        }
    }
    // One worker is killed in the midst of it, with whatever it has taken.
    let mut doomed = scene.worker();
    let worker = scene.worker();
    scene
        .until("some are there", "select count(*) from document", 100)
        .await;
    doomed.child.kill().unwrap();
    let said = succeeded(first.wait_with_output().unwrap());
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["durable"], 1001, "{said}");

    // And all of it once more, by a producer that knows nothing of the first.
    let again = scene.producer(python(), &arguments).output().unwrap();
    let again: Value = serde_json::from_str(&succeeded(again)).unwrap();
    assert_eq!(again["again"], 1001, "{again}");
    assert_eq!(again["batch_id"], said["batch_id"]);

    scene
        .until(
            "the batch has ended",
            "select count(*) from batch where state = 'Completed'",
            1,
        )
        .await;
    for (what, sql) in [
        (
            "documents",
            "select count(*) from document where refusal is null",
        ),
        (
            "names of them",
            "select count(distinct external_id) from document",
        ),
        (
            "executions",
            "select count(*) from workflow_execution where workflow_type = 'extraction'",
        ),
        (
            "completed",
            "select count(*) from workflow_execution where workflow_type = 'extraction' and status = 'completed'",
        ),
    ] {
        assert_eq!(scene.number(sql).await, 1000, "{what}");
    }
    for stage in [
        "chunk-text",
        "extract-mentions",
        "classify-entities",
        "extract-relations",
        "assemble-graph",
    ] {
        let completed = format!(
            "select count(*) from workflow_activity where activity_name = '{stage}' and status = 'completed'"
        );
        assert_eq!(scene.number(completed).await, 1000, "{stage}");
    }
    assert_eq!(scene.number("select count(*) from batch").await, 1);
    scene.assert_nothing_left().await;
    let (_, log) = worker.stop();
    assert!(!log.contains(&scene.key[16..40]), "a key was logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_what_became_of_each_document_and_the_same_key_gets_it_again() {
    let scene = Scene::new().await;
    let worker = scene.worker();
    let client = scene.client().await;
    let batch = || {
        Submission::new([
            Document::new("good", "Ada Lovelace met Charles Babbage."),
            Document::new("empty", ""),
            Document::new("copy", "Ada Lovelace met Charles Babbage."),
        ])
        .name("mixed")
    };
    let ticket = client.submit("k", batch()).await.unwrap();
    let receipt = client.receipt(&ticket, PATIENCE).await.unwrap().unwrap();
    let Receipt::Accepted {
        batch_id,
        sealed,
        again,
        documents,
        refused,
        ..
    } = receipt.clone()
    else {
        panic!("{receipt:?}");
    };
    assert_eq!(
        (sealed, again, documents.added, documents.refused),
        (true, false, 1, 2)
    );
    let refused: BTreeSet<&str> = refused.iter().map(|one| one.document.as_str()).collect();
    assert_eq!(refused, BTreeSet::from(["copy", "empty"]));
    // It is still there for whoever asks again.
    assert_eq!(
        client.receipt(&ticket, PATIENCE).await.unwrap(),
        Some(receipt)
    );

    let ticket = client.submit("k", batch()).await.unwrap();
    let told = client.receipt(&ticket, PATIENCE).await.unwrap().unwrap();
    let Receipt::Accepted {
        batch_id: same,
        again: true,
        documents: counts,
        ..
    } = told
    else {
        panic!("{told:?}");
    };
    assert_eq!((same, counts), (batch_id, documents));
    let other = batch().concurrency(2);
    let ticket = client.submit("k", other).await.unwrap();
    let told = client.receipt(&ticket, PATIENCE).await.unwrap().unwrap();
    assert!(
        matches!(&told, Receipt::Refused { code, .. } if code == "another_request"),
        "{told:?}"
    );
    assert_eq!(scene.number("select count(*) from batch").await, 1);
    let nothing = Ticket {
        id: "submit:never".to_owned(),
    };
    let nothing = client.receipt(&nothing, Duration::from_millis(20)).await;
    assert_eq!(nothing.unwrap(), None);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_filled_piece_by_piece_and_sealed_when_it_has_them_all() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    // The seal comes first, and waits.
    let seal = client.seal("s", Seal::after("pieces", 3)).await.unwrap();
    let workers = [scene.worker(), scene.worker()];
    let text = |i: usize| format!("Grace Hopper wrote program {i} at Harvard.");
    let add = async |key: &str, id: &str, text: String| {
        let piece = Addition::new("pieces", [Document::new(id, text)]);
        let ticket = client.add(key, piece).await.unwrap();
        client.receipt(&ticket, PATIENCE).await.unwrap().unwrap()
    };
    let added = |receipt: &Receipt| match receipt {
        Receipt::Accepted {
            documents, sealed, ..
        } => {
            assert!(!sealed);
            (documents.added, documents.replaced, documents.unchanged)
        }
        Receipt::Refused { .. } | _ => panic!("{receipt:?}"),
    };
    // At once, so that one of them opens it and the other finds it.
    let (one, two) = tokio::join!(add("1", "a", text(1)), add("2", "b", text(2)));
    assert_eq!((added(&one), added(&two)), ((1, 0, 0), (1, 0, 0)));
    assert_eq!(added(&add("3", "a", text(1)).await), (0, 0, 1));
    assert_eq!(added(&add("4", "a", text(7)).await), (0, 1, 0));
    // Delivered again after a newer version has come, the old one must not come back.
    assert_eq!(added(&add("1", "a", text(1)).await), (1, 0, 0));
    let texts =
        "select count(*) from document where text like '%program 7%' and withdrawn_at is null";
    assert_eq!(scene.number(texts).await, 1);
    let open = "select count(*) from batch where sealed_at is null";
    assert_eq!(scene.number(open).await, 1);
    assert_eq!(added(&add("5", "c", text(3)).await), (1, 0, 0));
    let told = client.receipt(&seal, PATIENCE).await.unwrap().unwrap();
    assert!(
        matches!(told, Receipt::Accepted { sealed: true, .. }),
        "{told:?}"
    );
    assert_eq!(scene.number("select count(*) from batch").await, 1);
    scene
        .until(
            "the batch has ended",
            "select count(*) from batch where state = 'Completed'",
            1,
        )
        .await;
    // Sealed and ended: the seal once more is no harm, and a seal of nothing is said to be one.
    let again = client.seal("s", Seal::after("pieces", 3)).await.unwrap();
    let again = client.receipt(&again, PATIENCE).await.unwrap().unwrap();
    assert!(
        matches!(again, Receipt::Accepted { again: true, .. }),
        "{again:?}"
    );
    let nothing = client.seal("n", Seal::now("nothing")).await.unwrap();
    let nothing = client.receipt(&nothing, PATIENCE).await.unwrap().unwrap();
    assert!(
        matches!(&nothing, Receipt::Refused { code, .. } if code == "not_found"),
        "{nothing:?}"
    );
    drop(workers);
    scene.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_taken_in_is_set_aside_and_its_producer_is_told_why() {
    let scene = Scene::new().await;
    let worker = scene.worker();
    let reader = new_key(&scene.database, &scene.redis, &["--scope", "read"]);
    let revoked = new_key(&scene.database, &scene.redis, &["--scope", "write"]);
    say(command(&scene.database, &scene.redis).args(["keys", "revoke", &revoked[..15]])).exits(0);
    let mut wrong = scene.key.clone();
    let middle = if wrong.as_bytes()[30] == b'7' {
        "8"
    } else {
        "7"
    };
    wrong.replace_range(30..31, middle);
    let document = json!({"documents": [{"id": "a", "text": SECRET}]});
    let submit = |key: &str| {
        let mut envelope = json!({"v": 1, "key": "k", "submit": document});
        envelope["api_key"] = key.into();
        envelope.to_string()
    };
    let with = |change: &dyn Fn(&mut Value)| {
        scene.envelope(|envelope| {
            envelope["submit"] = document.clone();
            change(envelope);
        })
    };
    let bad: Vec<(String, &str, Option<&str>)> = vec![
        (with(&|_| {})[..60].to_owned(), "not_json", None),
        ("\u{0}\u{1}".to_owned(), "not_json", None),
        (with(&|e| e["v"] = json!(2)), "unknown_version", Some("v")),
        (with(&|e| e["nmae"] = json!(SECRET)), "unfit", Some("nmae")),
        (
            with(&|e| e["submit"]["documents"][0]["text"] = json!([SECRET])),
            "unfit",
            Some("submit.documents[0].text"),
        ),
        (
            with(&|e| e["submit"]["concurrency"] = json!(0)),
            "unfit",
            Some("submit.concurrency"),
        ),
        (with(&|e| e["key"] = json!("a b")), "unfit", Some("key")),
        (submit(&wrong), "unauthorized", Some("api_key")),
        (submit(&revoked), "unauthorized", Some("api_key")),
        (submit("hunter2"), "unauthorized", Some("api_key")),
        (submit(&reader), "forbidden", Some("api_key")),
        (
            with(&|e| e["submit"]["documents"][0]["text"] = "x".repeat(33 << 20).into()),
            "too_large",
            None,
        ),
    ];
    for (payload, code, place) in &bad {
        let told = scene.told(payload).await;
        let shown = &payload[..payload.len().min(300)];
        assert_eq!(told["status"], "refused", "{shown}: {told}");
        assert_eq!(told["code"], *code, "{shown}: {told}");
        assert_eq!(told["place"].as_str(), *place, "{shown}: {told}");
        assert!(!told.to_string().contains(SECRET), "{told}");
    }
    // One that was pushed without its data has no producer to be told.
    let _: i64 = scene.redis(&["RPUSH", ACTIVE, "submit:half"]).await;
    eventually("it is set aside", async || {
        let aside: i64 = scene.redis(&["LLEN", "graphmill:set-aside"]).await;
        aside == i64::try_from(bad.len()).unwrap() + 1
    })
    .await;
    // And none of that has stopped a good one.
    let told = scene.told(with(&|_| {})).await;
    assert_eq!(
        (&told["status"], &told["sealed"]),
        (&json!("accepted"), &json!(true))
    );
    scene.assert_nothing_left().await;
    let aside: Vec<String> = scene
        .redis(&["LRANGE", "graphmill:set-aside", "0", "-1"])
        .await;
    for key in [&reader, &revoked, &wrong, &"hunter2".to_owned()] {
        let secret = &key[key.len().min(16)..key.len().min(40)];
        assert!(!secret.is_empty() || !aside.join("").contains(key.as_str()));
        assert!(
            secret.is_empty() || !aside.join("").contains(secret),
            "{aside:?}"
        );
    }
    let said = say(command(&scene.database, &scene.redis).args(["doctor", "--json"]));
    assert!(said.stdout.contains("13 set aside"), "{}", said.stdout);
    let (_, log) = worker.stop();
    assert!(
        !log.contains(SECRET) && !log.contains(&scene.key[16..40]),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_reads_the_golden_envelopes() {
    let scene = Scene::new().await;
    let signing = ["worker", "--notify-secret", "sixteen-characters-and-more"];
    let _worker = Process::start(&signing, &scene.database, &scene.redis);
    let golden = root().join("jobs/tests/golden");
    for name in ["submit_least", "add", "seal", "submit_most"] {
        let text = fs::read_to_string(golden.join(name).with_extension("json")).unwrap();
        let at = text.find("gm_").unwrap();
        let end = at + text[at..].find('"').unwrap();
        let text = format!("{}{}{}", &text[..at], scene.key, &text[end..]);
        let told = scene.told(text).await;
        assert_eq!(told["status"], "accepted", "{name}: {told}");
        // What it says is read by the client.
        let _: Receipt = serde_json::from_value(told).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_an_organization_hold_here_too() {
    let scene = Scene::new().await;
    let limits = ["organization", "set", "default", "--max-documents", "2"];
    say(command(&scene.database, &scene.redis).args(limits)).exits(0);
    let _worker = scene.worker();
    let documents = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|i| json!({"id": format!("{i}"), "text": format!("text {i}")}))
            .collect()
    };
    let told = scene
        .told(scene.envelope(|e| e["add"] = json!({"name": "n", "documents": documents(3)})))
        .await;
    assert_eq!(told["code"], "quota", "{told}");
    assert_eq!(scene.number("select count(*) from batch").await, 0);
    // The key was not used up by what was refused.
    let told = scene
        .told(scene.envelope(|e| e["add"] = json!({"name": "n", "documents": documents(2)})))
        .await;
    assert_eq!(told["documents"]["added"], 2, "{told}");
    // A rate makes it wait, and refuses nothing.
    let limits = [
        "organization",
        "set",
        "default",
        "--requests-per-second",
        "2",
        "--burst",
        "1",
    ];
    say(command(&scene.database, &scene.redis).args(limits)).exits(0);
    for i in 0..4 {
        let told = scene
            .told(scene.envelope(|e| {
                e["key"] = format!("again {i}").replace(' ', "-").into();
                e["add"] = json!({"name": "n", "documents": documents(2)});
            }))
            .await;
        assert_eq!(told["documents"]["unchanged"], 2, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_submit_and_submit_nothing_twice() {
    let scene = Scene::new().await;
    let (mut server, address) = serving(&scene.database, &scene.redis, &["--with-worker"]);
    let file = lines("producers-examples", 3);
    let file = file.to_str().unwrap();
    let ada = support::examples("documents").join("ada-lovelace.txt");
    let mut curl = Command::new("sh");
    curl.arg(root().join("examples/producers/submit.sh"))
        .env("GRAPHMILL_URL", &address);
    let rust = scene.producer(example("submit"), &["rust", ada.to_str().unwrap()]);
    let producers = [
        rust,
        scene.producer(python(), &["python", file]),
        scene.producer(curl, &["curl", file]),
    ];
    for mut producer in producers {
        for _ in 0..2 {
            let said = succeeded(producer.output().unwrap());
            assert!(said.contains("batch_"), "{said}");
        }
    }
    for (name, documents) in [("rust", 1), ("python", 3), ("curl", 3)] {
        let sql = format!(
            "select count(*) from document d join batch b on b.id = d.batch_id
             where b.name = '{name}' and b.sealed_at is not null"
        );
        assert_eq!(scene.number(sql).await, documents, "{name}");
    }
    assert_eq!(scene.number("select count(*) from batch").await, 3);
    let _ = server.child.kill();
}

/// A worker is killed after a step of a batch was committed and before the next one, which a lock holds up.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_worker_is_killed_halfway_is_gone_on_with_by_another() {
    let scene = Scene::new().await;
    let mut holder = PgConnection::connect(scene.database.url()).await.unwrap();
    sqlx::raw_sql(
        "create function wait_here() returns trigger language plpgsql as
             $$ begin perform pg_advisory_xact_lock(4711); return new; end $$;
         create trigger wait_here before insert on document
             for each row when (new.external_id = 'number 505') execute function wait_here();
         select pg_advisory_lock(4711);",
    )
    .execute(&mut holder)
    .await
    .unwrap();
    let client = scene.client().await;
    let documents = (0..510).map(|i| Document::new(format!("number {i}"), format!("Text {i}.")));
    let batch = Submission::new(documents).name("cut off");
    let mut doomed = scene.worker();
    let ticket = client.submit("cut-off", batch).await.unwrap();
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted";
    scene.until("the second step waits", waits, 1).await;
    assert_eq!(
        scene.number("select count(*) from document").await,
        500,
        "the first step is durable"
    );
    doomed.child.kill().unwrap();
    drop(holder);

    let _worker = scene.worker();
    let told = client.receipt(&ticket, PATIENCE).await.unwrap();
    let Some(Receipt::Accepted {
        sealed: true,
        documents,
        ..
    }) = told
    else {
        panic!("{told:?}");
    };
    assert_eq!((documents.added, documents.refused), (510, 0));
    for (what, wanted) in [
        ("batch where sealed_at is not null", 1),
        ("batch", 1),
        ("document", 510),
        ("workflow_execution where workflow_type = 'extraction'", 510),
    ] {
        let sql = format!("select count(*) from {what}");
        assert_eq!(scene.number(sql).await, wanted, "{what}");
    }
    scene.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_forgets_is_pushed_again_and_what_has_a_receipt_needs_no_redis() {
    let scene = Scene::new().await;
    let client = scene.client().await;
    let batch = |name: &str| {
        let document = |i: usize| Document::new(format!("{name} {i}"), format!("{name} has {i}."));
        Submission::new([document(1), document(2)]).name(name)
    };
    let forget = async || {
        let _: String = scene.redis(&["FLUSHALL"]).await;
    };
    // Nobody takes it in before it is forgotten.
    client.submit("lost", batch("lost")).await.unwrap();
    forget().await;
    let _worker = scene.worker();
    let durable = async |key: &str| {
        let ticket = client.submit(key, batch(key)).await.unwrap();
        match client.receipt(&ticket, PATIENCE).await.unwrap() {
            Some(Receipt::Accepted {
                batch_id, again, ..
            }) => (batch_id, again),
            other => panic!("{other:?}"),
        }
    };
    let (kept, again) = durable("kept").await;
    assert!(!again);
    assert_eq!(scene.number("select count(*) from batch").await, 1);
    forget().await;
    assert_eq!(durable("kept").await, (kept, true));
    assert!(!durable("lost").await.1, "it was never there");
    let ended = "select count(*) from batch where state = 'Completed'";
    scene.until("both have ended", ended, 2).await;
    for (what, wanted) in [
        ("batch", 2),
        ("document", 4),
        ("workflow_execution where workflow_type = 'extraction'", 4),
    ] {
        let sql = format!("select count(*) from {what}");
        assert_eq!(scene.number(sql).await, wanted, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_reaches_what_its_own_organization_has_and_nothing_else() {
    let scene = Scene::new().await;
    let other = ["organization", "create", "other"];
    say(command(&scene.database, &scene.redis).args(other)).exits(0);
    let others = ["--scope", "write", "--organization", "other"];
    let others = new_key(&scene.database, &scene.redis, &others);
    let _worker = scene.worker();
    let told = async |key: &str, ask: Value| {
        let mut envelope = ask;
        envelope["v"] = 1.into();
        envelope["api_key"] = key.into();
        scene.told(envelope.to_string()).await
    };
    let add = |text: &str| {
        let document = json!({"id": "a", "text": text});
        json!({"key": "k", "add": {"name": "shared", "documents": [document]}})
    };
    // The same key, the same batch's name and the same id, of another organization, are something else.
    let ours = told(&scene.key, add("Ours.")).await;
    let theirs = told(&others, add("Theirs.")).await;
    for one in [&ours, &theirs] {
        assert_eq!(one["status"], "accepted", "{one}");
        assert_eq!(one["again"], false, "{one}");
        assert_eq!(one["documents"]["added"], 1, "{one}");
    }
    assert_ne!(ours["batch_id"], theirs["batch_id"]);
    let of_other = "select count(*) from document d join organization o on o.id = d.organization_id
                    where (o.name = 'other') = (d.text = 'Theirs.')";
    assert_eq!(scene.number(of_other).await, 2);
    let mine =
        json!({"key": "m", "add": {"name": "mine", "documents": [{"id": "a", "text": "Mine."}]}});
    assert_eq!(told(&scene.key, mine).await["status"], "accepted");
    let seal = |name: &str| json!({"key": format!("seal-{name}"), "seal": {"name": name}});
    let foreign = told(&others, seal("mine")).await;
    assert_eq!(foreign["code"], "not_found", "{foreign}");
    assert_eq!(
        told(&others, seal("shared")).await["batch_id"],
        theirs["batch_id"]
    );
    let sealed = "select count(*) from batch where sealed_at is not null";
    assert_eq!(scene.number(sealed).await, 1);
}
