//! What is found in documents: spans, mentions, entities, relations and their evidence; the ontology that types
//! them; merging within a document and across a batch; and the export formats.
//!
//! Pure: no async, no clock, no I/O, and no other room. Every fact carries a span that was located in the text
//! here or by the extractor's own code; offsets from a model are never trusted.

mod alias;
mod block;
mod decimal;
mod document;
mod export;
mod gold;
mod line;
mod merge;
mod ontology;
mod resolve;
mod score;
mod sentence;
mod span;

pub use block::block_keys;
pub use document::{
    DocumentGraph, Entity, Mention, MentionType, NameLabel, Relation, TypedMention, Value,
    ValueKind,
};
pub use export::{
    BadBaseIri, BaseIri, CSV_FILES, ExportError, ExportFormat, ExportHead, ExportStyle,
    ExportWriter, ExportedCluster, ExportedDocument, ExportedEntity, ExportedEvidence,
    ExportedLink, ExportedMention, ExportedRelation, Section, UnknownFormat,
};
pub use gold::{GoldAnswers, GoldKind, GoldMention, GoldRelation, with_gold};
pub use line::{ExtractedLine, extracted_line};
pub use merge::{FoundRelation, assemble, name_key};
pub use ontology::{
    Class, ClassId, Flaw, Ontology, OntologyError, OntologyFormat, RelationType, RelationTypeId,
};
pub use resolve::{
    Bearer, Cluster, Decisions, Described, DoubtfulPair, Merge, Proposal, Reason, Resolution,
    ResolvableEntity, Resolver, Sameness, context, may_be_one, resolve,
};
pub use score::{
    EntityScores, MentionScores, PairScores, Predicted, RelationScores, Score, ScoreReport, Scores,
};
pub use sentence::{sentence_ranges, sentences};
pub use span::{Span, Text};
