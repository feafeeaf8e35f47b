//! What a chunk states about its names: patterns within one sentence, their ends checked against the ontology.
//!
//! "He" and "she" stand for the person that a sentence before spoke of. A denied or merely possible statement is
//! none. The evidence is the stretch of the sentence from the subject, or the word that stands for it, to the
//! object.

mod apply;
mod ends;
mod neighbours;
mod sentence;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use self::sentence::{Sentence, is_denied};
use super::{
    super::ChunkText,
    lexicon::Hints,
    patterns::{PATTERNS, Pattern},
};
use crate::graph::{
    ClassId, FoundRelation, NameLabel, Ontology, RelationTypeId, Text, TypedMention,
};

static TRIGGERS: LazyLock<HashMap<&'static str, Vec<&'static Pattern>>> = LazyLock::new(|| {
    let mut triggers: HashMap<&'static str, Vec<&'static Pattern>> = HashMap::new();
    for pattern in PATTERNS {
        for word in pattern.words.split_whitespace() {
            triggers.entry(word).or_default().push(pattern);
        }
    }
    triggers
});

/// The relations that the chunk states between `mentions`.
pub(super) fn relations(
    chunk: ChunkText<'_>,
    mentions: &[TypedMention],
    ontology: &Ontology,
) -> Vec<FoundRelation> {
    let text = chunk.text;
    let mut inside: Vec<(Range<usize>, &TypedMention)> = mentions
        .iter()
        .filter(|mention| chunk.span.contains(mention.span))
        .map(|mention| (text.bytes(mention.span), mention))
        .collect();
    inside.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    let mut reader = Reader {
        text,
        ontology,
        full: full_names(text, &inside),
        topic: Topic::default(),
        found: Vec::new(),
    };
    let mut rest = inside.as_slice();
    for tokens in super::sentences(text.as_str(), text.bytes(chunk.span)) {
        let end = tokens.last().map_or(0, |token| token.at.end);
        let count = rest.partition_point(|(bytes, _)| bytes.start < end);
        let (own, later) = rest.split_at(count);
        rest = later;
        reader.read(&Sentence::new(&tokens, own));
    }
    reader.found
}

/// A person's surname leads to the full name that came first in the chunk, unless two persons share it and neither is
/// the first that the chunk names, whom it is about.
fn full_names<'a>(
    text: &Text,
    mentions: &[(Range<usize>, &'a TypedMention)],
) -> HashMap<String, Option<&'a TypedMention>> {
    let mut full: HashMap<String, (String, Option<&TypedMention>)> = HashMap::new();
    let mut first = None;
    for (bytes, mention) in mentions {
        let written = &text.as_str()[bytes.clone()];
        if mention.label == Some(NameLabel::Per)
            && let Some((_, last)) = written.rsplit_once(' ')
        {
            let first = *first.get_or_insert(mention.span);
            let entry = full
                .entry(last.to_owned())
                .or_insert_with(|| (written.to_owned(), Some(mention)));
            if entry.0 != written && entry.1.is_some_and(|person| person.span != first) {
                entry.1 = None;
            }
        }
    }
    full.into_iter()
        .map(|(last, (_, mention))| (last, mention))
        .collect()
}

/// What the sentences before spoke of.
#[derive(Default)]
struct Topic<'a> {
    person: Option<&'a TypedMention>,
    /// Whether the person was called "she" or "he".
    female: Option<bool>,
    thing: Option<&'a TypedMention>,
}

impl<'a> Topic<'a> {
    /// The person that a pronoun stands for, unless the other pronoun was used before.
    fn meant_by(&self, pronoun: &str) -> Option<&'a TypedMention> {
        let female = matches!(pronoun, "she" | "her");
        self.person
            .filter(|_| self.female.is_none_or(|known| known == female))
    }
}

/// An end of a relation, and the token where it, or the word that stands for it, is.
#[derive(Clone, Copy)]
struct End<'a> {
    mention: &'a TypedMention,
    at: usize,
    confidence: f32,
}

struct Reader<'a> {
    text: &'a Text,
    ontology: &'a Ontology,
    full: HashMap<String, Option<&'a TypedMention>>,
    topic: Topic<'a>,
    found: Vec<FoundRelation>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, sentence: &Sentence<'_, 'a>) {
        for at in 0..sentence.tokens.len() {
            if sentence.mention(at).is_some() || is_denied(sentence, at) {
                continue;
            }
            let mut stated = HashSet::new();
            for pattern in TRIGGERS.get(sentence.word(at)).into_iter().flatten() {
                if !stated.contains(pattern.relation) && self.apply(sentence, at, pattern) {
                    stated.insert(pattern.relation);
                }
            }
        }
        self.places(sentence);
        self.offices(sentence);
        self.remember(sentence);
    }

    fn fits(&self, class: &ClassId, wanted: &[ClassId]) -> bool {
        wanted
            .iter()
            .any(|wanted| self.ontology.is_a(class, wanted))
    }

    /// Records what was found, if the ontology allows it.
    fn state(
        &mut self,
        sentence: &Sentence<'_, 'a>,
        relation: &RelationTypeId,
        subject: End<'a>,
        objects: &[End<'a>],
        trigger: usize,
        confidence: f32,
    ) -> bool {
        let mut any = false;
        for object in objects {
            let (from, to) = (self.full(subject.mention), self.full(object.mention));
            if from.span == to.span || !self.ontology.allows(relation, &from.class, &to.class) {
                continue;
            }
            let end = |end: &End<'_>| {
                sentence
                    .mention(end.at)
                    .map_or(end.at, |(range, _)| range.end - 1)
            };
            let first = subject.at.min(object.at).min(trigger);
            let last = end(&subject).max(end(object)).max(trigger);
            let evidence = self
                .text
                .span(sentence.tokens[first].at.start..sentence.tokens[last].at.end);
            if !evidence.contains(object.mention.span) {
                // "It was founded by X": the sentence does not name what was founded.
                continue;
            }
            self.found.push(FoundRelation {
                subject: from.span,
                predicate: relation.clone(),
                object: object.mention.span,
                evidence,
                // To hundredths: the rules' figures are no more precise.
                confidence: (confidence * subject.confidence * object.confidence * 100.0).round()
                    / 100.0,
            });
            any = true;
        }
        any
    }

    /// The full name that a surname stands for.
    fn full(&self, mention: &'a TypedMention) -> &'a TypedMention {
        if mention.label != Some(NameLabel::Per) {
            return mention;
        }
        let written = self.text.slice(mention.span);
        self.full
            .get(written)
            .copied()
            .flatten()
            .filter(|full| full.class == mention.class)
            .unwrap_or(mention)
    }

    /// Whether two names have a word in common, as the names of one person do.
    fn shares_a_name(&self, one: &TypedMention, other: &TypedMention) -> bool {
        let words = |mention: &TypedMention| {
            self.text
                .slice(mention.span)
                .split_whitespace()
                .collect::<HashSet<_>>()
        };
        !words(one).is_disjoint(&words(other))
    }

    /// Keeps what the sentence is about for the pronouns of the next.
    fn remember(&mut self, sentence: &Sentence<'_, 'a>) {
        if self.topic.female.is_none()
            && self.topic.person.is_some()
            && matches!(sentence.word(0), "he" | "she")
        {
            self.topic.female = Some(sentence.word(0) == "she");
        }
        let Some((range, mention)) = sentence.mentions.iter().find(|(range, mention)| {
            mention.label != Some(NameLabel::Misc)
                || !sentence.tokens[range.start].named().any(Hints::NATIONALITY)
        }) else {
            return;
        };
        let opens = range.start <= 8
            && !sentence.is_governed(range.start)
            && sentence.word(range.end) != "'s";
        if mention.label == Some(NameLabel::Per) {
            if opens || self.topic.person.is_none() && !sentence.is_governed(range.start) {
                let person = self.full(mention);
                if self
                    .topic
                    .person
                    .is_none_or(|before| !self.shares_a_name(before, person))
                {
                    self.topic.female = None;
                }
                self.topic.person = Some(person);
            }
        } else if opens {
            self.topic.thing = Some(mention);
        }
    }
}
