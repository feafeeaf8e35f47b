//! What the text around says of a word: how else it is written and what it stands beside, and what kind of text it is.
//!
//! Knows no weight. It looks at a bounded window, so that the time stays linear in the document.

use super::{
    sentence::{Sentence, any},
    word::{Bits, Cues, Word},
};

/// Facts on one word, as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::extractors::local) struct Facts(pub(in crate::extractors::local) u16);

impl Facts {
    /// Written in small letters too.
    pub(in crate::extractors::local) const SMALL: u16 = 1;
    /// A capital after a small word.
    pub(in crate::extractors::local) const CAPITAL_WITHIN: u16 = 1 << 1;
    /// In a run behind a title.
    pub(in crate::extractors::local) const TITLED: u16 = 1 << 2;
    /// In a run with an organization's word, a place's word.
    pub(in crate::extractors::local) const WITH_ORGANIZATION: u16 = 1 << 3;
    pub(in crate::extractors::local) const WITH_PLACE: u16 = 1 << 4;
    /// After "in" or "near".
    pub(in crate::extractors::local) const LOCATED: u16 = 1 << 5;
    /// In a run behind a first name.
    pub(in crate::extractors::local) const SURNAME: u16 = 1 << 6;
    /// A known first name before another capital.
    pub(in crate::extractors::local) const FIRST_NAME: u16 = 1 << 7;
    /// Letters in brackets behind a run.
    pub(in crate::extractors::local) const ACRONYM: u16 = 1 << 8;
    /// Before "said", or "who".
    pub(in crate::extractors::local) const SPEAKS: u16 = 1 << 9;
    /// Part of a longer run.
    pub(in crate::extractors::local) const IN_RUN: u16 = 1 << 10;
    /// Alone in a run.
    pub(in crate::extractors::local) const ALONE: u16 = 1 << 11;
    /// Before a place's name and a comma's other side: "Paris, France".
    pub(in crate::extractors::local) const BEFORE_PLACE: u16 = 1 << 12;
}

/// What a text is like.
#[derive(Debug, Default)]
pub(in crate::extractors::local) struct Document {
    /// Words with a capital by their lower-case hash; open addressing, 0 is free.
    slots: Vec<(u32, Facts)>,
    /// 0 one sentence, 1 several, 2 several of an encyclopedia.
    pub(in crate::extractors::local) genre: u32,
}

impl Document {
    pub(in crate::extractors::local) fn new<'a>(
        sentences: impl Iterator<Item = &'a Sentence> + Clone,
        cue: &Words,
    ) -> Self {
        let capitals = sentences
            .clone()
            .flat_map(|sentence| &sentence.words)
            .filter(|word| word.is_capital())
            .count();
        let mut document = Self {
            slots: vec![(0, Facts::default()); (capitals * 2 + 1).next_power_of_two()],
            genre: 0,
        };
        let mut said = 0;
        let mut was = 0;
        let mut count = 0;
        for sentence in sentences.clone() {
            document.read(sentence, cue);
            count += 1;
            for word in &sentence.words {
                said += usize::from(word.lower == cue.said || word.lower == cue.i);
                was += usize::from(
                    word.lower == cue.was || word.lower == cue.is || word.lower == cue.born,
                );
            }
        }
        // Small spellings come last, for words that are known with a capital by now.
        for sentence in sentences {
            for word in &sentence.words {
                if word.bits.has(Bits::LOWER) && !word.bits.has(Bits::UPPER) {
                    document.add_if_there(word.lower, Facts::SMALL);
                }
            }
        }
        document.genre = if count <= 1 {
            0
        } else if said > 0 || was == 0 {
            1
        } else {
            2
        };
        document
    }

    fn read(&mut self, sentence: &Sentence, cue: &Words) {
        let words = &sentence.words;
        for (at, word) in words.iter().enumerate() {
            if !word.is_capital() {
                continue;
            }
            let before = at.checked_sub(1).map(|before| &words[before]);
            let after = words.get(at + 1);
            let run = sentence.tight[at];
            let mut facts = 0;
            if before.is_some_and(|before| before.bits.has(Bits::LOWER) && !before.is_capital()) {
                facts |= Facts::CAPITAL_WITHIN;
            }
            if before.is_some_and(|before| before.lower == cue.r#in || before.lower == cue.near) {
                facts |= Facts::LOCATED;
            }
            let ahead = &words[run.start..at];
            let titled = run.start > 0 && words[run.start - 1].cues.any(Cues::ROLE);
            if titled || any(ahead, Cues::ROLE) {
                facts |= Facts::TITLED;
            }
            let behind = &words[at + 1..run.end.max(at + 1)];
            if any(behind, Cues::ORGANIZATION | Cues::SUFFIX) {
                facts |= Facts::WITH_ORGANIZATION;
            }
            if any(behind, Cues::PLACE) {
                facts |= Facts::WITH_PLACE;
            }
            if ahead.last().is_some_and(|ahead| ahead.name & 1 != 0) {
                facts |= Facts::SURNAME;
            }
            if word.name & 1 != 0 && !behind.is_empty() {
                facts |= Facts::FIRST_NAME;
            }
            facts |= if run.end - run.start > 1 {
                Facts::IN_RUN
            } else {
                Facts::ALONE
            };
            if before.is_some_and(|before| before.lower == cue.open)
                && at >= 2
                && words[at - 2].is_capital()
            {
                facts |= Facts::ACRONYM;
            }
            if after.is_some_and(|after| after.lower == cue.said || after.lower == cue.who) {
                facts |= Facts::SPEAKS;
            }
            if after.is_some_and(|after| after.lower == cue.comma)
                && sentence
                    .places
                    .get(at + 2)
                    .is_some_and(|&place| place != 0 && place < 12)
            {
                facts |= Facts::BEFORE_PLACE;
            }
            self.add(word, facts);
        }
    }

    fn slot(&self, key: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (key.wrapping_mul(0x9e37_79b1) >> 8) as usize & mask;
        while self.slots[at].0 != 0 && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn add(&mut self, word: &Word, facts: u16) {
        let at = self.slot(word.lower);
        self.slots[at].0 = word.lower;
        self.slots[at].1.0 |= facts;
    }

    fn add_if_there(&mut self, lower: u32, facts: u16) {
        let at = self.slot(lower);
        if self.slots[at].0 == lower {
            self.slots[at].1.0 |= facts;
        }
    }

    /// What is known of a word by its lower-case hash.
    pub(in crate::extractors::local) fn facts(&self, lower: u32) -> Facts {
        if self.slots.is_empty() {
            return Facts::default();
        }
        self.slots[self.slot(lower)].1
    }
}

/// The hashes of the words that are asked for by name.
#[derive(Debug)]
pub(in crate::extractors::local) struct Words {
    said: u32,
    who: u32,
    i: u32,
    was: u32,
    is: u32,
    born: u32,
    r#in: u32,
    near: u32,
    open: u32,
    comma: u32,
}

impl Words {
    pub(in crate::extractors::local) fn new() -> Self {
        let hash = |word: &str| super::hash::bytes(word.as_bytes());
        Self {
            said: hash("said"),
            who: hash("who"),
            i: hash("i"),
            was: hash("was"),
            is: hash("is"),
            born: hash("born"),
            r#in: hash("in"),
            near: hash("near"),
            open: hash("("),
            comma: hash(","),
        }
    }
}
