//! Holds a rule's parts against a sentence's items.
//!
//! Invariant: a rule has few parts and each takes few items, so that one try costs a bounded time.

use super::{
    items::{Item, closes},
    rules::{Grammar, Part},
    vocabulary::Bits,
};

/// Where a rule fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// The right end.
    pub(super) end: usize,
    /// The first item behind all that was matched.
    pub(super) after: usize,
}

/// Fits `parts` from `at` on; `is_end` says whether an item can be the right end.
pub(super) fn forward(
    items: &[Item],
    parts: &[Part],
    at: usize,
    grammar: &Grammar,
    is_end: &impl Fn(&Item) -> bool,
) -> Option<Fit> {
    let Some((part, rest)) = parts.split_first() else {
        return Some(Fit { end: at, after: at });
    };
    match *part {
        Part::Items { bits, least, most } => {
            let mut taken = 0;
            loop {
                if taken >= least
                    && let Some(fit) =
                        forward(items, rest, at + usize::from(taken), grammar, is_end)
                {
                    return Some(fit);
                }
                if taken == most || !items.get(at + usize::from(taken))?.is(bits) {
                    return None;
                }
                taken += 1;
            }
        }
        Part::End => {
            items.get(at).filter(|item| is_end(item))?;
            forward(items, rest, at + 1, grammar, is_end).map(|fit| Fit { end: at, ..fit })
        }
        Part::Aside => forward(items, rest, at, grammar, is_end).or_else(|| {
            let after = aside(items, at, grammar)?;
            forward(items, rest, after, grammar, is_end)
        }),
    }
}

/// Fits `parts`, which stand from right to left, ending before `at`; the first item that was matched.
pub(super) fn backward(items: &[Item], parts: &[Part], at: usize) -> Option<usize> {
    let Some((part, rest)) = parts.split_first() else {
        return Some(at);
    };
    let Part::Items { bits, least, most } = *part else {
        return None;
    };
    let mut taken = 0;
    loop {
        if taken >= least
            && let Some(first) = backward(items, rest, at - usize::from(taken))
        {
            return Some(first);
        }
        let next = at.checked_sub(usize::from(taken) + 1)?;
        if taken == most || !items[next].is(bits) {
            return None;
        }
        taken += 1;
    }
}

/// What follows a bracket, an age or a party: "(1815–1852)", ", 83", ", D-Ohio"; the comma behind it is the rule's.
fn aside(items: &[Item], at: usize, grammar: &Grammar) -> Option<usize> {
    let first = items.get(at)?;
    if first.is(grammar.open) {
        return closes(items, at, grammar).map(|close| close + 1);
    }
    if first.is(grammar.comma) && items.get(at + 1)?.is(grammar.party) {
        // ", D-Ohio,"
        return (at + 3..at + 6)
            .find(|&close| items.get(close).is_some_and(|item| item.is(grammar.comma)));
    }
    let age = items.get(at + 1)?.is(Bits::NUMBER | Bits::VALUE);
    if first.is(grammar.comma) && age {
        let close = items.get(at + 2)?;
        return close.is(grammar.comma).then_some(at + 2);
    }
    None
}
