//! From a mention's label to a class of the ontology at hand.

use std::collections::HashMap;

use super::{
    label::{self, Kind},
    names::Name,
    token::{self, Token},
};
use crate::graph::{ClassId, Mention, MentionType, NameLabel, Ontology, Text, ValueKind, name_key};

/// How many bytes on either side of a mention may tell its kind.
const WINDOW: usize = 160;

/// The class of each mention for which the ontology has one.
pub(super) fn classify(text: &Text, group: &[Mention], ontology: &Ontology) -> Vec<MentionType> {
    let (values, group): (Vec<&Mention>, Vec<&Mention>) =
        group.iter().partition(|mention| mention.value.is_some());
    let kinds: Vec<(Kind, f32)> = group.iter().map(|mention| kind(text, mention)).collect();
    // Within a group the same name is the same kind of work or event.
    let mut best: HashMap<String, (Kind, f32)> = HashMap::new();
    let keys: Vec<String> = group
        .iter()
        .map(|mention| name_key(text.slice(mention.span)))
        .collect();
    for (key, &(kind, confidence)) in keys.iter().zip(&kinds) {
        let entry = best.entry(key.clone()).or_insert((kind, confidence));
        if kind.label() == NameLabel::Misc && confidence > entry.1 {
            *entry = (kind, confidence);
        }
    }
    let values = values.into_iter().filter_map(|mention| {
        let value = mention.value.as_ref()?;
        Some(MentionType {
            span: mention.span,
            class: class_of_value(value.kind, ontology)?,
            confidence: mention.confidence,
        })
    });
    let mut types: Vec<MentionType> = group
        .iter()
        .zip(keys.iter().zip(kinds))
        .filter_map(|(mention, (key, own))| {
            let shared = best.get(key).copied().unwrap_or(own);
            let (kind, confidence) =
                if own.0.label() == NameLabel::Misc && shared.0.label() == NameLabel::Misc {
                    shared
                } else {
                    own
                };
            let class = class_of(kind, ontology)?;
            Some(MentionType {
                span: mention.span,
                class,
                confidence,
            })
        })
        .chain(values)
        .collect();
    types.sort_by_key(|given| given.span);
    types
}

/// The class of a value, which was known when it was found. One for which the ontology has no class is not published.
fn class_of_value(kind: ValueKind, ontology: &Ontology) -> Option<ClassId> {
    let id = ClassId::new(match kind {
        ValueKind::Date => "date",
        ValueKind::Money => "money",
        ValueKind::Percentage => "percentage",
        ValueKind::Quantity => "quantity",
    });
    ontology.class(&id).is_some().then_some(id)
}

fn kind(text: &Text, mention: &Mention) -> (Kind, f32) {
    match mention.label {
        Some(NameLabel::Per) => (Kind::Person, mention.confidence),
        Some(NameLabel::Org) => (Kind::Organization, mention.confidence),
        Some(NameLabel::Loc) => (Kind::Place, mention.confidence),
        Some(NameLabel::Misc) => match in_context(text, mention) {
            (Kind::Person | Kind::Organization | Kind::Place, _) => (Kind::Other, 0.3),
            fine => fine,
        },
        None => in_context(text, mention),
    }
}

/// The kind of a mention by the text around it.
fn in_context(text: &Text, mention: &Mention) -> (Kind, f32) {
    let whole = text.as_str();
    let bytes = text.bytes(mention.span);
    let mut start = bytes.start.saturating_sub(WINDOW);
    while !whole.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = (bytes.end + WINDOW).min(whole.len());
    while !whole.is_char_boundary(end) {
        end += 1;
    }
    let tokens: Vec<Token<'_>> = token::tokens(whole, start..end);
    let first = tokens.partition_point(|token| token.at.start < bytes.start);
    let after = tokens.partition_point(|token| token.at.start < bytes.end);
    if first >= after {
        return (Kind::Other, 0.3);
    }
    let quoted =
        first > 0 && tokens[first - 1].is_quote() && tokens.get(after).is_some_and(Token::is_quote);
    label::guess(
        &tokens,
        &Name {
            tokens: first..after,
            quoted,
            titled: false,
        },
    )
}

/// The nearest class that the ontology has for a kind.
fn class_of(kind: Kind, ontology: &Ontology) -> Option<ClassId> {
    let wanted: &[&str] = match kind {
        Kind::Person => &["person", "agent", "thing"],
        Kind::Organization => &["organization", "organisation", "company", "agent", "thing"],
        Kind::Place => &["location", "place", "thing"],
        Kind::Event => &["event", "thing"],
        Kind::Work => &["work", "product", "thing"],
        Kind::Nationality | Kind::Other => &["thing"],
    };
    wanted
        .iter()
        .map(|id| ClassId::new(*id))
        .find(|id| ontology.class(id).is_some())
}
