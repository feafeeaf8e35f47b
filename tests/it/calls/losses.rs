//! What is lost in the middle of calls (a worker that freezes while others go on, Redis, the patience of whoever
//! presses Ctrl-C) costs no call twice.

use super::*;
use crate::{queue::TestRedis, support::ModelServer};

fn of_mentions(bill: &[Entry], event: Event) -> Vec<Entry> {
    let is_it = |entry: &&Entry| {
        let task = entry.task.as_deref().unwrap_or_default();
        entry.event == event && task.starts_with("mentions")
    };
    bill.iter().filter(is_it).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_uses_the_answer_that_a_frozen_one_files_late() {
    let scene = Scene::new("thawed").await;
    let server = ModelServer::start(
        r#"
        [[rule]]
        when = { task = "mentions" }
        then = "answer"
        latency = "300ms"
        "#,
    )
    .await;
    let patient = ["--breaker-failures", "100000"];
    let first = scene.worker(&server.base_url(), &patient);
    let id = scene
        .submit(batch("thawed", Caps::default()), documents(1))
        .await;
    support::wait_for("a call is in flight", || {
        (!of_mentions(&server.bill(), Event::Received).is_empty()).then_some(())
    });
    first.signal(Signal::STOP);
    support::wait_for("the server has answered", || {
        (!of_mentions(&server.bill(), Event::Answered).is_empty()).then_some(())
    });
    // Whoever asks next is not answered: only what was paid already can help.
    server.script(
        r#"
        [[rule]]
        when = { task = "mentions" }
        then = { fail = { status = 500 } }
        latency = "200ms"
        "#,
    );
    let _second = scene.worker(&server.base_url(), &patient);
    support::wait_for("the other worker asks too", || {
        (of_mentions(&server.bill(), Event::Received).len() > 1).then_some(())
    });
    let in_doubt = "select count(*) from llm_call where outcome = 'in_doubt'";
    assert_eq!(scene.ground.number(in_doubt).await, 1);
    first.signal(Signal::CONT);
    scene.completed(id, 1).await;
    let (bill, ledger) = (server.bill(), scene.ledger("thawed"));
    assert_eq!(assert_paid_once(&bill, &ledger), 0, "{ledger:#?}");
    let paid = of_mentions(&bill, Event::Answered);
    let paid: Vec<&Entry> = paid.iter().filter(|entry| entry.billed).collect();
    assert_eq!(paid.len(), 1, "{paid:#?}");
    let doubtful = with(&ledger, "in_doubt");
    assert_eq!(doubtful.len(), 1, "{ledger:#?}");
    assert_eq!(Some(&doubtful[0].id), paid[0].call.as_ref());
    let used = scene
        .lines("thawed")
        .iter()
        .any(|line| line["answered_by"] == doubtful[0].id.as_str());
    assert!(used, "{ledger:#?}");
}

/// A document of many chunks, no two of which are the same.
fn long(number: usize) -> NewDocument {
    let chunks: Vec<String> = (0..12)
        .map(|chunk| {
            let one = format!("Ada Keller{number} met Jonas Novak{chunk} in Vienna. ");
            one.repeat(8)
        })
        .collect();
    NewDocument::new(format!("d{number}"), chunks.join("\n\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_calls_go_on_within_each_ones_share_and_none_is_paid_twice() {
    const AT_ONCE: usize = 4;
    let scene = Scene::new("redis").await;
    let mut redis = TestRedis::start().await;
    let server = ModelServer::start("latency = \"150ms\"").await;
    let start = || {
        let mut command = scene.working(&server.base_url());
        command
            .env("REDIS_URL", redis.url())
            .args(["--model-concurrency", &AT_ONCE.to_string()]);
        scene.process(&mut command)
    };
    let _workers = [start(), start()];
    // Each has said that it lives after the other one had begun: it knows that it is not alone.
    let workers = "select count(*) from worker where seen_at > (select max(started_at) from worker)
                   having count(*) filter (where seen_at > started_at) = 2";
    support::eventually("both know of each other", async || {
        scene.ground.texts(workers).await == ["2"]
    })
    .await;
    let mut batch = batch("redis", Caps::default());
    batch.settings.chunks.chars = 400;
    let id = scene.submit(batch, (0..8).map(long).collect()).await;
    support::wait_for("calls are made", || {
        (received(&server.bill()) >= 12).then_some(())
    });
    redis.kill();
    let before = received(&server.bill());
    // As many as a slow machine makes before the others have waited so long that they give their leases back: those wait
    // for Redis then, which is to ring for them.
    support::wait_for("calls go on without Redis", || {
        (received(&server.bill()) >= before + 14).then_some(())
    });
    let alone = received(&server.bill());
    redis.restart().await;
    scene.completed(id, 8).await;
    let (bill, ledger) = (server.bill(), scene.ledger("redis"));
    assert_eq!(assert_paid_once(&bill, &ledger), 0);
    assert_eq!(with(&ledger, "answered").len(), billed(&bill));
    assert!(with(&ledger, "in_doubt").is_empty(), "{ledger:#?}");
    // What was on its way when Redis was lost comes on top of a share for as long as it lasts.
    let of_shares = bill
        .iter()
        .filter(|entry| entry.event == Event::Received)
        .take(alone)
        .skip(before + 2 * AT_ONCE);
    let most = of_shares.map(|entry| entry.in_flight).max().unwrap();
    assert!(
        (2..=AT_ONCE as u64).contains(&most),
        "{most} at once of {AT_ONCE}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_the_middle_of_calls_keeps_their_answers_and_resume_repeats_none() {
    let scene = Scene::new("interrupted").await;
    let server = ModelServer::start("latency = \"400ms\"").await;
    let file = scene.file(&documents(10));
    let mut run = scene.calling(&server.base_url());
    run.args(["run", "--extractor", "openai", "--json", "--name", "cut"])
        .arg(&file)
        .stdout(Stdio::null());
    let mut run = scene.process(&mut run);
    support::wait_for("calls are in flight", || {
        let bill = server.bill();
        let mentions = of_mentions(&bill, Event::Received).len();
        (mentions > of_mentions(&bill, Event::Answered).len() && mentions > 2).then_some(())
    });
    run.signal(Signal::INT);
    let ended = run.child.wait().unwrap();
    assert_eq!(ended.code(), Some(130), "{}", run.log());
    let (bill, ledger) = (server.bill(), scene.ledger("cut"));
    assert_eq!(received(&bill), answered(&bill).count(), "it drained");
    assert!(!bill.iter().any(|entry| entry.client_left), "{bill:#?}");
    assert_eq!(
        with(&ledger, "answered").len(),
        billed(&bill),
        "{ledger:#?}"
    );
    let completed = "select count(*) from workflow_execution where status = 'completed'";
    assert!(scene.ground.number(completed).await < 10, "it was cut off");

    let mut resume = scene.calling(&server.base_url());
    resume.args(["run", "--extractor", "openai", "--json", "--resume", "cut"]);
    let report = say(&mut resume).exits(0).json();
    assert_eq!(report["documents"]["completed"], 10, "{report}");
    let (bill, ledger) = (server.bill(), scene.ledger("cut"));
    assert_eq!(assert_paid_once(&bill, &ledger), 0);
    assert!(with(&ledger, "in_doubt").is_empty(), "{ledger:#?}");
    let stats = server.stats();
    assert!(stats.repeated_requests.is_empty(), "{stats:?}");
}
