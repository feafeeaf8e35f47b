//! Ringing: pushing jobs for executions, and knowing which Redis they were pushed to.
//!
//! A ring is a hint and may be lost at any time. One that could not be pushed is marked as not rung, and the sweeper
//! repeats it; one that was pushed to a Redis that has lost its data counts as not rung.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use graphmill_jobs::Ring;
use tokio::{sync::Notify, time};
use tracing::{info, warn};

use super::Engine;
use crate::{
    flow::Stage,
    metrics,
    queue::{Queue, QueueError, Rung},
    store::{self, Ringable},
};

/// How often the incarnation of Redis is looked at. **Source:** a flush is to be noticed within a second.
const LOOK: Duration = Duration::from_millis(400);
/// After so many looks the slots of the fleet are counted anew: within two seconds a worker that has come is known.
const SLOTS_EVERY: u64 = 4;
/// The window of a queue: twice the live slots, within these. **Source:** DESIGN §2.3.
const WINDOW: std::ops::RangeInclusive<usize> = 32..=1000;

/// Jobs that may wait in a queue whose workers have so many slots.
#[must_use]
pub fn window(live_slots: usize) -> usize {
    (2 * live_slots).clamp(*WINDOW.start(), *WINDOW.end())
}

pub(super) struct Doorbell {
    queue: Queue,
    incarnation: AtomicI64,
    windows: [AtomicUsize; 6],
    /// Slots of the live workers for all stages of documents.
    capacity: AtomicUsize,
    /// Some ring did not fit its queue's window.
    full: AtomicBool,
    away: AtomicBool,
    /// Told when rings are to be repeated now.
    pub(super) again: Notify,
}

impl Doorbell {
    pub(super) async fn new(queue: Queue) -> Result<Self, QueueError> {
        let incarnation = queue.incarnation().await?;
        Ok(Self {
            queue,
            incarnation: AtomicI64::new(incarnation),
            windows: [const { AtomicUsize::new(32) }; 6],
            capacity: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            away: AtomicBool::new(false),
            again: Notify::new(),
        })
    }

    /// Which Redis jobs are pushed to now.
    pub(super) fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Whether Redis does not answer at the moment.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether a ring did not fit since the last call.
    pub(super) fn take_full(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    /// How many more jobs of `stage` fit into its window, which is refilled at half.
    pub(super) async fn room(&self, stage: Stage) -> Result<usize, QueueError> {
        let depth = self.queue.depth(stage).await?;
        let window = self.window(stage);
        Ok(if depth > window / 2 {
            0
        } else {
            window - depth
        })
    }

    pub(super) fn window(&self, stage: Stage) -> usize {
        self.windows[stage as usize].load(Ordering::Relaxed)
    }

    /// Documents that the fleet can have in work, as last seen.
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    fn set_windows(&self, live_slots: [usize; 6]) {
        let of_documents = &live_slots[..Stage::Resolve as usize];
        self.capacity
            .store(of_documents.iter().sum(), Ordering::Relaxed);
        for (stage, slots) in Stage::ALL.into_iter().zip(live_slots) {
            let window = self::window(slots);
            self.windows[stage as usize].store(window, Ordering::Relaxed);
            metrics::get().work.window(stage.as_str(), window);
        }
    }
}

/// Rings for `rings`; `again` also for those whose id Redis still knows but delivers to nobody.
pub(super) async fn ring(engine: &Engine, rings: Vec<Ringable>, again: bool) {
    let mut by_stage: BTreeMap<(Stage, bool), Vec<Ringable>> = BTreeMap::new();
    for ring in rings {
        let first = engine.shares.goes_first(ring.batch);
        by_stage.entry((ring.stage, first)).or_default().push(ring);
    }
    let mut unrung = Vec::new();
    for ((stage, first), rings) in by_stage {
        let jobs: Vec<Ring> = rings.iter().map(job).collect();
        let queue = &engine.doorbell.queue;
        let window = engine.doorbell.window(stage);
        let answers = if first {
            queue.ring_first(stage, &jobs, window, again).await
        } else if again {
            queue.ring_again(stage, &jobs, window).await
        } else {
            queue.ring(stage, &jobs, window).await
        };
        match answers {
            Ok(answers) => {
                count(stage, &answers);
                let full = rings
                    .iter()
                    .zip(answers)
                    .filter(|(_, rung)| *rung == Rung::Full);
                unrung.extend(full.map(|(ring, _)| *ring));
            }
            Err(error) => {
                let work = &metrics::get().work;
                work.rung(stage.as_str(), "failed", rings.len());
                say_away(&engine.doorbell, &error);
                unrung.extend(rings);
            }
        }
    }
    if unrung.is_empty() {
        return;
    }
    engine.doorbell.full.store(true, Ordering::Relaxed);
    let marked = match engine.store.engine().await {
        Ok(mut connection) => store::mark_unrung(&mut connection, &unrung).await,
        Err(error) => Err(error),
    };
    if let Err(error) = marked {
        // Their ring grows old, and the sweeper repeats it.
        warn!(
            error = &error as &dyn std::error::Error,
            "rings could not be taken back"
        );
    }
}

/// The job that rings for it.
pub(super) const fn job(ring: &Ringable) -> Ring {
    Ring {
        execution: ring.execution,
        organization: ring.organization,
        epoch: ring.epoch,
        version: ring.version,
        // The batch's row has it: what is here may be lost at any time.
        traceparent: None,
    }
}

fn count(stage: Stage, answers: &[Rung]) {
    for (rung, name) in [
        (Rung::Pushed, "pushed"),
        (Rung::Present, "present"),
        (Rung::Full, "full"),
    ] {
        let rings = answers.iter().filter(|answer| **answer == rung).count();
        metrics::get().work.rung(stage.as_str(), name, rings);
    }
}

/// Looks which Redis it is, twice a second, and has the sweeper ring again when it is another one.
pub(super) async fn watch(engine: Arc<Engine>) {
    let doorbell = &engine.doorbell;
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut look = 0_u64;
    loop {
        tokio::select! {
            () = engine.stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        match doorbell.queue.incarnation().await {
            Ok(incarnation) => {
                let back = doorbell.away.swap(false, Ordering::Relaxed);
                let before = doorbell.incarnation.swap(incarnation, Ordering::Relaxed);
                if before != incarnation {
                    info!("Redis has lost its jobs or was restarted: ringing again");
                }
                if back {
                    info!("Redis answers again");
                }
                if back || before != incarnation {
                    doorbell.again.notify_one();
                }
            }
            Err(error) => say_away(doorbell, &error),
        }
        if look.is_multiple_of(SLOTS_EVERY)
            && let Ok(slots) = doorbell.queue.live_slots().await
        {
            doorbell.set_windows(slots);
        }
        look += 1;
    }
}

/// Says once that Redis is away.
fn say_away(doorbell: &Doorbell, error: &QueueError) {
    if !doorbell.away.swap(true, Ordering::Relaxed) {
        warn!(
            error = error as &dyn std::error::Error,
            "Redis does not answer: what is in work goes on, new work waits"
        );
    }
}
