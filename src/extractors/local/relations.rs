//! What a chunk states about its names: typed rules over the words between and around them, sentence by sentence.
//!
//! The rules are data (`relations/rules.txt`), their words too (`relations/lexicon.txt`); which classes a relation may
//! join is the ontology's business, and a relation that it lacks is not looked for. What is denied, asked, or only
//! possible is not stated. The evidence is the stretch of one sentence from the first to the last word that the rule
//! took, with both ends in it, or the pronoun that stands for one.
//!
//! Invariant: a name is held against a bounded stretch around it, so that the time is linear in the chunk.

mod items;
mod matching;
mod rules;
mod scorer;
mod statement;
mod subjects;
mod topic;
#[cfg(feature = "train")]
mod train;
mod types;
mod vocabulary;

pub use self::scorer::RelationScorer;
#[cfg(feature = "train")]
pub(super) use self::train::train;
use self::{
    items::{Item, Known, itemize},
    matching::{backward, forward},
    rules::{Anchor, Rule, Rules},
    topic::Topic,
    types::Types,
    vocabulary::Bits,
};
use super::super::ChunkText;
use crate::graph::{FoundRelation, Ontology, TypedMention};

/// How far the right end may be from where a rule begins, in items.
const REACH: usize = 18;

/// The relations that the chunk states between `mentions`.
pub(super) fn relations(
    chunk: ChunkText<'_>,
    mentions: &[TypedMention],
    ontology: &Ontology,
    scorer: RelationScorer,
) -> Vec<FoundRelation> {
    let mut found = Vec::new();
    let reading = Reading {
        rules: rules::rules(),
        scorer,
    };
    reading.read(chunk, mentions, ontology, |reader| {
        let begun = found.len();
        found.append(&mut reader.found);
        statement::settle(&mut found, begun);
    });
    found
}

/// What a chunk is read with.
struct Reading {
    rules: &'static Rules<'static>,
    scorer: RelationScorer,
}

impl Reading {
    /// Every fit of a rule, with its features.
    #[cfg(feature = "train")]
    fn with_features(
        &self,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Vec<(FoundRelation, scorer::Features)> {
        let mut found = Vec::new();
        self.read(chunk, mentions, ontology, |reader| {
            found.extend(reader.found.drain(..).zip(reader.seen.drain(..)));
        });
        found
    }

    /// Reads sentence by sentence; `done` takes what each has stated.
    fn read(
        &self,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
        mut done: impl FnMut(&mut Reader<'_>),
    ) {
        let rules = self.rules;
        let inside = || {
            mentions
                .iter()
                .filter(|mention| chunk.span.contains(mention.span) && !mention.span.is_empty())
        };
        let types = Types::read(inside(), ontology, rules);
        let text = chunk.text.as_str();
        let mut known: Vec<Known<'_>> = inside()
            .filter_map(|mention| {
                let (class, bits) = types.class(&mention.class)?;
                Some(Known {
                    mention,
                    bytes: chunk.text.bytes(mention.span),
                    bits: mention.label.map_or(bits, Bits::of_label),
                    class,
                    class_key: scorer::hashed(mention.class.as_str()),
                })
            })
            .collect();
        known.sort_by_key(|known| (known.bytes.start, known.bytes.end));
        known.dedup_by(|next, before| next.bytes.start < before.bytes.end);
        if known.len() < 2 {
            return;
        }
        let mut reader = Reader {
            rules,
            types: &types,
            known: &known,
            chunk,
            items: Vec::new(),
            governed: Vec::new(),
            found: Vec::new(),
            scorer: self.scorer,
            #[cfg(feature = "train")]
            seen: Vec::new(),
        };
        let mut topic = Topic::default();
        let mut next = 0;
        for tokens in super::sentences(text, chunk.text.bytes(chunk.span)) {
            let end = tokens.last().map_or(0, |token| token.at.end);
            let first = next;
            next += known[next..].partition_point(|known| known.bytes.start < end);
            itemize(&mut reader.items, text, &tokens, &known, first..next, rules);
            subjects::governed(&reader.items, rules, &mut reader.governed);
            topic.stand_in(&mut reader.items, &reader.governed, &known, rules);
            subjects::governed(&reader.items, rules, &mut reader.governed);
            reader.read();
            done(&mut reader);
            topic.remember(&reader.items, &reader.governed, &known, text, rules);
        }
    }
}

struct Reader<'a> {
    rules: &'a Rules<'a>,
    types: &'a Types<'a>,
    known: &'a [Known<'a>],
    chunk: ChunkText<'a>,
    items: Vec<Item>,
    /// Whether a preposition or a verb leads to each item.
    governed: Vec<bool>,
    found: Vec<FoundRelation>,
    scorer: RelationScorer,
    /// The features of what was found.
    #[cfg(feature = "train")]
    seen: Vec<scorer::Features>,
}

impl Reader<'_> {
    /// Reads the sentence at hand.
    fn read(&mut self) {
        let asked = self
            .items
            .iter()
            .rev()
            .take(4)
            .any(|item| item.is(self.rules.grammar.question));
        if asked || !self.items.iter().any(Item::is_name) {
            return;
        }
        for at in 0..self.items.len() {
            if self.items[at].mention.is_some() {
                self.nominal(at);
            }
            if self.items[at].is(self.rules.verbs) && !self.items[at].is(Bits::MENTION) {
                self.verbal(at);
            }
        }
    }

    /// What can be seen from `from` on, all meanings together.
    fn ahead(&self, from: usize) -> Bits {
        let reach = self.items.iter().skip(from).take(REACH);
        reach.fold(Bits::default(), |seen, item| seen | item.bits)
    }

    /// The rules that begin with the name at `left`.
    fn nominal(&mut self, left: usize) {
        let ahead = self.ahead(left + 1);
        if !ahead.any(Bits::MENTION) {
            return;
        }
        let rules = self.rules;
        for rule in &rules.nominal {
            if rule.needed.iter().all(|needed| ahead.any(*needed))
                && self.is_left(rule, &self.items[left])
                && self.items[left].is(rule.ends.0)
                && let Some(first) = backward(&self.items, &rule.before, left)
            {
                self.try_rule(rule, left, left + 1, first);
            }
        }
    }

    /// The rules that begin with the verb at `verb`.
    fn verbal(&mut self, verb: usize) {
        let ahead = self.ahead(verb);
        if !ahead.any(Bits::MENTION) {
            return;
        }
        if verb > 0 && self.items[verb - 1].is(self.rules.grammar.determiner) {
            // "the established church": it says what kind of church.
            return;
        }
        let passive = subjects::is_passive(&self.items, verb, self.rules);
        let rules = self.rules;
        for rule in &rules.verbal {
            if !self.items[verb].is(rule.verb)
                || rule.anchor == Anchor::Active && passive
                || !rule.needed.iter().all(|needed| ahead.any(*needed))
            {
                continue;
            }
            let fits = |item: &Item| item.is(rule.ends.0) && self.is_left(rule, item);
            let bare = rule.anchor == Anchor::Participle && !passive;
            let left = if bare {
                subjects::described(&self.items, verb, rules, &fits).or_else(|| {
                    subjects::following(&self.items, &self.governed, verb, rules, &fits)
                })
            } else {
                subjects::subject(&self.items, &self.governed, verb, rules, &fits)
            };
            if let Some(left) = left {
                self.try_rule(rule, left, verb, left.min(verb));
            }
        }
    }

    /// Whether the ontology lets an item be a rule's left end.
    fn is_left(&self, rule: &Rule, item: &Item) -> bool {
        item.mention.is_some_and(|mention| {
            let class = self.known[mention].class;
            if rule.reversed {
                self.types.is_object(rule.relation, class)
            } else {
                self.types.is_subject(rule.relation, class)
            }
        })
    }

    /// Whether the ontology lets an item be a rule's right end.
    fn is_right(&self, rule: &Rule, item: &Item) -> bool {
        item.is(rule.ends.1)
            && item.mention.is_some_and(|mention| {
                let class = self.known[mention].class;
                if rule.reversed {
                    self.types.is_subject(rule.relation, class)
                } else {
                    self.types.is_object(rule.relation, class)
                }
            })
    }

    fn try_rule(&mut self, rule: &Rule, left: usize, from: usize, first: usize) {
        let grammar = &self.rules.grammar;
        let is_end = |item: &Item| self.is_right(rule, item);
        let Some(fit) = forward(&self.items, &rule.after, from, grammar, &is_end) else {
            return;
        };
        let last = fit.after - 1;
        let under = |item: &Item| item.is(grammar.under) && item.mention.is_none();
        if rule.head && self.items[first.min(left)..=last].iter().any(under) {
            return;
        }
        let clause = (rule.anchor != Anchor::Next).then_some(from);
        let Some(trust) = self.is_stated(left, fit.end, clause) else {
            return;
        };
        let rights = self.listed(rule, fit.end);
        let lefts = self.joined(rule, left);
        for &left in &lefts {
            for (nth, &right) in rights.iter().enumerate() {
                let confidence = rule.confidence * trust * if nth == 0 { 1.0 } else { 0.95 };
                self.state(
                    rule,
                    left,
                    right,
                    first.min(left)..=last.max(right),
                    confidence,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
