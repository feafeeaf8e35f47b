//! How fast a batch goes: two earlier looks at how many of its documents had ended. The sequencer keeps them with the
//! batch, so that whoever looks, once or all the time, on whichever machine, is told the same rate.
//!
//! Times are milliseconds by one clock, the database's; this file has none of its own. Invariant: what can't be
//! estimated yet is `None`, never a guess.

use serde::{Deserialize, Serialize};

/// The shortest stretch that a rate is taken over once there are two looks, in milliseconds.
///
/// **Source:** half a minute is short enough to follow a change, and long enough for documents that end in groups.
const SPAN: i64 = 30_000;
/// The least documents that a rate is taken over once there are two looks.
///
/// **Source:** the error of a rate over `n` is about one in the root of `n`.
const ENOUGH: u64 = 10;
/// The least that says anything at all: so many documents, over so many milliseconds.
const LEAST: (u64, i64) = (3, 1000);

/// Two looks: the rate is taken from the earlier one on; the later one takes its place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    since: Look,
    mark: Look,
}

/// So many documents had ended at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    at: i64,
    ended: u64,
}

impl Pace {
    /// The first look.
    #[must_use]
    pub const fn begin(at: i64, ended: u64) -> Self {
        let look = Look { at, ended };
        Self {
            since: look,
            mark: look,
        }
    }

    /// Another look; most change nothing.
    #[must_use]
    pub const fn look(self, at: i64, ended: u64) -> Self {
        if ended < self.mark.ended {
            // Documents were opened again.
            return Self::begin(at, ended);
        }
        if at - self.mark.at < SPAN || ended - self.mark.ended < ENOUGH {
            return self;
        }
        Self {
            since: self.mark,
            mark: Look { at, ended },
        }
    }

    /// Documents a minute, as seen at `at`: it falls while nothing ends. `None`: too few have ended to say.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn per_minute(&self, at: i64, ended: u64) -> Option<f64> {
        let documents = ended.checked_sub(self.since.ended)?;
        let time = at - self.since.at;
        (documents >= LEAST.0 && time >= LEAST.1).then(|| documents as f64 * 60_000.0 / time as f64)
    }

    /// Seconds until `left` more have ended at this rate.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time for people"
    )]
    pub fn seconds_left(&self, at: i64, ended: u64, left: u64) -> Option<u64> {
        let rate = self.per_minute(at, ended)?;
        Some((left as f64 * 60.0 / rate).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_said_before_something_is_known() {
        let pace = Pace::begin(0, 0);
        assert_eq!(pace.per_minute(60_000, 0), None);
        assert_eq!(pace.per_minute(60_000, 2), None);
        assert_eq!(pace.per_minute(500, 100), None);
        assert_eq!(pace.per_minute(60_000, 3), Some(3.0));
        assert_eq!(pace.seconds_left(60_000, 3, 6), Some(120));
    }

    #[test]
    fn the_rate_follows_a_change_and_falls_while_nothing_ends() {
        // Sixty a minute for ten minutes, then six.
        let mut pace = Pace::begin(0, 0);
        for second in 1..=600 {
            pace = pace.look(second * 1000, second.unsigned_abs());
        }
        assert_eq!(pace.per_minute(600_000, 600), Some(60.0));
        let later = |minutes: i64| (600_000 + minutes * 60_000, 600 + 6 * minutes.unsigned_abs());
        for minute in 1..=6 {
            let (at, ended) = later(minute);
            pace = pace.look(at, ended);
        }
        let (at, ended) = later(6);
        let rate = pace.per_minute(at, ended).unwrap();
        assert!((5.9..6.5).contains(&rate), "{rate}");
        let stalled = pace.per_minute(at + 3_600_000, ended).unwrap();
        assert!(stalled < rate / 5.0, "{stalled}");
    }

    #[test]
    fn documents_that_are_opened_again_begin_it_anew() {
        let pace = Pace::begin(0, 0).look(60_000, 100).look(70_000, 40);
        assert_eq!(pace, Pace::begin(70_000, 40));
    }

    proptest! {
        #[test]
        fn a_steady_pace_is_found_however_often_it_is_looked_at(
            every in 1..20_000_i64, looks in prop::collection::vec(1..60_000_i64, 1..200),
        ) {
            let mut pace = Pace::begin(0, 0);
            let mut at = 0;
            for step in looks {
                at += step;
                pace = pace.look(at, (at / every).unsigned_abs());
            }
            if let Some(rate) = pace.per_minute(at, (at / every).unsigned_abs()) {
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let wanted = 60_000.0 / every as f64;
                // Off by one document in three, at the most.
                prop_assert!((wanted * 0.66..wanted * 1.51).contains(&rate), "{} is not {}", rate, wanted);
            }
        }
    }
}
