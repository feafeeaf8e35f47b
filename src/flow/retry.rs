//! How often a unit is tried and how long it waits in between.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};

/// Tries of a unit: exponential waits with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Retries after the first try. **Source:** the original design (3).
    pub retries: u32,
    /// The first wait. **Source:** the original design (1 s).
    pub first: Duration,
    /// No wait is longer.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `tries`-th failed try (1 is the first); `None` when no try is left.
    ///
    /// The wait doubles each time; the jitter adds up to one more `first`, so that many units that failed
    /// together do not come back together. `seed` makes it the same for the same unit and try.
    #[must_use]
    pub fn wait_after(&self, tries: u32, seed: u64) -> Option<Duration> {
        if tries > self.retries {
            return None;
        }
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .with_max_times(self.retries as usize)
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
            .nth(tries.max(1) as usize - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_second_and_end_after_three() {
        let policy = RetryPolicy::default();
        for (tries, least) in [(1, 1), (2, 2), (3, 4)] {
            let wait = policy.wait_after(tries, 7).unwrap();
            let least = Duration::from_secs(least);
            assert!(wait >= least && wait <= least * 2, "try {tries}: {wait:?}");
        }
        assert_eq!(policy.wait_after(4, 7), None);
    }

    #[test]
    fn no_retries_means_no_wait() {
        let policy = RetryPolicy {
            retries: 0,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.wait_after(1, 7), None);
    }
}
