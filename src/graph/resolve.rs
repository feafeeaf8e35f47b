//! The same thing across documents: entities that have one value, or names for which the evidence is precise enough.
//!
//! Must not know where entities come from or where clusters go. The result depends neither on the order of the input nor
//! on how the work was spread; what is merged is recorded with its reason, and what is only likely is proposed.
//!
//! The way through: [`intake`] keeps each name of each kind once, as a node; [`within`] asks what each document says
//! about its own names; [`evidence`] compares full names, by blocks; [`things`] joins what does not contradict itself;
//! [`shorts`] finds out who a surname or an acronym is; [`answer`] tells it in the caller's ids. What is left in doubt
//! somebody may be asked about ([`doubt`]).

mod answer;
mod company;
mod compare;
mod doubt;
mod evidence;
mod form;
mod intake;
mod kind;
mod known;
mod said;
mod shorts;
mod sound;
mod things;
mod within;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use self::{
    intake::{Intake, number},
    shorts::Shorts,
    things::{Evidence, Things, ordered},
    within::Within,
};
use super::ClassId;
pub use doubt::{Bearer, Described, DoubtfulPair, Sameness, context, may_be_one};
pub use said::{Cluster, Decisions, Merge, Proposal, Reason, Resolution, ResolvableEntity};

/// Clusters `entities`, as far as the `decisions` of users allow. The order of the input does not matter; clusters come
/// in the order of their first members.
#[must_use]
pub fn resolve<Id: Ord + Hash + Clone>(
    entities: Vec<ResolvableEntity<Id>>,
    decisions: &Decisions<Id>,
) -> Resolution<Id> {
    let mut resolver = Resolver::new(decisions);
    for entity in entities {
        resolver.add(entity);
    }
    resolver.resolve()
}

/// A resolution in the making, which packs the entities as they come.
#[derive(Debug)]
pub struct Resolver<'a, Id> {
    intake: Intake<Id>,
    decisions: &'a Decisions<Id>,
    /// The entities that users decided about, each with a number above 0.
    decided: HashMap<&'a Id, u32>,
}

impl<'a, Id: Ord + Hash + Clone> Resolver<'a, Id> {
    /// Nothing to resolve yet.
    #[must_use]
    pub fn new(decisions: &'a Decisions<Id>) -> Self {
        let pairs = decisions.same.iter().chain(&decisions.different);
        let decided: BTreeSet<&Id> = pairs.flat_map(|(left, right)| [left, right]).collect();
        Self {
            intake: Intake::new(),
            decisions,
            decided: decided.into_iter().zip(1..).collect(),
        }
    }

    /// Takes in one entity.
    pub fn add(&mut self, entity: ResolvableEntity<Id>) {
        let apart = self.decided.get(&entity.id).copied().unwrap_or(0);
        self.intake.add(entity, apart);
    }

    /// Clusters what was taken in.
    #[must_use]
    pub fn resolve(mut self) -> Resolution<Id> {
        self.intake.close();
        let intake = &self.intake;
        let within = Within::of(intake);
        let mut units: Vec<Vec<u32>> = vec![Vec::new(); intake.nodes.len()];
        let mut documents: Vec<Vec<u32>> = vec![Vec::new(); intake.nodes.len()];
        for (place, unit) in within.units.iter().enumerate() {
            units[unit.full as usize].push(number(place));
            documents[unit.full as usize].push(unit.document);
        }
        for list in &mut documents {
            list.dedup();
        }
        let alive: Vec<bool> = units.iter().map(|units| !units.is_empty()).collect();
        let (same, different) = self.decided();
        let mut things = Things::new(&intake.nodes, &documents, different);
        let given = same.iter().flat_map(|one| [one.left, one.right]).collect();
        let mut evidence = evidence::gather(&intake.nodes, &alive, &given);
        evidence.extend(same);
        let mut rest = things.join_all(evidence);
        let shorts = Shorts::settle(intake, &within, &units, &given, &mut things);
        rest.extend_from_slice(&shorts.rest);
        answer::tell(intake, &within, &units, &things, &shorts.fates, rest)
    }

    /// What users decided, as nodes.
    fn decided(&self) -> (Vec<Evidence>, HashSet<(u32, u32)>) {
        let mut nodes: HashMap<&Id, u32> = HashMap::new();
        for (entity, id) in (0..).zip(&self.intake.ids) {
            if self.decided.contains_key(id) {
                nodes.insert(id, self.intake.node(entity));
            }
        }
        let pair = |(left, right): &(Id, Id)| Some(ordered(*nodes.get(left)?, *nodes.get(right)?));
        let evidence = |(left, right)| Evidence {
            left,
            right,
            reason: Reason::Decided,
            score: 1.0,
            merges: true,
        };
        let same = self.decisions.same.iter().filter_map(pair).map(evidence);
        let different = self.decisions.different.iter().filter_map(pair);
        (same.collect(), different.collect())
    }
}

#[cfg(test)]
mod tests;
