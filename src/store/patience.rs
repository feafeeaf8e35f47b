//! Repeating a transaction while its error is transient, for some ten seconds.
//!
//! A transaction whose commit has an unknown outcome is repeated too: if it was committed, its fence no longer holds,
//! the repeat finds that out, and the rows say which it was.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tracing::debug;

use super::StoreError;

/// How much patience is left.
#[derive(Debug)]
pub struct Patience(ExponentialBackoff);

impl Patience {
    /// All of it.
    #[must_use]
    pub fn new() -> Self {
        Self(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(50))
                .with_max_delay(Duration::from_secs(2))
                .with_max_times(9)
                .with_jitter()
                .build(),
        )
    }

    /// Whether to try again after `error`: waits a while if so.
    pub async fn again(&mut self, error: &StoreError) -> bool {
        if !error.is_transient() {
            return false;
        }
        let Some(wait) = self.0.next() else {
            return false;
        };
        debug!(error = error as &dyn std::error::Error, "trying again");
        tokio::time::sleep(wait).await;
        true
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}
