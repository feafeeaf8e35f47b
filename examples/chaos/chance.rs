//! Chance with a seed: the same seed draws the same faults. Knows nothing of what is drawn.

use std::time::Duration;

/// `SplitMix64`: a few lines, and the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// So many milliseconds, at least `least` and less than `end`.
    pub(crate) const fn millis(&mut self, least: u64, end: u64) -> Duration {
        Duration::from_millis(least + self.below(end - least))
    }

    /// One of `all`; `None` of nothing.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let len = u64::try_from(all.len()).unwrap_or(u64::MAX).max(1);
        all.get(usize::try_from(self.below(len)).unwrap_or(0))
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let end = u64::try_from(last + 1).unwrap_or(u64::MAX);
            all.swap(last, usize::try_from(self.below(end)).unwrap_or(0));
        }
    }
}

/// A number that stands for `text`, the same on every machine (FNV-1a).
pub(crate) fn number_of(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
