//! The names in a chunk, as a model lists them and as they are found in the text.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde_json::Value;

use super::{
    super::{ChunkText, DropReason, Dropped, ExtractError, UnitName},
    ask::{Door, Reply, Task},
    halves::{DEPTH, halves},
    locate::{Ends, Haystack, Match},
    prompt::{self, Prompt},
};
use crate::graph::{Mention, NameLabel, Ontology};

const SCHEMA: &str = r#"{"type":"object","properties":{"mentions":{"type":"array","items":{"type":"object","properties":{"quote":{"type":"string"},"label":{"type":"string","enum":["PER","ORG","LOC","MISC"]},"occurrence":{"type":["integer","null"]}},"required":["quote","label","occurrence"],"additionalProperties":false}}},"required":["mentions"],"additionalProperties":false}"#;

/// The most characters of a name; what is longer is a sentence.
const NAME: usize = 200;

/// What a model says of a name.
struct Item {
    quote: String,
    label: Option<NameLabel>,
    occurrence: Option<u64>,
}

/// The question about a stretch of text.
pub(super) fn task<'a>(prompt: Prompt<'a>, system: &'a str, stretch: &str) -> Task<'a> {
    Task {
        prompt,
        system,
        user: prompt::text(stretch),
        schema: SCHEMA.to_owned(),
        list: "mentions",
        is_item: |value| item(value).is_some(),
        item: "an object with \"quote\" (copied from the text), \"label\" (PER, ORG, LOC or MISC) and \"occurrence\" (a number or null)",
    }
}

/// The names in `chunk`.
pub(super) async fn mentions(
    door: &Door,
    unit: &UnitName,
    chunk: ChunkText<'_>,
    ontology: &Ontology,
    dropped: &mut Dropped,
) -> Result<Vec<Mention>, ExtractError> {
    let text = chunk.text.as_str();
    let prompt = door.prompt(prompt::MENTIONS);
    let system = prompt::mentions(prompt, ontology);
    let mut found = Vec::new();
    let mut open = vec![(chunk.text.bytes(chunk.span), 0)];
    while let Some((bytes, depth)) = open.pop() {
        let stretch = &text[bytes.clone()];
        if stretch.trim().is_empty() {
            continue;
        }
        let reply = door.ask(unit, &task(prompt, &system, stretch)).await?;
        let smaller = (depth < DEPTH).then(|| halves(text, &bytes)).flatten();
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
        let items: Vec<Item> = items.iter().filter_map(item).collect();
        let offset = bytes.start;
        for (range, label, how) in located(stretch, items, dropped) {
            found.push(Mention {
                span: chunk.text.span(offset + range.start..offset + range.end),
                label,
                value: None,
                confidence: how.confidence(),
            });
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
    // The halves of a stretch name again what was kept of the whole.
    found.sort_by_key(|mention| mention.span);
    let mut apart: Vec<Mention> = Vec::with_capacity(found.len());
    for mention in found {
        match apart.last_mut() {
            Some(last) if last.span.overlaps(mention.span) => {
                if last.span.len() < mention.span.len() {
                    *last = mention;
                }
            }
            _ => apart.push(mention),
        }
    }
    Ok(apart)
}

fn item(value: &Value) -> Option<Item> {
    let quote = value.get("quote").and_then(Value::as_str)?;
    let is_name = quote.chars().any(char::is_alphanumeric) && quote.chars().count() <= NAME;
    let label = value.get("label").and_then(Value::as_str);
    let known = |said: &str| {
        prompt::LABELS
            .iter()
            .find(|(_, name, _)| {
                said.get(..3)
                    .is_some_and(|start| start.eq_ignore_ascii_case(&name[..3]))
            })
            .map(|&(label, ..)| label)
    };
    is_name.then(|| Item {
        quote: quote.to_owned(),
        // A label that there is not is no reason to lose a name: its class is found by what stands around it.
        label: label.and_then(known),
        occurrence: value.get("occurrence").and_then(Value::as_u64),
    })
}

/// Where the items are: apart from each other, longer names before those within them.
///
/// A name stands for the same thing wherever a chunk has it, as a rule, and models list it once: so every place of a
/// quote is a mention, except those within a longer name ("York" in "New York"). A model that says which occurrence
/// it means gets that one alone; one that counts wrong is not believed.
fn located(
    stretch: &str,
    items: Vec<Item>,
    dropped: &mut Dropped,
) -> Vec<(Range<usize>, Option<NameLabel>, Match)> {
    let haystack = Haystack::new(stretch);
    let mut candidates = Vec::new();
    let mut seen = BTreeSet::new();
    for item in items {
        // Models that get stuck say the same over and over.
        if !seen.insert((item.quote.clone(), item.label, item.occurrence)) {
            continue;
        }
        let Some((mut places, how)) = haystack.places(&item.quote, Ends::Fixed) else {
            dropped.count(DropReason::Ungrounded);
            continue;
        };
        let one = item
            .occurrence
            .and_then(|number| usize::try_from(number).ok()?.checked_sub(1))
            .and_then(|index| places.get(index).cloned());
        let is_chosen = one.is_some();
        if let Some(one) = one {
            places = vec![one];
        }
        let length = places.iter().map(Range::len).max().unwrap_or(0);
        candidates.push((length, is_chosen, places, item.label, how));
    }
    candidates.sort_by_key(|&(length, is_chosen, ..)| std::cmp::Reverse((length, is_chosen)));
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut located = Vec::new();
    for (_, _, places, label, how) in candidates {
        let mut is_there = false;
        for range in places {
            let before = taken.range(..range.end).next_back();
            match before.map(|(&start, &end)| start..end) {
                Some(other) if other == range => is_there = true,
                Some(other) if other.end > range.start => {}
                _ => {
                    is_there = true;
                    taken.insert(range.start, range.end);
                    located.push((range, label, how));
                }
            }
        }
        if !is_there {
            dropped.count(DropReason::Nested);
        }
    }
    located
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Names<'a> = Vec<(usize, &'a str, Option<NameLabel>)>;

    fn names<'a>(stretch: &'a str, items: &[Value]) -> (Names<'a>, Dropped) {
        let mut dropped = Dropped::default();
        let items = items.iter().filter_map(item).collect();
        let mut found: Vec<_> = located(stretch, items, &mut dropped)
            .into_iter()
            .map(|(range, label, _)| (range.start, &stretch[range], label))
            .collect();
        found.sort_unstable();
        (found, dropped)
    }

    #[test]
    fn every_place_of_a_name_is_found_but_those_within_longer_ones() {
        let text = "York is old. New York is not. York has walls.";
        let (found, dropped) = names(
            text,
            &[
                json!({"quote":"York","label":"LOC","occurrence":null}),
                json!({"quote":"New York","label":"LOC"}),
                json!({"quote":"York","label":"LOC","occurrence":null}),
                json!({"quote":"Paris","label":"LOC","occurrence":null}),
            ],
        );
        let place = Some(NameLabel::Loc);
        assert_eq!(
            found,
            [
                (0, "York", place),
                (13, "New York", place),
                (30, "York", place)
            ]
        );
        assert_eq!(
            dropped.iter().collect::<Vec<_>>(),
            [(DropReason::Ungrounded, 1)]
        );
    }

    #[test]
    fn an_occurrence_is_one_place_if_there_is_such() {
        let text = "Paris loves Paris.";
        let (found, _) = names(
            text,
            &[
                json!({"quote":"Paris","label":"LOC","occurrence":2}),
                json!({"quote":"Paris","label":"person","occurrence":1}),
            ],
        );
        assert_eq!(
            found,
            [
                (0, "Paris", Some(NameLabel::Per)),
                (12, "Paris", Some(NameLabel::Loc))
            ]
        );
        let (found, _) = names(text, &[json!({"quote":"Paris","label":"?","occurrence":9})]);
        assert_eq!(found, [(0, "Paris", None), (12, "Paris", None)]);
    }

    #[test]
    fn a_name_that_is_only_within_others_is_counted() {
        let (found, dropped) = names(
            "the University of Manchester",
            &[
                json!({"quote":"Manchester","label":"LOC"}),
                json!({"quote":"University of Manchester","label":"ORG"}),
                json!({"quote":"...","label":"ORG"}),
                json!({"label":"ORG"}),
                json!("University"),
            ],
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            dropped.iter().collect::<Vec<_>>(),
            [(DropReason::Nested, 1)]
        );
    }

    #[test]
    fn the_schema_is_strict() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        super::super::tests::assert_strict(&schema);
    }
}
