//! The stager: admits executions of open batches into their slots, and rings for them.
//!
//! The count against a batch's concurrency is taken under the batch's lock, on whichever replica; the status
//! `processing` is the slot, so a crash loses none. Where it came to in a batch is remembered for a second: the look
//! that follows a document's end need not read past all that was admitted before.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use graphmill_jobs::{BatchId, OrganizationId};
use tokio::{sync::Notify, time::Instant};
use tracing::{debug, warn};

use super::{Engine, doorbell};
use crate::{
    flow::Stage,
    metrics,
    store::{self, AdmitLimits, BatchToAdmit, Connection, Mark, StoreError},
};

/// Executions cancelled in one step. **Source:** DESIGN §6.7.
const CANCEL_STEP: i64 = 1000;
/// How long a place is remembered: what became due before it waits that long at most.
const REMEMBER: Duration = Duration::from_secs(1);

/// Where admission came to in each batch, and until when that holds.
type Reached = HashMap<BatchId, (Mark, Instant)>;

/// Tells the stager which batches to look at now.
#[derive(Default)]
pub(super) struct Bell {
    batches: Mutex<HashSet<(OrganizationId, BatchId)>>,
    notify: Notify,
}

impl Bell {
    pub(super) fn ring(&self, organization: OrganizationId, batch: BatchId) {
        self.lock().insert((organization, batch));
        self.notify.notify_one();
    }

    fn take(&self) -> Vec<BatchToAdmit> {
        self.lock()
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(OrganizationId, BatchId)>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the batches that it is told of, and at all open ones every period.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut turn = 0_usize;
    let mut failing = false;
    let mut reached = Reached::new();
    let mut periods = tokio::time::interval(engine.settings.stager);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            () = engine.stop.cancelled() => return,
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
            look(&engine, &mut reached, told).await
        } else {
            turn = turn.wrapping_add(1);
            look_at_all(&engine, &mut reached, turn).await
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
    }
}

async fn look_at_all(
    engine: &Engine,
    reached: &mut Reached,
    turn: usize,
) -> Result<(), StoreError> {
    let now = Instant::now();
    reached.retain(|_, (_, until)| now < *until);
    let mut connection = engine.store.driver().await?;
    let mut batches = store::open_batches(&mut connection).await?;
    share(engine, &mut connection, &batches).await?;
    drop(connection);
    // Each period begins with another batch, so that none is always served last.
    if !batches.is_empty() {
        let first = turn % batches.len();
        batches.rotate_left(first);
    }
    look(engine, reached, batches).await
}

async fn look(
    engine: &Engine,
    reached: &mut Reached,
    mut batches: Vec<BatchToAdmit>,
) -> Result<(), StoreError> {
    // Whoever has just come does not wait for the others' admissions either.
    batches.sort_by_key(|batch| !engine.shares.goes_first(batch.id));
    for batch in batches {
        if batch.stopping {
            cancel(engine, batch).await?;
        } else if !engine.doorbell.is_away() {
            // While Redis is away nothing is admitted: it would only wait there.
            admit(engine, reached, batch).await?;
        }
    }
    Ok(())
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
    let own = engine.settings.slots * Stage::Resolve as usize;
    let capacity = engine.doorbell.capacity().max(own);
    engine.shares.set(capacity, batches, &processing);
    engine.turns.share(ids.len() > 1);
    Ok(())
}

async fn admit(
    engine: &Engine,
    reached: &mut Reached,
    batch: BatchToAdmit,
) -> Result<(), StoreError> {
    // Alone it takes what fits into the queue. Beside others it takes its part, which is no more than the slots: what
    // another batch has queued must not keep it out.
    let processing = engine.shares.most(batch.id);
    let most = match (processing, engine.doorbell.room(Stage::Chunk).await) {
        (_, Err(_)) | (None, Ok(0)) => return Ok(()),
        (Some(_), Ok(_)) => usize::MAX,
        (None, Ok(room)) => room,
    };
    let limits = AdmitLimits { most, processing };
    let mut transaction = engine.store.admission().await?;
    if !store::admit_lock(&mut transaction, batch.id).await? {
        // Another replica admits for it at this moment.
        return Ok(());
    }
    let incarnation = engine.doorbell.incarnation();
    let known = reached
        .get(&batch.id)
        .filter(|(_, until)| Instant::now() < *until);
    let (from, until) = match known {
        Some((mark, until)) => (Some(*mark), *until),
        None => (None, Instant::now() + REMEMBER),
    };
    let admitted = store::admit_from(
        &mut transaction,
        batch.organization,
        batch.id,
        from,
        limits,
        incarnation,
    )
    .await?;
    transaction.commit().await?;
    if let Some(mark) = admitted.reached {
        reached.insert(batch.id, (mark, until));
    }
    if !admitted.rings.is_empty() {
        metrics::get().work.admitted(admitted.rings.len());
        debug!(batch.id = %batch.id, admitted = admitted.rings.len(), "admitted");
        engine.sequencer.ring_soon();
        doorbell::ring(engine, admitted.rings, false).await;
    }
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
