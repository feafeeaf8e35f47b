//! What a batch does about a document that fails, in whole or in part.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The failure policy of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailurePolicy {
    /// The rest go on; the batch completes with a list of failures, and fails only if nothing succeeded.
    ContinueOnFailure,
    /// The first abandoned document cancels the rest, and the batch fails.
    AbortAll,
    /// When the others are through, failed documents get another round.
    RetryFailed,
}

/// What becomes of a document whose tries are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It stays failed until the others are through, then gets another round.
    AwaitRound,
    /// It is given up.
    Abandon,
}

impl FailurePolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::ContinueOnFailure, Self::AbortAll, Self::RetryFailed];

    /// What becomes of a document that failed in its `round`-th extra round (0 is the first pass), when
    /// `max_retries` extra rounds are allowed.
    #[must_use]
    pub const fn on_failure(self, round: i32, max_retries: i32) -> Verdict {
        match self {
            Self::RetryFailed if round < max_retries => Verdict::AwaitRound,
            Self::ContinueOnFailure | Self::AbortAll | Self::RetryFailed => Verdict::Abandon,
        }
    }

    /// Whether an abandoned document cancels the rest of its batch.
    #[must_use]
    pub const fn aborts_batch(self) -> bool {
        match self {
            Self::AbortAll => true,
            Self::ContinueOnFailure | Self::RetryFailed => false,
        }
    }

    /// The policy's name in tables and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ContinueOnFailure => "continue-on-failure",
            Self::AbortAll => "abort-all",
            Self::RetryFailed => "retry-failed",
        }
    }
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FailurePolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or_else(|| {
                format!(
                    "`{name}` is not a failure policy: continue-on-failure, abort-all, retry-failed"
                )
            })
    }
}

/// What becomes of a document some of whose units failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartialPolicy {
    /// It goes on without them, and ends as partial; if every unit of a stage failed, it fails.
    Allow,
    /// It fails.
    Fail,
}

impl PartialPolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Fail];

    /// The policy of a batch that asks for none: what was paid for is not thrown away, and what costs nothing is
    /// better whole.
    #[must_use]
    pub const fn default_for(paid: bool) -> Self {
        if paid { Self::Allow } else { Self::Fail }
    }

    /// The policy's name in flags and bodies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Fail => "fail",
        }
    }
}

impl FromStr for PartialPolicy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == name)
            .ok_or_else(|| {
                format!("`{name}` says not what becomes of a partial document: allow, fail")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_retry_failed_gives_rounds_and_only_so_many() {
        assert_eq!(
            FailurePolicy::RetryFailed.on_failure(0, 2),
            Verdict::AwaitRound
        );
        assert_eq!(
            FailurePolicy::RetryFailed.on_failure(1, 2),
            Verdict::AwaitRound
        );
        assert_eq!(
            FailurePolicy::RetryFailed.on_failure(2, 2),
            Verdict::Abandon
        );
        assert_eq!(
            FailurePolicy::ContinueOnFailure.on_failure(0, 2),
            Verdict::Abandon
        );
        assert_eq!(FailurePolicy::AbortAll.on_failure(0, 2), Verdict::Abandon);
    }
}
