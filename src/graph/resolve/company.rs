//! Who and what appears in which documents: what tells two people of one name apart.
//!
//! Knows nothing of names. What many documents have says little.

use std::collections::{HashMap, HashSet};

use super::{
    intake::{Intake, number},
    within::Within,
};

/// Who and what appears in each document.
#[derive(Debug)]
pub(super) struct Companies {
    of: HashMap<u32, Vec<u32>>,
    often: HashMap<u32, u32>,
}

impl Companies {
    /// The company of each document: the nodes of its units and the words of its contexts.
    pub(super) fn of_all<Id>(intake: &Intake<Id>, within: &Within) -> Self {
        let mut of: HashMap<u32, Vec<u32>> = HashMap::new();
        for unit in &within.units {
            of.entry(unit.document).or_default().push(unit.full);
        }
        let nodes = number(intake.nodes.len());
        for &(document, word) in &intake.context {
            // Words are told from nodes by where their numbers lie.
            let word = nodes.saturating_add(word % (u32::MAX - nodes).max(1));
            of.entry(document).or_default().push(word);
        }
        let mut often: HashMap<u32, u32> = HashMap::new();
        for list in of.values_mut() {
            list.sort_unstable();
            list.dedup();
            for &one in list.iter() {
                *often.entry(one).or_default() += 1;
            }
        }
        Self { of, often }
    }

    /// Who and what appears in a document, in order.
    pub(super) fn of(&self, document: u32) -> &[u32] {
        self.of.get(&document).map_or(&[], Vec::as_slice)
    }

    /// How much it says that two documents share this: the rarer, the more.
    pub(super) fn weight(&self, one: u32) -> f32 {
        // In a small corpus nothing is rare by chance.
        let documents = self.of.len().max(50);
        let often = self.often.get(&one).copied().unwrap_or(1).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a weight needs few digits")]
        let ratio = documents as f32 / often as f32;
        ratio.ln()
    }
}

/// A thing, its documents, and who else appears in them.
#[derive(Debug)]
pub(super) struct Circle {
    pub(super) thing: u32,
    pub(super) documents: HashSet<u32>,
    pub(super) company: HashSet<u32>,
}
