//! What becomes of an execution when a stage has ended: decided by the machines and the batch's policy, without a
//! look at the database.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    flow::{
        self, ActivityStatus, EventKind, ExecutionStatus, Failure, IllegalMove, Reached, Replaced,
        Stage, StageEnd, Verdict,
    },
    store::Lease,
};

/// How a stage ended.
#[derive(Debug)]
pub(super) enum End {
    /// A document's stage is done.
    Stage { units: usize, failed_units: usize },
    /// A document's last stage is done.
    Document {
        mentions: usize,
        entities: usize,
        relations: usize,
    },
    /// The batch's resolution is done.
    Resolution { clusters: usize },
    /// To be tried again.
    Retry { failure: Failure, wait: Duration },
    /// Out of tries.
    Failed { failure: Failure },
    /// Stopped.
    Stopped,
}

/// The move that follows.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) status: ExecutionStatus,
    pub(super) stage: Stage,
    pub(super) activity: ActivityStatus,
    pub(super) partial: bool,
    pub(super) wait: Duration,
    pub(super) error: Option<Failure>,
    pub(super) output: Option<Value>,
    pub(super) checkpoint: Value,
    pub(super) events: Vec<EventKind>,
}

impl Decision {
    /// The document's graph takes the place of what an earlier generation had found.
    pub(super) fn replaces(&mut self, older: Replaced) {
        for event in &mut self.events {
            if let EventKind::DocumentCompleted { replaced, .. } = event {
                *replaced = older;
            }
        }
    }
}

/// Decides what `end` means for the execution, which is in `processing` and at `stage`, of whose units so many have
/// been `reached`. The move is
/// [`flow::settled`]'s; what to write and tell beside it is decided here.
pub(super) fn decide(
    stage: Stage,
    lease: &Lease,
    end: End,
    reached: Option<Reached>,
) -> Result<Decision, IllegalMove> {
    let verdict = match lease.document {
        Some(_) => lease.policy.on_failure(lease.round, lease.max_retries),
        None => Verdict::Abandon,
    };
    let moved = flow::settled(
        stage,
        match end {
            End::Stage { .. } | End::Document { .. } | End::Resolution { .. } => StageEnd::Done,
            End::Retry { .. } => StageEnd::Postponed,
            End::Failed { .. } => StageEnd::Failed(verdict),
            End::Stopped => StageEnd::Stopped,
        },
    )?;
    let mut decision = Decision {
        status: moved.status,
        stage: moved.stage,
        activity: moved.activity,
        partial: lease.partial,
        wait: Duration::ZERO,
        error: None,
        output: None,
        checkpoint: json!({ "stage": stage }),
        events: Vec::new(),
    };
    match end {
        End::Stage {
            units,
            failed_units,
        } => {
            decision.partial |= failed_units > 0;
            decision.checkpoint =
                json!({ "stage": stage, "units": units, "failed_units": failed_units });
            decision.events.push(completed(stage, units, failed_units));
        }
        End::Document {
            mentions,
            entities,
            relations,
        } => {
            decision.checkpoint = json!({ "stage": stage, "units": 1, "failed_units": 0 });
            decision.output =
                Some(json!({ "mentions": mentions, "entities": entities, "relations": relations }));
            decision.events.push(completed(stage, 1, 0));
            decision.events.push(EventKind::DocumentCompleted {
                partial: lease.partial,
                entities: entities as u64,
                relations: relations as u64,
                replaced: Replaced::default(),
            });
        }
        End::Resolution { clusters } => {
            decision.output = Some(json!({ "clusters": clusters }));
            decision.events.push(EventKind::ResolutionCompleted {
                clusters: clusters as u64,
            });
        }
        End::Retry { failure, wait } => {
            decision.wait = wait;
            decision.events.push(EventKind::StageRetried {
                stage,
                failure: failure.clone(),
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                reached,
            });
            decision.error = Some(failure);
        }
        End::Failed { failure } => {
            let failure_for_event = failure.clone();
            decision.events.push(match (lease.document, verdict) {
                (None, _) => EventKind::ResolutionAbandoned {
                    failure: failure_for_event,
                },
                (Some(_), Verdict::AwaitRound) => EventKind::DocumentFailed {
                    failure: failure_for_event,
                    stage: Some(stage),
                    reached,
                },
                (Some(_), Verdict::Abandon) => EventKind::DocumentAbandoned {
                    failure: failure_for_event,
                    stage: Some(stage),
                    reached,
                },
            });
            decision.error = Some(failure);
        }
        End::Stopped => {
            decision.events.push(match lease.document {
                Some(_) => EventKind::DocumentCancelled {
                    was_failed: false,
                    stage: Some(stage),
                },
                None => EventKind::ResolutionAbandoned {
                    failure: Failure::cancelled(),
                },
            });
        }
    }
    Ok(decision)
}

const fn completed(stage: Stage, units: usize, failed_units: usize) -> EventKind {
    EventKind::StageCompleted {
        stage,
        units: units as u64,
        failed_units: failed_units as u64,
    }
}

#[cfg(test)]
mod tests {
    use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};

    use super::*;
    use crate::{
        flow::{FailureCode, FailurePolicy},
        store::Fence,
    };

    fn lease(policy: FailurePolicy, round: i32) -> Lease {
        Lease {
            fence: Fence {
                organization: OrganizationId::DEFAULT,
                execution: WorkflowExecutionId::generate(),
                epoch: 1,
            },
            batch: BatchId::generate(),
            generation: 1,
            document: Some(DocumentId::generate()),
            round,
            attempt: 1,
            partial: false,
            suspect: false,
            policy,
            max_retries: 1,
        }
    }

    #[test]
    fn every_stage_of_a_document_leads_to_the_next() {
        let lease = lease(FailurePolicy::ContinueOnFailure, 0);
        for stage in Stage::ALL {
            let Some(next) = stage.next() else { continue };
            let end = End::Stage {
                units: 2,
                failed_units: 1,
            };
            let decision = decide(stage, &lease, end, None).unwrap();
            assert_eq!(
                (decision.status, decision.stage),
                (ExecutionStatus::Processing, next)
            );
            assert!(decision.partial);
        }
    }

    #[test]
    fn a_failure_waits_for_a_round_only_while_one_is_left() {
        let failure = Failure::transient(FailureCode::Extractor, "no answer");
        for (policy, round, status) in [
            (
                FailurePolicy::ContinueOnFailure,
                0,
                ExecutionStatus::Abandoned,
            ),
            (FailurePolicy::AbortAll, 0, ExecutionStatus::Abandoned),
            (FailurePolicy::RetryFailed, 0, ExecutionStatus::Failed),
            (FailurePolicy::RetryFailed, 1, ExecutionStatus::Abandoned),
        ] {
            let end = End::Failed {
                failure: failure.clone(),
            };
            let decision = decide(Stage::Mentions, &lease(policy, round), end, None).unwrap();
            assert_eq!(decision.status, status, "{policy} in round {round}");
            assert_eq!(decision.error.as_ref(), Some(&failure));
        }
    }
}
