//! A sentence as rules see it: its words and marks, each name as one, and what each can mean.
//!
//! Must not know relations. Invariant: items stand in the order of the text, and their bytes do not overlap.

use std::ops::Range;

use super::{
    super::token::Token,
    rules::{Grammar, Rules},
    vocabulary::Bits,
};
use crate::graph::TypedMention;

/// A mention of the chunk.
#[derive(Debug, Clone)]
pub(super) struct Known<'a> {
    pub(super) mention: &'a TypedMention,
    pub(super) bytes: Range<usize>,
    /// Its kind.
    pub(super) bits: Bits,
    /// Index into the classes of the chunk.
    pub(super) class: usize,
    /// What the scorer knows the class by.
    pub(super) class_key: u64,
}

/// A word, a mark or a name.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) bytes: Range<usize>,
    pub(super) bits: Bits,
    /// The mention that it is or stands for.
    pub(super) mention: Option<usize>,
}

impl Item {
    pub(super) const fn is(&self, bits: Bits) -> bool {
        self.bits.any(bits)
    }

    /// It is a name itself.
    pub(super) const fn is_name(&self) -> bool {
        self.mention.is_some() && !self.bits.any(Bits::STANDS_FOR)
    }
}

/// Writes the items of a sentence into `items`; `own` are the chunk's mentions that begin in it, by number.
pub(super) fn itemize(
    items: &mut Vec<Item>,
    text: &str,
    tokens: &[Token<'_>],
    known: &[Known<'_>],
    own: Range<usize>,
    rules: &Rules<'_>,
) {
    items.clear();
    let mut next = own.start;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        while next < own.end && known[next].bytes.end <= token.at.start {
            next += 1;
        }
        let Some(mention) = known[..own.end]
            .get(next)
            .filter(|mention| mention.bytes.start < token.at.end)
        else {
            push_word(items, token.at.clone(), token.text, &token.lower, rules);
            at += 1;
            continue;
        };
        let mut bits = mention.bits;
        if bits.any(Bits::LOCATION) {
            let region = rules.vocabulary.is_region(&text[mention.bytes.clone()]);
            bits |= if region { Bits::REGION } else { Bits::TOWN };
        }
        if token.at.start < mention.bytes.start {
            // "D-Ohio", cut as one word.
            let begin = token.at.start..mention.bytes.start;
            let word = text[begin.clone()].to_lowercase();
            push_word(items, begin.clone(), &text[begin], &word, rules);
        }
        items.push(Item {
            bytes: mention.bytes.clone(),
            bits,
            mention: Some(next),
        });
        let end = mention.bytes.end;
        while tokens.get(at).is_some_and(|token| token.at.start < end) {
            at += 1;
        }
        if let Some(last) = tokens[..at].last().filter(|last| last.at.end > end) {
            // "Paris-based", cut as one word.
            push_rest(items, text, end..last.at.end, rules);
        }
        next += 1;
    }
}

/// The rest of a word whose beginning is a name.
fn push_rest(items: &mut Vec<Item>, text: &str, rest: Range<usize>, rules: &Rules<'_>) {
    let word = &text[rest.clone()];
    let known = rules.vocabulary.word(word);
    if known != Bits::default() || word.len() < 2 || !word.starts_with('-') {
        push_word(items, rest, word, word, rules);
        return;
    }
    let middle = rest.start + 1;
    push_word(items, rest.start..middle, "-", "-", rules);
    let word = &text[middle..rest.end];
    push_word(items, middle..rest.end, word, word, rules);
}

fn push_word(
    items: &mut Vec<Item>,
    bytes: Range<usize>,
    written: &str,
    lower: &str,
    rules: &Rules<'_>,
) {
    let grammar = &rules.grammar;
    let mut bits = rules.vocabulary.word(lower);
    let mut characters = written.chars();
    let first = characters.next().unwrap_or(' ');
    if first.is_alphabetic() {
        if !bits.any(grammar.function) {
            bits |= Bits::WORD;
        }
        if first.is_uppercase() {
            bits |= Bits::CAPITAL;
            if bits.any(grammar.doubt) && !bits.any(grammar.clause) {
                // May the month and Will the name.
                bits = bits.without(grammar.doubt | grammar.function) | Bits::WORD;
            }
        }
        if lower.ends_with("n't") || lower.ends_with("n’t") {
            bits |= grammar.denial;
        }
    } else if first.is_ascii_digit() {
        bits |= Bits::NUMBER;
    }
    items.push(Item {
        bytes: bytes.clone(),
        bits,
        mention: None,
    });
    if bits.any(grammar.inside) {
        // "his" is he and the possessive mark.
        items.push(Item {
            bytes: bytes.end..bytes.end,
            bits: grammar.possessive,
            mention: None,
        });
    }
}

/// Where the bracket that opens at `open` closes, if it does within reach.
pub(super) fn closes(items: &[Item], open: usize, grammar: &Grammar) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, item) in items.iter().enumerate().skip(open).take(BRACKETS) {
        if item.is(grammar.open) {
            depth += 1;
        } else if item.is(grammar.close) {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// How much a bracket may hold to be stepped over, in items.
const BRACKETS: usize = 40;
