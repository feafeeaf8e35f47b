//! What two names say by standing side by side.

use std::ops::Range;

use super::{
    super::lexicon::{self, Hints},
    End, Reader,
    sentence::Sentence,
};
use crate::graph::{NameLabel, RelationTypeId};

impl<'a> Reader<'a> {
    /// "Paris, France", "Cadby Hall in Hammersmith".
    pub(super) fn places(&mut self, sentence: &Sentence<'_, 'a>) {
        for (index, pair) in sentence.mentions.windows(2).enumerate() {
            let [(left, inner), (right, outer)] = pair else {
                continue;
            };
            let ends = (
                End {
                    mention: inner,
                    at: left.start,
                    confidence: 1.0,
                },
                End {
                    mention: outer,
                    at: right.start,
                    confidence: 1.0,
                },
            );
            let named = |range: &Range<usize>| {
                let whole = self.text.as_str().get(
                    sentence.tokens[range.start].at.start..sentence.tokens[range.end - 1].at.end,
                );
                lexicon::name(whole.unwrap_or(""))
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
                    ends.0,
                    &[ends.1],
                    left.start,
                    if link == "," { 0.85 } else { 0.65 },
                );
            }
        }
    }

    /// "Apple CEO Tim Cook", "Xerox's chief scientist, Jacob Goldman".
    pub(super) fn offices(&mut self, sentence: &Sentence<'_, 'a>) {
        let relation = RelationTypeId::new("works_for");
        for pair in sentence.mentions.windows(2) {
            let [(left, group), (right, person)] = pair else {
                continue;
            };
            let between = &sentence.tokens[left.end..right.start];
            let office = (1..=5).contains(&between.len())
                && between.iter().any(|token| token.hints().any(Hints::ROLE))
                && between.iter().all(|token| {
                    token.hints().any(Hints::ROLE | Hints::PERSON)
                        || matches!(token.text, "'s" | "," | "-")
                });
            if office && !matches!(between[0].text, ",") && group.label == Some(NameLabel::Org) {
                let subject = End {
                    mention: person,
                    at: right.start,
                    confidence: 1.0,
                };
                let object = End {
                    mention: group,
                    at: left.start,
                    confidence: 1.0,
                };
                self.state(sentence, &relation, subject, &[object], left.end, 0.75);
            }
        }
    }
}
