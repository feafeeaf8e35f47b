//! From a rule that fits to what is stated: not if it is denied or doubted; for every name of an enumeration; with
//! its evidence.

use std::ops::RangeInclusive;

use super::{
    Reader,
    items::Item,
    rules::{Anchor, Rule},
    scorer::Features,
    vocabulary::Bits,
};
use crate::graph::FoundRelation;

/// How many names of an enumeration are read at most, on either side.
const LISTED: usize = 8;

/// How far before a verb a denial is looked for, in items.
const DENIAL: usize = 7;

/// How far before a statement "denied that" and "if" are looked for, in items.
const DOUBT: usize = 4;

impl Reader<'_> {
    /// How far what stands between the ends is stated: `None` if it is denied or only possible. `verb` is the place
    /// of the verb of a rule that has one.
    pub(super) fn is_stated(&self, left: usize, right: usize, verb: Option<usize>) -> Option<f32> {
        let grammar = &self.rules.grammar;
        let (first, last) = (left.min(right), left.max(right));
        let from = verb.map_or(first, |verb| {
            verb.saturating_sub(DENIAL).max(first.min(verb))
        });
        let unsure = grammar.denial | grammar.doubt;
        let says = |item: &Item, what: Bits| {
            item.is(what) && !item.is(Bits::CAPITAL) && item.mention.is_none()
        };
        if self.items[from..=last]
            .iter()
            .any(|item| says(item, unsure))
        {
            return None;
        }
        let before = &self.items[from.min(first).saturating_sub(DOUBT)..first];
        let doubted = before.iter().enumerate().any(|(at, item)| {
            // A word of doubt may open a sentence with a capital; a denial right before a name is about the name.
            item.mention.is_none()
                && (item.is(grammar.doubt) && (item.is(grammar.clause) || verb.is_some())
                    || item.is(grammar.denial) && (verb.is_some() || at + 1 == before.len()))
        });
        if doubted {
            return None;
        }
        let hedged = self.items[first.saturating_sub(2)..=last]
            .iter()
            .any(|item| says(item, grammar.hedge));
        Some(if hedged { 0.6 } else { 1.0 })
    }

    /// The right end and those that an enumeration adds to it: "A, B and C", "Gary, Indiana".
    pub(super) fn listed(&self, rule: &Rule, right: usize) -> Vec<usize> {
        let mut ends = vec![right];
        let mut at = right;
        while ends.len() < LISTED
            && let Some(next) = self.next_in_list(at, rule.single)
            && self.is_right(rule, &self.items[next])
            && self.items[next].is_name()
        {
            ends.push(next);
            at = next;
        }
        ends
    }

    /// The name that follows in an enumeration, or as the place that holds a place.
    fn next_in_list(&self, at: usize, single: bool) -> Option<usize> {
        let grammar = &self.rules.grammar;
        let own = self.items[at].bits & (Bits::PERSON | Bits::ORGANIZATION | Bits::LOCATION);
        let is = |at: usize, bits: Bits| self.items.get(at).is_some_and(|item| item.is(bits));
        let mut next = at + 1;
        if is(next, grammar.comma) {
            next += 1;
            // "Tucker, 15, Benjamin, 12, and Corinne".
            if is(next, Bits::NUMBER) && is(next + 1, grammar.comma) {
                next += 2;
            }
            if is(next, grammar.and) {
                next += 1;
            }
        } else if is(next, grammar.and) || own.any(Bits::LOCATION) && is(next, grammar.within) {
            next += 1;
        } else {
            return None;
        }
        // Words before the next name only behind "and": after a comma they may be the next clause's verb.
        let words = if is(next - 1, grammar.comma) {
            Bits::default()
        } else {
            Bits::WORD.without(self.rules.verbs)
        };
        while next < at + 6 && is(next, grammar.determiner | grammar.title | words) {
            next += 1;
        }
        let item = self.items.get(next)?;
        // "in A and B founded C": B is the next clause's subject.
        let clause = self.items.get(next + 1).is_some_and(|after| {
            after.is(grammar.be | grammar.saying | grammar.possessive)
                || after.is(self.rules.verbs) && !is(at + 1, grammar.comma)
        });
        let region = item.is(Bits::REGION) && self.items[at + 1].is(grammar.comma);
        let holds = region || self.items[at + 1].is(grammar.within);
        (item.is(own) && (!clause || region) && (holds || !single)).then_some(next)
    }

    /// The left end and those joined to it: "A and B founded C".
    pub(super) fn joined(&self, rule: &Rule, left: usize) -> Vec<usize> {
        let grammar = &self.rules.grammar;
        let mut ends = vec![left];
        if rule.anchor == Anchor::Next && !self.items[left].is(Bits::PERSON) {
            return ends;
        }
        let mut at = left;
        while ends.len() < LISTED && at >= 2 {
            let and = self.items[at - 1].is(grammar.and);
            let comma = ends.len() > 1 && self.items[at - 1].is(grammar.comma);
            let mut before = at - 2;
            if and && self.items[before].is(grammar.comma) && before > 0 {
                before -= 1;
            }
            let item = &self.items[before];
            if !(and || comma)
                || rule.anchor == Anchor::Next && !comma && !self.plural(left)
                || !item.is_name()
                || !item.is(self.items[left].bits & (Bits::PERSON | Bits::ORGANIZATION))
                || !self.is_left(rule, item)
            {
                break;
            }
            ends.push(before);
            at = before;
        }
        ends
    }

    /// Whether what follows speaks of several: "A and B of C".
    fn plural(&self, at: usize) -> bool {
        self.items
            .get(at + 1)
            .is_some_and(|next| next.is(self.rules.grammar.preposition))
    }

    /// Records what was found, if the ontology allows it.
    pub(super) fn state(
        &mut self,
        rule: &Rule,
        left: usize,
        right: usize,
        taken: RangeInclusive<usize>,
        confidence: f32,
    ) {
        let (subject, object) = if rule.reversed {
            (&self.items[right], &self.items[left])
        } else {
            (&self.items[left], &self.items[right])
        };
        let (Some(from), Some(to), Some(id)) = (
            subject.mention,
            object.mention,
            self.types.id(rule.relation),
        ) else {
            return;
        };
        let (from, to) = (&self.known[from], &self.known[to]);
        let text = self.chunk.text.as_str();
        let same = text[from.bytes.clone()] == text[to.bytes.clone()];
        // "It was founded by X": a relation whose object the sentence does not name has no evidence.
        if same || object.is(Bits::STANDS_FOR) {
            return;
        }
        let first = left.min(right).min(*taken.start());
        let last = left.max(right).max(*taken.end());
        let evidence = self
            .chunk
            .text
            .span(self.items[first].bytes.start..self.items[last].bytes.end);
        let by_rule = confidence
            * if subject.is(Bits::STANDS_FOR) {
                0.85
            } else {
                1.0
            };
        let features = || Features::of(self, rule, left, right);
        let sure = self.scorer.confidence(by_rule, features);
        #[cfg(feature = "train")]
        {
            let seen = features();
            self.seen.push(seen);
        }
        self.found.push(FoundRelation {
            subject: from.mention.span,
            predicate: id.clone(),
            object: to.mention.span,
            evidence,
            // To hundredths: the rules' figures are no more precise.
            confidence: (sure * 100.0).round() / 100.0,
        });
    }
}

/// One statement of each kind between two names of a sentence: the surest, and of those the shortest.
pub(super) fn settle(found: &mut Vec<FoundRelation>, begun: usize) {
    let mut own = found.split_off(begun);
    own.sort_by(|a, b| {
        (a.subject, a.object, &a.predicate)
            .cmp(&(b.subject, b.object, &b.predicate))
            .then(b.confidence.total_cmp(&a.confidence))
            .then(a.evidence.len().cmp(&b.evidence.len()))
            .then(a.evidence.cmp(&b.evidence))
    });
    own.dedup_by(|next, kept| {
        (next.subject, next.object, &next.predicate) == (kept.subject, kept.object, &kept.predicate)
    });
    found.append(&mut own);
}
