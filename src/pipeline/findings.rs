//! What the stages of a document have found so far, read back from its checkpoints.

use std::collections::{BTreeMap, HashMap};

use super::units::{UnitOutcome, UnitOutput, UnitRecord};
use crate::{
    flow::Stage,
    graph::{ClassId, FoundRelation, Mention, Span, TypedMention},
};

/// The findings of a document, in canonical order.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Where the document was cut.
    pub chunks: Vec<Span>,
    /// The names, by span; one that two overlapping chunks found is here once.
    pub mentions: Vec<Mention>,
    /// The names that have a class.
    pub typed: Vec<TypedMention>,
    /// Relations between them.
    pub relations: Vec<FoundRelation>,
    /// Groups of mentions that were already classified, or tried, by unit number.
    pub(super) groups: BTreeMap<i32, Vec<Span>>,
}

impl Findings {
    /// Reads the findings out of checkpoints, whatever their order.
    #[must_use]
    pub fn of(records: &[UnitRecord]) -> Self {
        let mut records: Vec<&UnitRecord> = records.iter().collect();
        records.sort_by_key(|record| (record.stage, record.unit));
        let mut findings = Self::default();
        let mut classes: HashMap<Span, (ClassId, f32)> = HashMap::new();
        for record in records {
            let UnitOutcome::Done(output) = &record.outcome else {
                continue;
            };
            match output {
                UnitOutput::Chunks(spans) => findings.chunks.clone_from(spans),
                UnitOutput::Mentions(mentions) => {
                    findings.mentions.extend(mentions.iter().cloned());
                }
                UnitOutput::Types(group) => {
                    findings.groups.insert(record.unit, group.members.clone());
                    for given in &group.types {
                        classes.insert(given.span, (given.class.clone(), given.confidence));
                    }
                }
                UnitOutput::Assembled | UnitOutput::Verdicts(_) => {}
                UnitOutput::Relations(found) => findings.relations.extend(found.iter().cloned()),
            }
        }
        // Chunks overlap by a sentence: what both found is one mention (the sort is stable, the first chunk's wins).
        findings.mentions.sort_by_key(|mention| mention.span);
        findings.mentions.dedup_by_key(|mention| mention.span);
        findings.typed = findings
            .mentions
            .iter()
            .filter_map(|mention| {
                let (class, confidence) = classes.get(&mention.span)?;
                Some(TypedMention {
                    span: mention.span,
                    label: mention.label,
                    value: mention.value.clone(),
                    class: class.clone(),
                    confidence: mention.confidence.min(*confidence),
                })
            })
            .collect();
        findings
    }

    /// The typed mentions that lie within `chunk`.
    #[must_use]
    pub fn typed_in(&self, chunk: Span) -> Vec<TypedMention> {
        let first = self
            .typed
            .partition_point(|mention| mention.span.start < chunk.start);
        self.typed[first..]
            .iter()
            .take_while(|mention| mention.span.start < chunk.end)
            .filter(|mention| chunk.contains(mention.span))
            .cloned()
            .collect()
    }
}

/// The records of `stage` that are done, have tries left, or failed, by unit.
pub(super) fn of_stage(records: &[UnitRecord], stage: Stage) -> HashMap<i32, &UnitRecord> {
    records
        .iter()
        .filter(|record| record.stage == stage)
        .map(|record| (record.unit, record))
        .collect()
}
