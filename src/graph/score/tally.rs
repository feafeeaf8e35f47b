//! Precision and recall, counted from both sides.

use serde::Serialize;

/// How much was found and how much should have been. The two sides are counted apart: one long mention may be right
/// about two that were marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) gold: u64,
    pub(super) found: u64,
    pub(super) predicted: u64,
    pub(super) right: u64,
}

impl Tally {
    pub(super) fn scores(self) -> Scores {
        Scores {
            gold: self.gold,
            predicted: self.predicted,
            ..Scores::of(
                ratio(self.right, self.predicted),
                ratio(self.found, self.gold),
            )
        }
    }
}

/// Precision, recall and their harmonic mean, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Share of what was found that is right; 0 if nothing was found.
    pub precision: f64,
    /// Share of what is marked that was found; 0 if nothing is marked.
    pub recall: f64,
    /// 0 if both are.
    pub f1: f64,
    /// How many are marked.
    pub gold: u64,
    /// How many were found.
    pub predicted: u64,
}

impl Scores {
    pub(super) fn of(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        Self {
            precision,
            recall,
            f1: if sum > 0.0 {
                2.0 * precision * recall / sum
            } else {
                0.0
            },
            ..Self::default()
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of mentions are far below 2^52"
)]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
