//! How far a batch is: from the counts that the sequencer folds, without a look at its documents.
//!
//! Invariant: a percentage is 100 only when all is done, and what can't be estimated is left out.

use serde::Serialize;

use crate::{flow::Stage, store::Batch};

/// How far a batch is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ProgressReport {
    /// Documents that are final, of those to be worked.
    pub documents: Done,
    /// Documents that hold one of the batch's slots.
    pub in_work: u64,
    /// Documents that wait for a slot, for their time or for another round.
    pub waiting: u64,
    /// How many documents are through each stage; of the resolution, which is the batch's, whether it is published. A
    /// document that is given up or stopped never gets through the stages that it has left.
    pub stages: Vec<StageProgress>,
    /// Documents a minute that ended of late; none while too few have, or the batch does not run.
    pub documents_per_minute: Option<f64>,
    /// Seconds until every document is final, at that rate; none while documents may still be added. The resolution,
    /// which comes behind them, is not in it.
    pub seconds_left: Option<u64>,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Done {
    /// Done.
    pub current: u64,
    /// In all.
    pub total: u64,
    /// The share, rounded down to a tenth; 100 only when all is done.
    pub percent: f64,
}

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageProgress {
    /// Which one.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// How far it is.
    #[serde(flatten)]
    pub done: Done,
}

impl Done {
    /// `current` of `total`; nothing of nothing is all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub fn of(current: u64, total: u64) -> Self {
        let percent = if total == 0 {
            100.0
        } else {
            (u128::from(current) * 1000 / u128::from(total)) as f64 / 10.0
        };
        Self {
            current,
            total,
            percent,
        }
    }
}

impl ProgressReport {
    /// How far `batch` is, `in_work` of whose documents hold a slot.
    #[must_use]
    pub fn of(batch: &Batch, in_work: u64) -> Self {
        let counts = &batch.counts;
        let (ended, all) = (counts.ended(), counts.accepted);
        let left = all.saturating_sub(ended);
        let stages = Stage::ALL.into_iter().map(|stage| {
            let total = if stage == Stage::Resolve { 1 } else { all };
            StageProgress {
                stage,
                done: Done::of(counts.through(stage), total),
            }
        });
        let runs = !batch.state.name().has_ended() && batch.paused.is_none();
        let pace = batch.pace.filter(|_| runs && left > 0);
        Self {
            documents: Done::of(ended, all),
            in_work: in_work.min(left),
            waiting: left.saturating_sub(in_work),
            stages: stages.collect(),
            documents_per_minute: pace
                .and_then(|pace| pace.per_minute(batch.now_ms, ended))
                .map(|rate| (rate * 10.0).round() / 10.0),
            seconds_left: pace
                .filter(|_| batch.sealed)
                .and_then(|pace| pace.seconds_left(batch.now_ms, ended, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_said_of_all_only() {
        assert_eq!(Done::of(999_999, 1_000_000).percent.to_string(), "99.9");
        assert_eq!(Done::of(7, 7).percent.to_string(), "100");
        assert_eq!(Done::of(1, 3).percent.to_string(), "33.3");
        assert_eq!(Done::of(0, 0).percent.to_string(), "100");
    }
}
