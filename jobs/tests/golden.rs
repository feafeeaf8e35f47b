//! The wire format, pinned: what is pushed and what is told, as text. A change that fails here is a new version of the
//! format, not a new golden file; `tests/it/producers.rs` of the workspace has the service read these very files.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should stop where it is"
)]

use std::{fs, path::Path};

use graphmill_jobs::{
    Addition, Ask, BatchId, Document, DocumentCounts, Envelope, Receipt, RefusedDocument, Seal,
    Submission,
};
use serde::{Serialize, de::DeserializeOwned};

const KEY: &str = "gm_0123456789ab_00000000000000000000000000000000000000000000000";

fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.strip_suffix('\n').unwrap().to_owned()
}

#[track_caller]
fn is_golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let text = golden(name);
    assert_eq!(serde_json::to_string(value).unwrap(), text, "{name}");
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{name}");
}

#[test]
fn an_envelope_is_this_text_and_no_other() {
    let least = Submission::new([Document::new("a", "Ada Lovelace met Charles Babbage.")]);
    let least = Envelope::new(KEY, "nightly-1", Ask::Submit(least));
    is_golden("submit_least.json", &least);

    let document = Document::new("b", "Zürich „liegt“ an der\nLimmat.")
        .title("Zürich")
        .source_uri("https://example.org/zuerich")
        .metadata("language", "de");
    let most = Submission::new([document])
        .name("cities")
        .extractor("local")
        .model("small")
        .price_input(0.5)
        .price_cached_input(0.25)
        .price_output(1.5)
        .max_cost(10.0)
        .max_tokens(1_000_000)
        .adjudicate(true)
        .adjudicate_most(100)
        .concurrency(8)
        .failure_policy("retry-failed")
        .max_retries(3)
        .max_failures("5%")
        .weight(2)
        .partial("fail")
        .notify("https://example.org/told")
        .open();
    let mut most = Envelope::new(KEY, "nightly-2", Ask::Submit(most));
    most.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    most.receipt_seconds = Some(60);
    is_golden("submit_most.json", &most);

    let addition = Addition::new(
        "papers",
        [Document::new("a", "one"), Document::new("b", "two")],
    );
    is_golden(
        "add.json",
        &Envelope::new(KEY, "papers/1", Ask::Add(addition)),
    );
    let seal = Ask::Seal(Seal::after("papers", 2));
    is_golden("seal.json", &Envelope::new(KEY, "papers/seal", seal));
    let seal = Ask::Seal(Seal::now("papers"));
    is_golden("seal_now.json", &Envelope::new(KEY, "papers/seal", seal));
}

#[test]
fn a_receipt_is_this_text_and_no_other() {
    let batch: BatchId = "batch_0190f0c2000070008000000000000001".parse().unwrap();
    let accepted = Receipt::Accepted {
        batch_id: batch,
        batch: "papers".to_owned(),
        sealed: true,
        again: false,
        documents: DocumentCounts {
            added: 1,
            refused: 1,
            ..DocumentCounts::default()
        },
        refused: vec![RefusedDocument {
            document: "b".to_owned(),
            code: "empty".to_owned(),
            message: "the document is empty".to_owned(),
        }],
    };
    is_golden("receipt_accepted.json", &accepted);
    let refused = Receipt::Refused {
        code: "unfit".to_owned(),
        message: "`submit.concurrency`: 0 is not within 1 to 10000".to_owned(),
        place: Some("submit.concurrency".to_owned()),
    };
    is_golden("receipt_refused.json", &refused);
    // What a later version adds is read past.
    let later = r#"{"v":1,"id":"submit:1","status":"accepted","batch_id":"batch_0190f0c2000070008000000000000001","more":1}"#;
    let later: Receipt = serde_json::from_str(later).unwrap();
    assert!(matches!(later, Receipt::Accepted { batch_id, .. } if batch_id == batch));
}

#[test]
fn the_key_is_not_shown() {
    let seal = Ask::Seal(Seal::now("papers"));
    let shown = format!("{:?}", Envelope::new(KEY, "papers/seal", seal));
    assert!(!shown.contains("gm_"), "{shown}");
}
