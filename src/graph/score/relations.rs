//! Relations: between entities, because that is what the graph holds. What is marked between mentions is read through
//! the entities that these were found in, so that merging two mentions neither helps nor harms.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::{
    Predicted, names,
    tally::{Scores, Tally},
};
use crate::graph::{GoldMention, GoldRelation};

/// The scores of one relation type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RelationScores {
    /// The relation type; `all` of those that are marked in the corpus.
    #[serde(rename = "type")]
    pub name: String,
    /// Both ends were found with their whole span.
    pub strict: Scores,
    /// Both ends were found at least in part; absent where nobody tells the two apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<Scores>,
}

impl RelationScores {
    pub(super) fn of(strict: Option<&Relations>, partial: Option<&Relations>) -> Vec<Self> {
        let Some(strict) = strict else {
            return Vec::new();
        };
        let all = Self {
            name: "all".to_owned(),
            strict: strict.all().scores(),
            partial: partial.map(|partial| partial.all().scores()),
        };
        let each = strict.marked().map(|(name, tally)| Self {
            name: name.clone(),
            strict: tally.scores(),
            partial: partial
                .and_then(|partial| partial.0.get(name))
                .map(|tally| tally.scores()),
        });
        std::iter::once(all).chain(each).collect()
    }
}

/// Counts by relation type; those that the corpus never marks are counted, and not reported.
#[derive(Debug, Default)]
pub(super) struct Relations(BTreeMap<String, Tally>);

impl Relations {
    /// Counts the relations between the mentions of one document; mention `i` was found in `entity_of[i]`.
    pub(super) fn add(
        &mut self,
        rels: &[GoldRelation],
        entity_of: &[Option<usize>],
        predicted: &Predicted,
    ) {
        let mut marked: BTreeSet<(usize, &str, usize)> = BTreeSet::new();
        let entity = |mention: usize| entity_of.get(mention).copied().flatten();
        for relation in rels {
            let name = names::of_sentence(&relation.name);
            if let (Some(head), Some(tail)) = (entity(relation.head), entity(relation.tail)) {
                marked.insert(ordered(head, name, tail));
            } else {
                // An end was not found, so neither was the relation.
                self.tally(name).gold += 1;
            }
        }
        let found: BTreeSet<(usize, &str, usize)> = predicted
            .relations()
            .map(|(subject, name, object)| ordered(subject, name, object))
            .collect();
        for relation in &marked {
            let tally = self.tally(relation.1);
            tally.gold += 1;
            tally.found += u64::from(found.contains(relation));
        }
        for relation in &found {
            let tally = self.tally(relation.1);
            tally.predicted += 1;
            tally.right += u64::from(marked.contains(relation));
        }
    }

    /// Counts the relations between the clusters of one document. A cluster may have been found as several entities,
    /// and an entity may mix several clusters: a relation is found if any two of them carry it, and right likewise.
    pub(super) fn add_of_clusters(
        &mut self,
        gold: &[GoldMention],
        clusters: &[Vec<usize>],
        drels: &[GoldRelation],
        entity_of: &[Option<usize>],
        predicted: &Predicted,
    ) {
        let mut clusters_of: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for (number, cluster) in clusters.iter().enumerate() {
            for &member in cluster {
                if let Some(entity) = entity_of.get(member).copied().flatten() {
                    clusters_of.entry(entity).or_default().insert(number);
                }
            }
        }
        let kind = |cluster: usize| {
            let first = *clusters.get(cluster)?.first()?;
            gold.get(first).map(|mention| mention.kind)
        };
        let marked: BTreeSet<(usize, &str, usize)> = drels
            .iter()
            .filter_map(|relation| {
                let (name, inverse) = names::of_document(&relation.name, |inverse| {
                    kind(if inverse {
                        relation.tail
                    } else {
                        relation.head
                    })
                })?;
                Some(if inverse {
                    ordered(relation.tail, name, relation.head)
                } else {
                    ordered(relation.head, name, relation.tail)
                })
            })
            .collect();
        let none = BTreeSet::new();
        let mut found: BTreeSet<(usize, &str, usize)> = BTreeSet::new();
        let distinct: BTreeSet<(usize, &str, usize)> = predicted
            .relations()
            .map(|(subject, name, object)| ordered(subject, name, object))
            .collect();
        for (subject, name, object) in distinct {
            let tally = self.tally(name);
            tally.predicted += 1;
            let mut right = false;
            for &head in clusters_of.get(&subject).unwrap_or(&none) {
                for &tail in clusters_of.get(&object).unwrap_or(&none) {
                    let relation = ordered(head, name, tail);
                    if let Some(&relation) = marked.get(&relation) {
                        right = true;
                        found.insert(relation);
                    }
                }
            }
            tally.right += u64::from(right);
        }
        for relation in &marked {
            let tally = self.tally(relation.1);
            tally.gold += 1;
            tally.found += u64::from(found.contains(relation));
        }
    }

    fn tally(&mut self, name: &str) -> &mut Tally {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), Tally::default());
        }
        self.0.entry(name.to_owned()).or_default()
    }

    fn marked(&self) -> impl Iterator<Item = (&String, &Tally)> {
        self.0.iter().filter(|(_, tally)| tally.gold > 0)
    }

    fn all(&self) -> Tally {
        self.marked().fold(Tally::default(), |all, (_, one)| Tally {
            gold: all.gold + one.gold,
            found: all.found + one.found,
            predicted: all.predicted + one.predicted,
            right: all.right + one.right,
        })
    }
}

/// A relation that says the same both ways has one form.
fn ordered(head: usize, name: &str, tail: usize) -> (usize, &str, usize) {
    if names::SYMMETRIC.contains(&name) && head > tail {
        (tail, name, head)
    } else {
        (head, name, tail)
    }
}
