//! The threads that units run on, apart from those of the drivers: a unit that never yields keeps a thread, and must
//! not keep the one that renews leases.
//!
//! Knows nothing of stages or checkpoints. Invariant: whoever waits for a unit is told of its end, or of its overrun
//! by [`GRACE`] after its limit at the latest, whatever the unit does. A thread that a unit keeps is gone until the
//! unit yields after all, or the process ends: no thread can be taken back by force.

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument, error};

/// How long a unit that overran may take to yield, before its thread counts as lost.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// Threads beyond one a core, so that units that compute leave some for units that only wait. **Source:** a guess; each
/// unit that never yields costs one.
const SPARE: usize = 4;
/// How much further back than the rest of the process they stand. **Source:** measured: a third of the processor's time
/// of what stands in front, where both want it.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
/// How often the threads are looked after.
const LOOK: Duration = Duration::from_millis(200);

/// Threads for units; clones are the same threads.
#[derive(Clone)]
pub struct Threads(Arc<Inner>);

struct Inner {
    handle: Handle,
    /// None where the threads are somebody else's.
    own: Option<Runtime>,
    /// How many there are.
    count: usize,
    /// Every thread is lost: nothing can be begun on them any more.
    worn_out: CancellationToken,
    running: Mutex<HashMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    begun: Instant,
}

/// What a running unit shows of itself; times are microseconds since the threads were started, 0 is never.
#[derive(Default)]
struct Watch {
    /// When it was first polled.
    begun: AtomicU64,
    /// Since when it has not yielded.
    polled: AtomicU64,
    /// How long it may take.
    limit: Duration,
}

/// How a unit ended.
pub(super) enum Ended<T> {
    /// By itself.
    Returned(T),
    /// By a panic. Its message stays in the process: it may quote the document.
    Panicked,
    /// By its limit; and whether it has yielded, so that its thread is free again.
    Overran { yielded: bool },
    /// It was never begun, since no thread is left.
    NotBegun,
}

/// The work of a unit.
pub(super) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Threads {
    /// Those of the current runtime.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::of(Handle::current(), None, usize::MAX)
    }

    /// Threads that run nothing but units. They are looked after by a task of the current runtime.
    ///
    /// # Errors
    /// When the system gives no threads; trying again may help.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn own() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = cores + SPARE;
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("unit")
            .on_thread_start(step_back)
            .enable_all()
            .build()?;
        let threads = Self::of(runtime.handle().clone(), Some(runtime), count);
        tokio::spawn(look_after(Arc::downgrade(&threads.0)));
        Ok(threads)
    }

    fn of(handle: Handle, own: Option<Runtime>, count: usize) -> Self {
        Self(Arc::new(Inner {
            handle,
            own,
            count,
            worn_out: CancellationToken::new(),
            running: Mutex::default(),
            next: AtomicU64::new(0),
            begun: Instant::now(),
        }))
    }

    /// Runs something that runs units on these same threads. Where a unit follows upon a unit, most of the time
    /// between them is the way from one thread to another; here there is none. Dropping the handle stops it at its
    /// next await.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.0.handle.spawn(work.in_current_span()))
    }

    /// Whether every thread is lost to units that never yielded.
    #[must_use]
    pub fn are_worn_out(&self) -> bool {
        self.0.worn_out.is_cancelled()
    }

    /// Runs `work` for `hard` at most, from when it was first polled; calls `slow` if it takes longer than `soft`.
    /// Dropping this stops the work at its next await.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: Boxed<T>,
        soft: Duration,
        hard: Duration,
        mut slow: impl FnMut(),
    ) -> Ended<T> {
        let inner = &self.0;
        let watch = Arc::new(Watch {
            limit: hard,
            ..Watch::default()
        });
        // The work stays here until it is begun: where no thread is left, it can be taken back.
        let place = Arc::new(Mutex::new(Some(work)));
        let (taken, seen) = (Arc::clone(&place), Arc::clone(&watch));
        let weak = Arc::downgrade(inner);
        let task = async move {
            let work = taken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()?;
            Some(Watched::new(weak, seen, work).await)
        };
        let mut task = AbortOnDropHandle::new(inner.handle.spawn(task.in_current_span()));
        let mut warned = false;
        let mut next = Instant::now() + soft.min(hard);
        loop {
            let begun = watch.begun.load(Ordering::Acquire);
            tokio::select! {
                biased;
                joined = &mut task => return match joined {
                    Ok(Some(returned)) => Ended::Returned(returned),
                    Ok(None) | Err(_) => Ended::Panicked,
                },
                () = inner.worn_out.cancelled(), if begun == 0 => {
                    if place.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
                        return Ended::NotBegun;
                    }
                    // It was begun in this moment, and can't say so any more only if it is stuck already.
                    watch.begun.fetch_max(inner.micros(), Ordering::AcqRel);
                }
                () = sleep_until(next) => {
                    let now = Instant::now();
                    if begun == 0 {
                        // It waits for a thread, which is not its fault.
                        next = now + soft.min(hard);
                        continue;
                    }
                    let begun = inner.begun + Duration::from_micros(begun);
                    if now >= begun + hard {
                        break;
                    }
                    if now >= begun + soft && !warned {
                        warned = true;
                        slow();
                    }
                    next = begun + if warned { hard } else { soft.min(hard) };
                }
            }
        }
        task.abort();
        let yielded = timeout(GRACE, &mut task).await.is_ok();
        Ended::Overran { yielded }
    }
}

impl Inner {
    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).map_or(u64::MAX, |micros| micros.max(1))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Watch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Threads that are kept by units past their limit.
    fn lost(&self) -> usize {
        let now = self.micros();
        let is_lost = |watch: &&Arc<Watch>| {
            let since = watch.polled.load(Ordering::Acquire);
            since > 0
                && Duration::from_micros(now.saturating_sub(since))
                    > watch.limit.saturating_add(GRACE)
        };
        self.running().values().filter(is_lost).count()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.own.take() {
            // Never waits: a thread that is lost would be waited for for ever.
            runtime.shutdown_background();
        }
    }
}

/// Where there is more to compute than the processors can, whoever hands work on goes first: what computes has time, and
/// what only passes through is soon gone. Nobody is to fail for a priority.
fn step_back() {
    #[cfg(target_os = "linux")]
    {
        let thread = Some(rustix::thread::gettid());
        if let Ok(own) = rustix::process::getpriority_process(thread) {
            let _ = rustix::process::setpriority_process(thread, own + NICE);
        }
    }
}

/// Looks whether threads are lost, until the threads are dropped.
async fn look_after(threads: Weak<Inner>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(inner) = threads.upgrade() else {
            return;
        };
        // The thread that a unit keeps may be the one that waited for sockets and timers on behalf of all. Something
        // to do wakes another one, which then takes that over.
        drop(inner.handle.spawn(async {}));
        if inner.lost() >= inner.count && !inner.worn_out.is_cancelled() {
            error!(
                threads = inner.count,
                "every thread for units is kept by a unit that never yields: restart this process. Until then units run \
                 in processes of their own, few at a time, or not at all where there are none"
            );
            inner.worn_out.cancel();
        }
    }
}

/// A unit's work that shows when it is polled.
struct Watched<T> {
    threads: Weak<Inner>,
    number: u64,
    begun: Instant,
    watch: Arc<Watch>,
    work: Boxed<T>,
}

impl<T> Watched<T> {
    fn new(threads: Weak<Inner>, watch: Arc<Watch>, work: Boxed<T>) -> Self {
        let (mut number, mut begun) = (0, Instant::now());
        if let Some(inner) = threads.upgrade() {
            number = inner.next.fetch_add(1, Ordering::Relaxed);
            begun = inner.begun;
            watch.begun.store(inner.micros(), Ordering::Release);
            inner.running().insert(number, Arc::clone(&watch));
        }
        Self {
            threads,
            number,
            begun,
            watch,
            work,
        }
    }
}

impl<T> Future for Watched<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let since = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.watch.polled.store(since.max(1), Ordering::Release);
        // After a panic it is not polled again, but dropped.
        let polled = self.work.as_mut().poll(context);
        self.watch.polled.store(0, Ordering::Release);
        polled
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        if let Some(inner) = self.threads.upgrade() {
            inner.running().remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Work that keeps its thread until told to let go, by the returned sender or its end.
    fn greedy() -> (Boxed<()>, mpsc::Sender<()>) {
        let (sender, told) = mpsc::channel();
        let work = async move {
            let _ = told.recv();
        };
        (Box::pin(work), sender)
    }

    async fn run(threads: &Threads, work: Boxed<()>, hard: Duration) -> Ended<()> {
        threads.run(work, hard, hard, || {}).await
    }

    #[tokio::test]
    async fn whoever_never_yields_is_told_from_whoever_only_takes_long() {
        let threads = Threads::own().unwrap();
        let hard = Duration::from_millis(50);
        let pending = Box::pin(std::future::pending());
        assert!(matches!(
            run(&threads, pending, hard).await,
            Ended::Overran { yielded: true }
        ));
        let (work, _told) = greedy();
        assert!(matches!(
            run(&threads, work, hard).await,
            Ended::Overran { yielded: false }
        ));
        let panics = Box::pin(async { panic!("as this test wants it") });
        assert!(matches!(run(&threads, panics, LONG).await, Ended::Panicked));
        let quick = Box::pin(std::future::ready(()));
        assert!(matches!(
            run(&threads, quick, LONG).await,
            Ended::Returned(())
        ));
    }

    #[tokio::test]
    async fn a_unit_that_waits_for_a_thread_is_not_timed_out() {
        let threads = Threads::own().unwrap();
        let count = threads.0.count;
        let (mut senders, mut busy) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (work, told) = greedy();
            let threads = threads.clone();
            busy.push(tokio::spawn(async move { run(&threads, work, LONG).await }));
            senders.push(told);
        }
        while threads.0.running().len() < count {
            tokio::task::yield_now().await;
        }
        let hard = Duration::from_millis(20);
        let waits = run(&threads, Box::pin(std::future::ready(())), hard);
        tokio::pin!(waits);
        assert!(timeout(10 * hard, &mut waits).await.is_err(), "it waits");
        assert!(!threads.are_worn_out());
        drop(senders);
        assert!(matches!(waits.await, Ended::Returned(())));
        for busy in busy {
            assert!(matches!(busy.await.unwrap(), Ended::Returned(())));
        }
    }

    #[tokio::test]
    async fn what_no_thread_is_left_for_is_not_begun() {
        let threads = Threads::own().unwrap();
        let mut senders = Vec::new();
        let hard = Duration::from_millis(20);
        let overran = (0..threads.0.count).map(|_| {
            let (work, told) = greedy();
            senders.push(told);
            run(&threads, work, hard)
        });
        let overran = futures_util::future::join_all(overran).await;
        let kept = |ended: &Ended<()>| matches!(ended, Ended::Overran { yielded: false });
        assert!(overran.iter().all(kept));
        let late = run(&threads, Box::pin(std::future::ready(())), LONG).await;
        assert!(matches!(late, Ended::NotBegun));
        assert!(threads.are_worn_out());
    }
}
