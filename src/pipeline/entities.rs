//! `entities`: a class for each mention, in groups of up to 50.
//!
//! A group is named once: those that have a checkpoint keep their members, and only mentions that are in none form
//! new groups. Else one retried chunk would shift, and re-pay, every group behind it.

use std::collections::HashSet;

use super::{
    findings::Findings,
    stage::{Job, Unit, UnitResult, Work, add_name, confidence, grounded},
    units::{UnitGroup, UnitOutput, UnitRecord},
};
use crate::{
    extractors::UnitName,
    flow::Stage,
    graph::{Mention, Span},
};

/// A unit a group: first those that have a checkpoint, then new ones for the mentions that are in none.
pub(super) fn plan(findings: &Findings, records: &[UnitRecord], size: usize) -> Vec<Unit> {
    let grouped: HashSet<Span> = findings.groups.values().flatten().copied().collect();
    let mut units: Vec<Unit> = findings
        .groups
        .keys()
        .map(|&number| Unit {
            number,
            input: Vec::new(),
            job: Job::Entities {
                members: Vec::new(),
            },
        })
        .collect();
    let open: Vec<usize> = (0..findings.mentions.len())
        .filter(|&index| !grouped.contains(&findings.mentions[index].span))
        .collect();
    // A group that failed has a checkpoint but no members in it: its mentions are open again, and the first new
    // groups take over the numbers of those, lowest first, so that their tries go on counting.
    let tried = records.iter().filter(|record| {
        record.stage == Stage::Entities && !findings.groups.contains_key(&record.unit)
    });
    let mut free: Vec<i32> = tried.map(|record| record.unit).collect();
    free.sort_unstable();
    let taken: HashSet<i32> = findings.groups.keys().chain(&free).copied().collect();
    let numbers = free
        .into_iter()
        .chain((0..).filter(|number| !taken.contains(number)));
    for (number, members) in numbers.zip(open.chunks(size.max(1))) {
        units.push(group(findings, number, members.to_vec()));
    }
    units
}

/// The unit of these mentions.
pub(super) fn group(findings: &Findings, number: i32, members: Vec<usize>) -> Unit {
    let mut input = Vec::new();
    for &index in &members {
        let mention = &findings.mentions[index];
        add_name(
            &mut input,
            mention.span,
            mention.label,
            mention.value.as_ref(),
        );
    }
    Unit {
        number,
        input,
        job: Job::Entities { members },
    }
}

pub(super) async fn work(
    name: &UnitName,
    work: &Work,
    findings: &Findings,
    members: &[usize],
) -> UnitResult {
    let group: Vec<Mention> = members
        .iter()
        .map(|&index| findings.mentions[index].clone())
        .collect();
    let asked: HashSet<Span> = group.iter().map(|mention| mention.span).collect();
    let given = work
        .extractor
        .classify(name, &work.document.text, &group, &work.ontology)
        .await?;
    let mut types = grounded(given, |given| {
        asked.contains(&given.span) && work.ontology.class(&given.class).is_some()
    });
    for given in &mut types {
        given.confidence = confidence(given.confidence);
    }
    types.sort_by_key(|given| given.span);
    types.dedup_by_key(|given| given.span);
    let members = group.into_iter().map(|mention| mention.span).collect();
    Ok(UnitOutput::Types(UnitGroup { members, types }))
}
