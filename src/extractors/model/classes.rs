//! The class of each mention of a group, as a model gives it: a name that stands several times is asked about once.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{
    super::{DropReason, Dropped, ExtractError, UnitName},
    ask::{Door, Reply, Task},
    prompt::{self, Prompt},
};
use crate::graph::{
    Class, ClassId, Mention, MentionType, NameLabel, Ontology, Span, Text, name_key,
};

/// How much a model's class can be built on.
///
/// **Source:** as much as an exact quote: no model says how sure it is.
const CONFIDENCE: f32 = 0.9;

/// The most ids in the enum of a schema, and the most bytes of them; beyond either the schema says only that it is a
/// string, and the answer is checked here as it always is.
///
/// **Source:** OpenAI's limit for the characters of an enum of more than 250 values.
const ENUM: (usize, usize) = (250, 15_000);

/// A name as it is asked about: within a group, the same name with the same label is the same kind of thing.
pub(super) struct Name {
    /// Its first mention.
    first: Mention,
    /// All of them.
    spans: Vec<Span>,
}

/// The names of `group`, by their first mention.
pub(super) fn names(text: &Text, group: &[Mention]) -> Vec<Name> {
    let mut of_key: HashMap<(String, Option<NameLabel>), usize> = HashMap::new();
    let mut names: Vec<Name> = Vec::new();
    for mention in group {
        let key = (name_key(text.slice(mention.span)), mention.label);
        let index = *of_key.entry(key).or_insert(names.len());
        if index == names.len() {
            names.push(Name {
                first: mention.clone(),
                spans: Vec::new(),
            });
        }
        names[index].spans.push(mention.span);
    }
    names
}

/// Mentions of `names`.
fn mentions(names: &[Name]) -> u32 {
    let count = names.iter().map(|name| name.spans.len()).sum::<usize>();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a schema says of an id: one of `ids`, or a string if they are too many.
pub(super) fn id_schema<'a>(ids: impl Iterator<Item = &'a str>, or_null: bool) -> String {
    let mut ids: Vec<Option<&str>> = ids.map(Some).collect();
    let bytes: usize = ids.iter().flatten().map(|id| id.len()).sum();
    let kind = if or_null {
        r#"["string","null"]"#
    } else {
        r#""string""#
    };
    if ids.len() > ENUM.0 || bytes > ENUM.1 {
        return format!(r#"{{"type":{kind}}}"#);
    }
    if or_null {
        ids.push(None);
    }
    // Strings and nulls have a JSON form.
    let ids = serde_json::to_string(&ids).unwrap_or_default();
    format!(r#"{{"type":{kind},"enum":{ids}}}"#)
}

/// A number that a model wrote, as such or as a string.
pub(super) fn number(value: &Value, key: &str) -> Option<usize> {
    let value = value.get(key)?;
    let number = value
        .as_u64()
        .or_else(|| value.as_str()?.trim().parse().ok())?;
    usize::try_from(number).ok()
}

/// The classes that can apply to one of `names`, by what a tagger calls their names.
pub(super) fn offered<'a>(names: &[Name], ontology: &'a Ontology) -> Vec<&'a Class> {
    let labels: BTreeSet<_> = names.iter().map(|name| name.first.label).collect();
    ontology
        .classes
        .iter()
        .filter(|class| {
            labels.contains(&None) || labels.contains(&Some(prompt::label_of(ontology, class)))
        })
        .collect()
}

/// The question about names.
pub(super) fn task<'a>(
    prompt: Prompt<'a>,
    text: &Text,
    names: &[Name],
    classes: &[&Class],
) -> Task<'a> {
    let ids = id_schema(classes.iter().map(|class| class.id.as_str()), true);
    Task {
        prompt,
        system: prompt.text(),
        user: format!(
            "{}\n{}",
            prompt::classes(classes),
            prompt::numbered_mentions(text, names.iter().map(|name| &name.first))
        ),
        schema: format!(
            r#"{{"type":"object","properties":{{"classes":{{"type":"array","items":{{"type":"object","properties":{{"mention":{{"type":"integer"}},"class":{ids}}},"required":["mention","class"],"additionalProperties":false}}}}}},"required":["classes"],"additionalProperties":false}}"#
        ),
        list: "classes",
        is_item: |value| {
            let class = value.get("class");
            number(value, "mention").is_some()
                && class.is_some_and(|class| class.is_string() || class.is_null())
        },
        item: "an object with \"mention\" (a number of the list) and \"class\" (an id of the list, or null)",
    }
}

/// The classes of `group`.
pub(super) async fn classify(
    door: &Door,
    unit: &UnitName,
    text: &Text,
    group: &[Mention],
    ontology: &Ontology,
    dropped: &mut Dropped,
) -> Result<Vec<MentionType>, ExtractError> {
    let prompt = door.prompt(prompt::CLASSES);
    let mut types = Vec::new();
    let mut open = vec![names(text, group)];
    while let Some(mut names) = open.pop() {
        let classes = offered(&names, ontology);
        if classes.is_empty() {
            dropped.add(DropReason::NoClass, mentions(&names));
            continue;
        }
        let (items, malformed, cut_off) = match door
            .ask(unit, &task(prompt, text, &names, &classes))
            .await?
        {
            Reply::Items {
                items,
                malformed,
                cut_off,
            } => (items, malformed, cut_off),
            Reply::TooLong(message) => {
                if names.len() < 2 {
                    return Err(ExtractError::Terminal(message));
                }
                let second = names.split_off(names.len() / 2);
                open.extend([second, names]);
                continue;
            }
        };
        let answered = answers(&items, &names, &classes, &mut types, dropped);
        let mut rest: Vec<Name> = names
            .into_iter()
            .zip(answered)
            .filter(|&(_, answered)| !answered)
            .map(|(name, _)| name)
            .collect();
        if cut_off && rest.len() > 1 {
            let second = rest.split_off(rest.len() / 2);
            open.extend([second, rest]);
        } else {
            dropped.add(DropReason::Malformed, malformed);
            let reason = if cut_off {
                DropReason::CutOff
            } else {
                DropReason::NoClass
            };
            dropped.add(reason, mentions(&rest));
        }
    }
    Ok(types)
}

/// Adds the classes that `items` give, and says which of `names` they speak of.
fn answers(
    items: &[Value],
    names: &[Name],
    classes: &[&Class],
    types: &mut Vec<MentionType>,
    dropped: &mut Dropped,
) -> Vec<bool> {
    let mut answered = vec![false; names.len()];
    for item in items {
        let index = number(item, "mention").and_then(|number| number.checked_sub(1));
        let name = index.and_then(|index| Some((names.get(index)?, answered.get_mut(index)?)));
        let Some((name, answered)) = name.filter(|(_, answered)| !**answered) else {
            dropped.count(DropReason::UnknownEnd);
            continue;
        };
        *answered = true;
        let Some(said) = item.get("class").and_then(Value::as_str) else {
            dropped.add(DropReason::NoClass, mentions(std::slice::from_ref(name)));
            continue;
        };
        let Some(class) = offered_id(classes, said) else {
            dropped.count(DropReason::UnknownClass);
            continue;
        };
        types.extend(name.spans.iter().map(|&span| MentionType {
            span,
            class: class.clone(),
            confidence: CONFIDENCE,
        }));
    }
    answered
}

fn offered_id<'a>(classes: &[&'a Class], said: &str) -> Option<&'a ClassId> {
    let said = said.trim();
    classes
        .iter()
        .map(|class| &class.id)
        .find(|id| id.as_str().eq_ignore_ascii_case(said))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mention(start: u32, label: Option<NameLabel>) -> Mention {
        Mention {
            span: Span::new(start, start + 1),
            label,
            value: None,
            confidence: 0.9,
        }
    }

    const TEXT: &str = "a b, c d: a";

    fn ids(group: &[Mention]) -> Vec<String> {
        let ontology = Ontology::builtin().unwrap();
        offered(&names(&Text::new(TEXT), group), &ontology)
            .iter()
            .map(|class| class.id.0.clone())
            .collect()
    }

    #[test]
    fn only_classes_that_can_apply_are_offered() {
        assert_eq!(ids(&[mention(0, Some(NameLabel::Per))]), ["person"]);
        let places = [
            mention(0, Some(NameLabel::Loc)),
            mention(1, Some(NameLabel::Org)),
        ];
        assert_eq!(ids(&places), ["organization", "location", "country"]);
        let other = ids(&[mention(0, Some(NameLabel::Misc))]);
        assert!(other.contains(&"work".to_owned()) && other.contains(&"date".to_owned()));
        assert!(!other.contains(&"person".to_owned()));
        let all = Ontology::builtin().unwrap().classes.len();
        assert_eq!(ids(&[mention(0, None)]).len(), all);
    }

    #[test]
    fn answers_are_checked_one_by_one() {
        let ontology = Ontology::builtin().unwrap();
        let group: Vec<Mention> = [0, 2, 5, 7, 10, 8].map(|at| mention(at, None)).to_vec();
        let names = names(&Text::new(TEXT), &group);
        let classes = offered(&names, &ontology);
        let (mut types, mut dropped) = (Vec::new(), Dropped::default());
        let items = [
            json!({"mention": 1, "class": "person"}),
            json!({"mention": "2", "class": " Country "}),
            json!({"mention": 3, "class": null}),
            json!({"mention": 4, "class": "robot"}),
            json!({"mention": 1, "class": "location"}),
            json!({"mention": 0, "class": "location"}),
            json!({"mention": 6, "class": "location"}),
        ];
        let answered = answers(&items, &names, &classes, &mut types, &mut dropped);
        assert_eq!(answered, [true, true, true, true, false]);
        let given: Vec<(u32, &str)> = types
            .iter()
            .map(|given| (given.span.start, given.class.as_str()))
            .collect();
        // "a" stands twice and is asked about once.
        assert_eq!(given, [(0, "person"), (10, "person"), (2, "country")]);
        assert_eq!(dropped.of(DropReason::UnknownClass), 1);
        assert_eq!(dropped.of(DropReason::NoClass), 1);
        assert_eq!(dropped.of(DropReason::UnknownEnd), 3);
    }

    #[test]
    fn a_large_ontology_is_no_enum() {
        assert_eq!(
            id_schema(["a", "b"].into_iter(), true),
            r#"{"type":["string","null"],"enum":["a","b",null]}"#
        );
        assert_eq!(
            id_schema(["a"].into_iter(), false),
            r#"{"type":"string","enum":["a"]}"#
        );
        let many = vec!["class"; 251];
        assert_eq!(id_schema(many.into_iter(), false), r#"{"type":"string"}"#);
        let text = Text::new(TEXT);
        let ontology = Ontology::builtin().unwrap();
        let names = names(&text, &[mention(0, None)]);
        let schema = task(prompt::CLASSES, &text, &names, &offered(&names, &ontology)).schema;
        super::super::tests::assert_strict(&serde_json::from_str(&schema).unwrap());
    }
}
