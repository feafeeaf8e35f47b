//! From what the batch found, what others have published and what people decided, to the batch's clusters with their
//! ids: without a look at the database.
//!
//! Invariants: entities are taken in the order of their documents and places there, never of their ids, so that the
//! result depends on nothing but the documents; a published cluster of another batch keeps its id, its name and its
//! distance from every other one: the evidence of a batch may only propose to unite two of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
};

use graphmill_jobs::{ClusterId, EntityId, OrganizationId};

use super::{
    draft::{Draft, drafted, united},
    judge::Judgement,
    rows::Rows,
    rules::{Numbered, Ruled, ruled},
};
use crate::{
    graph::{self, Decisions, Ontology, block_keys},
    store::{Decided, Joined, NewCluster, NewKey, NewLink, NewMember, Repointed, Resolvable},
    workflow::{Edge, cluster_id, joined, link_id},
};

/// A cluster that other batches have published, with those of its members that the batch's entities may be like.
pub(super) struct Anchor {
    pub(super) cluster: NewCluster,
    pub(super) members: Vec<Resolvable>,
}

/// What is known before.
pub(super) struct Given {
    pub(super) organization: OrganizationId,
    pub(super) own: Vec<Resolvable>,
    pub(super) anchors: Vec<Anchor>,
    /// Where the batch's last resolution had put its entities.
    pub(super) before: HashMap<EntityId, ClusterId>,
    pub(super) named_before: HashMap<ClusterId, NewCluster>,
    pub(super) decided: Vec<Decided>,
}

/// The batch's clusters, as they are to be written.
pub(super) struct Placed {
    given: Given,
    parts: Vec<Part>,
    links: Vec<NewLink>,
    /// Decisions about an entity that has another id by now.
    pub(super) repointed: Vec<Repointed>,
}

/// A cluster to be.
struct Part {
    id: Option<ClusterId>,
    /// The batch's own members, by number.
    own: Vec<usize>,
    name: String,
    class: String,
    joined: HashMap<usize, Joined>,
}

/// The keys of an entity.
pub(super) fn keys_of(entity: &Resolvable) -> BTreeSet<i64> {
    let names = std::iter::once(&entity.name).chain(&entity.aliases);
    block_keys(names.map(String::as_str), entity.value.as_deref())
}

/// What the rules and people's decisions make of what is given, before somebody is asked about the rest.
pub(super) struct Ruling {
    pub(super) given: Given,
    pub(super) ruled: Ruled,
    pub(super) drafts: Vec<Draft>,
    /// What is likely and not decided, the surest first.
    pub(super) likely: Vec<Edge>,
}

/// Resolves by the rules and by what people decided.
pub(super) fn rule(mut given: Given, ontology: &Ontology) -> Ruling {
    given.own.sort_by(|a, b| {
        (&a.external, a.document, a.ordinal).cmp(&(&b.external, b.document, b.ordinal))
    });
    given.anchors.sort_by_key(|anchor| anchor.cluster.id);
    for anchor in &mut given.anchors {
        anchor.members.sort_by_key(|member| member.id);
    }
    let numbered = Numbered::of(&given);
    let ruled = ruled(&given, &numbered);
    // What is one thing by decision need not look like it: it is united afterwards, cluster by cluster.
    let decisions = Decisions {
        same: Vec::new(),
        different: ruled.different.iter().copied().collect(),
    };
    let resolved = graph::resolve(numbered.resolvable(ontology), &decisions);
    let mut likely: Vec<Edge> = Vec::new();
    let drafts = drafted(resolved.clusters, resolved.merges, &numbered, &mut likely);
    let drafts = united(drafts, &ruled, &numbered);
    likely.extend(resolved.proposals.into_iter().map(|proposal| Edge {
        left: proposal.left,
        right: proposal.right,
        score: proposal.score,
        reason: proposal.reason.to_string(),
    }));
    likely.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (a.left, a.right, &a.reason).cmp(&(b.left, b.right, &b.reason)))
    });
    Ruling {
        given,
        ruled,
        drafts,
        likely,
    }
}

/// Pairs of drafts that may be one thing, each once and by what makes it surest; none where people have said no, and none
/// that other batches have among themselves.
pub(super) fn pairs<'e>(
    drafts: &[Draft],
    numbered: &Numbered<'_>,
    ruled: &Ruled,
    likely: &'e [Edge],
) -> Vec<(usize, usize, &'e Edge)> {
    let mut of: Vec<usize> = vec![0; numbered.entities.len()];
    let mut has_own: Vec<bool> = Vec::with_capacity(drafts.len());
    for (draft, at) in drafts.iter().zip(0..) {
        for &member in &draft.members {
            of[member] = at;
        }
        let mut members = draft.members.iter();
        has_own.push(members.any(|&member| numbered.anchor_of[member].is_none()));
    }
    let pair = |left: usize, right: usize| {
        let (left, right) = (of[left], of[right]);
        (left != right).then(|| (left.min(right), left.max(right)))
    };
    let apart = ruled.different.iter();
    let mut seen: HashSet<(usize, usize)> = apart
        .filter_map(|&(left, right)| pair(left, right))
        .collect();
    let mut pairs = Vec::new();
    for edge in likely {
        if let Some((one, other)) = pair(edge.left, edge.right)
            && (has_own[one] || has_own[other])
            && seen.insert((one, other))
        {
            pairs.push((one, other, edge));
        }
    }
    pairs
}

impl Ruling {
    /// Places what is ruled; ids of clusters that are found for the first time are still to be given
    /// ([`Placed::found`]).
    pub(super) fn place(self, judgement: &Judgement) -> Placed {
        let Self {
            given,
            ruled,
            drafts,
            likely,
        } = self;
        let numbered = Numbered::of(&given);
        let links = proposed(&given, &numbered, &drafts, &ruled, &likely, judgement);
        let mut anchored = HashSet::new();
        let mut parts: Vec<Part> = Vec::with_capacity(drafts.len());
        for draft in drafts {
            // Should an anchor's members come apart, its id stays with the first of them.
            let anchor = draft
                .anchor
                .map(|at| &given.anchors[at].cluster)
                .filter(|anchor| anchored.insert(anchor.id));
            parts.push(Part::of(draft, anchor, &numbered));
        }
        // Numbers of one's own from here on.
        let others = numbered.entities.len() - given.own.len();
        for part in &mut parts {
            part.own.iter_mut().for_each(|member| *member -= others);
            part.joined = mem::take(&mut part.joined)
                .into_iter()
                .filter_map(|(member, why)| Some((member.checked_sub(others)?, why)))
                .collect();
        }
        parts.retain(|part| !part.own.is_empty());
        let mut placed = Placed {
            repointed: ruled.repointed,
            given,
            parts,
            links,
        };
        placed.keep_ids();
        placed
    }
}

impl Part {
    fn of(draft: Draft, anchor: Option<&NewCluster>, numbered: &Numbered<'_>) -> Self {
        let joined = joined(&draft.members, &draft.edges)
            .into_iter()
            .map(|(member, (with, edge))| {
                let joined = Joined {
                    with: numbered.entities[with].id,
                    score: edge.score,
                    reason: edge.reason.clone(),
                };
                (member, joined)
            })
            .collect();
        let first = draft.members.first().map(|&at| numbered.entities[at]);
        let class = match (anchor, draft.class, first) {
            (Some(anchor), ..) => anchor.class.clone(),
            (None, Some(class), _) => class.as_str().to_owned(),
            (None, None, Some(first)) => first.class.clone(),
            (None, None, None) => String::new(),
        };
        Self {
            id: anchor.map(|anchor| anchor.id),
            name: anchor.map_or(draft.name, |anchor| anchor.name.clone()),
            class,
            joined,
            own: draft
                .members
                .into_iter()
                .filter(|&at| numbered.anchor_of[at].is_none())
                .collect(),
        }
    }
}

/// One link for each pair of clusters that may be one thing; those that were told apart come last.
fn proposed(
    given: &Given,
    numbered: &Numbered<'_>,
    drafts: &[Draft],
    ruled: &Ruled,
    likely: &[Edge],
    judgement: &Judgement,
) -> Vec<NewLink> {
    let mut links = Vec::new();
    let apart = judgement.apart(drafts);
    for (one, other, edge) in pairs(drafts, numbered, ruled, likely) {
        let (left, right) = (numbered.entities[edge.left], numbered.entities[edge.right]);
        let apart = apart.contains(&(one, other));
        links.push(NewLink {
            id: link_id(given.organization, left, right),
            left: left.id,
            right: right.id,
            score: if apart { 0.0 } else { edge.score },
            reason: if apart {
                judgement.apart_because()
            } else {
                edge.reason.clone()
            },
        });
    }
    let mut ids = HashSet::new();
    links.retain(|link| ids.insert(link.id));
    links
}

impl Placed {
    /// Clusters that the batch's last resolution had keep their ids: each goes to the one that has most of it.
    fn keep_ids(&mut self) {
        // What other batches have, and was not found to be the same thing again, is another thing by now.
        let mut used: HashSet<ClusterId> = self
            .given
            .anchors
            .iter()
            .map(|anchor| anchor.cluster.id)
            .collect();
        let mut claims: Vec<(usize, usize, ClusterId)> = Vec::new();
        for (at, part) in self
            .parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.id.is_none())
        {
            let mut of: BTreeMap<ClusterId, usize> = BTreeMap::new();
            for &member in &part.own {
                if let Some(&before) = self.given.before.get(&self.given.own[member].id) {
                    *of.entry(before).or_default() += 1;
                }
            }
            claims.extend(of.into_iter().map(|(id, count)| (count, at, id)));
        }
        claims.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
        for (_, at, id) in claims {
            let part = &mut self.parts[at];
            if part.id.is_some() || !used.insert(id) {
                continue;
            }
            part.id = Some(id);
            // A name stays for as long as anybody bears it.
            let own = &self.given.own;
            if let Some(before) = self.given.named_before.get(&id)
                && part.own.iter().any(|&member| {
                    own[member].name == before.name || own[member].aliases.contains(&before.name)
                })
            {
                part.name.clone_from(&before.name);
                part.class.clone_from(&before.class);
            }
        }
    }

    /// Gives an id to every cluster that has none; `taken` are other things'. Returns the ids that are new.
    pub(super) fn found(&self, taken: &HashSet<ClusterId>) -> (Vec<ClusterId>, Vec<ClusterId>) {
        let mut used: HashSet<ClusterId> = self.parts.iter().filter_map(|part| part.id).collect();
        used.extend(self.given.anchors.iter().map(|anchor| anchor.cluster.id));
        let mut ids = Vec::with_capacity(self.parts.len());
        let mut new = Vec::new();
        for part in &self.parts {
            let id = part.id.unwrap_or_else(|| {
                let founder = &self.given.own[part.own[0]];
                let mut nth = 0;
                loop {
                    let id = cluster_id(self.given.organization, founder, nth);
                    if !taken.contains(&id) && used.insert(id) {
                        new.push(id);
                        return id;
                    }
                    nth += 1;
                }
            });
            ids.push(id);
        }
        (ids, new)
    }

    /// The rows, with an id for every cluster.
    pub(super) fn rows(self, ids: &[ClusterId]) -> Rows {
        let mut rows = Rows {
            clusters: Vec::new(),
            members: Vec::new(),
            keys: Vec::new(),
            links: self.links,
        };
        for (mut part, &id) in self.parts.into_iter().zip(ids) {
            let mut keys: BTreeMap<i64, EntityId> = BTreeMap::new();
            for member in part.own {
                let entity = &self.given.own[member];
                for key in keys_of(entity) {
                    keys.entry(key).or_insert(entity.id);
                }
                rows.members.push(NewMember {
                    cluster: id,
                    entity: entity.id,
                    joined: part.joined.remove(&member),
                });
            }
            rows.keys
                .extend(keys.into_iter().map(|(key, entity)| NewKey {
                    key,
                    cluster: id,
                    entity,
                }));
            rows.clusters.push(NewCluster {
                id,
                name: part.name,
                class: part.class,
            });
        }
        rows
    }
}
