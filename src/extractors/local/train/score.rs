//! How good weights are: strict F1 of names on texts that they were not trained on, by the very path that runs.

use std::collections::HashSet;

use super::{
    super::tagger::{self, weights::Weights},
    corpus::{Labelled, stripped},
};
use crate::graph::NameLabel;

/// Counts by kind: PER, ORG, LOC, MISC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score {
    right: [u32; 4],
    found: [u32; 4],
    gold: [u32; 4],
}

impl Score {
    /// The F1 of PER, ORG and LOC together, in percent.
    #[must_use]
    pub fn f1(&self) -> f64 {
        let of_three = |counts: &[u32; 4]| f64::from(counts[..3].iter().sum::<u32>());
        f1(
            of_three(&self.right),
            of_three(&self.found),
            of_three(&self.gold),
        )
    }

    /// The F1 of each kind, in percent: PER, ORG, LOC, MISC.
    #[must_use]
    pub fn by_kind(&self) -> [f64; 4] {
        std::array::from_fn(|kind| {
            f1(
                self.right[kind].into(),
                self.found[kind].into(),
                self.gold[kind].into(),
            )
        })
    }
}

fn f1(right: f64, found: f64, gold: f64) -> f64 {
    200.0 * right / (found + gold).max(1.0)
}

/// Tags these documents and counts.
pub(super) fn score<'a>(weights: &Weights, documents: impl Iterator<Item = &'a Labelled>) -> Score {
    let mut score = Score::default();
    for document in documents {
        let found: HashSet<_> = tagger::names_by(weights, &document.text, 0..document.text.len())
            .into_iter()
            .map(|name| (stripped(&document.text, name.at), name.label))
            .collect();
        for (_, label) in &found {
            score.found[*label as usize] += 1;
        }
        for name in &document.names {
            score.gold[name.1 as usize] += 1;
            score.right[name.1 as usize] += u32::from(found.contains(name));
        }
    }
    score
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "two numbers of a few digits"
)]
/// The odds of a name being right by its margin: `1 / (1 + e^-(a + b × margin))`, fitted by gradient descent.
pub(super) fn calibrate<'a>(
    weights: &Weights,
    documents: impl Iterator<Item = &'a Labelled>,
) -> (f32, f32) {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for document in documents {
        let gold: HashSet<&(std::ops::Range<usize>, NameLabel)> = document.names.iter().collect();
        for name in tagger::find(weights, &document.text, 0..document.text.len()) {
            let right = gold.contains(&(stripped(&document.text, name.at), name.label));
            points.push((f64::from(name.confidence), f64::from(u8::from(right))));
        }
    }
    let count = f64::from(u32::try_from(points.len().max(1)).unwrap_or(u32::MAX));
    let mean = points.iter().map(|point| point.0).sum::<f64>() / count;
    let unit = if mean > 0.0 { mean } else { 1.0 };
    let (mut a, mut b) = (0.0_f64, 1.0_f64);
    for _ in 0..500 {
        let (mut by_a, mut by_b) = (0.0, 0.0);
        for &(margin, right) in &points {
            let margin = margin / unit;
            let off = right - 1.0 / (1.0 + (-(a + b * margin)).exp());
            by_a += off;
            by_b += off * margin;
        }
        a += by_a / count;
        b += by_b / count;
    }
    (a as f32, (b / unit) as f32)
}
