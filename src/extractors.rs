//! Who finds things in texts: one trait, one file per provider, and the local one. The sole room that may talk to a
//! model.
//!
//! An extractor knows a chunk or a group of mentions at a time; it knows nothing of batches, checkpoints, queues or
//! databases, and it may be cancelled at any await.

mod call;
mod direct;
mod dropped;
mod embed;
mod given;
mod local;
mod model;
mod openai;
mod price;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use call::{
    Answer, CallError, CallRequest, Calls, Exchange, Operation, Provider, Refusal, TransportError,
    Usage, Verdict, WaitCause,
};
pub use direct::DirectCalls;
pub use dropped::{DropReason, Dropped};
pub use embed::{Embedder, ModelEmbedder};
pub use given::Given;
#[cfg(feature = "train")]
pub use local::train;
pub use local::{Local, RelationScorer};
pub use model::{
    Estimate, Model, ModelSettings, PromptFlaw, StageEstimate, check_prompt, estimate,
};
pub use openai::{OpenAi, OpenAiError, OpenAiSettings, Secret, verdict};
pub use price::{ModelChoice, Price};

use crate::graph::{
    DoubtfulPair, FoundRelation, Mention, MentionType, Ontology, Sameness, Span, Text, TypedMention,
};

/// A stretch of a document, as an extractor sees it. Spans that it returns are the document's, not the chunk's.
#[derive(Debug, Clone, Copy)]
pub struct ChunkText<'a> {
    /// The whole document's text.
    pub text: &'a Text,
    /// The stretch to look at.
    pub span: Span,
}

impl ChunkText<'_> {
    /// The stretch's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.slice(self.span)
    }
}

/// Which unit of which document an extractor works on; for logs and witnesses, not for decisions.
#[derive(Debug, Clone)]
pub struct UnitName {
    /// The caller's id of the document.
    pub document: Arc<str>,
    /// The stage's name.
    pub stage: &'static str,
    /// The unit's number within the stage.
    pub unit: i32,
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.document, self.stage, self.unit)
    }
}

/// Why an extractor gave up on a unit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExtractError {
    /// Trying again may help.
    #[error("{0}")]
    Transient(String),
    /// Trying again does not help.
    #[error("{0}")]
    Terminal(String),
    /// It could not be tried: a limit, the breaker, a server that asks to be left alone. Not a try.
    #[error("{reason}")]
    Wait {
        /// What it waits for, for people.
        reason: String,
        /// How long to wait before asking again.
        wait: Duration,
        /// What it waits for, for programs.
        cause: WaitCause,
    },
    /// It can't be tried until somebody does something about it: the account, the key, the budget. Not a try; the
    /// batch is paused.
    #[error("{reason}")]
    Pause {
        /// What is to be done, for people.
        reason: String,
    },
}

/// Something that finds mentions, classes and relations.
///
/// Calls for different units overlap in time. A call may be dropped at any await and repeated later; results are
/// checked by the caller: mentions that share no character with the chunk, evidence outside it, unknown classes and relations that the ontology does not allow
/// are not published.
#[async_trait]
pub trait Extractor: Send + Sync + 'static {
    /// Its name, as flags and tables have it.
    fn name(&self) -> &str;

    /// Whether its calls cost money. The checkpoint of a paid unit is written at once; those of unpaid units may
    /// share a write.
    fn is_paid(&self) -> bool;

    /// Whether it makes calls of models, through what [`Extractor::calling`] gives it.
    fn calls_models(&self) -> bool {
        false
    }

    /// This extractor, making its calls of models through `calls`: the engine asks for it before it works a
    /// document. `None`: it calls no model.
    fn calling(&self, calls: Arc<dyn Calls>) -> Option<Arc<dyn Extractor>> {
        drop(calls);
        None
    }

    /// The name and version of the prompt that it has for a stage, if it asks a model there. Another version of the
    /// prompt finds other things: it is part of what a unit is given.
    fn prompt(&self, stage: &str) -> Option<&str> {
        let _ = stage;
        None
    }

    /// The name and version of what it asks when it says whether two names are of one thing
    /// ([`Extractor::adjudicate`]); `None` if it can't say.
    fn adjudicates(&self) -> Option<&str> {
        None
    }

    /// The names in a chunk.
    ///
    /// # Errors
    /// [`ExtractError`] says whether trying again can help.
    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError>;

    /// The class of each mention of a group (up to 50), in any order; one that is left out stays unpublished.
    ///
    /// # Errors
    /// [`ExtractError`] says whether trying again can help.
    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError>;

    /// The relations that a chunk states between its mentions, each with its evidence span.
    ///
    /// # Errors
    /// [`ExtractError`] says whether trying again can help.
    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError>;

    /// For each of `pairs`, in their order, whether the two are one thing.
    ///
    /// # Errors
    /// [`ExtractError`] says whether trying again can help.
    async fn adjudicate(
        &self,
        unit: &UnitName,
        pairs: &[DoubtfulPair],
    ) -> Result<Vec<Sameness>, ExtractError> {
        let _ = (unit, pairs);
        let name = self.name();
        Err(ExtractError::Terminal(format!(
            "the extractor `{name}` does not say which names are of one thing"
        )))
    }
}

/// The extractors that a program offers, by name, and whom those call that use a model.
#[derive(Clone, Default)]
pub struct Extractors {
    by_name: BTreeMap<String, Arc<dyn Extractor>>,
    provider: Option<Arc<dyn Provider>>,
}

impl Extractors {
    /// Those that are built in.
    #[must_use]
    pub fn builtin() -> Self {
        Self::default()
            .with(Local::new())
            .with(Local::scored_by(RelationScorer::None))
            .with(Model::default())
    }

    /// These and one more, which replaces one of the same name.
    #[must_use]
    pub fn with(mut self, extractor: impl Extractor) -> Self {
        self.by_name
            .insert(extractor.name().to_owned(), Arc::new(extractor));
        self
    }

    /// The one with that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Extractor>> {
        self.by_name.get(name).cloned()
    }

    /// These, with the provider through which models are called.
    #[must_use]
    pub fn calling(mut self, provider: impl Provider + 'static) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// Through whom models are called.
    #[must_use]
    pub fn provider(&self) -> Option<Arc<dyn Provider>> {
        self.provider.clone()
    }

    /// Who says which names are of one thing, in a batch of the extractor of that name: itself, or else the first who
    /// can.
    #[must_use]
    pub fn adjudicator(&self, name: &str) -> Option<Arc<dyn Extractor>> {
        let can = |extractor: &&Arc<dyn Extractor>| extractor.adjudicates().is_some();
        let own = self.by_name.get(name).filter(can);
        own.or_else(|| self.by_name.values().find(can)).cloned()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
