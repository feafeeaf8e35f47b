//! What the work of a stage came to, as the executor is to write it.

use std::time::Duration;

use super::{recent, resolution::Resolved, settle::End};
use crate::{
    flow::{Failure, FailureCode, Reached, Stage},
    graph::{DocumentGraph, Span, Text},
    pipeline::{Findings, Outcome, UnitRecord, Work},
    store::{CheckpointRow, Publishable},
};

/// How long a document waits whose batch is to be paused: longer than the pause takes to be written.
const BLOCKED_WAIT: Duration = Duration::from_secs(5);

/// How long a resolution waits for another one of its organization before it asks again.
const TURN_WAIT: Duration = Duration::from_secs(1);

/// How far a stage's work came.
pub(super) enum Came {
    /// To an end, which is to be settled.
    Through(Box<Worked>),
    /// To a unit boundary, where it was asked to pause; with the checkpoints that are not written yet.
    ToAPause(Vec<CheckpointRow>),
}

/// What a stage's work gave, to be written with its settle.
pub(super) struct Worked {
    pub(super) end: End,
    /// How far the stage came, where its units were counted.
    pub(super) reached: Option<Reached>,
    pub(super) checkpoints: Vec<CheckpointRow>,
    pub(super) output: Output,
    /// What the next stage begins with, if there is one.
    pub(super) keep: Option<recent::Settled>,
    /// Why the whole batch is to be paused.
    pub(super) block: Option<String>,
}

pub(super) enum Output {
    None,
    Chunks(Vec<Span>),
    Graph(Text, DocumentGraph),
    Resolution(Publishable),
}

impl Worked {
    /// An end that leaves nothing else to write.
    pub(super) const fn ended(end: End) -> Self {
        Self {
            end,
            reached: None,
            checkpoints: Vec::new(),
            output: Output::None,
            keep: None,
            block: None,
        }
    }
}

impl Came {
    /// What a resolution's work gave.
    pub(super) fn of_resolution(resolved: Resolved) -> Self {
        let worked = match resolved {
            Resolved::Written(resolution, clusters) => Worked {
                output: Output::Resolution(resolution),
                ..Worked::ended(End::Resolution { clusters })
            },
            Resolved::NotItsTurn => Worked::ended(End::Retry {
                failure: Failure::transient(
                    FailureCode::Waiting,
                    "another batch of the organization is being resolved",
                ),
                wait: TURN_WAIT,
            }),
            Resolved::Hindered(Outcome::Retry { failure, wait }) => {
                Worked::ended(End::Retry { failure, wait })
            }
            Resolved::Hindered(Outcome::Blocked { failure }) => Worked {
                block: Some(failure.message.clone()),
                ..Worked::ended(End::Retry {
                    failure,
                    wait: BLOCKED_WAIT,
                })
            },
            Resolved::Hindered(Outcome::Failed { failure }) => {
                Worked::ended(End::Failed { failure })
            }
            Resolved::Hindered(Outcome::Paused | Outcome::Settled { .. }) => {
                return Self::ToAPause(Vec::new());
            }
        };
        Self::Through(worked.into())
    }

    pub(super) fn of(
        stage: Stage,
        outcome: Outcome,
        records: Vec<UnitRecord>,
        work: Work,
        checkpoints: Vec<CheckpointRow>,
        reached: Option<Reached>,
    ) -> Self {
        let mut block = None;
        let (end, output) = match outcome {
            Outcome::Settled {
                graph: Some(graph), ..
            } => {
                let end = End::Document {
                    mentions: graph.mentions.len(),
                    entities: graph.entities.len(),
                    relations: graph.relations.len(),
                };
                (end, Output::Graph(work.document.text.clone(), graph))
            }
            Outcome::Settled {
                units,
                failed_units,
                graph: None,
            } => {
                let output = match stage {
                    Stage::Chunk => Output::Chunks(Findings::of(&records).chunks),
                    Stage::Mentions
                    | Stage::Entities
                    | Stage::Relations
                    | Stage::Assemble
                    | Stage::Resolve => Output::None,
                };
                (
                    End::Stage {
                        units,
                        failed_units,
                    },
                    output,
                )
            }
            Outcome::Retry { failure, wait } => (End::Retry { failure, wait }, Output::None),
            Outcome::Blocked { failure } => {
                block = Some(failure.message.clone());
                let end = End::Retry {
                    failure,
                    wait: BLOCKED_WAIT,
                };
                (end, Output::None)
            }
            Outcome::Failed { failure } => (End::Failed { failure }, Output::None),
            Outcome::Paused => return Self::ToAPause(checkpoints),
        };
        let keep = matches!(end, End::Stage { .. }).then_some(recent::Settled {
            document: work.document,
            records,
            earlier: work.past.earlier,
        });
        let worked = Worked {
            end,
            reached,
            checkpoints,
            output,
            keep,
            block,
        };
        Self::Through(worked.into())
    }
}
