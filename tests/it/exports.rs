//! The samples of `docs/EXPORTS.md` are what the binary prints. Ids differ from run to run and confidences from model to
//! model: they are left out of the comparison.

use std::{collections::BTreeMap, fs, path::Path};

use crate::support::{self, Redis, examples, say};

/// A text without the digits of ids and of fractions.
fn without_digits(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hex = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_hexdigit())
                .len();
        let is_fraction = kept.ends_with("0.") && c.is_ascii_digit();
        let skipped = if hex == 32 && kept.ends_with('_') {
            hex
        } else if is_fraction {
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len()
        } else {
            0
        };
        if skipped > 0 {
            kept.push('#');
            rest = &rest[skipped..];
        } else {
            kept.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    kept
}

/// The blocks of the page by language; those of a language one after the other.
fn samples() -> BTreeMap<String, Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXPORTS.md");
    let page = fs::read_to_string(page).unwrap();
    let mut samples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 1 {
            let (language, block) = part.split_once('\n').unwrap();
            let blocks = samples.entry(language.to_owned()).or_default();
            blocks.push(block.to_owned());
        }
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_are_what_is_printed() {
    let (database, redis) = (support::migrated().await, Redis::start());
    let command = || support::command(&database, &redis);
    let good = examples("broken").join("good.txt");
    say(command().args(["run", "--name", "n"]).arg(good)).exits(0);
    let samples = samples();
    let mut seen = 0;
    let mut compare = |block: &str, printed: &str, what: &str| {
        let printed = without_digits(printed);
        for part in block.split("…\n") {
            let part = without_digits(part);
            assert!(
                part.lines().count() > 0 && printed.contains(&part),
                "{what} has no\n{part}\n{printed}"
            );
            seen += 1;
        }
    };
    for (language, format) in [
        ("json-lines", "json"),
        ("turtle", "turtle"),
        ("json-ld", "json-ld"),
        ("xml", "graphml"),
        ("cypher", "cypher"),
    ] {
        let printed = say(command().args(["export", "n", "--format", format]))
            .exits(0)
            .stdout;
        for block in &samples[language] {
            compare(block, &printed, format);
        }
    }
    let folder = support::folder("exports-page").join("csv");
    say(command()
        .args(["export", "n", "--format", "csv", "--output"])
        .arg(&folder))
    .exits(0);
    let mut tables: Vec<String> = graphmill::graph::CSV_FILES
        .iter()
        .map(|(name, _)| fs::read_to_string(folder.join(name)).unwrap())
        .collect();
    for block in &samples["csv"] {
        let header = block.lines().next().unwrap();
        let at = tables
            .iter()
            .position(|table| table.lines().next() == Some(header));
        compare(block, &tables.remove(at.unwrap()), "csv");
    }
    assert!(tables.is_empty(), "a table has no sample: {tables:?}");
    assert!(seen >= 20, "only {seen} samples: is the page still read?");
}

#[test]
fn digits_are_left_out_of_ids_and_fractions_alone() {
    let id = "entity_01a1feaab41771bcbfa239980a23c601";
    let text = format!("{id}-mention-1 0.93499804 start: 132, 1950, 0.5]");
    assert_eq!(
        without_digits(&text),
        "entity_#-mention-1 0.# start: 132, 1950, 0.#]"
    );
}
