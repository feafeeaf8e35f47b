//! Words, numbers and marks with their bytes.

use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use super::lexicon::{self, Hints};

/// A word, a number or a mark.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    /// Its bytes in the text that was cut.
    pub(super) at: Range<usize>,
    pub(super) text: &'a str,
    pub(super) lower: String,
    /// What its lower-case form hints at, and its written form as a name.
    pub(super) hints: Hints,
    pub(super) named: Hints,
    /// A word with a capital, at its beginning or inside.
    pub(super) capital: bool,
    pub(super) word: bool,
}

impl Token<'_> {
    pub(super) fn is(&self, lower: &str) -> bool {
        self.lower == lower
    }

    pub(super) fn is_one_of(&self, lower: &[&str]) -> bool {
        lower.contains(&self.lower.as_str())
    }

    pub(super) fn is_number(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit())
    }

    pub(super) fn is_quote(&self) -> bool {
        matches!(self.text, "\"" | "“" | "”" | "„" | "«" | "»" | "*" | "_")
    }

    /// Two letters or more, all of them capitals.
    pub(super) fn is_acronym(&self) -> bool {
        let mut letters = self.text.chars().filter(|c| c.is_alphabetic());
        self.capital && letters.clone().count() > 1 && letters.all(char::is_uppercase)
    }

    /// One capital, with or without a full stop.
    pub(super) fn is_initial(&self) -> bool {
        self.capital && self.text.trim_end_matches('.').chars().count() == 1
    }
}

/// Abbreviations that keep their full stop within a sentence.
const WITH_STOP: &[&str] = &[
    "St", "Ste", "Dr", "Mr", "Mrs", "Ms", "Prof", "Inc", "Ltd", "Co", "Corp", "Jr", "Sr", "Mt",
    "Ft", "Gen", "Col", "Capt", "Lt", "Maj", "Sgt", "Sen", "Gov", "Rev", "Hon", "Pres", "No",
    "Vol", "Bros",
];

/// The tokens of `range` of `text`, a sentence.
pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while let Some(first) = text[at..range.end].chars().next() {
        let end = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first.is_alphanumeric() {
            word_end(text, at, range.end)
        } else if matches!(first, '\'' | '’') && possessive(&text[at..range.end]) {
            at + first.len_utf8() + 1
        } else {
            at + first.len_utf8()
        };
        found.push(token(text, at..end));
        at = end;
    }
    found
}

fn token(text: &str, at: Range<usize>) -> Token<'_> {
    let written = &text[at.clone()];
    let lower = written.to_lowercase().replace('’', "'");
    let word = written.starts_with(char::is_alphabetic);
    let last = lower.rsplit('-').next().unwrap_or(&lower);
    Token {
        at,
        text: written,
        hints: lexicon::word(if word { last } else { &lower })
            | lexicon::word(
                lower
                    .strip_suffix('.')
                    .filter(|stem| stem.len() > 1)
                    .unwrap_or(""),
            ),
        named: lexicon::name(written),
        capital: word && written.chars().any(char::is_uppercase),
        word,
        lower,
    }
}

/// Whether `rest` is the ending of a possessive: an apostrophe, an s, and then no letter.
fn possessive(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    characters.next() == Some('s') && !characters.next().is_some_and(char::is_alphanumeric)
}

fn word_end(text: &str, start: usize, limit: usize) -> usize {
    let mut end = start;
    while let Some(next) = text[end..limit].chars().next() {
        let after = text[end + next.len_utf8()..limit].chars().next();
        let continues = next.is_alphanumeric()
            || is_combining_mark(next)
            || after.is_some_and(|after| {
                after.is_alphanumeric() && joins(&text[start..end], next, after)
            }) && !(matches!(next, '\'' | '’') && possessive(&text[end..limit]));
        if !continues {
            break;
        }
        end += next.len_utf8();
    }
    let word = &text[start..end];
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    let stop = text[end..limit].starts_with('.');
    let within = end + 1 < limit;
    if stop
        && (word.contains('.') && !word.contains(|c: char| c.is_ascii_digit())
            || within && initial
            || WITH_STOP.contains(&word))
    {
        end += 1;
    }
    end
}

/// Whether `mark` between `word` and `after` belongs to the word.
fn joins(word: &str, mark: char, after: char) -> bool {
    // Only the last few characters of a word decide, so that the time stays linear.
    let last = word.chars().next_back();
    let digits = last.is_some_and(|c| c.is_ascii_digit()) && after.is_ascii_digit();
    match mark {
        '.' => {
            let single = word.chars().rev().nth(1).is_none_or(|before| before == '.');
            digits || single && last.is_some_and(char::is_alphabetic) && after.is_alphabetic()
        }
        ',' => digits,
        '-' | '‐' | '‑' => {
            let lower =
                last.is_some_and(char::is_lowercase) && !word.starts_with(char::is_uppercase);
            !after.is_lowercase() || lower
        }
        '\'' | '’' => true,
        '&' => last.is_some_and(char::is_uppercase) && after.is_uppercase(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text, 0..text.len())
            .into_iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn names_keep_their_marks_and_lose_their_endings() {
        assert_eq!(
            words("J. R. O'Brien's U.S. AT&T."),
            ["J.", "R.", "O'Brien", "'s", "U.S.", "AT&T", "."]
        );
        assert_eq!(
            words("London-based Jean-Luc co-founded St. Ives, Inc."),
            [
                "London",
                "-",
                "based",
                "Jean-Luc",
                "co-founded",
                "St.",
                "Ives",
                ",",
                "Inc."
            ]
        );
        assert_eq!(
            words("In 1,000 e\u{301}te\u{301} (3.5)."),
            ["In", "1,000", "e\u{301}te\u{301}", "(", "3.5", ")", "."]
        );
    }
}
