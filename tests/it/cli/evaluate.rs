//! Gold in, numbers out; and extraction on mentions that are given.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{bare, folder, say};

const TEXT: &str = "Ada Brown was born in Paris. Ada Brown works for Acme Corp.";

/// Ada twice, Paris, Acme twice on one span, a name within a name, and a stretch that no tagger would take.
fn ents() -> Value {
    json!([
        [29, 38, "Peop", "x", 0],
        [0, 9, "PER", "x", 0],
        [22, 27, "LOC"],
        [49, 59, "ORG"],
        [49, 59, "ORG"],
        [4, 9, "Other"],
        [14, 29, "TIME"],
        [49, 59, "LOC"]
    ])
}

fn gold(name: &str, lines: &[Value]) -> PathBuf {
    let path = folder(name).join("gold.jsonl");
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(&path, text.join("\n")).unwrap();
    path
}

fn index(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn every_given_mention_comes_back_with_its_number() {
    let path = gold(
        "evaluate-given",
        &[json!({ "id": "a", "text": TEXT, "ents": ents(), "clusters": "never read", "rels": 7 })],
    );
    let line = say(bare()
        .args(["extract", "--json", "--gold-mentions"])
        .arg(&path))
    .exits(0)
    .json();
    let mut back = vec![None; 8];
    for (place, mention) in line["mentions"].as_array().unwrap().iter().enumerate() {
        let number = index(&mention["gold"]);
        assert_eq!(mention["start"], ents()[number][0], "{mention}");
        assert_eq!(mention["end"], ents()[number][1], "{mention}");
        assert!(back[number].replace((place, mention)).is_none());
    }
    let back: Vec<(usize, &Value)> = back.into_iter().map(Option::unwrap).collect();
    let labels: Vec<&Value> = back.iter().map(|(_, mention)| &mention["label"]).collect();
    let wanted = json!(["PER", "PER", "LOC", "ORG", "ORG", "MISC", null, "LOC"]);
    assert_eq!(json!(labels), wanted);
    assert_eq!(back[6].1["type"], "date");
    let entity = |number: usize| {
        let place = json!(back[number].0);
        let entities = line["entities"].as_array().unwrap();
        entities
            .iter()
            .position(|entity| entity["mentions"].as_array().unwrap().contains(&place))
            .unwrap()
    };
    assert_eq!(entity(0), entity(1));
    assert_eq!(entity(3), entity(4));
    assert_ne!(entity(3), entity(7));
    let works = json!("works_for");
    let relations = line["relations"].as_array().unwrap();
    assert!(
        relations.iter().any(|one| one["predicate"] == works),
        "{line}"
    );
}

#[test]
fn a_name_on_the_border_of_two_chunks_is_kept() {
    // No sentence ends in 5,000 characters, so a chunk ends within the name.
    let text = format!(
        "{}Ada Brown Corporation of {}",
        "x ".repeat(990),
        "y ".repeat(1500)
    );
    let path = gold(
        "evaluate-border",
        &[json!({ "id": "a", "text": text, "ents": [[1980, 2004, "ORG"], [0, 4900, "MISC"]] })],
    );
    let line = say(bare()
        .args(["extract", "--json", "--gold-mentions"])
        .arg(&path))
    .exits(0)
    .json();
    let numbers: Vec<usize> = line["mentions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mention| index(&mention["gold"]))
        .collect();
    assert_eq!(numbers, [1, 0]);
}

#[test]
fn a_line_that_can_t_be_used_is_named_with_its_place() {
    let line = |ents: Value| json!({ "id": "a", "text": "Ada met Bob.", "ents": ents });
    for (number, (bad, reason)) in [
        (json!({ "id": "a", "text": "Ada" }), "no `ents`"),
        (line(json!({})), "`ents` is not an array"),
        (line(json!([[0, 3]])), "`ents[0]` is not [start, end, label"),
        (
            line(json!([[0, 3, "PER"], [8, 13, "PER"]])),
            "12 characters",
        ),
        (line(json!([[3, 4, "PER"]])), "blank"),
        (line(json!([[0, 3, "ANIMAL"]])), "`ANIMAL`"),
    ]
    .into_iter()
    .enumerate()
    {
        let good = json!({ "id": "b", "text": "Ada met Bob.", "ents": [[0, 3, "PER"]] });
        let path = gold(&format!("evaluate-bad-{number}"), &[good, bad]);
        let said = say(bare().arg("evaluate").arg(&path)).exits(2);
        assert!(said.stderr.contains("gold.jsonl:2: "), "{said:#?}");
        assert!(said.stderr.contains(reason), "{said:#?}");
        // One bad line doesn't keep the others from being extracted.
        let said = say(bare()
            .args(["extract", "--json", "--gold-mentions"])
            .arg(&path))
        .exits(1);
        let lines: Vec<Value> = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["mentions"][0]["gold"], 0);
        let message = lines[1]["error"]["message"].as_str().unwrap();
        assert!(message.contains("gold.jsonl:2: "), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    let broken =
        json!({ "id": "a", "text": "Ada", "ents": [[0, 3, "PER"]], "rels": [[0, 1, "x"]] });
    let path = gold("evaluate-bad-rels", &[broken]);
    let said = say(bare().arg("evaluate").arg(&path)).exits(2);
    assert!(said.stderr.contains("`rels[0]`"), "{said:#?}");
}

#[test]
fn what_was_extracted_before_scores_as_what_is_extracted_now() {
    let lines = [
        json!({
            "id": "a", "text": TEXT,
            "ents": [[0, 9, "PER"], [22, 27, "LOC"], [29, 38, "PER"], [49, 59, "ORG"]],
            "clusters": [[0, 2], [1], [3]],
            "rels": [[2, 3, "Work_For"]],
            "drels": [[0, 1, "P19"]],
        }),
        json!({ "id": 2, "text": " ", "ents": [] }),
    ];
    let path = gold("evaluate-scores", &lines);
    let given = say(bare()
        .args(["evaluate", "--json", "--gold-mentions"])
        .arg(&path))
    .exits(0)
    .json();
    assert_eq!(given["documents"], 2);
    assert_eq!(given["mentions"][0]["strict"]["f1"], 1.0);
    assert_eq!(given["entities"]["b_cubed"]["f1"], 1.0);
    assert_eq!(given["relations"][0]["strict"]["gold"], 1);
    assert_eq!(given["document_relations"][1]["type"], "born_in");
    assert_eq!(given["document_relations"][1]["strict"]["f1"], 1.0);

    let first = gold("evaluate-first", &lines[..1]);
    let found = say(bare().args(["extract", "--json"]).arg(&first))
        .exits(0)
        .stdout;
    let output = folder("evaluate-output").join("out.jsonl");
    fs::write(&output, found).unwrap();
    let evaluate = || {
        let mut command = bare();
        command.args(["evaluate", "--json"]).arg(&first);
        command
    };
    let before = say(evaluate().arg("--predictions").arg(&output))
        .exits(0)
        .json();
    assert_eq!(before, say(&mut evaluate()).exits(0).json());

    // The other file has a document that was never extracted.
    let said = say(bare()
        .arg("evaluate")
        .arg(&path)
        .arg("--predictions")
        .arg(&output))
    .exits(2);
    assert!(
        said.stderr.contains("no line for the document `2`"),
        "{said:#?}"
    );
    let table = say(bare().arg("evaluate").arg(&first)).exits(0).stdout;
    assert!(
        table.contains("PER+ORG+LOC") && table.contains("B³"),
        "{table}"
    );
}
