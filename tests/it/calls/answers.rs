//! Models that say what isn't so, or don't say it as they were asked to.

use std::collections::HashMap;

use super::*;
use crate::support::ModelServer;

/// Asserts that every span of an export is the text that it says; how many there are.
#[track_caller]
fn assert_grounded(export: &Value, documents: &[NewDocument]) -> usize {
    let texts: HashMap<&str, Vec<char>> = documents
        .iter()
        .map(|document| (&*document.id, document.text.chars().collect()))
        .collect();
    let names: HashMap<&str, &str> = export["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| {
            let id = |key: &str| document[key].as_str().unwrap();
            (id("document_id"), id("id"))
        })
        .collect();
    let mut spans = 0;
    for (list, of) in [("entities", "mentions"), ("relations", "evidence")] {
        for item in export[list].as_array().unwrap() {
            let document = item["document"].as_str().unwrap();
            let name = names.get(document).copied().unwrap_or(document);
            for span in item[of].as_array().unwrap() {
                let at = |key: &str| usize::try_from(span[key].as_u64().unwrap()).unwrap();
                let text: String = texts[name][at("start")..at("end")].iter().collect();
                assert_eq!(span["text"], text, "{item}");
                spans += 1;
            }
        }
    }
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_not_in_the_text_is_published() {
    let scene = Scene::new("answers").await;
    let server = ModelServer::start(
        r#"
        [[rule]]
        when = { task = "probe" }
        [[rule]]
        name = "refuse"
        when = { contains = "Zelda", task = "relations" }
        then = "refuse"
        [[rule]]
        name = "invent"
        when = { every = 4 }
        then = "invented_quotes"
        [[rule]]
        name = "prose"
        when = { every = 3 }
        then = "prose"
        [[rule]]
        name = "truncate"
        when = { every = 5 }
        then = "truncate"
        [[rule]]
        name = "broken"
        when = { every = 7 }
        then = "broken_json"
        "#,
    )
    .await;
    let mut documents = documents(11);
    // The last of its chunks is refused.
    let rest = "Zelda Fitzgerald lived in Montgomery with Ada Byron, who worked for Siemens.";
    let text = format!(
        "{}\n\n{rest}",
        "Maria Keller was born in Vienna. ".repeat(70)
    );
    documents.push(NewDocument::new("long", text));
    let file = scene.file(&documents);
    // A document of which a unit is lost for good is there without it.
    let report = scene
        .run(&server.base_url(), "answers", &[&file])
        .exits(0)
        .json();
    assert_eq!(report["documents"]["completed"], 12, "{report}");
    assert_eq!(report["documents"]["partial"], 1, "{report}");
    let played: BTreeSet<String> = answered(&server.bill())
        .filter_map(|entry| entry.rule.clone())
        .collect();
    for rule in ["refuse", "invent", "prose", "truncate", "broken"] {
        assert!(played.contains(rule), "{rule}: {played:?}");
    }
    let export = say(scene.binary().args(["export", "answers"]))
        .exits(0)
        .json();
    assert!(assert_grounded(&export, &documents) > 20, "{export}");
    let dropped = scene
        .ground
        .number("select coalesce(sum(count), 0) from dropped_item where reason = 'ungrounded'")
        .await;
    assert!(dropped > 0, "what was invented is counted");
    assert_paid_once(&server.bill(), &scene.ledger("answers"));
}
