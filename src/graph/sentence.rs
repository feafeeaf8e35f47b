//! Where sentences begin and end.
//!
//! Unicode's sentence boundaries, mended where they are known to be wrong: after abbreviations and initials, at the
//! line ends of wrapped text, before lower case. Blank lines, headings and list marks always end a sentence.
//! Invariant: the spans are ascending, share nothing, neither begin nor end with white space, and leave out nothing
//! but white space. The time is linear in the text, whatever it is.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::{Span, Text};

/// Words after whose full stop a sentence goes on.
///
/// **Source:** the abbreviations that English style guides list before a name, and those that broke sentences in 500
/// introductions of encyclopedia articles.
const ABBREVIATIONS: &[&str] = &[
    "Dr", "Mr", "Mrs", "Ms", "Prof", "Gen", "Col", "Capt", "Cpt", "Cmdr", "Lt", "Maj", "Sgt",
    "Adm", "Sen", "Rep", "Gov", "Rev", "St", "Ste", "Hon", "Pres", "Fr", "Mt", "Ft", "Messrs",
    "vs", "cf", "viz", "ca", "approx", "e.g", "i.e", "Ph", "Ven", "Bros", "feat",
];

/// Words after whose full stop a sentence goes on if a number follows.
const BEFORE_NUMBERS: &[&str] = &[
    "No", "Nos", "no", "nos", "Nr", "p", "pp", "vol", "Vol", "fig", "Fig", "ch", "Ch", "Art",
    "Sec", "sec", "Op", "op", "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept",
    "Oct", "Nov", "Dec", "c",
];

/// Words that begin a sentence even after an initial or an abbreviation in capitals ("in the U.S. He").
const STARTERS: &[&str] = &[
    "The", "He", "She", "It", "They", "We", "You", "In", "On", "At", "A", "An", "This", "That",
    "These", "Those", "His", "Her", "Its", "Their", "After", "Before", "When", "While", "But",
    "And", "As", "For", "From", "By", "Since", "During", "However", "There", "If", "Although",
    "Both", "Most", "Many", "Some", "Until", "With", "Then",
];

/// A longer run without a letter or digit ends a sentence: a rule, a row of dots. It also bounds how far Unicode's
/// rules, which look ahead from each mark and space after a full stop, can make the time grow.
const LONGEST_RUN_OF_MARKS: usize = 64;

/// A line shorter than this that does not end in a full stop is a heading, not wrapped text.
///
/// **Source:** prose is wrapped at 60 characters and more.
const SHORTEST_WRAPPED_LINE: usize = 45;

const CLOSERS: &[char] = &['"', '\'', '”', '’', '»', ')', ']', '*', '_'];

/// The sentences of `text`.
#[must_use]
pub fn sentences(text: &Text) -> Vec<Span> {
    text.spans(sentence_ranges(text.as_str())).collect()
}

/// The sentences of `text` in bytes: ascending, on character boundaries, without white space around them.
#[must_use]
pub fn sentence_ranges(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for block in blocks(text) {
        let mut start = block.start;
        for (offset, _) in text[block.clone()].split_sentence_bound_indices() {
            let at = block.start + offset;
            if at > start && !goes_on(&text[start..at], &text[at..block.end]) {
                found.extend(trimmed(text, start..at));
                start = at;
            }
        }
        found.extend(trimmed(text, start..block.end));
    }
    found
}

/// `range` without the white space around it, if anything is left.
fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let inner = text[range.clone()].trim_start();
    let start = range.end - inner.len();
    let end = start + inner.trim_end().len();
    (start < end).then_some(start..end)
}

/// The stretches that no sentence leaves: cut at blank lines and in long runs of marks.
fn blocks(text: &str) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut start, mut marks, mut line_is_blank) = (0, 0, false);
    for (at, character) in text.char_indices() {
        marks = if character.is_alphanumeric() {
            0
        } else {
            marks + 1
        };
        let blank_line = character == '\n' && line_is_blank;
        line_is_blank = character == '\n' || line_is_blank && character.is_whitespace();
        if blank_line || marks == LONGEST_RUN_OF_MARKS {
            let end = at + character.len_utf8();
            blocks.push(start..end);
            (start, marks) = (end, 0);
        }
    }
    if start < text.len() {
        blocks.push(start..text.len());
    }
    blocks
}

/// Whether the sentence that `before` ends with goes on in `after`, although Unicode's rules part them.
fn goes_on(before: &str, after: &str) -> bool {
    let (tail, head) = (before.trim_end(), after.trim_start());
    let Some(first) = head.chars().next().filter(|_| !tail.is_empty()) else {
        return true;
    };
    let line_ends = before[tail.len()..].contains('\n');
    // Looked for at a line's end alone: elsewhere it may lie far back, and the time would not be linear.
    let line = if line_ends {
        tail.rsplit('\n').next().unwrap_or(tail)
    } else {
        tail
    };
    if line_ends && (line.starts_with('#') || begins_with_list_mark(head)) {
        return false;
    }
    if first.is_lowercase() {
        return true;
    }
    let unclosed = tail.trim_end_matches(CLOSERS);
    if let Some(stem) = unclosed.strip_suffix('.') {
        return unclosed.len() == tail.len() && is_abbreviation(last_word(stem), head);
    }
    let ended = unclosed.ends_with(['!', '?', '…', '。', '！', '？', '．', '؟', '।', '։']);
    line_ends && !ended && line.len() >= SHORTEST_WRAPPED_LINE
}

fn begins_with_list_mark(head: &str) -> bool {
    if head.starts_with(['-', '*', '•', '#', '|', '>', '–']) {
        return true;
    }
    let rest = head.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < head.len() && head.len() - rest.len() <= 3 && rest.starts_with([')', '.'])
}

/// What stands behind the last white space or opening mark of `stem`; empty if that is far away.
fn last_word(stem: &str) -> &str {
    let word = stem
        .char_indices()
        .rev()
        .take(12)
        .find(|(_, c)| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '‘'));
    match word {
        Some((at, mark)) => &stem[at + mark.len_utf8()..],
        None if stem.len() <= 12 => stem,
        None => "",
    }
}

fn is_abbreviation(word: &str, head: &str) -> bool {
    if ABBREVIATIONS.contains(&word) {
        return true;
    }
    if BEFORE_NUMBERS.contains(&word) && head.starts_with(|c: char| c.is_ascii_digit()) {
        return true;
    }
    let initials = !word.is_empty()
        && word.split('.').all(|part| {
            let mut letters = part.chars().filter(|c| c.is_alphabetic());
            letters.next().is_some_and(char::is_uppercase) && part.chars().count() == 1
        });
    let next: &str = head
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or("");
    initials && !STARTERS.contains(&next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> Vec<String> {
        let indexed = Text::new(text);
        sentences(&indexed)
            .into_iter()
            .map(|span| indexed.slice(span).to_owned())
            .collect()
    }

    #[test]
    fn abbreviations_and_initials_do_not_end_a_sentence() {
        for whole in [
            "J. R. R. Tolkien met Dr. Smith.",
            "He lived in the U.S. Virgin Islands for years.",
            "See No. 5 and fig. 3, e.g. Paris.",
            "\"Where?\" he asked.",
        ] {
            assert_eq!(parts(whole), [whole]);
        }
        assert_eq!(
            parts("He left the U.S. He died."),
            ["He left the U.S.", "He died."]
        );
        assert_eq!(parts("No. That is all."), ["No.", "That is all."]);
    }

    #[test]
    fn wrapped_lines_are_one_sentence_and_headings_and_items_their_own() {
        let wrapped = "The machine was built in the laboratory of the\nUniversity of Manchester.";
        assert_eq!(parts(wrapped), [wrapped]);
        assert_eq!(
            parts("# Title\nText here.\n- one\n- two\n\nEnd"),
            ["# Title", "Text here.", "- one", "- two", "End"]
        );
    }

    #[test]
    fn the_time_is_linear_in_hostile_texts() {
        for unit in [
            ". ",
            ".)",
            ".\u{301}",
            ")",
            " ",
            ". 1",
            "a.\n",
            "A. ",
            "J. ",
            "J.\n",
            "é",
            "。",
            "\u{e000}.",
            "1",
        ] {
            let time = |bytes: usize| {
                let text = Text::new(format!("x.{}", unit.repeat(bytes / unit.len())));
                let begun = std::time::Instant::now();
                let _ = sentences(&text);
                begun.elapsed()
            };
            // Sixteen times the text; in quadratic time it would take 256 times as long. Others may use the machine
            // too.
            let linear = || time(1_000_000) < 40 * time(62_500).max(Duration::from_millis(5));
            assert!((0..3).any(|_| linear()), "{unit:?}");
        }
    }

    proptest! {
        #[test]
        fn sentences_are_exact(text in "([A-Ca-cé漢😀ש\u{301}.!?)\"' \n\t1-]|Dr|\r\n|\u{a0}){0,200}") {
            let indexed = Text::new(text.as_str());
            let characters: Vec<char> = text.chars().collect();
            let mut end = 0;
            let mut covered = vec![false; characters.len()];
            for span in sentences(&indexed) {
                prop_assert!(span.start >= end && !span.is_empty() && span.end <= indexed.chars());
                end = span.end;
                prop_assert!(!characters[span.start as usize].is_whitespace());
                prop_assert!(!characters[span.end as usize - 1].is_whitespace());
                covered[span.start as usize..span.end as usize].fill(true);
            }
            for (character, covered) in characters.iter().zip(covered) {
                prop_assert!(covered || character.is_whitespace());
            }
        }

        #[test]
        fn any_text_has_sentences(text in any::<String>()) {
            for range in sentence_ranges(&text) {
                prop_assert_eq!(text[range.clone()].trim(), &text[range]);
            }
        }
    }
}
