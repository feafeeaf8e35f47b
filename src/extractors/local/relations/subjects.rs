//! Whose verb it is: the grammatical subject of a verb, and the noun that a participle describes.
//!
//! No search goes further than its reach, so that the time stays linear. In doubt there is no subject.

use super::{
    items::{Item, closes},
    rules::Rules,
    vocabulary::Bits,
};

/// How far a verb may be from its subject, in items.
const REACH: usize = 40;

/// How far a participle may be from the name that it describes.
const NEAR: usize = 9;

/// Marks the names that a preposition or another verb leads to: they are nobody's subject.
pub(super) fn governed(items: &[Item], rules: &Rules<'_>, governed: &mut Vec<bool>) {
    let grammar = &rules.grammar;
    governed.clear();
    governed.resize(items.len(), false);
    for at in 0..items.len() {
        if items[at].mention.is_none() {
            continue;
        }
        let mut before = at;
        while before > 0
            && at - before < 4
            && (items[before - 1].is(grammar.determiner
                | grammar.quote
                | grammar.role
                | grammar.title
                | Bits::CAPITAL)
                || items[before - 1].is(Bits::MISC) && items[before - 1].is_name())
            && !items[before - 1].is(grammar.preposition)
        {
            before -= 1;
        }
        let Some(previous) = before.checked_sub(1).map(|before| &items[before]) else {
            continue;
        };
        let lower_verb =
            previous.is(Bits::WORD) && !previous.is(Bits::CAPITAL) && previous.is(rules.verbs);
        governed[at] = previous.is(grammar.preposition)
            || previous.is(grammar.possessive)
            || lower_verb
            // "with A and B": B is led to as well.
            || previous.is(grammar.and)
                && before >= 2
                && items[before - 2].mention.is_some()
                && governed[before - 2];
    }
}

/// The subject of the verb at `verb`.
pub(super) fn subject(
    items: &[Item],
    governed: &[bool],
    verb: usize,
    rules: &Rules<'_>,
    fits: &impl Fn(&Item) -> bool,
) -> Option<usize> {
    let grammar = &rules.grammar;
    let (mut depth, mut relative) = (0_usize, false);
    let mut at = verb;
    while at > verb.saturating_sub(REACH) {
        at -= 1;
        let item = &items[at];
        if item.is(grammar.close) {
            depth += 1;
        } else if item.is(grammar.open) {
            if depth == 0 {
                relative = true;
            } else {
                depth -= 1;
            }
        }
        if depth > 0 {
            continue;
        }
        if item.is(grammar.pause | grammar.other_pronoun) {
            return None;
        }
        let owner = items
            .get(at + 1)
            .is_some_and(|next| next.is(grammar.possessive));
        if item.mention.is_some() || item.is(Bits::STANDS_FOR) {
            if owner {
                if governed[at] {
                    continue;
                }
                return None;
            }
            if relative || !governed[at] {
                if fits(item) {
                    return Some(at);
                }
                if !item.is(Bits::DATE | Bits::VALUE | Bits::MISC) && !relative {
                    return None;
                }
            }
            continue;
        }
        if item.is(grammar.relative) {
            relative = true;
        } else if !relative && item.is(grammar.clause | grammar.saying)
            || item.is(grammar.kin)
                && (at.saturating_sub(3)..at).any(|at| items[at].is(grammar.possessive))
        {
            // Another clause, or somebody without a name.
            return None;
        }
    }
    None
}

/// The name that the participle at `verb` describes: "Acme, a maker of pens based in Paris".
pub(super) fn described(
    items: &[Item],
    verb: usize,
    rules: &Rules<'_>,
    fits: &impl Fn(&Item) -> bool,
) -> Option<usize> {
    let grammar = &rules.grammar;
    let mut at = verb;
    while at > verb.saturating_sub(NEAR) {
        at -= 1;
        let item = &items[at];
        if item.mention.is_some() {
            if fits(item) {
                return Some(at);
            }
            if !item.is(Bits::DATE | Bits::VALUE | Bits::MISC | Bits::LOCATION) {
                return None;
            }
        } else if item.is(grammar.close) {
            at = opens(items, at, grammar)?;
        } else if !item.is(Bits::WORD
            | Bits::NUMBER
            | grammar.determiner
            | grammar.comma
            | grammar.open
            | grammar.of
            | grammar.and
            | grammar.quote
            | grammar.adverb)
            || item.is(rules.verbs)
        {
            return None;
        }
    }
    None
}

/// The subject that follows a participle at the sentence's beginning: "Born in Prelate, he moved".
pub(super) fn following(
    items: &[Item],
    governed: &[bool],
    verb: usize,
    rules: &Rules<'_>,
    fits: &impl Fn(&Item) -> bool,
) -> Option<usize> {
    if verb > 2 || (0..verb).any(|at| items[at].mention.is_some()) {
        return None;
    }
    let comma = rules.grammar.comma;
    (verb + 2..items.len().min(verb + 24)).find(|&at| {
        let item = &items[at];
        let begins = items[at - 1].is(comma)
            || items[at - 1]
                .is(rules.grammar.role | rules.grammar.title | rules.grammar.determiner);
        item.mention.is_some()
            && begins
            && !governed[at]
            && fits(item)
            && items.get(at + 1).is_some_and(|next| {
                !next.is(comma)
                    && next.is(Bits::WORD
                        | rules.grammar.be
                        | rules.grammar.function
                        | rules.grammar.open)
            })
    })
}

/// Whether a form of "be" makes the verb at `verb` passive.
pub(super) fn is_passive(items: &[Item], verb: usize, rules: &Rules<'_>) -> bool {
    let grammar = &rules.grammar;
    let mut at = verb;
    while at > 0 && verb - at < 3 && items[at - 1].is(grammar.adverb) {
        at -= 1;
    }
    at > 0 && items[at - 1].is(grammar.be)
}

/// Where the bracket that closes at `close` opens.
fn opens(items: &[Item], close: usize, grammar: &super::rules::Grammar) -> Option<usize> {
    (close.saturating_sub(REACH)..close)
        .rev()
        .find(|&at| items[at].is(grammar.open))
        .filter(|&open| closes(items, open, grammar) == Some(close))
}
