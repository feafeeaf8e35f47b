//! Checkpoints of earlier generations of a document: which of its own still hold, and which of theirs can be taken
//! instead of work.
//!
//! The hash of what a unit was given decides, and nothing else; a group of mentions is told by its members. Invariant:
//! what is adopted is what the same unit would be given now, so a batch that goes back to what it was worked with
//! before works no unit.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    entities,
    findings::Findings,
    recipe::Digests,
    stage::{self, Work},
    units::{UnitOutcome, UnitOutput, UnitRecord},
};
use crate::{flow::Stage, graph::Span};

/// The stages with checkpoints, in order.
const STAGES: [Stage; 4] = [
    Stage::Chunk,
    Stage::Mentions,
    Stage::Entities,
    Stage::Relations,
];

/// What a document was given before, and what tells it from what it is given now.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The recipes of now. All the same, where nobody will ask for another one.
    pub digests: Digests,
    /// What earlier generations found in the document, once a hash; `None`: this is the first.
    pub earlier: Option<Arc<[UnitRecord]>>,
}

/// Drops from `records` what was found with other input or another recipe, in the stages up to `last`. What was tried
/// and not found stays: its tries count.
pub(super) fn drop_stale(last: Stage, work: &Work, records: &mut Vec<UnitRecord>) {
    if work.past.earlier.is_none() {
        return;
    }
    for stage in STAGES.into_iter().filter(|&stage| stage <= last) {
        let before: Vec<UnitRecord> = records
            .iter()
            .filter(|record| record.stage < stage)
            .cloned()
            .collect();
        let findings = Findings::of(&before);
        if stage == Stage::Entities {
            let groups = Groups::of(&findings);
            records.retain(|record| {
                record.stage != stage || !is_done(record) || groups.holds(record, work)
            });
            continue;
        }
        let wanted: HashMap<i32, [u8; 32]> = stage::plan(stage, work, &findings, &before)
            .map(|(units, _)| units)
            .unwrap_or_default()
            .into_iter()
            .map(|unit| (unit.number, unit.hash(stage, work)))
            .collect();
        records.retain(|record| {
            record.stage != stage
                || !is_done(record)
                || wanted.get(&record.unit) == Some(&record.input_hash)
        });
    }
}

/// What earlier generations have for units of `stage` that `records` do not have; `findings` are those of `records`.
pub(super) fn adoptable(
    stage: Stage,
    work: &Work,
    findings: &Findings,
    records: &[UnitRecord],
) -> Vec<UnitRecord> {
    let Some(earlier) = work.past.earlier.as_deref().filter(|all| !all.is_empty()) else {
        return Vec::new();
    };
    let done: HashSet<i32> = records
        .iter()
        .filter(|record| record.stage == stage && is_done(record))
        .map(|record| record.unit)
        .collect();
    let mut of_stage: Vec<&UnitRecord> = earlier
        .iter()
        .filter(|record| record.stage == stage && is_done(record) && !done.contains(&record.unit))
        .collect();
    of_stage.sort_by_key(|record| (record.unit, record.input_hash));
    let mut adopted: Vec<UnitRecord> = Vec::new();
    if stage == Stage::Entities {
        let groups = Groups::of(findings);
        let mut grouped: HashSet<Span> = findings.groups.values().flatten().copied().collect();
        for record in of_stage {
            let members = members(record);
            if adopted.last().is_some_and(|last| last.unit == record.unit)
                || members.iter().any(|member| grouped.contains(member))
                || !groups.holds(record, work)
            {
                continue;
            }
            grouped.extend(members);
            adopted.push(taken(record, work));
        }
        return adopted;
    }
    let by_unit: HashMap<(i32, [u8; 32]), &UnitRecord> = of_stage
        .into_iter()
        .map(|record| ((record.unit, record.input_hash), record))
        .collect();
    let units = stage::plan(stage, work, findings, records).map(|(units, _)| units);
    for unit in units.unwrap_or_default() {
        if let Some(record) = by_unit.get(&(unit.number, unit.hash(stage, work))) {
            adopted.push(taken(record, work));
        }
    }
    adopted
}

/// The record that an adopted checkpoint becomes: no try was made for it.
fn taken(record: &UnitRecord, work: &Work) -> UnitRecord {
    UnitRecord {
        round: work.round,
        tries: 0,
        deaths: 0,
        ..record.clone()
    }
}

const fn is_done(record: &UnitRecord) -> bool {
    matches!(record.outcome, UnitOutcome::Done(_))
}

fn members(record: &UnitRecord) -> &[Span] {
    match &record.outcome {
        UnitOutcome::Done(UnitOutput::Types(group)) => &group.members,
        UnitOutcome::Done(_) | UnitOutcome::Retry(_) | UnitOutcome::Failed(_) => &[],
    }
}

/// Tells whether a group of mentions would be asked about in the same way now.
struct Groups<'a> {
    findings: &'a Findings,
    at: HashMap<Span, usize>,
}

impl<'a> Groups<'a> {
    fn of(findings: &'a Findings) -> Self {
        let spans = findings.mentions.iter().map(|mention| mention.span);
        Self {
            findings,
            at: spans.zip(0..).collect(),
        }
    }

    fn holds(&self, record: &UnitRecord, work: &Work) -> bool {
        let members = members(record);
        let now: Option<Vec<usize>> = members
            .iter()
            .map(|span| self.at.get(span).copied())
            .collect();
        now.is_some_and(|now| {
            let unit = entities::group(self.findings, record.unit, now);
            !members.is_empty() && unit.hash(Stage::Entities, work) == record.input_hash
        })
    }
}
