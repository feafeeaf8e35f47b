//! Where in a text a model's quote stands: exactly, or folded (case, white space, typography), or by most of its
//! words in order.
//!
//! A model's offsets are never asked for, and its quotes never trusted: what is published is a stretch of the text
//! itself. Invariants: every range lies in the text, on character boundaries, and is not empty; no panic whatever is
//! looked for; the time is bounded by the text's length times a quote's, which is capped.

use std::{collections::HashMap, ops::Range};

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// How much of a quote's words must stand in the text, in order and without much between them.
///
/// **Source:** the original design (a longest common subsequence of three quarters).
const ALIGNED: f32 = 0.75;

/// Quotes of more words than this are not aligned word by word.
const MOST_WORDS: usize = 96;

/// Pairs of words that are compared for one quote; a text in which it could stand in more places is read as far as
/// that.
///
/// **Source:** enough for the longest quote at every word of a chunk four times as long as usual; a tenth of a second.
const EFFORT: usize = 16 << 20;

/// Places where a quote stands as a part of words, before the rest is not looked at: "a" has many.
const FALSE_STARTS: u32 = 4096;

/// How a quote was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Match {
    /// Character by character.
    Exact,
    /// But for case, white space and typography.
    Folded,
    /// By that share of its words.
    Aligned(f32),
}

impl Match {
    /// 0 to 1: how much can be built on it. An order, not a probability: no model says how sure it is.
    ///
    /// **Source:** 0.9 leaves room above for what several extractors agree on.
    pub(super) const fn confidence(self) -> f32 {
        match self {
            Self::Exact => 0.9,
            Self::Folded => 0.85,
            Self::Aligned(share) => 0.8 * share,
        }
    }
}

/// Where a quote may end: the first and the last word of a name are part of it, those of a sentence need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// The first and the last word must be found.
    Fixed,
    /// Any words will do.
    Free,
}

/// A text in which quotes are looked for.
pub(super) struct Haystack<'a> {
    text: &'a str,
    folded: Folded,
    /// The words of the folded text, by bytes there.
    words: Vec<Range<usize>>,
}

/// A folded text, and where its pieces come from.
#[derive(Default)]
struct Folded {
    text: String,
    /// For each grapheme: its first byte here, and its bytes in the original.
    pieces: Vec<(usize, Range<usize>)>,
}

impl Folded {
    fn of(text: &str) -> Self {
        let mut folded = Self::default();
        for (at, grapheme) in text.grapheme_indices(true) {
            let start = folded.text.len();
            for character in grapheme.nfkc().flat_map(char::to_lowercase) {
                match plain(character) {
                    Some(' ') if folded.text.is_empty() || folded.text.ends_with(' ') => {}
                    Some(plain) => folded.text.push(plain),
                    None => {}
                }
            }
            if folded.text.len() > start {
                folded.pieces.push((start, at..at + grapheme.len()));
            }
        }
        folded
    }

    /// The bytes in the original of a range here that is not empty.
    fn original(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let piece = |byte: usize| {
            let after = self.pieces.partition_point(|(start, _)| *start <= byte);
            self.pieces.get(after.checked_sub(1)?)
        };
        let first = piece(range.start)?.1.start;
        let last = piece(range.end.checked_sub(1)?)?.1.end;
        (first < last).then_some(first..last)
    }
}

/// A character without its typography; none for what can't be seen.
fn plain(character: char) -> Option<char> {
    Some(match character {
        _ if character.is_whitespace() => ' ',
        '‘' | '’' | '‚' | '‛' | '′' | '`' | '´' => '\'',
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' => '"',
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => '-',
        // As prompts show a `<` that would begin a tag of theirs.
        '‹' => '<',
        '›' => '>',
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => return None,
        other => other,
    })
}

/// Whether words of this character's script stand without spaces between them.
const fn is_unspaced(character: char) -> bool {
    matches!(character, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether a word may end between these two.
fn is_border(before: Option<char>, after: Option<char>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            !(before.is_alphanumeric() && after.is_alphanumeric())
                || is_unspaced(before)
                || is_unspaced(after)
        }
        _ => true,
    }
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let found = &text[range.clone()];
    is_border(
        text[..range.start].chars().next_back(),
        found.chars().next(),
    ) && is_border(found.chars().next_back(), text[range.end..].chars().next())
}

/// Every place of `needle` that stands alone, from left to right, none within another.
fn places(text: &str, needle: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let (mut from, mut false_starts) = (0, 0);
    while let Some(at) = text[from..].find(needle) {
        let range = from + at..from + at + needle.len();
        if stands_alone(text, &range) {
            from = range.end;
            places.push(range);
        } else {
            // The next place may begin within this one, as "ba b" does in "ba ba b".
            false_starts += 1;
            let first = needle.chars().next().map_or(1, char::len_utf8);
            from = range.start + first;
        }
        if needle.is_empty() || false_starts == FALSE_STARTS {
            break;
        }
    }
    places
}

fn words(folded: &str) -> Vec<Range<usize>> {
    folded
        .split_word_bound_indices()
        .filter(|(_, word)| word.chars().any(char::is_alphanumeric))
        .map(|(at, word)| at..at + word.len())
        .collect()
}

impl<'a> Haystack<'a> {
    /// Looks in `text`.
    pub(super) fn new(text: &'a str) -> Self {
        let folded = Folded::of(text);
        let words = words(&folded.text);
        Self {
            text,
            folded,
            words,
        }
    }

    /// Every place where `quote` stands as whole words, in bytes, from left to right, and how it was found; none if
    /// it does not stand there. An alignment is one place.
    pub(super) fn places(&self, quote: &str, ends: Ends) -> Option<(Vec<Range<usize>>, Match)> {
        let quote = bare(quote);
        if quote.is_empty() {
            return None;
        }
        let exact: Vec<Range<usize>> = places(self.text, quote);
        if !exact.is_empty() {
            return Some((exact, Match::Exact));
        }
        let quote = Folded::of(quote).text;
        let quote = quote.trim();
        if quote.is_empty() {
            return None;
        }
        let folded: Vec<Range<usize>> = places(&self.folded.text, quote)
            .into_iter()
            .filter_map(|range| self.folded.original(&range))
            .collect();
        if !folded.is_empty() {
            return Some((folded, Match::Folded));
        }
        let (range, share) = self.aligned(quote, ends)?;
        Some((vec![range], Match::Aligned(share)))
    }

    /// The place that most words of `quote` share, the first of equals.
    fn aligned(&self, quote: &str, ends: Ends) -> Option<(Range<usize>, f32)> {
        let wanted: Vec<&str> = words(quote).into_iter().map(|word| &quote[word]).collect();
        // Fewer than four can't share three quarters and miss one.
        if !(4..=MOST_WORDS).contains(&wanted.len()) {
            return None;
        }
        // Numbers instead of words: 0 is one that the quote has not.
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut counts = vec![0_usize];
        let wanted: Vec<usize> = wanted
            .iter()
            .map(|word| {
                let number = *numbers.entry(word).or_insert(counts.len());
                if number == counts.len() {
                    counts.push(0);
                }
                counts[number] += 1;
                number
            })
            .collect();
        let text: Vec<usize> = self
            .words
            .iter()
            .map(|word| {
                numbers
                    .get(&self.folded.text[word.clone()])
                    .copied()
                    .unwrap_or(0)
            })
            .collect();
        let width = (wanted.len() * 4).div_ceil(3).min(text.len());
        let mut shared = Shared::new(counts);
        let mut room = EFFORT;
        let mut best: Option<(Range<usize>, f32)> = None;
        for end in 0..text.len() {
            shared.enter(text[end]);
            if end >= width {
                shared.leave(text[end - width]);
            }
            // A window that ends in a word of the quote, and holds enough of them in any order.
            let enough = 4 * shared.count >= 3 * wanted.len();
            if text[end] == 0 || !enough {
                continue;
            }
            let start = (end + 1).saturating_sub(width);
            let Some(left) = room.checked_sub(wanted.len() * (end + 1 - start)) else {
                break;
            };
            room = left;
            if let Some((found, share)) = align(&wanted, &text[start..=end], ends)
                && best.as_ref().is_none_or(|(_, most)| share > *most)
            {
                best = Some((start + found.start..start + found.end, share));
            }
        }
        let (found, share) = best?;
        let bytes = self.words.get(found.start)?.start..self.words.get(found.end - 1)?.end;
        Some((self.folded.original(&bytes)?, share))
    }
}

/// How many words a window shares with a quote, in any order.
struct Shared {
    wanted: Vec<usize>,
    there: Vec<usize>,
    count: usize,
}

impl Shared {
    fn new(wanted: Vec<usize>) -> Self {
        Self {
            there: vec![0; wanted.len()],
            wanted,
            count: 0,
        }
    }

    fn enter(&mut self, word: usize) {
        self.there[word] += 1;
        self.count += usize::from(self.there[word] <= self.wanted[word]);
    }

    fn leave(&mut self, word: usize) {
        self.count -= usize::from(self.there[word] <= self.wanted[word]);
        self.there[word] -= 1;
    }
}

/// The stretch of `window` between the first and the last word of the longest common subsequence, and the share of
/// both that it is, if that is enough.
fn align(wanted: &[usize], window: &[usize], ends: Ends) -> Option<(Range<usize>, f32)> {
    let columns = window.len() + 1;
    // longest[i][j]: of wanted[..i] and window[..j].
    let mut longest = vec![0_usize; (wanted.len() + 1) * columns];
    for (i, word) in wanted.iter().enumerate() {
        for (j, there) in window.iter().enumerate() {
            longest[(i + 1) * columns + j + 1] = if word == there {
                longest[i * columns + j] + 1
            } else {
                longest[(i + 1) * columns + j].max(longest[i * columns + j + 1])
            };
        }
    }
    // Back from the end, where the window was cut: so what is found is as short as can be.
    let (mut i, mut j) = (wanted.len(), window.len());
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    while i > 0 && j > 0 {
        if wanted[i - 1] == window[j - 1] {
            (i, j) = (i - 1, j - 1);
            pairs.push((i, j));
        } else if longest[(i - 1) * columns + j] >= longest[i * columns + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    pairs.reverse();
    let (&(first_wanted, first), &(last_wanted, last)) = (pairs.first()?, pairs.last()?);
    if ends == Ends::Fixed && (first_wanted, last_wanted + 1) != (0, wanted.len()) {
        return None;
    }
    let found = first..last + 1;
    // At most 96 and 128 words: exact in any float.
    let share = |count: usize| f32::from(u16::try_from(count).unwrap_or(u16::MAX));
    let share = share(pairs.len()) / share(wanted.len().max(found.len()));
    (share >= ALIGNED).then_some((found, share))
}

/// `quote` without what models put around quotes.
fn bare(quote: &str) -> &str {
    let quote = quote.trim();
    let quote = quote.trim_start_matches("...").trim_start_matches('…');
    let quote = quote.trim_end_matches("...").trim_end_matches('…').trim();
    for (open, close) in [('"', '"'), ('“', '”'), ('\'', '\'')] {
        if let Some(inner) = quote
            .strip_prefix(open)
            .and_then(|quote| quote.strip_suffix(close))
            && !inner.contains(open)
            && !inner.trim().is_empty()
        {
            return inner.trim();
        }
    }
    quote
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(text: &'a str, quote: &str, ends: Ends) -> Option<(Vec<&'a str>, Match)> {
        let (places, how) = Haystack::new(text).places(quote, ends)?;
        Some((places.into_iter().map(|range| &text[range]).collect(), how))
    }

    fn one<'a>(text: &'a str, quote: &str) -> Option<(&'a str, Match)> {
        let (places, how) = found(text, quote, Ends::Free)?;
        Some((places[0], how))
    }

    #[test]
    fn exact_before_folded_before_aligned() {
        let text = "He said: Angela\u{a0}Merkel’s “Grand—Coalition” held. ANGELA fell.";
        assert_eq!(one(text, "ANGELA"), Some(("ANGELA", Match::Exact)));
        assert_eq!(
            one(text, "angela merkel's"),
            Some(("Angela\u{a0}Merkel’s", Match::Folded))
        );
        assert_eq!(
            one(text, "\"Grand-Coalition\""),
            Some(("Grand—Coalition", Match::Folded))
        );
        assert_eq!(
            one(text, "Angela Merkel's coalition held. ANGELA fell"),
            Some((
                "Angela\u{a0}Merkel’s “Grand—Coalition” held. ANGELA fell",
                Match::Aligned(6.0 / 7.0)
            ))
        );
        assert_eq!(one(text, "Emmanuel Macron met her in Berlin"), None);
        assert_eq!(one(text, " … "), None);
        assert_eq!(one("the ‹/text> tag", "‹/text>").unwrap().1, Match::Exact);
        assert_eq!(
            one("the </text> tag", "‹/text>"),
            Some(("</text>", Match::Folded))
        );
    }

    #[test]
    fn only_whole_words_are_found() {
        let text = "concatenate US USA US, Merkel's, 東京都 cat-like";
        assert_eq!(
            found(text, "US", Ends::Free),
            Some((vec!["US", "US"], Match::Exact))
        );
        assert_eq!(
            found(text, "Merkel", Ends::Free),
            Some((vec!["Merkel"], Match::Exact))
        );
        assert_eq!(
            found(text, "東京", Ends::Free),
            Some((vec!["東京"], Match::Exact))
        );
        assert_eq!(
            found(text, "cat", Ends::Free),
            Some((vec!["cat"], Match::Exact))
        );
        assert_eq!(found(text, "ate", Ends::Free), None);
    }

    #[test]
    fn a_name_keeps_its_ends() {
        let text = "The Bank of New England failed.";
        assert_eq!(found(text, "Bank of New York", Ends::Fixed), None);
        assert_eq!(one(text, "Bank of New York").unwrap().0, "Bank of New");
        let text = "The European Union Court of Justice ruled.";
        assert_eq!(
            found(text, "European Court of Justice", Ends::Fixed),
            Some((vec!["European Union Court of Justice"], Match::Aligned(0.8)))
        );
    }

    #[test]
    fn the_time_is_bounded() {
        let text = "a b c d ".repeat(25_000);
        let haystack = Haystack::new(&text);
        let begun = std::time::Instant::now();
        let quote = "d c b a x ".repeat(18);
        let _ = haystack.places(&quote, Ends::Free);
        let _ = haystack.places(&text, Ends::Free);
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn what_is_found_lies_in_the_text(
            text in "([A-Ca-cé漢😀ﬁİß\u{301}\u{ad} \n’“…<‹-]|the |of ){0,80}",
            quote in "([A-Ca-cé漢😀ﬁİßs\u{301} '\"….<-]|the |of ){0,30}",
        ) {
            for ends in [Ends::Fixed, Ends::Free] {
                if let Some((places, _)) = Haystack::new(&text).places(&quote, ends) {
                    prop_assert!(!places.is_empty());
                    for range in places {
                        prop_assert!(!text[range].is_empty());
                    }
                }
            }
        }

        #[test]
        fn any_texts_will_do(text in any::<String>(), quote in any::<String>()) {
            let _ = Haystack::new(&text).places(&quote, Ends::Free);
        }

        #[test]
        fn words_of_the_text_are_found(words in prop::collection::vec("[a-c]{1,3}", 1..30), from in 0..30_usize, count in 1..12_usize, drop in 0..12_usize) {
            let text = words.join(" ");
            let from = from % words.len();
            let mut quote: Vec<&str> =
                words[from..(from + count).min(words.len())].iter().map(String::as_str).collect();
            let haystack = Haystack::new(&text);
            let (places, how) = haystack.places(&quote.join(" "), Ends::Free).unwrap();
            prop_assert_eq!(how, Match::Exact);
            prop_assert!(!places.is_empty());
            let shouted = quote.join(" \n").to_uppercase();
            prop_assert_eq!(haystack.places(&shouted, Ends::Free).unwrap().1, Match::Folded);
            // With one word in five or more left out it is still found.
            if quote.len() >= 5 {
                quote.remove(drop % quote.len());
                prop_assert!(haystack.places(&quote.join(" "), Ends::Free).is_some());
            }
        }
    }
}
