//! Signals: what somebody asks of an execution, and what becomes of it, decided without a look at the database.
//!
//! A signal is answered at once where nobody works on the execution; where somebody does, the holder of the lease
//! answers it at its next unit boundary or settle. It is answered exactly once, in any state.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ExecutionEvent, ExecutionStatus};

/// Why something is paused that somebody paused by a signal.
pub const PAUSED_BY_HAND: &str = "by hand";

/// What may be asked of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// End it.
    Cancel,
    /// Let it wait until somebody resumes it.
    Pause,
    /// Let it go on.
    Resume,
    /// Give what failed another try, now.
    Retry,
}

/// How an execution stands when a signal reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub status: ExecutionStatus,
    /// It is paused, or its holder has been told to pause.
    pub paused: bool,
    /// Somebody holds a live lease on it.
    pub leased: bool,
}

/// What a signal brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This is how the execution stands now.
    Done(Standing),
    /// The holder of the lease answers.
    Holder,
    /// There is nothing left that it could change.
    TooLate,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 4] = [Self::Cancel, Self::Pause, Self::Resume, Self::Retry];

    /// What the signal brings about.
    #[must_use]
    pub fn answer(self, standing: Standing) -> Answer {
        let Standing {
            status,
            paused,
            leased,
        } = standing;
        if status.is_final() {
            return Answer::TooLate;
        }
        match self {
            Self::Cancel => match status.on(ExecutionEvent::Cancel) {
                Ok(_) if leased => Answer::Holder,
                Ok(status) => Answer::Done(Standing {
                    status,
                    paused: false,
                    leased: false,
                }),
                Err(_) => Answer::TooLate,
            },
            Self::Pause if leased => Answer::Holder,
            // A paused document does not keep its batch's slot.
            Self::Pause => Answer::Done(Standing {
                status: status.on(ExecutionEvent::Postpone).unwrap_or(status),
                paused: true,
                leased,
            }),
            Self::Resume if paused => Answer::Done(Standing {
                paused: false,
                ..standing
            }),
            Self::Resume => Answer::TooLate,
            Self::Retry => match status.on(ExecutionEvent::Revive) {
                // Who wants it tried now does not want it to be paused.
                Ok(status) => Answer::Done(Standing {
                    status,
                    paused: false,
                    leased,
                }),
                // It waits for its next try anyway: that one comes now.
                Err(_) if status == ExecutionStatus::Retry => Answer::Done(Standing {
                    paused: false,
                    ..standing
                }),
                Err(_) => Answer::TooLate,
            },
        }
    }

    /// The signal's name in tables, flags and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Signal {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.as_str() == name)
            .ok_or_else(|| format!("`{name}` is not a signal: cancel, pause, resume, retry"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> impl Iterator<Item = (Signal, Standing)> {
        Signal::ALL.into_iter().flat_map(|signal| {
            ExecutionStatus::ALL.into_iter().flat_map(move |status| {
                [(false, false), (false, true), (true, false), (true, true)].map(
                    |(paused, leased)| {
                        let standing = Standing {
                            status,
                            paused,
                            // Only what is processed is leased.
                            leased: leased && status == ExecutionStatus::Processing,
                        };
                        (signal, standing)
                    },
                )
            })
        })
    }

    #[test]
    fn nothing_reaches_what_is_final() {
        for (signal, standing) in every().filter(|(_, standing)| standing.status.is_final()) {
            assert_eq!(signal.answer(standing), Answer::TooLate, "{signal}");
        }
    }

    #[test]
    fn a_holder_is_asked_to_cancel_and_to_pause_and_to_nothing_else() {
        for (signal, standing) in every() {
            let holder = matches!(signal, Signal::Cancel | Signal::Pause) && standing.leased;
            assert_eq!(
                signal.answer(standing) == Answer::Holder,
                holder,
                "{signal} {standing:?}"
            );
        }
    }

    #[test]
    fn an_answer_leaves_a_slot_only_to_what_is_not_paused() {
        for (signal, standing) in every() {
            if let Answer::Done(after) = signal.answer(standing)
                && signal == Signal::Pause
            {
                assert!(after.paused && after.status != ExecutionStatus::Processing);
            }
        }
    }

    #[test]
    fn a_failed_document_is_revived_and_a_waiting_one_comes_at_once() {
        let standing = |status| Standing {
            status,
            paused: false,
            leased: false,
        };
        for from in [ExecutionStatus::Failed, ExecutionStatus::Retry] {
            assert_eq!(
                Signal::Retry.answer(standing(from)),
                Answer::Done(standing(ExecutionStatus::Retry))
            );
        }
        let working = standing(ExecutionStatus::Processing);
        assert_eq!(Signal::Retry.answer(working), Answer::TooLate);
    }
}
