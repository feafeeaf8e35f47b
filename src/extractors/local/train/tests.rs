//! Training on a few sentences of our own.

use super::*;
use crate::{
    extractors::local::tagger,
    graph::NameLabel::{Loc, Org, Per},
};

const TEXTS: [(&str, &[(&str, &str)]); 6] = [
    (
        "Ada Brown works for Acme Corp. in Leeds.",
        &[("Ada Brown", "PER"), ("Acme Corp", "ORG"), ("Leeds", "LOC")],
    ),
    (
        "Tom Gray met Eve Stone in Oslo.",
        &[("Tom Gray", "PER"), ("Eve Stone", "PER"), ("Oslo", "LOC")],
    ),
    (
        "Widget Corp. hired Ann Field.",
        &[("Widget Corp", "ORG"), ("Ann Field", "PER")],
    ),
    ("The train to Bergen left.", &[("Bergen", "LOC")]),
    (
        "Gadget Corp. left Leeds and went to Oslo.",
        &[("Gadget Corp", "ORG"), ("Leeds", "LOC"), ("Oslo", "LOC")],
    ),
    (
        "He lives in Bergen with Eve Stone.",
        &[("Bergen", "LOC"), ("Eve Stone", "PER")],
    ),
];

/// A folder with every corpus, each with the same texts.
fn corpora() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (ner, lists) = (folder.path().join("ner"), folder.path().join("gazetteers"));
    std::fs::create_dir_all(&ner).unwrap();
    std::fs::create_dir_all(&lists).unwrap();
    let lines: Vec<String> = TEXTS
        .iter()
        .map(|(text, names)| {
            let ents: Vec<serde_json::Value> = names
                .iter()
                .enumerate()
                .map(|(thing, (name, kind))| {
                    let start = text.find(name).unwrap();
                    serde_json::json!([start, start + name.len(), kind, kind, thing])
                })
                .collect();
            serde_json::json!({"id": "x", "text": text, "ents": ents}).to_string()
        })
        .collect();
    for source in SOURCES {
        std::fs::write(
            ner.join(source.file).with_extension("jsonl"),
            lines.join("\n"),
        )
        .unwrap();
    }
    std::fs::write(lists.join("loc.tsv"), "Oslo\tCITY\nSalt Lake City\tCITY\n").unwrap();
    std::fs::write(lists.join("names.tsv"), "Ada\tFIRST\nGray\tLAST\n").unwrap();
    std::fs::write(lists.join("clus.tsv"), "works\t1\t2\t3\nleft\t1\t2\t2047\n").unwrap();
    folder
}

#[test]
fn the_same_seed_makes_the_same_weights_and_they_have_learned() {
    let (corpora, output) = (corpora(), tempfile::tempdir().unwrap());
    let made = |seed: u64| {
        let files = train(corpora.path(), output.path(), seed).unwrap();
        assert_eq!(files[0].0, output.path().join(TAGGER));
        std::fs::read(&files[0].0).unwrap()
    };
    let packed = made(1);
    assert_eq!(packed, made(1));
    assert_ne!(packed, made(2));
    let weights = Weights::unpack(&packed).unwrap();
    let text = "Ann Stone works for Acme Corp. in Oslo.";
    let found: Vec<_> = tagger::names_by(&weights, text, 0..text.len())
        .into_iter()
        .map(|name| (&text[name.at], name.label))
        .collect();
    assert_eq!(
        found,
        [("Ann Stone", Per), ("Acme Corp.", Org), ("Oslo", Loc)]
    );
    assert_eq!(
        Weights::unpack(&packed[..packed.len() / 2]).err(),
        Some(WeightsError::Ended(tagger::bits::Ended))
    );
    assert_eq!(
        Weights::unpack(b"something else").err(),
        Some(WeightsError::Foreign)
    );
}

#[test]
fn a_corpus_that_is_missing_is_named() {
    let corpora = corpora();
    std::fs::remove_file(corpora.path().join("ner/wikigold.jsonl")).unwrap();
    let refused = cross_validate(corpora.path(), 1).unwrap_err().to_string();
    assert!(refused.contains("wikigold.jsonl"), "{refused}");
}
