//! What this process knows of how the fleet is shared: each open batch's part, as of the stager's last look.
//!
//! A hint, derived from rows a moment ago, and never what a limit rests on: a batch's concurrency is held by the count
//! under its lock. Must not know Redis or SQL. Invariant: while one batch alone has work, nothing here holds it back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use graphmill_jobs::BatchId;

use crate::{
    flow::{Contender, Share, shares},
    store::BatchToAdmit,
};

#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<BatchId, Standing>>);

#[derive(Clone, Copy)]
struct Standing {
    share: Share,
    /// Its documents in processing at that time.
    processing: u64,
}

impl Shares {
    /// Shares `capacity` out among the batches that are open; `processing` is asked for only if there are several.
    pub(super) fn set(
        &self,
        capacity: usize,
        batches: &[BatchToAdmit],
        processing: &HashMap<BatchId, u64>,
    ) {
        let contenders: Vec<_> = batches
            .iter()
            .filter(|batch| !batch.stopping)
            .map(|batch| Contender {
                organization: batch.organization,
                batch: batch.id,
                weight: batch.weight,
                wants: batch.wants,
            })
            .collect();
        let shares = shares(capacity as u64, &contenders);
        let standings = contenders.iter().zip(shares).map(|(contender, share)| {
            let processing = processing.get(&contender.batch).copied().unwrap_or(0);
            (contender.batch, Standing { share, processing })
        });
        *self.lock() = standings.collect();
    }

    /// Whether the last look saw the batch.
    pub(super) fn know(&self, batch: BatchId) -> bool {
        self.lock().contains_key(&batch)
    }

    /// How many documents the batch may have in processing for the others' sake; none if there are no others.
    pub(super) fn most(&self, batch: BatchId) -> Option<u64> {
        let standings = self.lock();
        let standing = standings.get(&batch)?;
        // What it wants is known a moment late, but its fair part it may have in any case.
        (standings.len() > 1).then(|| standing.share.documents.max(standing.share.fair))
    }

    /// Whether the batch's jobs go ahead of others: it has much less in processing than its fair part, so that they
    /// wait for it and not it for them. That is so for whoever has just come.
    pub(super) fn goes_first(&self, batch: BatchId) -> bool {
        let standings = self.lock();
        match standings.get(&batch) {
            Some(standing) => standings.len() > 1 && 2 * standing.processing <= standing.share.fair,
            None => !standings.is_empty(),
        }
    }

    /// The batch's weight against all others.
    pub(super) fn weight(&self, batch: BatchId) -> f64 {
        self.lock()
            .get(&batch)
            .map_or(1.0, |standing| standing.share.weight)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
