//! Mentions: strict and partial, by type.
//!
//! Strict is the same span once both are trimmed of what annotators disagree about; partial is a shared character.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::{
    Predicted, PredictedMention,
    tally::{Scores, Tally},
};
use crate::graph::{GoldKind, GoldMention, NameLabel, Span, Text};

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// Any of these labels, each for itself.
    Labels(&'static [NameLabel]),
    /// Any label for any other.
    Untyped,
    Time,
    Number,
}

/// The rows of the table, with their names.
const ROWS: [(&str, Row); 9] = {
    use NameLabel::{Loc, Misc, Org, Per};
    [
        ("PER+ORG+LOC", Row::Labels(&[Per, Org, Loc])),
        ("PER+ORG+LOC+MISC", Row::Labels(&[Per, Org, Loc, Misc])),
        ("untyped", Row::Untyped),
        ("PER", Row::Labels(&[Per])),
        ("ORG", Row::Labels(&[Org])),
        ("LOC", Row::Labels(&[Loc])),
        ("MISC", Row::Labels(&[Misc])),
        ("TIME", Row::Time),
        ("NUM", Row::Number),
    ]
};

/// What must agree besides the span.
type Type = Option<NameLabel>;

impl Row {
    fn of_gold(self, kind: GoldKind) -> Option<Type> {
        match (self, kind) {
            (Self::Labels(labels), GoldKind::Name(label)) => {
                labels.contains(&label).then_some(Some(label))
            }
            (Self::Untyped, GoldKind::Name(_))
            | (Self::Time, GoldKind::Time)
            | (Self::Number, GoldKind::Number) => Some(None),
            (Self::Labels(_) | Self::Untyped, GoldKind::Time | GoldKind::Number)
            | (Self::Time, GoldKind::Name(_) | GoldKind::Number)
            | (Self::Number, GoldKind::Name(_) | GoldKind::Time) => None,
        }
    }

    fn of_predicted(self, mention: &PredictedMention) -> Option<Type> {
        match (self, mention.label) {
            (Self::Labels(labels), Some(label)) => labels.contains(&label).then_some(Some(label)),
            (Self::Untyped, Some(_)) => Some(None),
            (Self::Time, None) => (mention.class == "date").then_some(None),
            (Self::Number, None) => {
                let class = mention.class.as_str();
                ["quantity", "money", "percentage"]
                    .contains(&class)
                    .then_some(None)
            }
            (Self::Labels(_) | Self::Untyped, None) | (Self::Time | Self::Number, Some(_)) => None,
        }
    }
}

/// The scores of one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MentionScores {
    /// A label, or several that are counted together.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// The same span and label.
    pub strict: Scores,
    /// A shared character, and the same label.
    pub partial: Scores,
}

#[derive(Debug, Default)]
pub(super) struct Mentions([(Tally, Tally); ROWS.len()]);

impl Mentions {
    pub(super) fn add(&mut self, text: &Text, gold: &[GoldMention], predicted: &Predicted) {
        for ((_, row), (strict, partial)) in ROWS.into_iter().zip(&mut self.0) {
            let marked: BTreeSet<(Span, Type)> = gold
                .iter()
                .filter_map(|one| Some((trimmed(text, one.span), row.of_gold(one.kind)?)))
                .collect();
            let found: BTreeSet<(Span, Type)> = predicted
                .mentions
                .iter()
                .filter_map(|one| Some((trimmed(text, one.span), row.of_predicted(one)?)))
                .collect();
            let both = marked.intersection(&found).count() as u64;
            for tally in [&mut *strict, &mut *partial] {
                tally.gold += marked.len() as u64;
                tally.predicted += found.len() as u64;
            }
            strict.found += both;
            strict.right += both;
            partial.found += overlapped(&marked, &found);
            partial.right += overlapped(&found, &marked);
        }
    }

    pub(super) fn scores(&self) -> Vec<MentionScores> {
        ROWS.into_iter()
            .zip(&self.0)
            // Values are scored where somebody marked some.
            .filter(|((_, row), (strict, _))| {
                !matches!(row, Row::Time | Row::Number) || strict.gold > 0
            })
            .map(|((name, _), (strict, partial))| MentionScores {
                name,
                strict: strict.scores(),
                partial: partial.scores(),
            })
            .collect()
    }
}

/// How many of `these` share a character with one of `others` of the same type.
fn overlapped(these: &BTreeSet<(Span, Type)>, others: &BTreeSet<(Span, Type)>) -> u64 {
    let types: HashSet<Type> = others.iter().map(|&(_, of)| of).collect();
    let mut count = 0;
    for of in types {
        // By start, with the furthest end so far: one that begins before the end and ends after the start.
        let mut spans: Vec<(u32, u32)> = Vec::new();
        let mut furthest = 0;
        for &(span, _) in others.iter().filter(|&&(_, other)| other == of) {
            furthest = furthest.max(span.end);
            spans.push((span.start, furthest));
        }
        for &(span, _) in these.iter().filter(|&&(_, other)| other == of) {
            let before = spans.partition_point(|&(start, _)| start < span.end);
            count += u64::from(before > 0 && spans[before - 1].1 > span.start);
        }
    }
    count
}

/// The span without a leading article, a final possessive `'s` and a final full stop; blank ends too.
pub(super) fn trimmed(text: &Text, span: Span) -> Span {
    let whole = text.slice(span);
    let mut name = whole.trim_start();
    for article in ["the", "a", "an"] {
        let (Some(head), Some(rest)) = (name.get(..article.len()), name.get(article.len()..))
        else {
            continue;
        };
        if head.eq_ignore_ascii_case(article) && rest.starts_with(char::is_whitespace) {
            name = rest.trim_start();
            break;
        }
    }
    let skipped = whole.len() - name.len();
    let name = name.trim_end();
    let name = ["'s", "’s"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
        .trim_end();
    let name = name.strip_suffix('.').unwrap_or(name).trim_end();
    if name.is_empty() {
        return span;
    }
    let count = |part: &str| u32::try_from(part.chars().count()).unwrap_or(u32::MAX);
    let start = span.start + count(&whole[..skipped]);
    Span::new(start, start + count(name))
}
