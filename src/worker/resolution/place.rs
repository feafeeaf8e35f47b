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

use graphmill_jobs::{ClusterId, DocumentId, EntityId, LinkId, OrganizationId};
use sha2::{Digest, Sha256};

use crate::{
    graph::{self, ClassId, Decisions, Ontology, ResolvableEntity, block_keys, name_key},
    store::{
        Decided, Decision, Joined, LinkMember, NewCluster, NewKey, NewLink, NewMember, Resolvable,
        Side,
    },
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
    pub(super) repointed: Vec<(LinkId, EntityId, EntityId)>,
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

/// The rows of a resolution.
pub(super) struct Rows {
    pub(super) clusters: Vec<NewCluster>,
    pub(super) members: Vec<NewMember>,
    pub(super) keys: Vec<NewKey>,
    pub(super) links: Vec<NewLink>,
}

/// The keys of an entity.
pub(super) fn keys_of(entity: &Resolvable) -> BTreeSet<i64> {
    let names = std::iter::once(&entity.name).chain(&entity.aliases);
    block_keys(names.map(String::as_str), entity.value.as_deref())
}

/// Everybody by number: the members of anchors, then the batch's own.
struct Numbered<'g> {
    entities: Vec<&'g Resolvable>,
    anchor_of: Vec<Option<usize>>,
    by_id: HashMap<EntityId, usize>,
}

impl<'g> Numbered<'g> {
    fn of(given: &'g Given) -> Self {
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

    fn resolvable(&self, ontology: &Ontology) -> Vec<ResolvableEntity<usize>> {
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

/// Decisions as pairs of numbers; who is not among the entities says nothing.
#[derive(Default)]
struct Paired {
    decisions: Decisions<usize>,
    repointed: Vec<(LinkId, EntityId, EntityId)>,
}

fn paired(given: &Given, numbered: &Numbered<'_>) -> Paired {
    let mut paired = Paired::default();
    let mut first = 0;
    for anchor in &given.anchors {
        let last = first + anchor.members.len();
        paired
            .decisions
            .same
            .extend((first + 1..last).map(|member| (first, member)));
        first = last;
    }
    if given.decided.is_empty() {
        return paired;
    }
    let mut anew: HashMap<(DocumentId, String), Vec<usize>> = HashMap::new();
    for (entity, at) in numbered.entities.iter().zip(0..) {
        let known = (entity.document, name_key(&entity.name));
        anew.entry(known).or_default().push(at);
    }
    for decided in &given.decided {
        let mut sides = [Vec::new(), Vec::new()];
        for member in &decided.members {
            let Some(at) = found_again(member, numbered, &anew) else {
                continue;
            };
            let entity = numbered.entities[at].id;
            if entity != member.entity {
                paired.repointed.push((decided.link, member.entity, entity));
            }
            sides[usize::from(member.side == Side::Right)].push(at);
        }
        let [left, right] = sides;
        let Some((&first, rest)) = left.split_first() else {
            continue;
        };
        let Decisions { same, different } = &mut paired.decisions;
        same.extend(rest.iter().map(|&other| (first, other)));
        match decided.decision {
            Decision::Accepted => same.extend(right.first().map(|&other| (first, other))),
            Decision::Rejected => different.extend(right.iter().map(|&other| (first, other))),
        }
    }
    paired
}

/// The member itself, or who has its name in its document now.
fn found_again(
    member: &LinkMember,
    numbered: &Numbered<'_>,
    anew: &HashMap<(DocumentId, String), Vec<usize>>,
) -> Option<usize> {
    if let Some(&at) = numbered.by_id.get(&member.entity) {
        return Some(at);
    }
    let named = anew.get(&(member.document, name_key(&member.name)))?;
    let mut same_class = named
        .iter()
        .filter(|&&at| numbered.entities[at].class == member.class);
    same_class.next().or(named.first()).copied()
}

/// Resolves and places; ids of clusters that are found for the first time are still to be given ([`Placed::found`]).
pub(super) fn place(mut given: Given, ontology: &Ontology) -> Placed {
    given.own.sort_by(|a, b| {
        (&a.external, a.document, a.ordinal).cmp(&(&b.external, b.document, b.ordinal))
    });
    given.anchors.sort_by_key(|anchor| anchor.cluster.id);
    for anchor in &mut given.anchors {
        anchor.members.sort_by_key(|member| member.id);
    }
    let numbered = Numbered::of(&given);
    let Paired {
        decisions,
        repointed,
    } = paired(&given, &numbered);
    let resolved = graph::resolve(numbered.resolvable(ontology), &decisions);
    let mut of_cluster = vec![0; numbered.entities.len()];
    for (cluster, at) in resolved.clusters.iter().zip(0..) {
        for &member in &cluster.members {
            of_cluster[member] = at;
        }
    }
    let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); resolved.clusters.len()];
    for merge in resolved.merges {
        edges[of_cluster[merge.left]].push(Edge {
            left: merge.left,
            right: merge.right,
            score: merge.score,
            reason: merge.reason.to_string(),
        });
    }
    let mut parts = Vec::new();
    let mut part_of: Vec<Option<usize>> = vec![None; numbered.entities.len()];
    let mut likely: Vec<Edge> = Vec::new();
    let mut anchored = HashSet::new();
    for (cluster, mut edges) in resolved.clusters.into_iter().zip(edges) {
        for members in apart(
            &cluster.members,
            &mut edges,
            &numbered.anchor_of,
            &mut likely,
        ) {
            let anchor = members.iter().find_map(|&at| numbered.anchor_of[at]);
            for &member in &members {
                part_of[member] = Some(parts.len());
            }
            let why: HashMap<usize, Joined> = joined(&members, &edges)
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
            let own: Vec<usize> = members
                .into_iter()
                .filter(|&at| numbered.anchor_of[at].is_none())
                .collect();
            // Should an anchor's members come apart, the id stays with the first of them.
            let anchor = anchor
                .map(|at| &given.anchors[at].cluster)
                .filter(|anchor| anchored.insert(anchor.id));
            parts.push(Part {
                id: anchor.map(|anchor| anchor.id),
                name: anchor.map_or_else(|| cluster.name.clone(), |anchor| anchor.name.clone()),
                class: match (anchor, &cluster.class) {
                    (Some(anchor), _) => anchor.class.clone(),
                    (None, Some(class)) => class.as_str().to_owned(),
                    (None, None) => numbered.entities[cluster.members[0]].class.clone(),
                },
                joined: why,
                own,
            });
        }
    }
    likely.extend(resolved.proposals.into_iter().map(|proposal| Edge {
        left: proposal.left,
        right: proposal.right,
        score: proposal.score,
        reason: proposal.reason.to_string(),
    }));
    let links = proposed(&given, &numbered, &parts, &part_of, &decisions, likely);
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
        given,
        parts,
        links,
        repointed,
    };
    placed.keep_ids();
    placed
}

/// A cluster in parts, of which each has one anchor at most; by descending certainty, and what does not fit is `likely`.
fn apart(
    members: &[usize],
    edges: &mut [Edge],
    anchor_of: &[Option<usize>],
    likely: &mut Vec<Edge>,
) -> Vec<BTreeSet<usize>> {
    let anchors: BTreeSet<usize> = members.iter().filter_map(|&at| anchor_of[at]).collect();
    if anchors.len() < 2 {
        return vec![members.iter().copied().collect()];
    }
    edges.sort_by(|a, b| {
        // The members of an anchor are together before anything else is looked at.
        let own = |edge: &Edge| {
            anchor_of[edge.left].is_some() && anchor_of[edge.left] == anchor_of[edge.right]
        };
        own(b)
            .cmp(&own(a))
            .then_with(|| b.score.total_cmp(&a.score))
            .then_with(|| (a.left, a.right).cmp(&(b.left, b.right)))
    });
    // Of each member, its part: the smallest member's number.
    let mut parts: BTreeMap<usize, (BTreeSet<usize>, Option<usize>)> = members
        .iter()
        .map(|&at| (at, (BTreeSet::from([at]), anchor_of[at])))
        .collect();
    let mut part_of: BTreeMap<usize, usize> = members.iter().map(|&at| (at, at)).collect();
    for edge in &*edges {
        let (left, right) = (part_of[&edge.left], part_of[&edge.right]);
        if left == right {
            continue;
        }
        let (keep, go) = (left.min(right), left.max(right));
        match (parts[&keep].1, parts[&go].1) {
            (Some(a), Some(b)) if a != b => {
                likely.push(edge.clone());
                continue;
            }
            _ => {}
        }
        if let Some((gone, anchor)) = parts.remove(&go)
            && let Some((kept, of)) = parts.get_mut(&keep)
        {
            for &member in &gone {
                part_of.insert(member, keep);
            }
            kept.extend(gone);
            *of = of.or(anchor);
        }
    }
    parts.into_values().map(|(members, _)| members).collect()
}

/// One link for each pair of clusters that may be one thing, the surest; none where people have said no.
fn proposed(
    given: &Given,
    numbered: &Numbered<'_>,
    parts: &[Part],
    part_of: &[Option<usize>],
    decisions: &Decisions<usize>,
    mut likely: Vec<Edge>,
) -> Vec<NewLink> {
    let pair = |left: usize, right: usize| {
        let (left, right) = (part_of[left]?, part_of[right]?);
        (left != right).then(|| (left.min(right), left.max(right)))
    };
    let mut seen: HashSet<(usize, usize)> = HashSet::new();
    seen.extend(
        decisions
            .different
            .iter()
            .filter_map(|&(left, right)| pair(left, right)),
    );
    likely.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (a.left, a.right, &a.reason).cmp(&(b.left, b.right, &b.reason)))
    });
    let mut links = Vec::new();
    for edge in likely {
        let Some((one, other)) = pair(edge.left, edge.right) else {
            continue;
        };
        // What other batches have among themselves is not this one's business.
        if parts[one].own.is_empty() && parts[other].own.is_empty() || !seen.insert((one, other)) {
            continue;
        }
        let (left, right) = (numbered.entities[edge.left], numbered.entities[edge.right]);
        links.push(NewLink {
            id: link_id(given.organization, left, right),
            left: left.id,
            right: right.id,
            score: edge.score,
            reason: edge.reason,
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

impl Rows {
    /// SHA-256 of all of them.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        for cluster in &self.clusters {
            text(&cluster.id.to_string());
            text(&cluster.name);
            text(&cluster.class);
        }
        for member in &self.members {
            text(&member.cluster.to_string());
            text(&member.entity.to_string());
            if let Some(joined) = &member.joined {
                text(&joined.with.to_string());
                text(&joined.reason);
                text(&joined.score.to_bits().to_string());
            }
        }
        for key in &self.keys {
            text(&key.key.to_string());
            text(&key.entity.to_string());
        }
        for link in &self.links {
            text(&link.id.to_string());
            text(&link.left.to_string());
            text(&link.right.to_string());
            text(&link.reason);
            text(&link.score.to_bits().to_string());
        }
        hash.finalize().into()
    }
}
