//! `--ontology` and `graphmill ontology`: files in, refusals with their place, and a batch that keeps its own.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::support::{self, Redis, bare, examples, say};

const FILMS: &str = "@prefix : <http://example.org/films#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
:Person a owl:Class ; rdfs:comment \"A human being\"@en .
:Place a owl:Class .
:Date a owl:Class .
:bornIn a owl:ObjectProperty ; rdfs:domain :Person ; rdfs:range :Place .
";

fn write(folder: &str, name: &str, text: &str) -> PathBuf {
    let file = support::folder(folder).join(name);
    fs::write(&file, text).unwrap();
    file
}

/// The classes of an export's entities or of an extraction's mentions.
fn classes(value: &Value, list: &str) -> BTreeSet<String> {
    let items = value[list].as_array().unwrap();
    items
        .iter()
        .map(|item| item["type"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_document_shows_what_is_read() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ONTOLOGY.md")).unwrap();
    for (language, name, wanted) in [
        (
            "toml",
            "films.toml",
            "`films` version 1, 4 classes and 1 relation types",
        ),
        (
            "turtle",
            "films.ttl",
            "`films` version 1, 3 classes and 1 relation types",
        ),
    ] {
        let (_, block) = text.split_once(&format!("```{language}\n")).unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let file = write(&format!("ontology-doc-{language}"), name, block);
        let said = say(bare().args(["ontology", "check"]).arg(&file)).exits(0);
        assert!(said.stdout.contains(wanted), "{said:#?}");
    }
}

#[test]
fn a_broken_file_is_refused_with_its_place_before_anything_starts() {
    let toml =
        "name = \"x\"\nversion = 1\n[[class]]\nid = \"a\"\nparent = \"b\"\ndescription = \"y\"\n";
    let broken = write("ontology-broken", "broken.toml", toml);
    let turtle = write(
        "ontology-broken-ttl",
        "broken.ttl",
        &FILMS.replace(":Place a", ":Place b"),
    );
    let odd = write("ontology-odd", "notes.txt", toml);
    let away = odd.with_file_name("away.toml");
    for (file, wanted) in [
        (
            &broken,
            "broken.toml:5:10: class `a` has the parent `b`, which is not defined",
        ),
        (&turtle, "broken.ttl:5:"),
        (&odd, "an ontology is a .toml, .ttl, .owl or .rdf file"),
        (&away, "can't be read"),
    ] {
        let folder = support::folder("ontology-refused");
        for command in ["run", "extract"] {
            let mut said = bare();
            said.arg(command)
                .arg(examples("documents"))
                .arg("--ontology")
                .arg(file);
            let said = say(said.current_dir(&folder)).exits(2);
            assert!(said.stderr.contains(wanted), "{said:#?}");
            assert_eq!(said.stdout, "");
        }
        say(bare()
            .args(["serve", "--ontology"])
            .arg(file)
            .current_dir(&folder))
        .exits(2);
        assert!(!folder.join(".graphmill").exists());
    }
}

#[test]
fn turtle_becomes_toml_that_finds_the_same() {
    let turtle = write("ontology-turtle", "films.ttl", FILMS);
    let shown = say(bare().args(["ontology", "show"]).arg(&turtle))
        .exits(0)
        .stdout;
    let toml = write("ontology-toml", "films.toml", &shown);
    let good = examples("broken").join("good.txt");
    let [one, other] = [&turtle, &toml].map(|file| {
        let mut command = bare();
        command
            .args(["extract", "--json", "--ontology"])
            .arg(file)
            .arg(&good);
        say(&mut command).exits(0).json()
    });
    assert_eq!(one, other);
    let wanted = ["date", "person", "place"].map(str::to_owned);
    assert_eq!(classes(&one, "mentions"), BTreeSet::from(wanted));
    let dates: Vec<&str> = one["mentions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|mention| mention["value"].as_str())
        .collect();
    assert!(
        dates.contains(&"1924-12-03") && dates.contains(&"2007-03-17"),
        "{dates:?}"
    );
    let built_in = say(bare().args(["ontology", "show"])).exits(0).stdout;
    assert!(built_in.contains("name = \"general\""), "{built_in}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_the_ontology_that_it_was_opened_with() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let films = write("ontology-batch", "films.ttl", FILMS);
    let good = examples("broken").join("good.txt");
    let run = |more: &[&str]| {
        let mut run = command();
        run.args(["run", "--json"]).args(more).arg("--ontology");
        run
    };
    say(run(&["--name", "films"]).arg(&films).arg(&good)).exits(0);
    let export = || say(command().args(["export", "films"])).exits(0).json();
    let wanted = ["date", "person", "place"].map(str::to_owned);
    assert_eq!(classes(&export(), "entities"), BTreeSet::from(wanted));
    let tables = support::folder("ontology-tables").join("csv");
    say(command()
        .args(["export", "films", "--format", "csv", "--output"])
        .arg(&tables))
    .exits(0);
    let mentions = std::fs::read_to_string(tables.join("mentions.csv")).unwrap();
    assert!(mentions.contains(",1924-12-03,"), "{mentions}");
    // Classes keep the IRIs that the ontology gives them.
    let turtle = say(command().args(["export", "films", "--format", "turtle"])).exits(0);
    assert!(
        turtle
            .stdout
            .contains("a gm:Entity , <http://example.org/films#Person>"),
        "{}",
        turtle.stdout
    );
    // The same name and version, and other content: a batch of its own ontology.
    let fewer = FILMS.replace(":Date a owl:Class .\n", "");
    let fewer = write("ontology-fewer", "films.ttl", &fewer);
    let said = say(run(&["--resume", "films"]).arg(&fewer)).exits(2);
    assert!(said.stderr.contains("--ontology differs"), "{said:#?}");
    say(run(&["--resume", "films"]).arg(&films)).exits(0);
    say(run(&["--name", "fewer"]).arg(&fewer).arg(&good)).exits(0);
    let fewer = say(command().args(["export", "fewer"])).exits(0).json();
    let wanted = ["person", "place"].map(str::to_owned);
    assert_eq!(classes(&fewer, "entities"), BTreeSet::from(wanted));
    assert!(classes(&export(), "entities").contains("date"));
}
