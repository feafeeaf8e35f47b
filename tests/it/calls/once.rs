//! What was paid is used again, and only `--fresh` pays again.

use super::*;
use crate::support::ModelServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_batch_of_the_same_documents_costs_nothing() {
    let scene = Scene::new("once").await;
    let server = ModelServer::start("").await;
    let url = server.base_url();
    let file = scene.file(&documents(4));

    let first = scene.run(&url, "first", &[&file]).exits(0).json();
    assert_eq!(first["documents"]["completed"], 4, "{first}");
    assert!(first["entities"].as_u64().unwrap() > 0, "{first}");
    let paid = server.bill();
    let lines = scene.lines("first");
    for line in &lines {
        for field in ["id", "request_hash", "outcome", "started_at"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        assert!(line["attempt"].is_u64(), "{line}");
        let is_unknown = line["cost"].is_null();
        assert_eq!(
            is_unknown,
            line["outcome"] == "answered",
            "no price is known: {line}"
        );
        assert!(
            line["prompt_tokens"].is_u64() && line["completion_tokens"].is_u64(),
            "{line}"
        );
    }
    let ledger = scene.ledger("first");
    assert_eq!(assert_paid_once(&paid, &ledger), 0);
    assert_eq!(with(&ledger, "answered").len(), billed(&paid));
    let counted: u64 = lines
        .iter()
        .map(|line| {
            line["prompt_tokens"].as_u64().unwrap() + line["completion_tokens"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(
        counted,
        billed_tokens(&paid),
        "the ledger has the bill's tokens"
    );

    let second = scene.run(&url, "second", &[&file]).exits(0).json();
    assert_eq!(server.bill().len(), paid.len(), "nothing was sent");
    let again = scene.ledger("second");
    assert!(!again.is_empty());
    assert_eq!(with(&again, "cached").len(), again.len(), "{again:#?}");
    for count in ["entities", "relations", "clusters"] {
        assert_eq!(second[count], first[count], "{count}");
    }

    scene.run(&url, "third", &["--fresh", &file]).exits(0);
    let fresh = scene.ledger("third");
    assert_eq!(with(&fresh, "answered").len(), fresh.len(), "{fresh:#?}");
    let units = |calls: &[Call]| {
        let calls: BTreeSet<&str> = calls.iter().map(|call| &*call.request_hash).collect();
        calls.len()
    };
    // What the server is able to do was found out before, and is not asked again.
    assert_eq!(units(&fresh), units(&again));
    assert_eq!(billed(&server.bill()) - billed(&paid), fresh.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_at_the_same_time_is_one_call() {
    let scene = Scene::new("same").await;
    let server = ModelServer::start("latency = \"500ms\"").await;
    // Six documents, different in their ids and their last chunks, and the same in their first.
    let same = "Ada Lovelace was born in London. She met Charles Babbage in Turin. ".repeat(8);
    let texts = (0..6).map(|n| {
        let rest = format!("Marie Curie{n} worked for Siemens in Berlin.");
        NewDocument::new(format!("d{n}"), format!("{same}\n\n{rest}"))
    });
    let mut batch = batch("same", Caps::default());
    batch.settings.chunks.chars = 600;
    let _worker = scene.worker(&server.base_url(), &[]);
    let id = scene.submit(batch, texts.collect()).await;
    scene.completed(id, 6).await;
    let (bill, ledger) = (server.bill(), scene.ledger(&id.to_string()));
    assert_eq!(assert_paid_once(&bill, &ledger), 0);
    let stats = server.stats();
    assert!(stats.repeated_requests.is_empty(), "{stats:?}");
    let replays = with(&ledger, "cached").len();
    assert!(
        replays >= 5,
        "the first chunks share an answer: {ledger:#?}"
    );
}
