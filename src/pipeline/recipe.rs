//! What the stages of a batch are worked with besides their input: which ontology, which prompt. A re-run changes it
//! from one stage on, and leaves the stages before it as they are.
//!
//! A recipe is part of what a unit is given: its digest is in the unit's hash, so that what was found with another one
//! is not taken for the unit's checkpoint, and what was found with the same one is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    extractors::{Extractor, ModelChoice},
    flow::Stage,
    graph::Ontology,
};

/// Something for each stage in which an extractor finds things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByStage<T> {
    /// For `mentions`.
    pub mentions: T,
    /// For `entities`.
    pub entities: T,
    /// For `relations`.
    pub relations: T,
}

impl<T> ByStage<T> {
    /// The stages, in order.
    pub const STAGES: [Stage; 3] = [Stage::Mentions, Stage::Entities, Stage::Relations];

    /// The same for each stage.
    pub fn splat(value: T) -> Self
    where
        T: Clone,
    {
        Self {
            mentions: value.clone(),
            entities: value.clone(),
            relations: value,
        }
    }

    /// That of `stage`. What is merged by class (`assemble`, `resolve`) goes by the classes of `entities`.
    pub const fn of(&self, stage: Stage) -> &T {
        match stage {
            Stage::Chunk | Stage::Mentions => &self.mentions,
            Stage::Entities | Stage::Assemble | Stage::Resolve => &self.entities,
            Stage::Relations => &self.relations,
        }
    }

    /// That of `stage`, if an extractor finds things in it.
    pub const fn of_mut(&mut self, stage: Stage) -> Option<&mut T> {
        match stage {
            Stage::Mentions => Some(&mut self.mentions),
            Stage::Entities => Some(&mut self.entities),
            Stage::Relations => Some(&mut self.relations),
            Stage::Chunk | Stage::Assemble | Stage::Resolve => None,
        }
    }
}

/// What a stage is worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// What may be found.
    pub ontology: Arc<Ontology>,
    /// What takes the place of the extractor's own prompt.
    pub prompt: Option<Arc<str>>,
    /// How often somebody wanted it to be worked again although nothing else had changed.
    pub again: u32,
}

impl Recipe {
    /// The extractor's own prompt, and that ontology.
    #[must_use]
    pub const fn new(ontology: Arc<Ontology>) -> Self {
        Self {
            ontology,
            prompt: None,
            again: 0,
        }
    }
}

/// SHA-256 of each stage's recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests(ByStage<[u8; 32]>);

impl Digests {
    /// The digests of `recipes`, as `extractor` and the model that it calls work by them.
    #[must_use]
    pub fn of(
        recipes: &ByStage<Recipe>,
        extractor: &dyn Extractor,
        model: Option<&ModelChoice>,
    ) -> Self {
        let digest = |stage: Stage| {
            let recipe = recipes.of(stage);
            // An ontology has a JSON form.
            let ontology = serde_json::to_vec(&*recipe.ontology).unwrap_or_default();
            let model = model.map(|model| model.name.as_bytes());
            let prompt = match &recipe.prompt {
                Some(text) => Some(&**text),
                None => extractor.prompt(stage.as_str()),
            };
            let mut hash = Sha256::new();
            for part in [
                &ontology,
                model.unwrap_or_default(),
                prompt.unwrap_or_default().as_bytes(),
                &recipe.again.to_be_bytes(),
            ] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        Self(ByStage {
            mentions: digest(Stage::Mentions),
            entities: digest(Stage::Entities),
            relations: digest(Stage::Relations),
        })
    }

    /// What `stage` adds to the hash of its units.
    pub(super) fn of_stage(&self, stage: Stage) -> &[u8] {
        match stage {
            Stage::Mentions | Stage::Entities | Stage::Relations => self.0.of(stage),
            // They ask no extractor.
            Stage::Chunk | Stage::Assemble | Stage::Resolve => &[],
        }
    }
}
