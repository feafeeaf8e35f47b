//! Batches that the sequencer leaves alone for a while, because it can't move them.
//!
//! Knows why and until when; remembered by the process alone, so that a newer replica tries at once. Invariant: what
//! is wrong with a batch is logged once, however often it is looked at again.

use std::{collections::HashMap, time::Duration};

use graphmill_jobs::BatchId;
use tokio::time::Instant;
use tracing::{error, info};

use crate::{flow::IllegalMove, store::StoreError};

/// How long a batch that can't be moved is left alone: another version may be on its way, or a person.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one is whose row somebody has locked.
const MOMENT: Duration = Duration::from_millis(50);
/// One that was not met again for so long after its pause has nothing left to be moved.
const FORGET: Duration = Duration::from_secs(60);

/// Why a batch can't be moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// What is stored of it, or is to be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug: its counts and its machine disagree.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
}

struct Hold {
    until: Instant,
    /// Its problem is in the log.
    said: bool,
}

#[derive(Default)]
pub(super) struct Held(HashMap<BatchId, Hold>);

impl Held {
    /// The batches to be left alone now.
    pub(super) fn batches(&mut self) -> Vec<BatchId> {
        let now = Instant::now();
        self.0.retain(|_, hold| now < hold.until + FORGET);
        let held = self.0.iter().filter(|(_, hold)| now < hold.until);
        held.map(|(id, _)| *id).collect()
    }

    /// Leaves a batch alone because of a problem.
    pub(super) fn hold(&mut self, id: BatchId, problem: &Problem) {
        let said = self.wait_for(id, PAUSE);
        if !std::mem::replace(said, true) {
            error!(
                batch.id = %id,
                error = problem as &dyn std::error::Error,
                "a batch can't be moved: its events wait, and it is looked at again every ten seconds"
            );
        }
    }

    /// Leaves a batch alone for a moment.
    pub(super) fn wait(&mut self, id: BatchId) {
        self.wait_for(id, MOMENT);
    }

    /// Says that a batch was moved.
    pub(super) fn release(&mut self, id: BatchId) {
        if self.0.remove(&id).is_some_and(|hold| hold.said) {
            info!(batch.id = %id, "a batch can be moved again");
        }
    }

    fn wait_for(&mut self, id: BatchId, pause: Duration) -> &mut bool {
        let until = Instant::now() + pause;
        let hold = self.0.entry(id).or_insert(Hold { until, said: false });
        hold.until = until;
        &mut hold.said
    }
}
