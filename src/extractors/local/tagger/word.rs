//! What a word is by itself: its spelling as numbers, its shape, and what is known of it.
//!
//! Knows one token at a time and no weight.

use super::{
    super::token::Token,
    hash,
    known::{Clusters, Known},
};

/// A token as the features see it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::extractors::local) struct Word {
    pub(in crate::extractors::local) text: u32,
    pub(in crate::extractors::local) lower: u32,
    /// The spelling as it would be in the middle of a name: `PARIS` as `Paris`.
    pub(in crate::extractors::local) plain: u32,
    /// Its kinds of characters; runs of one kind count once.
    pub(in crate::extractors::local) shape: u32,
    pub(in crate::extractors::local) long_shape: u32,
    /// The hashes of its first 1 to 4 characters, and of its last.
    pub(in crate::extractors::local) prefixes: [u32; 4],
    pub(in crate::extractors::local) suffixes: [u32; 4],
    pub(in crate::extractors::local) clusters: Option<Clusters>,
    /// What it is as a person's name: 0 nothing, 1 first, 2 last, 3 both.
    pub(in crate::extractors::local) name: u8,
    pub(in crate::extractors::local) cues: Cues,
    pub(in crate::extractors::local) bits: Bits,
}

/// Bits of [`Word`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::extractors::local) struct Bits(u8);

impl Bits {
    /// Begins with a capital, or with a letter of a script without case.
    pub(in crate::extractors::local) const CAPITAL: Self = Self(1);
    /// Has a capital anywhere.
    pub(in crate::extractors::local) const UPPER: Self = Self(1 << 1);
    /// Has a small letter.
    pub(in crate::extractors::local) const LOWER: Self = Self(1 << 2);
    pub(in crate::extractors::local) const LETTER: Self = Self(1 << 3);
    pub(in crate::extractors::local) const DIGIT: Self = Self(1 << 4);
    /// Longer than three bytes.
    pub(in crate::extractors::local) const LONG: Self = Self(1 << 5);

    pub(in crate::extractors::local) const fn none() -> Self {
        Self(0)
    }

    pub(in crate::extractors::local) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What the word hints at: the lists of `cues.txt` that it is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::extractors::local) struct Cues(pub(in crate::extractors::local) u32);

impl Cues {
    pub(in crate::extractors::local) const ORGANIZATION: Self = Self(1);
    pub(in crate::extractors::local) const PLACE: Self = Self(1 << 1);
    pub(in crate::extractors::local) const EVENT: Self = Self(1 << 2);
    pub(in crate::extractors::local) const WORK: Self = Self(1 << 3);
    pub(in crate::extractors::local) const PERSON: Self = Self(1 << 4);
    pub(in crate::extractors::local) const FUNCTION: Self = Self(1 << 5);
    pub(in crate::extractors::local) const ROLE: Self = Self(1 << 6);
    pub(in crate::extractors::local) const NATIONALITY: Self = Self(1 << 7);
    pub(in crate::extractors::local) const MONTH: Self = Self(1 << 8);
    pub(in crate::extractors::local) const PARTICLE: Self = Self(1 << 9);
    pub(in crate::extractors::local) const SUFFIX: Self = Self(1 << 10);
    pub(in crate::extractors::local) const KIN: Self = Self(1 << 11);
    pub(in crate::extractors::local) const COUNTRY: Self = Self(1 << 12);

    pub(in crate::extractors::local) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl std::ops::BitOr for Cues {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Word {
    pub(in crate::extractors::local) fn new(token: &Token<'_>, known: &Known) -> Self {
        let bits = bits(token.text);
        let lower = hash::bytes(token.lower.as_bytes());
        let mut word = Self {
            lower,
            bits,
            clusters: known.clusters(lower),
            cues: known.cues(lower),
            ..Self::default()
        };
        if !bits.has(Bits::UPPER) {
            word.text = lower;
            word.plain = lower;
            word.shape = shape(token.text, true);
            return word;
        }
        word.text = hash::bytes(token.text.as_bytes());
        word.plain = if bits.has(Bits::LONG) && !bits.has(Bits::LOWER) {
            plain(token.text)
        } else {
            word.text
        };
        word.shape = shape(token.text, true);
        word.name = known.name(word.plain);
        word.cues = word.cues | known.cues(word.plain);
        word
    }

    /// Adds what only a word that may be in a name is asked for.
    pub(in crate::extractors::local) fn spell(&mut self, token: &Token<'_>) {
        self.long_shape = shape(token.text, false);
        let lower = token.lower.as_str();
        let mut hash = hash::bytes(&[]);
        for (at, (start, character)) in lower.char_indices().enumerate().take(4) {
            for &byte in &lower.as_bytes()[start..start + character.len_utf8()] {
                hash = hash::step(hash, byte);
            }
            self.prefixes[at] = hash;
        }
        for (at, (start, _)) in lower.char_indices().rev().enumerate().take(4) {
            self.suffixes[at] = hash::bytes(&lower.as_bytes()[start..]);
        }
    }

    pub(in crate::extractors::local) const fn is_capital(&self) -> bool {
        self.bits.has(Bits::CAPITAL)
    }
}

fn bits(text: &str) -> Bits {
    let mut bits = if text.len() > 3 { Bits::LONG.0 } else { 0 };
    for (at, c) in text.chars().enumerate().take(64) {
        bits |= if c.is_lowercase() {
            Bits::LOWER.0 | Bits::LETTER.0
        } else if c.is_uppercase() {
            Bits::UPPER.0 | Bits::LETTER.0 | if at == 0 { Bits::CAPITAL.0 } else { 0 }
        } else if c.is_numeric() {
            Bits::DIGIT.0
        } else if c.is_alphabetic() {
            // A script without case: any word may be a name.
            Bits::LETTER.0
                | if at == 0 {
                    Bits::CAPITAL.0 | Bits::UPPER.0
                } else {
                    0
                }
        } else {
            0
        };
    }
    Bits(bits)
}

/// The hash of a word in capitals as if only its first were one.
fn plain(text: &str) -> u32 {
    let mut hash = hash::bytes(&[]);
    let mut buffer = [0; 4];
    for (at, c) in text.chars().enumerate() {
        let mut push = |c: char| {
            for &byte in c.encode_utf8(&mut buffer).as_bytes() {
                hash = hash::step(hash, byte);
            }
        };
        if at == 0 {
            push(c);
        } else {
            c.to_lowercase().for_each(&mut push);
        }
    }
    hash
}

fn shape(text: &str, short: bool) -> u32 {
    let mut hash = hash::bytes(&[]);
    let (mut last, mut length) = ('\0', 0);
    for c in text.chars().take(64) {
        let kind = if c.is_uppercase() {
            'X'
        } else if c.is_lowercase() {
            'x'
        } else if c.is_ascii_digit() {
            'd'
        } else {
            c
        };
        if short && kind == last {
            continue;
        }
        last = kind;
        length += 1;
        if length > 12 {
            break;
        }
        hash = hash::pair(hash, kind as u32);
    }
    hash
}
