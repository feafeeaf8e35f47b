//! `graphmill resolve`: names in, clusters out, in the order of the lines; broken lines named.

use std::{collections::HashMap, fs, io::Write as _, path::PathBuf, process::Stdio};

use serde_json::{Value, json};

use crate::support::{Said, bare, folder, say};

/// A name a line; ids of both kinds that are allowed, and a field that nobody reads.
fn names() -> Vec<Value> {
    vec![
        json!({"id": "a", "document": "d1", "name": "Angela Merkel", "type": "PER", "gold": 1}),
        json!({"id": 2, "document": "d1", "name": "Merkel", "type": "PER", "extra": {}, "gold": 1}),
        json!({"id": "c", "document": 2, "name": "U.S.", "type": "GPE", "gold": "us"}),
        json!({"id": "d", "document": "d3", "name": "United States", "type": "LOC", "context": null, "gold": "us"}),
        json!({"id": "e\n", "document": "d3", "name": "Paris Hilton", "type": "person", "gold": 4}),
        json!({"id": "f", "document": "d4", "name": "Paris", "gold": 5}),
    ]
}

fn write(folder_name: &str, lines: &[Value]) -> PathBuf {
    let file = folder(folder_name).join("names.jsonl");
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    fs::write(&file, text.join("\n") + "\n\n").unwrap();
    file
}

fn clusters(said: &Said) -> Vec<(Value, String)> {
    let lines = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|line: Value| {
            (
                line["id"].clone(),
                line["cluster"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn each_line_gets_its_cluster_in_order() {
    let file = write("resolve-order", &names());
    let said = say(bare().args(["resolve", "--json", "--gold"]).arg(&file)).exits(0);
    let found = clusters(&said);
    let ids: Vec<&Value> = found.iter().map(|(id, _)| id).collect();
    assert_eq!(json!(ids), json!(["a", 2, "c", "d", "e\n", "f"]));
    let of: Vec<&str> = found.iter().map(|(_, cluster)| &**cluster).collect();
    assert_eq!((of[0], of[2]), (of[1], of[3]));
    let distinct: std::collections::BTreeSet<&str> = of.iter().copied().collect();
    assert_eq!(distinct.len(), 4, "{of:?}");
    assert!(
        said.stderr
            .contains("precision 1.0000, recall 1.0000, F1 1.0000"),
        "{said:#?}"
    );

    // From a pipe in another order: the same things.
    let mut lines: Vec<String> = names().iter().map(ToString::to_string).collect();
    lines.reverse();
    let mut child = bare()
        .args(["resolve", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.join("\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut renamed: HashMap<String, String> = HashMap::new();
    for (line, (id, cluster)) in String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .zip(found.iter().rev())
    {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["id"], *id);
        let other = line["cluster"].as_str().unwrap().to_owned();
        assert_eq!(
            renamed.entry(other).or_insert_with(|| cluster.clone()),
            cluster
        );
    }
    assert_eq!(renamed.len(), 4);
}

#[test]
fn without_json_it_says_what_it_found_and_why() {
    let file = write("resolve-summary", &names());
    let said = say(bare().arg("resolve").arg(&file)).exits(0);
    assert!(
        said.stdout
            .starts_with("6 names of 4 documents are 4 things"),
        "{said:#?}"
    );
    for wanted in ["alias", "known", "Angela Merkel PER"] {
        assert!(said.stdout.contains(wanted), "{wanted}: {said:#?}");
    }
    let said = say(bare().args(["resolve", "--links"]).arg(&file)).exits(0);
    let links: Vec<Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let merged = |reason: &str| {
        links
            .iter()
            .any(|link| link["merged"] == true && link["reason"] == reason)
    };
    assert!(merged("alias") && merged("known"), "{links:#?}");
}

#[test]
fn a_broken_line_is_named_with_its_reason_and_nothing_is_resolved() {
    let file = folder("resolve-broken").join("names.jsonl");
    for (line, reason) in [
        ("nonsense", "not a JSON object"),
        ("{\"id\": 1,", "EOF while parsing"),
        ("{\"document\": 1, \"name\": \"x\"}", "no `id`"),
        ("{\"id\": [1], \"document\": 1, \"name\": \"x\"}", "no `id`"),
        ("{\"id\": 1, \"name\": \"x\"}", "no `document`"),
        (
            "{\"id\": 1, \"document\": true, \"name\": \"x\"}",
            "no `document`",
        ),
        ("{\"id\": 1, \"document\": 1, \"name\": \" \"}", "no `name`"),
        (
            "{\"id\": 1, \"document\": 1, \"name\": 7}",
            "`name` is not a string",
        ),
        (
            "{\"id\": 1, \"document\": 1, \"name\": \"x\", \"type\": 7}",
            "`type` is not a string",
        ),
        (
            "{\"id\": 1, \"document\": 1, \"name\": \"x\", \"context\": []}",
            "`context` is not a string",
        ),
    ] {
        let good = names()[0].to_string();
        fs::write(&file, format!("{good}\n{line}\n{good}\n")).unwrap();
        let said = say(bare().args(["resolve", "--json"]).arg(&file)).exits(2);
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains("names.jsonl:2: "), "{line}: {said:#?}");
        assert!(said.stderr.contains(reason), "{line}: {said:#?}");
        assert!(
            said.stderr.contains("mend or remove them"),
            "{line}: {said:#?}"
        );
    }
    fs::write(&file, b"{\"id\": 1, \"document\": 1, \"name\": \"\xff\"}\n").unwrap();
    let said = say(bare().arg("resolve").arg(&file)).exits(2);
    assert!(
        said.stderr.contains("names.jsonl:1: it is not UTF-8"),
        "{said:#?}"
    );
    fs::write(
        &file,
        format!(
            "{}\n",
            json!({"id": 1, "document": 1, "name": "x", "context": "y".repeat(1 << 21)})
        ),
    )
    .unwrap();
    let said = say(bare().arg("resolve").arg(&file)).exits(2);
    assert!(
        said.stderr.contains("names.jsonl:1: it is longer than"),
        "{said:#?}"
    );
    let said = say(bare().args(["resolve", "/nonexistent"])).exits(2);
    assert!(said.stderr.contains("can't be read"), "{said:#?}");
    // A gold score needs gold.
    fs::write(&file, "{\"id\": 1, \"document\": 1, \"name\": \"x\"}\n").unwrap();
    let said = say(bare().args(["resolve", "--gold"]).arg(&file)).exits(2);
    assert!(said.stderr.contains("no `gold`"), "{said:#?}");
}
