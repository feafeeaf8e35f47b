//! An extractor that is told the mentions of a document, and leaves everything else to another one.
//!
//! Knows one document. Classes and relations are the other extractor's; a class that contradicts the label that was
//! given is replaced by the widest one of that label.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use super::{ChunkText, ExtractError, Extractor, UnitName};
use crate::graph::{
    FoundRelation, GoldKind, GoldMention, Mention, MentionType, Ontology, Span, Text, TypedMention,
};

/// The given mentions of one document, before another extractor.
pub struct Given {
    inner: Arc<dyn Extractor>,
    /// By span, each span once.
    mentions: Vec<GoldMention>,
    kinds: HashMap<Span, GoldKind>,
    /// Characters of the longest mention.
    longest: u32,
}

impl Given {
    /// `mentions` instead of those that `inner` would find. Of several on one span the first counts.
    #[must_use]
    pub fn new(inner: Arc<dyn Extractor>, mentions: &[GoldMention]) -> Self {
        let mut mentions = mentions.to_vec();
        mentions.sort_by_key(|mention| mention.span);
        mentions.dedup_by_key(|mention| mention.span);
        Self {
            inner,
            kinds: mentions.iter().map(|one| (one.span, one.kind)).collect(),
            longest: mentions.iter().map(|one| one.span.len()).max().unwrap_or(0),
            mentions,
        }
    }
}

#[async_trait]
impl Extractor for Given {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn is_paid(&self) -> bool {
        self.inner.is_paid()
    }

    /// Every given mention that shares a character with the chunk: one on a border belongs to both.
    async fn mentions(
        &self,
        _unit: &UnitName,
        chunk: ChunkText<'_>,
        _ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        let span = chunk.span;
        let from = span.start.saturating_sub(self.longest);
        let first = self.mentions.partition_point(|one| one.span.start < from);
        Ok(self.mentions[first..]
            .iter()
            .take_while(|one| one.span.start < span.end)
            .filter(|one| one.span.overlaps(span))
            .map(|one| Mention {
                value: None,
                span: one.span,
                label: one.kind.label(),
                confidence: 1.0,
            })
            .collect())
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        let names: Vec<Mention> = group
            .iter()
            .filter(|mention| mention.label.is_some())
            .cloned()
            .collect();
        let mut found: HashMap<Span, MentionType> = HashMap::new();
        if !names.is_empty() {
            for given in self.inner.classify(unit, text, &names, ontology).await? {
                found.insert(given.span, given);
            }
        }
        group
            .iter()
            .filter_map(|mention| Some((mention.span, *self.kinds.get(&mention.span)?)))
            .map(|(span, kind)| {
                let fine = found.remove(&span).filter(|given| {
                    kind.label().is_some() && ontology.label_of(&given.class) == kind.label()
                });
                if let Some(fine) = fine {
                    return Ok(fine);
                }
                let class = kind.class(ontology).ok_or_else(|| {
                    ExtractError::Terminal(format!("the ontology has no class for {kind:?}"))
                })?;
                Ok(MentionType {
                    span,
                    class,
                    confidence: 1.0,
                })
            })
            .collect()
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        self.inner.relations(unit, chunk, mentions, ontology).await
    }
}
