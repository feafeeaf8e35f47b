//! Asking about what the rules leave in doubt: pairs are described by what their documents say, put into questions, and
//! the questions are worked as units of the stage, with the lease, the ledger and the limits of every other unit.
//!
//! Must not know how a question reads or who answers it. Invariant: how a pair is described depends on the documents
//! alone, so the same batch asks the same.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use graphmill_jobs::EntityId;
use tokio_util::sync::CancellationToken;

use super::{judge::Doubt, place::Ruling, rules::Numbered};
use crate::{
    calls::Caller,
    extractors::Extractor,
    flow::{Failure, FailureCode, Stage},
    graph::{Described, DoubtfulPair, Ontology, Sameness, Text, context},
    pipeline::{
        self, Adjudicate, CheckpointError, Checkpoints, Document, Outcome, PairKey, Past,
        UnitOutcome, UnitOutput, UnitRecord, Verdicts, Work, Workplace,
    },
    store::{self, AskedUnit, Lease, StoreError, UnitEnd},
    telemetry::TraceContext,
    worker::{
        Engine, NO_EXTRACTOR_WAIT, batches::BatchContext, executor::ExecuteError, gate::LeaseGate,
        sink::Sink,
    },
    workflow,
};

/// Other names that a side is described by. **Source:** with these bounds a side takes 100 tokens at most, see
/// [`Adjudicate`].
const ALSO: usize = 4;
/// Sentences that a side is described by.
const CONTEXTS: usize = 2;
/// Characters of a sentence.
const SENTENCE: u32 = 140;
/// Characters on either side of a name that its sentence is looked for in.
const AROUND: i32 = 160;
/// Entities whose surroundings are read in a step.
const STEP: usize = 500;

/// Somebody to ask, for one lease of a resolution.
pub(super) struct Asker<'a> {
    engine: &'a Arc<Engine>,
    lease: &'a Lease,
    context: &'a BatchContext,
    settings: Adjudicate,
    extractor: Arc<dyn Extractor>,
    pause: CancellationToken,
}

/// What came of asking.
pub(super) enum Asked {
    /// What was said, as far as anything was.
    Said(Vec<(Doubt, Sameness)>),
    /// It has to wait; the rest stands in the checkpoints.
    Hindered(Outcome),
}

impl<'a> Asker<'a> {
    /// Somebody to ask about the batch; `None` if nobody is to be asked.
    ///
    /// # Errors
    /// As an outcome: this process has nobody.
    pub(super) fn of(
        engine: &'a Arc<Engine>,
        lease: &'a Lease,
        context: &'a BatchContext,
        pause: CancellationToken,
        (hang_up, trace): (CancellationToken, Option<TraceContext>),
    ) -> Result<Option<Self>, Outcome> {
        let Some(settings) = context.settings.adjudicate else {
            return Ok(None);
        };
        let Some(extractor) = engine.extractors.adjudicator(&context.extractor_name) else {
            let message =
                "this worker has nobody to ask about names: it waits for one that has".to_owned();
            return Err(Outcome::Retry {
                failure: Failure::transient(FailureCode::Extractor, message),
                wait: NO_EXTRACTOR_WAIT,
            });
        };
        let gate = Arc::new(LeaseGate::new(Arc::clone(engine), lease.fence, None, None));
        let calling = match (&engine.access, &context.model) {
            (Some(access), Some(model)) => {
                let door = access.door(Caller {
                    organization: lease.fence.organization,
                    batch: lease.batch,
                    execution: lease.fence.execution,
                    weight: engine.shares.weight(lease.batch),
                    model: model.clone(),
                    prompt: None,
                    gate,
                    hang_up,
                    trace,
                });
                extractor.calling(door)
            }
            _ => None,
        };
        Ok(Some(Self {
            engine,
            lease,
            context,
            settings,
            extractor: calling.unwrap_or(extractor),
            pause,
        }))
    }

    /// How many pairs there may be in all questions.
    pub(super) fn most(&self) -> usize {
        let most = u64::from(self.settings.most) * u64::from(self.settings.pairs);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Whether something was asked in this resolution before, and nothing of it is to be asked again.
    pub(super) async fn has_asked(&self) -> Result<bool, ExecuteError> {
        let fence = self.lease.fence;
        let mut read = self.engine.store.app(fence.organization).await?;
        let rows = store::checkpoints_of(&mut read, fence.organization, fence.execution).await?;
        let waits = rows.iter().any(|row| matches!(row.end, UnitEnd::Retry(_)));
        Ok(!rows.is_empty() && !waits)
    }

    /// Who is asked, for people.
    pub(super) fn name(&self) -> &str {
        let model = self.context.model.as_ref();
        let model = model.filter(|_| self.extractor.calls_models());
        model.map_or_else(|| self.extractor.name(), |model| &model.name)
    }

    /// Asks about `doubts` of `ruling`, but for what was answered before.
    pub(super) async fn ask(
        &self,
        ruling: &Ruling,
        doubts: Vec<Doubt>,
    ) -> Result<Asked, ExecuteError> {
        if doubts.is_empty() {
            return Ok(Asked::Said(Vec::new()));
        }
        let (store, lease) = (&self.engine.store, self.lease);
        let (organization, execution) = (lease.fence.organization, lease.fence.execution);
        let pairs = self.described(ruling, &doubts).await?;
        let mut read = store.app(organization).await?;
        let rows = store::checkpoints_of(&mut read, organization, execution).await?;
        let answers = store::asked_units(&mut read, organization, lease.batch).await?;
        read.rollback().await.map_err(StoreError::from)?;
        let mut records = workflow::unit_records(rows)?;
        let mut known = Verdicts::default();
        for answer in answers {
            // What another version has written is asked anew.
            if let AskedUnit::Done(output) = answer
                && let Ok(Some(UnitOutput::Verdicts(judged))) =
                    UnitOutput::from_json(Stage::Resolve, output)
            {
                known.add(&judged);
            }
        }
        let questions = pipeline::wanted(&pairs, &known, &records, self.settings);
        if !questions.is_empty() {
            tracing::info!(
                batch.id = %lease.batch,
                questions = questions.len(),
                pairs = pairs.len(),
                "asking about names that may be of one thing"
            );
            let work = self.work();
            let mut sink = AtOnce(Sink::new(self.engine, Stage::Resolve, lease, true, None));
            let outcome = pipeline::adjudicate(&work, questions, &mut records, &mut sink).await?;
            if !matches!(outcome, Outcome::Settled { .. }) {
                return Ok(Asked::Hindered(outcome));
            }
            for record in &records {
                if let UnitOutcome::Done(UnitOutput::Verdicts(judged)) = &record.outcome {
                    known.add(judged);
                }
            }
        }
        let said = doubts.into_iter().zip(pairs);
        Ok(Asked::Said(
            said.filter_map(|(doubt, (key, _))| Some((doubt, known.of(&key)?)))
                .collect(),
        ))
    }

    fn work(&self) -> Work {
        Work {
            // Its units are about no single document.
            document: Document {
                name: "resolution".into(),
                text: Text::new(""),
            },
            extractor: Arc::clone(&self.extractor),
            ontology: Arc::clone(&self.context.recipes.of(Stage::Resolve).ontology),
            settings: self.context.settings,
            round: self.lease.round,
            pause: self.pause.clone(),
            workplace: Workplace {
                // A process of its own would have no way to the ledger.
                isolation: None,
                suspect: false,
                ..self.engine.workplace.clone()
            },
            gate: Arc::new(LeaseGate::new(
                Arc::clone(self.engine),
                self.lease.fence,
                None,
                None,
            )),
            past: Past::default(),
        }
    }

    /// The pairs as they are asked about, in the order of `doubts`.
    async fn described(
        &self,
        ruling: &Ruling,
        doubts: &[Doubt],
    ) -> Result<Vec<(PairKey, DoubtfulPair)>, StoreError> {
        let numbered = Numbered::of(&ruling.given);
        let sides = |doubt: &Doubt| {
            let (one, other) = doubt.drafts;
            // An edge's ends are in the order of their numbers, and its drafts in theirs.
            let has_left = ruling.drafts[one].members.contains(&doubt.edge.left);
            let (left, right) = (doubt.edge.left, doubt.edge.right);
            if has_left {
                [(one, left), (other, right)]
            } else {
                [(one, right), (other, left)]
            }
        };
        let mut witnesses: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for side in doubts.iter().flat_map(sides) {
            witnesses
                .entry(side)
                .or_insert_with(|| witnesses_of(ruling, &numbered, side));
        }
        let all: BTreeSet<EntityId> = witnesses
            .values()
            .flatten()
            .map(|&at| numbered.entities[at].id)
            .collect();
        let all: Vec<EntityId> = all.into_iter().collect();
        let organization = self.lease.fence.organization;
        let mut contexts: HashMap<EntityId, String> = HashMap::new();
        for ids in all.chunks(STEP) {
            let mut read = self.engine.store.app(organization).await?;
            for found in store::surroundings(&mut read, organization, ids, AROUND).await? {
                let said = context(&found.window, found.start, found.end, SENTENCE);
                contexts.insert(found.entity, said);
            }
        }
        let described = |side: (usize, usize)| {
            let found = witnesses[&side].iter().map(|&at| numbered.entities[at].id);
            let mut said: Vec<String> = Vec::new();
            for context in found.filter_map(|id| contexts.get(&id)) {
                if !context.is_empty() && !said.contains(context) {
                    said.push(context.clone());
                }
            }
            describe(ruling, &numbered, side.0, said)
        };
        let model = self.context.model.as_ref();
        Ok(doubts
            .iter()
            .map(|doubt| {
                let [one, other] = sides(doubt);
                let pair = DoubtfulPair::new(described(one), described(other));
                (PairKey::of(&pair, &*self.extractor, model), pair)
            })
            .collect())
    }
}

/// Whose sentences speak for a side, a draft and the end of the edge in it: that end first, then others of other
/// documents.
fn witnesses_of(
    ruling: &Ruling,
    numbered: &Numbered<'_>,
    (draft, end): (usize, usize),
) -> Vec<usize> {
    let mut others: Vec<usize> = ruling.drafts[draft].members.iter().copied().collect();
    // Not by number: among members of other batches that follows ids, which are made anew with a document.
    others.sort_by_key(|&at| {
        let entity = numbered.entities[at];
        (at != end, &entity.external, entity.ordinal, at)
    });
    let mut seen = HashSet::new();
    others.retain(|&at| seen.insert(numbered.entities[at].document));
    others.truncate(CONTEXTS);
    others
}

fn describe(
    ruling: &Ruling,
    numbered: &Numbered<'_>,
    draft: usize,
    contexts: Vec<String>,
) -> Described {
    let draft = &ruling.drafts[draft];
    let anchor = draft.anchor.map(|at| &ruling.given.anchors[at].cluster);
    let first = draft.members.first().map(|&at| numbered.entities[at]);
    let class = match (anchor, &draft.class, first) {
        (Some(anchor), ..) => anchor.class.clone(),
        (None, Some(class), _) => class.as_str().to_owned(),
        (None, None, first) => first.map_or_else(String::new, |first| first.class.clone()),
    };
    let name = anchor.map_or(&draft.name, |anchor| &anchor.name);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for &at in &draft.members {
        let entity = numbered.entities[at];
        for other in std::iter::once(&entity.name).chain(&entity.aliases) {
            *counts.entry(other).or_default() += 1;
        }
    }
    counts.remove(name.as_str());
    let mut also: Vec<(&str, usize)> = counts.into_iter().collect();
    also.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let also = also.into_iter().take(ALSO);
    Described {
        name: name.clone(),
        class,
        also: also.map(|(name, _)| name.to_owned()).collect(),
        contexts,
    }
}

/// Checkpoints that are written at once, the last one too: more than the settle follows them.
struct AtOnce<'a>(Sink<'a>);

#[async_trait]
impl Checkpoints for AtOnce<'_> {
    async fn record(
        &mut self,
        records: Vec<UnitRecord>,
        _last: bool,
    ) -> Result<(), CheckpointError> {
        self.0.record(records, false).await
    }

    fn planned(&mut self, through: usize, units: usize) {
        self.0.planned(through, units);
    }

    async fn tick(&mut self) -> Result<(), CheckpointError> {
        self.0.tick().await
    }
}

/// What somebody can be asked about, with the ruling; on a thread that may compute.
pub(super) async fn doubted(
    ruling: Ruling,
    ontology: &Arc<Ontology>,
    most: usize,
) -> Result<(Ruling, Vec<Doubt>), ExecuteError> {
    let ontology = Arc::clone(ontology);
    tokio::task::spawn_blocking(move || {
        let doubts = ruling.doubts(&ontology, most);
        (ruling, doubts)
    })
    .await
    .map_err(|_| ExecuteError::Resolution)
}
