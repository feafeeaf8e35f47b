//! The best labels of a stretch of words, given what each word speaks for and which label follows which.
//!
//! Knows labels and scores, no word. Outside a stretch everything is O.

use crate::graph::NameLabel;

/// Labels: 0 is O, then B and I of each of the four kinds.
pub(in crate::extractors::local) const LABELS: usize = 9;

/// The scores of a word for each label.
pub(in crate::extractors::local) type Scores = [f32; LABELS];

/// Scores of a label (column) after a label (row).
pub(in crate::extractors::local) type Transitions = [Scores; LABELS];

const NEVER: f32 = -1e30;

const KINDS: [NameLabel; 4] = [
    NameLabel::Per,
    NameLabel::Org,
    NameLabel::Loc,
    NameLabel::Misc,
];

/// The kind of a label; none for O.
pub(in crate::extractors::local) fn kind(label: usize) -> Option<NameLabel> {
    KINDS.get(label.checked_sub(1)? / 2).copied()
}

/// Whether a label begins a name.
pub(in crate::extractors::local) const fn begins(label: usize) -> bool {
    label % 2 == 1
}

/// The label that begins a name of a kind; the next one goes on with it.
#[cfg(feature = "train")]
pub(in crate::extractors::local) fn label_of(kind: NameLabel) -> usize {
    1 + 2 * KINDS.iter().position(|&known| known == kind).unwrap_or(0)
}

/// Whether `label` may follow `before`.
const fn may_follow(before: usize, label: usize) -> bool {
    label == 0 || begins(label) || before == label || before + 1 == label
}

/// The best labels for these words; `allowed` takes some away, as bits by label.
pub(in crate::extractors::local) fn best(
    scores: &[Scores],
    transitions: &Transitions,
    allowed: impl Fn(usize) -> u16,
) -> Vec<u8> {
    let mut paths: Vec<[u8; LABELS]> = Vec::with_capacity(scores.len());
    let mut before = [NEVER; LABELS];
    before[0] = 0.0;
    for (at, own) in scores.iter().enumerate() {
        let (mut next, mut path) = ([NEVER; LABELS], [0_u8; LABELS]);
        let allowed = allowed(at);
        // O and each B may follow anything; an I only its own.
        for label in 0..LABELS {
            if allowed >> label & 1 == 0 {
                continue;
            }
            let (mut top, mut from) = (NEVER, 0_u8);
            for (previous, &score) in (0_u8..).zip(&before) {
                let score = score + transitions[usize::from(previous)][label];
                if may_follow(usize::from(previous), label) && score > top {
                    (top, from) = (score, previous);
                }
            }
            if top > NEVER / 2.0 {
                (next[label], path[label]) = (top + own[label], from);
            }
        }
        paths.push(path);
        before = next;
    }
    // What follows is O.
    let end = |label: usize| before[label] + transitions[label][0];
    let mut label = (1..LABELS).fold(
        0,
        |best, label| if end(label) > end(best) { label } else { best },
    );
    let mut labels = vec![0; scores.len()];
    for (at, path) in paths.iter().enumerate().rev() {
        labels[at] = u8::try_from(label).unwrap_or(0);
        label = usize::from(path[label]);
    }
    labels
}

/// By how much the labels win at each word: the score of the best path less that of the best one with another label
/// there.
pub(in crate::extractors::local) fn margins(
    scores: &[Scores],
    transitions: &Transitions,
    labels: &[u8],
) -> Vec<f32> {
    let mut ahead: Vec<Scores> = Vec::with_capacity(scores.len());
    let mut before = [NEVER; LABELS];
    before[0] = 0.0;
    for own in scores {
        let mut next = [NEVER; LABELS];
        for label in 0..LABELS {
            for (previous, &score) in before.iter().enumerate() {
                if may_follow(previous, label) {
                    next[label] = next[label].max(score + transitions[previous][label]);
                }
            }
            next[label] += own[label];
        }
        ahead.push(next);
        before = next;
    }
    let mut margins = vec![0.0; scores.len()];
    let mut after = [NEVER; LABELS];
    for label in 0..LABELS {
        after[label] = transitions[label][0];
    }
    for at in (0..scores.len()).rev() {
        let own = usize::from(labels[at]);
        let total = |label: usize| ahead[at][label] + after[label];
        let other = (0..LABELS)
            .filter(|&label| label != own)
            .map(total)
            .fold(NEVER, f32::max);
        margins[at] = (total(own) - other).max(0.0);
        let mut next = [NEVER; LABELS];
        for (label, next) in next.iter_mut().enumerate() {
            for following in 0..LABELS {
                if may_follow(label, following) {
                    *next = next.max(
                        transitions[label][following] + scores[at][following] + after[following],
                    );
                }
            }
        }
        after = next;
    }
    margins
}
