//! Sharing the fleet between the batches that are open: each organization the same part, and within one each batch
//! by its weight. Whoever wants less than its part leaves the rest to the others, so nothing lies idle that somebody
//! wants.
//!
//! Parts are counted in documents in processing, and so by time: a slot that a long document keeps for a minute is
//! paid for with that minute. Knows no text, clock or queue.

use std::collections::BTreeMap;

/// A batch that has work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender<O, B> {
    /// Whose it is.
    pub organization: O,
    /// Which one.
    pub batch: B,
    /// Its weight against the other batches of its organization; none is taken for one.
    pub weight: u32,
    /// Documents that it could have in processing.
    pub wants: u64,
}

/// What a batch gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Documents in processing, at most what it wants and at least one.
    pub documents: u64,
    /// What it would get if everybody wanted everything: its fair part, at least one.
    pub fair: u64,
    /// Its weight against all others, over organizations; they average one.
    pub weight: f64,
}

/// Shares `capacity` out. The answers are in the order of the contenders.
pub fn shares<O: Ord + Copy, B>(capacity: u64, contenders: &[Contender<O, B>]) -> Vec<Share> {
    let mut organizations: BTreeMap<O, Vec<usize>> = BTreeMap::new();
    for (at, contender) in contenders.iter().enumerate() {
        organizations
            .entry(contender.organization)
            .or_default()
            .push(at);
    }
    let wants = |at: usize| float(contenders[at].wants.max(1));
    let weight = |at: usize| f64::from(contenders[at].weight.max(1));
    let of_organizations: Vec<(f64, f64)> = organizations
        .values()
        .map(|members| (1.0, members.iter().map(|&at| wants(at)).sum()))
        .collect();
    let parts = fill(float(capacity), &of_organizations);
    let each = 1.0 / float(organizations.len().max(1) as u64);
    let mut shares = vec![None; contenders.len()];
    for (members, part) in organizations.values().zip(parts) {
        let all: f64 = members.iter().map(|&at| weight(at)).sum();
        let wanted: Vec<(f64, f64)> = members.iter().map(|&at| (weight(at), wants(at))).collect();
        for (&at, got) in members.iter().zip(fill(part, &wanted)) {
            let fraction = each * weight(at) / all;
            shares[at] = Some(Share {
                documents: whole(got).clamp(1, contenders[at].wants.max(1)),
                fair: whole(float(capacity) * fraction).max(1),
                weight: fraction * float(contenders.len() as u64),
            });
        }
    }
    shares.into_iter().flatten().collect()
}

/// Fills `wanted` (weight, most) up from `capacity`, by weight, until it is used up or everybody has enough.
fn fill(capacity: f64, wanted: &[(f64, f64)]) -> Vec<f64> {
    let mut got = vec![0.0; wanted.len()];
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    // Whoever is content with the least by its weight is served first, and leaves the rest to the others.
    order.sort_by(|&a, &b| {
        let of = |at: usize| wanted[at].1 / wanted[at].0;
        of(a).total_cmp(&of(b))
    });
    let mut left = capacity;
    let mut weights: f64 = wanted.iter().map(|(weight, _)| weight).sum();
    for at in order {
        let (weight, most) = wanted[at];
        got[at] = most.min(left * weight / weights);
        left -= got[at];
        weights -= weight;
    }
    got
}

#[expect(
    clippy::cast_precision_loss,
    reason = "capacities and documents are far below 2^52"
)]
const fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part is not negative, and at most the capacity"
)]
fn whole(part: f64) -> u64 {
    // What is a hair below a whole number by rounding is that number.
    (part + 1e-6).floor() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contender(organization: u8, weight: u32, wants: u64) -> Contender<u8, u8> {
        Contender {
            organization,
            batch: 0,
            weight,
            wants,
        }
    }

    fn documents(capacity: u64, contenders: &[Contender<u8, u8>]) -> Vec<u64> {
        shares(capacity, contenders)
            .iter()
            .map(|share| share.documents)
            .collect()
    }

    #[test]
    fn a_batch_alone_may_take_everything() {
        assert_eq!(documents(160, &[contender(0, 1, 1000)]), [160]);
        assert_eq!(documents(160, &[contender(0, 1, 5)]), [5]);
    }

    #[test]
    fn whoever_wants_little_leaves_the_rest_to_the_others() {
        let few_and_many = [contender(0, 1, 5), contender(0, 1, 1000)];
        assert_eq!(documents(160, &few_and_many), [5, 155]);
    }

    #[test]
    fn weights_count_within_an_organization_and_organizations_are_equal() {
        let batches = [
            contender(0, 3, 1000),
            contender(0, 1, 1000),
            contender(1, 1, 1000),
        ];
        assert_eq!(documents(160, &batches), [60, 20, 80]);
        let weights: Vec<f64> = shares(160, &batches).iter().map(|s| s.weight).collect();
        assert!((weights[0] / weights[1] - 3.0).abs() < 1e-9);
        assert!((weights[2] / weights[0] - 80.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn thousands_of_batches_have_one_document_each() {
        let many: Vec<_> = (0..1000).map(|_| contender(0, 1, 5)).collect();
        assert!(documents(160, &many).iter().all(|&share| share == 1));
    }

    proptest! {
        /// Max-min fairness, as it is defined: nothing is left over that anybody wants, and nobody has more than a
        /// weighted part of what somebody of the same organization lacks.
        #[test]
        fn nothing_lies_idle_and_nobody_is_short_for_another_s_sake(
            capacity in 0..500_u64,
            contenders in prop::collection::vec((0..3_u8, 1..5_u32, 1..300_u64), 1..12),
        ) {
            let contenders: Vec<_> =
                contenders.into_iter().map(|(o, weight, wants)| contender(o, weight, wants)).collect();
            let shares = shares(capacity, &contenders);
            let given: u64 = shares.iter().map(|share| share.documents).sum();
            let wanted: u64 = contenders.iter().map(|one| one.wants).sum();
            let slack = contenders.len() as u64;
            prop_assert!(given <= capacity + slack);
            prop_assert!(given + slack >= capacity.min(wanted));
            for (a, got) in contenders.iter().zip(&shares) {
                prop_assert!(got.documents >= 1 && got.documents <= a.wants);
                for (b, other) in contenders.iter().zip(&shares) {
                    if a.organization == b.organization && got.documents < a.wants {
                        let fair = (float(got.documents) + 1.0) / f64::from(a.weight);
                        let theirs = float(other.documents.saturating_sub(1)) / f64::from(b.weight);
                        prop_assert!(theirs <= fair + 1e-6, "{contenders:?} {shares:?}");
                    }
                }
            }
            let mean: f64 = shares.iter().map(|share| share.weight).sum::<f64>() / float(shares.len() as u64);
            prop_assert!((mean - 1.0).abs() < 1e-6);
        }
    }
}
