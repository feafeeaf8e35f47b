//! Scores of small corpora whose numbers were worked out by hand.

use serde_json::json;

use super::*;
use crate::graph::{GoldKind, GoldRelation};

fn marked(text: &Text, names: &[(&str, usize, &str)]) -> Vec<GoldMention> {
    names
        .iter()
        .map(|&(name, nth, label)| {
            let (byte, _) = text.as_str().match_indices(name).nth(nth).unwrap();
            GoldMention {
                span: text.span(byte..byte + name.len()),
                kind: GoldKind::of(label).unwrap(),
            }
        })
        .collect()
}

fn relation(head: usize, tail: usize, name: &str) -> GoldRelation {
    GoldRelation {
        head,
        tail,
        name: name.to_owned(),
    }
}

#[track_caller]
fn close(scores: Scores, precision: f64, recall: f64) {
    assert!((scores.precision - precision).abs() < 1e-9, "{scores:?}");
    assert!((scores.recall - recall).abs() < 1e-9, "{scores:?}");
}

fn row<'a>(report: &'a ScoreReport, name: &str) -> &'a MentionScores {
    report.mentions.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn what_annotators_disagree_about_is_trimmed() {
    for (span, kept) in [
        ("The Hague", "Hague"),
        ("an Acme Inc.", "Acme Inc"),
        ("Ada's", "Ada"),
        ("U.S.'s", "U.S"),
        ("Anna", "Anna"),
        ("the", "the"),
        ("’s", "’s"),
        ("Zoë’s", "Zoë"),
    ] {
        let text = Text::new(format!("é {span} é"));
        let whole = Span::new(2, text.chars() - 2);
        assert_eq!(text.slice(mentions::trimmed(&text, whole)), kept, "{span}");
    }
}

#[test]
fn mentions_are_counted_by_span_and_label() {
    let text = Text::new("The Acme Corp. hired Ada Brown in Paris in 1999.");
    let gold = marked(
        &text,
        &[
            ("Acme Corp", 0, "Org"),
            ("Ada Brown", 0, "Peop"),
            ("Paris", 0, "LOC"),
            ("1999", 0, "TIME"),
        ],
    );
    // Acme but for its edges; half of Ada; Paris with another label; the date; and something that is nothing.
    let predicted: Predicted = serde_json::from_value(json!({ "mentions": [
        { "start": 0, "end": 14, "type": "organization", "label": "ORG" },
        { "start": 21, "end": 24, "type": "person", "label": "PER" },
        { "start": 34, "end": 39, "type": "organization", "label": "ORG" },
        { "start": 43, "end": 47, "type": "date", "label": null },
        { "start": 15, "end": 20, "type": "thing", "label": "MISC" },
    ] }))
    .unwrap();
    let mut score = Score::default();
    score.add(&text, &gold, &GoldAnswers::default(), Some(&predicted));
    let report = score.report();
    let third = 1.0 / 3.0;
    close(row(&report, "PER+ORG+LOC").strict, third, third);
    close(
        row(&report, "PER+ORG+LOC").partial,
        2.0 * third,
        2.0 * third,
    );
    close(row(&report, "PER+ORG+LOC+MISC").strict, 0.25, third);
    close(row(&report, "untyped").strict, 0.5, 2.0 * third);
    close(row(&report, "untyped").partial, 0.75, 1.0);
    close(row(&report, "ORG").strict, 0.5, 1.0);
    close(row(&report, "PER").partial, 1.0, 1.0);
    close(row(&report, "TIME").strict, 1.0, 1.0);
    // Nobody marked numbers here, and nobody relations or clusters.
    assert!(report.mentions.iter().all(|row| row.name != "NUM"));
    assert!(report.entities.is_none() && report.relations.is_empty());
}

#[test]
fn one_long_mention_overlaps_two_and_is_right_once() {
    let text = Text::new("Paris and London");
    let gold = marked(&text, &[("Paris", 0, "LOC"), ("London", 0, "LOC")]);
    let predicted: Predicted = serde_json::from_value(json!({ "mentions": [
        { "start": 0, "end": 16, "type": "location", "label": "LOC" },
    ] }))
    .unwrap();
    let mut score = Score::default();
    score.add(&text, &gold, &GoldAnswers::default(), Some(&predicted));
    let report = score.report();
    close(row(&report, "LOC").partial, 1.0, 1.0);
    assert_eq!(row(&report, "LOC").partial.gold, 2);
    close(row(&report, "LOC").strict, 0.0, 0.0);
}

/// Ada ×3 and Bob ×1 are marked; the entities are {Ada, Ada, Bob} and {Ada}.
fn entities() -> (Text, Vec<GoldMention>, Predicted) {
    let text = Text::new("Ada Ada Ada Bob Acme");
    let gold = marked(
        &text,
        &[
            ("Ada", 0, "PER"),
            ("Ada", 1, "PER"),
            ("Ada", 2, "PER"),
            ("Bob", 0, "PER"),
            ("Acme", 0, "ORG"),
        ],
    );
    let mentions: Vec<_> = (0..5)
        .map(|index: u32| {
            let end = if index == 4 { 20 } else { index * 4 + 3 };
            json!({ "start": index * 4, "end": end, "type": "x", "label": "PER", "gold": index })
        })
        .collect();
    let predicted = serde_json::from_value(json!({
        "mentions": mentions,
        "entities": [
            { "id": "a", "mentions": [0, 1, 3] },
            { "id": "b", "mentions": [2] },
            { "id": "c", "mentions": [4] },
        ],
        "relations": [
            { "subject": "a", "predicate": "works_for", "object": "c" },
            { "subject": "b", "predicate": "married_to", "object": "a" },
            { "subject": "b", "predicate": "works_for", "object": "c" },
            { "subject": "a", "predicate": "owns", "object": "c" },
        ],
    }))
    .unwrap();
    (text, gold, predicted)
}

#[test]
fn b_cubed_and_pairs_are_those_of_the_books() {
    let (text, gold, predicted) = entities();
    let answers = GoldAnswers {
        clusters: Some(vec![vec![0, 1, 2], vec![3], vec![4]]),
        ..GoldAnswers::default()
    };
    let mut score = Score::default();
    score.add(&text, &gold, &answers, Some(&predicted));
    let entities = score.report().entities.unwrap();
    // Of each mention: Ada 2/3, Ada 2/3, Ada 1, Bob 1/3, Acme 1; and 2/3, 2/3, 1/3, 1, 1.
    let third = 1.0 / 3.0;
    close(
        entities.b_cubed,
        (4.0 * third + 1.0 + third + 1.0) / 5.0,
        (5.0 * third + 2.0) / 5.0,
    );
    // Three pairs were found, three are marked, one is both.
    close(entities.pairs, third, third);
}

#[test]
fn relations_are_counted_between_entities() {
    let (text, gold, predicted) = entities();
    let answers = GoldAnswers {
        rels: Some(vec![
            // The same entities twice are one relation.
            relation(0, 4, "Work_For"),
            relation(1, 4, "Work_For"),
            // Said the other way round, it says the same.
            relation(3, 2, "married_to"),
            relation(4, 0, "Live_In"),
        ]),
        ..GoldAnswers::default()
    };
    let mut score = Score::default();
    score.add(&text, &gold, &answers, Some(&predicted));
    let relations = score.report().relations;
    let names: Vec<&str> = relations.iter().map(|row| row.name.as_str()).collect();
    // `owns` is marked nowhere.
    assert_eq!(names, ["all", "lives_in", "married_to", "works_for"]);
    close(relations[0].strict, 2.0 / 3.0, 2.0 / 3.0);
    close(relations[3].strict, 0.5, 1.0);
    close(relations[2].strict, 1.0, 1.0);
}

#[test]
fn a_relation_whose_end_was_not_found_is_missed() {
    let (text, gold, mut predicted) = entities();
    predicted.mentions[4].span = Span::new(17, 20);
    predicted.mentions[4].gold = None;
    let answers = GoldAnswers {
        rels: Some(vec![relation(2, 4, "Work_For")]),
        ..GoldAnswers::default()
    };
    let mut score = Score::default();
    score.add(&text, &gold, &answers, Some(&predicted));
    score.add(&text, &gold, &answers, None);
    let report = score.report();
    assert_eq!((report.documents, report.missing), (2, 1));
    let all = &report.relations[0];
    close(all.strict, 0.0, 0.0);
    // Overlapping it was found: one of two documents, and one of the two that were claimed.
    close(all.partial.unwrap(), 0.5, 0.5);
}

#[test]
fn relations_between_clusters_are_read_off_their_properties() {
    let (text, gold, predicted) = entities();
    let answers = GoldAnswers {
        clusters: Some(vec![vec![0, 1, 2], vec![3], vec![4]]),
        // Bob works for Acme; Acme's owner is Ada; and a property that means nothing here.
        drels: Some(vec![
            relation(1, 2, "P108"),
            relation(2, 0, "P127"),
            relation(2, 0, "P31"),
        ]),
        ..GoldAnswers::default()
    };
    let mut score = Score::default();
    score.add(&text, &gold, &answers, Some(&predicted));
    let relations = score.report().document_relations;
    let names: Vec<&str> = relations.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["all", "owns", "works_for"]);
    // Entity `a` holds Bob too, so its `works_for` is right and that of `b`, Ada alone, is not.
    close(relations[2].strict, 0.5, 1.0);
    close(relations[1].strict, 1.0, 1.0);
}
