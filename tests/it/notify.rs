//! Webhooks: the end of a batch is told to a real HTTP server, signed, under one id, whatever the server answers and
//! whoever dies in between.

mod receiver;

use std::process::{Command, Stdio};

use graphmill::{
    notify::{Address, Messenger, Secrets},
    workflow::{NewBatch, Submission, WebhookReport, signal_batch, webhook},
};
use graphmill_jobs::BatchId;
use serde_json::Value;

use self::receiver::{Heard, Receiver, Says};
use crate::support::{self, Drill, Ground, OURS, Redis, documents, new_batch, poll, say};

/// 24 bytes.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn messenger() -> Messenger {
    Messenger::new(Secrets::parse(SECRET).unwrap().unwrap()).unwrap()
}

/// Submits a batch whose end is told to `address`.
async fn submit(ground: &Ground, batch: &NewBatch, count: usize, address: &str) -> BatchId {
    let mut submission = Submission::open(&ground.store, OURS, batch).await.unwrap();
    let address = Address::parse(address).unwrap();
    submission.notify(&address).await.unwrap();
    for document in documents(count) {
        submission.add(document).await.unwrap();
    }
    submission.seal().await.unwrap()
}

async fn report(ground: &Ground, batch: BatchId) -> WebhookReport {
    let report = webhook(&ground.store, OURS, batch).await.unwrap();
    report.expect("the batch has a webhook")
}

/// Waits until the delivery has this status; returns its attempts and its last error.
async fn until(ground: &Ground, batch: BatchId, status: &str) -> (i32, Option<String>) {
    poll(status, async || {
        let delivery = report(ground, batch).await.delivery?;
        (delivery.status == status).then_some((delivery.attempts, delivery.last_error))
    })
    .await
}

/// Waits until the attempt that is under way has failed, and has the next one come at once.
async fn hurry(ground: &Ground, attempts: i32) {
    let failed = format!(
        "select count(*) from webhook_delivery
         where attempts = {attempts} and lease_owner is null and status = 'waiting' and next_due > now()"
    );
    ground.until("the attempt has failed", &failed, 1).await;
    ground
        .execute("update webhook_delivery set next_due = now()")
        .await
        .unwrap();
}

/// The one delivery there is.
async fn one_row(ground: &Ground) {
    let rows = "select count(*) from webhook_delivery";
    assert_eq!(ground.number(rows).await, 1);
}

#[track_caller]
fn same_news(first: &Heard, second: &Heard) {
    assert_eq!(first.id, second.id);
    assert_eq!(first.body, second.body);
    second.assert_signed(SECRET);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_batch_is_told_once_and_signed() {
    let mut receiver = Receiver::start(&[]).await;
    let mut drill = Drill::new().await;
    drill.start_notifying(messenger()).await;
    let address = receiver.address("/hook?token=abc");
    let batch = submit(&drill.ground, &new_batch("told"), 3, &address).await;
    let ended = drill.ground.ended(batch).await;
    let heard = receiver.hear().await;
    heard.assert_signed(SECRET);
    assert_eq!(heard.target, "/hook?token=abc");
    assert!(heard.id.starts_with("delivery_"), "{}", heard.id);
    let news = heard.json();
    assert_eq!(news["type"], "batch.completed");
    let data = &news["data"];
    assert_eq!(data["batch_id"], batch.to_string());
    assert_eq!(data["name"], "told");
    assert_eq!(data["state"], "Completed");
    assert_eq!(data["generation"], 1);
    assert_eq!(data["error"], Value::Null);
    assert_eq!(data["documents"]["completed"], 3);
    assert_eq!(data["entities"], ended.counts.entities);
    assert_eq!(data["relations"], ended.counts.relations);
    assert_eq!(data["clusters"], ended.counts.clusters);
    assert_eq!(data["duration_ms"], ended.duration_ms);
    assert!(!heard.body.contains("Keller"), "no text: {}", heard.body);
    assert_eq!(until(&drill.ground, batch, "delivered").await, (1, None));
    let report = report(&drill.ground, batch).await;
    assert!(report.url.ends_with("/hook"), "{report:?}");
    drill.stop().await;
    one_row(&drill.ground).await;
    receiver.assert_silent();
}

/// Runs the page's Python on what came; says what it prints.
fn verified(heard: &Heard, secret: &str) -> String {
    let page = include_str!("../../docs/WEBHOOKS.md");
    let (_, code) = page.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let script = format!(
        "{code}\nimport json, sys\nsecret, headers, body = json.load(sys.stdin)\n\
         try:\n    print(verify(secret, headers, body.encode()))\nexcept ValueError as error:\n    print(error)\n"
    );
    let mut python = Command::new("python3")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the page is tried with python3");
    let given = serde_json::json!([secret, heard.headers(), heard.body]);
    serde_json::to_writer(python.stdin.take().unwrap(), &given).unwrap();
    let output = python.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_python_takes_what_is_ours_and_nothing_else() {
    let mut receiver = Receiver::start(&[]).await;
    let ours = "a secret that somebody has thought up".replace(' ', "-");
    // As while one secret takes another's place.
    let secrets = Secrets::parse(&format!("{SECRET} {ours}"))
        .unwrap()
        .unwrap();
    let address = Address::parse(&receiver.address("/")).unwrap();
    let webhook = graphmill::notify::Webhook {
        id: "delivery_1",
        timestamp: receiver::now(),
        body: "{\"name\": \"größer\"}",
    };
    let messenger = Messenger::new(secrets).unwrap();
    let answer = messenger.send(&address, webhook).await.unwrap();
    assert_eq!(answer.status, 204);
    let mut heard = receiver.hear().await;
    assert_eq!(verified(&heard, SECRET), "delivery_1");
    assert_eq!(verified(&heard, &ours), "delivery_1");
    assert_eq!(
        verified(&heard, "another-secret-of-somebody"),
        "no signature fits"
    );
    heard.body.push(' ');
    assert_eq!(verified(&heard, SECRET), "no signature fits");
    let old = graphmill::notify::Webhook {
        timestamp: receiver::now() - 301,
        ..webhook
    };
    messenger.send(&address, old).await.unwrap();
    let heard = receiver.hear().await;
    assert_eq!(verified(&heard, SECRET), "too old, or from the future");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_sent_again_as_it_was() {
    let mut receiver = Receiver::start(&[
        Says::Status(500),
        Says::Redirect("/elsewhere"),
        Says::Status(404),
    ])
    .await;
    let mut drill = Drill::new().await;
    drill.start_notifying(messenger()).await;
    let batch = submit(
        &drill.ground,
        &new_batch("again"),
        1,
        &receiver.address("/hook"),
    )
    .await;
    drill.ground.ended(batch).await;
    let first = receiver.hear().await;
    first.assert_signed(SECRET);
    for (attempts, wanted) in [(1, "500"), (2, "302"), (3, "404")] {
        hurry(&drill.ground, attempts).await;
        let error = drill
            .ground
            .text("select last_error from webhook_delivery")
            .await;
        assert!(error.ends_with(wanted), "{error}");
        let next = receiver.hear().await;
        assert_eq!(next.target, "/hook", "no redirect is followed");
        same_news(&first, &next);
    }
    assert_eq!(until(&drill.ground, batch, "delivered").await, (4, None));
    drill.stop().await;
    one_row(&drill.ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_is_left_alone() {
    let mut receiver = Receiver::start(&[Says::Status(410)]).await;
    let mut drill = Drill::new().await;
    drill.start_notifying(messenger()).await;
    let batch = submit(&drill.ground, &new_batch("gone"), 1, &receiver.address("/")).await;
    drill.ground.ended(batch).await;
    receiver.hear().await;
    let (attempts, error) = until(&drill.ground, batch, "given_up").await;
    assert_eq!(attempts, 1);
    assert_eq!(error.unwrap(), "the receiver answered 410");
    drill.stop().await;
    receiver.assert_silent();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_news_of_its_own() {
    let mut receiver = Receiver::start(&[]).await;
    let mut drill = Drill::new().await;
    // Cancelled before anybody works it, then tried again.
    let batch = submit(&drill.ground, &new_batch("ends"), 2, &receiver.address("/")).await;
    let store = &drill.ground.store;
    signal_batch(store, OURS, batch, graphmill::flow::Signal::Cancel)
        .await
        .unwrap();
    drill.start_notifying(messenger()).await;
    let first = receiver.hear().await;
    assert_eq!(first.json()["type"], "batch.cancelled");
    assert_eq!(first.json()["data"]["documents"]["cancelled"], 2);
    until(&drill.ground, batch, "delivered").await;
    let store = &drill.ground.store;
    signal_batch(store, OURS, batch, graphmill::flow::Signal::Retry)
        .await
        .unwrap();
    let second = receiver.hear().await;
    second.assert_signed(SECRET);
    assert_ne!(first.id, second.id);
    assert_eq!(second.json()["type"], "batch.completed");
    assert_eq!(second.json()["data"]["generation"], 2);
    assert_eq!(second.json()["data"]["documents"]["completed"], 2);
    drill.ends(batch).await;
    receiver.assert_silent();
}

/// A worker process that delivers.
fn worker(ground: &Ground, redis: &Redis) -> Command {
    let mut command = support::bare();
    command
        .env("DATABASE_URL", ground.url())
        .env("REDIS_URL", redis.url())
        .env("GRAPHMILL_WEBHOOK_SECRET", SECRET)
        .env("GRAPHMILL_LEASE", "3s")
        .arg("worker")
        .stderr(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_between_sending_and_noting_it_sends_again_under_the_same_id() {
    // The first one never gets an answer.
    let mut receiver = Receiver::start(&[Says::Nothing]).await;
    let (ground, redis) = (Ground::new().await, Redis::start());
    let batch = NewBatch {
        extractor: "local".to_owned(),
        ..new_batch("killed")
    };
    let batch = submit(&ground, &batch, 2, &receiver.address("/hook")).await;
    let mut first = worker(&ground, &redis).spawn().unwrap();
    let sent = receiver.hear().await;
    sent.assert_signed(SECRET);
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = worker(&ground, &redis).spawn().unwrap();
    let again = receiver.hear().await;
    same_news(&sent, &again);
    assert_eq!(until(&ground, batch, "delivered").await, (2, None));
    second.kill().unwrap();
    second.wait().unwrap();
    ground.assert_counts_equal_rows(batch).await;
    one_row(&ground).await;
    receiver.assert_silent();
}

/// `graphmill run` on the example documents, with what the environment says of webhooks.
fn run(
    database: &support::Database,
    redis: &Redis,
    address: &str,
    secret: Option<&str>,
) -> Command {
    let mut command = support::command(database, redis);
    if let Some(secret) = secret {
        command.env("GRAPHMILL_WEBHOOK_SECRET", secret);
    }
    command
        .args(["run", "--json", "--notify", address])
        .arg(support::examples("broken").join("good.txt"));
    command
}

/// Runs it without stopping the receiver, which lives on this runtime.
async fn said(mut command: Command) -> support::Said {
    tokio::task::spawn_blocking(move || say(&mut command))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_delivers_before_it_exits_or_says_that_it_could_not() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let mut receiver = Receiver::start(&[]).await;
    let address = receiver.address("/hook?token=abc");
    let report = said(run(&database, &redis, &address, Some(SECRET)))
        .await
        .exits(0);
    assert!(!report.stderr.contains("webhook"), "{report:#?}");
    let heard = receiver.hear().await;
    heard.assert_signed(SECRET);
    let batch = report.json()["batch_id"].clone();
    assert_eq!(heard.json()["data"]["batch_id"], batch);
    let mut show = support::command(&database, &redis);
    show.args(["batch", "show", "--json", batch.as_str().unwrap()]);
    let webhook = say(&mut show).exits(0).json()["webhook"].clone();
    assert_eq!(webhook["status"], "delivered");
    assert_eq!(webhook["delivery_id"], heard.id);
    assert!(!webhook.to_string().contains("token"), "{webhook}");

    let mut receiver = Receiver::start(&[Says::Busy]).await;
    let address = receiver.address("/");
    let report = said(run(&database, &redis, &address, Some(SECRET)))
        .await
        .exits(0);
    receiver.hear().await;
    assert!(
        report
            .stderr
            .contains("is not delivered yet (the receiver answered 503)"),
        "{report:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_told_is_refused_before_anything_is_stored() {
    let (database, redis) = (support::migrated().await, Redis::start());
    for (address, secret, wanted) in [
        ("http://127.0.0.1:1/", None, "GRAPHMILL_WEBHOOK_SECRET"),
        (
            "http://127.0.0.1:1/",
            Some("hunter2"),
            "shorter than 16 bytes",
        ),
        ("http://127.0.0.1:1/", Some("whsec_?"), "not base64"),
        (
            "http://me:hunter2@127.0.0.1/",
            Some(SECRET),
            "a user or a password",
        ),
        ("ftp://127.0.0.1/", Some(SECRET), "http:// or https://"),
        ("hunter2", Some(SECRET), "it is no address"),
    ] {
        let said = said(run(&database, &redis, address, secret)).await.exits(2);
        assert!(said.stderr.contains(wanted), "{said:#?}");
        assert!(!said.stderr.contains("hunter2"), "{said:#?}");
        assert_eq!(said.stdout, "");
    }
    let mut list = support::command(&database, &redis);
    list.args(["batch", "list", "--json"]);
    assert_eq!(say(&mut list).exits(0).json(), serde_json::json!([]));
}
