//! The command line, as its users have it: the real binary, its exit codes, its words and its JSON.

mod evaluate;
mod export;
mod graph;
mod interrupt;
mod ontology;
mod private;
mod resolve;
mod resume;
mod run;
mod usage;

use serde_json::Value;

/// Keys of `run --json`, in order.
const REPORT: [&str; 10] = [
    "batch_id",
    "name",
    "state",
    "documents",
    "entities",
    "relations",
    "clusters",
    "duration_ms",
    "calls",
    "failures",
];

/// The keys of an object, sorted.
#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[track_caller]
fn assert_keys(value: &Value, wanted: &[&str]) {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(keys(value), wanted, "{value}");
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Asserts the shape of a report of a batch that has ended, and that its sums add up.
#[track_caller]
fn assert_report(report: &Value) {
    assert_keys(report, &REPORT);
    let documents = &report["documents"];
    let parts = [
        "completed",
        "failed",
        "abandoned",
        "cancelled",
        "refused",
        "duplicate",
    ];
    let mut all = parts.to_vec();
    all.extend(["total", "partial"]);
    assert_keys(documents, &all);
    let sum: u64 = parts.iter().map(|part| number(&documents[part])).sum();
    assert_eq!(number(&documents["total"]), sum, "{report}");
    assert_eq!(documents["failed"], 0, "{report}");
    assert_keys(&report["calls"], &["made", "reused"]);
    for failure in report["failures"].as_array().unwrap() {
        assert_keys(failure, &["document", "code", "message"]);
    }
}

/// Many short documents, for what is to happen in the middle of a run.
fn many(name: &str, count: usize) -> std::path::PathBuf {
    let file = crate::support::folder(name).join("many.jsonl");
    let lines: Vec<String> = (0..count)
        .map(|n| {
            let text =
                format!("Number {n}: Ada Lovelace was born in London. She met Charles Babbage.");
            serde_json::json!({ "id": format!("d{n}"), "text": text }).to_string()
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}
