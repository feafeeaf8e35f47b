//! Words, numbers and marks with their bytes.
//!
//! Knows characters only, no word's meaning. Invariant: tokens are ascending, share nothing, lie on character
//! boundaries and leave out nothing but white space; the time is linear in the text.

use std::{borrow::Cow, ops::Range};

use unicode_normalization::char::is_combining_mark;

/// A word, a number or a mark.
#[derive(Debug, Clone)]
pub(super) struct Token<'a> {
    /// Its bytes in the text that was cut.
    pub(super) at: Range<usize>,
    pub(super) text: &'a str,
    /// In lower case, with straight apostrophes.
    pub(super) lower: Lower<'a>,
}

/// A word in lower case; borrowed where it is so in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lower<'a>(Cow<'a, str>);

impl Lower<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::ops::Deref for Lower<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Token<'_> {
    pub(super) fn is(&self, lower: &str) -> bool {
        self.lower.as_str() == lower
    }

    pub(super) fn is_one_of(&self, lower: &[&str]) -> bool {
        lower.contains(&self.lower.as_str())
    }
}

/// Abbreviations that keep their full stop within a sentence.
const WITH_STOP: &[&str] = &[
    "St", "Ste", "Dr", "Mr", "Mrs", "Ms", "Prof", "Inc", "Ltd", "Co", "Corp", "Jr", "Sr", "Mt",
    "Ft", "Gen", "Col", "Capt", "Lt", "Maj", "Sgt", "Sen", "Rep", "Gov", "Rev", "Hon", "Pres",
    "No", "Vol", "Bros", "Adm", "Calif", "Mass", "Conn", "Fla", "Ga", "Ill", "Ind", "Mich", "Minn",
    "Miss", "Mo", "Okla", "Pa", "Tenn", "Tex", "Va", "Wash", "Wis", "Ore", "Ariz", "Colo", "Ala",
    "Ark", "Ky", "La", "Md", "Neb", "Nev", "Jan", "Feb", "Aug", "Sept", "Oct", "Nov", "Dec",
];

/// The tokens of `range` of `text`, a sentence.
pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<Token<'_>> {
    let mut found = Vec::with_capacity(range.len() / 5 + 1);
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
        let written = &text[at..end];
        found.push(Token {
            at: at..end,
            text: written,
            lower: lower(written),
        });
        at = end;
    }
    found
}

fn lower(written: &str) -> Lower<'_> {
    let same = if written.is_ascii() {
        !written.bytes().any(|byte| byte.is_ascii_uppercase())
    } else {
        !written.contains(|c: char| c.is_uppercase() || c == '’')
    };
    Lower(if same {
        Cow::Borrowed(written)
    } else {
        Cow::Owned(written.to_lowercase().replace('’', "'"))
    })
}

/// Whether `rest` is the ending of a possessive: an apostrophe, an s, and then no letter.
fn possessive(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    characters.next() == Some('s') && !characters.next().is_some_and(char::is_alphanumeric)
}

fn word_end(text: &str, start: usize, limit: usize) -> usize {
    let bytes = &text.as_bytes()[..limit];
    let mut end = start;
    loop {
        // Plain letters and digits, which are nearly all.
        while bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
            end += 1;
        }
        let mut rest = text[end..limit].chars();
        let Some(next) = rest.next() else { break };
        if matches!(next, ' ' | '\n') {
            break;
        }
        let after = rest.next();
        let continues = next.is_alphanumeric()
            || !next.is_ascii() && is_combining_mark(next)
            || after.is_some_and(|after| {
                after.is_alphanumeric() && joins(&text[start..end], next, after)
            }) && !(matches!(next, '\'' | '’') && possessive(&text[end..limit]));
        if !continues {
            break;
        }
        end += next.len_utf8();
    }
    if bytes.get(end) == Some(&b'.') && keeps_stop(&text[start..end], end + 1 < limit) {
        end += 1;
    }
    end
}

/// Whether the full stop behind `word` is the word's own; `within` a sentence an initial's is.
fn keeps_stop(word: &str, within: bool) -> bool {
    // Longer ones are no abbreviations, and looking at all of each would cost.
    if word.len() > 12 {
        return false;
    }
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    word.contains('.') && !word.contains(|c: char| c.is_ascii_digit())
        || within && initial
        || word.len() <= 5 && WITH_STOP.contains(&word)
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

    #[test]
    fn the_lower_case_of_a_word_is_its_own() {
        let lower: Vec<_> = tokens("Émile O’Hara's İx 漢", 0.."Émile O’Hara's İx 漢".len())
            .iter()
            .map(|token| token.lower.to_string())
            .collect();
        assert_eq!(lower, ["émile", "o'hara", "'s", "i\u{307}x", "漢"]);
    }
}
