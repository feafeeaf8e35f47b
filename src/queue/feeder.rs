//! The feeder: the one who speaks with Redis for a stage's worker. It takes as many jobs as there are free slots,
//! reports those that ended, and keeps the heartbeat, in a task of its own, so that no handler can hold it up.
//!
//! Knows the scripts, slots and slips. Must not know apalis or what a handler does. Invariants: it holds a slot for
//! every job that it has taken; a slip is kept until Redis has taken it; an error of Redis ends nothing but the
//! call, after which it tries again, at most a second later, for ever.
//!
//! Orphans are dropped, not queued again: a worker that was silent for three heartbeats may have taken the lease
//! or not, only Postgres knows, and whoever sweeps there rings again within seconds. To queue them here as well
//! would deliver twice what Postgres delivers anyway.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use graphmill_jobs::StageJob;
use redis::{RedisError, Script, aio::ConnectionManager};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    hand::Handed,
    keys::{QUEUES, SET_ASIDE, SET_ASIDE_KEPT},
    ring::{job_id, payload},
    ticket::{Delivery, JobId, Slip, Ticket},
    workers::Seat,
};

/// The most jobs taken, and the most slips given back, in one turn: no call holds up the server.
const MOST_A_TURN: usize = 128;

/// A ring has some 200 bytes; whatever is larger than this is none.
const LARGEST_PAYLOAD: usize = 64 * 1024;

/// The first and the longest pause after a call that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a feeder may go on reporting after the handlers were aborted.
const LAST_WORDS: Duration = Duration::from_secs(2);

static TURN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("turn.lua")));
static TEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("tend.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));

/// What a turn brings: how many ids were popped for slots of each kind, the jobs, how many of them are for slots of the
/// front, and what was set aside with the reason.
type Taken = (
    usize,
    usize,
    Vec<(Vec<u8>, Vec<u8>)>,
    usize,
    Vec<(Vec<u8>, String)>,
);

/// Feeds the worker `name` at `seat` until its stop, or until the worker drops the other end of `jobs`; then it
/// waits for what is in flight, reports it and takes the name off the list. Starts after `delay`.
pub(super) async fn feed<J: StageJob>(
    seat: Arc<Seat>,
    name: String,
    delay: Duration,
    jobs: UnboundedSender<Delivery<J>>,
) {
    let (stop, hard) = (seat.stop.clone(), seat.hard.clone());
    let run = async {
        tokio::select! {
            () = sleep(delay) => {}
            () = stop.cancelled() => {}
        }
        Feeder::new(seat, name, jobs).run().await;
    };
    tokio::select! {
        () = run => {}
        () = async { hard.cancelled().await; sleep(LAST_WORDS).await } => {}
    }
}

struct Feeder<J> {
    seat: Arc<Seat>,
    name: String,
    inflight: String,
    redis: ConnectionManager,
    jobs: UnboundedSender<Delivery<J>>,
    reports: UnboundedSender<Slip>,
    reported: UnboundedReceiver<Slip>,
    /// Slips that Redis has not taken yet.
    slips: Vec<Slip>,
    /// Ids that are out or whose slip is not taken, with the number of their deliveries.
    held: HashMap<JobId, usize>,
    /// There may be more in the queue.
    hungry: bool,
    /// There may be more at its front.
    eager: bool,
    /// A call failed since the last heartbeat: jobs may have been taken without our knowledge.
    unsure: bool,
    pause: Option<Duration>,
}

impl<J: StageJob> Feeder<J> {
    fn new(seat: Arc<Seat>, name: String, jobs: UnboundedSender<Delivery<J>>) -> Self {
        let (reports, reported) = unbounded_channel();
        Self {
            inflight: seat.keys.inflight_of(&name),
            redis: seat.redis.clone(),
            seat,
            name,
            jobs,
            reports,
            reported,
            slips: Vec::new(),
            held: HashMap::new(),
            hungry: true,
            eager: true,
            unsure: false,
            pause: None,
        }
    }

    async fn run(mut self) {
        let seat = Arc::clone(&self.seat);
        // always a timer with a waker: neither a lost wake-up nor an empty queue can leave this loop asleep
        let mut look = interval(seat.poll);
        let mut heartbeat = interval(seat.heartbeat);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while self.slips.len() < MOST_A_TURN
                && let Ok(slip) = self.reported.try_recv()
            {
                self.slips.push(slip);
            }
            let closing = seat.stop.is_cancelled() || self.jobs.is_closed();
            if closing && self.held.is_empty() && self.slips.is_empty() {
                break;
            }
            let free = |wanted: bool, slots| {
                if wanted && !closing {
                    free_slots(slots)
                } else {
                    Vec::new()
                }
            };
            // Whoever hands a job on looks at these before he takes a slot: those who wait come first.
            seat.desk().say(self.hungry, self.eager);
            let handed = seat.desk().take(MOST_A_TURN);
            // Nobody is to begin it any more: whoever handed it on hears that.
            let handed = if closing { Vec::new() } else { handed };
            let slots = free(self.hungry, &seat.desk().slots);
            let front = free(self.eager, &seat.desk().front);
            let idle = slots.is_empty() && front.is_empty() && handed.is_empty();
            if !idle || !self.slips.is_empty() {
                self.turn(slots, front, handed).await;
                if heartbeat_due(&mut heartbeat) || std::mem::take(&mut self.unsure) {
                    self.tend().await;
                }
                continue;
            }
            tokio::select! {
                Some(slip) = self.reported.recv() => self.slips.push(slip),
                () = seat.bell.notified(), if !closing => self.hungry = true,
                () = seat.front_bell.notified(), if !closing => (self.hungry, self.eager) = (true, true),
                () = seat.desk().handed.notified() => {}
                // a slot that another feeder of this stage gave back, or the last job of this one
                Ok(slot) = seat.desk().slots.acquire(), if self.hungry && !closing => drop(slot),
                Ok(slot) = seat.desk().front.acquire(), if self.eager && !closing => drop(slot),
                _ = look.tick() => (self.hungry, self.eager) = (true, true),
                _ = heartbeat.tick() => self.tend().await,
                () = seat.stop.cancelled(), if !closing => {}
                () = self.jobs.closed(), if !closing => {}
            }
        }
        self.leave().await;
    }

    /// Settles the slips, says what was handed on, and takes a job for each of `slots`, and one from the front for each
    /// of `front`.
    async fn turn(
        &mut self,
        slots: Vec<OwnedSemaphorePermit>,
        front: Vec<OwnedSemaphorePermit>,
        handed: Vec<Handed>,
    ) {
        let handed: Vec<_> = handed
            .into_iter()
            .filter_map(|handed| match payload(self.seat.stage, &handed.ring) {
                Ok(payload) => Some((job_id(self.seat.stage, &handed.ring), payload, handed)),
                // A bug; whoever handed it on hears that nobody has it.
                Err(_) => None,
            })
            .collect();
        let answer = self.call_turn(slots.len(), front.len(), &handed).await;
        // Also those of which Redis has not heard: they have their slots, and it is only the doorbell.
        for (id, payload, Handed { slot, told, .. }) in handed {
            self.deliver(id.into_bytes().into(), &payload, slot);
            let _ = told.send(());
        }
        match answer {
            Ok((popped, of_front, jobs, ahead, refused)) => {
                self.recovered();
                // Of what was not asked for, nothing is known anew.
                if !slots.is_empty() {
                    self.hungry = popped == slots.len();
                }
                if !front.is_empty() {
                    self.eager = of_front == front.len();
                }
                for slip in std::mem::take(&mut self.slips) {
                    self.let_go(slip.id());
                }
                for (id, reason) in refused {
                    self.note_set_aside(&id, &reason);
                }
                let slots = front.into_iter().take(ahead).chain(slots);
                for ((id, payload), slot) in jobs.into_iter().zip(slots) {
                    self.deliver(id.into(), &payload, slot);
                }
            }
            Err(error) => {
                drop((slots, front));
                (self.hungry, self.eager) = (true, true);
                self.trouble(&error, "taking jobs from the queue failed; trying on")
                    .await;
            }
        }
    }

    async fn call_turn(
        &mut self,
        n: usize,
        front: usize,
        handed: &[(String, Vec<u8>, Handed)],
    ) -> Result<Taken, RedisError> {
        let keys = &self.seat.keys;
        let mut call = TURN.prepare_invoke();
        call.key(&keys.active)
            .key(&keys.data)
            .key(&self.inflight)
            .key(&keys.workers)
            .key(&keys.scheduled)
            .key(SET_ASIDE)
            .key(&keys.first);
        call.arg(n)
            .arg(&self.name)
            .arg(&keys.meta)
            .arg(keys.queue)
            .arg(&keys.channel)
            .arg(SET_ASIDE_KEPT)
            .arg(LARGEST_PAYLOAD)
            .arg(front)
            .arg(handed.len());
        for (id, payload, _) in handed {
            call.arg(id).arg(payload);
        }
        for slip in &self.slips {
            call.arg(slip.kind())
                .arg(slip.id().as_ref())
                .arg(slip.reason());
        }
        call.invoke_async(&mut self.redis).await
    }

    /// Hands a job to the worker, or reports it as unreadable.
    fn deliver(&mut self, id: JobId, payload: &[u8], slot: OwnedSemaphorePermit) {
        *self.held.entry(id.clone()).or_default() += 1;
        match serde_json::from_slice::<J>(payload) {
            Ok(job) => {
                let ticket = Ticket::new(id, slot, self.reports.clone());
                // if the worker is gone, the ticket comes back inside the error and reports itself
                let _ = self.jobs.send(Delivery { job, ticket });
            }
            Err(error) => {
                // the whole reason is kept with the job; the log gets no part of the payload
                let place = format!(
                    "its payload is not a job of this stage (line {}, column {})",
                    error.line(),
                    error.column()
                );
                self.note_set_aside(&id, &place);
                let reason: String = error.to_string().chars().take(200).collect();
                self.slips
                    .push(Slip::Bad(id, format!("its payload is not a job: {reason}")));
            }
        }
    }

    fn let_go(&mut self, id: &JobId) {
        if let Some(count) = self.held.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(id);
            }
        }
    }

    /// The heartbeat. What Redis says we hold and we know nothing of came with an answer that never arrived: it
    /// goes back.
    async fn tend(&mut self) {
        let keys = &self.seat.keys;
        let mut call = TEND.prepare_invoke();
        call.key(&keys.workers)
            .key(&keys.active)
            .key(&keys.data)
            .key(&self.inflight)
            .key(QUEUES)
            .key(&keys.first);
        call.arg(&self.name)
            .arg(&keys.meta)
            .arg(&keys.inflight)
            .arg(&keys.metadata)
            .arg(self.seat.silence().as_secs())
            .arg(self.seat.size)
            .arg(std::any::type_name::<J>());
        match call
            .invoke_async::<(Vec<Vec<u8>>, usize)>(&mut self.redis)
            .await
        {
            Ok((ids, dropped)) => {
                self.recovered();
                if dropped > 0 {
                    tracing::info!(
                        stage = %self.seat.stage,
                        dropped,
                        "dropped the rings of workers that died; they are rung again from Postgres"
                    );
                }
                for id in ids {
                    let id = JobId::from(id);
                    if !self.held.contains_key(&id) {
                        self.held.insert(id.clone(), 1);
                        self.slips.push(Slip::Back(id));
                    }
                }
            }
            Err(error) => {
                self.trouble(&error, "the worker's heartbeat failed; trying on")
                    .await;
            }
        }
    }

    /// Takes the worker off the list. If that fails, the others do it when it was silent long enough.
    async fn leave(mut self) {
        let keys = &self.seat.keys;
        let mut call = LEAVE.prepare_invoke();
        call.key(&keys.workers)
            .key(&keys.active)
            .key(&keys.data)
            .key(&self.inflight)
            .key(keys.metadata_of(&self.name));
        call.arg(&self.name).arg(&keys.channel);
        if let Err(error) = call.invoke_async::<usize>(&mut self.redis).await {
            tracing::debug!(%error, worker = self.name, "a worker could not take its leave of Redis");
        }
    }

    fn note_set_aside(&self, id: &[u8], reason: &str) {
        self.seat.tally.set_aside.fetch_add(1, Ordering::Relaxed);
        let job: String = String::from_utf8_lossy(id).chars().take(100).collect();
        tracing::warn!(stage = %self.seat.stage, job, reason, "set a job aside that nobody can run");
    }

    /// Says once that this queue is in trouble, and waits a little longer each time. Where all of Redis is, the others
    /// see it too; that is said once a process by whoever watches Redis, not by each of its queues.
    async fn trouble(&mut self, error: &RedisError, what: &'static str) {
        self.seat.tally.failed_calls.fetch_add(1, Ordering::Relaxed);
        if self.pause.is_none() {
            let stage = self.seat.stage;
            if is_of_the_server(error) {
                tracing::debug!(%stage, %error, "{what}");
            } else {
                tracing::warn!(%stage, %error, "{what}");
            }
        }
        let pause = self.pause.map_or(PAUSE.0, |pause| (pause * 2).min(PAUSE.1));
        self.pause = Some(pause);
        sleep(pause).await;
    }

    fn recovered(&mut self) {
        if self.pause.take().is_some() {
            self.unsure = true;
            tracing::debug!(stage = %self.seat.stage, "the queue answers again");
        }
    }
}

/// All slots that are free now, at most those of one turn.
fn free_slots(all: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let mut slots = Vec::new();
    while slots.len() < MOST_A_TURN
        && let Ok(slot) = Arc::clone(all).try_acquire_owned()
    {
        slots.push(slot);
    }
    slots
}

/// Whether every queue has that error: Redis is away, or refuses writes.
fn is_of_the_server(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(
            error.code(),
            Some("READONLY" | "OOM" | "NOREPLICAS" | "LOADING" | "MISCONF" | "MASTERDOWN")
        )
}

/// Whether the heartbeat is due, without waiting for it: under load the loop never gets to its timers.
fn heartbeat_due(heartbeat: &mut tokio::time::Interval) -> bool {
    heartbeat.tick().now_or_never().is_some()
}
