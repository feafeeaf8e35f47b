//! Names by a linear model: what stands in and around each word speaks for labels, and the best sequence wins.
//!
//! The weights are trained by `graphmill train` (feature `train`) and are part of the binary. Knows a stretch of text
//! and a bounded window around it; the same input gives the same output, in time linear in both. Every span is made
//! of whole tokens.

pub(super) mod bits;
pub(super) mod decode;
pub(super) mod document;
pub(super) mod feature;
pub(super) mod hash;
pub(super) mod known;
pub(super) mod sentence;
pub(super) mod weights;
pub(super) mod word;

use std::{collections::HashMap, ops::Range, sync::LazyLock};

use self::{
    decode::Scores,
    document::{Document, Words},
    sentence::Sentence,
    weights::{Sum, Weights},
};
use super::token::{self, Token};
use crate::graph::{NameLabel, sentence_ranges};

/// A name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    /// Its bytes.
    pub(super) at: Range<usize>,
    pub(super) label: NameLabel,
    /// 0 to 1: how often names that won by as much were right.
    pub(super) confidence: f32,
}

/// How many bytes before and after a stretch may tell of the names in it.
///
/// **Source:** a guess: half a chunk, so that reading them costs less than the stretch.
const WINDOW: usize = 1000;

const PACKED: &[u8] = include_bytes!("weights/tagger.bin");

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    // A test reads them, so that a build whose tests passed has them. Without any there would be no names.
    Weights::unpack(PACKED).unwrap_or_default()
});

static WORDS: LazyLock<Words> = LazyLock::new(Words::new);

/// The names in a stretch of `text`, ascending.
pub(super) fn names(text: &str, range: Range<usize>) -> Vec<Name> {
    names_by(&WEIGHTS, text, range)
}

/// [`names`] by other weights.
pub(super) fn names_by(weights: &Weights, text: &str, range: Range<usize>) -> Vec<Name> {
    let mut found = find(weights, text, range);
    let (start, growth) = weights.calibration;
    for name in &mut found {
        name.confidence = 1.0 / (1.0 + (-growth.mul_add(name.confidence, start)).exp());
    }
    agree(text, &mut found);
    found
}

/// The names, each with its margin for a confidence.
pub(super) fn find(weights: &Weights, text: &str, range: Range<usize>) -> Vec<Name> {
    let mut start = range.start.saturating_sub(WINDOW);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let mut end = range.end.saturating_add(WINDOW).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = read(text, start..range.start, weights);
    let own = read(text, range.clone(), weights);
    let after = read(text, range.end..end, weights);
    let all = before.iter().chain(&own).chain(&after);
    let document = Document::new(all.map(|(_, sentence)| sentence), &WORDS);
    let mut found = Vec::new();
    for (tokens, sentence) in &own {
        tag(tokens, sentence, &document, weights, &mut found);
    }
    found
}

fn read<'a>(
    text: &'a str,
    range: Range<usize>,
    weights: &Weights,
) -> Vec<(Vec<Token<'a>>, Sentence)> {
    sentence_ranges(&text[range.clone()])
        .into_iter()
        .map(|sentence| {
            let tokens = token::tokens(
                text,
                range.start + sentence.start..range.start + sentence.end,
            );
            let sentence = Sentence::new(&tokens, &weights.known);
            (tokens, sentence)
        })
        .collect()
}

fn tag(
    tokens: &[Token<'_>],
    sentence: &Sentence,
    document: &Document,
    weights: &Weights,
    found: &mut Vec<Name>,
) {
    let mut scores: Vec<Scores> = Vec::new();
    for at in 0..=tokens.len() {
        if sentence.open.get(at) == Some(&true) {
            let mut sum = Sum::default();
            feature::features(sentence, at, document, |_, feature| {
                weights.add(feature, &mut sum);
            });
            scores.push(sum.scores());
        } else if !scores.is_empty() {
            stretch(&tokens[at - scores.len()..at], &scores, weights, found);
            scores.clear();
        }
    }
}

/// Adds the names of a stretch of words that may be in names.
fn stretch(tokens: &[Token<'_>], scores: &[Scores], weights: &Weights, found: &mut Vec<Name>) {
    let labels = decode::best(scores, &weights.transitions, |_| u16::MAX);
    if labels.iter().all(|&label| label == 0) {
        return;
    }
    let margins = decode::margins(scores, &weights.transitions, &labels);
    for run in runs(&labels) {
        let Some(label) = decode::kind(labels[run.start].into()) else {
            continue;
        };
        let margin = margins[run.clone()]
            .iter()
            .copied()
            .fold(f32::INFINITY, f32::min);
        let Some(at) = whole(&tokens[run], label) else {
            continue;
        };
        found.push(Name {
            at,
            label,
            confidence: margin,
        });
    }
}

/// The stretches of one name each.
pub(super) fn runs(labels: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let begins = |at: &usize| decode::begins(labels[*at].into());
    (0..labels.len()).filter(begins).map(|start| {
        let inside = labels[start + 1..]
            .iter()
            .take_while(|&&label| label == labels[start] + 1);
        start..start + 1 + inside.count()
    })
}

/// The bytes of a name without its article, a person's form of address, its possessive and the marks at its ends; none if nothing is left.
fn whole(tokens: &[Token<'_>], label: NameLabel) -> Option<Range<usize>> {
    let mut tokens = tokens;
    while let [first, rest @ ..] = tokens
        && !rest.is_empty()
        && label == NameLabel::Per
        && first.is_one_of(ADDRESSES)
    {
        tokens = rest;
    }
    while let [first, rest @ ..] = tokens
        && !rest.is_empty()
        && first.is_one_of(&["the", "a", "an", "\"", "“", "'", "‘", "(", ",", "-"])
    {
        tokens = rest;
    }
    while let [rest @ .., last] = tokens
        && last.is_one_of(&["'s", ".", ",", "'", "\"", "”", "’", "(", "-", ";", ":"])
    {
        tokens = rest;
    }
    let named = tokens
        .iter()
        .any(|token| token.text.contains(char::is_alphanumeric));
    match tokens {
        [first, .., last] if named => Some(first.at.start..last.at.end),
        [only] if named => Some(only.at.clone()),
        _ => None,
    }
}

/// Before a person's name, and no part of it.
const ADDRESSES: &[&str] = &[
    "mr.", "mrs.", "ms.", "dr.", "prof.", "rev.", "sen.", "rep.", "gov.", "mr", "mrs", "ms", "dr",
];

/// Makes one name one label within the stretch, unless its context is sure.
fn agree(text: &str, names: &mut [Name]) {
    let mut votes: HashMap<&str, [f32; 4]> = HashMap::new();
    for name in names.iter() {
        votes.entry(&text[name.at.clone()]).or_default()[name.label as usize] += name.confidence;
    }
    for name in names {
        let Some(votes) = votes.get(&text[name.at.clone()]) else {
            continue;
        };
        let own = votes[name.label as usize];
        for label in [
            NameLabel::Per,
            NameLabel::Org,
            NameLabel::Loc,
            NameLabel::Misc,
        ] {
            if votes[label as usize] > 2.0 * own && name.confidence < SURE {
                name.label = label;
            }
        }
    }
}

/// A confidence at which a name keeps its label although the text calls it otherwise elsewhere.
///
/// **Source:** a guess: nineteen of twenty such are right.
const SURE: f32 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_in_the_binary_are_of_this_version() {
        let weights = Weights::unpack(PACKED).unwrap();
        assert!(weights.calibration.1 > 0.0, "a larger margin is surer");
        let limit = 1_500_000;
        assert!(PACKED.len() <= limit, "{} bytes", PACKED.len());
    }

    #[test]
    fn a_name_has_no_article_address_or_mark_at_its_ends() {
        let text = "He met Dr. Jane Smith's friends at the United Nations.";
        let found: Vec<_> = names(text, 0..text.len())
            .into_iter()
            .map(|name| (&text[name.at], name.label))
            .collect();
        assert_eq!(
            found,
            [
                ("Jane Smith", NameLabel::Per),
                ("United Nations", NameLabel::Org)
            ]
        );
    }

    #[test]
    fn what_is_around_a_stretch_is_seen_but_not_tagged() {
        let text = "Ada Brown is here. Brown left for Oslo. Oslo is cold.";
        let stretch = 19..39;
        let found = names(text, stretch.clone());
        assert!(!found.is_empty());
        assert!(
            found
                .iter()
                .all(|name| stretch.start <= name.at.start && name.at.end <= stretch.end)
        );
    }
}
