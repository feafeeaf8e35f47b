//! Traces, as a collector sees them: real processes send them to a real server, and what came must be one tree. And the
//! lines of logs that belong to them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{
    self, Collector, Database, ModelServer, PATIENCE, Redis, Said, Seen, migrated, poll, say,
};

const STAGES: [&str; 5] = ["chunk", "mentions", "entities", "relations", "assemble"];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PRODUCER: &str = "b7ad6b7169203331";
/// Words that stand in texts, in names that users gave, and in keys.
const SECRETS: [&str; 6] = [
    "Zanzibar",
    "Lovelace",
    "quagga",
    "okapi",
    "sk-axolotl",
    "Tamandua",
];

fn traceparent() -> String {
    format!("00-{TRACE}-{PRODUCER}-01")
}

struct Scene {
    database: Database,
    redis: Redis,
    collector: Collector,
    folder: PathBuf,
}

/// A process that logs JSON; it dies with this value.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    read: Vec<Value>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .env("GRAPHMILL_LOG_FORMAT", "json")
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
            lines: log,
            read: Vec::new(),
        }
    }

    /// Waits for the line with this message.
    fn line(&mut self, message: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            let Ok(line) = serde_json::from_str::<Value>(&line) else {
                // What the command says of private servers, and no log.
                continue;
            };
            self.read.push(line.clone());
            if line["fields"]["message"] == message {
                return line;
            }
        }
    }

    /// Stops it as an operator does; returns what it logged.
    fn stop(mut self) -> Vec<Value> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = support::wait_for("the process ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.read.extend(serde_json::from_str::<Value>(&line).ok());
        }
        std::mem::take(&mut self.read)
    }

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

impl Scene {
    async fn new(name: &str) -> Self {
        Self::with(name, Collector::start().await).await
    }

    async fn with(name: &str, collector: Collector) -> Self {
        Self {
            database: migrated().await,
            redis: Redis::start(),
            collector,
            folder: support::folder(&format!("traces-{name}")),
        }
    }

    /// The binary, on these servers and with this collector.
    fn command(&self) -> Command {
        let mut command = support::command(&self.database, &self.redis);
        for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY"] {
            command.env_remove(name);
        }
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.collector.address())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20key");
        command
    }

    fn serve(&self) -> (Process, String) {
        let mut command = self.command();
        command.args(["serve", "--no-keys", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start(&mut command);
        let line = process.line("listening");
        let address = line["fields"]["address"].as_str().unwrap().to_owned();
        (process, format!("http://{address}"))
    }

    fn worker(&self, model: &ModelServer) -> Process {
        let mut command = self.command();
        command
            .args(["worker", "--lease", "3s"])
            .env("OPENAI_BASE_URL", model.base_url())
            .env("OPENAI_API_KEY", "sk-axolotl")
            .env("GRAPHMILL_MODEL", "mock");
        Process::start(&mut command)
    }

    /// `run` on documents of its own, with the local extractor, below the producer.
    fn run(&self, documents: usize, more: &[(&str, &str)]) -> Said {
        let lines: Vec<String> = (0..documents)
            .map(|number| {
                let text = format!("Ada Lovelace number {number} worked in Zanzibar.");
                json!({ "id": format!("quagga-{number}"), "text": text }).to_string()
            })
            .collect();
        let file = self.folder.join("documents.jsonl");
        fs::write(&file, lines.join("\n")).unwrap();
        let mut command = self.command();
        command
            .args(["run", "--json", "--concurrency", "16"])
            .arg(file)
            .env("TRACEPARENT", traceparent())
            .envs(more.iter().copied());
        say(&mut command)
    }

    /// Waits until the collector has all that is wanted, and shows it.
    async fn seen(&self, what: &str, wanted: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        poll(what, async || {
            let spans = self.collector.spans();
            wanted(&spans).then_some(spans)
        })
        .await
    }
}

fn named<'s>(spans: &'s [Seen], name: &str) -> Vec<&'s Seen> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[track_caller]
fn only<'s>(spans: &'s [Seen], name: &str) -> &'s Seen {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

/// Everything is in the producer's trace, and hangs below it by spans that are there.
#[track_caller]
fn assert_one_tree(spans: &[Seen]) {
    let by_id: HashMap<&str, &Seen> = spans.iter().map(|it| (it.id.as_str(), it)).collect();
    assert_eq!(by_id.len(), spans.len(), "no span came twice");
    for span in spans {
        assert_eq!(span.trace, TRACE, "{span:#?}");
        assert!(span.nanos.start <= span.nanos.end, "{span:#?}");
        let (mut at, mut steps) = (span, 0);
        while at.parent != PRODUCER {
            at = by_id
                .get(at.parent.as_str())
                .unwrap_or_else(|| panic!("{} hangs below nothing: {spans:#?}", at.name));
            steps += 1;
            assert!(steps < 10, "a ring");
        }
    }
}

/// Below the submission: each of the stages once with this outcome, each with its settle, and the resolution.
#[track_caller]
fn assert_stages(spans: &[Seen]) {
    let submit = only(spans, "submit");
    assert_eq!(submit.parent, PRODUCER);
    for stage in STAGES.into_iter().chain(["resolve"]) {
        let done: Vec<&Seen> = named(spans, stage)
            .into_iter()
            .filter(|span| span.said["graphmill.outcome"] == "completed")
            .collect();
        assert_eq!(done.len(), 1, "{stage}: {spans:#?}");
        assert_eq!(done[0].parent, submit.id, "{stage}");
        assert_eq!(
            done[0].said["graphmill.batch.id"],
            submit.said["graphmill.batch.id"]
        );
        let settles = named(spans, "settle");
        assert!(
            settles.iter().any(|span| span.parent == done[0].id),
            "{stage}"
        );
    }
}

fn has_resolved(spans: &[Seen]) -> bool {
    !named(spans, "resolve").is_empty()
}

async fn submit(address: &str, documents: Value) -> (String, String) {
    let body = json!({
        "name": "okapi", "extractor": "openai", "model": "mock", "documents": documents
    });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{address}/api/batches")).json(&body);
    let response = request
        .header("traceparent", traceparent())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let said = response.headers()["traceparent"]
        .to_str()
        .unwrap()
        .to_owned();
    let report: Value = response.json().await.unwrap();
    (report["batch_id"].as_str().unwrap().to_owned(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_document_is_one_tree_from_its_producer_to_the_resolution() {
    let scene = Scene::new("tree").await;
    let model = ModelServer::start("").await;
    let (server, address) = scene.serve();
    let workers = [scene.worker(&model), scene.worker(&model)];
    let document = json!([{
        "id": "quagga",
        "text": "Ada Lovelace lived in Zanzibar. She worked for Acme Corporation.",
    }]);
    let (batch, said) = submit(&address, document).await;
    scene.seen("the batch is resolved", has_resolved).await;
    let lines: Vec<Value> = workers.into_iter().flat_map(Process::stop).collect();
    let stopped = server.stop();
    let spans = scene.collector.spans();
    assert_one_tree(&spans);
    assert_stages(&spans);
    let submit = only(&spans, "submit");
    assert_eq!(said, format!("00-{TRACE}-{}-01", submit.id));
    assert_eq!(submit.said["graphmill.batch.id"], batch);
    let settles = named(&spans, "settle").len();
    let calls = named(&spans, "chat mock");
    assert_eq!(spans.len(), 1 + 6 + settles + calls.len(), "{spans:#?}");
    assert_eq!(settles, 6);
    assert_eq!(calls.len(), model.bill().len() / 2, "one span a call");
    let mut with_calls: Vec<&str> = Vec::new();
    for call in calls {
        let stage = spans.iter().find(|span| span.id == call.parent).unwrap();
        assert_eq!(call.said["graphmill.stage"], stage.name);
        assert_eq!(call.said["gen_ai.request.model"], "mock");
        assert_eq!(call.said["http.response.status_code"], "200");
        let tokens: u64 = call.said["gen_ai.usage.input_tokens"].parse().unwrap();
        assert!(tokens > 0);
        assert!(call.said.contains_key("gen_ai.usage.output_tokens"));
        with_calls.push(&stage.name);
    }
    assert!(with_calls.contains(&"mentions"), "{with_calls:?}");
    for span in &spans {
        assert!(!span.failed, "{span:#?}");
        assert_eq!(span.process["service.name"], "graphmill");
    }
    assert!(
        scene
            .collector
            .heads()
            .iter()
            .all(|head| head["x-key"] == "a key")
    );
    scene.collector.assert_nowhere(&SECRETS);

    let of_span = |line: &Value, name: &str| line["span"][name].as_str().map(str::to_owned);
    let answers: Vec<&Value> = lines
        .iter()
        .filter(|line| line["fields"]["message"] == "a model answered")
        .collect();
    assert!(!answers.is_empty());
    for line in answers {
        assert_eq!(of_span(line, "trace_id").as_deref(), Some(TRACE), "{line}");
        assert_eq!(of_span(line, "batch.id").as_deref(), Some(batch.as_str()));
        assert!(of_span(line, "execution.id").is_some(), "{line}");
        assert!(of_span(line, "stage").is_some(), "{line}");
    }
    let told = stopped
        .iter()
        .find(|line| line["fields"]["message"] == "a batch was submitted")
        .unwrap();
    assert_eq!(of_span(told, "trace_id").as_deref(), Some(TRACE), "{told}");
    for line in lines.iter().chain(&stopped) {
        let line = line.to_string();
        for secret in SECRETS {
            assert!(!line.contains(secret), "`{secret}` was logged: {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_the_tree_whole() {
    let scene = Scene::new("killed").await;
    let slow = "[[rule]]\nwhen = { task = \"classes\" }\nthen = \"answer\"\nlatency = \"120s\"";
    let model = ModelServer::start(slow).await;
    let (server, address) = scene.serve();
    let first = scene.worker(&model);
    let document = json!([{ "id": "numbat", "text": "Ada Lovelace lived in Zanzibar." }]);
    submit(&address, document).await;
    // What it has done is told, and it is in the middle of the third stage.
    scene
        .seen("two stages are told", |spans| {
            named(spans, "settle").len() >= 2 && !named(spans, "mentions").is_empty()
        })
        .await;
    // Nothing else takes any time there.
    support::wait_for("the model is asked for classes", || {
        (model.stats().in_flight > 0).then_some(())
    });
    first.kill();
    model.script("");
    let second = scene.worker(&model);
    scene.seen("the batch is resolved", has_resolved).await;
    second.stop();
    server.stop();
    let spans = scene.collector.spans();
    assert_one_tree(&spans);
    assert_stages(&spans);
    let process = |name: &str| only(&spans, name).process["service.instance.id"].clone();
    assert_eq!(process("chunk"), process("mentions"));
    assert_ne!(process("chunk"), process("entities"));
    assert_eq!(only(&spans, "entities").said["graphmill.suspect"], "true");
    assert_eq!(only(&spans, "entities").said["graphmill.attempt"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_first_hundred_a_document_has_a_trace_of_its_own() {
    let scene = Scene::new("many").await;
    scene.run(103, &[]).exits(0);
    let spans = scene.collector.spans();
    let (together, own): (Vec<Seen>, Vec<Seen>) =
        spans.into_iter().partition(|span| span.trace == TRACE);
    assert_one_tree(&together);
    assert_eq!(named(&together, "resolve").len(), 1);
    let submit = only(&together, "submit");
    for stage in STAGES {
        assert_eq!(named(&together, stage).len(), 100, "{stage}");
    }
    let mut traces: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    for span in &own {
        traces.entry(&span.trace).or_default().push(span.clone());
    }
    assert_eq!(traces.len(), 3);
    for spans in traces.values() {
        let root = only(spans, "document");
        assert_eq!(root.parent, "");
        assert_eq!(root.links, [(TRACE.to_owned(), submit.id.clone())]);
        for stage in STAGES {
            let span = only(spans, stage);
            assert_eq!(span.parent, root.id, "{stage}");
            assert!(root.nanos.end >= span.nanos.start, "{stage}");
        }
        assert_eq!(spans.len(), 1 + 2 * STAGES.len());
    }
    scene.collector.assert_nowhere(&SECRETS);
}

/// What `run` says of its documents.
#[track_caller]
fn completed(said: Said) -> u64 {
    said.exits(0).json()["documents"]["completed"]
        .as_u64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_no_trace_gets_none_and_the_batch_keeps_the_context() {
    let scene = Scene::new("unsampled").await;
    let unsampled = traceparent().replace("-01", "-00");
    let said = scene.run(2, &[("TRACEPARENT", &unsampled)]);
    assert_eq!(completed(said), 2);
    let disabled = scene.run(2, &[("OTEL_SDK_DISABLED", "true")]);
    assert_eq!(completed(disabled), 2);
    let broken = scene.run(
        2,
        &[
            ("TRACEPARENT", "nonsense"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ],
    );
    assert_eq!(completed(broken), 2);
    assert_eq!(scene.collector.requests(), 0);
    let unknown = scene.run(2, &[("OTEL_TRACES_SAMPLER", "jaeger_remote")]);
    let unknown = unknown.exits(2);
    assert!(
        unknown.stderr.contains("OTEL_TRACES_SAMPLER"),
        "{unknown:?}"
    );
    let mut owner = <sqlx::PgConnection as sqlx::Connection>::connect(scene.database.url())
        .await
        .unwrap();
    let kept = support::texts(
        &mut owner,
        "select coalesce(traceparent, '') from batch order by created_at",
    )
    .await;
    let [first, second, third] = <[String; 3]>::try_from(kept).unwrap();
    assert!(
        first.starts_with(&format!("00-{TRACE}-")) && first.ends_with("-00"),
        "{first}"
    );
    assert!(!first.contains(PRODUCER), "{first}");
    // Nobody traces here, and others may.
    assert_eq!(second, traceparent());
    assert!(third.ends_with("-00") && !third.contains(TRACE), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_changes_nothing() {
    let scene = Scene::with("away", Collector::refusing().await).await;
    let hanging = Collector::hanging().await;
    let begun = Instant::now();
    let off = scene.run(3, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
    let plain = begun.elapsed();
    assert!(!off.stderr.contains("span"), "{off:?}");
    assert_eq!(completed(off), 3);
    // A port that nobody listens on.
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for address in [scene.collector.address(), hanging.address(), &nobody] {
        let begun = Instant::now();
        let said = scene.run(3, &[("OTEL_EXPORTER_OTLP_ENDPOINT", address)]);
        let took = begun.elapsed();
        assert!(
            said.stderr.contains("not every span reached the collector"),
            "{said:?}"
        );
        assert_eq!(completed(said), 3);
        // The end waits for five seconds at most; the rest is a busy machine.
        assert!(
            took < plain * 4 + Duration::from_secs(15),
            "{took:?} and {plain:?}"
        );
    }
    assert!(scene.collector.requests() > 0 && hanging.requests() > 0);
}
