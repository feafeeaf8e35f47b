//! Units: what a checkpoint holds, and running those of a stage in bounded parallel.
//!
//! A unit that panics or takes too long is a failed try of that unit and of nothing else, also if it never yields: the
//! runner holds the deadlines, on a thread that no unit runs on. One that is suspected of worse runs alone, in a
//! process of its own. Dropping the runner stops its units; what they finished before is with the checkpoints.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt,
    stream::{FuturesUnordered, StreamExt},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;

use super::{
    adjudicate::Judged,
    errand::{Case, DEATHS, Errand, IsolatedError},
    stage::Work as StageWork,
    threads::{Boxed, Ended, GRACE},
};
use crate::{
    extractors::{ExtractError, UnitName},
    flow::{Failure, FailureCode, RetryPolicy, Stage},
    graph::{FoundRelation, Mention, MentionType, Span},
};

/// What one unit gave.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitOutput {
    /// `chunk`: where to cut the document.
    Chunks(Vec<Span>),
    /// `mentions`: the names in a chunk.
    Mentions(Vec<Mention>),
    /// `entities`: the classes of a group of mentions.
    Types(UnitGroup),
    /// `relations`: what a chunk states.
    Relations(Vec<FoundRelation>),
    /// `assemble`, after tries that failed: the graph has tables of its own.
    Assembled,
    /// `resolve`: what was said about pairs of names.
    Verdicts(Vec<Judged>),
}

/// A group of mentions and the classes that they were given. The members are kept with the classes, so that
/// mentions which turn up later form new groups and change none that was paid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitGroup {
    /// The mentions that were asked about.
    pub members: Vec<Span>,
    /// The classes that were given; a member without one stays unpublished.
    pub types: Vec<MentionType>,
}

impl UnitOutput {
    /// The output as a checkpoint stores it.
    ///
    /// # Errors
    /// None that trying again would cure: the types all have a JSON form.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::Chunks(spans) => serde_json::to_value(spans),
            Self::Mentions(mentions) => serde_json::to_value(mentions),
            Self::Types(group) => serde_json::to_value(group),
            Self::Relations(relations) => serde_json::to_value(relations),
            Self::Assembled => Ok(serde_json::Value::Null),
            Self::Verdicts(judged) => serde_json::to_value(judged),
        }
    }

    /// Reads a stored output of `stage` back; `None` for a stage that has no checkpoints.
    ///
    /// # Errors
    /// What is stored is not an output of that stage; trying again does not help.
    pub fn from_json(
        stage: Stage,
        json: serde_json::Value,
    ) -> Result<Option<Self>, serde_json::Error> {
        Ok(match stage {
            Stage::Chunk => Some(Self::Chunks(serde_json::from_value(json)?)),
            Stage::Mentions => Some(Self::Mentions(serde_json::from_value(json)?)),
            Stage::Entities => Some(Self::Types(serde_json::from_value(json)?)),
            Stage::Relations => Some(Self::Relations(serde_json::from_value(json)?)),
            Stage::Assemble => Some(Self::Assembled),
            Stage::Resolve => Some(Self::Verdicts(serde_json::from_value(json)?)),
        })
    }
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitOutcome {
    /// It is done and is never worked again.
    Done(UnitOutput),
    /// It failed and has tries left.
    Retry(Failure),
    /// It failed for good (in this round).
    Failed(Failure),
}

/// A unit's checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitRecord {
    /// Its stage.
    pub stage: Stage,
    /// Its number within the stage.
    pub unit: i32,
    /// Which of the batch's rounds its tries were made in.
    pub round: i32,
    /// Tries in that round; 0: an earlier generation had found it.
    pub tries: u32,
    /// Processes that died of it, while they worked it alone.
    pub deaths: u32,
    /// SHA-256 of what the unit was given.
    pub input_hash: [u8; 32],
    /// What became of it.
    pub outcome: UnitOutcome,
}

impl UnitRecord {
    /// Whether its next try must be made alone: it has taken down a process, or kept a thread.
    pub(super) fn must_be_alone(&self) -> bool {
        let kept_a_thread = match &self.outcome {
            UnitOutcome::Retry(failure) | UnitOutcome::Failed(failure) => {
                failure.details["yielded"] == false
            }
            UnitOutcome::Done(_) => false,
        };
        self.deaths > 0 || kept_a_thread
    }
}

/// A checkpoint that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Somebody else holds the lease now: drop the work quietly. Trying again does not help.
    #[error("the lease is lost")]
    LeaseLost,
    /// The store refused or could not be reached; trying again may help.
    #[error("the checkpoint could not be written")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where checkpoints go.
#[async_trait]
pub trait Checkpoints: Send {
    /// Takes the records of units that have ended at the same time. Those of paid units are durable when this returns,
    /// but for the stage's `last` ones: they are written with the settle, which follows at once. Those of unpaid ones
    /// may wait to share a write.
    ///
    /// # Errors
    /// [`CheckpointError`]; the stage then stops.
    async fn record(&mut self, records: Vec<UnitRecord>, last: bool)
    -> Result<(), CheckpointError>;

    /// Told before the units of a stage run: how many it has, and how many of them are through already.
    fn planned(&mut self, _through: usize, _units: usize) {}

    /// Called now and then while units run, so that waiting records don't wait for ever.
    ///
    /// # Errors
    /// [`CheckpointError`]; the stage then stops.
    async fn tick(&mut self) -> Result<(), CheckpointError>;
}

/// Whether a unit may be begun. A unit's work may be dear: whoever has lost the right to it (frozen, or starved for
/// longer than a lease) must not begin what somebody else has done since.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Asked on the unit's own task, right before its work begins.
    ///
    /// # Errors
    /// [`CheckpointError`]; the unit is not begun, and the stage stops.
    async fn may_begin(&self) -> Result<(), CheckpointError>;

    /// Waits until it is the unit's turn, if there are others who have a better claim. Asked before its time begins.
    async fn turn(&self) {}
}

/// A gate that is always open: for work that nobody else can be given.
#[derive(Debug, Clone, Copy)]
pub struct Open;

#[async_trait]
impl Gate for Open {
    async fn may_begin(&self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

/// Limits of a unit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitSettings {
    /// Tries and the waits between them.
    pub retry: RetryPolicy,
    /// A unit that takes longer is warned about. **Source:** the original design (45 s).
    pub soft_timeout: Duration,
    /// A unit that takes longer has failed a try. **Source:** the original design (60 s).
    pub hard_timeout: Duration,
}

impl Default for UnitSettings {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            soft_timeout: Duration::from_secs(45),
            hard_timeout: Duration::from_secs(60),
        }
    }
}

/// A unit that is to be worked.
pub(super) struct Planned {
    pub(super) name: UnitName,
    pub(super) input_hash: [u8; 32],
    /// Failed tries so far in this round.
    pub(super) tries: u32,
    /// Processes that died of it.
    pub(super) deaths: u32,
    /// It is to run alone.
    pub(super) alone: bool,
    pub(super) work: Work,
}

pub(super) type Work = Boxed<Result<UnitOutput, ExtractError>>;

/// What came of a try.
pub(super) enum Tried {
    Done(UnitOutput),
    Failed(Failure),
    /// The process died that worked it alone.
    Died {
        signal: Option<i32>,
        code: Option<i32>,
    },
    /// It was ended from outside: no try.
    Interrupted,
    /// No thread is left for it: no try either.
    NotBegun,
    /// The gate did not let it begin: the stage stops.
    Refused(CheckpointError),
    /// It could not be tried yet, and is to be tried again after a while: no try, and nothing is written of it.
    Waits(Failure, Duration),
    /// It can't be tried until somebody does something about it: no try either.
    Blocked(Failure),
}

/// What keeps units from being tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Hindrance {
    /// A limit, or a server that asks to be left alone: it passes.
    Waits(Failure, Duration),
    /// Something that does not pass by itself.
    Blocked(Failure),
}

impl Hindrance {
    /// The graver of two; of two waits the shorter one, since whoever's turn has come is to go on.
    fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (this @ Self::Blocked(_), _) | (this, None) => this,
            (_, Some(other @ Self::Blocked(_))) => other,
            (Self::Waits(failure, wait), Some(Self::Waits(other_failure, other))) => {
                if other < wait {
                    Self::Waits(other_failure, other)
                } else {
                    Self::Waits(failure, wait)
                }
            }
        }
    }
}

/// What came of running units.
pub(super) struct Ran {
    /// The records of those that were tried.
    pub(super) fresh: Vec<UnitRecord>,
    /// What kept others from it.
    pub(super) hindrance: Option<Hindrance>,
}

/// What came of an attempt.
enum Attempted {
    /// It left a record.
    Record(UnitRecord),
    /// No thread is left that could.
    NotBegun,
    /// It could not be tried.
    Hindered(Hindrance),
}

/// Runs `planned` units, at most `parallel` at a time, and records each as it ends. Once the work is asked to pause,
/// no further one is begun: fewer records come back. `records` are those that the plan was made from.
pub(super) async fn run(
    stage: Stage,
    work: &StageWork,
    records: &[UnitRecord],
    planned: Vec<Planned>,
    parallel: usize,
    checkpoints: &mut dyn Checkpoints,
) -> Result<Ran, CheckpointError> {
    let errands = Errands::new(stage, work, records);
    let mut waiting = planned.into_iter();
    let mut running = FuturesUnordered::new();
    let (mut fresh, mut hindrance) = (Vec::new(), None);
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        while running.len() < parallel.max(1) && !work.pause.is_cancelled() {
            let Some(planned) = waiting.next() else {
                break;
            };
            running.push(errands.attempt(planned));
        }
        let mut next = tokio::select! {
            attempted = running.next() => match attempted {
                None => return Ok(Ran { fresh, hindrance }),
                attempted => attempted,
            },
            _ = ticks.tick() => {
                checkpoints.tick().await?;
                continue;
            }
        };
        // Others that have ended by now share its write: none of them waits, and each would have been waited for.
        let (mut ended, mut refused) = (Vec::new(), None);
        while let Some(attempted) = next {
            match attempted {
                Ok(Attempted::Record(record)) => ended.push(record),
                // Whoever has threads left is to go on with it.
                Ok(Attempted::NotBegun) => work.pause.cancel(),
                Ok(Attempted::Hindered(new)) => {
                    // What keeps one unit keeps the next ones too; those in work go on to their ends.
                    waiting = Vec::new().into_iter();
                    hindrance = Some(new.and(hindrance));
                }
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            next = running.next().now_or_never().flatten();
        }
        let last = refused.is_none()
            && running.is_empty()
            && (waiting.len() == 0 || work.pause.is_cancelled());
        if !ended.is_empty() {
            checkpoints.record(ended.clone(), last).await?;
            fresh.append(&mut ended);
        }
        if let Some(error) = refused {
            return Err(error);
        }
    }
}

/// Tries of the units of one stage.
pub(super) struct Errands<'a> {
    stage: Stage,
    work: &'a StageWork,
    records: &'a [UnitRecord],
    /// Written down for the first unit that runs alone.
    case: OnceLock<Option<Arc<Case>>>,
}

impl<'a> Errands<'a> {
    pub(super) const fn new(stage: Stage, work: &'a StageWork, records: &'a [UnitRecord]) -> Self {
        Self {
            stage,
            work,
            records,
            case: OnceLock::new(),
        }
    }

    /// Tries a unit once. An error: it may not be begun.
    async fn attempt(&self, planned: Planned) -> Result<Attempted, CheckpointError> {
        let Planned {
            name,
            input_hash,
            tries,
            deaths,
            alone,
            work,
        } = planned;
        let unit = name.unit;
        let isolated = if alone {
            self.alone(unit, input_hash).await
        } else {
            None
        };
        let mut came = match isolated {
            Some(came) => came,
            None => on_threads(self.work, name, work).await,
        };
        if matches!(came, Tried::NotBegun) {
            let Some(isolated) = self.alone(unit, input_hash).await else {
                return Ok(Attempted::NotBegun);
            };
            came = isolated;
        }
        let hindrance = match came {
            Tried::Refused(error) => return Err(error),
            Tried::Waits(failure, wait) => Hindrance::Waits(failure, wait),
            Tried::Blocked(failure) => Hindrance::Blocked(failure),
            came @ (Tried::Done(_)
            | Tried::Failed(_)
            | Tried::Died { .. }
            | Tried::Interrupted
            | Tried::NotBegun) => {
                let record = self.record(unit, input_hash, tries, deaths, came);
                return Ok(record.map_or(Attempted::NotBegun, Attempted::Record));
            }
        };
        Ok(Attempted::Hindered(hindrance))
    }

    /// Works a unit in a process of its own; `None` if there is no such thing here.
    pub(super) async fn alone(&self, unit: i32, input_hash: [u8; 32]) -> Option<Tried> {
        let isolation = self.work.workplace.isolation.as_ref()?;
        let case = self
            .case
            .get_or_init(|| Case::of(self.stage, self.work, self.records).ok());
        let errand = Errand::new(Arc::clone(case.as_ref()?), unit, input_hash);
        Some(match isolation.work(&errand, &*self.work.gate).await {
            Ok(Ok(output)) => match UnitOutput::from_json(self.stage, output) {
                Ok(Some(output)) => Tried::Done(output),
                Ok(None) | Err(_) => Tried::Failed(Failure::transient(
                    FailureCode::Corrupt,
                    "what the process that worked it alone has found can't be used",
                )),
            },
            Ok(Err(failure)) => Tried::Failed(failure),
            Err(IsolatedError::Overran) => {
                Tried::Failed(overran(self.work.settings.units.hard_timeout, false))
            }
            Err(IsolatedError::Died { signal, code }) => Tried::Died { signal, code },
            Err(IsolatedError::Interrupted) => Tried::Interrupted,
            Err(IsolatedError::Refused(error)) => Tried::Refused(error),
            Err(IsolatedError::Unavailable(error)) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    stage = %self.stage,
                    unit,
                    "no process of its own could be started for a unit that must work alone: it waits"
                );
                Tried::Interrupted
            }
        })
    }

    /// The record that a try leaves; `None` if it never began.
    pub(super) fn record(
        &self,
        unit: i32,
        input_hash: [u8; 32],
        tries: u32,
        deaths: u32,
        came: Tried,
    ) -> Option<UnitRecord> {
        let (mut tries, mut deaths) = (tries + 1, deaths);
        let outcome = match came {
            Tried::Done(output) => UnitOutcome::Done(output),
            Tried::Failed(failure)
                if failure.retryable && tries <= self.work.settings.units.retry.retries =>
            {
                UnitOutcome::Retry(failure)
            }
            Tried::Failed(failure) => UnitOutcome::Failed(failure),
            Tried::Died { signal, code } => {
                deaths += 1;
                of_death(deaths, signal, code)
            }
            Tried::Interrupted => {
                tries = (tries - 1).max(1);
                UnitOutcome::Retry(Failure::transient(
                    FailureCode::Worker,
                    "the process that was to work it alone was ended from outside, or could not be started",
                ))
            }
            Tried::NotBegun | Tried::Refused(_) | Tried::Waits(..) | Tried::Blocked(_) => {
                return None;
            }
        };
        Some(UnitRecord {
            stage: self.stage,
            unit,
            round: self.work.round,
            tries,
            deaths,
            input_hash,
            outcome,
        })
    }
}

/// A process died that worked on this unit and on nothing else.
fn of_death(deaths: u32, signal: Option<i32>, code: Option<i32>) -> UnitOutcome {
    let how = match (signal, code) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "without a word".to_owned(),
    };
    let details = json!({ "deaths": deaths, "signal": signal, "exit_code": code });
    if deaths >= DEATHS {
        let message =
            format!("it took its process down {deaths} times, working alone ({how}); quarantined");
        let failure = Failure::terminal(FailureCode::Quarantined, message);
        UnitOutcome::Failed(Failure { details, ..failure })
    } else {
        let message = format!("it took its process down, working alone ({how})");
        let failure = Failure::transient(FailureCode::ProcessDied, message);
        UnitOutcome::Retry(Failure { details, ..failure })
    }
}

/// Works one unit within its time, on the threads for units.
pub(super) async fn on_threads(work: &StageWork, name: UnitName, unit_work: Work) -> Tried {
    let UnitSettings {
        soft_timeout,
        hard_timeout,
        ..
    } = work.settings.units;
    let (stage, unit) = (name.stage, name.unit);
    let slow = || {
        let duration_ms = soft_timeout.as_millis();
        warn!(stage, unit, duration_ms, "a unit is slow");
    };
    let threads = &work.workplace.threads;
    let gate = Arc::clone(&work.gate);
    gate.turn().await;
    let gated: Boxed<Result<_, CheckpointError>> = Box::pin(async move {
        gate.may_begin().await?;
        Ok(unit_work.await)
    });
    match threads.run(gated, soft_timeout, hard_timeout, slow).await {
        Ended::Returned(Err(error)) => Tried::Refused(error),
        Ended::Returned(Ok(Ok(output))) => Tried::Done(output),
        Ended::Returned(Ok(Err(ExtractError::Transient(message)))) => {
            Tried::Failed(Failure::transient(FailureCode::Extractor, message))
        }
        Ended::Returned(Ok(Err(ExtractError::Terminal(message)))) => {
            Tried::Failed(Failure::terminal(FailureCode::Extractor, message))
        }
        Ended::Returned(Ok(Err(ExtractError::Wait {
            reason,
            wait,
            cause,
        }))) => {
            let mut failure = Failure::transient(FailureCode::Waiting, reason);
            failure.details = json!({ "cause": cause });
            Tried::Waits(failure, wait)
        }
        Ended::Returned(Ok(Err(ExtractError::Pause { reason }))) => {
            Tried::Blocked(Failure::transient(FailureCode::Blocked, reason))
        }
        // The message of the panic stays in the process: it may quote the document.
        Ended::Panicked => Tried::Failed(Failure::transient(
            FailureCode::Panic,
            "the extractor panicked",
        )),
        Ended::Overran { yielded } => {
            if !yielded {
                let grace_ms = GRACE.as_millis();
                warn!(
                    stage,
                    unit,
                    grace_ms,
                    "a unit never yields: its thread is lost until it does, or until this process is restarted"
                );
            }
            Tried::Failed(overran(hard_timeout, yielded))
        }
        Ended::NotBegun => Tried::NotBegun,
    }
}

fn overran(hard_timeout: Duration, yielded: bool) -> Failure {
    let mut message = format!("took longer than {} ms", hard_timeout.as_millis());
    if !yielded {
        message.push_str(", and never yielded");
    }
    let mut failure = Failure::transient(FailureCode::Timeout, message);
    if !yielded {
        failure.details = json!({ "yielded": false });
    }
    failure
}
