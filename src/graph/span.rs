//! Spans and the text that they index.
//!
//! Offsets are 0-based, half-open and counted in Unicode scalar values of the whole document, everywhere: in
//! tables, in output, between rooms. Only [`Text`] knows bytes.

use std::{ops::Range, sync::Arc};

use serde::{Deserialize, Serialize};

/// A stretch of a document's text: `start..end` in Unicode scalar values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first character.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
}

impl Span {
    /// The span `start..end`.
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// Length in Unicode scalar values.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Whether `other` lies within this span.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a character.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// A text that finds characters by their number fast: every 64th character's byte is remembered, and nothing at
/// all for ASCII.
#[derive(Debug, Clone)]
pub struct Text {
    whole: Arc<str>,
    /// Byte offset of character `64 × i`; empty for ASCII, where the two counts agree.
    marks: Arc<[u32]>,
    chars: u32,
}

const STRIDE: usize = 64;

impl Text {
    /// Indexes `text`. Documents are limited to far below 4 GiB, where the counts would no longer fit.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.is_ascii() {
            let chars = u32::try_from(text.len()).unwrap_or(u32::MAX);
            return Self {
                whole: text,
                marks: Arc::new([]),
                chars,
            };
        }
        let mut marks = Vec::with_capacity(text.len() / STRIDE + 1);
        let mut chars = 0_usize;
        for (byte, _) in text.char_indices() {
            if chars.is_multiple_of(STRIDE) {
                marks.push(u32::try_from(byte).unwrap_or(u32::MAX));
            }
            chars += 1;
        }
        Self {
            whole: text,
            marks: marks.into(),
            chars: u32::try_from(chars).unwrap_or(u32::MAX),
        }
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// Its length in Unicode scalar values.
    #[must_use]
    pub const fn chars(&self) -> u32 {
        self.chars
    }

    /// The byte at which character `index` begins; the text's length for anything past its end.
    #[must_use]
    pub fn byte_of(&self, index: u32) -> usize {
        let index = index as usize;
        if self.marks.is_empty() {
            return index.min(self.whole.len());
        }
        let Some(&mark) = self.marks.get(index / STRIDE) else {
            return self.whole.len();
        };
        let mark = mark as usize;
        self.whole[mark..]
            .char_indices()
            .nth(index % STRIDE)
            .map_or(self.whole.len(), |(offset, _)| mark + offset)
    }

    /// The character that begins at or before `byte`.
    #[must_use]
    pub fn char_of(&self, byte: usize) -> u32 {
        let byte = byte.min(self.whole.len());
        if self.marks.is_empty() {
            return u32::try_from(byte).unwrap_or(u32::MAX);
        }
        let after = self.marks.partition_point(|&mark| mark as usize <= byte);
        let block = after.saturating_sub(1);
        let mark = self.marks.get(block).map_or(0, |&mark| mark as usize);
        let within = self.whole[mark..]
            .char_indices()
            .skip(1)
            .take_while(|(offset, _)| mark + offset <= byte)
            .count();
        let end = usize::from(byte == self.whole.len() && byte > mark);
        let last = if end == 1 {
            self.chars as usize
        } else {
            block * STRIDE + within
        };
        u32::try_from(last).unwrap_or(u32::MAX)
    }

    /// The bytes that `span` covers.
    #[must_use]
    pub fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte_of(span.start);
        start..self.byte_of(span.end).max(start)
    }

    /// The text that `span` covers.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        &self.whole[self.bytes(span)]
    }

    /// The span of a range of bytes that lies on character boundaries.
    #[must_use]
    pub fn span(&self, bytes: Range<usize>) -> Span {
        Span::new(self.char_of(bytes.start), self.char_of(bytes.end))
    }

    /// The spans of ranges of bytes that are ascending and lie on character boundaries, in one pass over the text.
    pub fn spans(
        &self,
        ranges: impl IntoIterator<Item = Range<usize>>,
    ) -> impl Iterator<Item = Span> {
        let (mut byte, mut chars) = (0, 0);
        let mut char_at = move |to: usize| {
            if self.marks.is_empty() {
                return self.char_of(to);
            }
            let passed = self
                .whole
                .get(byte..to)
                .map_or(0, |passed| passed.chars().count());
            chars += u32::try_from(passed).unwrap_or(u32::MAX);
            byte = byte.max(to);
            chars
        };
        ranges
            .into_iter()
            .map(move |range| Span::new(char_at(range.start), char_at(range.end)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn characters_and_bytes_lead_to_each_other(text in "[a-zé漢😀 ]{0,300}") {
            let indexed = Text::new(text.as_str());
            prop_assert_eq!(indexed.chars() as usize, text.chars().count());
            for (number, (byte, _)) in text.char_indices().enumerate() {
                let number = u32::try_from(number).unwrap();
                prop_assert_eq!(indexed.byte_of(number), byte);
                prop_assert_eq!(indexed.char_of(byte), number);
            }
            prop_assert_eq!(indexed.byte_of(indexed.chars()), text.len());
            prop_assert_eq!(indexed.char_of(text.len()), indexed.chars());
        }

        #[test]
        fn a_slice_is_the_characters_of_its_span(text in "[aé漢😀]{1,200}", a in 0..200_u32, b in 0..200_u32) {
            let indexed = Text::new(text.as_str());
            let (start, end) = (a.min(b).min(indexed.chars()), a.max(b).min(indexed.chars()));
            let expected: String =
                text.chars().skip(start as usize).take((end - start) as usize).collect();
            prop_assert_eq!(indexed.slice(Span::new(start, end)), expected);
        }
    }
}
