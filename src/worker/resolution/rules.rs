//! Everybody whom a resolution is about in numbers, and what people have decided about them.
//!
//! Invariant: numbers follow the order in which everybody is given; ids have no say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graphmill_jobs::{BatchId, DocumentId, EntityId};

use super::place::Given;
use crate::{
    graph::{ClassId, Ontology, ResolvableEntity, name_key},
    store::{Decision, LinkMember, Repointed, Resolvable, Side},
};

/// Everybody by number: the members of anchors, then the batch's own.
pub(super) struct Numbered<'g> {
    pub(super) entities: Vec<&'g Resolvable>,
    pub(super) anchor_of: Vec<Option<usize>>,
    by_id: HashMap<EntityId, usize>,
}

impl<'g> Numbered<'g> {
    pub(super) fn of(given: &'g Given) -> Self {
        let mut numbered = Self {
            entities: Vec::new(),
            anchor_of: Vec::new(),
            by_id: HashMap::new(),
        };
        for (anchor, at) in given.anchors.iter().zip(0..) {
            for member in &anchor.members {
                numbered.add(member, Some(at));
            }
        }
        for entity in &given.own {
            numbered.add(entity, None);
        }
        numbered
    }

    fn add(&mut self, entity: &'g Resolvable, anchor: Option<usize>) {
        self.by_id.insert(entity.id, self.entities.len());
        self.entities.push(entity);
        self.anchor_of.push(anchor);
    }

    pub(super) fn resolvable(&self, ontology: &Ontology) -> Vec<ResolvableEntity<usize>> {
        let mut documents: HashMap<DocumentId, u32> = HashMap::new();
        let mut resolvable = Vec::with_capacity(self.entities.len());
        for (entity, id) in self.entities.iter().zip(0..) {
            let next = u32::try_from(documents.len()).unwrap_or(u32::MAX);
            let document = *documents.entry(entity.document).or_insert(next);
            let class = ClassId::new(entity.class.clone());
            resolvable.push(ResolvableEntity {
                id,
                document,
                name: entity.name.clone(),
                aliases: entity.aliases.clone(),
                value: entity.value.clone(),
                label: ontology.label_of(&class),
                class: Some(class),
                context: self.context(id),
            });
        }
        resolvable
    }

    /// The names that its document has around it.
    fn context(&self, of: usize) -> Option<String> {
        let entity = self.entities[of];
        if self.anchor_of[of].is_some() {
            return None;
        }
        let around = of.saturating_sub(4)..(of + 5).min(self.entities.len());
        let names: Vec<&str> = around
            .filter(|&at| at != of && self.entities[at].document == entity.document)
            .map(|at| self.entities[at].name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(" "))
    }
}

/// Decisions in numbers; who is not among the entities says nothing.
#[derive(Default)]
pub(super) struct Ruled {
    /// Who is one thing by decision: the clusters of both become one.
    pub(super) same: Vec<(usize, usize)>,
    /// Who is not, with everybody who is one thing with either by decision.
    pub(super) different: BTreeSet<(usize, usize)>,
    pub(super) repointed: Vec<Repointed>,
}

pub(super) fn ruled(given: &Given, numbered: &Numbered<'_>) -> Ruled {
    let mut ruled = Ruled::default();
    if given.decided.is_empty() {
        return ruled;
    }
    let mut anew: Anew<'_> = HashMap::new();
    for (entity, at) in numbered.entities.iter().zip(0..) {
        let known = (entity.batch, &*entity.external, name_key(&entity.name));
        anew.entry(known).or_default().push(at);
    }
    let mut different = Vec::new();
    for decided in &given.decided {
        let mut sides = [Vec::new(), Vec::new()];
        let mut named: HashSet<EntityId> = decided.members.iter().map(|one| one.entity).collect();
        for member in &decided.members {
            let Some(at) = found_again(member, numbered, &anew) else {
                continue;
            };
            let entity = numbered.entities[at];
            // Two of them may have become one: the decision is about that one once.
            if entity.id != member.entity && named.insert(entity.id) {
                ruled.repointed.push(Repointed {
                    link: decided.link,
                    from: member.entity,
                    to: entity.id,
                    document: entity.document,
                });
            }
            sides[usize::from(member.side == Side::Right)].push(at);
        }
        let [left, right] = sides;
        let Some((&first, rest)) = left.split_first() else {
            continue;
        };
        ruled.same.extend(rest.iter().map(|&other| (first, other)));
        match decided.decision {
            Decision::Accepted => ruled
                .same
                .extend(right.first().map(|&other| (first, other))),
            Decision::Rejected => different.extend(right.iter().map(|&other| (first, other))),
        }
    }
    // The members of an anchor are one thing too.
    let mut anchored: BTreeMap<usize, usize> = BTreeMap::new();
    let mut pairs = ruled.same.clone();
    for (at, anchor) in numbered.anchor_of.iter().enumerate() {
        if let Some(anchor) = anchor {
            pairs.push((*anchored.entry(*anchor).or_insert(at), at));
        }
    }
    let together = together(&pairs);
    let alone = |at: usize| vec![at];
    for (left, right) in different {
        let left = together.get(&left).cloned().unwrap_or_else(|| alone(left));
        let right = together
            .get(&right)
            .cloned()
            .unwrap_or_else(|| alone(right));
        if left != right {
            let all = left
                .iter()
                .flat_map(|&one| right.iter().map(move |&other| (one, other)));
            ruled
                .different
                .extend(all.map(|(one, other)| (one.min(other), one.max(other))));
        }
    }
    ruled
}

/// Of everybody in `pairs`, all whom they lead to.
fn together(pairs: &[(usize, usize)]) -> HashMap<usize, Vec<usize>> {
    let mut group_of: HashMap<usize, usize> = HashMap::new();
    let mut groups: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for &(one, other) in pairs {
        let one = *group_of.entry(one).or_insert(one);
        let other = *group_of.entry(other).or_insert(other);
        groups.entry(one).or_default().insert(one);
        groups.entry(other).or_default().insert(other);
        if one != other
            && let Some(gone) = groups.remove(&other)
        {
            group_of.extend(gone.iter().map(|&at| (at, one)));
            groups.entry(one).or_default().extend(gone);
        }
    }
    groups
        .into_values()
        .flat_map(|group| {
            let all: Vec<usize> = group.into_iter().collect();
            all.clone().into_iter().map(move |at| (at, all.clone()))
        })
        .collect()
}

/// Everybody by batch, the caller's id of the document, and name.
type Anew<'n> = HashMap<(BatchId, &'n str, String), Vec<usize>>;

/// The member itself, or who has its name in its document now, or in the version that has taken its place.
fn found_again(member: &LinkMember, numbered: &Numbered<'_>, anew: &Anew<'_>) -> Option<usize> {
    if let Some(&at) = numbered.by_id.get(&member.entity) {
        return Some(at);
    }
    let named = anew.get(&(member.batch, &*member.external, name_key(&member.name)))?;
    let mut same_class = named
        .iter()
        .filter(|&&at| numbered.entities[at].class == member.class);
    same_class.next().or(named.first()).copied()
}
