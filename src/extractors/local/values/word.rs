//! Words, figures and marks, as values need them: cheaper than the tokens of names, and figures keep their commas.
//!
//! Knows bytes only. Invariant: every word lies on character boundaries of the text.

use std::ops::Range;

/// What stands between a word and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// Nothing.
    None,
    /// White space within a paragraph.
    Space,
    /// The end of a paragraph, or the beginning of the text.
    Break,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Digits, with commas between thousands and a decimal point.
    Figure,
    Word,
    Mark,
}

#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    gap: Gap,
    kind: Kind,
}

/// The words of a stretch of text.
pub(super) struct Words<'a> {
    text: &'a str,
    words: Vec<Word>,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str, bytes: Range<usize>) -> Self {
        let source = text.as_bytes();
        let limit = bytes.end;
        let mut words = Vec::with_capacity(bytes.len() / 5);
        let mut gap = Gap::Break;
        let mut at = bytes.start;
        while at < limit {
            let byte = source[at];
            let (kind, end) = if byte.is_ascii_digit() {
                (Kind::Figure, figure_end(&source[..limit], at))
            } else if byte.is_ascii_alphabetic() {
                (Kind::Word, word_end(text, at, limit))
            } else if byte.is_ascii_whitespace() {
                gap = after_space(gap, byte == b'\n');
                at += 1;
                continue;
            } else if byte.is_ascii() {
                (Kind::Mark, at + 1)
            } else {
                let Some(first) = text[at..limit].chars().next() else {
                    break;
                };
                if first.is_whitespace() {
                    gap = after_space(gap, false);
                    at += first.len_utf8();
                    continue;
                } else if first.is_alphanumeric() {
                    (Kind::Word, word_end(text, at, limit))
                } else {
                    (Kind::Mark, at + first.len_utf8())
                }
            };
            words.push(Word {
                start: at,
                end,
                gap,
                kind,
            });
            gap = Gap::None;
            at = end;
        }
        Self { text, words }
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// The word at `at`, as it is written; empty past the end.
    pub(super) fn text(&self, at: usize) -> &'a str {
        self.words
            .get(at)
            .map_or("", |word| &self.text[word.start..word.end])
    }

    /// The word at `at` if it belongs to the paragraph of the one before.
    pub(super) fn next(&self, at: usize) -> &'a str {
        match self.words.get(at) {
            Some(word) if word.gap != Gap::Break => &self.text[word.start..word.end],
            Some(_) | None => "",
        }
    }

    /// The word before `at` in its paragraph.
    pub(super) fn before(&self, at: usize) -> &'a str {
        match self.words.get(at) {
            Some(word) if word.gap != Gap::Break && at > 0 => self.text(at - 1),
            Some(_) | None => "",
        }
    }

    /// Whether nothing stands between the word at `at` and the one before.
    pub(super) fn is_joined(&self, at: usize) -> bool {
        self.words.get(at).is_some_and(|word| word.gap == Gap::None)
    }

    /// The figure at `at`.
    pub(super) fn figure(&self, at: usize) -> Option<&'a str> {
        let word = self.words.get(at)?;
        (word.kind == Kind::Figure).then(|| &self.text[word.start..word.end])
    }

    /// The figure at `at` in the paragraph of the word before.
    pub(super) fn next_figure(&self, at: usize) -> Option<&'a str> {
        self.figure(at).filter(|_| self.words[at].gap != Gap::Break)
    }

    pub(super) fn is_mark(&self, at: usize) -> bool {
        self.words
            .get(at)
            .is_some_and(|word| word.kind == Kind::Mark)
    }

    /// Whether a dash of any width is at `at`, and how far it reaches: past it.
    pub(super) fn dash(&self, at: usize) -> Option<usize> {
        matches!(self.next(at), "-" | "–" | "—" | "‐" | "‑" | "−").then_some(at + 1)
    }

    /// The bytes of the words `from..to`.
    pub(super) fn bytes(&self, from: usize, to: usize) -> Range<usize> {
        let start = self.words.get(from).map_or(0, |word| word.start);
        let end = to.checked_sub(1).and_then(|last| self.words.get(last));
        start..end.map_or(start, |word| word.end)
    }

    /// Whether what is at `at` is not the tail of something else: `B-52`, `#5`, `1.2.3`, `a/5`.
    pub(super) fn is_apart(&self, at: usize) -> bool {
        if !self.is_joined(at) || at == 0 {
            return true;
        }
        let before = self.text(at - 1);
        match before {
            "-" | "‐" | "‑" | "–" | "—" => {
                // A dash between two things belongs to neither, unless it ties the figure to a word.
                let tied = self.is_joined(at - 1)
                    && at >= 2
                    && self.words[at - 2].kind == Kind::Word
                    && matches!(before, "-" | "‐" | "‑");
                !tied || PREFIXES.contains(&self.text(at - 2).to_ascii_lowercase().as_str())
            }
            "#" | "@" | "_" | "/" | "\\" | ":" | "&" | "=" | "+" | "*" | "^" => false,
            "." => {
                // `c.1500` is a year, `1.2.3` and `v.5` are not.
                at >= 2 && self.is_joined(at - 1) && matches!(self.text(at - 2), "c" | "ca")
                    || !self.is_joined(at - 1)
            }
            "," => !(at >= 2 && self.is_joined(at - 1) && self.words[at - 2].kind == Kind::Figure),
            _ => self.is_mark(at - 1),
        }
    }

    /// Whether any rule could begin at `at`: a figure, a sign, or a word that is a month, a number or the like.
    pub(super) fn may_begin_a_value(&self, at: usize) -> bool {
        let word = self.words[at];
        match word.kind {
            Kind::Figure => true,
            Kind::Mark => !self.text.as_bytes()[word.start].is_ascii() || self.text(at) == "$",
            Kind::Word => {
                // Months and currencies are capitalized; numbers in words and seasons need not be.
                let first = self.text.as_bytes()[word.start];
                word.end - word.start <= 12
                    && (first.is_ascii_uppercase()
                        || matches!(first, b'o' | b't' | b'f' | b's' | b'e' | b'n' | b'w' | b'a'))
            }
        }
    }
}

/// Words that a hyphen may tie to a date.
const PREFIXES: [&str; 6] = ["mid", "early", "late", "pre", "post", "circa"];

fn after_space(gap: Gap, newline: bool) -> Gap {
    match (gap, newline) {
        // A wrapped line ends in one newline at once; white space and a newline end a paragraph.
        (Gap::Break, _) | (Gap::Space, true) => Gap::Break,
        (Gap::Space | Gap::None, _) => Gap::Space,
    }
}

/// Where the figure that begins at `start` ends: `5`, `5,000`, `5,000.25`, `3.5`, but `5` of `5,00` and of `5.`.
fn figure_end(source: &[u8], start: usize) -> usize {
    let digits = |from: usize| {
        source[from.min(source.len())..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut end = start + digits(start);
    if end - start <= 3 {
        while source.get(end) == Some(&b',') && digits(end + 1) == 3 {
            end += 4;
        }
    }
    if source.get(end) == Some(&b'.') {
        let decimals = digits(end + 1);
        if decimals > 0 {
            end += 1 + decimals;
        }
    }
    end
}

fn word_end(text: &str, start: usize, limit: usize) -> usize {
    let source = text.as_bytes();
    let mut at = start;
    while at < limit {
        let byte = source[at];
        if byte.is_ascii_alphanumeric() {
            at += 1;
        } else if byte.is_ascii() {
            break;
        } else {
            match text[at..limit].chars().next() {
                // `m²` is a word of its own.
                Some(next) if next.is_alphanumeric() && !matches!(next, '€' | '£') => {
                    at += next.len_utf8();
                }
                Some(_) | None => break,
            }
        }
    }
    at
}
