//! The questions that are asked of a word in its sentence and text; each answer is a number that the weights know.
//!
//! Knows no weight. Invariant: training and running ask the same questions, by this very code.

use super::{
    document::{Document, Facts},
    hash::{feature, pair},
    sentence::Sentence,
    word::{Cues, Word},
};

/// Where a sentence ends, on either side.
const EDGE: Word = edge();

const fn edge() -> Word {
    Word {
        text: 1,
        lower: 1,
        plain: 1,
        shape: 1,
        long_shape: 1,
        prefixes: [0; 4],
        suffixes: [0; 4],
        clusters: None,
        name: 0,
        cues: Cues(0),
        bits: super::word::Bits::none(),
    }
}

/// Templates below this are about the word's own spelling; training leaves them out at times.
#[cfg(feature = "train")]
pub(in crate::extractors::local) const SPELLINGS: std::ops::Range<u32> = 1..3;

/// Calls `ask` with the template and the number of each answer for the word at `at`.
#[expect(clippy::too_many_lines, reason = "one list of questions")]
pub(in crate::extractors::local) fn features(
    sentence: &Sentence,
    at: usize,
    document: &Document,
    mut ask: impl FnMut(u32, u32),
) {
    let words = &sentence.words;
    let word = &words[at];
    let back = |by: usize| at.checked_sub(by).map_or(&EDGE, |at| &words[at]);
    let ahead = |by: usize| words.get(at + by).unwrap_or(&EDGE);
    let mut a = |template: u32, value: u32| ask(template, feature(template, value));
    let (p1, p2, n1, n2) = (back(1), back(2), ahead(1), ahead(2));
    let first = u32::from(sentence.is_first(at));

    a(0, 0);
    a(1, word.text);
    a(2, word.lower);
    a(3, word.shape);
    a(4, word.long_shape);
    for (length, (&prefix, &suffix)) in (0..).zip(word.prefixes.iter().zip(&word.suffixes)) {
        if prefix != 0 {
            a(5 + length, prefix);
            a(10 + length, suffix);
        }
    }
    a(20, p1.lower);
    a(21, n1.lower);
    a(22, p2.lower);
    a(23, n2.lower);
    a(24, p1.shape);
    a(25, n1.shape);
    a(28, pair(p1.lower, word.lower));
    a(29, pair(word.lower, n1.lower));
    a(30, pair(pair(p1.shape, word.shape), n1.shape));
    a(31, pair(p1.lower, word.shape));
    a(32, pair(word.shape, n1.lower));
    a(33, pair(p2.lower, p1.lower));
    a(34, pair(n1.lower, n2.lower));
    a(35, pair(pair(p2.shape, p1.shape), word.shape));
    a(36, pair(pair(word.shape, n1.shape), n2.shape));
    a(37, pair(first, word.shape));
    if sentence.shouted {
        a(38, word.shape);
    }
    if sentence.titled {
        a(39, word.shape);
    }

    // Lists.
    let place = |at: usize| u32::from(sentence.places.get(at).copied().unwrap_or(0));
    let own = place(at);
    if own != 0 {
        a(40, own);
        a(41, pair(own, p1.lower));
        a(42, pair(own, n1.lower));
    }
    let (place_before, place_after) = (if at > 0 { place(at - 1) } else { 0 }, place(at + 1));
    if place_before != 0 {
        a(43, place_before);
    }
    if place_after != 0 {
        a(44, place_after);
    }
    let name = u32::from(word.name);
    let names = u32::from(p1.name) << 4 | name << 2 | u32::from(n1.name);
    a(45, names);
    if name != 0 {
        a(46, name << 1 | first);
        a(47, pair(names, own));
    }
    for (by, other) in [(0, p2), (1, p1), (2, word), (3, n1), (4, n2)] {
        if other.cues.0 != 0 {
            a(50 + by, other.cues.0);
        }
    }
    if word.cues.any(Cues::NATIONALITY) {
        a(55, document.genre);
        a(56, pair(document.genre, n1.shape));
    }

    // Clusters.
    for (by, other) in [(0, p2), (1, p1), (2, word), (3, n1), (4, n2)] {
        if let Some([coarse, middle, fine]) = other.clusters {
            let template = 60 + by * 4;
            a(template, u32::from(coarse));
            a(template + 1, u32::from(middle));
            a(template + 2, pair(u32::from(middle), word.shape));
            if by == 2 {
                a(template + 3, u32::from(fine));
            }
        }
    }

    // The run of capitals that it is in, and what stands around that.
    let run = sentence.loose[at];
    if run.end > run.start {
        let before = run.start.checked_sub(1).map_or(&EDGE, |at| &words[at]);
        let after = words.get(run.end).unwrap_or(&EDGE);
        let after2 = words.get(run.end + 1).unwrap_or(&EDGE);
        let tail = &words[run.end - 1];
        let tight = sentence.tight[at];
        let inner = if tight.end > tight.start {
            &words[tight.end - 1]
        } else {
            tail
        };
        let length = u32::try_from((run.end - run.start).min(5)).unwrap_or(5);
        let place = u32::from(at == run.start) << 1 | u32::from(at + 1 == run.end);
        a(80, before.lower);
        a(81, after.lower);
        a(82, tail.lower);
        a(83, pair(length, place));
        a(84, inner.lower);
        a(85, words[run.start].lower);
        a(86, pair(before.lower, length));
        a(87, pair(after.lower, length));
        a(88, pair(after.lower, after2.lower));
        let kinds = words[run.start..run.end]
            .iter()
            .fold(0, |all, word| all | word.cues.0);
        a(89, kinds);
        a(
            90,
            pair(
                u32::from(words[run.start].name),
                pair(length, u32::from(tail.name)),
            ),
        );
        if let Some([_, middle, _]) = before.clusters {
            a(91, u32::from(middle));
        }
        if let Some([_, middle, _]) = after.clusters {
            a(92, u32::from(middle));
        }
        if let Some([_, middle, _]) = tail.clusters {
            a(93, u32::from(middle));
        }
        a(94, pair(before.cues.0, place));
        a(95, pair(after.cues.0, place));
        a(96, pair(before.lower, after.lower));
    }

    // What the rest of the text says.
    if word.is_capital() {
        let Facts(facts) = document.facts(word.lower);
        let facts = u32::from(facts);
        let rough = facts & u32::from(Facts::SMALL | Facts::CAPITAL_WITHIN);
        a(100, rough << 1 | first);
        a(
            101,
            facts & u32::from(Facts::TITLED | Facts::SURNAME | Facts::FIRST_NAME | Facts::SPEAKS),
        );
        a(
            102,
            facts
                & u32::from(
                    Facts::WITH_ORGANIZATION
                        | Facts::WITH_PLACE
                        | Facts::LOCATED
                        | Facts::ACRONYM
                        | Facts::BEFORE_PLACE,
                ),
        );
        let mut rest = facts & !u32::from(Facts::SMALL | Facts::CAPITAL_WITHIN);
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            a(103, bit);
            rest ^= bit;
        }
        a(
            104,
            pair(
                facts & u32::from(Facts::IN_RUN | Facts::ALONE | Facts::SURNAME),
                names,
            ),
        );
    }
    a(105, pair(document.genre, word.shape));
    a(106, pair(p1.lower, n1.lower));
    a(107, pair(p1.suffixes[2], word.shape));
    a(108, pair(word.shape, n1.suffixes[2]));
}
