//! `relations`: what each chunk states about its entities, chunks in parallel.

use std::collections::HashMap;

use super::{
    findings::Findings,
    stage::{Job, Unit, UnitResult, Work, add_name, confidence, grounded},
    units::UnitOutput,
};
use crate::{
    extractors::{ChunkText, UnitName},
    graph::{ClassId, Span},
};

/// A unit for each chunk that can state a relation: one with two typed mentions at least.
pub(super) fn plan(findings: &Findings) -> Vec<Unit> {
    (0_i32..)
        .zip(findings.chunks.iter().enumerate())
        .filter_map(|(number, (chunk, &span))| {
            let mentions = findings.typed_in(span);
            if mentions.len() < 2 {
                return None;
            }
            let mut input = [span.start.to_be_bytes(), span.end.to_be_bytes()].concat();
            for mention in mentions {
                add_name(
                    &mut input,
                    mention.span,
                    mention.label,
                    mention.value.as_ref(),
                );
                input.extend(mention.class.as_str().as_bytes());
            }
            Some(Unit {
                number,
                input,
                job: Job::Relations { chunk },
            })
        })
        .collect()
}

pub(super) async fn work(
    name: &UnitName,
    work: &Work,
    findings: &Findings,
    chunk: usize,
) -> UnitResult {
    let span = findings.chunks[chunk];
    let text = ChunkText {
        text: &work.document.text,
        span,
    };
    let mentions = findings.typed_in(span);
    let found = work
        .extractor
        .relations(name, text, &mentions, &work.ontology)
        .await?;
    let classes: HashMap<Span, &ClassId> = mentions
        .iter()
        .map(|mention| (mention.span, &mention.class))
        .collect();
    let mut found = grounded(found, |relation| {
        let ends = (
            classes.get(&relation.subject),
            classes.get(&relation.object),
        );
        let allowed = matches!(ends, (Some(subject), Some(object))
            if work.ontology.allows(&relation.predicate, subject, object));
        allowed && span.contains(relation.evidence) && !relation.evidence.is_empty()
    });
    for relation in &mut found {
        relation.confidence = confidence(relation.confidence);
    }
    found.sort_by(|a, b| {
        (a.subject, a.object, &a.predicate, a.evidence).cmp(&(
            b.subject,
            b.object,
            &b.predicate,
            b.evidence,
        ))
    });
    found.dedup_by(|a, b| {
        (a.subject, a.object, &a.predicate, a.evidence)
            == (b.subject, b.object, &b.predicate, b.evidence)
    });
    Ok(UnitOutput::Relations(found))
}
