//! The merges of a cluster as a tree: every member but the first was merged with another one, and why is kept with it.
//!
//! Knows numbers of members and merges between them; who they are is the caller's business. The same merges give the
//! same tree, in whatever order they come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A merge of two members, by number.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// The one.
    pub left: usize,
    /// The other.
    pub right: usize,
    /// How sure, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: String,
}

/// Which member each of `members` was merged with, seen from the first: the edge that leads to it, and the member on
/// its other end. The first has none, and neither has the first of those that no edge leads to.
#[must_use]
pub fn joined<'e>(
    members: &BTreeSet<usize>,
    edges: &'e [Edge],
) -> BTreeMap<usize, (usize, &'e Edge)> {
    let beside = neighbours(edges, |edge| {
        members.contains(&edge.left) && members.contains(&edge.right)
    });
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for &root in members {
        if !seen.insert(root) {
            continue;
        }
        let mut queue = VecDeque::from([root]);
        while let Some(at) = queue.pop_front() {
            for &(next, edge) in beside.get(&at).into_iter().flatten() {
                if seen.insert(next) {
                    found.insert(next, (at, edge));
                    queue.push_back(next);
                }
            }
        }
    }
    found
}

/// Takes merges away until nothing leads from `one` to `other`: the weakest on the way, and none that `keep` holds.
/// Returns those on the other's side, or what only kept merges hold together.
///
/// # Errors
/// The members on a way of kept merges alone, from the one to the other.
pub fn parted(
    mut edges: Vec<Edge>,
    one: usize,
    other: usize,
    keep: impl Fn(&Edge) -> bool,
) -> Result<BTreeSet<usize>, Vec<usize>> {
    loop {
        let Some(way) = way(&edges, one, other) else {
            return Ok(reached(&edges, other));
        };
        let weakest = way
            .iter()
            .copied()
            .filter(|&at| !keep(&edges[at]))
            .min_by(|&a, &b| {
                let key = |at: usize| (edges[at].left, edges[at].right);
                edges[a]
                    .score
                    .total_cmp(&edges[b].score)
                    .then_with(|| key(a).cmp(&key(b)))
            });
        match weakest {
            Some(at) => _ = edges.swap_remove(at),
            None => {
                return Err(way
                    .into_iter()
                    .flat_map(|at| [edges[at].left, edges[at].right])
                    .collect());
            }
        }
    }
}

/// The edges of the shortest way.
fn way(edges: &[Edge], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut beside: BTreeMap<usize, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for (at, edge) in edges.iter().enumerate() {
        beside
            .entry(edge.left)
            .or_default()
            .insert((edge.right, at));
        beside
            .entry(edge.right)
            .or_default()
            .insert((edge.left, at));
    }
    let mut came: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut way = Vec::new();
            let mut back = to;
            while back != from {
                let (before, edge) = came[&back];
                way.push(edge);
                back = before;
            }
            return Some(way);
        }
        for &(next, edge) in beside.get(&at).into_iter().flatten() {
            if next != from && !came.contains_key(&next) {
                came.insert(next, (at, edge));
                queue.push_back(next);
            }
        }
    }
    None
}

/// Everybody whom merges join with `from`.
fn reached(edges: &[Edge], from: usize) -> BTreeSet<usize> {
    let beside = neighbours(edges, |_| true);
    let mut seen = BTreeSet::from([from]);
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for &(next, _) in beside.get(&at).into_iter().flatten() {
            if seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    seen
}

/// Each member's merges, the surest first.
fn neighbours<'e>(
    edges: &'e [Edge],
    among: impl Fn(&Edge) -> bool,
) -> BTreeMap<usize, Vec<(usize, &'e Edge)>> {
    let mut beside: BTreeMap<usize, Vec<(usize, &'e Edge)>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| among(edge)) {
        beside
            .entry(edge.left)
            .or_default()
            .push((edge.right, edge));
        beside
            .entry(edge.right)
            .or_default()
            .push((edge.left, edge));
    }
    for list in beside.values_mut() {
        list.sort_by(|(a, x), (b, y)| {
            y.score
                .total_cmp(&x.score)
                .then_with(|| a.cmp(b))
                .then_with(|| x.reason.cmp(&y.reason))
        });
    }
    beside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(left: usize, right: usize, score: f32) -> Edge {
        Edge {
            left,
            right,
            score,
            reason: "same_name".to_owned(),
        }
    }

    #[test]
    fn everybody_but_the_first_was_merged_with_somebody() {
        let edges = [
            edge(2, 1, 0.9),
            edge(0, 2, 1.0),
            edge(3, 0, 0.5),
            edge(4, 5, 1.0),
        ];
        let all = (0..6).collect();
        let tree: Vec<(usize, usize)> = joined(&all, &edges)
            .into_iter()
            .map(|(m, (w, _))| (m, w))
            .collect();
        assert_eq!(tree, [(1, 2), (2, 0), (3, 0), (5, 4)]);
        let without = BTreeSet::from([0, 1, 3]);
        let tree: Vec<usize> = joined(&without, &edges).into_keys().collect();
        assert_eq!(tree, [3], "1 hung on 2, which is not among them");
    }

    #[test]
    fn the_weakest_merges_between_two_go_first() {
        let edges = vec![
            edge(0, 1, 1.0),
            edge(1, 2, 0.8),
            edge(2, 3, 0.9),
            edge(0, 3, 0.7),
        ];
        let side = parted(edges, 0, 2, |_| false).unwrap();
        assert_eq!(side, BTreeSet::from([2, 3]));
    }

    #[test]
    fn what_is_kept_is_never_taken_away() {
        let edges = vec![edge(0, 1, 1.0), edge(1, 2, 0.3)];
        let side = parted(edges.clone(), 0, 2, |edge| edge.score < 0.5).unwrap();
        assert_eq!(side, BTreeSet::from([1, 2]));
        assert!(parted(edges, 0, 2, |_| true).is_err());
    }
}
