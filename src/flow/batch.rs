//! The machine of a batch, and what its counts call for.
//!
//! The sequencer alone moves batches: it folds events into [`BatchCounts`], asks [`BatchCounts::next_step`] what
//! they call for, and applies [`BatchState::on`].

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BatchCounts, Failure, FailureCode, FailureRules, IllegalMove, ResolutionEnd, Stage};

/// Where a batch stands. The stage states follow the furthest stage that any of its documents has entered:
/// forward only, and stages may be skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum BatchState {
    /// No document was admitted yet.
    Pending,
    /// The furthest document is being cut into chunks.
    Chunking {
        /// How far the batch is.
        progress: Progress,
    },
    /// … has its names extracted.
    ExtractingMentions {
        /// How far the batch is.
        progress: Progress,
    },
    /// … has its mentions classified.
    ExtractingEntities {
        /// How far the batch is.
        progress: Progress,
    },
    /// … has its relations extracted.
    ExtractingRelations {
        /// How far the batch is.
        progress: Progress,
    },
    /// … has its graph assembled.
    Assembling {
        /// How far the batch is.
        progress: Progress,
    },
    /// Every document is final; the same things are being merged across them.
    Resolving {
        /// How far the batch is.
        progress: Progress,
    },
    /// Done; a retry opens the next generation.
    Completed {
        /// What came of it.
        counts: BatchCounts,
    },
    /// Ended without success; a retry opens the next generation.
    Failed {
        /// Why.
        error: Failure,
    },
    /// Stopped by hand; a retry opens the next generation.
    Cancelled {
        /// What came of it until then.
        counts: BatchCounts,
    },
}

/// How many documents of a batch have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Documents that are final.
    pub current: u64,
    /// Documents to work in all.
    pub total: u64,
}

/// What can befall a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchEvent {
    /// A document entered a stage that none had entered before (or the resolution starts).
    Enter(Stage, Progress),
    /// The resolution is published.
    Complete(BatchCounts),
    /// It can't succeed any more.
    Fail(Failure),
    /// It was stopped by hand and every document is final.
    Cancel(BatchCounts),
    /// Somebody opens the next generation of a batch that has ended, to try again what failed.
    Retry,
    /// … to change what it holds, or how that is worked.
    Reopen,
}

/// The bare name of a [`BatchState`], ordered along the road.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are those of BatchState")]
pub enum BatchStateName {
    Pending,
    Chunking,
    ExtractingMentions,
    ExtractingEntities,
    ExtractingRelations,
    Assembling,
    Resolving,
    Completed,
    Failed,
    Cancelled,
}

impl BatchStateName {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Chunking,
        Self::ExtractingMentions,
        Self::ExtractingEntities,
        Self::ExtractingRelations,
        Self::Assembling,
        Self::Resolving,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state's name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Chunking => "Chunking",
            Self::ExtractingMentions => "ExtractingMentions",
            Self::ExtractingEntities => "ExtractingEntities",
            Self::ExtractingRelations => "ExtractingRelations",
            Self::Assembling => "Assembling",
            Self::Resolving => "Resolving",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether the batch has ended (it may still be retried).
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The state that a batch is in while `stage` is the furthest that a document has entered.
    #[must_use]
    pub const fn of_stage(stage: Stage) -> Self {
        match stage {
            Stage::Chunk => Self::Chunking,
            Stage::Mentions => Self::ExtractingMentions,
            Stage::Entities => Self::ExtractingEntities,
            Stage::Relations => Self::ExtractingRelations,
            Stage::Assemble => Self::Assembling,
            Stage::Resolve => Self::Resolving,
        }
    }
}

impl fmt::Display for BatchStateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl BatchState {
    /// The transition function: where `event` leads from here.
    ///
    /// # Errors
    /// [`IllegalMove`] names the state and the event; trying again does not help.
    pub fn on(&self, event: BatchEvent) -> Result<Self, IllegalMove> {
        let from = self.name();
        match event {
            BatchEvent::Enter(stage, progress)
                if !from.has_ended() && from < BatchStateName::of_stage(stage) =>
            {
                Ok(match stage {
                    Stage::Chunk => Self::Chunking { progress },
                    Stage::Mentions => Self::ExtractingMentions { progress },
                    Stage::Entities => Self::ExtractingEntities { progress },
                    Stage::Relations => Self::ExtractingRelations { progress },
                    Stage::Assemble => Self::Assembling { progress },
                    Stage::Resolve => Self::Resolving { progress },
                })
            }
            BatchEvent::Complete(counts) if from == BatchStateName::Resolving => {
                Ok(Self::Completed { counts })
            }
            BatchEvent::Fail(error) if !from.has_ended() => Ok(Self::Failed { error }),
            BatchEvent::Cancel(counts) if !from.has_ended() => Ok(Self::Cancelled { counts }),
            BatchEvent::Retry | BatchEvent::Reopen if from.has_ended() => Ok(Self::Pending),
            BatchEvent::Enter(..)
            | BatchEvent::Complete(_)
            | BatchEvent::Fail(_)
            | BatchEvent::Cancel(_)
            | BatchEvent::Retry
            | BatchEvent::Reopen => Err(IllegalMove {
                machine: "batch",
                state: from.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// The bare name.
    #[must_use]
    pub const fn name(&self) -> BatchStateName {
        match self {
            Self::Pending => BatchStateName::Pending,
            Self::Chunking { .. } => BatchStateName::Chunking,
            Self::ExtractingMentions { .. } => BatchStateName::ExtractingMentions,
            Self::ExtractingEntities { .. } => BatchStateName::ExtractingEntities,
            Self::ExtractingRelations { .. } => BatchStateName::ExtractingRelations,
            Self::Assembling { .. } => BatchStateName::Assembling,
            Self::Resolving { .. } => BatchStateName::Resolving,
            Self::Completed { .. } => BatchStateName::Completed,
            Self::Failed { .. } => BatchStateName::Failed,
            Self::Cancelled { .. } => BatchStateName::Cancelled,
        }
    }

    /// The same state with its progress brought up to date; a state without one is unchanged.
    #[must_use]
    pub fn with_progress(self, progress: Progress) -> Self {
        match self {
            Self::Chunking { .. } => Self::Chunking { progress },
            Self::ExtractingMentions { .. } => Self::ExtractingMentions { progress },
            Self::ExtractingEntities { .. } => Self::ExtractingEntities { progress },
            Self::ExtractingRelations { .. } => Self::ExtractingRelations { progress },
            Self::Assembling { .. } => Self::Assembling { progress },
            Self::Resolving { .. } => Self::Resolving { progress },
            Self::Pending
            | Self::Completed { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => self,
        }
    }
}

impl BatchEvent {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Enter(..) => "enter",
            Self::Complete(_) => "complete",
            Self::Fail(_) => "fail",
            Self::Cancel(_) => "cancel",
            Self::Retry => "retry",
            Self::Reopen => "reopen",
        }
    }
}

/// Why a batch is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopping {
    /// Somebody cancelled it.
    Cancel,
    /// Its policy or its tolerance aborts it because of documents that were abandoned.
    Abort,
}

impl Stopping {
    /// The reason's name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Abort => "abort",
        }
    }
}

/// What the counts of a batch call for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing yet.
    Wait,
    /// Move the batch.
    Move(BatchEvent),
    /// Start the resolution, and move the batch to `Resolving`.
    StartResolution,
    /// Give every failed document another round.
    Revive,
    /// Stop the documents that are not final, because the policy says so.
    Abort,
    /// Take no more documents into a batch that is kept open, because it gives up.
    Seal,
}

impl BatchCounts {
    /// What the counts call for in `state`: the whole policy of a batch, in one place.
    #[must_use]
    pub fn next_step(
        &self,
        state: BatchStateName,
        rules: impl Into<FailureRules>,
        stopping: Option<Stopping>,
    ) -> NextStep {
        let rules = rules.into();
        if state.has_ended() {
            return NextStep::Wait;
        }
        if state == BatchStateName::Resolving {
            return match (self.resolution, stopping) {
                (Some(ResolutionEnd::Completed), _) => NextStep::Move(BatchEvent::Complete(*self)),
                (Some(ResolutionEnd::Abandoned), None) => NextStep::Move(BatchEvent::Fail(
                    Failure::transient(FailureCode::BatchFailed, "the resolution was given up"),
                )),
                (Some(ResolutionEnd::Abandoned), Some(_)) => {
                    NextStep::Move(BatchEvent::Cancel(*self))
                }
                (None, _) => NextStep::Wait,
            };
        }
        // What earlier generations gave up was put up with then.
        let abandoned = self.abandoned.saturating_sub(self.abandoned_before);
        if stopping.is_none() && rules.give_up(abandoned, self.accepted, self.sealed) {
            return NextStep::Abort;
        }
        if self.sealed && self.ended() == self.accepted {
            return match stopping {
                Some(Stopping::Cancel) => NextStep::Move(BatchEvent::Cancel(*self)),
                Some(Stopping::Abort) => NextStep::Move(BatchEvent::Fail(Failure::terminal(
                    FailureCode::BatchFailed,
                    rules.reason(abandoned),
                ))),
                None if self.completed == 0 && self.submitted() > 0 => {
                    NextStep::Move(BatchEvent::Fail(Failure::terminal(
                        FailureCode::BatchFailed,
                        "no document succeeded",
                    )))
                }
                None => NextStep::StartResolution,
            };
        }
        if self.sealed
            && stopping.is_none()
            && self.failed > 0
            && self.ended() + self.failed == self.accepted
        {
            return NextStep::Revive;
        }
        match self.furthest {
            Some(furthest) if BatchStateName::of_stage(furthest) > state => {
                NextStep::Move(BatchEvent::Enter(furthest, self.progress()))
            }
            // What would still come would be stopped at once.
            Some(_) | None if stopping == Some(Stopping::Abort) && !self.sealed => NextStep::Seal,
            Some(_) | None => NextStep::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::FailurePolicy;

    fn failure() -> Failure {
        Failure::terminal(FailureCode::Extractor, "it broke")
    }

    fn any_event() -> impl Strategy<Value = BatchEvent> {
        prop_oneof![
            (0..6_usize).prop_map(|i| BatchEvent::Enter(Stage::ALL[i], Progress::default())),
            Just(BatchEvent::Complete(BatchCounts::default())),
            Just(BatchEvent::Fail(failure())),
            Just(BatchEvent::Cancel(BatchCounts::default())),
            Just(BatchEvent::Retry),
            Just(BatchEvent::Reopen),
        ]
    }

    proptest! {
        #[test]
        fn random_events_go_forward_only(events in prop::collection::vec(any_event(), 0..40)) {
            let mut state = BatchState::Pending;
            for event in events {
                let before = state.name();
                match state.on(event.clone()) {
                    Ok(next) => {
                        let retried = before.has_ended();
                        prop_assert!(retried || next.name() > before);
                        prop_assert!(!retried || next.name() == BatchStateName::Pending);
                        if next.name() == BatchStateName::Completed {
                            prop_assert_eq!(before, BatchStateName::Resolving);
                        }
                        state = next;
                    }
                    Err(refused) => {
                        prop_assert_eq!(refused.state, before.as_str());
                        prop_assert_eq!(refused.event, event.as_str());
                    }
                }
            }
        }
    }

    #[test]
    fn the_states_round_trip_through_json() {
        let state = BatchState::Failed { error: failure() };
        let json = serde_json::to_value(&state).unwrap();
        assert_eq!(json["name"], "Failed");
        assert_eq!(serde_json::from_value::<BatchState>(json).unwrap(), state);
    }

    fn sealed(accepted: u64) -> BatchCounts {
        BatchCounts {
            accepted,
            sealed: true,
            ..BatchCounts::default()
        }
    }

    #[test]
    fn an_empty_batch_goes_on_to_its_resolution() {
        let step = sealed(0).next_step(
            BatchStateName::Pending,
            FailurePolicy::ContinueOnFailure,
            None,
        );
        assert_eq!(step, NextStep::StartResolution);
    }

    #[test]
    fn an_open_batch_waits_even_if_every_document_is_final() {
        let counts = BatchCounts {
            accepted: 1,
            completed: 1,
            ..BatchCounts::default()
        };
        let step = counts.next_step(BatchStateName::Pending, FailurePolicy::AbortAll, None);
        assert_eq!(step, NextStep::Wait);
    }

    #[test]
    fn nothing_succeeded_fails_the_batch() {
        let counts = BatchCounts {
            abandoned: 2,
            ..sealed(2)
        };
        let step = counts.next_step(
            BatchStateName::Chunking,
            FailurePolicy::ContinueOnFailure,
            None,
        );
        assert!(
            matches!(step, NextStep::Move(BatchEvent::Fail(_))),
            "{step:?}"
        );
    }

    #[test]
    fn failed_documents_are_revived_when_the_others_are_through() {
        let counts = BatchCounts {
            completed: 2,
            failed: 1,
            ..sealed(4)
        };
        let wait = counts.next_step(BatchStateName::Assembling, FailurePolicy::RetryFailed, None);
        assert_eq!(wait, NextStep::Wait);
        let counts = BatchCounts {
            completed: 3,
            ..counts
        };
        let step = counts.next_step(BatchStateName::Assembling, FailurePolicy::RetryFailed, None);
        assert_eq!(step, NextStep::Revive);
    }

    #[test]
    fn an_open_batch_that_gives_up_is_sealed_and_then_fails() {
        let open = BatchCounts {
            accepted: 2,
            abandoned: 1,
            cancelled: 1,
            ..BatchCounts::default()
        };
        let policy = FailurePolicy::AbortAll;
        let stopping = Some(Stopping::Abort);
        let state = BatchStateName::Chunking;
        assert_eq!(open.next_step(state, policy, None), NextStep::Abort);
        assert_eq!(open.next_step(state, policy, stopping), NextStep::Seal);
        let cancelling = open.next_step(state, policy, Some(Stopping::Cancel));
        assert_eq!(cancelling, NextStep::Wait, "whoever cancels it seals it");
        let sealed = BatchCounts {
            sealed: true,
            ..open
        };
        let step = sealed.next_step(state, policy, stopping);
        assert!(
            matches!(step, NextStep::Move(BatchEvent::Fail(_))),
            "{step:?}"
        );
    }

    #[test]
    fn abort_all_stops_the_rest_once_and_then_fails() {
        let counts = BatchCounts {
            abandoned: 1,
            ..sealed(3)
        };
        let policy = FailurePolicy::AbortAll;
        assert_eq!(
            counts.next_step(BatchStateName::Chunking, policy, None),
            NextStep::Abort
        );
        let stopping = Some(Stopping::Abort);
        assert_eq!(
            counts.next_step(BatchStateName::Chunking, policy, stopping),
            NextStep::Wait
        );
        let counts = BatchCounts {
            cancelled: 2,
            ..counts
        };
        let step = counts.next_step(BatchStateName::Chunking, policy, stopping);
        assert!(
            matches!(step, NextStep::Move(BatchEvent::Fail(_))),
            "{step:?}"
        );
    }
}
