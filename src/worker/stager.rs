//! The stager: admits executions of open batches into their slots, and rings for them.
//!
//! The count against a batch's concurrency is taken under the batch's lock, on whichever replica; the status
//! `processing` is the slot, so a crash loses none. Where it came to in a batch is remembered for a second: the look
//! that follows a document's end need not read past all that was admitted before.
//!
//! For each document that was completed in this process the stager takes up another one of its batch, if there is a slot for
//! its first stage here: the admission leases it, and its job is handed on. All others are rung for, so that what is
//! newly submitted goes to whichever replica has room.
//!
//! Invariant: a lease that came with an admission has a slot here, and is given back if its job does not reach it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use graphmill_jobs::{BatchId, OrganizationId};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tracing::{debug, warn};

use super::{
    Engine, doorbell,
    granted::Leased,
    marks::Marks,
    succession::{self, TakenUp},
};
use crate::{
    flow::Stage,
    metrics,
    queue::{Onward, Reserved},
    store::{
        self, AdmitLimits, Admitted, BatchToAdmit, Connection, Lease, Ringable, StoreError, TakeUp,
    },
};

/// Executions cancelled in one step. **Source:** DESIGN §6.7.
const CANCEL_STEP: i64 = 1000;

/// Tells the stager which batches to look at now.
#[derive(Default)]
pub(super) struct Bell {
    told: Mutex<Told>,
    notify: Notify,
}

#[derive(Default)]
struct Told {
    batches: HashSet<(OrganizationId, BatchId)>,
    /// Slots that documents which were completed here have given back since their batch was looked at.
    freed: HashMap<BatchId, usize>,
}

impl Bell {
    pub(super) fn ring(&self, organization: OrganizationId, batch: BatchId) {
        self.lock().batches.insert((organization, batch));
        self.notify.notify_one();
    }

    /// The same, after a document of the batch was completed here.
    pub(super) fn freed(&self, organization: OrganizationId, batch: BatchId) {
        self.put_back(batch, 1);
        self.ring(organization, batch);
    }

    fn put_back(&self, batch: BatchId, slots: usize) {
        if slots > 0 {
            *self.lock().freed.entry(batch).or_default() += slots;
        }
    }

    fn take_freed(&self, batch: BatchId) -> usize {
        self.lock().freed.remove(&batch).unwrap_or(0)
    }

    /// Forgets what batches gave back that are not among the open ones.
    fn keep(&self, open: &[BatchToAdmit]) {
        let open: HashSet<BatchId> = open.iter().map(|batch| batch.id).collect();
        self.lock().freed.retain(|batch, _| open.contains(batch));
    }

    fn take(&self) -> Vec<BatchToAdmit> {
        self.lock()
            .batches
            .drain()
            .map(|(organization, id)| BatchToAdmit {
                organization,
                id,
                stopping: false,
                weight: 1,
                wants: 1,
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Stager {
    engine: Arc<Engine>,
    onward: Onward,
    reached: Marks,
    /// Jobs on their way to this process' own workers.
    handing: JoinSet<()>,
}

/// Looks at the batches that it is told of, and at all open ones every period.
pub(super) async fn run(engine: Arc<Engine>, onward: Onward) {
    let mut turn = 0_usize;
    let mut failing = false;
    let mut periods = tokio::time::interval(engine.settings.stager);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stager = Stager {
        engine: Arc::clone(&engine),
        onward,
        reached: Marks::default(),
        handing: JoinSet::new(),
    };
    loop {
        let told = tokio::select! {
            () = engine.stop.cancelled() => break,
            () = engine.stager.notify.notified() => true,
            _ = periods.tick() => false,
        };
        let told = if told {
            engine.stager.take()
        } else {
            Vec::new()
        };
        // Whoever has just come is looked at with all the others: they make room for it.
        let known = told.iter().all(|batch| engine.shares.know(batch.id));
        let result = if !told.is_empty() && known {
            stager.look(told).await
        } else {
            turn = turn.wrapping_add(1);
            stager.look_at_all(turn).await
        };
        match result {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                warn!(
                    error = &error as &dyn std::error::Error,
                    "work could not be admitted"
                );
            }
            Err(_) => {}
        }
        while stager.handing.try_join_next().is_some() {}
    }
    // Whoever stops gives back what was just leased, before its leases are kept no longer.
    while stager.handing.join_next().await.is_some() {}
}

impl Stager {
    async fn look_at_all(&mut self, turn: usize) -> Result<(), StoreError> {
        let engine = &*self.engine;
        let mut connection = engine.store.driver().await?;
        let mut batches = store::open_batches(&mut connection).await?;
        share(engine, &mut connection, &batches).await?;
        drop(connection);
        engine.stager.keep(&batches);
        // Each period begins with another batch, so that none is always served last.
        if !batches.is_empty() {
            let first = turn % batches.len();
            batches.rotate_left(first);
        }
        self.look(batches).await
    }

    async fn look(&mut self, mut batches: Vec<BatchToAdmit>) -> Result<(), StoreError> {
        // Whoever has just come does not wait for the others' admissions either.
        batches.sort_by_key(|batch| !self.engine.shares.goes_first(batch.id));
        for batch in batches {
            if batch.stopping {
                cancel(&self.engine, batch).await?;
            } else if !self.engine.doorbell.is_away() {
                // While Redis is away nothing is admitted: it would only wait there.
                self.admit(batch).await?;
            }
        }
        Ok(())
    }

    async fn admit(&mut self, batch: BatchToAdmit) -> Result<(), StoreError> {
        let engine = &*self.engine;
        let freed = engine.stager.take_freed(batch.id);
        // Alone it takes what fits into the queue. Beside others it takes its part, which is no more than the slots: what
        // another batch has queued must not keep it out.
        let processing = engine.shares.most(batch.id);
        let most = match (processing, engine.doorbell.room(Stage::Chunk).await) {
            (_, Err(_)) | (None, Ok(0)) => return Ok(()),
            (Some(_), Ok(_)) => usize::MAX,
            (None, Ok(room)) => room,
        };
        let reserved = self.reserve(batch.id, freed);
        let take_up = (!reserved.is_empty()).then_some(TakeUp {
            takeover: engine.takeover(),
            most: reserved.len(),
        });
        let limits = AdmitLimits {
            most,
            processing,
            take_up,
        };
        // A lease lasts from the begin of the transaction that grants it.
        let asked = Instant::now();
        let mut transaction = engine.store.admission(take_up.is_some()).await?;
        if !store::admit_lock(&mut transaction, batch.id).await? {
            // Another replica admits for it at this moment, and may have looked before the slots were free.
            engine.stager.put_back(batch.id, freed);
            return Ok(());
        }
        let incarnation = engine.doorbell.incarnation();
        let from = self.reached.of(batch.id);
        let admitted = store::admit_from(
            &mut transaction,
            batch.organization,
            batch.id,
            from,
            limits,
            incarnation,
        )
        .await?;
        // Leases that are granted without our hearing of it run out, as those do that a job asked for.
        transaction.commit().await?;
        if let Some(mark) = admitted.reached {
            self.reached.reached(batch.id, mark);
        }
        let Admitted {
            rings,
            taken_up: leased,
            ..
        } = admitted;
        let count = rings.len() + leased.len();
        if count == 0 {
            return Ok(());
        }
        metrics::get().work.admitted(count);
        debug!(batch.id = %batch.id, admitted = count, taken_up = leased.len(), "admitted");
        engine.sequencer.ring_soon();
        self.hand_on(leased, reserved, asked);
        doorbell::ring(&self.engine, rings, false).await;
        Ok(())
    }

    /// Slots of the first stage here, for as many documents of the batch as were completed.
    fn reserve(&self, batch: BatchId, completed: usize) -> Vec<Reserved> {
        let engine = &*self.engine;
        if engine.stop.is_cancelled() || engine.workplace.is_worn_out() {
            return Vec::new();
        }
        let first = engine.shares.goes_first(batch);
        (0..completed)
            .map_while(|_| self.onward.reserve(Stage::Chunk, first))
            .collect()
    }

    /// Hands on what was leased with its admission, while the stager goes on; the slots that are left are free again.
    fn hand_on(&mut self, leased: Vec<(Ringable, Lease)>, reserved: Vec<Reserved>, asked: Instant) {
        if leased.is_empty() {
            return;
        }
        let mut jobs = Vec::with_capacity(leased.len());
        for ((ring, lease), reserved) in leased.into_iter().zip(reserved) {
            let leased = Leased::new(&self.engine, ring.stage, lease, asked, None);
            let job = doorbell::job(&ring);
            jobs.push(TakenUp::new(&self.engine, job, leased, reserved));
        }
        let engine = Arc::clone(&self.engine);
        self.handing
            .spawn(succession::hand_on_all(engine, jobs, self.onward.clone()));
    }
}

/// Shares the fleet out anew.
async fn share(
    engine: &Engine,
    connection: &mut Connection,
    batches: &[BatchToAdmit],
) -> Result<(), StoreError> {
    let ids: Vec<BatchId> = batches.iter().map(|batch| batch.id).collect();
    let processing = if ids.len() > 1 {
        store::processing_of(connection, &ids).await?
    } else {
        HashMap::new()
    };
    // What this process has itself is there before Redis has heard of it.
    let capacity = engine.doorbell.capacity().max(engine.own_capacity());
    engine.shares.set(capacity, batches, &processing);
    engine.turns.share(ids.len() > 1);
    Ok(())
}

async fn cancel(engine: &Engine, batch: BatchToAdmit) -> Result<(), StoreError> {
    loop {
        let mut transaction = engine.store.engine_transaction().await?;
        let cancelled =
            store::cancel_stopped(&mut transaction, batch.organization, batch.id, CANCEL_STEP)
                .await?;
        transaction.commit().await?;
        engine.sequencer.ring();
        if cancelled < CANCEL_STEP.unsigned_abs() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: BatchId) -> BatchToAdmit {
        BatchToAdmit {
            organization: OrganizationId::DEFAULT,
            id,
            stopping: false,
            weight: 1,
            wants: 1,
        }
    }

    #[test]
    fn slots_that_were_given_back_are_counted_until_their_batch_is_looked_at() {
        let (bell, ours) = (Bell::default(), OrganizationId::DEFAULT);
        let [one, other, gone] = std::array::from_fn(|_| BatchId::generate());
        for batch in [one, one, other, gone] {
            bell.freed(ours, batch);
        }
        // Whoever has been submitted has not ended.
        bell.ring(ours, other);
        assert_eq!(bell.take().len(), 3, "all are told of, and once");
        assert!(bell.take().is_empty());
        // A look at all does not lose them.
        bell.keep(&[open(one), open(other)]);
        assert_eq!(bell.take_freed(one), 2);
        assert_eq!(bell.take_freed(one), 0);
        assert_eq!(bell.take_freed(gone), 0, "it is forgotten");
        // Another replica had the lock.
        bell.put_back(one, 2);
        bell.freed(ours, one);
        assert_eq!(bell.take_freed(one), 3);
        assert_eq!(bell.take_freed(other), 1);
        assert!(bell.lock().freed.is_empty());
    }
}
