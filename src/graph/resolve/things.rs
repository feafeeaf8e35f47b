//! Nodes that are one thing, joined under constraints: a join has to hold between all names of both sides, not only
//! between the two that gave rise to it, so no chain of likenesses grows.

use std::collections::HashSet;

use super::{
    Reason,
    compare::{conflict, person_fits},
    intake::Node,
};

/// What speaks for two nodes being one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Evidence {
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) reason: Reason,
    pub(super) score: f32,
    /// Whether evidence of this kind is precise enough to merge by itself.
    pub(super) merges: bool,
}

/// More forms than these of one thing are not compared pair by pair, so such things no longer grow by rules.
pub(super) const MOST: usize = 48;

/// The things.
#[derive(Debug)]
pub(super) struct Things<'a> {
    nodes: &'a [Node],
    /// The documents of each node, in order.
    documents: &'a [Vec<u32>],
    /// Each node's thing, which is called by one of its nodes.
    of: Vec<u32>,
    members: Vec<Vec<u32>>,
    /// Pairs that users tell apart, the lower first.
    different: HashSet<(u32, u32)>,
    /// The nodes of those pairs.
    quarrels: HashSet<u32>,
    /// Pairs that have evidence, the lower first.
    alike: HashSet<(u32, u32)>,
    /// Nodes that users have joined with others.
    given: HashSet<u32>,
    /// What joined them.
    pub(super) joins: Vec<Evidence>,
}

impl<'a> Things<'a> {
    pub(super) fn new(
        nodes: &'a [Node],
        documents: &'a [Vec<u32>],
        different: HashSet<(u32, u32)>,
    ) -> Self {
        let count = super::intake::number(nodes.len());
        Self {
            nodes,
            documents,
            of: (0..count).collect(),
            members: Vec::new(),
            quarrels: different.iter().flat_map(|&(a, b)| [a, b]).collect(),
            different,
            alike: HashSet::new(),
            given: HashSet::new(),
            joins: Vec::new(),
        }
    }

    /// The thing of a node.
    pub(super) fn of(&self, node: u32) -> u32 {
        self.of[node as usize]
    }

    /// The nodes of a thing, in order.
    pub(super) fn members(&self, thing: u32) -> &[u32] {
        match self.members.get(thing as usize) {
            Some(members) if !members.is_empty() => members,
            _ => std::slice::from_ref(&self.of[thing as usize]),
        }
    }

    /// Joins what may be joined, the surest first; returns what was not.
    pub(super) fn join_all(&mut self, mut evidence: Vec<Evidence>) -> Vec<Evidence> {
        for one in &mut evidence {
            (one.left, one.right) = ordered(one.left, one.right);
        }
        evidence.sort_unstable_by(|a, b| {
            (a.reason.rank(), b.score, a.left, a.right)
                .partial_cmp(&(b.reason.rank(), a.score, b.left, b.right))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        evidence.dedup_by_key(|one| (one.left, one.right, one.reason));
        self.alike
            .extend(evidence.iter().map(|one| (one.left, one.right)));
        let decided = evidence.iter().filter(|one| one.reason == Reason::Decided);
        self.given
            .extend(decided.flat_map(|one| [one.left, one.right]));
        let mut rest = Vec::new();
        for one in evidence {
            if self.of(one.left) == self.of(one.right) {
                continue;
            }
            if one.merges && self.holds(&one) {
                self.join(one);
            } else if !self.absurd(&one) {
                rest.push(one);
            }
        }
        rest.retain(|one| self.of(one.left) != self.of(one.right));
        rest
    }

    fn join(&mut self, evidence: Evidence) {
        let (a, b) = (self.of(evidence.left), self.of(evidence.right));
        let (into, from) = ordered(a, b);
        if self.members.is_empty() {
            self.members.resize(self.nodes.len(), Vec::new());
        }
        let moved = self.members(from).to_vec();
        let mut all = self.members(into).to_vec();
        for &node in &moved {
            self.of[node as usize] = into;
        }
        all.extend(moved);
        all.sort_unstable();
        self.members[from as usize] = Vec::new();
        self.members[into as usize] = all;
        self.joins.push(evidence);
    }

    /// Whether users tell some of the one's thing apart from some of the other's.
    pub(super) fn told_apart(&self, left: u32, right: u32) -> bool {
        let quarrels = |node: u32| {
            let members = self.members(self.of(node)).iter().copied();
            members.filter(|node| self.quarrels.contains(node))
        };
        quarrels(left).any(|a| quarrels(right).any(|b| self.different.contains(&ordered(a, b))))
    }

    /// Whether users tell it apart from another one.
    pub(super) fn quarrels(&self, node: u32) -> bool {
        self.quarrels.contains(&node)
    }

    /// One node of each form of the thing of `node`, and the node itself.
    fn forms(&self, node: u32) -> Vec<u32> {
        let mut forms: Vec<u32> = Vec::new();
        for &member in self.members(self.of(node)) {
            let known = |&last: &u32| {
                let (last, this) = (&self.nodes[last as usize], &self.nodes[member as usize]);
                last.kind == this.kind && last.form == this.form && last.value == this.value
            };
            // Nodes are in the order of their forms.
            if member == node || !forms.last().is_some_and(known) {
                forms.push(member);
            }
        }
        forms
    }

    /// Whether every node of the one thing may be one with every node of the other.
    fn holds(&self, evidence: &Evidence) -> bool {
        if self.told_apart(evidence.left, evidence.right) {
            return false;
        }
        if evidence.reason == Reason::Decided {
            return true;
        }
        let left = self.forms(evidence.left);
        let right = self.forms(evidence.right);
        if left.len() > MOST || right.len() > MOST {
            return false;
        }
        // What a user has joined need not look alike; only its own evidence speaks for more.
        let own = |a: u32, b: u32| ordered(a, b) == (evidence.left, evidence.right);
        let told = |node: u32| self.given.contains(&node);
        left.iter().all(|&a| {
            right.iter().all(|&b| {
                ((told(a) || told(b)) && !own(a, b))
                    || (!self.conflict(a, b, evidence.reason)
                        && (self.alike.contains(&ordered(a, b))
                            || agree(&self.nodes[a as usize], &self.nodes[b as usize])))
            })
        })
    }

    /// Whether it is not even worth asking a user.
    fn absurd(&self, one: &Evidence) -> bool {
        one.reason != Reason::SameName && self.conflict(one.left, one.right, one.reason)
    }

    /// Whether two nodes contradict each other.
    fn conflict(&self, a: u32, b: u32, reason: Reason) -> bool {
        let (left, right) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        conflict(left, right, reason)
            || (reason.is_weak()
                && left.form.key != right.form.key
                && meet(&self.documents[a as usize], &self.documents[b as usize]))
    }
}

/// Whether two nodes without evidence of their own may be of one thing.
pub(super) fn agree(a: &Node, b: &Node) -> bool {
    if a.form.key == b.form.key {
        return true;
    }
    // A short form agrees with whatever its fuller ones agree on.
    if a.form.acronym || b.form.acronym || a.form.is_bare() || b.form.is_bare() {
        return true;
    }
    if a.is_person() && b.is_person() {
        return person_fits(&a.form, &b.form);
    }
    let (short, long) = if a.form.count() < b.form.count() {
        (a, b)
    } else {
        (b, a)
    };
    short
        .form
        .words()
        .all(|word| long.form.words().any(|other| other == word))
}

pub(super) fn ordered(a: u32, b: u32) -> (u32, u32) {
    if a <= b { (a, b) } else { (b, a) }
}

/// Whether two sorted lists share an element.
fn meet(a: &[u32], b: &[u32]) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.iter().any(|one| long.binary_search(one).is_ok())
}
