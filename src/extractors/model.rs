//! The extractor `openai`: a model finds names, gives them classes and finds relations, through any way to a model
//! that it is given.
//!
//! It writes questions and reads answers. It knows no HTTP, no limits and no prices, and keeps nothing but how its
//! server takes a schema. Invariant: every span that it returns was found in the text by its own code; what a model
//! says and the text or the ontology does not bear out is counted and left out.

mod answer;
mod ask;
mod classes;
mod dialect;
mod estimate;
mod halves;
mod locate;
mod mentions;
mod pairs;
mod prompt;
mod relations;
mod salvage;

use std::sync::Arc;

use async_trait::async_trait;

pub use estimate::{Estimate, StageEstimate, estimate};
pub use prompt::{PromptFlaw, check as check_prompt};

use self::ask::Door;
use super::{Calls, ChunkText, Dropped, ExtractError, Extractor, UnitName};
use crate::graph::{
    DoubtfulPair, FoundRelation, Mention, MentionType, Ontology, Sameness, Text, TypedMention,
};

/// How a model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSettings {
    /// The cap of an answer's tokens, those of a model that reasons included.
    ///
    /// **Source:** 2,048: the names of a chunk of 2,000 characters take 600 at most, its relations 1,000; and prompt
    /// and answer fit into the 4,096 tokens that local servers have without being asked.
    pub max_output_tokens: u64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            max_output_tokens: 2048,
        }
    }
}

/// The extractor named `openai`.
#[derive(Clone, Default)]
pub struct Model {
    settings: ModelSettings,
    door: Option<Arc<Door>>,
}

impl Model {
    /// The extractor, without a way to a model: [`Extractor::calling`] gives it one.
    #[must_use]
    pub const fn new(settings: ModelSettings) -> Self {
        Self {
            settings,
            door: None,
        }
    }

    fn door(&self) -> Result<&Door, ExtractError> {
        self.door.as_deref().ok_or_else(|| ExtractError::Pause {
            reason: "no model was given: set GRAPHMILL_MODEL and OPENAI_BASE_URL, then resume"
                .to_owned(),
        })
    }
}

#[async_trait]
impl Extractor for Model {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn is_paid(&self) -> bool {
        true
    }

    fn calls_models(&self) -> bool {
        true
    }

    fn adjudicates(&self) -> Option<&str> {
        Some(prompt::PAIRS.id())
    }

    fn prompt(&self, stage: &str) -> Option<&str> {
        Some(prompt::of_stage(stage)?.id())
    }

    fn calling(&self, calls: Arc<dyn Calls>) -> Option<Arc<dyn Extractor>> {
        Some(Arc::new(Self {
            settings: self.settings,
            door: Some(Arc::new(Door::new(calls, self.settings))),
        }))
    }

    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        let door = self.door()?;
        let mut dropped = Dropped::default();
        let found = mentions::mentions(door, unit, chunk, ontology, &mut dropped).await?;
        door.calls().dropped(unit, &dropped).await?;
        Ok(found)
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        let door = self.door()?;
        let mut dropped = Dropped::default();
        let types = classes::classify(door, unit, text, group, ontology, &mut dropped).await?;
        door.calls().dropped(unit, &dropped).await?;
        Ok(types)
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        let door = self.door()?;
        let mut dropped = Dropped::default();
        let found =
            relations::relations(door, unit, chunk, mentions, ontology, &mut dropped).await?;
        door.calls().dropped(unit, &dropped).await?;
        Ok(found)
    }

    async fn adjudicate(
        &self,
        unit: &UnitName,
        pairs: &[DoubtfulPair],
    ) -> Result<Vec<Sameness>, ExtractError> {
        let door = self.door()?;
        let mut dropped = Dropped::default();
        let verdicts = pairs::adjudicate(door, unit, pairs, &mut dropped).await?;
        door.calls().dropped(unit, &dropped).await?;
        Ok(verdicts)
    }
}

#[cfg(test)]
mod tests;
