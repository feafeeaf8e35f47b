//! From findings to a document's graph: mentions of one thing become one entity, and what is said twice is said
//! once with two pieces of evidence.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{
    ClassId, DocumentGraph, Entity, Relation, RelationTypeId, Span, Text, TypedMention, Value,
};

/// A relation as an extractor finds it: between two mentions, not yet between entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundRelation {
    /// The subject's mention.
    pub subject: Span,
    /// What is said.
    pub predicate: RelationTypeId,
    /// The object's mention.
    pub object: Span,
    /// Where the text says so.
    pub evidence: Span,
    /// 0 to 1.
    pub confidence: f32,
}

/// What two spellings of one name share: compatibility-normalized, lower case, without marks around words, a
/// leading article or a possessive ending, white space folded.
#[must_use]
pub fn name_key(name: &str) -> String {
    let folded: String = name
        .nfkc()
        .collect::<String>()
        .to_lowercase()
        .replace('’', "'");
    let words: Vec<&str> = folded
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .map(|word| word.strip_suffix("'s").unwrap_or(word))
        .filter(|word| !word.is_empty())
        .collect();
    let words = match words.as_slice() {
        ["the" | "a" | "an", rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    words.join(" ")
}

/// Merges the findings of one document. The order of the input does not matter.
///
/// Mentions with the same value, or else the same [`name_key`], and the same class are one entity, named by the spelling that is used most (the
/// earliest among equals). Relations between mentions become relations between their entities; a relation of an
/// entity with itself says nothing and is dropped.
#[must_use]
pub fn assemble(
    text: &Text,
    mut mentions: Vec<TypedMention>,
    found: &[FoundRelation],
) -> DocumentGraph {
    mentions.sort_by(|a, b| {
        a.span
            .cmp(&b.span)
            .then_with(|| a.class.cmp(&b.class))
            .then_with(|| b.confidence.total_cmp(&a.confidence))
    });
    mentions.dedup_by(|later, earlier| later.span == earlier.span);

    let mut of_key: HashMap<(Key<'_>, &ClassId), usize> = HashMap::new();
    let mut of_span: HashMap<Span, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, mention) in mentions.iter().enumerate() {
        let said = match &mention.value {
            Some(value) => Key::Value(value),
            None => Key::Name(name_key(text.slice(mention.span))),
        };
        let key = (said, &mention.class);
        let entity = *of_key.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[entity].push(index);
        of_span.insert(mention.span, entity);
    }

    let mut merged: BTreeMap<(usize, &RelationTypeId, usize), (f32, Vec<Span>)> = BTreeMap::new();
    for relation in found {
        let (Some(&subject), Some(&object)) = (
            of_span.get(&relation.subject),
            of_span.get(&relation.object),
        ) else {
            continue;
        };
        if subject == object {
            continue;
        }
        let (confidence, evidence) = merged
            .entry((subject, &relation.predicate, object))
            .or_default();
        *confidence = confidence.max(relation.confidence);
        evidence.push(relation.evidence);
    }
    let relations = merged
        .into_iter()
        .map(
            |((subject, predicate, object), (confidence, mut evidence))| {
                evidence.sort_unstable();
                evidence.dedup();
                Relation {
                    subject,
                    predicate: predicate.clone(),
                    object,
                    confidence,
                    evidence,
                }
            },
        )
        .collect();
    let entities = groups
        .into_iter()
        .map(|group| Entity {
            name: usual_name(text, &mentions, &group),
            class: mentions[group[0]].class.clone(),
            mentions: group,
        })
        .collect();
    DocumentGraph {
        mentions,
        entities,
        relations,
    }
}

/// What the mentions of one entity share.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Value(&'a Value),
    Name(String),
}

/// The spelling that most of the group's mentions have; the earliest among equals.
fn usual_name(text: &Text, mentions: &[TypedMention], group: &[usize]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for &index in group {
        let name = text.slice(mentions[index].span);
        match counts.iter_mut().find(|(spelling, _)| *spelling == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max().unwrap_or(0);
    counts
        .into_iter()
        .find(|&(_, count)| count == most)
        .map(|(name, _)| name.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::ValueKind;

    fn mention(text: &Text, name: &str, nth: usize, class: &str) -> TypedMention {
        let (byte, _) = text.as_str().match_indices(name).nth(nth).unwrap();
        TypedMention {
            span: text.span(byte..byte + name.len()),
            label: None,
            value: None,
            class: ClassId::new(class),
            confidence: 0.9,
        }
    }

    fn found(subject: &TypedMention, object: &TypedMention) -> FoundRelation {
        FoundRelation {
            subject: subject.span,
            predicate: RelationTypeId::new("works_for"),
            object: object.span,
            evidence: Span::new(subject.span.start, object.span.end),
            confidence: 0.8,
        }
    }

    #[test]
    fn spellings_of_one_name_share_a_key() {
        for (a, b) in [
            ("The Royal  Society", "royal society"),
            ("Intel's", "Intel"),
            ("“Colossus”", "Colossus"),
            ("ＩＢＭ", "IBM"),
        ] {
            assert_eq!(name_key(a), name_key(b), "{a} / {b}");
        }
        assert_eq!(name_key("The"), "the");
        assert_ne!(name_key("Paris"), name_key("Paris Hilton"));
    }

    #[test]
    fn one_thing_said_twice_is_one_relation_with_two_pieces_of_evidence() {
        let text = Text::new("Ada joined Acme. Bob left. Ada's work at Acme went on.");
        let ada = mention(&text, "Ada", 0, "person");
        let again = mention(&text, "Ada's", 0, "person");
        let acme = mention(&text, "Acme", 0, "organization");
        let acme_again = mention(&text, "Acme", 1, "organization");
        let relations = [
            found(&ada, &acme),
            found(&again, &acme_again),
            found(&ada, &acme),
        ];
        let graph = assemble(&text, vec![acme_again, again, acme, ada], &relations);
        assert!(graph.is_grounded_in(&text));
        let names: Vec<&str> = graph.entities.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["Ada", "Acme"]);
        assert_eq!(graph.relations.len(), 1);
        assert_eq!(graph.relations[0].evidence.len(), 2);
    }

    #[test]
    fn spellings_of_one_value_are_one_entity() {
        let text = Text::new("On 13 March 1963, that is March 13, 1963, and not in March 1963.");
        let date = |name, nth, normal: &str| TypedMention {
            value: Some(Value {
                kind: ValueKind::Date,
                normal: normal.to_owned(),
            }),
            ..mention(&text, name, nth, "date")
        };
        let mentions = vec![
            date("13 March 1963", 0, "1963-03-13"),
            date("March 13, 1963", 0, "1963-03-13"),
            date("March 1963", 1, "1963-03"),
        ];
        let graph = assemble(&text, mentions, &[]);
        let groups: Vec<&[usize]> = graph.entities.iter().map(|e| &*e.mentions).collect();
        assert_eq!(groups, [&[0, 1][..], &[2]]);
    }

    #[test]
    fn a_name_of_two_classes_is_two_entities() {
        let text = Text::new("Washington lived in Washington.");
        let graph = assemble(
            &text,
            vec![
                mention(&text, "Washington", 0, "person"),
                mention(&text, "Washington", 1, "location"),
            ],
            &[],
        );
        assert_eq!(graph.entities.len(), 2);
    }

    proptest! {
        #[test]
        fn the_order_of_the_findings_does_not_matter(
            order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let text = Text::new("Ada, Acme, Bob, ada, ACME and Bob met.");
            let all = [
                mention(&text, "Ada", 0, "person"), mention(&text, "Acme", 0, "organization"),
                mention(&text, "Bob", 0, "person"), mention(&text, "ada", 0, "person"),
                mention(&text, "ACME", 0, "organization"), mention(&text, "Bob", 1, "person"),
            ];
            let relations = [found(&all[0], &all[1]), found(&all[3], &all[4]), found(&all[2], &all[1])];
            let straight = assemble(&text, all.to_vec(), &relations);
            let shuffled = assemble(&text, order.iter().map(|&i| all[i].clone()).collect(), &relations);
            prop_assert_eq!(straight, shuffled);
        }
    }
}
