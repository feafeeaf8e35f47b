//! Units: what a checkpoint holds, and running those of a stage in bounded parallel.
//!
//! A unit that panics or takes too long is a failed try of that unit and of nothing else. Dropping the runner stops
//! its units; what they finished before is with the checkpoints.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::timeout,
};
use tracing::{Instrument, warn};

use super::stage::Work as StageWork;
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
        }
    }

    /// Reads a stored output of `stage` back; `None` for a stage whose output has tables of its own.
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
            Stage::Assemble | Stage::Resolve => None,
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
    /// Tries in that round.
    pub tries: u32,
    /// SHA-256 of what the unit was given.
    pub input_hash: [u8; 32],
    /// What became of it.
    pub outcome: UnitOutcome,
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
    /// Takes a unit's record. A paid unit's is durable when this returns, but for the stage's `last` one: that is
    /// written with the settle, which follows at once. An unpaid one's may wait to share a write.
    ///
    /// # Errors
    /// [`CheckpointError`]; the stage then stops.
    async fn record(&mut self, record: UnitRecord, last: bool) -> Result<(), CheckpointError>;

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
    pub(super) work: Work,
}

type Work = Pin<Box<dyn Future<Output = Result<UnitOutput, ExtractError>> + Send>>;

/// Runs `planned` units, at most `parallel` at a time, and records each as it ends. Once the work is asked to pause,
/// no further one is begun: fewer records come back.
pub(super) async fn run(
    stage: Stage,
    work: &StageWork,
    planned: Vec<Planned>,
    parallel: usize,
    checkpoints: &mut dyn Checkpoints,
) -> Result<Vec<UnitRecord>, CheckpointError> {
    let (round, settings, gate) = (work.round, work.settings.units, &work.gate);
    let mut waiting = planned.into_iter();
    let mut running = JoinSet::new();
    let mut started: HashMap<Id, (i32, [u8; 32], u32)> = HashMap::new();
    let mut records = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        while running.len() < parallel.max(1) && !work.pause.is_cancelled() {
            let Some(Planned {
                name,
                input_hash,
                tries,
                work,
            }) = waiting.next()
            else {
                break;
            };
            let unit = name.unit;
            let gate = Arc::clone(gate);
            let unit_task = async move {
                gate.may_begin().await?;
                Ok::<_, CheckpointError>(limited(name, work, settings).await)
            };
            let task = running.spawn(unit_task.in_current_span());
            started.insert(task.id(), (unit, input_hash, tries));
        }
        let (id, result) = tokio::select! {
            joined = running.join_next_with_id() => match joined {
                None => return Ok(records),
                Some(Ok((id, result))) => (id, result?),
                Some(Err(died)) => (died.id(), Err(of_panic(&died))),
            },
            _ = ticks.tick() => {
                checkpoints.tick().await?;
                continue;
            }
        };
        let Some((unit, input_hash, tries)) = started.remove(&id) else {
            continue;
        };
        let tries = tries + 1;
        let outcome = match result {
            Ok(output) => UnitOutcome::Done(output),
            Err(failure) if failure.retryable && tries <= settings.retry.retries => {
                UnitOutcome::Retry(failure)
            }
            Err(failure) => UnitOutcome::Failed(failure),
        };
        let record = UnitRecord {
            stage,
            unit,
            round,
            tries,
            input_hash,
            outcome,
        };
        let last = running.is_empty() && (waiting.len() == 0 || work.pause.is_cancelled());
        checkpoints.record(record.clone(), last).await?;
        records.push(record);
    }
}

/// Works one unit within its time.
async fn limited(
    name: UnitName,
    work: Work,
    settings: UnitSettings,
) -> Result<UnitOutput, Failure> {
    let UnitSettings {
        soft_timeout,
        hard_timeout,
        ..
    } = settings;
    let unit = name.unit;
    let watched = async {
        let mut work = work;
        if let Ok(result) = timeout(soft_timeout, &mut work).await {
            return result;
        }
        let duration_ms = soft_timeout.as_millis();
        warn!(stage = name.stage, unit, duration_ms, "a unit is slow");
        work.await
    };
    let Ok(result) = timeout(hard_timeout, watched).await else {
        let message = format!("took longer than {} ms", hard_timeout.as_millis());
        return Err(Failure::transient(FailureCode::Timeout, message));
    };
    result.map_err(|error| match error {
        ExtractError::Transient(message) => Failure::transient(FailureCode::Extractor, message),
        ExtractError::Terminal(message) => Failure::terminal(FailureCode::Extractor, message),
    })
}

/// A unit that panicked. The message of the panic stays in the process: it may quote the document.
fn of_panic(_died: &JoinError) -> Failure {
    Failure::transient(FailureCode::Panic, "the extractor panicked")
}
