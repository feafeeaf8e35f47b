//! The machine of a webhook's delivery: what an attempt means for it.
//!
//! A delivery waits until a receiver took it or it is given up; both are final.

use std::{fmt, str::FromStr, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};

/// Attempts in all.
///
/// **Source:** with the waits below they span 19 to 26 hours; Standard Webhooks advises "multiple days" for services
/// and ten attempts, and a batch's state can be asked for at any time.
const ATTEMPTS: u32 = 10;
/// The wait after the first attempt, and how much longer each next one is. **Source:** Standard Webhooks: 5 s, then
/// minutes, then hours.
const FIRST: Duration = Duration::from_secs(5);
const FACTOR: f32 = 4.0;
/// No wait is longer, whatever the receiver asks for.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// It will be attempted, or is being attempted.
    Waiting,
    /// The receiver took it.
    Delivered,
    /// It will not be attempted any more.
    GivenUp,
}

impl DeliveryStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::GivenUp];

    /// The status' name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that no delivery's status has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no status of a delivery has this name")]
pub struct UnknownDeliveryStatus;

impl FromStr for DeliveryStatus {
    type Err = UnknownDeliveryStatus;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == name)
            .ok_or(UnknownDeliveryStatus)
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer with this status, and the wait that it asks for.
    Answer(u16, Option<Duration>),
    /// None in time, or none at all.
    Nothing,
}

/// What follows from the `attempt`-th attempt (1 is the first): the status, and how long to wait for the next one.
/// `seed` makes the jitter.
///
/// 2xx is taken; 410 says that nobody will ever listen there again. Everything else may be a mistake that somebody
/// mends within hours, a wrong path or a wrong secret too, so it is tried again; so is a redirect, which is not
/// followed.
#[must_use]
pub fn after_attempt(attempt: u32, heard: Heard, seed: u64) -> (DeliveryStatus, Duration) {
    let asked = match heard {
        Heard::Answer(200..=299, _) => return (DeliveryStatus::Delivered, Duration::ZERO),
        Heard::Answer(410, _) => return (DeliveryStatus::GivenUp, Duration::ZERO),
        Heard::Answer(_, asked) => asked,
        Heard::Nothing => None,
    };
    let wait = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_factor(FACTOR)
        .with_max_delay(LONGEST)
        .with_max_times(ATTEMPTS as usize - 1)
        .build()
        .nth(attempt.max(1) as usize - 1);
    match wait {
        None => (DeliveryStatus::GivenUp, Duration::ZERO),
        Some(wait) => {
            let wait = wait.max(asked.unwrap_or_default().min(LONGEST));
            (DeliveryStatus::Waiting, jittered(wait, seed))
        }
    }
}

/// Up to a quarter longer, so that what failed together does not come back together.
fn jittered(wait: Duration, seed: u64) -> Duration {
    let part = u32::try_from(seed % 1000).unwrap_or(0);
    wait + wait / 4 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Heard = Heard::Answer(500, None);

    #[test]
    fn what_is_taken_is_delivered_and_gone_is_gone() {
        for status in [200, 202, 204, 299] {
            let (after, _) = after_attempt(1, Heard::Answer(status, None), 1);
            assert_eq!(after, DeliveryStatus::Delivered, "{status}");
        }
        let (after, _) = after_attempt(1, Heard::Answer(410, None), 1);
        assert_eq!(after, DeliveryStatus::GivenUp);
    }

    #[test]
    fn everything_else_is_tried_again() {
        for heard in [301, 302, 307, 400, 401, 404, 408, 429, 500, 503]
            .map(|status| Heard::Answer(status, None))
            .into_iter()
            .chain([Heard::Nothing])
        {
            let (after, wait) = after_attempt(1, heard, 1);
            assert_eq!(after, DeliveryStatus::Waiting, "{heard:?}");
            assert!(wait >= FIRST, "{heard:?}: {wait:?}");
        }
    }

    #[test]
    fn the_attempts_span_most_of_a_day_and_end() {
        for seed in [0, 999] {
            let mut all = Duration::ZERO;
            let mut last = Duration::ZERO;
            for attempt in 1..ATTEMPTS {
                let (after, wait) = after_attempt(attempt, REFUSED, seed);
                assert_eq!(after, DeliveryStatus::Waiting);
                assert!(wait >= last, "attempt {attempt}: {wait:?}");
                (all, last) = (all + wait, wait);
            }
            let hours = all.as_secs() / 3600;
            assert!((19..26).contains(&hours), "{hours} hours");
            let (after, _) = after_attempt(ATTEMPTS, REFUSED, seed);
            assert_eq!(after, DeliveryStatus::GivenUp);
        }
    }

    #[test]
    fn what_the_receiver_asks_for_is_heeded_within_reason() {
        let asks = |seconds| Heard::Answer(429, Some(Duration::from_secs(seconds)));
        let wait = |heard| after_attempt(1, heard, 0).1;
        assert_eq!(wait(asks(1)), FIRST);
        assert_eq!(wait(asks(60)), Duration::from_secs(60));
        assert_eq!(wait(asks(1 << 40)), LONGEST);
    }

    #[test]
    fn the_names_are_read_back() {
        for status in DeliveryStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("sent".parse::<DeliveryStatus>(), Err(UnknownDeliveryStatus));
    }
}
