//! Caps on what a batch may spend: the bill never passes them, and what was paid is not paid again.

use super::*;
use crate::support::ModelProcess;

/// What the documents take is more. A call reserves some five thousand, so that those that a kill leaves in doubt, 16
/// at most, don't use it up at once.
const CAP: u64 = 120_000;
const DOCUMENTS: usize = 90;

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_never_passes_the_cap_on_tokens_even_when_workers_are_killed() {
    let scene = Scene::new("tokens").await;
    let server = ModelProcess::start(
        &scene.folder.join("bill.jsonl"),
        r#"{"latency": "20ms..80ms", "seed": 9}"#,
    );
    let start = || scene.worker(server.base_url(), &["--model-concurrency", "16"]);
    let caps = Caps {
        cost: None,
        tokens: Some(i64::try_from(CAP).unwrap()),
    };
    let id = scene
        .submit(batch("capped", caps), documents(DOCUMENTS))
        .await;
    let mut worker = start();
    for more in [8, 4] {
        let wanted = received(&server.bill()) + more;
        support::wait_for("the next kill", || {
            (received(&server.bill()) >= wanted).then_some(())
        });
        std::mem::replace(&mut worker, start()).kill();
    }
    scene.paused(id).await;
    let shown = scene.show("capped");
    let reason = shown["paused"].as_str().unwrap_or_default();
    for part in ["budget is used up", &CAP.to_string(), "batch resume"] {
        assert!(reason.contains(part), "{part}: {shown}");
    }
    let tokens = billed_tokens(&server.bill());
    assert!((1..=CAP).contains(&tokens), "billed {tokens} of {CAP}");
    assert!(shown["documents"]["completed"].as_u64().unwrap() < DOCUMENTS as u64);

    say(scene
        .binary()
        .args(["batch", "resume", "capped", "--max-tokens", "100000000"]))
    .exits(0);
    scene.completed(id, DOCUMENTS).await;
    let (bill, ledger) = (server.bill(), scene.ledger("capped"));
    assert!(billed_tokens(&bill) > CAP, "the cap was in the way");
    let again = assert_paid_once(&bill, &ledger);
    let in_doubt = with(&ledger, "in_doubt").len();
    assert!(
        (1..=32).contains(&in_doubt),
        "{in_doubt}: the kills met calls"
    );
    assert!(again <= in_doubt);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_never_passes_the_cap_on_costs() {
    let scene = Scene::new("dollars").await;
    let server = crate::support::ModelServer::start("").await;
    let url = server.base_url();
    // A dollar a million tokens: the bill in dollars is the one in tokens.
    let config = "[prices.mock]\ninput = 1.0\noutput = 1.0\n";
    fs::write(scene.folder.join("graphmill.toml"), config).unwrap();
    let file = scene.file(&documents(30));
    let mut run = scene.calling(&url);
    run.args(["run", "--extractor", "openai", "--json", "--name", "dear"])
        .args(["--concurrency", "16", "--max-cost", "0.03", &file])
        .stdout(Stdio::null());
    let mut run = scene.process(&mut run);
    support::eventually("the batch is paused", async || {
        let paused = "select count(*) from batch where paused_at is not null";
        scene.ground.number(paused).await == 1
    })
    .await;
    let tokens = billed_tokens(&server.bill());
    assert!((1..=30_000).contains(&tokens), "billed {tokens} of 30000");
    let shown = scene.show("dear");
    let reason = shown["paused"].as_str().unwrap_or_default();
    assert!(reason.contains("of $0.03"), "{reason}");
    say(scene
        .binary()
        .args(["batch", "resume", "dear", "--max-cost", "10"]))
    .exits(0);
    assert!(run.child.wait().unwrap().success(), "{}", run.log());
    let ledger = scene.ledger("dear");
    assert_eq!(assert_paid_once(&server.bill(), &ledger), 0);
    assert_eq!(
        with(&ledger, "answered").len(),
        super::billed(&server.bill())
    );
    let spent: f64 = scene
        .lines("dear")
        .iter()
        .filter_map(|line| line["cost"].as_f64())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let billed = billed_tokens(&server.bill()) as f64 / 1e6;
    assert!(
        (spent - billed).abs() < 1e-6,
        "{spent} spent, {billed} billed"
    );
}
