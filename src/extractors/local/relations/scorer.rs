//! How sure a rule's relation is: a logistic regression over the rule, the words between the ends, their distance,
//! order and kinds. It judges what rules found and proposes nothing itself.
//!
//! Invariant: the same features at training and at reading, because both call [`Features::of`].

use std::hash::Hasher;

use super::{
    Reader,
    rules::Rule,
    vocabulary::{Bits, WordHasher},
};

/// Weights in all, a power of two. **Source:** rules fire a few thousand times in the training texts.
pub(super) const SIZE: usize = 1 << 14;

/// Steps of a weight to 1.
pub(super) const SCALE: f32 = 16.0;

/// Features of a relation at most.
const MOST: usize = 24;

/// The trained weights, one byte each.
static WEIGHTS: &[u8] = include_bytes!("../weights/relations.bin");

/// Who gives a relation its confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelationScorer {
    /// Its rule alone.
    None,
    /// Its rule and a logistic regression, half each.
    #[default]
    Lr,
}

impl RelationScorer {
    /// The confidence of a relation whose rule gives it `by_rule`.
    pub(super) fn confidence(self, by_rule: f32, features: impl FnOnce() -> Features) -> f32 {
        match self {
            Self::None => by_rule,
            // Half: what annotators left out of the training texts counts as wrong there, so that the regression alone
            // is too unsure; the rule knows what they did not.
            Self::Lr => f32::midpoint(by_rule, probability(&features(), WEIGHTS)),
        }
    }
}

/// Hashed features: places among the weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    places: [u16; MOST],
    count: usize,
}

impl Features {
    /// The features of the relation that `rule` states between two items.
    pub(super) fn of(reader: &Reader<'_>, rule: &Rule, left: usize, right: usize) -> Self {
        let mut features = Self {
            places: [0; MOST],
            count: 0,
        };
        let relation = rule.relation as u64;
        let (first, last) = (left.min(right), left.max(right));
        features.add(0, 0, 0);
        features.add(1, relation, 0);
        features.add(2, rule.key, 0);
        features.add(3, relation, (last - first).min(12) as u64);
        features.add(
            4,
            relation,
            u64::from(left < right) * 2 + u64::from(rule.reversed),
        );
        for (kind, at) in [(5, left), (6, right)] {
            let item = &reader.items[at];
            features.add(kind, relation, u64::from(item.is(Bits::STANDS_FOR)));
            let class = item
                .mention
                .map_or(0, |mention| reader.known[mention].class_key);
            features.add(kind + 2, relation, class);
        }
        let text = reader.chunk.text.as_str();
        for item in reader.items[first + 1..last].iter().take(10) {
            let word = if item.is(Bits::MENTION) {
                1
            } else {
                hashed(&text[item.bytes.clone()])
            };
            features.add(9, relation, word);
        }
        features
    }

    fn add(&mut self, kind: u64, one: u64, other: u64) {
        if self.count < MOST {
            let mut hasher = WordHasher::default();
            hasher.write_u64(kind + 1);
            hasher.write_u64(one);
            hasher.write_u64(other);
            // The remainder of a division by a power of two that fits.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the remainder is below 2^14"
            )]
            let place = (hasher.finish() % SIZE as u64) as u16;
            self.places[self.count] = place;
            self.count += 1;
        }
    }

    pub(super) fn places(&self) -> &[u16] {
        &self.places[..self.count]
    }
}

/// A word's hash, its case left out.
pub(super) fn hashed(word: &str) -> u64 {
    let mut hasher = WordHasher::default();
    for byte in word.bytes().take(24) {
        hasher.write_u64(u64::from(byte.to_ascii_lowercase()));
    }
    hasher.finish()
}

/// What the weights make of the features, 0 to 1.
fn probability(features: &Features, weights: &[u8]) -> f32 {
    let sum: i32 = features
        .places()
        .iter()
        .filter_map(|&place| weights.get(usize::from(place)))
        .map(|&weight| i32::from(weight.cast_signed()))
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "a sum of a few bytes")]
    let sum = sum as f32 / SCALE;
    1.0 / (1.0 + (-sum).exp())
}
