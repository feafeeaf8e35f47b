//! Dates, amounts of money, percentages and quantities, by rules over words and figures, each with its normal form.
//!
//! It reads English, knows nothing of names until [`join`] puts the two together, and nothing of an ontology. What
//! is not sure is left out: a bare number is no value. Invariant: values ascend, share no character and begin and
//! end with a word, a figure or a sign of theirs; the time is linear in the text.

mod amount;
mod date;
mod number;
mod units;
mod word;

use std::ops::Range;

use self::word::Words;
use crate::graph::{Mention, Span, Text, Value, ValueKind};

/// A value in the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Its bytes.
    pub(super) at: Range<usize>,
    pub(super) value: Value,
    pub(super) confidence: f32,
}

impl Found {
    fn new(at: Range<usize>, kind: ValueKind, normal: String, confidence: f32) -> Self {
        Self {
            at,
            value: Value { kind, normal },
            confidence,
        }
    }
}

/// The values in a stretch of `text`, ascending.
pub(super) fn values(text: &str, bytes: Range<usize>) -> Vec<Found> {
    let words = Words::of(text, bytes);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        // A rule that finds something says where to go on; the later ones are weaker.
        let next = if words.may_begin_a_value(at) {
            date::written(&words, at, &mut found)
                .or_else(|| amount::amount(&words, at, &mut found))
                .or_else(|| date::year(&words, at, &mut found))
        } else {
            None
        };
        at = next.unwrap_or(at + 1).max(at + 1);
    }
    found
}

/// The names and the values of a stretch of `text`, ascending. Where a name and a value overlap, the longer one stays
/// if it contains the other ("2002 Winter Olympics", "20 Swiss francs"), else the name.
pub(super) fn join(text: &Text, stretch: Span, mut names: Vec<Mention>) -> Vec<Mention> {
    let found = values(text.as_str(), text.bytes(stretch));
    if found.is_empty() {
        return names;
    }
    names.sort_by_key(|name| name.span);
    let spans: Vec<Span> = text
        .spans(found.iter().map(|found| found.at.clone()))
        .collect();
    let contains = |outer: Span, inner: Span| outer.contains(inner) && outer.len() > inner.len();
    let mut kept = Vec::with_capacity(names.len() + found.len());
    let mut names = names.into_iter().peekable();
    for (span, found) in spans.into_iter().zip(found) {
        while let Some(name) = names.next_if(|name| name.span.end <= span.start) {
            kept.push(name);
        }
        let value = Mention {
            span,
            label: None,
            value: Some(found.value),
            confidence: found.confidence,
        };
        let mut inside = Vec::new();
        while let Some(name) = names.next_if(|name| contains(span, name.span)) {
            inside.push(name);
        }
        // A name that reaches beyond the value takes its place, and then those within the value stand too.
        if names.peek().is_some_and(|name| name.span.overlaps(span)) {
            kept.append(&mut inside);
        } else {
            kept.push(value);
        }
    }
    kept.extend(names);
    kept
}

#[cfg(test)]
mod tests;
