//! What may be asked of a batch from outside while it lives: add documents to it, take some away, keep it open, seal
//! it, work it again otherwise. Decided without a look at the database.
//!
//! An unsealed batch takes changes as they come; a sealed one that has not ended takes none; one that has ended takes
//! them into its next generation, which whoever changes it seals again.

use serde::{Deserialize, Serialize};

use super::{BatchStateName, IllegalMove, Stopping};

/// What may be asked of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchChange {
    /// Add documents, or newer versions of them.
    Add,
    /// Take documents away.
    Remove,
    /// Say that no more documents will come.
    Seal,
    /// Work what it holds again, from a stage on.
    Rerun,
}

impl BatchChange {
    /// Every change.
    pub const ALL: [Self; 4] = [Self::Add, Self::Remove, Self::Seal, Self::Rerun];

    /// The change's name in refusals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Seal => "seal",
            Self::Rerun => "rerun",
        }
    }
}

/// Who will seal an unsealed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filling {
    /// Its first documents are being submitted.
    Submission,
    /// Its next generation is being filled with what is tried again.
    Retry,
    /// Its next generation is being filled with what changes.
    Addition,
    /// Its next generation is being filled with all that it holds.
    Rerun,
}

impl Filling {
    /// Whether documents that the batch has are given new executions: which ones was decided when it began.
    #[must_use]
    pub const fn is_of_its_own(self) -> bool {
        matches!(self, Self::Retry | Self::Rerun)
    }

    /// The name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Retry => "retry",
            Self::Addition => "addition",
            Self::Rerun => "rerun",
        }
    }
}

/// Whether a batch takes documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It does, until somebody seals it by hand.
    Open,
    /// It does, until whoever fills it is through.
    Filling(Filling),
    /// It does not.
    Sealed,
}

/// How a batch takes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As it is.
    Now,
    /// Its next generation does.
    NextGeneration,
}

impl Intake {
    /// How a batch in `state` takes `change`.
    ///
    /// # Errors
    /// [`IllegalMove`] names the state and what was asked. Once the batch has ended, trying again helps, but for a
    /// seal.
    pub fn take(
        self,
        state: BatchStateName,
        stopping: Option<Stopping>,
        change: BatchChange,
    ) -> Result<Admission, IllegalMove> {
        let refused = |machine| {
            Err(IllegalMove {
                machine,
                state: state.as_str(),
                event: change.as_str(),
            })
        };
        match (self, change) {
            (_, BatchChange::Add | BatchChange::Remove | BatchChange::Rerun)
                if state.has_ended() =>
            {
                Ok(Admission::NextGeneration)
            }
            (_, BatchChange::Seal) if state.has_ended() => refused("ended batch"),
            // What is added would be cancelled at once. Whoever stops a batch seals it, so a seal is never too late.
            (_, BatchChange::Add | BatchChange::Remove | BatchChange::Rerun)
                if stopping.is_some() =>
            {
                refused("stopping batch")
            }
            (Self::Sealed, _) => refused("sealed batch"),
            // It adds what is missing and seals: what came in between would be part of it.
            (Self::Filling(Filling::Retry | Filling::Rerun), _) => refused("batch in preparation"),
            // What it holds is not all there yet.
            (_, BatchChange::Rerun) => refused("open batch"),
            (Self::Open | Self::Filling(Filling::Submission | Filling::Addition), _) => {
                Ok(Admission::Now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTAKES: [Intake; 6] = [
        Intake::Open,
        Intake::Filling(Filling::Submission),
        Intake::Filling(Filling::Retry),
        Intake::Filling(Filling::Addition),
        Intake::Filling(Filling::Rerun),
        Intake::Sealed,
    ];

    #[test]
    fn every_state_takes_a_change_or_says_why_not() {
        for state in BatchStateName::ALL {
            for intake in INTAKES {
                for stopping in [None, Some(Stopping::Cancel), Some(Stopping::Abort)] {
                    for change in BatchChange::ALL {
                        let taken = intake.take(state, stopping, change);
                        let is_open = matches!(
                            intake,
                            Intake::Open | Intake::Filling(Filling::Submission | Filling::Addition)
                        );
                        let wanted = match (state.has_ended(), change) {
                            (true, BatchChange::Seal) | (false, BatchChange::Rerun) => None,
                            (true, _) => Some(Admission::NextGeneration),
                            (false, BatchChange::Seal) => is_open.then_some(Admission::Now),
                            (false, _) => (is_open && stopping.is_none()).then_some(Admission::Now),
                        };
                        match taken {
                            Ok(admission) => assert_eq!(Some(admission), wanted),
                            Err(refused) => {
                                assert_eq!(wanted, None, "{refused}");
                                assert_eq!(refused.state, state.as_str());
                                assert_eq!(refused.event, change.as_str());
                            }
                        }
                    }
                }
            }
        }
    }
}
