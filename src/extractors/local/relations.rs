//! What a chunk states about its names: patterns within one sentence, their ends checked against the ontology.
//!
//! "He" and "she" stand for the person that a sentence before spoke of. A denied or merely possible statement is
//! none. The evidence is the stretch of the sentence from the subject, or the word that stands for it, to the
//! object.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use super::{
    super::ChunkText,
    lexicon::Hints,
    patterns::{PATTERNS, Pattern, Shape},
    token::Token,
};
use crate::graph::{
    ClassId, FoundRelation, NameLabel, Ontology, RelationTypeId, Text, TypedMention,
};

/// How far the ends of a relation may be from the word that states it, in tokens.
const REACH_LEFT: usize = 40;
const REACH_RIGHT: usize = 12;

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

struct Sentence<'t, 'm> {
    tokens: &'t [Token<'t>],
    mentions: Vec<(Range<usize>, &'m TypedMention)>,
    /// The mention that covers each token.
    covering: Vec<Option<usize>>,
}

impl<'t, 'm> Sentence<'t, 'm> {
    fn new(tokens: &'t [Token<'t>], own: &[(Range<usize>, &'m TypedMention)]) -> Self {
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

    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.lower.as_str())
    }

    /// The mention at a token, if one begins or goes on there.
    fn mention(&self, at: usize) -> Option<(&Range<usize>, &'m TypedMention)> {
        let index = (*self.covering.get(at)?)?;
        self.mentions
            .get(index)
            .map(|(range, mention)| (range, *mention))
    }

    /// The mention's place, its article left out, is what a preposition or another verb leads to.
    fn is_governed(&self, start: usize) -> bool {
        let mut before = start;
        while before > 0
            && (matches!(self.word(before - 1), "the" | "a" | "an" | "\"" | "“")
                || self.tokens[before - 1].hints.any(Hints::ROLE))
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
                || self.tokens[before - 1].word
                    && !self.tokens[before - 1].capital
                    && word.len() > 4
                    && (word.ends_with("ed") || word.ends_with("ing"))
        }
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

    /// Tries one pattern at the word that states it.
    fn apply(&mut self, sentence: &Sentence<'_, 'a>, at: usize, pattern: &Pattern) -> bool {
        let relation = RelationTypeId::new(pattern.relation);
        let Some(kind) = self.ontology.relation(&relation) else {
            return false;
        };
        let (domain, range) = (kind.domain.clone(), kind.range.clone());
        let objects = |reader: &Self, links: &str, wanted: &[ClassId]| {
            reader.right(sentence, at, links, wanted)
        };
        let before = at.checked_sub(1).map_or("", |at| sentence.word(at));
        let is_passive = at > 0
            && (1..=2).any(|back| {
                at.checked_sub(back)
                    .is_some_and(|at| is_be(sentence.word(at)))
            })
            || before == ",";
        match pattern.shape {
            Shape::Verb => {
                let direct = if is_passive {
                    Vec::new()
                } else {
                    objects(self, "", &range)
                };
                if !direct.is_empty() {
                    let subject = self.left(sentence, at, &domain);
                    return self.state(sentence, &relation, subject, &direct, at, 0.8);
                }
                let agents = objects(self, "by", &domain);
                let object = self.left(sentence, at, &range);
                let mut any = false;
                for agent in agents {
                    any |= object.is_some_and(|object| {
                        self.state(sentence, &relation, Some(agent), &[object], at, 0.8)
                    });
                }
                any
            }
            Shape::Prepositional => {
                let far = objects(self, pattern.links, &range);
                if far.is_empty() {
                    return false;
                }
                let subject = self
                    .left(sentence, at, &domain)
                    .or_else(|| self.behind(sentence, at, &domain));
                self.state(sentence, &relation, subject, &far, at, 0.8)
            }
            Shape::Noun => {
                let far = objects(self, pattern.links, &range);
                let subject = self
                    .left(sentence, at, &domain)
                    .filter(|subject| is_predicate(sentence, subject.at, at));
                !far.is_empty() && self.state(sentence, &relation, subject, &far, at, 0.75)
            }
            Shape::Reversed => {
                let agents = objects(self, pattern.links, &domain);
                let object = self
                    .left(sentence, at, &range)
                    .filter(|object| is_predicate(sentence, object.at, at));
                let mut any = false;
                for agent in agents {
                    any |= object.is_some_and(|object| {
                        self.state(sentence, &relation, Some(agent), &[object], at, 0.75)
                    });
                }
                any
            }
            Shape::Possessed => {
                let owner = (at.saturating_sub(4)..at)
                    .rev()
                    .find(|&at| matches!(sentence.word(at), "his" | "her" | "'s"));
                let Some(owner) = owner else { return false };
                let subject = if sentence.word(owner) == "'s" {
                    owner
                        .checked_sub(1)
                        .and_then(|at| sentence.mention(at))
                        .map(|(range, mention)| End {
                            mention,
                            at: range.start,
                            confidence: 1.0,
                        })
                } else {
                    self.left(sentence, owner, &domain).or(self
                        .topic
                        .meant_by(sentence.word(owner))
                        .map(|mention| End {
                            mention,
                            at: owner,
                            confidence: 0.8,
                        }))
                };
                let subject = subject.filter(|subject| self.fits(&subject.mention.class, &domain));
                let next = (at + 1..at + 4)
                    .find(|&at| !matches!(sentence.word(at), "," | "\"" | "“" | "the" | "*" | "_"));
                let object = next
                    .and_then(|at| sentence.mention(at))
                    .filter(|(_, mention)| self.fits(&mention.class, &range));
                let object = object.map(|(range, mention)| End {
                    mention,
                    at: range.start,
                    confidence: 1.0,
                });
                object.is_some_and(|object| {
                    self.state(sentence, &relation, subject, &[object], at, 0.75)
                })
            }
        }
    }

    fn fits(&self, class: &ClassId, wanted: &[ClassId]) -> bool {
        wanted
            .iter()
            .any(|wanted| self.ontology.is_a(class, wanted))
    }

    /// The nearest mention to the left that can be the grammatical subject of the word at `trigger`.
    fn left(
        &self,
        sentence: &Sentence<'_, 'a>,
        trigger: usize,
        wanted: &[ClassId],
    ) -> Option<End<'a>> {
        let (mut depth, mut relative) = (0_usize, false);
        let mut at = trigger;
        while at > trigger.saturating_sub(REACH_LEFT) {
            at -= 1;
            let word = sentence.word(at);
            match word {
                ")" => depth += 1,
                "(" if depth == 0 => relative = true,
                "(" => depth -= 1,
                ";" | ":" => return None,
                _ => {}
            }
            if depth > 0 {
                continue;
            }
            if let Some((range, mention)) = sentence.mention(at) {
                at = range.start;
                let conjoined = at > 0 && matches!(sentence.word(at - 1), "and" | "or");
                if self.fits(&mention.class, wanted)
                    && (relative
                        || !sentence.is_governed(at)
                            && !(conjoined && self.is_listed(sentence, at)))
                {
                    return Some(End {
                        mention,
                        at,
                        confidence: 1.0,
                    });
                }
                continue;
            }
            let person = |mention: &&TypedMention| self.fits(&mention.class, wanted);
            match word {
                "who" | "which" | "that" => relative = true,
                "i" | "we" | "they" => return None,
                "he" | "she" => {
                    let named = self.earlier(sentence, at).filter(|mention| person(mention));
                    let mention = named.or_else(|| self.topic.meant_by(word).filter(person))?;
                    return Some(End {
                        mention,
                        at,
                        confidence: 0.8,
                    });
                }
                "it" if at < 2 => {
                    return self.topic.thing.filter(person).map(|mention| End {
                        mention,
                        at,
                        confidence: 0.75,
                    });
                }
                "it" => return None,
                _ if sentence.tokens[at].hints.any(Hints::KIN)
                    && (at.saturating_sub(3)..at)
                        .any(|at| matches!(sentence.word(at), "his" | "her" | "'s" | "their")) =>
                {
                    return None;
                }
                _ => {}
            }
        }
        None
    }

    /// The person that the same sentence named as a subject before `at`.
    fn earlier(&self, sentence: &Sentence<'_, 'a>, at: usize) -> Option<&'a TypedMention> {
        let named = sentence.mentions.iter().filter(|(range, mention)| {
            range.end <= at
                && mention.label == Some(NameLabel::Per)
                && !sentence.is_governed(range.start)
        });
        named.map(|(_, mention)| *mention).next()
    }

    /// Whether the mention at `at` ends an enumeration that a preposition or a verb leads to: "with A and B".
    fn is_listed(&self, sentence: &Sentence<'_, 'a>, at: usize) -> bool {
        at.checked_sub(2)
            .and_then(|before| sentence.mention(before))
            .is_some_and(|(range, _)| sentence.is_governed(range.start))
    }

    /// The subject that follows: "Born in Prelate, he moved".
    fn behind(
        &self,
        sentence: &Sentence<'_, 'a>,
        trigger: usize,
        wanted: &[ClassId],
    ) -> Option<End<'a>> {
        if trigger > 1 {
            return None;
        }
        let comma = (trigger..(trigger + 20).min(sentence.tokens.len()))
            .filter(|&at| sentence.word(at) == "," && sentence.mention(at).is_none());
        comma.map(|at| at + 1).find_map(|at| {
            if matches!(sentence.word(at), "he" | "she") {
                return self.topic.meant_by(sentence.word(at)).map(|mention| End {
                    mention,
                    at: trigger,
                    confidence: 0.8,
                });
            }
            let (range, mention) = sentence.mention(at)?;
            self.fits(&mention.class, wanted).then_some(End {
                mention,
                at: range.start,
                confidence: 1.0,
            })
        })
    }

    /// The mentions that the word at `trigger` leads to, directly or by one of `links`; those that "and" adds too.
    fn right(
        &self,
        sentence: &Sentence<'_, 'a>,
        trigger: usize,
        links: &str,
        wanted: &[ClassId],
    ) -> Vec<End<'a>> {
        let mut linked = links.is_empty();
        let mut since = 0;
        let mut ends: Vec<End<'a>> = Vec::new();
        let mut at = trigger + 1;
        while at < (trigger + REACH_RIGHT).min(sentence.tokens.len()) {
            let (token, word) = (&sentence.tokens[at], sentence.word(at));
            if let Some((range, mention)) = sentence.mention(at) {
                let fits = self.fits(&mention.class, wanted);
                if linked && fits {
                    ends.push(End {
                        mention,
                        at: range.start,
                        confidence: 1.0,
                    });
                    return self.also(sentence, range.end, &mention.class, ends);
                }
                let adjective =
                    token.named.any(Hints::NATIONALITY) || sentence.word(range.end) == "'s";
                if linked && !adjective {
                    return ends;
                }
                at = range.end;
                continue;
            }
            if links
                .split(' ')
                .any(|link| link == word && !link.is_empty())
            {
                (linked, since) = (true, 0);
            } else if linked {
                since += 1;
                let passes =
                    token.is_quote() || token.is_number() || token.word && !is_barrier(word);
                if !passes || since > 5 || token.hints.any(Hints::KIN) {
                    return ends;
                }
            } else {
                let dated = at > 0
                    && (sentence.tokens[at - 1].is_number()
                        || sentence.tokens.get(at + 1).is_some_and(Token::is_number));
                let comma = word == "," && dated;
                let short = matches!(
                    word,
                    "on" | "in"
                        | "at"
                        | "from"
                        | "up"
                        | "back"
                        | "with"
                        | "under"
                        | "for"
                        | "of"
                        | "-"
                        | "–"
                        | "("
                        | "."
                );
                if !comma && !short && (!token.word && !token.is_number() || is_barrier(word)) {
                    return ends;
                }
            }
            at += 1;
        }
        ends
    }

    /// Adds the mentions of one class that follow in an enumeration; places after a comma contain the one before.
    fn also(
        &self,
        sentence: &Sentence<'_, 'a>,
        mut at: usize,
        class: &ClassId,
        mut ends: Vec<End<'a>>,
    ) -> Vec<End<'a>> {
        while ends.len() < 8 {
            let skip = match (sentence.word(at), sentence.word(at + 1)) {
                ("and", "the") | (",", "and") => 2,
                ("and", _) => 1,
                _ => return ends,
            };
            let Some((range, mention)) = sentence
                .mention(at + skip)
                .filter(|(_, mention)| mention.class == *class)
            else {
                return ends;
            };
            // "in A and B founded C": B is the next clause's subject.
            let verb = sentence.tokens.get(range.end).is_some_and(|next| {
                next.word && (next.lower.ends_with("ed") || is_be(&next.lower))
            });
            if verb {
                return ends;
            }
            ends.push(End {
                mention,
                at: range.start,
                confidence: 0.9,
            });
            at = range.end;
        }
        ends
    }

    /// Records what was found, if the ontology allows it.
    fn state(
        &mut self,
        sentence: &Sentence<'_, 'a>,
        relation: &RelationTypeId,
        subject: Option<End<'a>>,
        objects: &[End<'a>],
        trigger: usize,
        confidence: f32,
    ) -> bool {
        let Some(subject) = subject else { return false };
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
                confidence: confidence * subject.confidence * object.confidence,
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

    /// "Paris, France", "Cadby Hall in Hammersmith".
    fn places(&mut self, sentence: &Sentence<'_, 'a>) {
        for (index, pair) in sentence.mentions.windows(2).enumerate() {
            let [(left, inner), (right, outer)] = pair else {
                continue;
            };
            let ends = (
                End {
                    mention: *inner,
                    at: left.start,
                    confidence: 1.0,
                },
                End {
                    mention: *outer,
                    at: right.start,
                    confidence: 1.0,
                },
            );
            let named = |range: &Range<usize>| {
                let whole = self.text.as_str().get(
                    sentence.tokens[range.start].at.start..sentence.tokens[range.end - 1].at.end,
                );
                super::lexicon::name(whole.unwrap_or(""))
            };
            let (small, large) = (named(left), named(right));
            let listed = sentence.mentions.get(index + 2).is_some_and(|(next, _)| {
                next.start - right.end <= 2
                    && named(next).any(Hints::COUNTRY)
                    && large.any(Hints::COUNTRY)
            });
            let between = right.start - left.end;
            let link = sentence.word(left.end);
            let wider = large.any(Hints::COUNTRY | Hints::REGION)
                && !small.any(Hints::COUNTRY)
                && !(small.any(Hints::REGION) && large.any(Hints::REGION));
            let within =
                large.any(Hints::COUNTRY | Hints::REGION | Hints::CITY) && inner.confidence >= 0.7;
            let relation = RelationTypeId::new(if inner.label == Some(NameLabel::Org) {
                "based_in"
            } else {
                "located_in"
            });
            let head = &sentence.tokens[left.start..left.end];
            let seat = head.iter().any(|token| {
                token.is_one_of(&[
                    "university",
                    "college",
                    "school",
                    "museum",
                    "hospital",
                    "institute",
                    "church",
                    "academy",
                ])
            });
            let stated = match link {
                "," if between == 1 => wider && !listed && inner.label == Some(NameLabel::Loc),
                "in" if between == 1 => {
                    within
                        && !large.any(Hints::COUNTRY)
                        && (inner.label == Some(NameLabel::Loc)
                            && !small.any(Hints::LISTED_PLACE)
                            && left.len() > 1
                            || seat)
                }
                _ => false,
            };
            if stated {
                self.state(
                    sentence,
                    &relation,
                    Some(ends.0),
                    &[ends.1],
                    left.start,
                    if link == "," { 0.85 } else { 0.65 },
                );
            }
        }
    }

    /// "Apple CEO Tim Cook", "Xerox's chief scientist, Jacob Goldman".
    fn offices(&mut self, sentence: &Sentence<'_, 'a>) {
        let relation = RelationTypeId::new("works_for");
        for pair in sentence.mentions.windows(2) {
            let [(left, group), (right, person)] = pair else {
                continue;
            };
            let between = &sentence.tokens[left.end..right.start];
            let office = (1..=5).contains(&between.len())
                && between.iter().any(|token| token.hints.any(Hints::ROLE))
                && between.iter().all(|token| {
                    token.hints.any(Hints::ROLE | Hints::PERSON)
                        || matches!(token.text, "'s" | "," | "-")
                });
            if office && !matches!(between[0].text, ",") && group.label == Some(NameLabel::Org) {
                let subject = End {
                    mention: *person,
                    at: right.start,
                    confidence: 1.0,
                };
                let object = End {
                    mention: *group,
                    at: left.start,
                    confidence: 1.0,
                };
                self.state(
                    sentence,
                    &relation,
                    Some(subject),
                    &[object],
                    left.end,
                    0.75,
                );
            }
        }
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
                || !sentence.tokens[range.start].named.any(Hints::NATIONALITY)
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

fn is_be(word: &str) -> bool {
    matches!(
        word,
        "is" | "was" | "are" | "were" | "be" | "been" | "being"
    )
}

/// Words that end the search for a verb's object.
fn is_barrier(word: &str) -> bool {
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
fn is_denied(sentence: &Sentence<'_, '_>, at: usize) -> bool {
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
fn is_predicate(sentence: &Sentence<'_, '_>, subject: usize, noun: usize) -> bool {
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
