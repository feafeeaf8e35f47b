//! What a word can mean to a rule: a set of bits, one for each word group of `lexicon.txt`, each word that a rule
//! names itself, and each kind of mention.
//!
//! Invariant: built once, from data that is compiled in; looking a word up allocates nothing.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    ops::{BitAnd, BitOr, BitOrAssign},
};

use crate::graph::NameLabel;

/// How many words of 128 bits a set of meanings has; a test counts the meanings.
const WORDS: usize = 3;

/// A set of meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bits([u128; WORDS]);

impl Bits {
    /// A word that may stand between the parts of a phrase: a noun, an adjective, an adverb, a verb's participle.
    pub(super) const WORD: Self = Self::nth(0);
    pub(super) const NUMBER: Self = Self::nth(1);
    pub(super) const PERSON: Self = Self::nth(2);
    pub(super) const ORGANIZATION: Self = Self::nth(3);
    pub(super) const LOCATION: Self = Self::nth(4);
    /// Any other name.
    pub(super) const MISC: Self = Self::nth(5);
    pub(super) const DATE: Self = Self::nth(6);
    /// A mention of another class without a label: an amount, a share, a quantity.
    pub(super) const VALUE: Self = Self::nth(7);
    /// A place that other places are said to be in: a country, a state, a province.
    pub(super) const REGION: Self = Self::nth(8);
    /// A pronoun or a description that stands for a name.
    pub(super) const STANDS_FOR: Self = Self::nth(9);
    pub(super) const CAPITAL: Self = Self::nth(10);
    /// A place that is no region.
    pub(super) const TOWN: Self = Self::nth(11);
    pub(super) const MENTION: Self = Self([0b1111_1100, 0, 0]);

    const fn nth(index: u32) -> Self {
        let mut words = [0; WORDS];
        // A meaning too many is none; a test sees it.
        if (index as usize) < 128 * WORDS {
            words[index as usize / 128] = 1 << (index % 128);
        }
        Self(words)
    }

    pub(super) const fn any(self, of: Self) -> bool {
        (self.0[0] & of.0[0]) | (self.0[1] & of.0[1]) | (self.0[2] & of.0[2]) != 0
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self([
            self.0[0] & !other.0[0],
            self.0[1] & !other.0[1],
            self.0[2] & !other.0[2],
        ])
    }

    pub(super) const fn of_label(label: NameLabel) -> Self {
        match label {
            NameLabel::Per => Self::PERSON,
            NameLabel::Org => Self::ORGANIZATION,
            NameLabel::Loc => Self::LOCATION,
            NameLabel::Misc => Self::MISC,
        }
    }
}

impl BitOr for Bits {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self([
            self.0[0] | other.0[0],
            self.0[1] | other.0[1],
            self.0[2] | other.0[2],
        ])
    }
}

impl BitOrAssign for Bits {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAnd for Bits {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self([
            self.0[0] & other.0[0],
            self.0[1] & other.0[1],
            self.0[2] & other.0[2],
        ])
    }
}

/// The first bit that is not one of the constants.
const FIRST_FREE: u32 = 12;

/// A hash of a short word: multiply and rotate, eight bytes a step.
#[derive(Default)]
pub(super) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, _end_of_text: u8) {}

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

pub(super) type WordMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// The words and groups of words.
#[derive(Default)]
pub(super) struct Vocabulary<'a> {
    words: WordMap<&'a str, Bits>,
    groups: WordMap<&'a str, Bits>,
    /// The bits of words that rules name; a word and a group may have one name.
    literals: WordMap<&'a str, Bits>,
    regions: HashSet<&'a str, BuildHasherDefault<WordHasher>>,
    used: u32,
}

impl<'a> Vocabulary<'a> {
    /// Reads `group: word word …` lines, and the names of regions, one a line.
    pub(super) fn read(lexicon: &'a str, regions: &'a str) -> Self {
        let mut read = Self::default();
        for line in lexicon.lines().filter(|line| !line.starts_with('#')) {
            let Some((group, words)) = line.split_once(':') else {
                continue;
            };
            let bit = read.group(group.trim());
            for word in words.split_whitespace() {
                *read.words.entry(word).or_default() |= bit;
            }
        }
        for name in regions.lines().filter(|line| !line.starts_with('#')) {
            read.regions.insert(name);
        }
        read
    }

    /// The bit of a group, which is new if the group is.
    fn group(&mut self, name: &'a str) -> Bits {
        let used = &mut self.used;
        *self.groups.entry(name).or_insert_with(|| {
            *used += 1;
            Bits::nth(FIRST_FREE + *used - 1)
        })
    }

    /// The bit of a group that `lexicon.txt` has.
    pub(super) fn known_group(&self, name: &str) -> Option<Bits> {
        self.groups.get(name).copied()
    }

    /// The bit of a word that a rule names.
    pub(super) fn literal(&mut self, word: &'a str) -> Bits {
        let used = &mut self.used;
        let bit = *self.literals.entry(word).or_insert_with(|| {
            *used += 1;
            Bits::nth(FIRST_FREE + *used - 1)
        });
        *self.words.entry(word).or_default() |= bit;
        bit
    }

    /// How many bits are in use.
    #[cfg(test)]
    pub(super) const fn bits(&self) -> u32 {
        FIRST_FREE + self.used
    }

    /// What a word in lower case means; of a compound that is not known, what its last part means.
    pub(super) fn word(&self, lower: &str) -> Bits {
        if let Some(bits) = self.words.get(lower) {
            return *bits;
        }
        let stem = match lower.rsplit_once('-') {
            Some((_, last)) => last,
            None => match lower.strip_suffix('.') {
                Some(stem) if stem.len() > 1 => stem,
                _ => return Bits::default(),
            },
        };
        self.words.get(stem).copied().unwrap_or_default()
    }

    /// Whether other places are said to be in the place with that name.
    pub(super) fn is_region(&self, name: &str) -> bool {
        self.regions.contains(name)
            || name
                .strip_suffix('.')
                .is_some_and(|stem| self.regions.contains(stem))
    }
}
