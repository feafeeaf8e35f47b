//! The machine of an activity, which is one attempt at one stage.

use std::{fmt, str::FromStr};

use super::IllegalMove;

/// Where an activity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivityStatus {
    /// Planned, not begun.
    Pending,
    /// Someone holds the lease for it.
    Running,
    /// Final: its outputs are settled.
    Completed,
    /// Final: it ended with an error, or its lease was lost.
    Failed,
    /// Final: stopped with its execution.
    Cancelled,
    /// Final: the output of an earlier run was reused.
    Skipped,
}

/// What can befall an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivityEvent {
    /// A worker leased the execution.
    Start,
    /// The stage settled.
    Complete,
    /// The stage ended with an error, or the lease was lost.
    Fail,
    /// The execution was cancelled.
    Cancel,
    /// An earlier run's output serves.
    Skip,
}

impl ActivityStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The transition function: where `event` leads from here.
    ///
    /// # Errors
    /// [`IllegalMove`] names the state and the event; trying again does not help.
    pub fn on(self, event: ActivityEvent) -> Result<Self, IllegalMove> {
        use ActivityEvent as E;
        match (self, event) {
            (Self::Pending, E::Start) => Ok(Self::Running),
            (Self::Pending, E::Skip) => Ok(Self::Skipped),
            (Self::Running, E::Complete) => Ok(Self::Completed),
            (Self::Running, E::Fail) => Ok(Self::Failed),
            (Self::Pending | Self::Running, E::Cancel) => Ok(Self::Cancelled),
            (
                Self::Pending
                | Self::Running
                | Self::Completed
                | Self::Failed
                | Self::Cancelled
                | Self::Skipped,
                _,
            ) => Err(IllegalMove {
                machine: "activity",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// Nothing leads out of a final status.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Skipped
        )
    }

    /// The status' name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for ActivityStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActivityStatus {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| format!("`{name}` is not an activity status"))
    }
}

impl ActivityEvent {
    /// Every event.
    pub const ALL: [Self; 5] = [
        Self::Start,
        Self::Complete,
        Self::Fail,
        Self::Cancel,
        Self::Skip,
    ];

    /// The event's name in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Cancel => "cancel",
            Self::Skip => "skip",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn final_states_are_final() {
        for status in ActivityStatus::ALL {
            let stuck = ActivityEvent::ALL
                .into_iter()
                .all(|event| status.on(event).is_err());
            assert_eq!(status.is_final(), stuck, "{status}");
        }
    }

    proptest! {
        #[test]
        fn an_activity_ends_at_most_once(events in prop::collection::vec(0..5_usize, 0..20)) {
            let mut status = ActivityStatus::Pending;
            let mut ends = 0;
            for event in events.into_iter().map(|index| ActivityEvent::ALL[index]) {
                if let Ok(next) = status.on(event) {
                    ends += u32::from(next.is_final());
                    status = next;
                }
            }
            prop_assert!(ends <= 1);
        }
    }
}
