//! What one document says is one thing: its entities by node, and nodes that the alias rules join.
//!
//! The rules are those that merge mentions within a document; here they also serve callers whose entities are single
//! mentions. Names reach them in an order of their own, so that the order of the input does not matter.

use std::collections::HashMap;

use super::{
    form::is_small,
    intake::{Intake, Node, number},
    kind::Kind,
    known,
};
use crate::graph::{NameLabel, alias};

/// The entities of one document that have one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) document: u32,
    /// The node that they are called by.
    pub(super) said: u32,
    /// The node of the fullest name that their document gives to the thing.
    pub(super) full: u32,
    /// Where they begin in the order; the next unit's start is their end.
    pub(super) start: u32,
}

/// The documents, unit by unit.
#[derive(Debug)]
pub(super) struct Within {
    pub(super) units: Vec<Unit>,
    /// The entities, by document and node.
    pub(super) order: Vec<u32>,
    /// A short node and the full one that a document proves for it, and in how many documents.
    pub(super) proofs: HashMap<(u32, u32), u32>,
}

/// More names than these of one kind in one document are not compared: the rules would cost too much and say too little.
const MOST: usize = 5000;

impl Within {
    pub(super) fn of<Id: Ord>(intake: &Intake<Id>) -> Self {
        let mut order: Vec<u32> = (0..number(intake.ids.len())).collect();
        order.sort_unstable_by(|&a, &b| {
            let document = |entity: u32| intake.documents[entity as usize];
            (document(a), intake.node(a))
                .cmp(&(document(b), intake.node(b)))
                .then_with(|| intake.ids[a as usize].cmp(&intake.ids[b as usize]))
        });
        let mut units: Vec<Unit> = Vec::new();
        for (start, &entity) in order.iter().enumerate() {
            let (document, said) = (intake.documents[entity as usize], intake.node(entity));
            let same = units
                .last()
                .is_some_and(|last| last.document == document && last.said == said);
            if !same {
                units.push(Unit {
                    document,
                    said,
                    full: said,
                    start: number(start),
                });
            }
        }
        let mut within = Self {
            units,
            order,
            proofs: HashMap::new(),
        };
        let mut from = 0;
        while from < within.units.len() {
            let document = within.units[from].document;
            let length = within.units[from..]
                .iter()
                .take_while(|unit| unit.document == document)
                .count();
            within.join(intake, from..from + length);
            from += length;
        }
        within.given(intake);
        within
    }

    /// The entities of a unit.
    pub(super) fn entities(&self, unit: usize) -> &[u32] {
        let end = self
            .units
            .get(unit + 1)
            .map_or(self.order.len(), |next| next.start as usize);
        &self.order[self.units[unit].start as usize..end]
    }

    /// Joins the units of one document.
    fn join<Id>(&mut self, intake: &Intake<Id>, units: std::ops::Range<usize>) {
        if units.len() < 2 || units.len() > MOST {
            return;
        }
        let node = |unit: usize| &intake.nodes[self.units[unit].said as usize];
        let mut groups: HashMap<Group, Vec<usize>> = HashMap::new();
        let named: Vec<usize> = units
            .filter(|&unit| node(unit).is_name() && node(unit).apart == 0)
            .collect();
        let surnames: Vec<&str> = named
            .iter()
            .map(|&unit| node(unit))
            .filter(|node| node.kind.is_soft() && node.form.person && !node.form.is_bare())
            .map(|node| node.form.last())
            .collect();
        for &unit in &named {
            let node = node(unit);
            // "Mrs. Clinton" is not Bill Clinton: the rules, to whom a title is nothing, don't see her.
            if !node.form.woman {
                groups
                    .entry(Group::of(node, &surnames))
                    .or_default()
                    .push(unit);
            }
        }
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (group, members) in &groups {
            if members.len() > 1 {
                joined.extend(same(intake, self, group.label(), members));
            }
        }
        for &unit in &named {
            if node(unit).form.woman
                && let Some(full) = self.woman(intake, unit, &named)
            {
                joined.push((unit, full));
            }
        }
        for (unit, full) in joined {
            let (short, full) = (self.units[unit].said, self.units[full].said);
            if misleads(&intake.nodes[short as usize], &intake.nodes[full as usize]) {
                continue;
            }
            self.units[unit].full = full;
            *self.proofs.entry((short, full)).or_default() += 1;
        }
    }

    /// The one woman of the document with that surname.
    fn woman<Id>(&self, intake: &Intake<Id>, short: usize, named: &[usize]) -> Option<usize> {
        let node = |unit: usize| &intake.nodes[self.units[unit].said as usize];
        let mut fits = named.iter().copied().filter(|&unit| {
            let form = &node(unit).form;
            form.person
                && !form.is_bare()
                && form.last() == node(short).form.last()
                && known::is_female(form.first())
        });
        let first = fits.next()?;
        fits.next().is_none().then_some(first)
    }

    /// Names that callers bring along, each proved in its entity's document.
    fn given<Id>(&mut self, intake: &Intake<Id>) {
        for &(entity, spelling) in &intake.aliases {
            let short = intake.spellings[spelling as usize].node;
            let full = intake.node(entity);
            if short != full {
                *self.proofs.entry((short, full)).or_default() += 1;
            }
        }
    }
}

/// Whether the rules, to whom a well-known place is a word like others, go wrong: Mexico is not Mexico City, and what
/// has no class may be a place in a longer name: "Philip V of Spain", "Greater Noida".
fn misleads(short: &Node, full: &Node) -> bool {
    if short.kind == Kind::Person || short.form.key == full.form.key {
        return false;
    }
    if short.form.known {
        return true;
    }
    let mut words = full.form.words().rev();
    words.next();
    let before = words.next().unwrap_or_default();
    let is_part = short.form.is_bare() && short.form.last() == full.form.last();
    short.kind == Kind::Untyped
        && is_part
        && (is_small(before) || (full.form.count() == 2 && is_relative(full.form.first())))
}

/// Words that make another place or thing of one.
fn is_relative(word: &str) -> bool {
    matches!(
        word,
        "north"
            | "south"
            | "east"
            | "west"
            | "northern"
            | "southern"
            | "eastern"
            | "western"
            | "greater"
            | "upper"
            | "lower"
            | "new"
            | "old"
            | "great"
            | "little"
            | "super"
            | "inner"
            | "outer"
    )
}

/// What the rules may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Group(Kind, bool);

impl Group {
    /// A name without a class counts as a person's if it looks like one, or is the surname of one.
    fn of(node: &Node, surnames: &[&str]) -> Self {
        let person = node.kind.is_soft()
            && (node.form.person || (node.form.is_bare() && surnames.contains(&node.form.last())));
        Self(node.kind, person)
    }

    fn label(self) -> NameLabel {
        match (self.0, self.1) {
            (_, true) => NameLabel::Per,
            (Kind::Untyped, false) => NameLabel::Org,
            (kind, false) => kind.label(),
        }
    }
}

/// Each unit of `members` that is a shorter name of another one's thing, and that one.
fn same<Id>(
    intake: &Intake<Id>,
    within: &Within,
    label: NameLabel,
    members: &[usize],
) -> Vec<(usize, usize)> {
    let names: Vec<alias::Name<'_>> = members
        .iter()
        .map(|&unit| {
            let written = |entity: &u32| {
                let spelling = intake.spelled[*entity as usize];
                &*intake.spellings[spelling as usize].name
            };
            alias::Name {
                spelling: within
                    .entities(unit)
                    .iter()
                    .map(written)
                    .min()
                    .unwrap_or(""),
                label,
                explains: None,
            }
        })
        .collect();
    let same = alias::same(&names);
    let mut fullest: HashMap<usize, (usize, usize)> = HashMap::new();
    for (place, &(first, fullness)) in same.iter().enumerate() {
        let best = fullest.entry(first).or_insert((fullness, place));
        if fullness > best.0 {
            *best = (fullness, place);
        }
    }
    same.iter()
        .enumerate()
        .map(|(place, (first, _))| (members[place], members[fullest[first].1]))
        .filter(|(unit, full)| unit != full)
        .collect()
}
