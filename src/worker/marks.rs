//! Where a look at what is due has come to in each batch, so that the next one need not read past all that was admitted
//! before. What becomes due before a mark waits until it is forgotten.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use graphmill_jobs::BatchId;
use tokio::time::Instant;

use crate::store::Mark;

/// How long a mark and those that follow it are remembered: then the whole is looked at.
const REMEMBER: Duration = Duration::from_secs(1);
/// How long it is remembered that nobody is due: it costs a look at all that was admitted before. The stager looks as
/// often.
const NOBODY: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<BatchId, Reached>>);

struct Reached {
    /// None: nobody was due.
    mark: Option<Mark>,
    until: Instant,
}

impl Marks {
    /// Where to look from, if anywhere was reached.
    pub(super) fn of(&self, batch: BatchId) -> Option<Mark> {
        self.valid().get(&batch)?.mark
    }

    /// Whether nobody was due a moment ago.
    pub(super) fn is_in_vain(&self, batch: BatchId) -> bool {
        let valid = self.valid();
        valid
            .get(&batch)
            .is_some_and(|reached| reached.mark.is_none())
    }

    /// A look has come so far.
    pub(super) fn reached(&self, batch: BatchId, mark: Mark) {
        let mut valid = self.valid();
        let known = valid.entry(batch).or_insert_with(|| Reached {
            mark: Some(mark),
            until: Instant::now() + REMEMBER,
        });
        known.mark = known.mark.max(Some(mark));
    }

    /// A look has found nobody.
    pub(super) fn found_nobody(&self, batch: BatchId) {
        let until = Instant::now() + NOBODY;
        self.valid().insert(batch, Reached { mark: None, until });
    }

    fn valid(&self) -> MutexGuard<'_, HashMap<BatchId, Reached>> {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, reached| now < reached.until);
        all
    }
}
