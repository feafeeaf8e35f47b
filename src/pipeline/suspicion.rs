//! Which units must run alone: those that may have been in work when a process was lost, and those that have taken one
//! down, or kept a thread, themselves.
//!
//! Knows records and what they say of the past, not how a unit is isolated. Suspicion costs a process a unit and
//! nothing else, so in doubt it falls.

use std::collections::HashSet;

use super::{
    findings,
    stage::{Outcome, Work, judge, tries_before},
    units::{CheckpointError, Checkpoints, Errands, Tried, UnitRecord},
};
use crate::flow::Stage;

/// The suspicion that lies on the units of a stage, asked in the plan's order.
pub(super) struct Suspicion {
    /// All of them: no thread is left that could work one.
    on_all: bool,
    /// A process was lost that worked the document.
    on_begun: bool,
    /// Chunks of which a process died in an earlier stage, or which kept a thread: their text may do so again.
    chunks: HashSet<i32>,
    /// How many units without a checkpoint may have been in work at once. Units are begun in the plan's order, and the
    /// next one of a paid extractor only when the checkpoint of the one whose place it takes is durable: so it is the
    /// first ones. Checkpoints of unpaid ones may wait: there it may have been any.
    in_work: usize,
    untried: usize,
}

impl Suspicion {
    pub(super) fn of(stage: Stage, work: &Work, records: &[UnitRecord], parallel: usize) -> Self {
        // The units of both stages are the chunks; a group of mentions has the number of none.
        let chunks = records.iter().filter(|record| {
            stage == Stage::Relations && record.stage == Stage::Mentions && record.must_be_alone()
        });
        Self {
            on_all: work.workplace.threads.are_worn_out(),
            on_begun: work.workplace.suspect,
            chunks: chunks.map(|record| record.unit).collect(),
            in_work: if work.extractor.is_paid() {
                parallel.max(1)
            } else {
                usize::MAX
            },
            untried: 0,
        }
    }

    /// Whether it falls on `unit`, which has that record, if any.
    pub(super) fn falls_on(&mut self, unit: i32, record: Option<&UnitRecord>) -> bool {
        self.untried += usize::from(record.is_none());
        let may_have_begun = record.is_some() || self.untried <= self.in_work;
        self.on_all
            || self.chunks.contains(&unit)
            || record.is_some_and(UnitRecord::must_be_alone)
            || self.on_begun && may_have_begun
    }
}

/// Has a document that is suspected of taking processes down assembled by one of its own first. `None`: it may be
/// assembled here.
pub(super) async fn canary(
    work: &Work,
    records: &mut Vec<UnitRecord>,
    checkpoints: &mut dyn Checkpoints,
) -> Result<Option<Outcome>, CheckpointError> {
    let stage = Stage::Assemble;
    let before = findings::of_stage(records, stage).get(&0).copied().cloned();
    if !work.workplace.suspect && !before.as_ref().is_some_and(UnitRecord::must_be_alone) {
        return Ok(None);
    }
    let tries = before
        .as_ref()
        .map_or(Some(0), |record| tries_before(record, work.round));
    if let Some(tries) = tries {
        let errands = Errands::new(stage, work, records);
        let Some(came) = errands.alone(0, [0; 32]).await else {
            return Ok(None);
        };
        if let Tried::Refused(error) = came {
            return Err(error);
        }
        if before.is_none() && matches!(came, Tried::Done(_)) {
            return Ok(None);
        }
        let deaths = before.map_or(0, |record| record.deaths);
        let Some(record) = errands.record(0, [0; 32], tries, deaths, came) else {
            return Ok(None);
        };
        checkpoints.record(vec![record.clone()], true).await?;
        records.retain(|old| old.stage != stage);
        records.push(record);
    }
    Ok(match judge(stage, 1, work, records) {
        Outcome::Settled { .. } => None,
        outcome @ (Outcome::Retry { .. }
        | Outcome::Failed { .. }
        | Outcome::Blocked { .. }
        | Outcome::Paused) => Some(outcome),
    })
}
