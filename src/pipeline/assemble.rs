//! `assemble`: the findings of a document become its graph.

use super::{findings::Findings, stage::Work};
use crate::graph::{self, DocumentGraph};

/// The graph of the document. Pure and quick: it has no checkpoint but its settle.
pub(super) fn work(work: &Work, findings: &Findings) -> DocumentGraph {
    graph::assemble(
        &work.document.text,
        &work.ontology,
        findings.typed.clone(),
        &findings.relations,
    )
}
