//! A sentence as the features see it: its words, the runs of capitals in it, the places of several words, and which
//! words may be in a name at all.
//!
//! Knows no weight and no other sentence.

use super::{
    super::token::Token,
    known::{Known, LONGEST_PLACE, place_key},
    word::{Bits, Cues, Word},
};

/// A stretch of words that may be one name: capitals, and small words that join them.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::extractors::local) struct Run {
    /// The first word and the one after the last.
    pub(in crate::extractors::local) start: usize,
    pub(in crate::extractors::local) end: usize,
}

/// The words of a sentence.
#[derive(Debug, Default)]
pub(in crate::extractors::local) struct Sentence {
    pub(in crate::extractors::local) words: Vec<Word>,
    /// For each word, the run of capitals alone and the run with joining words; empty if it is in none.
    pub(in crate::extractors::local) tight: Vec<Run>,
    pub(in crate::extractors::local) loose: Vec<Run>,
    /// For each word, the place that it is in: its class × 4 + (first word?) × 2 + (several words?); 0 is none.
    pub(in crate::extractors::local) places: Vec<u8>,
    /// Whether a word may be in a name: a capital, or next to one.
    pub(in crate::extractors::local) open: Vec<bool>,
    /// No small letter at all.
    pub(in crate::extractors::local) shouted: bool,
    /// Most long words begin with a capital.
    pub(in crate::extractors::local) titled: bool,
    /// How many words stand before the first letter or digit.
    pub(in crate::extractors::local) opening: usize,
}

const JOINING: &[&str] = &[
    "of", "the", "for", "and", "&", "de", "la", "del", "van", "von", "der", "den", "di", "da",
    "du", "al", "el", "bin", "ibn", "-", "'", "'s", "y", "e", "in", "on", "to",
];

/// How many words a run may have; the rest is another one. Each word of a run looks at all of it.
///
/// **Source:** few names are longer; without a bound a text of nothing but capitals would take quadratic time.
const LONGEST_RUN: usize = 16;

/// How many words may join two capitals.
const LONGEST_JOINT: usize = 3;

impl Sentence {
    pub(in crate::extractors::local) fn new(tokens: &[Token<'_>], known: &Known) -> Self {
        let words: Vec<Word> = tokens.iter().map(|token| Word::new(token, known)).collect();
        let mut sentence = Self {
            opening: words
                .iter()
                .position(|word| word.bits.has(Bits::LETTER) || word.bits.has(Bits::DIGIT))
                .unwrap_or(0),
            shouted: words
                .iter()
                .filter(|w| w.bits.has(Bits::LETTER))
                .all(|w| !w.bits.has(Bits::LOWER)),
            titled: is_titled(&words),
            tight: vec![Run::default(); words.len()],
            loose: vec![Run::default(); words.len()],
            places: vec![0; words.len()],
            open: open(&words),
            words,
        };
        for (at, token) in tokens.iter().enumerate() {
            if sentence.open[at] {
                sentence.words[at].spell(token);
            }
        }
        sentence.find_runs(tokens);
        sentence.find_places(known);
        sentence
    }

    fn find_runs(&mut self, tokens: &[Token<'_>]) {
        let mut at = 0;
        while at < self.words.len() {
            if !self.words[at].is_capital() {
                at += 1;
                continue;
            }
            let (start, mut end) = (at, self.capitals_from(at));
            self.tight[start..end].fill(Run { start, end });
            // A joint is of joining words, and leads to a capital.
            loop {
                let joint = tokens[end..]
                    .iter()
                    .take(LONGEST_JOINT)
                    .take_while(|token| token.is_one_of(JOINING))
                    .count();
                let next = end + joint;
                if joint == 0
                    || end - start >= LONGEST_RUN
                    || !self.words.get(next).is_some_and(Word::is_capital)
                {
                    break;
                }
                end = self.capitals_from(next);
                self.tight[next..end].fill(Run { start: next, end });
            }
            self.loose[start..end].fill(Run { start, end });
            at = end;
        }
    }

    fn capitals_from(&self, start: usize) -> usize {
        start
            + self.words[start..]
                .iter()
                .take(LONGEST_RUN)
                .take_while(|word| word.is_capital())
                .count()
    }

    fn find_places(&mut self, known: &Known) {
        let mut at = 0;
        while at < self.words.len() {
            let mut found = (0, 0);
            if self.words[at].bits.has(Bits::UPPER) {
                let mut key = 0;
                for (length, word) in self.words[at..].iter().take(LONGEST_PLACE).enumerate() {
                    key = place_key(key, word.plain);
                    let class = known.place(key);
                    if class != 0 {
                        found = (class, length + 1);
                    }
                }
            }
            let (class, length) = found;
            for place in 0..length {
                self.places[at + place] =
                    class * 4 + u8::from(place == 0) * 2 + u8::from(length > 1);
            }
            at += length.max(1);
        }
    }

    /// Whether `at` opens the sentence.
    pub(in crate::extractors::local) fn is_first(&self, at: usize) -> bool {
        at <= self.opening
    }
}

fn is_titled(words: &[Word]) -> bool {
    let long = words
        .iter()
        .filter(|word| word.bits.has(Bits::LONG) && word.bits.has(Bits::LETTER));
    let (capitals, all) = long.fold((0, 0), |(capitals, all), word| {
        (capitals + usize::from(word.is_capital()), all + 1)
    });
    all >= 4 && capitals * 10 >= all * 8
}

fn open(words: &[Word]) -> Vec<bool> {
    let mut open = vec![false; words.len()];
    let mut last: Option<usize> = None;
    for (at, word) in words.iter().enumerate() {
        let number = word.bits.has(Bits::DIGIT) && word.bits.has(Bits::LETTER);
        if !word.bits.has(Bits::UPPER) && !number {
            continue;
        }
        let from = match last {
            Some(last) if at - last <= LONGEST_JOINT + 1 => last,
            _ => at.saturating_sub(1),
        };
        open[from..(at + 2).min(words.len())].fill(true);
        last = Some(at);
    }
    open
}

/// Whether any of `words` has one of `cues`.
pub(in crate::extractors::local) fn any(words: &[Word], cues: Cues) -> bool {
    words.iter().any(|word| word.cues.any(cues))
}
