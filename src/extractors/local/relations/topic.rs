//! What pronouns and short descriptions stand for: "she", "his", "the company".
//!
//! Conservative: a word that may stand for several stands for none, and a relation with it is not stated.

use super::{
    items::{Item, Known},
    rules::Rules,
    vocabulary::Bits,
};

/// How many sentences a thing is remembered for; a person, as long as no other is spoken of.
const MEMORY: u32 = 2;

/// What the sentences before spoke of.
#[derive(Debug, Default)]
pub(super) struct Topic {
    sentence: u32,
    person: Option<usize>,
    /// Whether the person was called "she" or "he".
    female: Option<bool>,
    /// The last organization, place and other name that a sentence was about, and the sentence.
    things: [Option<(usize, u32)>; 3],
}

const KINDS: [Bits; 3] = [Bits::ORGANIZATION, Bits::LOCATION, Bits::MISC];

impl Topic {
    /// Gives the sentence's pronouns and descriptions their names.
    pub(super) fn stand_in(
        &mut self,
        items: &mut [Item],
        governed: &[bool],
        known: &[Known<'_>],
        rules: &Rules<'_>,
    ) {
        let grammar = &rules.grammar;
        // The person that this sentence named last as a subject.
        let mut named = None;
        for at in 0..items.len() {
            let item = &items[at];
            if let Some(mention) = item.mention {
                let owner = items.get(at + 1).is_some_and(|next| {
                    next.is(grammar.possessive) || next.is(grammar.quote) && !next.is(Bits::WORD)
                });
                if item.is(Bits::PERSON) && !governed[at] && !owner {
                    named = Some(mention);
                }
                continue;
            }
            if item.is(grammar.he | grammar.she) {
                let female = item.is(grammar.she);
                let meant = named.or(self
                    .person
                    .filter(|_| self.female.is_none_or(|before| before == female)));
                stand(&mut items[at], meant, known, Bits::PERSON);
            } else if at < 2 && item.is(grammar.it) {
                let meant = self.lately(&KINDS);
                let kind = meant.map_or(Bits::default(), |meant| known[meant].bits);
                stand(&mut items[at], meant, known, kind);
            } else if at > 0 && items[at - 1].is(grammar.the) {
                let kind = if item.is(grammar.company) {
                    0
                } else if item.is(grammar.town) {
                    1
                } else if item.is(grammar.piece) {
                    2
                } else {
                    continue;
                };
                // "the company that" and "the city of Paris" are others.
                let described = items.get(at + 1).is_some_and(|next| {
                    next.mention.is_some() || next.is(grammar.of | grammar.relative | grammar.quote)
                });
                if !described {
                    stand(
                        &mut items[at],
                        self.lately(&KINDS[kind..=kind]),
                        known,
                        KINDS[kind],
                    );
                }
            }
        }
    }

    /// The thing of those kinds that was spoken of last, if one kind alone was spoken of.
    fn lately(&self, kinds: &[Bits]) -> Option<usize> {
        let mut recent = self
            .things
            .iter()
            .zip(KINDS)
            .filter(|(_, kind)| kinds.contains(kind))
            .filter_map(|(thing, _)| *thing)
            .filter(|(_, sentence)| self.sentence - sentence <= MEMORY);
        let last = recent.next()?;
        recent.next().is_none().then_some(last.0)
    }

    /// Keeps what the sentence is about for those that follow.
    pub(super) fn remember(
        &mut self,
        items: &[Item],
        governed: &[bool],
        known: &[Known<'_>],
        text: &str,
        rules: &Rules<'_>,
    ) {
        self.sentence += 1;
        let grammar = &rules.grammar;
        if self.female.is_none()
            && self.person.is_some()
            && let Some(first) = items.first()
            && first.is(grammar.he | grammar.she)
        {
            self.female = Some(first.is(grammar.she));
        }
        let opening = items.iter().take(10).enumerate().find(|(at, item)| {
            item.is_name()
                && !governed[*at]
                && item.is(Bits::PERSON | Bits::ORGANIZATION | Bits::LOCATION | Bits::MISC)
                && !items
                    .get(at + 1)
                    .is_some_and(|next| next.is(grammar.possessive) || next.is_name())
        });
        let Some((_, item)) = opening else {
            return;
        };
        let Some(mention) = item.mention else {
            return;
        };
        if item.is(Bits::PERSON) {
            let other = self
                .person
                .is_none_or(|before| !share_a_word(&known[before], &known[mention], text));
            if other {
                self.female = None;
                self.person = Some(mention);
            }
            return;
        }
        for (thing, kind) in self.things.iter_mut().zip(KINDS) {
            if item.is(kind) {
                *thing = Some((mention, self.sentence));
            }
        }
    }
}

fn stand(item: &mut Item, meant: Option<usize>, known: &[Known<'_>], kind: Bits) {
    item.bits = (item.bits | Bits::STANDS_FOR).without(Bits::WORD);
    if let Some(meant) = meant.filter(|&meant| known[meant].bits.any(kind)) {
        item.mention = Some(meant);
        item.bits |= kind;
    }
}

/// Whether two names have a word in common, as the names of one person do.
fn share_a_word(one: &Known<'_>, other: &Known<'_>, text: &str) -> bool {
    text[one.bytes.clone()]
        .split_whitespace()
        .take(8)
        .any(|word| {
            text[other.bytes.clone()]
                .split_whitespace()
                .take(8)
                .any(|other| other == word)
        })
}
