//! Servers that ask for patience, fail, or don't want to be called at all.

use super::*;
use crate::support::ModelServer;

#[tokio::test(flavor = "multi_thread")]
async fn being_asked_for_fewer_calls_is_no_try() {
    let scene = Scene::new("throttled").await;
    let server = ModelServer::start(
        r#"
        [[rule]]
        when = { every = 3 }
        then = { fail = { status = 429, retry_after = "50ms", retry_form = "milliseconds" } }
        "#,
    )
    .await;
    let file = scene.file(&documents(8));
    let report = scene
        .run(
            &server.base_url(),
            "throttled",
            &["--unit-retries", "0", &file],
        )
        .exits(0)
        .json();
    assert_eq!(report["documents"]["completed"], 8, "{report}");
    assert_eq!(report["documents"]["partial"], 0, "{report}");
    let throttled = server.stats().statuses["429"];
    assert!(throttled >= 8, "{throttled}");
    let ledger = scene.ledger("throttled");
    assert_eq!(assert_paid_once(&server.bill(), &ledger), 0);
    assert_eq!(with(&ledger, "rejected").len() as u64, throttled);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_cut_connections_here_and_there_lose_nothing() {
    let scene = Scene::new("rough").await;
    let server = ModelServer::start(
        r#"
        [[rule]]
        when = { every = 5 }
        then = { fail = { status = 503 } }
        [[rule]]
        when = { every = 7 }
        then = { cut = "before_headers" }
        [[rule]]
        when = { every = 9 }
        then = { cut = "mid_body" }
        [[rule]]
        when = { every = 11 }
        then = { fail = { status = 429, retry_after = "20ms", retry_form = "milliseconds" } }
        "#,
    )
    .await;
    let file = scene.file(&documents(12));
    let report = scene
        .run(
            &server.base_url(),
            "rough",
            &["--unit-retries", "50", &file],
        )
        .exits(0)
        .json();
    assert_eq!(report["documents"]["completed"], 12, "{report}");
    assert_eq!(report["documents"]["partial"], 0, "{report}");
    let ledger = scene.ledger("rough");
    assert_paid_once(&server.bill(), &ledger);
    let played: BTreeSet<String> = answered(&server.bill())
        .filter_map(|entry| entry.rule.clone())
        .collect();
    assert_eq!(played.len(), 4, "{played:?}");
    // Of a call that was cut off nobody knows whether it was billed.
    assert!(!with(&ledger, "in_doubt").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_at_the_fifth_failure_and_lets_one_call_at_a_time_try() {
    let scene = Scene::new("breaker").await;
    let server = ModelServer::start("[[rule]]\nthen = { fail = { status = 500 } }").await;
    let _worker = scene.worker(
        &server.base_url(),
        &[
            "--breaker-failures",
            "5",
            "--breaker-seconds",
            "2",
            "--model-concurrency",
            "1",
        ],
    );
    let id = scene
        .submit(batch("breaker", Caps::default()), documents(4))
        .await;
    let mut watch = scene.binary();
    watch
        .args(["batch", "watch", "breaker"])
        .stdout(Stdio::null());
    let watch = scene.process(&mut watch);
    support::wait_for("progress says why it waits", || {
        let log = watch.log();
        (log.contains("waiting: ") && log.contains("is open after")).then_some(())
    });
    support::eventually("two probes", async || received(&server.bill()) >= 7).await;
    let shown = scene.show("breaker");
    assert_eq!(shown["documents"]["failed"], 0, "{shown}");
    assert_eq!(shown["failed_units"], serde_json::json!([]), "{shown}");
    let bill = server.bill();
    let times: Vec<u64> = bill
        .iter()
        .filter(|entry| entry.event == Event::Received)
        .map(|entry| entry.at_ms)
        .collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The fifth failure opens it: each call from then on is a probe, two seconds after the one before.
    assert!(
        pauses[4..].iter().all(|pause| *pause >= 1_900),
        "{pauses:?}"
    );
    assert!(pauses[..4].iter().all(|pause| *pause < 1_900), "{pauses:?}");

    server.script("");
    scene.completed(id, 4).await;
    let ledger = scene.ledger("breaker");
    assert_eq!(assert_paid_once(&server.bill(), &ledger), 0);
}

/// The batch is paused by what the server says, and goes on once that is mended and somebody says so.
async fn pauses(name: &str, then: &str, why: &[&str]) {
    let scene = Scene::new(name).await;
    let server = ModelServer::start(&format!("[[rule]]\nthen = {then}")).await;
    let worker = scene.worker(&server.base_url(), &[]);
    let id = scene
        .submit(batch(name, Caps::default()), documents(4))
        .await;
    scene.paused(id).await;
    let shown = scene.show(name);
    let reason = shown["paused"].as_str().unwrap_or_default();
    for part in why {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    // Others may be on their way, or about to ask, when the first answer pauses the batch: none of them is answered.
    support::eventually("every call was rejected", async || {
        let ledger = scene.ledger(name);
        ledger.len() == with(&ledger, "rejected").len()
    })
    .await;
    let ledger = scene.ledger(name);
    assert_eq!(with(&ledger, "answered").len(), 0, "{ledger:#?}");
    let told: Vec<&str> = ledger
        .iter()
        .filter_map(|call| call.error.as_deref())
        .collect();
    assert!(!told.is_empty());

    server.script("");
    say(scene.binary().args(["batch", "resume", name])).exits(0);
    scene.completed(id, 4).await;
    assert_eq!(shown["failed_units"], serde_json::json!([]), "{shown}");
    for seen in [&shown.to_string(), &worker.log(), &told.join("\n")] {
        assert!(!seen.contains(KEY), "the key is to be seen: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_pauses_the_batch() {
    pauses(
        "quota",
        "\"insufficient_quota\"",
        &["out of money", "insufficient_quota"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_pauses_the_batch_and_is_not_repeated() {
    let message = format!("Incorrect API key provided: {KEY}.");
    let then = format!("{{ fail = {{ status = 401, message = \"{message}\" }} }}");
    pauses("unauthorized", &then, &["401"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_there_pauses_the_batch() {
    let then = "{ fail = { status = 404 } }";
    let why = ["no model of this name", "model_not_found", "--model"];
    pauses("no-model", then, &why).await;
}
