//! From the clusters that the rules make to those that there are: none has two anchors, and what is one thing by decision
//! is one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use super::rules::{Numbered, Ruled};
use crate::{
    graph::{self, ClassId, Reason},
    workflow::Edge,
};

/// A cluster in the making.
pub(super) struct Draft {
    pub(super) members: BTreeSet<usize>,
    pub(super) edges: Vec<Edge>,
    pub(super) anchor: Option<usize>,
    pub(super) name: String,
    pub(super) class: Option<ClassId>,
}

/// The clusters as the rules have them, but that none has two anchors.
pub(super) fn drafted(
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

/// Drafts that are being united.
pub(super) struct Uniting {
    /// Of each entity, the draft that it is in.
    of: Vec<usize>,
    drafts: Vec<Option<Draft>>,
}

impl Uniting {
    pub(super) fn of(drafts: Vec<Draft>, entities: usize) -> Self {
        let mut of: Vec<usize> = vec![0; entities];
        for (draft, at) in drafts.iter().zip(0..) {
            for &member in &draft.members {
                of[member] = at;
            }
        }
        Self {
            of,
            drafts: drafts.into_iter().map(Some).collect(),
        }
    }

    /// The drafts of two entities, the first of all first; one twice if they are together.
    pub(super) fn ends(&self, one: usize, other: usize) -> (usize, usize) {
        let (one, other) = (self.of[one], self.of[other]);
        (one.min(other), one.max(other))
    }

    /// Whether two drafts may be one: they have not two anchors, and would not put together what is not one thing by
    /// decision.
    pub(super) fn may(&self, ruled: &Ruled, stays: usize, goes: usize) -> bool {
        let mut apart = ruled.different.iter();
        let is_forbidden = apart.any(|&(left, right)| self.ends(left, right) == (stays, goes));
        let anchors = [stays, goes].map(|at| self.drafts[at].as_ref()?.anchor);
        let is_between_anchors = matches!(anchors, [Some(a), Some(b)] if a != b);
        !is_forbidden && !is_between_anchors
    }

    /// Makes one of two drafts.
    pub(super) fn unite(&mut self, stays: usize, goes: usize, edge: Option<Edge>) {
        if let Some(gone) = self.drafts[goes].take()
            && let Some(draft) = &mut self.drafts[stays]
        {
            for &member in &gone.members {
                self.of[member] = stays;
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

    pub(super) fn drafts(self) -> Vec<Draft> {
        self.drafts.into_iter().flatten().collect()
    }
}

/// Makes one of those that have one anchor, and of those that are one thing by decision, unless it would put together
/// what is not one thing by decision.
pub(super) fn united(drafts: Vec<Draft>, ruled: &Ruled, numbered: &Numbered<'_>) -> Vec<Draft> {
    let mut uniting = Uniting::of(drafts, numbered.entities.len());
    let mut first: HashMap<usize, usize> = HashMap::new();
    let mut pairs: Vec<(usize, usize, bool)> = Vec::new();
    for (at, anchor) in numbered.anchor_of.iter().enumerate() {
        if let Some(anchor) = anchor {
            pairs.push((*first.entry(*anchor).or_insert(at), at, false));
        }
    }
    pairs.extend(ruled.same.iter().map(|&(one, other)| (one, other, true)));
    for (one, other, is_decided) in pairs {
        let (stays, goes) = uniting.ends(one, other);
        let edge = is_decided.then(|| Edge {
            left: one,
            right: other,
            score: 1.0,
            reason: Reason::Decided.to_string(),
        });
        if stays == goes {
            // Said by the rules too; that people said so is what can be taken back.
            if let Some(draft) = &mut uniting.drafts[stays] {
                draft.edges.extend(edge);
            }
        } else if uniting.may(ruled, stays, goes) {
            uniting.unite(stays, goes, edge);
        }
    }
    uniting.drafts()
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
