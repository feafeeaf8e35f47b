//! What an event says of how far its execution is, and which events are the last of their batch or execution.
//!
//! Read off one event alone, so that whoever joins a stream late or twice is told the same. Invariants: 100 is said
//! only of what is done; the share of an execution never falls, unless a retry, a round or a failure was told before.

use serde::Serialize;

use super::{EventKind, Reached, Stage};

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadwayStatus {
    /// Nothing of it is done.
    Started,
    /// Some of it is.
    InProgress,
    /// It is done.
    Completed,
    /// The document, the resolution or the batch was given up or stopped in it.
    Failed,
}

/// How far an execution is, by one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headway {
    /// The stage that it is at.
    pub stage: Stage,
    /// How that stage stands.
    pub status: HeadwayStatus,
    /// Percent of the whole execution, rounded down: each of a document's five stages is a fifth, and within a stage
    /// it is the share of its units.
    pub progress: u8,
    /// Units of the stage that are through.
    pub current: u64,
    /// Units of the stage; 0 where they are not known.
    pub total: u64,
    /// Entities found, once the document is through.
    pub entities: Option<u64>,
    /// Relations found, once the document is through.
    pub relations: Option<u64>,
}

impl Headway {
    fn at(stage: Stage, status: HeadwayStatus, current: u64, total: u64) -> Self {
        Self {
            stage,
            status,
            progress: percent(stage, current, total),
            current,
            total,
            entities: None,
            relations: None,
        }
    }

    /// A document or a resolution that did not get through. What was not counted then is not told.
    fn failed(stage: Option<Stage>, reached: Option<Reached>) -> Self {
        let Reached { current, total } = reached.unwrap_or(Reached {
            current: 0,
            total: 0,
        });
        let stage = stage.unwrap_or(Stage::Chunk);
        let mut headway = Self::at(stage, HeadwayStatus::Failed, current, total);
        // Its last unit may be what failed: a document that is given up is never all done.
        headway.progress = headway.progress.min(99);
        headway
    }
}

/// The share of an execution that is through when `current` of `total` units of `stage` are.
fn percent(stage: Stage, current: u64, total: u64) -> u8 {
    let (before, of) = match stage {
        Stage::Resolve => (0, 1),
        Stage::Chunk | Stage::Mentions | Stage::Entities | Stage::Relations | Stage::Assemble => {
            (stage.place() as u128, Stage::OF_A_DOCUMENT as u128)
        }
    };
    let (current, total) = (u128::from(current), u128::from(total));
    let within = (current.min(total) * 100).checked_div(total).unwrap_or(0);
    u8::try_from((before * 100 + within) / of).unwrap_or(100)
}

impl EventKind {
    /// What it says of how far its execution is (or its batch, for the end of one); none if it says nothing of that.
    #[must_use]
    pub fn headway(&self) -> Option<Headway> {
        Some(match self {
            Self::DocumentStarted => Headway::at(Stage::Chunk, HeadwayStatus::Started, 0, 0),
            Self::StageProgress {
                stage,
                current,
                total,
            } => {
                let status = if *current == 0 {
                    HeadwayStatus::Started
                } else {
                    HeadwayStatus::InProgress
                };
                Headway::at(*stage, status, *current, *total)
            }
            Self::StageCompleted { stage, units, .. } if *stage != Stage::Assemble => Headway {
                progress: percent(*stage, 1, 1),
                ..Headway::at(*stage, HeadwayStatus::Completed, *units, *units)
            },
            Self::StageRetried {
                stage,
                reached: Some(Reached { current, total }),
                ..
            } => Headway::at(*stage, HeadwayStatus::InProgress, *current, *total),
            Self::DocumentCompleted {
                entities,
                relations,
                ..
            } => Headway {
                entities: Some(*entities),
                relations: Some(*relations),
                ..Headway::at(Stage::Assemble, HeadwayStatus::Completed, 1, 1)
            },
            Self::DocumentFailed { stage, reached, .. }
            | Self::DocumentAbandoned { stage, reached, .. } => Headway::failed(*stage, *reached),
            Self::DocumentCancelled { stage, .. } => Headway::failed(*stage, None),
            Self::ResolutionStarted => Headway::at(Stage::Resolve, HeadwayStatus::Started, 0, 1),
            Self::ResolutionCompleted { .. } | Self::BatchCompleted => {
                Headway::at(Stage::Resolve, HeadwayStatus::Completed, 1, 1)
            }
            Self::ResolutionAbandoned { .. } | Self::BatchFailed { .. } | Self::BatchCancelled => {
                Headway::failed(Some(Stage::Resolve), None)
            }
            // The last stage of a document is said by `DocumentCompleted`, which comes in the same transaction and knows
            // more.
            Self::StageCompleted { .. }
            | Self::BatchCreated { .. }
            | Self::DocumentsAdded { .. }
            | Self::DocumentReplaced { .. }
            | Self::DocumentRemoved { .. }
            | Self::BatchKeptOpen
            | Self::BatchSealed
            | Self::StageRetried { reached: None, .. }
            | Self::DocumentRevived { .. }
            | Self::DocumentPaused
            | Self::DocumentResumed
            | Self::ClustersChanged { .. }
            | Self::StageEntered { .. }
            | Self::BatchPaused { .. }
            | Self::BatchResumed
            | Self::RateLimited { .. }
            | Self::BreakerOpened { .. }
            | Self::BreakerProbed { .. }
            | Self::BreakerClosed { .. }
            | Self::BatchRetried { .. }
            | Self::BatchReopened { .. }
            | Self::BatchRerun { .. } => return None,
        })
    }

    /// Whether a generation of the batch ends with it.
    #[must_use]
    pub const fn ends_batch(&self) -> bool {
        matches!(
            self,
            Self::BatchCompleted | Self::BatchFailed { .. } | Self::BatchCancelled
        )
    }

    /// Whether the execution that it tells of ends with it.
    #[must_use]
    pub const fn ends_execution(&self) -> bool {
        matches!(
            self,
            Self::DocumentCompleted { .. }
                | Self::DocumentAbandoned { .. }
                | Self::DocumentCancelled { .. }
                | Self::DocumentReplaced { .. }
                | Self::DocumentRemoved { .. }
                | Self::ResolutionCompleted { .. }
                | Self::ResolutionAbandoned { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Replaced;

    fn progress(kind: &EventKind) -> u8 {
        kind.headway().unwrap().progress
    }

    #[test]
    fn a_document_goes_from_nothing_to_all_and_never_back() {
        let mut seen = vec![progress(&EventKind::DocumentStarted)];
        for stage in Stage::of_a_document() {
            for current in 0..3 {
                seen.push(progress(&EventKind::StageProgress {
                    stage,
                    current,
                    total: 3,
                }));
            }
            if stage != Stage::Assemble {
                seen.push(progress(&EventKind::StageCompleted {
                    stage,
                    units: 3,
                    failed_units: 0,
                }));
            }
        }
        assert!(seen.is_sorted() && seen.iter().all(|&percent| percent < 100));
        let completed = EventKind::DocumentCompleted {
            partial: false,
            entities: 2,
            relations: 1,
            replaced: Replaced::default(),
        };
        let end = completed.headway().unwrap();
        assert_eq!((end.progress, end.entities), (100, Some(2)));
        assert!(completed.ends_execution() && !completed.ends_batch());
    }

    #[test]
    fn a_stage_without_units_is_through_when_it_says_so() {
        let completed = EventKind::StageCompleted {
            stage: Stage::Relations,
            units: 0,
            failed_units: 0,
        };
        assert_eq!(progress(&completed), 80);
    }

    #[test]
    fn what_failed_in_its_last_unit_is_not_all_done() {
        let failed = EventKind::DocumentAbandoned {
            failure: crate::flow::Failure::cancelled(),
            stage: Some(Stage::Assemble),
            reached: Some(Reached {
                current: 1,
                total: 1,
            }),
        };
        let headway = failed.headway().unwrap();
        assert_eq!(
            (headway.progress, headway.status),
            (99, HeadwayStatus::Failed)
        );
    }
}
