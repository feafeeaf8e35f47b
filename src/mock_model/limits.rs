//! Limits that hold: what is beyond them is refused, and told when to come again.
//!
//! Knows times and counts. Only what was let in counts, so that a client that comes too often is not shut out for ever.

use std::{collections::VecDeque, time::Duration};

use super::script::Limits;

const MINUTE: Duration = Duration::from_secs(60);

/// What was let in within the window.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// When, and how many tokens.
    recent: VecDeque<(Duration, u64)>,
}

/// A request that came too early.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    /// What there was too much of.
    pub(super) of: &'static str,
    /// When it can come again.
    pub(super) wait: Duration,
}

impl Admitted {
    /// Lets a request in, with its tokens; `in_flight` has it already.
    pub(super) fn admit(
        &mut self,
        limits: &Limits,
        now: Duration,
        tokens: u64,
        in_flight: u64,
    ) -> Result<(), TooMany> {
        let window = limits.window.unwrap_or(MINUTE);
        while (self.recent.front()).is_some_and(|(at, _)| now.saturating_sub(*at) >= window) {
            self.recent.pop_front();
        }
        if limits.concurrency.is_some_and(|most| in_flight > most) {
            return Err(TooMany {
                of: "concurrent requests",
                wait: Duration::from_secs(1),
            });
        }
        let free_at = |at: Duration| (at + window).saturating_sub(now);
        if let Some(rpm) = limits.rpm {
            let index = self
                .recent
                .len()
                .checked_sub(usize::try_from(rpm).unwrap_or(usize::MAX));
            if let Some((at, _)) = index.and_then(|index| self.recent.get(index)) {
                let wait = free_at(*at);
                return Err(TooMany {
                    of: "requests",
                    wait,
                });
            }
        }
        if let Some(tpm) = limits.tpm {
            let mut used: u64 = self.recent.iter().map(|(_, tokens)| tokens).sum();
            let mut wait = None;
            for (at, spent) in &self.recent {
                if used + tokens <= tpm {
                    break;
                }
                used -= spent;
                wait = Some(free_at(*at));
            }
            if let Some(wait) = wait {
                return Err(TooMany { of: "tokens", wait });
            }
        }
        self.recent.push_back((now, tokens));
        Ok(())
    }

    /// What the request that was let in last cost in truth; the rest is given back.
    pub(super) fn settle(&mut self, tokens: u64) {
        if let Some((_, reserved)) = self.recent.back_mut() {
            *reserved = tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rpm: Option<u64>, tpm: Option<u64>, concurrency: Option<u64>) -> Limits {
        Limits {
            rpm,
            tpm,
            concurrency,
            window: None,
        }
    }

    #[test]
    fn the_window_slides() {
        let limits = limits(Some(2), None, None);
        let mut admitted = Admitted::default();
        let mut admit = |second| admitted.admit(&limits, Duration::from_secs(second), 1, 1);
        assert_eq!(admit(0), Ok(()));
        assert_eq!(admit(50), Ok(()));
        let wait = Duration::from_secs(1);
        let of = "requests";
        assert_eq!(admit(59), Err(TooMany { of, wait }));
        assert_eq!(admit(60), Ok(()));
        let wait = Duration::from_secs(49);
        assert_eq!(admit(61), Err(TooMany { of, wait }));
    }

    #[test]
    fn tokens_and_requests_in_flight_are_limited_too() {
        let limits = limits(None, Some(100), Some(3));
        let mut admitted = Admitted::default();
        let mut admit = |second, tokens, in_flight| {
            let now = Duration::from_secs(second);
            admitted
                .admit(&limits, now, tokens, in_flight)
                .map_err(|refused| (refused.of, refused.wait.as_secs()))
        };
        assert_eq!(admit(0, 60, 1), Ok(()));
        assert_eq!(admit(10, 40, 3), Ok(()));
        assert_eq!(admit(20, 61, 1), Err(("tokens", 50)));
        assert_eq!(admit(20, 1, 1), Err(("tokens", 40)));
        assert_eq!(admit(20, 1, 4), Err(("concurrent requests", 1)));
        assert_eq!(admit(60, 60, 1), Ok(()));
    }
}
