//! Two clusterings of the same things, compared by pairs.

use std::collections::HashMap;

use serde::Serialize;

/// How far the pairs that a clustering puts together are those of the gold one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairScores {
    /// Of the pairs together, those that belong together.
    pub precision: f64,
    /// Of the pairs that belong together, those that are.
    pub recall: f64,
    /// The harmonic mean.
    pub f1: f64,
}

impl PairScores {
    /// Compares two clusterings, each given as every thing's cluster. No pairs at all are right.
    #[must_use]
    pub fn of(gold: &[u32], found: &[u32]) -> Self {
        let together = |keys: &mut dyn Iterator<Item = (u32, u32)>| -> u64 {
            let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
            for key in keys {
                *counts.entry(key).or_default() += 1;
            }
            counts.values().map(|count| count * (count - 1) / 2).sum()
        };
        let right = together(&mut gold.iter().copied().zip(found.iter().copied()));
        let wanted = together(&mut gold.iter().map(|&cluster| (cluster, 0)));
        let put = together(&mut found.iter().map(|&cluster| (cluster, 0)));
        #[expect(clippy::cast_precision_loss, reason = "a share needs few digits")]
        let share = |of: u64| {
            if of == 0 {
                1.0
            } else {
                right as f64 / of as f64
            }
        };
        let (precision, recall) = (share(put), share(wanted));
        let sum = precision + recall;
        Self {
            precision,
            recall,
            f1: if sum > 0.0 {
                2.0 * precision * recall / sum
            } else {
                0.0
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_on_both_sides() {
        let scores = PairScores::of(&[1, 1, 1, 2, 2], &[7, 7, 8, 8, 9]);
        assert!((scores.precision - 0.5).abs() < 1e-9);
        assert!((scores.recall - 0.25).abs() < 1e-9);
        assert!((scores.f1 - 1.0 / 3.0).abs() < 1e-9);
        assert!((PairScores::of(&[1, 2], &[1, 2]).f1 - 1.0).abs() < 1e-9);
    }
}
