//! The answer in the caller's ids: clusters with their names, merges with their reasons, and proposals.

use std::collections::{BTreeMap, HashMap};

use super::{
    ClassId, Cluster, Merge, Proposal, Reason, Resolution,
    intake::{Intake, NONE, number},
    shorts::Fate,
    things::{Evidence, Things},
    within::Within,
};
use crate::graph::name_key;

/// A cluster in the making: a thing, or a unit that stays alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Home {
    Thing(u32),
    Unit(u32),
}

struct Teller<'a, Id> {
    intake: &'a Intake<Id>,
    within: &'a Within,
    /// The entity that stands for a node: the first one that is called by it.
    face: Vec<u32>,
    merges: Vec<Merge<Id>>,
    /// A forest over the entities: what the merges have joined so far.
    joined: Vec<u32>,
}

pub(super) fn tell<Id: Ord + Clone>(
    intake: &Intake<Id>,
    within: &Within,
    units: &[Vec<u32>],
    things: &Things<'_>,
    fates: &[Fate],
    rest: Vec<Evidence>,
) -> Resolution<Id> {
    let mut teller = Teller {
        intake,
        within,
        face: Vec::new(),
        merges: Vec::new(),
        joined: (0..number(intake.ids.len())).collect(),
    };
    teller.face = (0..units.len())
        .map(|node| teller.face_of(&units[node], fates))
        .collect();
    let mut homes: BTreeMap<Home, Vec<u32>> = BTreeMap::new();
    for (place, fate) in fates.iter().enumerate() {
        let home = match *fate {
            Fate::Node => Home::Thing(things.of(within.units[place].full)),
            Fate::Of(node, _) => Home::Thing(things.of(node)),
            Fate::Alone(_) => Home::Unit(number(place)),
        };
        homes.entry(home).or_default().push(number(place));
        teller.within_unit(number(place), *fate);
    }
    for join in &things.joins {
        let (left, right) = (
            teller.face[join.left as usize],
            teller.face[join.right as usize],
        );
        teller.merge(left, right, join.score, join.reason);
    }
    for units in homes.values() {
        teller.complete(units);
    }
    let mut clusters: Vec<Cluster<Id>> =
        homes.values().map(|units| teller.cluster(units)).collect();
    clusters.sort_unstable_by(|a, b| a.members[0].cmp(&b.members[0]));
    let proposals = teller.proposals(things, fates, rest);
    let mut merges = teller.merges;
    merges.sort_by(|a, b| (&a.left, &a.right).cmp(&(&b.left, &b.right)));
    Resolution {
        clusters,
        merges,
        proposals,
    }
}

impl<Id: Ord + Clone> Teller<'_, Id> {
    /// The first entity of a node's units, of those that are called by it if there are any.
    fn face_of(&self, units: &[u32], fates: &[Fate]) -> u32 {
        let here = units
            .iter()
            .filter(|&&unit| fates[unit as usize] == Fate::Node);
        let best = here
            .map(|&unit| {
                let of = self.within.units[unit as usize];
                (of.said != of.full, self.first(unit))
            })
            .min_by(|a, b| (a.0, self.id(a.1)).cmp(&(b.0, self.id(b.1))));
        best.map_or(NONE, |(_, entity)| entity)
    }

    fn id(&self, entity: u32) -> &Id {
        &self.intake.ids[entity as usize]
    }

    /// The first entity of a unit: they are in order.
    fn first(&self, unit: u32) -> u32 {
        self.within.entities(unit as usize)[0]
    }

    fn merge(&mut self, left: u32, right: u32, score: f32, reason: Reason) {
        if left == NONE || right == NONE {
            return;
        }
        let (a, b) = (self.root(left), self.root(right));
        if a != b {
            self.joined[a.max(b) as usize] = a.min(b);
            self.merges.push(Merge {
                left: self.id(left).clone(),
                right: self.id(right).clone(),
                score,
                reason,
            });
        }
    }

    fn root(&mut self, mut entity: u32) -> u32 {
        while self.joined[entity as usize] != entity {
            let next = self.joined[entity as usize];
            self.joined[entity as usize] = self.joined[next as usize];
            entity = next;
        }
        entity
    }

    /// A name in the middle may have lost all its entities to what their documents say: those that it joined stay one.
    fn complete(&mut self, units: &[u32]) {
        // Units are numbered by document, and the numbers of documents must not matter.
        let mut firsts: Vec<u32> = units.iter().map(|&unit| self.first(unit)).collect();
        firsts.sort_unstable_by(|&a, &b| self.id(a).cmp(self.id(b)));
        let first = firsts[0];
        for other in firsts {
            let same = self.reason(first, other, false);
            self.merge(first, other, 0.97, same);
        }
    }

    /// The merges of a unit's entities with the node's face, or with each other.
    fn within_unit(&mut self, unit: u32, fate: Fate) {
        let of = self.within.units[unit as usize];
        let first = self.first(unit);
        let center = match fate {
            Fate::Node => self.face[of.full as usize],
            Fate::Of(node, score) => {
                self.merge(self.face[node as usize], first, score, Reason::Part);
                first
            }
            Fate::Alone(_) => first,
        };
        let entities = self.within.entities(unit as usize);
        for &entity in entities {
            let reason = self.reason(center, entity, of.said != of.full && fate == Fate::Node);
            self.merge(center, entity, 1.0, reason);
        }
    }

    /// Why an entity is one with another of its node.
    fn reason(&self, face: u32, entity: u32, aliased: bool) -> Reason {
        let node = &self.intake.nodes[self.intake.node(entity) as usize];
        let name = |entity: u32| {
            let spelling = self.intake.spelled[entity as usize];
            &self.intake.spellings[spelling as usize].name
        };
        if node.value.is_some() {
            Reason::SameValue
        } else if aliased {
            Reason::Alias
        } else if face == NONE
            || name(face) == name(entity)
            || name_key(name(face)) == name_key(name(entity))
        {
            Reason::SameName
        } else if node.form.known {
            Reason::Known
        } else {
            Reason::Variant
        }
    }

    fn cluster(&self, units: &[u32]) -> Cluster<Id> {
        let mut members: Vec<Id> = Vec::new();
        let mut classes: HashMap<u32, u32> = HashMap::new();
        // How full a name is, by node: what a title page would have.
        let mut nodes: HashMap<u32, u32> = HashMap::new();
        for &unit in units {
            let entities = self.within.entities(unit as usize);
            members.extend(entities.iter().map(|&entity| self.id(entity).clone()));
            *nodes
                .entry(self.within.units[unit as usize].said)
                .or_default() += number(entities.len());
            for &entity in entities {
                let spelling =
                    &self.intake.spellings[self.intake.spelled[entity as usize] as usize];
                *classes.entry(spelling.class).or_default() += 1;
            }
        }
        members.sort_unstable();
        let fullest = nodes.iter().max_by_key(|&(&node, &count)| {
            let form = &self.intake.nodes[node as usize].form;
            let whole = !form.is_bare() && !form.acronym;
            (whole, count, std::cmp::Reverse(node))
        });
        let fullest = fullest.map_or(NONE, |(&node, _)| node);
        let mut spellings: HashMap<&str, u32> = HashMap::new();
        for &unit in units {
            if self.within.units[unit as usize].said == fullest {
                for &entity in self.within.entities(unit as usize) {
                    let spelling = self.intake.spelled[entity as usize];
                    let name = &*self.intake.spellings[spelling as usize].name;
                    *spellings.entry(name).or_default() += 1;
                }
            }
        }
        let name = spellings
            .into_iter()
            .max_by_key(|&(name, count)| (count, std::cmp::Reverse(name)))
            .map(|(name, _)| name.to_owned());
        let class = |number: u32| self.intake.classes.get(number as usize);
        let best = classes
            .into_iter()
            .filter_map(|(number, count)| Some((count, class(number)?)))
            .max_by_key(|&(count, class)| (count, std::cmp::Reverse(class)));
        Cluster {
            name: name.unwrap_or_default(),
            class: best.map(|(_, class)| ClassId::clone(class)),
            members,
        }
    }

    fn proposals(
        &self,
        things: &Things<'_>,
        fates: &[Fate],
        rest: Vec<Evidence>,
    ) -> Vec<Proposal<Id>> {
        let mut best: BTreeMap<(Home, Home), (f32, u32, u32, Reason)> = BTreeMap::new();
        let mut add = |a: (Home, u32), b: (Home, u32), score: f32, reason: Reason| {
            let (a, b) = if a.0 <= b.0 { (a, b) } else { (b, a) };
            if a.0 != b.0 && a.1 != NONE && b.1 != NONE {
                let entry = best.entry((a.0, b.0)).or_insert((score, a.1, b.1, reason));
                let ids = |left, right| {
                    let (left, right) = (self.id(left), self.id(right));
                    (left.min(right), left.max(right))
                };
                // Of the likeliest, the one of the first ids.
                let order = score.total_cmp(&entry.0);
                let order = order.then_with(|| ids(entry.1, entry.2).cmp(&ids(a.1, b.1)));
                if order.is_gt() {
                    *entry = (score, a.1, b.1, reason);
                }
            }
        };
        let of_node = |node: u32| (Home::Thing(things.of(node)), self.face[node as usize]);
        for evidence in rest {
            if things.told_apart(evidence.left, evidence.right) {
                continue;
            }
            let (left, right) = (of_node(evidence.left), of_node(evidence.right));
            add(left, right, evidence.score.min(0.95), evidence.reason);
        }
        for (place, fate) in fates.iter().enumerate() {
            if let Fate::Alone(Some((node, score))) = *fate {
                let unit = number(place);
                add(
                    (Home::Unit(unit), self.first(unit)),
                    of_node(node),
                    score,
                    Reason::Part,
                );
            }
        }
        let mut proposals: Vec<Proposal<Id>> = best
            .into_values()
            .map(|(score, left, right, reason)| {
                let (left, right) = (self.id(left).clone(), self.id(right).clone());
                let (left, right) = if left <= right {
                    (left, right)
                } else {
                    (right, left)
                };
                Proposal {
                    left,
                    right,
                    score,
                    reason,
                }
            })
            .collect();
        proposals.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| (&a.left, &a.right).cmp(&(&b.left, &b.right)))
        });
        proposals
    }
}
