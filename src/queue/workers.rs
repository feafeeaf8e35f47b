//! The workers of a process: one for each stage's queue, under one monitor, each with its own slots.
//!
//! Knows apalis' monitor and the handler's trait. Must not know what a handler does. Invariants: a stage never has
//! more handlers running than slots (and a fourth more from the front of its queue), over all restarts of its worker; a
//! handler runs in a task of its own and is cancelled by nothing but the end of a drain; a worker that ends is started
//! again under a new name.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use apalis::prelude::{Monitor, MonitorContext, WorkerBuilder};
use async_trait::async_trait;
use futures_util::FutureExt;
use graphmill_jobs::{Ring, StageJob, WorkerId};
use redis::aio::ConnectionManager;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backend::StageQueue,
    bell,
    connection::Queue,
    hand::{Desk, Desks, FRONT, Onward},
    keys::{Keys, with_job},
    ticket::Delivery,
};
use crate::flow::Stage;

/// How long the end of a drain waits for the last reports after it has aborted the handlers.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Who works the jobs.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers one ring. It can't fail: the handler leases, works and settles in Postgres, and whatever becomes
    /// of it there, the ring has been answered. A panic is logged, and the ring counts as answered too. By `onward`
    /// it can hand the next job on.
    async fn handle(&self, stage: Stage, ring: Ring, onward: &Onward);
}

/// How many handlers of each stage may run at once in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots([usize; 6]);

impl Slots {
    /// The same number for every stage.
    #[must_use]
    pub const fn each(slots: usize) -> Self {
        Self([slots; 6])
    }

    /// The same, but `slots` for `stage`; none means that this process leaves the stage to others.
    #[must_use]
    pub const fn with(mut self, stage: Stage, slots: usize) -> Self {
        self.0[stage as usize] = slots;
        self
    }

    /// The number for `stage`.
    #[must_use]
    pub const fn of(&self, stage: Stage) -> usize {
        self.0[stage as usize]
    }
}

/// How a process works the queues.
#[derive(Debug, Clone, Copy)]
pub struct WorkersConfig {
    /// How many handlers of each stage may run at once.
    pub slots: Slots,
    /// Whose workers these are. It must be new for every start of a process: the names in Redis derive from it.
    pub process: WorkerId,
    /// How often a worker says that it lives; whole seconds, at least one.
    pub heartbeat: Duration,
    /// After how many silent heartbeats it counts as dead.
    pub missed: u32,
    /// How often a worker looks into its queue without being woken.
    pub poll: Duration,
}

impl WorkersConfig {
    /// A heartbeat of 5 s, dead after three, a look every second.
    #[must_use]
    pub const fn new(process: WorkerId, slots: Slots) -> Self {
        Self {
            slots,
            process,
            heartbeat: Duration::from_secs(5),
            missed: 3,
            poll: Duration::from_secs(1),
        }
    }
}

/// What the workers of a process have done since their start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handlers begun.
    pub begun: u64,
    /// Handlers that returned, panicked or were aborted.
    pub ended: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Handlers that a drain aborted.
    pub aborted: u64,
    /// Jobs set aside.
    pub set_aside: u64,
    /// Workers that ended and were started again.
    pub restarts: u64,
    /// Calls that Redis did not answer, or answered with an error.
    pub failed_calls: u64,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every handler ended by itself, and Redis knows.
    Clean,
    /// So many handlers had to be aborted at the deadline, or Redis could not be told in time.
    Aborted(u64),
}

/// The counters behind a [`Tally`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    begun: AtomicU64,
    ended: AtomicU64,
    panicked: AtomicU64,
    aborted: AtomicU64,
    restarts: AtomicU64,
    pub(super) set_aside: AtomicU64,
    pub(super) failed_calls: AtomicU64,
}

/// A stage's place in this process; it outlives the workers that sit on it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) stage: Stage,
    pub(super) keys: Keys,
    pub(super) redis: ConnectionManager,
    /// What every stage of this process is handed.
    pub(super) desks: Arc<Desks>,
    /// How many slots there are.
    pub(super) size: usize,
    pub(super) bell: Arc<Notify>,
    pub(super) front_bell: Arc<Notify>,
    pub(super) heartbeat: Duration,
    pub(super) missed: u32,
    pub(super) poll: Duration,
    /// Take no more jobs.
    pub(super) stop: CancellationToken,
    /// Abort the handlers.
    pub(super) hard: CancellationToken,
    /// Everything that must end before the process may.
    pub(super) tasks: TaskTracker,
    pub(super) tally: Arc<Counters>,
}

impl Seat {
    /// The silence after which a worker counts as dead.
    pub(super) fn silence(&self) -> Duration {
        self.heartbeat * self.missed
    }

    /// What this stage is handed.
    pub(super) fn desk(&self) -> &Desk {
        self.desks.of(self.stage)
    }

    /// Answers one ring in a task of its own, which goes on if the caller is dropped.
    async fn work<J: StageJob>(self: Arc<Self>, handler: Arc<dyn Handler>, delivery: Delivery<J>) {
        let Delivery { job, mut ticket } = delivery;
        let tasks = self.tasks.clone();
        let task = tasks.spawn(async move {
            ticket.begin();
            self.tally.begun.fetch_add(1, Ordering::Relaxed);
            let ring = job.ring().clone();
            let execution = ring.execution;
            let onward = Onward::new(Arc::clone(&self.desks));
            let handling =
                AssertUnwindSafe(async { handler.handle(self.stage, ring, &onward).await });
            tokio::select! {
                biased;
                outcome = handling.catch_unwind() => if let Err(panic) = outcome {
                    self.tally.panicked.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        stage = %self.stage,
                        execution.id = %execution,
                        panic = message(panic.as_ref()),
                        "a handler panicked; its ring counts as answered"
                    );
                },
                () = self.hard.cancelled() => {
                    self.tally.aborted.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.tally.ended.fetch_add(1, Ordering::Relaxed);
            drop(ticket);
        });
        // dropping the handle, as a worker that ends does, detaches the task and cancels nothing
        let _ = task.await;
    }
}

/// The workers of this process, from their start to a drain. Dropping them aborts what is in flight.
#[derive(Debug)]
pub struct Workers {
    seats: Vec<Arc<Seat>>,
    stop: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    tally: Arc<Counters>,
    desks: Arc<Desks>,
    monitor: MonitorContext,
    running: JoinHandle<()>,
}

impl Workers {
    /// Starts a worker for each stage that has slots, on the Tokio runtime of the caller, and returns at once.
    /// Redis need not be reachable: the workers come up when it is.
    #[must_use]
    pub fn start(queue: &Queue, config: WorkersConfig, handler: Arc<dyn Handler>) -> Self {
        let (stop, hard) = (CancellationToken::new(), CancellationToken::new());
        let (tasks, tally) = (TaskTracker::new(), Arc::new(Counters::default()));
        let desks = Arc::new(Desks::new(config.slots.0, stop.clone()));
        let seats: Vec<Arc<Seat>> = Stage::ALL
            .into_iter()
            .filter(|stage| config.slots.of(*stage) > 0)
            .map(|stage| {
                let size = config.slots.of(stage).min(Semaphore::MAX_PERMITS);
                Arc::new(Seat {
                    stage,
                    keys: queue.keys(stage).clone(),
                    redis: queue.redis.clone(),
                    desks: Arc::clone(&desks),
                    size,
                    bell: Arc::new(Notify::new()),
                    front_bell: Arc::new(Notify::new()),
                    heartbeat: config.heartbeat.max(Duration::from_secs(1)),
                    missed: config.missed.max(1),
                    poll: config.poll.max(Duration::from_millis(1)),
                    stop: stop.clone(),
                    hard: hard.clone(),
                    tasks: tasks.clone(),
                    tally: Arc::clone(&tally),
                })
            })
            .collect();

        let bells: HashMap<_, _> = seats
            .iter()
            .flat_map(|seat| {
                [
                    (seat.keys.channel.clone(), Arc::clone(&seat.bell)),
                    (
                        seat.keys.first_channel.clone(),
                        Arc::clone(&seat.front_bell),
                    ),
                ]
            })
            .collect();
        if !bells.is_empty() {
            tasks.spawn(bell::listen(queue.client.clone(), bells, stop.clone()));
        }

        let restarts = Arc::clone(&tally);
        let mut monitor = Monitor::new().should_restart(move |worker, error| {
            restarts.restarts.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(worker = worker.name(), %error, "a worker ended; starting another");
            true
        });
        let staff = seats
            .iter()
            .map(move |seat| (Arc::clone(seat), Arc::clone(&handler)));
        for (seat, handler) in staff {
            monitor = with_job!(seat.stage, Job => {
                register::<Job>(monitor, seat, handler, config.process)
            });
        }
        let context = monitor.context();
        let running = tokio::spawn(async move {
            if let Err(error) = monitor.run().await {
                tracing::error!(%error, "the monitor of the workers ended with an error");
            }
        });
        Self {
            seats,
            stop,
            hard,
            tasks,
            tally,
            desks,
            monitor: context,
            running,
        }
    }

    /// What they have done so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            begun: read(&self.tally.begun),
            ended: read(&self.tally.ended),
            panicked: read(&self.tally.panicked),
            aborted: read(&self.tally.aborted),
            set_aside: read(&self.tally.set_aside),
            restarts: read(&self.tally.restarts),
            failed_calls: read(&self.tally.failed_calls),
        }
    }

    /// How somebody who is no handler hands jobs on to them.
    #[must_use]
    pub fn onward(&self) -> Onward {
        Onward::new(Arc::clone(&self.desks))
    }

    /// How many slots of `stage` are taken.
    #[must_use]
    pub fn in_flight(&self, stage: Stage) -> usize {
        self.seats
            .iter()
            .find(|seat| seat.stage == stage)
            .map_or(0, |seat| {
                let desk = seat.desk();
                let free = desk.slots.available_permits() + desk.front.available_permits();
                seat.size + seat.size / FRONT - free
            })
    }

    /// Takes no more jobs, waits for those in flight until `deadline` has passed, reports them and takes the
    /// workers off the list; what is still running then is aborted, and its rings count as answered. Dropping
    /// this future aborts at once.
    pub async fn drain(self, deadline: Duration) -> Drained {
        let aborted = self.tally.aborted.load(Ordering::Relaxed);
        self.shut();
        if timeout(deadline, self.tasks.wait()).await.is_ok() {
            return Drained::Clean;
        }
        self.hard.cancel();
        let _ = timeout(LAST_WORDS, self.tasks.wait()).await;
        self.running.abort();
        Drained::Aborted(self.tally.aborted.load(Ordering::Relaxed) - aborted)
    }

    fn shut(&self) {
        // the monitor first: a worker whose feeder ends must know that it was told to
        let _ = self.monitor.shutdown();
        self.stop.cancel();
        self.tasks.close();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shut();
        self.hard.cancel();
    }
}

/// Adds the worker of one stage. Its name is new for each start of the process and each restart: a name that Redis
/// still knows belongs to someone whose jobs may be in flight.
fn register<J: StageJob>(
    monitor: Monitor,
    seat: Arc<Seat>,
    handler: Arc<dyn Handler>,
    process: WorkerId,
) -> Monitor {
    monitor.register(move |restarts| {
        let name = format!("{}-{}-{restarts}", seat.stage, process.uuid().simple());
        let backend = StageQueue::<J>::new(Arc::clone(&seat), name.clone(), restarts);
        let (seat, handler) = (Arc::clone(&seat), Arc::clone(&handler));
        WorkerBuilder::new(name)
            .backend(backend)
            .build(move |delivery: Delivery<J>| {
                Arc::clone(&seat).work(Arc::clone(&handler), delivery)
            })
    })
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    #[async_trait]
    impl Handler for Nothing {
        async fn handle(&self, _: Stage, _: Ring, _: &Onward) {}
    }

    #[tokio::test]
    async fn a_worker_whose_feeder_ends_unasked_is_started_again_and_does_not_spin() {
        let queue = Queue::unconnected("redis+unix:///nowhere/redis.sock");
        let config = WorkersConfig::new(WorkerId::generate(), Slots::each(0).with(Stage::Chunk, 1));
        let workers = Workers::start(&queue, config, Arc::new(Nothing));
        // without a stop this ends the feeder as a bug would: its worker isn't told
        workers.hard.cancel();
        let begun = std::time::Instant::now();
        while workers.tally().restarts < 2 {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "nobody started it again"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() > Duration::from_secs(2), "it spins");
        assert_eq!(workers.drain(Duration::from_secs(30)).await, Drained::Clean);
    }
}
