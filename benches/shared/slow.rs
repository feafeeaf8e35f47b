//! An extractor that takes as long as a model, and finds what the local one finds.

use std::time::Duration;

use async_trait::async_trait;
use graphmill::{
    extractors::{ChunkText, ExtractError, Extractor, Local, UnitName},
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
};

/// What a call of the slow extractor takes.
const LATENCY: Duration = Duration::from_millis(100);

/// The local extractor, with a model's latency.
pub(crate) struct Slow(pub(crate) Local);

#[async_trait]
impl Extractor for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn is_paid(&self) -> bool {
        true
    }

    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.mentions(unit, chunk, ontology).await
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.classify(unit, text, group, ontology).await
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        tokio::time::sleep(LATENCY).await;
        self.0.relations(unit, chunk, mentions, ontology).await
    }
}
