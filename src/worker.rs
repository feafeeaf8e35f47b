//! The drivers: what makes executions move. The executor answers rings; the stager admits; the sweeper rings again
//! for what went silent; the sequencer gives events their order and moves batches; the keeper renews leases;
//! the notifier tells the owners of batches that have ended. Beside them stands [`Ingest`], which takes in what producers
//! have put on the queue of submissions.
//!
//! Postgres is the truth and Redis a doorbell: every driver may die at any instant, on any replica, and what it left
//! half done is found again from the rows. Must not know how a stage works (`pipeline`), how SQL is spelled (`store`)
//! or what a queue is made of (`queue`).

mod batches;
mod doorbell;
mod executor;
mod gate;
mod granted;
mod head_start;
mod ingest;
mod isolation;
mod keeper;
mod loading;
mod marks;
mod notifier;
mod passing;
mod recent;
mod resolution;
mod sequencer;
mod settle;
mod settling;
mod shares;
mod sink;
mod stager;
mod steps;
mod succession;
mod sweeper;
mod traced;
mod turns;
mod worked;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use graphmill_jobs::{BatchId, OrganizationId, WorkerId};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use doorbell::window;
pub use ingest::{Ingest, IngestSettings};
pub use isolation::{WORK_UNIT, work_unit};
pub use steps::{Step, watch_steps};

use crate::{
    calls::Access,
    extractors::Extractors,
    flow::Stage,
    metrics,
    notify::Messenger,
    pipeline::{Isolation, Threads, Workplace},
    queue::{LimitSettings, Queue, QueueError, Slots, Workers, WorkersConfig},
    store::{self, Store, StoreError},
};

/// How a process works.
#[derive(Debug, Clone, Copy)]
pub struct WorkerSettings {
    /// Jobs of each stage at once.
    pub slots: usize,
    /// How long a lease lasts without being renewed. **Source:** DESIGN: 15 s.
    pub lease: Duration,
    /// How often leases are renewed. **Source:** a third of a lease.
    pub renew: Duration,
    /// How often the stager looks for due work without being woken.
    pub stager: Duration,
    /// How often the sweeper looks for silent work without being woken.
    pub sweeper: Duration,
    /// How often the sequencer looks for events while there are some.
    pub sequencer: Duration,
    /// How long a ring may stay unanswered before it is repeated.
    pub patience: Duration,
    /// Units that may have taken a process down run in processes of their own: this program, started again with
    /// [`WORK_UNIT`]. Only for a program whose `main` is [`crate::cli::main`], or answers that argument with
    /// [`work_unit`]. Without it suspects run in this process like any other unit, and one that takes it down does so
    /// again and again.
    pub isolation: bool,
    /// How hard models may be called, over all replicas.
    pub limits: LimitSettings,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            slots: 32,
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            stager: Duration::from_millis(250),
            sweeper: Duration::from_secs(1),
            sequencer: Duration::from_millis(20),
            patience: Duration::from_secs(5),
            isolation: false,
            limits: LimitSettings::default(),
        }
    }
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Redis did not answer. Trying again may help.
    #[error("Redis did not answer")]
    Queue(#[from] QueueError),
    /// Postgres did not answer. Trying again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no threads. Trying again may help.
    #[error("no threads for units can be started")]
    Threads(#[source] std::io::Error),
}

/// How long calls that nobody waits for any more may take to be filed when the process stops.
const HANGING_UP: Duration = Duration::from_secs(2);

/// Events that are counted from nothing on, so that the first one is an increase too.
const ENDS: [&str; 7] = [
    "DocumentCompleted",
    "DocumentFailed",
    "DocumentAbandoned",
    "DocumentCancelled",
    "BatchCompleted",
    "BatchFailed",
    "BatchCancelled",
];

/// How long an execution waits for a worker that has its extractor.
const NO_EXTRACTOR_WAIT: Duration = Duration::from_secs(1);

/// What the drivers of a process share.
struct Engine {
    id: WorkerId,
    store: Store,
    extractors: Extractors,
    settings: WorkerSettings,
    doorbell: doorbell::Doorbell,
    held: keeper::Held,
    batches: batches::Batches,
    recent: recent::Recent,
    granted: granted::Granted,
    /// Where passing places on has come to.
    marks: marks::Marks,
    /// Places that were to be filled, here or elsewhere.
    places: AtomicUsize,
    traces: traced::Traces,
    workplace: Workplace,
    shares: shares::Shares,
    turns: turns::Turns,
    /// The way to models, if this process has one.
    access: Option<Access>,
    stager: stager::Bell,
    sequencer: sequencer::Bell,
    notifier: notifier::Bell,
    /// Rises whenever this process' sequencer moved something.
    moved: watch::Sender<u64>,
    /// No more work is taken.
    stop: CancellationToken,
    /// What was in work has ended: the sequencer folds what is left, and goes.
    drained: CancellationToken,
}

impl Engine {
    /// Whose a lease is that this process takes up.
    const fn takeover(&self) -> store::Takeover {
        store::Takeover {
            owner: self.id,
            lasts: self.settings.lease,
        }
    }

    /// Documents that this process can have in work.
    const fn own_capacity(&self) -> usize {
        self.settings.slots * Stage::Resolve as usize
    }
}

/// The stages of a process at work, until drained.
pub struct Worker {
    engine: Arc<Engine>,
    workers: Workers,
    drivers: JoinSet<()>,
    keeper: JoinHandle<()>,
    keep: CancellationToken,
}

impl Worker {
    /// Starts every driver and one queue worker a stage. Webhooks are left to processes that can sign them.
    ///
    /// # Errors
    /// [`WorkerError`] when Redis or Postgres does not answer; trying again may help.
    pub async fn start(
        store: Store,
        queue: Queue,
        extractors: Extractors,
        settings: WorkerSettings,
    ) -> Result<Self, WorkerError> {
        Self::start_notifying(store, queue, extractors, settings, None).await
    }

    /// The same, and delivers webhooks with `messenger`.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn start_notifying(
        store: Store,
        queue: Queue,
        extractors: Extractors,
        settings: WorkerSettings,
        messenger: Option<Messenger>,
    ) -> Result<Self, WorkerError> {
        let id = WorkerId::generate();
        metrics::get()
            .work
            .begin(&Stage::ALL.map(Stage::as_str), &ENDS);
        let doorbell = doorbell::Doorbell::new(queue.clone()).await?;
        let stop = CancellationToken::new();
        let children = settings
            .isolation
            .then(|| Arc::new(isolation::Children::new(stop.clone())));
        let workplace = Workplace {
            threads: Threads::own().map_err(WorkerError::Threads)?,
            isolation: children.map(|children| children as Arc<dyn Isolation>),
            suspect: false,
        };
        let access = extractors.provider().map(|provider| {
            let (store, queue) = (store.clone(), queue.clone());
            // A dead worker's calls are given up as soon as its other work is.
            let limits = LimitSettings {
                lease: settings.lease,
                ..settings.limits
            };
            Access::new(provider, store, queue, limits, settings.lease)
        });
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let engine = Arc::new(Engine {
            id,
            store,
            extractors,
            settings,
            doorbell,
            held: keeper::Held::default(),
            batches: batches::Batches::default(),
            recent: recent::Recent::default(),
            granted: granted::Granted::default(),
            marks: marks::Marks::default(),
            places: AtomicUsize::new(0),
            traces: traced::Traces::default(),
            workplace,
            shares: shares::Shares::default(),
            turns: turns::Turns::new(processors),
            access,
            stager: stager::Bell::default(),
            sequencer: sequencer::Bell::default(),
            notifier: notifier::Bell::default(),
            moved: watch::Sender::new(0),
            stop,
            drained: CancellationToken::new(),
        });
        keeper::say_alive(&engine).await?;
        // Those that died did not sign off, and perhaps none ever will.
        store::forget_workers(&mut *engine.store.engine().await?, None).await?;
        let config = WorkersConfig::new(id, Slots::each(settings.slots));
        let handler = executor::Executor(Arc::clone(&engine));
        let workers = Workers::start(&queue, config, Arc::new(handler));
        let mut drivers = JoinSet::new();
        drivers.spawn(stager::run(Arc::clone(&engine), workers.onward()));
        drivers.spawn(sweeper::run(Arc::clone(&engine)));
        drivers.spawn(sequencer::run(Arc::clone(&engine)));
        drivers.spawn(doorbell::watch(Arc::clone(&engine)));
        drivers.spawn(notifier::run(Arc::clone(&engine), messenger));
        let keep = CancellationToken::new();
        let keeper = tokio::spawn(keeper::run(Arc::clone(&engine), keep.clone()));
        info!(worker.id = %id, slots = settings.slots, "working");
        Ok(Self {
            engine,
            workers,
            drivers,
            keeper,
            keep,
        })
    }

    /// Says that a batch of this process has work: it is looked at now, not at the next period.
    pub fn wake(&self, organization: OrganizationId, batch: BatchId) {
        self.engine.stager.ring(organization, batch);
        self.engine.sequencer.ring();
    }

    /// Its way to models, if it has one.
    #[must_use]
    pub fn calls(&self) -> Option<Access> {
        self.engine.access.clone()
    }

    /// Changes whenever this process' sequencer has moved something.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.engine.moved.subscribe()
    }

    /// Stops taking work, lets the units in work go on to their checkpoints, until the deadline at most, and hands
    /// every lease back, so that others go on with it at once.
    pub async fn drain(mut self, deadline: Duration) {
        self.engine.stop.cancel();
        self.engine.held.pause_all();
        let held = self.engine.held.clone();
        let hand_back = tokio::spawn(async move {
            tokio::time::sleep(deadline).await;
            held.cancel_all(keeper::Why::Drain);
        });
        let drained = self.workers.drain(deadline + Duration::from_secs(5)).await;
        hand_back.abort();
        // Nobody comes for these any more.
        succession::give_back(&self.engine, Duration::ZERO).await;
        if let Some(access) = &self.engine.access {
            access.settle(HANGING_UP).await;
        }
        self.engine.drained.cancel();
        while self.drivers.join_next().await.is_some() {}
        self.keep.cancel();
        if self.keeper.await.is_err() {
            warn!("the keeper of leases ended early");
        }
        match self.engine.store.engine().await {
            Ok(mut connection) => {
                if let Err(error) =
                    store::forget_workers(&mut connection, Some(self.engine.id)).await
                {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "could not sign off"
                    );
                }
            }
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "could not sign off"
            ),
        }
        info!(worker.id = %self.engine.id, drained = ?drained, "stopped");
    }
}
