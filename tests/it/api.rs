//! The HTTP API, from outside: a real server, a real worker, and requests as clients send them.

mod board;
mod changes;
mod clients;
mod documented;
mod examples;
mod exploring;
mod keys;
mod leaving;
mod nonsense;
mod reading;
mod signalling;
mod spending;
mod submitting;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Redis, command, migrated, say, wait_for};

const DOCUMENT: &str =
    "Ada Lovelace worked with Charles Babbage in London. She was born in London in 1815.";
/// A word that stands in texts alone, so that it must not be found in any error or log.
const SECRET: &str = "Zanzibar";

/// A process that is stopped with SIGTERM, and whose log is kept.
struct Process {
    child: Child,
    log: mpsc::Receiver<String>,
    read: String,
}

impl Process {
    fn start(arguments: &[&str], database: &Database, redis: &Redis) -> Self {
        let mut child = command(database, redis)
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, log) = mpsc::channel();
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .all(|line| say.send(line).is_ok())
        });
        Self {
            child,
            log,
            read: String::new(),
        }
    }

    /// Stops it, and returns what it logged.
    fn stop(mut self) -> (ExitStatus, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait_for("the process ends", || self.child.try_wait().unwrap());
        let mut log = std::mem::take(&mut self.read);
        while let Ok(line) = self.log.recv_timeout(Duration::from_secs(5)) {
            log.push_str(&line);
            log.push('\n');
        }
        (status, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on a database and a Redis of its own.
struct Server {
    process: Process,
    address: String,
    client: reqwest::Client,
    /// What every request shows.
    key: String,
    database: Database,
    redis: Option<Redis>,
}

impl Server {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        let (database, redis) = (migrated().await, Redis::start());
        let key = new_key(&database, &redis, &["--scope", "admin"]);
        let (process, address) = serving(&database, &redis, more);
        Self {
            process,
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            key,
            database,
            redis: Some(redis),
        }
    }

    fn worker(&self) -> Process {
        let redis = self.redis.as_ref().unwrap();
        Process::start(&["worker"], &self.database, redis)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.key)
    }

    /// A request without a key.
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn get_owned(&self, path: String) -> Response {
        self.get(&path).await
    }

    async fn submit(&self, body: &Value) -> Response {
        let request = self.request(Method::POST, "/api/batches");
        request.json(body).send().await.unwrap()
    }

    async fn submit_raw(&self, body: impl Into<reqwest::Body>, content_type: &str) -> Response {
        self.request(Method::POST, "/api/batches")
            .header("content-type", content_type)
            .body(body)
            .send()
            .await
            .unwrap()
    }

    /// The batch's report, once it has ended.
    async fn ended(&self, batch: &str) -> Value {
        let begin = Instant::now();
        loop {
            let report = object(self.get(&format!("/api/batches/{batch}")).await, 200).await;
            if ["Completed", "Failed", "Cancelled"].contains(&report["state"].as_str().unwrap()) {
                return report;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {report}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it, which must succeed and have kept every text to itself.
    fn stop(self) {
        let (status, log) = self.process.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

/// A server on these, and where it listens.
fn serving(database: &Database, redis: &Redis, more: &[&str]) -> (Process, String) {
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], more].concat();
    let mut process = Process::start(&arguments, database, redis);
    loop {
        let line = process.log.recv_timeout(PATIENCE).unwrap();
        process.read.push_str(&line);
        process.read.push('\n');
        // The name of a field is in escape codes where colours are on.
        if let Some(at) = line
            .find("127.0.0.1:")
            .filter(|_| line.contains("listening"))
        {
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
            let address = format!("http://{}", &rest[..end.unwrap_or(rest.len())]);
            return (process, address);
        }
    }
}

/// A key, made as people make one.
fn new_key(database: &Database, redis: &Redis, more: &[&str]) -> String {
    let arguments = [&["keys", "create", "test", "--json"], more].concat();
    let said = say(command(database, redis).args(arguments)).exits(0);
    said.json()["key"].as_str().unwrap().to_owned()
}

/// A good answer's object.
async fn object(response: Response, status: u16) -> Value {
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A problem's object, after what is asked of every problem.
async fn problem(response: Response, status: u16) -> Value {
    let (found, path) = (response.status(), response.url().path().to_owned());
    let header = |name| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let (content_type, id) = (header("content-type"), header("x-request-id"));
    let retry_after = header("retry-after");
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(content_type.as_deref(), Some("application/problem+json"));
    // It names the path that was asked for, whatever that was.
    assert!(!text.replace(&path, "").contains(SECRET), "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["type"], "about:blank");
    let title = StatusCode::from_u16(status).unwrap().canonical_reason();
    assert_eq!(problem["title"].as_str(), title);
    assert_eq!(problem["status"], status);
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty())
    );
    assert_eq!(problem["instance"], path);
    assert_eq!(problem["request_id"].as_str(), id.as_deref());
    assert_eq!(
        retry_after.is_some(),
        [429, 503].contains(&status),
        "{text}"
    );
    problem
}

fn documents(texts: &[(&str, &str)]) -> Value {
    let documents = texts
        .iter()
        .map(|(id, text)| json!({ "id": id, "text": text }));
    json!({ "documents": documents.collect::<Vec<_>>() })
}

#[tokio::test]
async fn documents_come_in_over_http_and_are_worked() {
    let server = Server::start().await;
    let worker = server.worker();
    let mut batch = documents(&[
        ("a.txt", DOCUMENT),
        (
            "b.txt",
            "Grace Hopper worked at Harvard University with Howard Aiken.",
        ),
        (
            "c.txt",
            "Alan Turing was born in London. He worked at Bletchley Park.",
        ),
    ]);
    batch["name"] = json!("pioneers");
    batch["documents"][0]["title"] = json!("Ada");
    batch["documents"][0]["source_uri"] = json!("https://example.org/ada");
    batch["documents"][0]["metadata"] = json!({ "year": 1843 });
    let response = server.submit(&batch).await;
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let opened = object(response, 201).await;
    let id = opened["batch_id"].as_str().unwrap();
    assert_eq!(location, format!("/api/batches/{id}"));
    assert_eq!(opened["name"], "pioneers");
    assert_eq!(opened["documents"]["total"], 3);

    let report = server.ended(id).await;
    assert_eq!(report["state"], "Completed", "{report}");
    let counts = &report["documents"];
    assert_eq!(
        (&counts["total"], &counts["completed"]),
        (&json!(3), &json!(3))
    );
    assert!(report["entities"].as_u64().unwrap() >= 4, "{report}");
    assert_eq!(server.ended("pioneers").await["batch_id"], *id);
    let cancelled = server.request(Method::POST, &format!("{location}/cancel"));
    problem(cancelled.send().await.unwrap(), 409).await;

    let (status, log) = worker.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    server.stop();
}

#[tokio::test]
async fn unfit_documents_are_refused_by_name_and_the_others_go_on() {
    let server = Server::with(&["--max-document-bytes", "100"]).await;
    let worker = server.worker();
    let mut batch = documents(&[
        ("good", DOCUMENT),
        ("again", DOCUMENT),
        ("good", "Another text by the same id, of Zanzibar."),
        ("blank", " \n"),
        ("", "Zanzibar without an id"),
        ("binary", "Zanzibar\0"),
        ("large", &SECRET.repeat(20)),
        ("listed", "Zanzibar with metadata that is no object"),
    ]);
    batch["documents"][7]["metadata"] = json!(["Zanzibar"]);
    let opened = object(server.submit(&batch).await, 201).await;
    let report = server.ended(opened["batch_id"].as_str().unwrap()).await;
    assert!(!report.to_string().contains(SECRET));
    assert_eq!(report["state"], "Completed", "{report}");
    let counts = &report["documents"];
    for (count, wanted) in [
        ("total", 8),
        ("completed", 1),
        ("duplicate", 1),
        ("refused", 6),
    ] {
        assert_eq!(counts[count], wanted, "{count} in {report}");
    }
    let mut failures: Vec<String> = report["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| format!("{} {}", failure["document"], failure["code"]).replace('"', ""))
        .collect();
    failures.sort();
    assert_eq!(
        failures,
        [
            "again duplicate",
            "binary binary",
            "blank empty",
            "documents[4] broken_line",
            "good (documents[2]) duplicate_id",
            "large too_large",
            "listed broken_line",
        ]
    );
    drop(worker);
    server.stop();
}

#[tokio::test]
async fn two_hundred_documents_are_one_batch_that_can_be_cancelled() {
    let server = Server::start().await;
    let texts: Vec<(String, String)> = (0..200)
        .map(|n| {
            (
                format!("{n}.txt"),
                format!("Ada Lovelace met number {n} in London."),
            )
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(id, text)| (id.as_str(), text.as_str()))
        .collect();
    let opened = object(server.submit(&documents(&texts)).await, 201).await;
    assert_eq!(opened["documents"]["total"], 200);
    let id = opened["batch_id"].as_str().unwrap();
    // Nobody works it, so it is still to be worked; cancelling twice is one cancel.
    for _ in 0..2 {
        let cancel = server.request(Method::POST, &format!("/api/batches/{id}/cancel"));
        object(cancel.send().await.unwrap(), 202).await;
    }
    let worker = server.worker();
    let report = server.ended(id).await;
    assert_eq!(report["state"], "Cancelled");
    assert_eq!(report["documents"]["cancelled"], 200);
    drop(worker);

    object(server.submit(&documents(&[("a", "one")])).await, 201).await;
    let listed = object(server.get("/api/batches").await, 200).await;
    assert_eq!(listed["batches"].as_array().unwrap().len(), 2);
    assert_eq!(listed["batches"][1]["batch_id"], *id);
    let newest = object(server.get("/api/batches?limit=1").await, 200).await;
    assert_eq!(newest["batches"].as_array().unwrap().len(), 1);
    assert_ne!(newest["batches"][0]["batch_id"], *id);
    server.stop();
}

#[tokio::test]
async fn a_batch_that_was_left_open_can_be_cancelled() {
    let server = Server::start().await;
    let pools = graphmill::store::PoolSettings::default();
    let store = graphmill::store::Store::connect(server.database.url(), &pools)
        .await
        .unwrap();
    let organization = graphmill_jobs::OrganizationId::DEFAULT;
    let batch = graphmill::workflow::NewBatch {
        name: "cut off".to_owned(),
        extractor: "local".to_owned(),
        ontology: std::sync::Arc::new(graphmill::graph::Ontology::builtin().unwrap()),
        settings: graphmill::pipeline::Settings::default(),
        model: None,
        concurrency: 5,
        policy: graphmill::flow::FailurePolicy::ContinueOnFailure,
        max_retries: 0,
        tolerance: None,
        weight: 1,
        traceparent: None,
    };
    let mut submission = graphmill::workflow::Submission::open(&store, organization, &batch)
        .await
        .unwrap();
    let cancel = server.request(Method::POST, "/api/batches/cut%20off/cancel");
    object(cancel.send().await.unwrap(), 202).await;
    // What comes behind the cancel is not taken, or it would wait in a batch that has ended.
    let document = graphmill::pipeline::NewDocument::new("late", DOCUMENT);
    submission.add(document).await.unwrap();
    let sealed = submission.seal().await.unwrap_err();
    assert!(
        matches!(sealed, graphmill::workflow::SubmitError::Sealed),
        "{sealed}"
    );
    store.close().await;
    let worker = server.worker();
    let report = server.ended("cut%20off").await;
    assert_eq!(report["state"], "Cancelled");
    assert_eq!(report["documents"]["total"], 0);
    drop(worker);
    server.stop();
}

#[tokio::test]
async fn a_batch_says_who_is_told_of_its_end() {
    let otherwise = "http://127.0.0.1:9/otherwise?token=Zanzibar";
    let secret = "Zanzibar-Zanzibar-Zanzibar";
    let server = Server::with(&["--notify", otherwise, "--notify-secret", secret]).await;
    let good = documents(&[("a", "Zanzibar")]);
    for address in [
        "Zanzibar",
        "ftp://example.com/",
        "http://Zanzibar:b@example.com/",
    ] {
        let body = with(&good, "notify", json!(address));
        let refused = problem(server.submit(&body).await, 422).await;
        assert_eq!(refused["place"], "notify", "{refused}");
    }
    let own = with(
        &good,
        "notify",
        json!("https://example.com/own?token=Zanzibar"),
    );
    for (body, wanted) in [
        (good, "http://127.0.0.1:9/otherwise"),
        (own, "https://example.com/own"),
    ] {
        let opened = object(server.submit(&body).await, 201).await;
        let path = format!("/api/batches/{}", opened["batch_id"].as_str().unwrap());
        let status = object(server.get(&path).await, 200).await;
        // It has not ended: there is no delivery yet.
        assert_eq!(status["webhook"], json!({ "url": wanted }));
        assert_eq!(status["progress"]["documents"]["current"], 0);
        assert_eq!(status["progress"]["seconds_left"], Value::Null);
    }
    server.stop();
}

#[tokio::test]
async fn what_can_not_be_meant_is_a_problem_that_says_where() {
    let server = Server::start().await;
    let good = documents(&[("a", "Zanzibar")]);
    let json = "application/json";

    let broken = problem(
        server
            .submit_raw("{\"documents\":\n[\"Zanzibar", json)
            .await,
        400,
    )
    .await;
    assert_eq!(broken["line"], 2);
    let cases = [
        (
            "documents[0].txt",
            json!({ "documents": [{ "id": "a", "txt": "Zanzibar" }] }),
        ),
        (
            "documents[0].text",
            json!({ "documents": [{ "id": "a", "text": ["Zanzibar"] }] }),
        ),
        ("documents[0]", json!({ "documents": ["Zanzibar"] })),
        ("documents", json!({ "documents": [] })),
        ("priority", with(&good, "priority", json!(1))),
        ("concurrency", with(&good, "concurrency", json!(0))),
        ("concurrency", with(&good, "concurrency", json!(10_001))),
        ("concurrency", with(&good, "concurrency", json!("Zanzibar"))),
        ("max_retries", with(&good, "max_retries", json!(101))),
        (
            "failure_policy",
            with(&good, "failure_policy", json!("Zanzibar")),
        ),
        ("extractor", with(&good, "extractor", json!("Zanzibar"))),
        ("partial", with(&good, "partial", json!("Zanzibar"))),
        // There is no secret to sign with.
        (
            "notify",
            with(&good, "notify", json!("https://example.com")),
        ),
        ("name", with(&good, "name", json!("a\nb"))),
        ("name", with(&good, "name", json!(""))),
    ];
    for (place, body) in cases {
        let refused = problem(server.submit(&body).await, 422).await;
        assert_eq!(refused["place"], place, "{refused}");
    }
    problem(server.submit_raw(good.to_string(), "text/plain").await, 415).await;
    let text = vec![b' '; 8 << 20];
    problem(server.submit_raw(text, "text/plain").await, 415).await;
    let large = vec![b' '; (64 << 20) + 1];
    problem(server.submit_raw(large, json).await, 413).await;
    let listed = object(server.get("/api/batches").await, 200).await;
    assert_eq!(
        listed["batches"],
        json!([]),
        "nothing of all this is stored"
    );

    let named = with(&good, "name", json!("taken"));
    let named = with(&named, "partial", json!("allow"));
    object(server.submit(&named).await, 201).await;
    let taken = problem(server.submit(&named).await, 409).await;
    assert_eq!(taken["name"], "taken");

    problem(server.get("/nothing").await, 404).await;
    for batch in ["nobody", "batch_00000000000070008000000000000001", "a%00b"] {
        problem(server.get(&format!("/api/batches/{batch}")).await, 404).await;
    }
    problem(server.get("/api/batches/%FF").await, 400).await;
    for query in ["limit=0", "limit=1001", "limit=many", "page=2"] {
        problem(server.get(&format!("/api/batches?{query}")).await, 400).await;
    }
    let put = server
        .request(Method::PUT, "/api/batches")
        .send()
        .await
        .unwrap();
    assert!(put.headers()["allow"].to_str().unwrap().contains("POST"));
    problem(put, 405).await;
    server.stop();
}

fn with(body: &Value, field: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[field] = value;
    body
}

#[tokio::test]
async fn health_names_the_server_that_is_gone() {
    let mut server = Server::start().await;
    let response = server.request(Method::GET, "/healthz");
    let response = response
        .header("x-request-id", "mine-1")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert_eq!(object(response, 200).await, json!({ "status": "ok" }));
    let long = server.request(Method::GET, "/healthz");
    let long = long
        .header("x-request-id", "x".repeat(200))
        .send()
        .await
        .unwrap();
    assert_eq!(long.headers()["x-request-id"].len(), 32);

    server.redis = None;
    let gone = problem(server.get("/healthz").await, 503).await;
    assert_eq!(gone["silent"], json!(["Redis"]));
    // Submitting needs Postgres alone.
    object(server.submit(&documents(&[("a", DOCUMENT)])).await, 201).await;
    server.stop();
}
