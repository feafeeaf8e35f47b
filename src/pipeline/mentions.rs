//! `mentions`: the names in each chunk, chunks in parallel.

use super::{
    findings::Findings,
    stage::{Job, Unit, UnitResult, Work, confidence, grounded},
    units::UnitOutput,
};
use crate::extractors::{ChunkText, UnitName};

/// A unit a chunk.
pub(super) fn plan(findings: &Findings) -> Vec<Unit> {
    (0_i32..)
        .zip(findings.chunks.iter().enumerate())
        .map(|(number, (chunk, span))| Unit {
            number,
            input: [span.start.to_be_bytes(), span.end.to_be_bytes()].concat(),
            job: Job::Mentions { chunk },
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
    let found = work.extractor.mentions(name, text, &work.ontology).await?;
    // A name may cross a border where a sentence was cut falsely: both chunks have it, and it is kept once.
    let end = work.document.text.chars();
    let mut found = grounded(found, |mention| {
        span.overlaps(mention.span) && mention.span.end <= end && !mention.span.is_empty()
    });
    for mention in &mut found {
        mention.confidence = confidence(mention.confidence);
    }
    found.sort_by_key(|mention| mention.span);
    found.dedup_by_key(|mention| mention.span);
    Ok(UnitOutput::Mentions(found))
}
