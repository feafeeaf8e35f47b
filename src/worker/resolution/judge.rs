//! What the rules leave in doubt, and what becomes of it once somebody has answered.
//!
//! Looks at no database and asks nobody. Invariants: only what an answer could change is asked about; an answer unites
//! nothing that people told apart, that belongs to two clusters of other batches, or that contradicts itself; one answer
//! leads to no other: of three, each pair has to be said to be one thing, or agree by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graphmill_jobs::DocumentId;

use super::{
    draft::{Draft, Uniting},
    place::{Ruling, pairs},
    rules::Numbered,
};
use crate::{
    graph::{Bearer, ClassId, Ontology, Sameness, may_be_one},
    workflow::Edge,
};

/// How sure a merge is that somebody else than a user has spoken for.
///
/// **Source:** no model says how sure it is, and none was measured here; it is below every rule that merges by itself,
/// so that such a merge is the first to come apart.
const SCORE: f32 = 0.9;

/// Two drafts that may be one thing.
#[derive(Debug, Clone)]
pub(super) struct Doubt {
    /// The drafts, by number.
    pub(super) drafts: (usize, usize),
    /// What makes it likely.
    pub(super) edge: Edge,
}

/// What was said, as far as it has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// By whom.
    by: String,
    /// Entities whose clusters were said to be two things.
    apart: Vec<(usize, usize)>,
}

impl Judgement {
    /// Pairs of drafts, the lower first, of which some were said to be two things.
    pub(super) fn apart(&self, drafts: &[Draft]) -> HashSet<(usize, usize)> {
        if self.apart.is_empty() {
            return HashSet::new();
        }
        let mut of: HashMap<usize, usize> = HashMap::new();
        for (draft, at) in drafts.iter().zip(0..) {
            of.extend(draft.members.iter().map(|&member| (member, at)));
        }
        let pairs = self.apart.iter();
        pairs
            .filter_map(|(left, right)| Some((*of.get(left)?, *of.get(right)?)))
            .map(|(one, other)| (one.min(other), one.max(other)))
            .collect()
    }

    pub(super) fn apart_because(&self) -> String {
        format!("told apart by {}", self.by)
    }
}

impl Ruling {
    /// What somebody can be asked about, the likeliest first, `most` at most.
    pub(super) fn doubts(&self, ontology: &Ontology, most: usize) -> Vec<Doubt> {
        let numbered = Numbered::of(&self.given);
        pairs(&self.drafts, &numbered, &self.ruled, &self.likely)
            .into_iter()
            .filter(|&(one, other, _)| {
                let (one, other) = (&self.drafts[one], &self.drafts[other]);
                let is_between_anchors =
                    matches!((one.anchor, other.anchor), (Some(a), Some(b)) if a != b);
                let bearers = |draft| bearers(draft, &numbered, ontology);
                !is_between_anchors && may_be_one(&bearers(one), &bearers(other), true)
            })
            .take(most)
            .map(|(one, other, edge)| Doubt {
                drafts: (one, other),
                edge: edge.clone(),
            })
            .collect()
    }

    /// Unites what `by` said is one thing, as far as it may be, the likeliest first.
    pub(super) fn judge(
        &mut self,
        said: &[(Doubt, Sameness)],
        ontology: &Ontology,
        by: &str,
    ) -> Judgement {
        let numbered = Numbered::of(&self.given);
        let with = |wanted: Sameness| {
            let said = said.iter().filter(move |(_, verdict)| *verdict == wanted);
            said.map(|(doubt, _)| doubt)
        };
        let same: BTreeSet<_> = with(Sameness::Same).map(|doubt| doubt.drafts).collect();
        let different: BTreeSet<_> = with(Sameness::Different)
            .map(|doubt| doubt.drafts)
            .collect();
        let bearers: BTreeMap<usize, Vec<Bearer<'_, DocumentId>>> = same
            .iter()
            .flat_map(|&(one, other)| [one, other])
            .map(|at| (at, bearers(&self.drafts[at], &numbered, ontology)))
            .collect();
        // By the number that a draft begins with; whoever is united is in the group of the first.
        let mut groups: BTreeMap<usize, Vec<usize>> =
            bearers.keys().map(|&at| (at, vec![at])).collect();
        let drafts = std::mem::take(&mut self.drafts);
        let mut uniting = Uniting::of(drafts, numbered.entities.len());
        let mut merged = 0;
        for doubt in with(Sameness::Same) {
            let (stays, goes) = uniting.ends(doubt.edge.left, doubt.edge.right);
            if stays == goes || !uniting.may(&self.ruled, stays, goes) {
                continue;
            }
            let fits = groups[&stays].iter().all(|&one| {
                groups[&goes].iter().all(|&other| {
                    let pair = (one.min(other), one.max(other));
                    let told = same.contains(&pair);
                    !different.contains(&pair) && may_be_one(&bearers[&one], &bearers[&other], told)
                })
            });
            if !fits {
                continue;
            }
            let edge = Edge {
                score: SCORE,
                reason: format!("adjudicated by {by}"),
                ..doubt.edge.clone()
            };
            uniting.unite(stays, goes, Some(edge));
            let gone = groups.remove(&goes).unwrap_or_default();
            groups.entry(stays).or_default().extend(gone);
            merged += 1;
        }
        self.drafts = uniting.drafts();
        tracing::debug!(merged, "united what was said to be one thing");
        Judgement {
            by: by.to_owned(),
            apart: with(Sameness::Different)
                .map(|doubt| (doubt.edge.left, doubt.edge.right))
                .collect(),
        }
    }
}

/// All names in a draft, with those who bear them.
fn bearers<'g>(
    draft: &Draft,
    numbered: &Numbered<'g>,
    ontology: &Ontology,
) -> Vec<Bearer<'g, DocumentId>> {
    draft
        .members
        .iter()
        .map(|&at| {
            let entity = numbered.entities[at];
            let class = ClassId::new(entity.class.clone());
            Bearer {
                name: &entity.name,
                value: entity.value.as_deref(),
                label: ontology.label_of(&class),
                class,
                document: entity.document,
            }
        })
        .collect()
}
