//! One stage of one document: plan, run what has no checkpoint, and say what came of it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    assemble, chunk,
    chunk::ChunkSettings,
    entities,
    errand::{DEATHS, Workplace},
    findings::{self, Findings},
    mentions, relations,
    reuse::{self, Past},
    suspicion::{self, Suspicion},
    units::{
        self, CheckpointError, Checkpoints, Gate, Hindrance, Planned, Ran, UnitOutcome, UnitOutput,
        UnitRecord, UnitSettings,
    },
};
use crate::{
    extractors::{ExtractError, Extractor, ModelChoice, UnitName},
    flow::{Failure, FailureCode, Stage},
    graph::{DocumentGraph, NameLabel, Ontology, Span, Text, Value},
};

/// A document to work on.
#[derive(Debug, Clone)]
pub struct Document {
    /// The caller's id.
    pub name: Arc<str>,
    /// Its text.
    pub text: Text,
}

/// How stages work.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How documents are cut.
    pub chunks: ChunkSettings,
    /// Tries and timeouts of a unit.
    pub units: UnitSettings,
    /// Chunks of one document in work at once.
    pub parallel_chunks: usize,
    /// Groups of mentions of one document in work at once. **Source:** the original design (2).
    pub parallel_groups: usize,
    /// Mentions in a group. **Source:** the original design (50).
    pub group_size: usize,
    /// A document some of whose units failed for good is published without them.
    pub allow_partial: bool,
    /// Somebody is asked about names that may be of one thing; `None`: nobody, they are proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adjudicate: Option<Adjudicate>,
}

/// How somebody is asked about names that may be of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Adjudicate {
    /// Questions for a resolution, at most.
    pub most: u32,
    /// Pairs in a question.
    pub pairs: u32,
}

impl Default for Adjudicate {
    /// **Source:** twelve pairs take 2,000 tokens at most, which leaves as many for the answer within the 4,096 that
    /// local servers have without being asked; fifty questions are 600 pairs, more than anybody decides by hand.
    fn default() -> Self {
        Self {
            most: 50,
            pairs: 12,
        }
    }
}

/// How a batch is worked, as it is stored with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BatchConfig {
    /// How its documents are.
    #[serde(flatten)]
    pub settings: Settings,
    /// The model that its extractor calls, if it calls one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chunks: ChunkSettings::default(),
            units: UnitSettings::default(),
            parallel_chunks: 8,
            parallel_groups: 2,
            group_size: 50,
            allow_partial: false,
            adjudicate: None,
        }
    }
}

/// Everything that a stage needs besides its checkpoints.
#[derive(Clone)]
pub struct Work {
    /// The document.
    pub document: Document,
    /// Who extracts.
    pub extractor: Arc<dyn Extractor>,
    /// What may be found in the stage.
    pub ontology: Arc<Ontology>,
    /// How.
    pub settings: Settings,
    /// The batch's round that the document is in; failed units of an earlier one have their tries back.
    pub round: i32,
    /// Once cancelled, no further unit is begun; those in work go on to their checkpoints.
    pub pause: CancellationToken,
    /// Where units run.
    pub workplace: Workplace,
    /// Asked before each unit.
    pub gate: Arc<dyn Gate>,
    /// What was found before with the same input.
    pub past: Past,
}

/// What came of a stage.
#[derive(Debug)]
pub enum Outcome {
    /// It can settle.
    Settled {
        /// Units in all.
        units: usize,
        /// Units that failed for good.
        failed_units: usize,
        /// The finished graph, from `assemble`.
        graph: Option<DocumentGraph>,
    },
    /// Units failed and have tries left.
    Retry {
        /// The failure of the unit that waits longest.
        failure: Failure,
        /// How long to wait.
        wait: Duration,
    },
    /// Units failed for good, and the document can't go on without them.
    Failed {
        /// The failure of the first of them.
        failure: Failure,
    },
    /// Units can't be tried until somebody does something about it; what is done is done.
    Blocked {
        /// What is to be done.
        failure: Failure,
    },
    /// It was asked to pause: every unit that was begun has its checkpoint, and others are still to be worked.
    Paused,
}

/// Works `stage`: `records` are the document's checkpoints of this stage and of those before it, and are extended
/// with the new ones.
///
/// # Errors
/// [`CheckpointError`]: the work is dropped, and the units that were in flight will be worked again.
pub async fn run(
    stage: Stage,
    work: &Work,
    records: &mut Vec<UnitRecord>,
    checkpoints: &mut dyn Checkpoints,
) -> Result<Outcome, CheckpointError> {
    reuse::drop_stale(stage, work, records);
    let mut findings = Findings::of(records);
    let adopted = reuse::adoptable(stage, work, &findings, records);
    if !adopted.is_empty() {
        adopt(records, adopted, checkpoints).await?;
        findings = Findings::of(records);
    }
    let findings = Arc::new(findings);
    if stage == Stage::Assemble {
        return match suspicion::canary(work, records, checkpoints).await? {
            Some(outcome) => Ok(outcome),
            None => Ok(assembled(work, &findings)),
        };
    }
    let Some((planned, parallel)) = plan(stage, work, &findings, records) else {
        return Ok(Outcome::Failed {
            failure: Failure::terminal(
                FailureCode::Corrupt,
                "`resolve` is a stage of a batch, not of a document",
            ),
        });
    };
    let units = planned.len();
    let stored = findings::of_stage(records, stage);
    let mut suspicion = Suspicion::of(stage, work, records, parallel);
    let open: Vec<Planned> = planned
        .into_iter()
        .filter_map(|unit| {
            let hash = unit.hash(stage, work);
            let before = stored.get(&unit.number).copied();
            // What was worked on another input was another unit: a retry may have found more since.
            let before = before.filter(|record| unit.is_settled() || record.input_hash == hash);
            let tries = before.map_or(Some(0), |record| tries_before(record, work.round))?;
            let alone = suspicion.falls_on(unit.number, before);
            let mut planned = start(stage, unit, hash, work, &findings);
            planned.tries = tries;
            planned.deaths = before.map_or(0, |record| record.deaths);
            planned.alone = alone;
            Some(planned)
        })
        .collect();
    let wanted = open.len();
    checkpoints.planned(units - wanted, units);
    let Ran { fresh, hindrance } =
        units::run(stage, work, records, open, parallel, checkpoints).await?;
    let paused = fresh.len() < wanted;
    records.retain(|old| old.stage != stage || !fresh.iter().any(|new| new.unit == old.unit));
    records.extend(fresh);
    match hindrance {
        Some(Hindrance::Waits(failure, wait)) => return Ok(Outcome::Retry { failure, wait }),
        Some(Hindrance::Blocked(failure)) => return Ok(Outcome::Blocked { failure }),
        None if paused => return Ok(Outcome::Paused),
        None => {}
    }
    Ok(judge(stage, units, work, records))
}

/// Takes over what earlier generations found. It costs nothing to be taken over again: it goes with the next write.
async fn adopt(
    records: &mut Vec<UnitRecord>,
    adopted: Vec<UnitRecord>,
    checkpoints: &mut dyn Checkpoints,
) -> Result<(), CheckpointError> {
    for record in adopted {
        records.retain(|old| (old.stage, old.unit) != (record.stage, record.unit));
        checkpoints.record(vec![record.clone()], true).await?;
        records.push(record);
    }
    Ok(())
}

/// The units of a stage, and how many of them may be in work at once; `None` for a stage that is not a document's, or
/// has no units.
pub(super) fn plan(
    stage: Stage,
    work: &Work,
    findings: &Findings,
    records: &[UnitRecord],
) -> Option<(Vec<Unit>, usize)> {
    let settings = &work.settings;
    Some(match stage {
        Stage::Chunk => (chunk::plan(&settings.chunks), 1),
        Stage::Mentions => (mentions::plan(findings), settings.parallel_chunks),
        Stage::Entities => (
            entities::plan(findings, records, settings.group_size),
            settings.parallel_groups,
        ),
        Stage::Relations => (relations::plan(findings), settings.parallel_chunks),
        Stage::Assemble | Stage::Resolve => return None,
    })
}

/// Failed tries of a unit in `round`; `None` if it is not to be worked (again).
pub(super) const fn tries_before(record: &UnitRecord, round: i32) -> Option<u32> {
    match record.outcome {
        // A new round gives the tries back.
        UnitOutcome::Retry(_) | UnitOutcome::Failed(_) if record.round < round => Some(0),
        UnitOutcome::Retry(_) => Some(record.tries),
        UnitOutcome::Done(_) | UnitOutcome::Failed(_) => None,
    }
}

/// What a plan says of a unit; the rest follows from the stage.
pub(super) struct Unit {
    pub(super) number: i32,
    /// What tells this unit's input from another's, besides the document, the extractor and the recipe.
    pub(super) input: Vec<u8>,
    pub(super) job: Job,
}

impl Unit {
    /// A group of mentions that has its classes: it keeps its members, whatever others there are by now.
    fn is_settled(&self) -> bool {
        matches!(&self.job, Job::Entities { members } if members.is_empty())
    }

    /// SHA-256 of what the unit is given.
    pub(super) fn hash(&self, stage: Stage, work: &Work) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(stage.as_str());
        hash.update(work.extractor.name());
        hash.update(work.past.digests.of_stage(stage));
        hash.update(&self.input);
        hash.finalize().into()
    }
}

/// Adds to a unit's input what an extractor is told of a name.
pub(super) fn add_name(
    input: &mut Vec<u8>,
    span: Span,
    label: Option<NameLabel>,
    value: Option<&Value>,
) {
    input.extend(span.start.to_be_bytes());
    input.extend(span.end.to_be_bytes());
    // They have a JSON form.
    input.extend(serde_json::to_vec(&(label, value)).unwrap_or_default());
}

/// The work of a unit.
pub(super) enum Job {
    Chunk,
    Mentions { chunk: usize },
    Entities { members: Vec<usize> },
    Relations { chunk: usize },
}

/// A unit that is ready to be worked, as if it had never been tried.
pub(super) fn start(
    stage: Stage,
    unit: Unit,
    input_hash: [u8; 32],
    work: &Work,
    findings: &Arc<Findings>,
) -> Planned {
    let name = UnitName {
        document: Arc::clone(&work.document.name),
        stage: stage.as_str(),
        unit: unit.number,
    };
    let (work, findings) = (work.clone(), Arc::clone(findings));
    let of = name.clone();
    let future = async move {
        match unit.job {
            Job::Chunk => chunk::work(&work).await,
            Job::Mentions { chunk } => mentions::work(&of, &work, &findings, chunk).await,
            Job::Entities { members } => entities::work(&of, &work, &findings, &members).await,
            Job::Relations { chunk } => relations::work(&of, &work, &findings, chunk).await,
        }
    };
    Planned {
        name,
        input_hash,
        tries: 0,
        deaths: 0,
        alone: false,
        work: Box::pin(future),
    }
}

pub(super) fn assembled(work: &Work, findings: &Findings) -> Outcome {
    let graph = assemble::work(work, findings);
    if graph.is_grounded_in(&work.document.text) {
        Outcome::Settled {
            units: 1,
            failed_units: 0,
            graph: Some(graph),
        }
    } else {
        Outcome::Failed {
            failure: Failure::terminal(
                FailureCode::Corrupt,
                "the checkpoints do not belong to this text",
            ),
        }
    }
}

/// What the stage's records add up to.
pub(super) fn judge(stage: Stage, units: usize, work: &Work, records: &[UnitRecord]) -> Outcome {
    let mut failed = Vec::new();
    let mut retry: Option<(Duration, &Failure)> = None;
    for record in records.iter().filter(|record| record.stage == stage) {
        match &record.outcome {
            UnitOutcome::Done(_) => {}
            UnitOutcome::Failed(failure) => failed.push((record.unit, failure)),
            UnitOutcome::Retry(failure) => {
                let wait = wait(work, record);
                if retry.is_none_or(|(longest, _)| wait > longest) {
                    retry = Some((wait, failure));
                }
            }
        }
    }
    if let Some((wait, failure)) = retry {
        return Outcome::Retry {
            failure: failure.clone(),
            wait,
        };
    }
    failed.sort_by_key(|&(unit, _)| unit);
    match failed.first() {
        Some((unit, failure)) if !work.settings.allow_partial || failed.len() >= units => {
            let mut failure = (*failure).clone();
            failure.details = serde_json::json!({
                "stage": stage, "unit": unit, "failed_units": failed.len(), "units": units,
            });
            Outcome::Failed { failure }
        }
        Some(_) | None => Outcome::Settled {
            units,
            failed_units: failed.len(),
            graph: None,
        },
    }
}

/// How long a unit that is to be tried again waits. Deaths have waits of their own: three of them are quarantine,
/// however few tries the settings allow.
pub(super) fn wait(work: &Work, record: &UnitRecord) -> Duration {
    let mut policy = work.settings.units.retry;
    let mut nth = record.tries;
    if let UnitOutcome::Retry(failure) = &record.outcome
        && failure.code == FailureCode::ProcessDied
    {
        (policy.retries, nth) = (DEATHS, record.deaths.max(1));
    }
    let seed = seed(&work.document.name, record.unit);
    policy.wait_after(nth, seed).unwrap_or(policy.longest)
}

/// A number that is the same for the same unit, so that its jitter is too.
fn seed(document: &str, unit: i32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(document);
    hash.update(unit.to_be_bytes());
    let bytes: [u8; 32] = hash.finalize().into();
    bytes
        .iter()
        .take(8)
        .fold(0, |seed, &byte| (seed << 8) | u64::from(byte))
}

/// Keeps of an extractor's answer what is usable; the rest would be an ungrounded fact.
pub(super) fn grounded<T>(found: Vec<T>, keep: impl Fn(&T) -> bool) -> Vec<T> {
    found.into_iter().filter(keep).collect()
}

/// A confidence as it is kept: 0 to 1, whatever an extractor claims; one that is no number is none.
pub(super) const fn confidence(claimed: f32) -> f32 {
    if claimed.is_nan() {
        0.0
    } else {
        claimed.clamp(0.0, 1.0)
    }
}

/// The result of every unit's work.
pub(super) type UnitResult = Result<UnitOutput, ExtractError>;
