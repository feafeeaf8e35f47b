//! What working a document again would take: its stages are planned with what earlier generations found, as the work
//! itself would plan them, up to the first unit that would have to be worked. What comes after that depends on what
//! that unit finds.
//!
//! Asks no extractor and writes nothing.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    chunk::chunk,
    errand::Workplace,
    findings::Findings,
    recipe::{ByStage, Digests, Recipe},
    reuse::{self, Past},
    stage::{self, Document, Settings, Work},
    units::{Open, UnitOutcome, UnitOutput, UnitRecord},
};
use crate::{
    extractors::{Extractor, ModelChoice, ModelSettings, StageEstimate, estimate},
    flow::Stage,
};

/// What a stage of a document would take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Units to be worked.
    pub worked: usize,
    /// Units whose checkpoints hold.
    pub reused: usize,
}

/// Foresees with an extractor, which it does not ask.
#[derive(Clone)]
pub struct Foresight(Arc<dyn Extractor>);

impl Foresight {
    /// For batches of that extractor.
    #[must_use]
    pub const fn new(extractor: Arc<dyn Extractor>) -> Self {
        Self(extractor)
    }

    /// Whether the extractor calls models.
    #[must_use]
    pub fn calls_models(&self) -> bool {
        self.0.calls_models()
    }

    /// The digests of `recipes`.
    #[must_use]
    pub fn digests(&self, recipes: &ByStage<Recipe>, model: Option<&ModelChoice>) -> Digests {
        Digests::of(recipes, &*self.0, model)
    }

    /// What the stages of `document` would take; `None` for those after the first in which a unit would be worked.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn of(
        &self,
        document: Document,
        recipes: &ByStage<Recipe>,
        digests: Digests,
        settings: Settings,
        earlier: Vec<UnitRecord>,
    ) -> ByStage<Option<Foreseen>> {
        let mut work = Work {
            document,
            extractor: Arc::clone(&self.0),
            ontology: Arc::clone(&recipes.mentions.ontology),
            settings,
            round: 0,
            pause: CancellationToken::new(),
            workplace: Workplace::here(),
            gate: Arc::new(Open),
            past: Past {
                digests,
                earlier: Some(earlier.into()),
            },
        };
        let mut records = Vec::new();
        let mut foreseen = ByStage::default();
        for stage in [
            Stage::Chunk,
            Stage::Mentions,
            Stage::Entities,
            Stage::Relations,
        ] {
            work.ontology = Arc::clone(&recipes.of(stage).ontology);
            let found = Findings::of(&records);
            let adopted = reuse::adoptable(stage, &work, &found, &records);
            let reused = adopted.len();
            records.extend(adopted);
            let Some(of_stage) = foreseen.of_mut(stage) else {
                if reused == 0 {
                    records.push(cut(&work));
                }
                continue;
            };
            let findings = Findings::of(&records);
            let planned =
                stage::plan(stage, &work, &findings, &records).map_or(0, |(units, _)| units.len());
            let worked = planned - reused.min(planned);
            *of_stage = Some(Foreseen { worked, reused });
            if worked > 0 {
                break;
            }
        }
        foreseen
    }

    /// What a call for each stage of `document` takes, by its text alone.
    #[must_use]
    pub fn estimate(
        &self,
        document: &Document,
        recipes: &ByStage<Recipe>,
        settings: Settings,
    ) -> ByStage<StageEstimate> {
        let chunks = chunk(&document.text, &settings.chunks);
        let whole = estimate(
            &document.text,
            &chunks,
            settings.group_size,
            &recipes.relations.ontology,
            ModelSettings::default(),
        );
        ByStage {
            mentions: whole.mentions,
            entities: whole.entities,
            relations: whole.relations,
        }
    }
}

/// The cut of a document that was never cut: it asks nobody.
fn cut(work: &Work) -> UnitRecord {
    let spans = chunk(&work.document.text, &work.settings.chunks);
    UnitRecord {
        stage: Stage::Chunk,
        unit: 0,
        round: 0,
        tries: 0,
        deaths: 0,
        input_hash: [0; 32],
        outcome: UnitOutcome::Done(UnitOutput::Chunks(spans)),
    }
}
