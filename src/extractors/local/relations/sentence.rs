//! A sentence with its mentions, and what its words of grammar say.

use std::ops::Range;

use super::{
    super::{lexicon::Hints, token::Token},
    End, TRIGGERS,
};
use crate::graph::TypedMention;

pub(super) struct Sentence<'t, 'm> {
    pub(super) tokens: &'t [Token<'t>],
    pub(super) mentions: Vec<(Range<usize>, &'m TypedMention)>,
    /// The mention that covers each token.
    covering: Vec<Option<usize>>,
}

impl<'t, 'm> Sentence<'t, 'm> {
    pub(super) fn new(tokens: &'t [Token<'t>], own: &[(Range<usize>, &'m TypedMention)]) -> Self {
        let mut covering = vec![None; tokens.len()];
        let mut mentions: Vec<(Range<usize>, &TypedMention)> = Vec::new();
        for (bytes, mention) in own {
            let first = tokens.partition_point(|token| token.at.end <= bytes.start);
            let after = tokens.partition_point(|token| token.at.start < bytes.end);
            let taken = mentions.last().map_or(0, |(range, _)| range.end);
            if first >= taken && first < after {
                covering[first..after].fill(Some(mentions.len()));
                mentions.push((first..after, mention));
            }
        }
        Self {
            tokens,
            mentions,
            covering,
        }
    }

    pub(super) fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.lower.as_str())
    }

    /// The mention at a token, if one begins or goes on there.
    pub(super) fn mention(&self, at: usize) -> Option<(&Range<usize>, &'m TypedMention)> {
        let index = (*self.covering.get(at)?)?;
        self.mentions
            .get(index)
            .map(|(range, mention)| (range, *mention))
    }

    /// The mention at a token, as an end of a relation.
    pub(super) fn end_at(&self, at: usize) -> Option<End<'m>> {
        let (range, mention) = self.mention(at)?;
        Some(End {
            mention,
            at: range.start,
            confidence: 1.0,
        })
    }

    /// The mention's place, its article left out, is what a preposition or another verb leads to.
    pub(super) fn is_governed(&self, start: usize) -> bool {
        let mut before = start;
        while before > 0
            && (matches!(self.word(before - 1), "the" | "a" | "an" | "\"" | "“")
                || self.tokens[before - 1].hints().any(Hints::ROLE))
        {
            before -= 1;
        }
        before > 0 && {
            let word = self.word(before - 1);
            matches!(
                word,
                "of" | "in"
                    | "at"
                    | "by"
                    | "with"
                    | "from"
                    | "for"
                    | "to"
                    | "on"
                    | "near"
                    | "as"
                    | "than"
                    | "into"
                    | "between"
                    | "against"
                    | "under"
                    | "after"
                    | "'s"
                    | "like"
            ) || matches!(
                word,
                "left"
                    | "met"
                    | "won"
                    | "led"
                    | "sold"
                    | "held"
                    | "made"
                    | "saw"
                    | "beat"
                    | "gave"
                    | "ran"
                    | "brought"
                    | "persuaded"
                    | "told"
            ) || TRIGGERS.contains_key(word)
                || self.tokens[before - 1].word()
                    && !self.tokens[before - 1].capital()
                    && word.len() > 4
                    && (word.ends_with("ed") || word.ends_with("ing"))
        }
    }
}

pub(super) fn is_be(word: &str) -> bool {
    matches!(
        word,
        "is" | "was" | "are" | "were" | "be" | "been" | "being"
    )
}

/// Words that end the search for a verb's object.
pub(super) fn is_barrier(word: &str) -> bool {
    is_be(word)
        || matches!(
            word,
            "and"
                | "but"
                | "or"
                | "who"
                | "which"
                | "that"
                | "where"
                | "when"
                | "while"
                | "he"
                | "she"
                | "they"
                | "it"
                | "has"
                | "had"
                | "have"
                | "to"
                | "by"
                | "with"
                | "as"
                | "after"
                | "before"
                | "because"
                | "for"
                | "from"
                | "of"
                | "his"
                | "her"
                | "their"
                | "until"
                | "since"
                | "under"
                | "against"
                | "than"
                | "between"
        )
}

/// Whether what the word states is denied or only possible.
pub(super) fn is_denied(sentence: &Sentence<'_, '_>, at: usize) -> bool {
    (at.saturating_sub(4)..at).any(|before| {
        let word = sentence.word(before);
        matches!(
            word,
            "not"
                | "never"
                | "without"
                | "would"
                | "could"
                | "may"
                | "might"
                | "should"
                | "planned"
                | "wanted"
                | "hoped"
                | "tried"
                | "failed"
                | "refused"
                | "declined"
                | "if"
                | "nor"
                | "neither"
                | "cannot"
        ) || word.ends_with("n't")
    })
}

/// Whether a noun at `noun` says what the mention at `subject` is.
pub(super) fn is_predicate(sentence: &Sentence<'_, '_>, subject: usize, noun: usize) -> bool {
    let start = sentence
        .mention(subject)
        .map_or(subject + 1, |(range, _)| range.end);
    let between = || (start..noun).map(|at| sentence.word(at));
    let apposed = sentence.word(start) == ","
        || sentence.word(start) == "(" && between().any(|word| word == ")");
    let linked = |word: &str| {
        is_be(word)
            || apposed
            || matches!(
                word,
                "became" | "as" | "appointed" | "elected" | "named" | "becoming" | "remained"
            )
    };
    noun.saturating_sub(start) <= 16
        && between().any(linked)
        && !(start..noun).any(|at| sentence.mention(at).is_some() && sentence.word(at + 1) == "'s")
        && !between().any(|word| {
            matches!(
                word,
                "with" | "by" | "met" | "against" | "that" | "where" | "whose"
            )
        })
}
