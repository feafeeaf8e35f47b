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

/// How many documents of a batch may be given up before the rest is not worth its cost any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tolerance {
    /// So many.
    Documents(u32),
    /// So many hundredths of a percent of the batch's documents; 10,000 are all.
    Share(u32),
}

impl Tolerance {
    /// Whether `failures` are too many among `total` documents. While more may come (`sealed` is false), a share is
    /// exceeded only if no number of successes could make up for it, which is so where none is tolerated.
    #[must_use]
    pub const fn is_exceeded(self, failures: u64, total: u64, sealed: bool) -> bool {
        match self {
            Self::Documents(most) => failures > most as u64,
            Self::Share(0) => failures > 0,
            Self::Share(share) => {
                sealed && failures.saturating_mul(10_000) > total.saturating_mul(share as u64)
            }
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Documents(most) => write!(f, "{most}"),
            Self::Share(share) => match (share / 100, share % 100) {
                (percent, 0) => write!(f, "{percent}%"),
                (percent, part) if part % 10 == 0 => write!(f, "{percent}.{}%", part / 10),
                (percent, part) => write!(f, "{percent}.{part:02}%"),
            },
        }
    }
}

impl FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is neither a number of documents nor a percentage (`10`, `5%`, `0.5%`)"
            )
        };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        let Some(percent) = text.strip_suffix('%') else {
            return number(text).map(Self::Documents).ok_or_else(wrong);
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let part = match (part.len(), number(part)) {
            (1, Some(tenths)) => tenths * 10,
            (2, Some(hundredths)) => hundredths,
            _ => return Err(wrong()),
        };
        let share = number(whole)
            .and_then(|whole| whole.checked_mul(100)?.checked_add(part))
            .ok_or_else(wrong)?;
        if share > 10_000 {
            return Err(format!("`{text}` is more than all documents (`100%`)"));
        }
        Ok(Self::Share(share))
    }
}

/// What a batch does about documents that fail: its policy, and how many of them it puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FailureRules {
    /// What is done about each.
    pub policy: FailurePolicy,
    /// How many may be given up; none is as many as there are.
    pub tolerance: Option<Tolerance>,
}

impl From<FailurePolicy> for FailureRules {
    fn from(policy: FailurePolicy) -> Self {
        Self {
            policy,
            tolerance: None,
        }
    }
}

impl FailureRules {
    /// Whether a batch of `total` documents, of which `abandoned` were given up, gives up the rest. Documents that
    /// wait for another round are not given up yet.
    #[must_use]
    pub const fn give_up(self, abandoned: u64, total: u64, sealed: bool) -> bool {
        if self.policy.aborts_batch() && abandoned > 0 {
            return true;
        }
        match self.tolerance {
            Some(tolerance) => tolerance.is_exceeded(abandoned, total, sealed),
            None => false,
        }
    }

    /// Why a batch gave up the rest, for people.
    #[must_use]
    pub fn reason(self, abandoned: u64) -> String {
        match self.tolerance {
            Some(tolerance) if !self.policy.aborts_batch() => {
                let what = if abandoned == 1 {
                    "1 document was".to_owned()
                } else {
                    format!("{abandoned} documents were")
                };
                format!(
                    "{what} abandoned, more than the batch puts up with (max-failures {tolerance})"
                )
            }
            Some(_) | None => "a document was abandoned and the policy is abort-all".to_owned(),
        }
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
    fn a_tolerance_is_written_as_it_is_read() {
        for text in ["0", "10", "0%", "5%", "0.5%", "0.05%", "12.34%", "100%"] {
            assert_eq!(text.parse::<Tolerance>().unwrap().to_string(), text);
        }
        assert_eq!("5.00%".parse::<Tolerance>().unwrap().to_string(), "5%");
        for text in [
            "",
            "%",
            "-1",
            "+1",
            "1.5",
            "1.%",
            ".5%",
            "101%",
            "100.01%",
            "0.001%",
            "x",
            "5 %",
            "99999999999",
        ] {
            text.parse::<Tolerance>().expect_err(text);
        }
    }

    #[test]
    fn a_share_is_of_all_documents_and_is_judged_when_all_are_known() {
        let share = Tolerance::Share(1_000);
        assert!(!share.is_exceeded(1, 10, true), "a tenth is tolerated");
        assert!(share.is_exceeded(2, 10, true));
        assert!(!share.is_exceeded(2, 10, false), "ninety more may succeed");
        assert!(Tolerance::Share(0).is_exceeded(1, 10, false));
        assert!(!Tolerance::Share(10_000).is_exceeded(10, 10, true));
        assert!(Tolerance::Documents(0).is_exceeded(1, 10, false));
        assert!(!Tolerance::Documents(3).is_exceeded(3, 3, true));
        assert!(Tolerance::Documents(3).is_exceeded(4, 4, false));
    }

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
