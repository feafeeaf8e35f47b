//! The machine of an execution: `queued → processing → completed`, with `retry`, `failed`, `abandoned` and
//! `cancelled` beside that road.
//!
//! The status `processing` *is* the batch's concurrency slot; who works on it at the moment is the lease's
//! business, not the status'.

use std::{fmt, str::FromStr};

use super::IllegalMove;

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionStatus {
    /// Waits to be admitted.
    Queued,
    /// Admitted: holds one of its batch's slots until it ends or goes to `Retry`.
    Processing,
    /// Waits until it is due, then is admitted again.
    Retry,
    /// Out of tries, and its batch's policy still has a round to give.
    Failed,
    /// Final: every stage settled (perhaps with failed units: partial).
    Completed,
    /// Final: out of tries and rounds.
    Abandoned,
    /// Final: stopped by hand or by `abort-all`.
    Cancelled,
}

/// What can befall an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionEvent {
    /// The stager gives it a slot.
    Admit,
    /// A stage settled and another follows.
    Advance,
    /// The last stage settled.
    Complete,
    /// Units failed with tries left, or work is given back: it waits for a due time.
    Postpone,
    /// Units failed and no try is left.
    Fail,
    /// The policy has no round to give.
    Abandon,
    /// The policy gives it another round.
    Revive,
    /// Someone cancelled it.
    Cancel,
}

impl ExecutionStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Processing,
        Self::Retry,
        Self::Failed,
        Self::Completed,
        Self::Abandoned,
        Self::Cancelled,
    ];

    /// The transition function: where `event` leads from here.
    ///
    /// # Errors
    /// [`IllegalMove`] names the state and the event; trying again does not help.
    pub fn on(self, event: ExecutionEvent) -> Result<Self, IllegalMove> {
        use ExecutionEvent as E;
        match (self, event) {
            (Self::Queued | Self::Retry, E::Admit) | (Self::Processing, E::Advance) => {
                Ok(Self::Processing)
            }
            (Self::Processing, E::Complete) => Ok(Self::Completed),
            (Self::Processing, E::Postpone) | (Self::Failed, E::Revive) => Ok(Self::Retry),
            (Self::Processing, E::Fail) => Ok(Self::Failed),
            (Self::Failed, E::Abandon) => Ok(Self::Abandoned),
            (Self::Queued | Self::Processing | Self::Retry | Self::Failed, E::Cancel) => {
                Ok(Self::Cancelled)
            }
            (
                Self::Queued
                | Self::Processing
                | Self::Retry
                | Self::Failed
                | Self::Completed
                | Self::Abandoned
                | Self::Cancelled,
                _,
            ) => Err(IllegalMove {
                machine: "execution",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// Nothing leads out of a final status.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Abandoned | Self::Cancelled)
    }

    /// The status' name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for ExecutionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExecutionStatus {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| format!("`{name}` is not an execution status"))
    }
}

impl ExecutionEvent {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Admit,
        Self::Advance,
        Self::Complete,
        Self::Postpone,
        Self::Fail,
        Self::Abandon,
        Self::Revive,
        Self::Cancel,
    ];

    /// The event's name in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Advance => "advance",
            Self::Complete => "complete",
            Self::Postpone => "postpone",
            Self::Fail => "fail",
            Self::Abandon => "abandon",
            Self::Revive => "revive",
            Self::Cancel => "cancel",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_failed_document_is_revived_or_abandoned() {
        let failed = ExecutionStatus::Processing
            .on(ExecutionEvent::Fail)
            .unwrap();
        assert_eq!(
            failed.on(ExecutionEvent::Revive),
            Ok(ExecutionStatus::Retry)
        );
        assert_eq!(
            failed.on(ExecutionEvent::Abandon),
            Ok(ExecutionStatus::Abandoned)
        );
    }

    #[test]
    fn an_illegal_move_names_state_and_event() {
        let refused = ExecutionStatus::Completed
            .on(ExecutionEvent::Admit)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "illegal move of execution: `admit` in state `completed`"
        );
    }

    #[test]
    fn final_states_are_final() {
        for status in ExecutionStatus::ALL {
            let stuck = ExecutionEvent::ALL
                .into_iter()
                .all(|event| status.on(event).is_err());
            assert_eq!(status.is_final(), stuck, "{status}");
        }
    }

    #[test]
    fn only_what_is_not_final_can_be_cancelled() {
        for status in ExecutionStatus::ALL {
            assert_eq!(
                status.on(ExecutionEvent::Cancel).is_ok(),
                !status.is_final(),
                "{status}"
            );
        }
    }

    proptest! {
        #[test]
        fn random_events_never_leave_the_road(events in prop::collection::vec(0..8_usize, 0..40)) {
            let mut status = ExecutionStatus::Queued;
            let mut admitted = false;
            for event in events.into_iter().map(|index| ExecutionEvent::ALL[index]) {
                match status.on(event) {
                    Ok(next) => {
                        prop_assert!(!status.is_final());
                        admitted |= event == ExecutionEvent::Admit;
                        // Work can only have succeeded or failed if it was admitted.
                        if matches!(next, ExecutionStatus::Completed | ExecutionStatus::Failed) {
                            prop_assert!(admitted);
                        }
                        status = next;
                    }
                    Err(refused) => {
                        prop_assert_eq!(refused.state, status.as_str());
                        prop_assert_eq!(refused.event, event.as_str());
                    }
                }
            }
        }
    }
}
