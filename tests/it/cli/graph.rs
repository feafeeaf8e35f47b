//! The direct path, and that the durable one finds the same graph.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::assert_keys;
use crate::support::{self, Redis, bare, examples, say};

/// What a document's graph says, without ids: names, types, mentions and relations, sorted.
type Graph = (Vec<String>, Vec<String>);

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn entity(entity: &Value, mentions: &[&Value]) -> String {
    let mut mentions: Vec<Value> = mentions
        .iter()
        .map(|m| {
            json!([
                m["start"],
                m["end"],
                m["text"],
                m["type"],
                m["value"],
                m["confidence"]
            ])
        })
        .collect();
    mentions.sort_by_key(ToString::to_string);
    json!([entity["name"], entity["type"], mentions]).to_string()
}

fn direct(line: &Value) -> Graph {
    let entities = list(line, "entities");
    let name = |id: &Value| {
        let found = entities.iter().find(|entity| entity["id"] == *id).unwrap();
        json!([found["name"], found["type"]])
    };
    let mut names: Vec<String> = entities
        .iter()
        .map(|one| {
            let of: Vec<&Value> = list(one, "mentions")
                .iter()
                .map(|index| &line["mentions"][usize::try_from(index.as_u64().unwrap()).unwrap()])
                .collect();
            entity(one, &of)
        })
        .collect();
    let mut relations: Vec<String> = list(line, "relations")
        .iter()
        .map(|r| {
            let ends = (name(&r["subject"]), name(&r["object"]));
            json!([
                ends.0,
                r["predicate"],
                ends.1,
                r["start"],
                r["end"],
                r["confidence"]
            ])
            .to_string()
        })
        .collect();
    names.sort();
    relations.sort();
    (names, relations)
}

fn durable(export: &Value) -> BTreeMap<String, Graph> {
    let mut graphs: BTreeMap<String, Graph> = list(export, "documents")
        .iter()
        .map(|document| {
            (
                document["id"].as_str().unwrap().to_owned(),
                Graph::default(),
            )
        })
        .collect();
    let mut names = BTreeMap::new();
    for one in list(export, "entities") {
        names.insert(
            one["id"].as_str().unwrap(),
            json!([one["name"], one["type"]]),
        );
        let mentions: Vec<&Value> = list(one, "mentions").iter().collect();
        let graph = graphs.get_mut(one["document"].as_str().unwrap()).unwrap();
        graph.0.push(entity(one, &mentions));
    }
    for r in list(export, "relations") {
        let name = |end: &str| &names[r[end].as_str().unwrap()];
        let graph = graphs.get_mut(r["document"].as_str().unwrap()).unwrap();
        // A line of the direct path has room for the first evidence only.
        if let Some(evidence) = list(r, "evidence").first() {
            let (from, to) = (&evidence["start"], &evidence["end"]);
            let (subject, object) = (name("subject"), name("object"));
            let line = json!([subject, r["predicate"], object, from, to, r["confidence"]]);
            graph.1.push(line.to_string());
        }
    }
    for graph in graphs.values_mut() {
        graph.0.sort();
        graph.1.sort();
    }
    graphs
}

#[tokio::test(flavor = "multi_thread")]
async fn both_paths_find_the_same_graph() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let documents = examples("documents");
    let extracted = say(bare().args(["extract", "--json"]).arg(&documents)).exits(0);
    let lines: Vec<Value> = extracted
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let command = || support::command(&database, &redis);
    say(command().args(["run", "--name", "n"]).arg(&documents)).exits(0);
    let export = say(command().args(["export", "n"])).exits(0).json();
    let durable = durable(&export);
    assert_eq!(lines.len(), 31);
    assert_eq!(durable.len(), 31);
    let mut relations = 0;
    for line in &lines {
        let id = line["id"].as_str().unwrap();
        let direct = direct(line);
        relations += direct.1.len();
        assert_eq!(durable[id], direct, "{id}");
    }
    assert!(relations > 200, "{relations}");
    for document in list(&export, "documents") {
        assert_eq!(document["state"], "completed");
    }
}

/// Asserts that every span of the line is that of its text.
fn assert_spans(line: &Value, text: &str) {
    let scalars: Vec<char> = text.chars().collect();
    let at = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    for mention in list(line, "mentions") {
        let slice: String = scalars[at(&mention["start"])..at(&mention["end"])]
            .iter()
            .collect();
        assert_eq!(mention["text"], slice, "{mention}");
    }
    for relation in list(line, "relations") {
        assert!(at(&relation["start"]) < at(&relation["end"]), "{relation}");
        assert!(at(&relation["end"]) <= scalars.len(), "{relation}");
    }
}

#[test]
fn every_mention_is_the_slice_of_its_text() {
    let folder = support::folder("cli-spans");
    let odd = "👩‍🔬 Zoe\u{308} Müller (née Cafe\u{301}) 🦀 met Ada Lovelace in Go\u{308}ttingen. \
               \u{feff}Ada Lovelace was born in London 🇬🇧.\r\nIBM was founded in New York.\n";
    fs::write(folder.join("odd.txt"), odd).unwrap();
    let said = say(bare()
        .args(["extract", "--json"])
        .args([folder, examples("documents")]))
    .exits(0);
    let mut mentions = 0;
    for line in said.stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_keys(&line, &["id", "mentions", "entities", "relations"]);
        let id = line["id"].as_str().unwrap();
        let text = if id == "odd.txt" {
            assert!(list(&line, "mentions").len() >= 3, "{line}");
            odd.to_owned()
        } else {
            fs::read_to_string(examples("documents").join(id)).unwrap()
        };
        assert_spans(&line, &text);
        mentions += list(&line, "mentions").len();
    }
    assert!(mentions > 1000);
}

#[test]
fn the_direct_path_says_the_same_whatever_the_threads() {
    let extract = |threads: &str| {
        say(bare()
            .args(["extract", "--json", "--threads", threads])
            .arg(examples("documents")))
        .exits(0)
        .stdout
    };
    assert_eq!(extract("1"), extract("8"));
}

#[test]
fn a_refused_document_is_a_line_of_its_own() {
    let broken = examples("broken");
    let said = say(bare()
        .args(["extract", "--json"])
        .args([&broken, &broken.join("broken-line.jsonl")]))
    .exits(1);
    let lines: Vec<Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (refused, good): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line.get("error").is_some());
    assert_eq!((refused.len(), good.len()), (6, 6));
    for line in refused {
        assert_keys(line, &["id", "error"]);
        assert_keys(&line["error"], &["code", "message"]);
    }
}
