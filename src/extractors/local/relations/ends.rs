//! Where the two ends of a relation stand: the subject to the left of the word that states it, the objects to its
//! right. Neither search goes further than its reach, so that the time stays linear.

use super::{
    super::{lexicon::Hints, token::Token},
    End, Reader,
    sentence::{Sentence, is_barrier, is_be},
};
use crate::graph::{ClassId, NameLabel, TypedMention};

/// How far the ends of a relation may be from the word that states it, in tokens.
const REACH_LEFT: usize = 40;
const REACH_RIGHT: usize = 12;

impl<'a> Reader<'a> {
    /// The nearest mention to the left that can be the grammatical subject of the word at `trigger`.
    pub(super) fn left(
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
                        || !(sentence.is_governed(at) || conjoined && is_listed(sentence, at)))
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
                "he" | "she" => {
                    let named = earlier(sentence, at).filter(|mention| person(mention));
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
                "it" | "i" | "we" | "they" => return None,
                _ if sentence.tokens[at].hints().any(Hints::KIN)
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

    /// The subject that follows: "Born in Prelate, he moved".
    pub(super) fn behind(
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
    pub(super) fn right(
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
                    return also(sentence, range.end, &mention.class, ends);
                }
                let adjective =
                    token.named().any(Hints::NATIONALITY) || sentence.word(range.end) == "'s";
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
                    token.is_quote() || token.is_number() || token.word() && !is_barrier(word);
                if !passes || since > 5 || token.hints().any(Hints::KIN) {
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
                if !comma && !short && (!token.word() && !token.is_number() || is_barrier(word)) {
                    return ends;
                }
            }
            at += 1;
        }
        ends
    }
}

/// The person that the same sentence named as a subject before `at`.
fn earlier<'a>(sentence: &Sentence<'_, 'a>, at: usize) -> Option<&'a TypedMention> {
    let named = sentence
        .mentions
        .iter()
        .take(REACH_LEFT)
        .filter(|(range, mention)| {
            range.end <= at
                && mention.label == Some(NameLabel::Per)
                && !sentence.is_governed(range.start)
        });
    named.map(|(_, mention)| *mention).next()
}

/// Whether the mention at `at` ends an enumeration that a preposition or a verb leads to: "with A and B".
fn is_listed(sentence: &Sentence<'_, '_>, at: usize) -> bool {
    at.checked_sub(2)
        .and_then(|before| sentence.mention(before))
        .is_some_and(|(range, _)| sentence.is_governed(range.start))
}

/// Adds the mentions of one class that follow in an enumeration; places after a comma contain the one before.
fn also<'a>(
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
        let verb = sentence
            .tokens
            .get(range.end)
            .is_some_and(|next| next.word() && (next.lower.ends_with("ed") || is_be(&next.lower)));
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
