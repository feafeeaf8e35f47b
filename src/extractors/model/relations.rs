//! The relations that a chunk states, as a model lists them and as the ontology and the text allow.

use std::{collections::HashMap, ops::Range};

use serde_json::Value;

use super::{
    super::{ChunkText, DropReason, Dropped, ExtractError, UnitName},
    ask::{Door, Reply, Task},
    classes::{id_schema, number},
    halves::{DEPTH, halves},
    locate::{Ends, Haystack, Match},
    prompt::{self, Prompt},
};
use crate::graph::{
    ClassId, FoundRelation, Ontology, RelationType, Span, Text, TypedMention, name_key,
};

/// What a stretch speaks of: mentions of one name and class are one line of the list.
pub(super) struct Thing<'a> {
    name: &'a str,
    class: &'a ClassId,
    spans: Vec<Span>,
}

/// The things of `mentions` that lie in `span`, by their first mention.
pub(super) fn things<'a>(
    text: &'a Text,
    span: Span,
    mentions: &'a [TypedMention],
) -> Vec<Thing<'a>> {
    let mut of_key: HashMap<(String, &ClassId), usize> = HashMap::new();
    let mut things: Vec<Thing<'a>> = Vec::new();
    for mention in mentions
        .iter()
        .filter(|mention| span.contains(mention.span))
    {
        let name = text.slice(mention.span);
        let index = *of_key
            .entry((name_key(name), &mention.class))
            .or_insert(things.len());
        if index == things.len() {
            things.push(Thing {
                name,
                class: &mention.class,
                spans: Vec::new(),
            });
        }
        things[index].spans.push(mention.span);
    }
    things
}

/// The relation types that can hold between two of `things`.
pub(super) fn offered<'a>(things: &[Thing<'_>], ontology: &'a Ontology) -> Vec<&'a RelationType> {
    // By class: a chunk has many things and few classes.
    let mut counts: HashMap<&ClassId, usize> = HashMap::new();
    for thing in things {
        *counts.entry(thing.class).or_default() += 1;
    }
    ontology
        .relations
        .iter()
        .filter(|relation| {
            counts.iter().any(|(subject, count)| {
                counts.keys().any(|object| {
                    (subject != object || *count > 1)
                        && ontology.allows(&relation.id, subject, object)
                })
            })
        })
        .collect()
}

/// The question about a stretch of text.
pub(super) fn task<'a>(
    prompt: Prompt<'a>,
    stretch: &str,
    things: &[Thing<'_>],
    types: &[&RelationType],
) -> Task<'a> {
    let ids = id_schema(types.iter().map(|relation| relation.id.as_str()), false);
    let entities = things
        .iter()
        .map(|thing| (thing.name, thing.class.as_str()));
    Task {
        prompt,
        system: prompt.text(),
        user: format!(
            "{}\n{}\n{}",
            prompt::relations(types),
            prompt::numbered_entities(entities),
            prompt::text(stretch)
        ),
        schema: format!(
            r#"{{"type":"object","properties":{{"relations":{{"type":"array","items":{{"type":"object","properties":{{"subject":{{"type":"integer"}},"predicate":{ids},"object":{{"type":"integer"}},"quote":{{"type":"string"}}}},"required":["subject","predicate","object","quote"],"additionalProperties":false}}}}}},"required":["relations"],"additionalProperties":false}}"#
        ),
        list: "relations",
        is_item: |value| {
            let is_text = |key| value.get(key).is_some_and(Value::is_string);
            number(value, "subject").is_some()
                && number(value, "object").is_some()
                && is_text("predicate")
                && is_text("quote")
        },
        item: "an object with \"subject\" and \"object\" (numbers of the list of entities), \"predicate\" (an id of the list of relations) and \"quote\" (copied from the text)",
    }
}

/// The relations that `chunk` states between `mentions`.
pub(super) async fn relations(
    door: &Door,
    unit: &UnitName,
    chunk: ChunkText<'_>,
    mentions: &[TypedMention],
    ontology: &Ontology,
    dropped: &mut Dropped,
) -> Result<Vec<FoundRelation>, ExtractError> {
    let prompt = door.prompt(prompt::RELATIONS);
    let text = chunk.text;
    let mut found: Vec<FoundRelation> = Vec::new();
    let mut open = vec![(text.bytes(chunk.span), 0)];
    while let Some((bytes, depth)) = open.pop() {
        let things = things(text, text.span(bytes.clone()), mentions);
        let types = offered(&things, ontology);
        if types.is_empty() {
            continue;
        }
        let stretch = &text.as_str()[bytes.clone()];
        let reply = door
            .ask(unit, &task(prompt, stretch, &things, &types))
            .await?;
        let smaller = (depth < DEPTH)
            .then(|| halves(text.as_str(), &bytes))
            .flatten();
        let (items, malformed, cut_off) = match reply {
            Reply::Items {
                items,
                malformed,
                cut_off,
            } => (items, malformed, cut_off),
            Reply::TooLong(message) => {
                let [first, second] = smaller.ok_or(ExtractError::Terminal(message))?;
                open.extend([(second, depth + 1), (first, depth + 1)]);
                continue;
            }
        };
        let stretch = Stretch {
            text,
            haystack: Haystack::new(stretch),
            offset: bytes.start,
            things: &things,
            types: &types,
            ontology,
        };
        for item in &items {
            match stretch.relation(item) {
                Ok(relation) => found.push(relation),
                Err(reason) => dropped.count(reason),
            }
        }
        match smaller {
            // What was not complete is asked for again.
            Some([first, second]) if cut_off => {
                open.extend([(second, depth + 1), (first, depth + 1)]);
            }
            _ => {
                dropped.add(DropReason::Malformed, malformed);
                dropped.add(DropReason::CutOff, cut_off.into());
            }
        }
    }
    Ok(found)
}

/// A stretch of text and what was offered for it.
struct Stretch<'a> {
    text: &'a Text,
    haystack: Haystack<'a>,
    offset: usize,
    things: &'a [Thing<'a>],
    types: &'a [&'a RelationType],
    ontology: &'a Ontology,
}

impl Stretch<'_> {
    /// The relation that an item states, if it holds in every respect.
    fn relation(&self, item: &Value) -> Result<FoundRelation, DropReason> {
        let end = |key| {
            let index = number(item, key)?.checked_sub(1)?;
            Some((index, self.things.get(index)?))
        };
        let ((first, subject), (second, object)) = end("subject")
            .zip(end("object"))
            .ok_or(DropReason::UnknownEnd)?;
        if first == second {
            return Err(DropReason::UnknownEnd);
        }
        let said = item
            .get("predicate")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .trim();
        let predicate = self
            .types
            .iter()
            .map(|relation| &relation.id)
            .find(|id| id.as_str().eq_ignore_ascii_case(said))
            .ok_or(DropReason::UnknownRelation)?;
        if !self.ontology.allows(predicate, subject.class, object.class) {
            return Err(DropReason::DomainOrRange);
        }
        let quote = item
            .get("quote")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let (evidence, how) = self.evidence(quote, subject, object)?;
        Ok(FoundRelation {
            subject: nearest(&subject.spans, evidence).ok_or(DropReason::UnknownEnd)?,
            predicate: predicate.clone(),
            object: nearest(&object.spans, evidence).ok_or(DropReason::UnknownEnd)?,
            evidence,
            confidence: how.confidence(),
        })
    }

    /// The place of `quote` that names most ends of the relation, the first of equals. One must be named: the other
    /// may be "she" or "the company", but a sentence about neither is no evidence.
    fn evidence(
        &self,
        quote: &str,
        subject: &Thing<'_>,
        object: &Thing<'_>,
    ) -> Result<(Span, Match), DropReason> {
        let (places, how) = self
            .haystack
            .places(quote, Ends::Free)
            .ok_or(DropReason::Ungrounded)?;
        let named = |range: &Range<usize>| {
            let span = self
                .text
                .span(self.offset + range.start..self.offset + range.end);
            let ends = [subject, object]
                .into_iter()
                .filter(|end| end.spans.iter().any(|mention| mention.overlaps(span)))
                .count();
            (ends, span)
        };
        places
            .iter()
            .map(named)
            .filter(|&(ends, _)| ends > 0)
            .min_by_key(|&(ends, span)| (std::cmp::Reverse(ends), span))
            .map(|(_, span)| (span, how))
            .ok_or(DropReason::NoEvidence)
    }
}

/// The mention that is nearest to `evidence`, the first of equals.
fn nearest(mentions: &[Span], evidence: Span) -> Option<Span> {
    let distance = |mention: &Span| {
        let after = mention.start.saturating_sub(evidence.end);
        let before = evidence.start.saturating_sub(mention.end);
        (after + before, mention.start)
    };
    mentions.iter().copied().min_by_key(distance)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "Ada Byron wrote to Charles Babbage. He lived in London. Ada lived in London too. Rain fell.";

    fn mention(name: &str, class: &str) -> Vec<TypedMention> {
        TEXT.match_indices(name)
            .map(|(at, _)| TypedMention {
                span: Text::new(TEXT).span(at..at + name.len()),
                label: None,
                value: None,
                class: ClassId::new(class),
                confidence: 0.9,
            })
            .collect()
    }

    fn read(item: &Value) -> Result<FoundRelation, DropReason> {
        let text = Text::new(TEXT);
        let mut mentions = mention("Ada Byron", "person");
        mentions.extend(mention("Charles Babbage", "person"));
        mentions.extend(mention("London", "location"));
        let ontology = Ontology::builtin().unwrap();
        let whole = Span::new(0, text.chars());
        let things = things(&text, whole, &mentions);
        assert_eq!(things.len(), 3);
        let types = offered(&things, &ontology);
        let stretch = Stretch {
            text: &text,
            haystack: Haystack::new(TEXT),
            offset: 0,
            things: &things,
            types: &types,
            ontology: &ontology,
        };
        stretch.relation(item)
    }

    #[test]
    fn a_relation_must_hold_in_every_respect() {
        let item = |subject: Value, predicate: &str, object: Value, quote: &str| {
            read(&json!({"subject": subject, "predicate": predicate, "object": object, "quote": quote}))
                .map(|relation| {
                    let text = Text::new(TEXT);
                    let place = relation.object.start;
                    (text.slice(relation.evidence).to_owned(), place)
                })
        };
        let quote = "He lived in London.";
        assert_eq!(
            item(json!(2), "lives_in", json!("3"), quote),
            Ok(("He lived in London".to_owned() + ".", 48))
        );
        // "lived in London" stands twice and names the place both times.
        assert_eq!(
            item(json!(1), "LIVES_IN", json!(3), "Ada lived in London"),
            Ok(("Ada lived in London".to_owned(), 69))
        );
        assert_eq!(
            item(json!(2), "lives_in", json!(4), quote),
            Err(DropReason::UnknownEnd)
        );
        assert_eq!(
            item(json!(0), "lives_in", json!(3), quote),
            Err(DropReason::UnknownEnd)
        );
        assert_eq!(
            item(json!(2), "married_to", json!(2), quote),
            Err(DropReason::UnknownEnd)
        );
        assert_eq!(
            item(json!(2), "haunts", json!(3), quote),
            Err(DropReason::UnknownRelation)
        );
        assert_eq!(
            item(json!(3), "lives_in", json!(2), quote),
            Err(DropReason::DomainOrRange)
        );
        assert_eq!(
            item(json!(2), "lives_in", json!(3), "He moved to Turin"),
            Err(DropReason::Ungrounded)
        );
        assert_eq!(
            item(json!(2), "lives_in", json!(3), "Rain fell"),
            Err(DropReason::NoEvidence)
        );
    }

    #[test]
    fn only_relation_types_that_can_hold_are_offered() {
        let text = Text::new(TEXT);
        let ontology = Ontology::builtin().unwrap();
        let ids = |mentions: &[TypedMention]| {
            let things = things(&text, Span::new(0, text.chars()), mentions);
            let types = offered(&things, &ontology);
            types
                .iter()
                .map(|relation| relation.id.0.clone())
                .collect::<Vec<_>>()
        };
        // One place twice is one thing.
        assert!(ids(&mention("London", "location")).is_empty());
        let one_person = [
            mention("Ada Byron", "person"),
            mention("London", "location"),
        ]
        .concat();
        let offered_ids = ids(&one_person);
        assert!(offered_ids.contains(&"lives_in".to_owned()));
        assert!(!offered_ids.contains(&"married_to".to_owned()));
        let two_people = [
            mention("Ada Byron", "person"),
            mention("Charles Babbage", "person"),
        ];
        assert!(ids(&two_people.concat()).contains(&"married_to".to_owned()));
    }

    #[test]
    fn the_schema_is_strict() {
        let ontology = Ontology::builtin().unwrap();
        let types: Vec<&RelationType> = ontology.relations.iter().collect();
        let schema = task(prompt::RELATIONS, TEXT, &[], &types).schema;
        super::super::tests::assert_strict(&serde_json::from_str(&schema).unwrap());
    }
}
