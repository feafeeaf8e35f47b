//! What is known before any text is read: places, people's names, clusters of words, and the lists of cue words.
//!
//! Keys are hashes, so that no list of strings is in the binary; a word that is on no list is taken for one that is
//! about once in a thousand times. Training looks up the same packed lists, so that the weights know.

use super::{hash, word::Cues};

/// A word's cluster among 64, 512 and 2,048.
pub(in crate::extractors::local) type Clusters = [u16; 3];

/// How many words the longest place has that is looked for.
pub(in crate::extractors::local) const LONGEST_PLACE: usize = 4;

/// The lists.
#[derive(Debug, Default)]
pub(in crate::extractors::local) struct Known {
    pub(in crate::extractors::local) places: Map<u8>,
    pub(in crate::extractors::local) names: Map<u8>,
    pub(in crate::extractors::local) clusters: Map<Clusters>,
    pub(in crate::extractors::local) cues: Map<u32>,
}

impl Known {
    /// The class (1 country, 2 state, 3 city, 4 town) of the place whose words' hashes folded by [`place_key`] are `key`; 0 is none.
    pub(in crate::extractors::local) fn place(&self, key: u32) -> u8 {
        self.places.get(key).unwrap_or(0)
    }

    pub(in crate::extractors::local) fn name(&self, word: u32) -> u8 {
        self.names.get(word).unwrap_or(0)
    }

    pub(in crate::extractors::local) fn clusters(&self, lower: u32) -> Option<Clusters> {
        self.clusters.get(lower)
    }

    pub(in crate::extractors::local) fn cues(&self, word: u32) -> Cues {
        Cues(self.cues.get(word).unwrap_or(0))
    }

    /// The lists of cue words, which are in the binary as text.
    pub(in crate::extractors::local) fn read_cues() -> Map<u32> {
        let mut entries: Vec<(u32, u32)> = Vec::new();
        for line in include_str!("../cues.txt").lines() {
            let mut words = line.split_whitespace();
            let cue = match words.next() {
                Some("person" | "officeholder") => Cues::PERSON,
                Some("organization") => Cues::ORGANIZATION,
                Some("place") => Cues::PLACE,
                Some("event") => Cues::EVENT,
                Some("work") => Cues::WORK,
                Some("function") => Cues::FUNCTION,
                Some("role" | "noble") => Cues::ROLE,
                Some("month") => Cues::MONTH,
                Some("particle") => Cues::PARTICLE,
                Some("suffix") => Cues::SUFFIX,
                Some("kin") => Cues::KIN,
                _ => continue,
            };
            entries.extend(words.map(|word| (hash::bytes(word.as_bytes()), cue.0)));
        }
        for (list, cue) in [
            (include_str!("../nationalities.txt"), Cues::NATIONALITY),
            (include_str!("../countries.txt"), Cues::COUNTRY),
        ] {
            entries.extend(
                list.lines()
                    .map(|name| (hash::bytes(name.as_bytes()), cue.0)),
            );
        }
        Map::new(entries, |old, new| old | new)
    }
}

/// The key of a place of several words, word by word.
pub(in crate::extractors::local) const fn place_key(key: u32, word: u32) -> u32 {
    if key == 0 {
        word
    } else {
        hash::pair(key, word)
    }
}

/// A map from hashes whose last bits are cut off: small in the file, fast in memory.
#[derive(Debug, Default)]
pub(in crate::extractors::local) struct Map<V> {
    /// Open addressing; a power of two of slots, half of them free at least. Key 0 is a free slot.
    slots: Vec<(u32, V)>,
}

/// How many bits of a hash are kept. **Source:** 33,785 names of 2^25 keys: a word that is none is taken for one
/// once in a thousand times.
pub(in crate::extractors::local) const KEY_BITS: u32 = 25;

/// The part of a hash that is a key.
pub(in crate::extractors::local) const fn key(hash: u32) -> u32 {
    // The bits that are kept depend on all of them.
    hash.wrapping_mul(0x9e37_79b1) >> (32 - KEY_BITS)
}

impl<V: Copy + Default> Map<V> {
    /// A map of these hashes; `join` decides where two have one key.
    pub(in crate::extractors::local) fn new(
        entries: impl IntoIterator<Item = (u32, V)>,
        join: impl Fn(V, V) -> V,
    ) -> Self {
        Self::of_keys(
            entries.into_iter().map(|(hash, value)| (key(hash), value)),
            join,
        )
    }

    /// A map of keys as [`Self::entries`] gives them.
    pub(in crate::extractors::local) fn of_keys(
        entries: impl IntoIterator<Item = (u32, V)>,
        join: impl Fn(V, V) -> V,
    ) -> Self {
        let entries: Vec<(u32, V)> = entries.into_iter().filter(|entry| entry.0 != 0).collect();
        let mut slots = vec![(0, V::default()); (entries.len() * 2 + 1).next_power_of_two()];
        let mask = slots.len() - 1;
        for (key, value) in entries {
            let mut at = Self::home(key) & mask;
            while slots[at].0 != 0 && slots[at].0 != key {
                at = (at + 1) & mask;
            }
            slots[at] = (
                key,
                if slots[at].0 == key {
                    join(slots[at].1, value)
                } else {
                    value
                },
            );
        }
        Self { slots }
    }

    const fn home(key: u32) -> usize {
        (key.wrapping_mul(0x9e37_79b1) >> 7) as usize
    }

    fn get(&self, hash: u32) -> Option<V> {
        let key = key(hash);
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = Self::home(key) & mask;
        loop {
            match self.slots[at] {
                (0, _) => return None,
                (found, value) if found == key => return Some(value),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Its keys and values, by key.
    #[cfg(feature = "train")]
    pub(in crate::extractors::local) fn entries(&self) -> Vec<(u32, V)> {
        let mut entries: Vec<_> = self
            .slots
            .iter()
            .copied()
            .filter(|(key, _)| *key != 0)
            .collect();
        entries.sort_unstable_by_key(|entry| entry.0);
        entries
    }
}
