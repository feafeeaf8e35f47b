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
    graph::{self, ClassId, Decisions, Ontology, Reason, ResolvableEntity, block_keys, name_key},
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

/// Decisions in numbers; who is not among the entities says nothing.
#[derive(Default)]
struct Ruled {
    /// Who is one thing by decision: the clusters of both become one.
    same: Vec<(usize, usize)>,
    /// Who is not, with everybody who is one thing with either by decision.
    different: BTreeSet<(usize, usize)>,
    repointed: Vec<(LinkId, EntityId, EntityId)>,
}

fn ruled(given: &Given, numbered: &Numbered<'_>) -> Ruled {
    let mut ruled = Ruled::default();
    if given.decided.is_empty() {
        return ruled;
    }
    let mut anew: HashMap<(DocumentId, String), Vec<usize>> = HashMap::new();
    for (entity, at) in numbered.entities.iter().zip(0..) {
        let known = (entity.document, name_key(&entity.name));
        anew.entry(known).or_default().push(at);
    }
    let mut different = Vec::new();
    for decided in &given.decided {
        let mut sides = [Vec::new(), Vec::new()];
        for member in &decided.members {
            let Some(at) = found_again(member, numbered, &anew) else {
                continue;
            };
            let entity = numbered.entities[at].id;
            if entity != member.entity {
                ruled.repointed.push((decided.link, member.entity, entity));
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

/// A cluster in the making.
struct Draft {
    members: BTreeSet<usize>,
    edges: Vec<Edge>,
    anchor: Option<usize>,
    name: String,
    class: Option<ClassId>,
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
    let mut part_of: Vec<Option<usize>> = vec![None; numbered.entities.len()];
    let mut anchored = HashSet::new();
    let mut parts: Vec<Part> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        for &member in &draft.members {
            part_of[member] = Some(parts.len());
        }
        // Should an anchor's members come apart, its id stays with the first of them.
        let anchor = draft
            .anchor
            .map(|at| &given.anchors[at].cluster)
            .filter(|anchor| anchored.insert(anchor.id));
        parts.push(Part::of(draft, anchor, &numbered));
    }
    likely.extend(resolved.proposals.into_iter().map(|proposal| Edge {
        left: proposal.left,
        right: proposal.right,
        score: proposal.score,
        reason: proposal.reason.to_string(),
    }));
    let links = proposed(&given, &numbered, &parts, &part_of, &ruled, likely);
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

/// The clusters as the rules have them, but that none has two anchors.
fn drafted(
    clusters: Vec<graph::Cluster<usize>>,
    merges: Vec<graph::Merge<usize>>,
    numbered: &Numbered<'_>,
    likely: &mut Vec<Edge>,
) -> Vec<Draft> {
    let mut of_cluster = vec![0; numbered.entities.len()];
    for (cluster, at) in clusters.iter().zip(0..) {
        for &member in &cluster.members {
            of_cluster[member] = at;
        }
    }
    let mut edges: Vec<Vec<Edge>> = vec![Vec::new(); clusters.len()];
    for merge in merges {
        edges[of_cluster[merge.left]].push(Edge {
            left: merge.left,
            right: merge.right,
            score: merge.score,
            reason: merge.reason.to_string(),
        });
    }
    let mut drafts = Vec::with_capacity(clusters.len());
    for (cluster, mut edges) in clusters.into_iter().zip(edges) {
        let mut parts = apart(&cluster.members, &mut edges, &numbered.anchor_of, likely);
        let last = parts.pop();
        let draft = |members: BTreeSet<usize>, edges: Vec<Edge>| Draft {
            anchor: members.iter().find_map(|&at| numbered.anchor_of[at]),
            members,
            edges,
            name: cluster.name.clone(),
            class: cluster.class.clone(),
        };
        for members in parts {
            let (mine, rest) = mem::take(&mut edges)
                .into_iter()
                .partition(|edge| members.contains(&edge.left));
            edges = rest;
            drafts.push(draft(members, mine));
        }
        drafts.extend(last.map(|members| draft(members, edges)));
    }
    drafts
}

/// Makes one of those that have one anchor, and of those that are one thing by decision, unless it would put together
/// what is not one thing by decision.
fn united(drafts: Vec<Draft>, ruled: &Ruled, numbered: &Numbered<'_>) -> Vec<Draft> {
    let mut of: Vec<usize> = vec![0; numbered.entities.len()];
    for (draft, at) in drafts.iter().zip(0..) {
        for &member in &draft.members {
            of[member] = at;
        }
    }
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let mut first: HashMap<usize, usize> = HashMap::new();
    let mut pairs: Vec<(usize, usize, bool)> = Vec::new();
    for (at, anchor) in numbered.anchor_of.iter().enumerate() {
        if let Some(anchor) = anchor {
            pairs.push((*first.entry(*anchor).or_insert(at), at, false));
        }
    }
    pairs.extend(ruled.same.iter().map(|&(one, other)| (one, other, true)));
    for (one, other, is_decided) in pairs {
        let (stays, goes) = (of[one].min(of[other]), of[one].max(of[other]));
        let edge = is_decided.then(|| Edge {
            left: one,
            right: other,
            score: 1.0,
            reason: Reason::Decided.to_string(),
        });
        if stays == goes {
            // Said by the rules too; that people said so is what can be taken back.
            if let Some(draft) = &mut drafts[stays] {
                draft.edges.extend(edge);
            }
            continue;
        }
        let is_forbidden = ruled.different.iter().any(|&(left, right)| {
            (of[left].min(of[right]), of[left].max(of[right])) == (stays, goes)
        });
        let anchors = [stays, goes].map(|at| drafts[at].as_ref().and_then(|draft| draft.anchor));
        let is_between_anchors = matches!(anchors, [Some(a), Some(b)] if a != b);
        if is_forbidden || is_between_anchors {
            continue;
        }
        if let Some(gone) = drafts[goes].take()
            && let Some(draft) = &mut drafts[stays]
        {
            for &member in &gone.members {
                of[member] = stays;
            }
            if gone.members.len() > draft.members.len() {
                draft.name = gone.name;
                draft.class = gone.class;
            }
            draft.members.extend(gone.members);
            draft.edges.extend(gone.edges);
            draft.edges.extend(edge);
            draft.anchor = draft.anchor.or(gone.anchor);
        }
    }
    drafts.into_iter().flatten().collect()
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
    ruled: &Ruled,
    mut likely: Vec<Edge>,
) -> Vec<NewLink> {
    let pair = |left: usize, right: usize| {
        let (left, right) = (part_of[left]?, part_of[right]?);
        (left != right).then(|| (left.min(right), left.max(right)))
    };
    let mut seen: HashSet<(usize, usize)> = HashSet::new();
    seen.extend(
        ruled
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
