//! One pattern at the word that states it.

use super::{
    super::patterns::{Pattern, Shape},
    End, Reader,
    sentence::{Sentence, is_be, is_predicate},
};
use crate::graph::{RelationType, RelationTypeId};

impl<'a> Reader<'a> {
    /// Tries one pattern at the word that states it; whether it found anything.
    pub(super) fn apply(
        &mut self,
        sentence: &Sentence<'_, 'a>,
        at: usize,
        pattern: &Pattern,
    ) -> bool {
        let relation = RelationTypeId::new(pattern.relation);
        let Some(kind) = self.ontology.relation(&relation) else {
            return false;
        };
        let left = |wanted| self.left(sentence, at, wanted);
        let right = |links, wanted| self.right(sentence, at, links, wanted);
        let is_said = |end: &End<'a>| is_predicate(sentence, end.at, at);
        let (subjects, objects, confidence) = match pattern.shape {
            Shape::Verb => {
                let direct = if is_passive(sentence, at) {
                    Vec::new()
                } else {
                    right("", &kind.range)
                };
                if direct.is_empty() {
                    let agents = right("by", &kind.domain);
                    (agents, left(&kind.range).into_iter().collect(), 0.8)
                } else {
                    (left(&kind.domain).into_iter().collect(), direct, 0.8)
                }
            }
            Shape::Prepositional => {
                let far = right(pattern.links, &kind.range);
                let subject =
                    left(&kind.domain).or_else(|| self.behind(sentence, at, &kind.domain));
                (subject.into_iter().collect::<Vec<_>>(), far, 0.8)
            }
            Shape::Noun => {
                let far = right(pattern.links, &kind.range);
                let subject = left(&kind.domain).filter(is_said);
                (subject.into_iter().collect(), far, 0.75)
            }
            Shape::Reversed => {
                let agents = right(pattern.links, &kind.domain);
                let object = left(&kind.range).filter(is_said);
                (agents, object.into_iter().collect(), 0.75)
            }
            Shape::Possessed => {
                let owner = self.owner(sentence, at, kind);
                let object = self.owned(sentence, at, kind);
                (
                    owner.into_iter().collect(),
                    object.into_iter().collect(),
                    0.75,
                )
            }
        };
        let mut any = false;
        for subject in subjects {
            any |= self.state(sentence, &relation, subject, &objects, at, confidence);
        }
        any
    }

    /// Whose the noun is: "X's wife", or "his wife" and the person that "his" stands for.
    fn owner(
        &self,
        sentence: &Sentence<'_, 'a>,
        noun: usize,
        kind: &RelationType,
    ) -> Option<End<'a>> {
        let mark = (noun.saturating_sub(4)..noun)
            .rev()
            .find(|&at| matches!(sentence.word(at), "his" | "her" | "'s"))?;
        let owner = if sentence.word(mark) == "'s" {
            sentence.end_at(mark.checked_sub(1)?)
        } else if mark > 0 && sentence.word(mark - 1) == "and" {
            // "the son of X (1820 – 88) and his wife": whoever was named last.
            let last = sentence
                .mentions
                .partition_point(|(range, _)| range.end < mark);
            let before = sentence.mentions.get(last.checked_sub(1)?)?;
            sentence.end_at(before.0.start)
        } else {
            let meant = || self.topic.meant_by(sentence.word(mark));
            self.left(sentence, mark, &kind.domain).or_else(|| {
                meant().map(|mention| End {
                    mention,
                    at: mark,
                    confidence: 0.8,
                })
            })
        };
        owner.filter(|owner| self.fits(&owner.mention.class, &kind.domain))
    }

    /// The name right behind the noun.
    fn owned(
        &self,
        sentence: &Sentence<'_, 'a>,
        noun: usize,
        kind: &RelationType,
    ) -> Option<End<'a>> {
        let next = (noun + 1..noun + 4)
            .find(|&at| !matches!(sentence.word(at), "," | "\"" | "“" | "the" | "*" | "_"))?;
        sentence
            .end_at(next)
            .filter(|owned| self.fits(&owned.mention.class, &kind.range))
    }
}

/// Whether a form of "be" or a comma stands before the verb: "was founded by", ", founded by".
fn is_passive(sentence: &Sentence<'_, '_>, verb: usize) -> bool {
    let before = |back: usize| verb.checked_sub(back).map_or("", |at| sentence.word(at));
    is_be(before(1)) || is_be(before(2)) || before(1) == ","
}
