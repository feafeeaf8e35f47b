//! Workers that are killed or frozen in the middle of calls.

use super::*;
use crate::support::ModelProcess;

/// How often a worker is killed.
const KILLS: usize = 6;
/// Requests after which the next worker is killed.
const EVERY: usize = 14;
/// Calls at once, over both workers.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_repeats_no_call_whose_answer_was_received() {
    let scene = Scene::new("storm").await;
    let server = ModelProcess::start(
        &scene.folder.join("bill.jsonl"),
        r#"{"latency": "60ms..120ms", "seed": 5}"#,
    );
    let limits = ["--model-concurrency", &AT_ONCE.to_string()];
    let start = || scene.worker(server.base_url(), &limits);
    let id = scene
        .submit(batch("storm", Caps::default()), documents(40))
        .await;
    let mut workers = [start(), start()];
    for kill in 0..KILLS {
        let wanted = (kill + 1) * EVERY;
        support::wait_for("the next kill", || {
            (received(&server.bill()) >= wanted).then_some(())
        });
        // One after the other; its place is taken at once.
        std::mem::replace(&mut workers[kill % 2], start()).kill();
    }
    scene.completed(id, 40).await;
    let (bill, ledger) = (server.bill(), scene.ledger(&id.to_string()));
    let again = assert_paid_once(&bill, &ledger);
    let in_doubt = with(&ledger, "in_doubt").len();
    assert!(
        (1..=KILLS * AT_ONCE).contains(&in_doubt),
        "{in_doubt} in doubt: at least one kill met a call, and none more than were in flight"
    );
    assert!(
        again <= in_doubt,
        "{again} billed again, {in_doubt} in doubt"
    );
    assert!(with(&ledger, "intent").is_empty(), "{ledger:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_files_the_answer_that_was_paid_and_uses_it() {
    let scene = Scene::new("frozen").await;
    let server = ModelProcess::start(
        &scene.folder.join("bill.jsonl"),
        r#"{"rule": [{"when": {"task": "mentions"}, "then": "answer", "latency": "300ms"}]}"#,
    );
    let worker = scene.worker(server.base_url(), &[]);
    let id = scene
        .submit(batch("frozen", Caps::default()), documents(4))
        .await;
    let mentions = |event: Event| {
        let bill = server.bill();
        let task = |entry: &&Entry| {
            entry.event == event
                && entry
                    .task
                    .as_deref()
                    .is_some_and(|task| task.starts_with("mentions"))
        };
        bill.iter().filter(task).count()
    };
    support::wait_for("calls are in flight", || {
        (mentions(Event::Received) > 0).then_some(())
    });
    worker.signal(Signal::STOP);
    let open = "select count(*) from llm_call where outcome = 'intent'";
    let in_flight = scene.ground.number(open).await;
    assert!(in_flight > 0, "it was frozen in a call");
    scene
        .ground
        .until(
            "the claims and the leases have run out",
            "select (select count(*) from llm_call where outcome = 'intent' and claim_until > now())
                    + (select count(*) from workflow_execution where lease_until > now())",
            0,
        )
        .await;
    support::wait_for("the server has answered", || {
        (mentions(Event::Answered) == mentions(Event::Received)).then_some(())
    });
    assert_eq!(
        scene.ground.number(open).await,
        in_flight,
        "nobody else is there"
    );
    worker.signal(Signal::CONT);
    scene.completed(id, 4).await;
    let (bill, ledger) = (server.bill(), scene.ledger(&id.to_string()));
    assert_eq!(assert_paid_once(&bill, &ledger), 0, "{ledger:#?}");
    let answers = with(&ledger, "answered").len();
    assert_eq!(
        billed(&bill),
        answers,
        "every paid answer is filed: {ledger:#?}"
    );
    assert!(with(&ledger, "in_doubt").is_empty(), "{ledger:#?}");
}
