//! A unit's errand: all that a process needs to work this one unit and nothing else, and what it brings back.
//!
//! A unit that is suspected of taking its process down is worked so: if the process dies, nothing else can be to
//! blame. `assemble`, which has no units, is sent out whole, as a canary. `resolve` works on no document, runs our own
//! code alone, and is not isolated. Must not know what a process is ([`Isolation`] does).
//!
//! Invariant: the errand's process plans the stage from the same records, and works the unit only if it is the same
//! one, down to the hash of its input.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    findings::Findings,
    recipe::Digests,
    reuse::Past,
    stage::{self, Document, Outcome, Settings, Work},
    threads::Threads,
    units::{self, CheckpointError, Gate, Open, Tried, UnitOutcome, UnitOutput, UnitRecord},
};
use crate::{
    extractors::Extractors,
    flow::{Failure, FailureCode, Stage},
    graph::{Ontology, Text},
};

/// Processes that may die of a unit, working it alone, before it is put into quarantine. **Source:** DESIGN §6.5 (k):
/// one may be the machine's fault, and so may two.
pub(super) const DEATHS: u32 = 3;

/// Where a stage's units run.
#[derive(Clone)]
pub struct Workplace {
    /// The threads for units.
    pub threads: Threads,
    /// Processes for units that must run alone; without it they run on the threads, like any other.
    pub isolation: Option<Arc<dyn Isolation>>,
    /// A process that worked the document was lost: the units that were in work may have been the reason.
    pub suspect: bool,
}

impl Workplace {
    /// The threads of the current runtime, and nothing to isolate with.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self {
            threads: Threads::current(),
            isolation: None,
            suspect: false,
        }
    }

    /// Whether nothing can be worked here any more: units have taken all threads along, and there is nowhere else.
    #[must_use]
    pub fn is_worn_out(&self) -> bool {
        self.threads.are_worn_out() && self.isolation.is_none()
    }
}

/// Works an errand in a process of its own.
#[async_trait]
pub trait Isolation: Send + Sync {
    /// Returns what the process brought back: the unit's output as a checkpoint stores it, or its failure. Dropping
    /// this ends the process. `gate` is asked as late as can be: after every wait, before the process is told what to do.
    ///
    /// # Errors
    /// [`IsolatedError`] says whose fault it is that the process brought nothing back.
    async fn work(
        &self,
        errand: &Errand,
        gate: &dyn Gate,
    ) -> Result<Result<Value, Failure>, IsolatedError>;
}

/// Why a process brought nothing back.
#[derive(Debug, thiserror::Error)]
pub enum IsolatedError {
    /// It died of the unit: nothing else was in it, and nobody ended it.
    #[error("it died")]
    Died {
        /// The signal that ended it.
        signal: Option<i32>,
        /// The code that it ended with.
        code: Option<i32>,
    },
    /// It took longer than the unit may, and was ended for it.
    #[error("it took too long")]
    Overran,
    /// It was asked to end, or whoever waits for it was: not the unit's fault.
    #[error("it was ended from outside")]
    Interrupted,
    /// No process could be started; trying again may help.
    #[error("no process could be started")]
    Unavailable(#[source] std::io::Error),
    /// The gate did not let the unit begin.
    #[error(transparent)]
    Refused(#[from] CheckpointError),
}

/// One unit, with all that it takes to work it.
#[derive(Debug)]
pub struct Errand {
    case: Arc<Case>,
    unit: i32,
    input_hash: [u8; 32],
}

/// What the errands of a stage have in common.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Case {
    stage: Stage,
    document: String,
    text: String,
    extractor: String,
    ontology: Ontology,
    digests: Digests,
    settings: Settings,
    round: i32,
    records: Vec<Kept>,
}

/// What a plan reads of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    stage: Stage,
    unit: i32,
    /// None: it was tried, and is not done.
    output: Option<Value>,
}

/// An errand that can't be written down or read.
#[derive(Debug, thiserror::Error)]
#[error("an errand has another form in JSON")]
pub struct ErrandError(#[from] serde_json::Error);

impl Case {
    /// The case of `stage`, whose plan was made from `records`.
    pub(super) fn of(
        stage: Stage,
        work: &Work,
        records: &[UnitRecord],
    ) -> Result<Arc<Self>, ErrandError> {
        let kept = |record: &UnitRecord| {
            let output = match &record.outcome {
                UnitOutcome::Done(output) => Some(output.to_json()?),
                UnitOutcome::Retry(_) | UnitOutcome::Failed(_) => None,
            };
            Ok::<_, ErrandError>(Kept {
                stage: record.stage,
                unit: record.unit,
                output,
            })
        };
        Ok(Arc::new(Self {
            stage,
            document: work.document.name.to_string(),
            text: work.document.text.as_str().to_owned(),
            extractor: work.extractor.name().to_owned(),
            ontology: (*work.ontology).clone(),
            digests: work.past.digests,
            settings: work.settings,
            round: work.round,
            records: records.iter().map(kept).collect::<Result<_, _>>()?,
        }))
    }

    fn records(&self) -> Result<Vec<UnitRecord>, ErrandError> {
        let mut records = Vec::with_capacity(self.records.len());
        for kept in &self.records {
            let output = match &kept.output {
                Some(output) => UnitOutput::from_json(kept.stage, output.clone())?,
                None => None,
            };
            // Why it is not done is not its plan's business.
            let tried = || Failure::transient(FailureCode::ProcessDied, "");
            records.push(UnitRecord {
                stage: kept.stage,
                unit: kept.unit,
                round: self.round,
                tries: 1,
                deaths: 0,
                input_hash: [0; 32],
                outcome: output.map_or_else(|| UnitOutcome::Retry(tried()), UnitOutcome::Done),
            });
        }
        Ok(records)
    }
}

impl Errand {
    pub(super) const fn new(case: Arc<Case>, unit: i32, input_hash: [u8; 32]) -> Self {
        Self {
            case,
            unit,
            input_hash,
        }
    }

    /// The errand as it is sent: one line.
    ///
    /// # Errors
    /// None that trying again would cure: all parts have a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, ErrandError> {
        let parts = (&*self.case, self.unit, &self.input_hash);
        Ok(serde_json::to_vec(&parts)?)
    }

    /// Reads an errand.
    ///
    /// # Errors
    /// It is none; trying again does not help.
    pub fn from_json(json: &[u8]) -> Result<Self, ErrandError> {
        let (case, unit, input_hash): (Case, i32, [u8; 32]) = serde_json::from_slice(json)?;
        Ok(Self::new(Arc::new(case), unit, input_hash))
    }

    /// The stage of the unit.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.case.stage
    }

    /// The unit's number within the stage.
    #[must_use]
    pub const fn unit(&self) -> i32 {
        self.unit
    }

    /// How long the unit may take.
    #[must_use]
    pub fn hard_timeout(&self) -> std::time::Duration {
        self.case.settings.units.hard_timeout
    }
}

/// Works the errand, in the process that was started for it.
///
/// # Errors
/// The unit's failure.
pub async fn perform(errand: &Errand, extractors: &Extractors) -> Result<Value, Failure> {
    let case = &*errand.case;
    let extractor = extractors.get(&case.extractor).ok_or_else(|| {
        let message = format!("the process has no extractor `{}`", case.extractor);
        Failure::transient(FailureCode::Extractor, message)
    })?;
    let work = Work {
        document: Document {
            name: case.document.as_str().into(),
            text: Text::new(case.text.as_str()),
        },
        extractor,
        ontology: Arc::new(case.ontology.clone()),
        settings: case.settings,
        round: case.round,
        pause: CancellationToken::new(),
        workplace: Workplace::here(),
        gate: Arc::new(Open),
        past: Past {
            digests: case.digests,
            earlier: None,
        },
    };
    let records = case.records().map_err(|_| strange())?;
    let findings = Arc::new(Findings::of(&records));
    if case.stage == Stage::Assemble {
        return match stage::assembled(&work, &findings) {
            Outcome::Failed { failure } => Err(failure),
            Outcome::Settled { .. }
            | Outcome::Retry { .. }
            | Outcome::Blocked { .. }
            | Outcome::Paused => Ok(Value::Null),
        };
    }
    let planned = stage::plan(case.stage, &work, &findings, &records)
        .and_then(|(units, _)| units.into_iter().find(|unit| unit.number == errand.unit))
        .map(|unit| {
            let hash = unit.hash(case.stage, &work);
            stage::start(case.stage, unit, hash, &work, &findings)
        })
        .filter(|planned| planned.input_hash == errand.input_hash)
        .ok_or_else(strange)?;
    match units::on_threads(&work, planned.name, planned.work).await {
        Tried::Done(output) => output.to_json().map_err(|_| strange()),
        Tried::Failed(failure) | Tried::Waits(failure, _) | Tried::Blocked(failure) => Err(failure),
        Tried::Died { .. } | Tried::Interrupted | Tried::NotBegun | Tried::Refused(_) => {
            Err(strange())
        }
    }
}

/// A bug: the process that sent the errand and the one that works it are the same program.
fn strange() -> Failure {
    Failure::transient(
        FailureCode::Corrupt,
        "the process that worked the unit alone could not make it out",
    )
}
