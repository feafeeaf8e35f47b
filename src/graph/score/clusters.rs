//! Entities: B³ and pairs, over the names that were found with their whole span.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tally::{Scores, Tally, ratio};
use crate::graph::GoldMention;

/// The scores of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EntityScores {
    /// B³: of each mention, how much of its entity is right, and how much of its cluster is there.
    pub b_cubed: Scores,
    /// Pairs of mentions that stand for one thing.
    pub pairs: Scores,
}

#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// Names that are marked, and those of them that were found.
    marked: u64,
    aligned: u64,
    precision: f64,
    recall: f64,
    pairs: Tally,
}

impl Clusters {
    /// Counts one document, whose mention `i` was found in the entity `entity_of[i]`.
    pub(super) fn add(
        &mut self,
        gold: &[GoldMention],
        clusters: &[Vec<usize>],
        entity_of: &[Option<usize>],
    ) {
        // A mention in no cluster is a thing of its own.
        let mut cluster_of: Vec<usize> = (0..gold.len())
            .map(|index| clusters.len() + index)
            .collect();
        for (number, cluster) in clusters.iter().enumerate() {
            for &member in cluster {
                if let Some(of) = cluster_of.get_mut(member) {
                    *of = number;
                }
            }
        }
        let mut of_cluster: BTreeMap<usize, u64> = BTreeMap::new();
        let mut of_entity: BTreeMap<usize, u64> = BTreeMap::new();
        let mut of_both: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for ((marked, &cluster), &entity) in gold.iter().zip(&cluster_of).zip(entity_of) {
            if marked.kind.label().is_none() {
                continue;
            }
            self.marked += 1;
            let Some(entity) = entity else {
                continue;
            };
            self.aligned += 1;
            *of_cluster.entry(cluster).or_default() += 1;
            *of_entity.entry(entity).or_default() += 1;
            *of_both.entry((cluster, entity)).or_default() += 1;
        }
        for (&(cluster, entity), &both) in &of_both {
            self.precision += ratio(both * both, of_entity[&entity]);
            self.recall += ratio(both * both, of_cluster[&cluster]);
        }
        let pairs = |counts: &mut dyn Iterator<Item = &u64>| {
            counts.map(|&count| count * (count - 1) / 2).sum::<u64>()
        };
        let right = pairs(&mut of_both.values());
        self.pairs.right += right;
        self.pairs.found += right;
        self.pairs.gold += pairs(&mut of_cluster.values());
        self.pairs.predicted += pairs(&mut of_entity.values());
    }

    pub(super) fn scores(&self) -> EntityScores {
        let share = |sum: f64| {
            let one = ratio(1, self.aligned);
            sum * one
        };
        EntityScores {
            b_cubed: Scores {
                gold: self.marked,
                predicted: self.aligned,
                ..Scores::of(share(self.precision), share(self.recall))
            },
            pairs: self.pairs.scores(),
        }
    }
}
