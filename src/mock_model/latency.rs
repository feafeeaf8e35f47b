//! How long an answer takes: `100ms`, `50ms..150ms` (uniform), `~100ms` (exponential, by its mean), `2ms/token`, and
//! sums of these.
//!
//! Knows chance and nothing of requests. Invariant: the same seed gives the same times.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// Chance that can be repeated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(u64);

impl Chance {
    /// The chance of one thing among many: its numbers depend on nothing else.
    pub(super) fn of(parts: &[u64]) -> Self {
        let mut chance = Self(0);
        for part in parts {
            chance.0 ^= *part;
            chance.0 = chance.next();
        }
        chance
    }

    /// **Source:** splitmix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1.
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what a double holds"
    )]
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// One part of a latency.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Fixed(Duration),
    Uniform(Duration, Duration),
    Exponential(Duration),
    PerToken(Duration),
}

/// How long an answer takes; nothing by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latency(Vec<Part>);

/// Why a text is no latency.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no latency: write 100ms, 50ms..150ms (uniform), ~100ms (exponential), 2ms/token, or a sum of them (+)"
)]
pub struct LatencyError(String);

impl FromStr for Latency {
    type Err = LatencyError;

    fn from_str(text: &str) -> Result<Self, LatencyError> {
        text.split('+')
            .map(|part| part_of(part.trim()).ok_or_else(|| LatencyError(text.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn part_of(text: &str) -> Option<Part> {
    let duration = |text: &str| humantime::parse_duration(text.trim()).ok();
    if let Some((least, most)) = text.split_once("..") {
        let (least, most) = (duration(least)?, duration(most)?);
        (least <= most).then_some(Part::Uniform(least, most))
    } else if let Some(mean) = text.strip_prefix('~') {
        duration(mean).map(Part::Exponential)
    } else if let Some(each) = text.strip_suffix("/token") {
        duration(each).map(Part::PerToken)
    } else {
        duration(text).map(Part::Fixed)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Latency {
    /// The time that an answer of so many tokens takes.
    pub(super) fn sample(&self, chance: &mut Chance, tokens: u64) -> Duration {
        self.0
            .iter()
            .map(|part| match *part {
                Part::Fixed(time) => time,
                Part::Uniform(least, most) => {
                    least + most.saturating_sub(least).mul_f64(chance.fraction())
                }
                Part::Exponential(mean) => mean.mul_f64(-(1.0 - chance.fraction()).ln()),
                Part::PerToken(each) => {
                    each.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX))
                }
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_what_it_says() {
        let millis = |text: &str, seed: u64| {
            let latency: Latency = text.parse().unwrap();
            latency.sample(&mut Chance::of(&[seed]), 10).as_secs_f64() * 1000.0
        };
        assert!((millis("100ms", 1) - 100.0).abs() < 1e-6);
        assert!((millis("10ms + 2ms/token", 1) - 30.0).abs() < 1e-6);
        let uniform: Vec<f64> = (0..1000).map(|seed| millis("50ms..150ms", seed)).collect();
        assert!(uniform.iter().all(|time| (50.0..150.0).contains(time)));
        for text in ["50ms..150ms", "~100ms"] {
            let mean = (0..5000).map(|seed| millis(text, seed)).sum::<f64>() / 5000.0;
            assert!((90.0..110.0).contains(&mean), "{text}: {mean}");
            assert!((millis(text, 7) - millis(text, 7)).abs() < 1e-9);
        }
        for text in ["", "100", "9ms..1ms", "~", "fast"] {
            text.parse::<Latency>().unwrap_err();
        }
    }
}
