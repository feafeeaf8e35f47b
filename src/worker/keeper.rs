//! The keeper: renews the leases that this process holds, and tells their holders when they are lost or asked to
//! stop or to pause.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use graphmill_jobs::WorkflowExecutionId;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Engine;
use crate::store::{self, Fence, Interruption, StoreError};

/// How often signals are looked for. **Source:** a cancel is to be felt within a second.
const LOOK: Duration = Duration::from_millis(300);

/// Why a holder must let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody else holds the lease now: drop everything quietly.
    Lost,
    /// A signal or the batch's policy stops it.
    Stop,
    /// The process shuts down: hand the lease back.
    Drain,
}

/// The leases that this process holds.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Mutex<Leases>>);

#[derive(Default)]
struct Leases {
    by_execution: HashMap<WorkflowExecutionId, Lease>,
    /// What all were told: whoever comes later is told it too.
    all: Option<Why>,
}

/// What stops the work under a lease, whoever has it in hand at the moment.
#[derive(Clone, Default)]
pub(super) struct Stops {
    /// Cancelled when no further unit is to be begun.
    pub(super) pause: CancellationToken,
    /// Cancelled when nobody waits for its calls any more.
    pub(super) hang_up: CancellationToken,
}

struct Lease {
    fence: Fence,
    why: watch::Sender<Option<Why>>,
    stops: Stops,
    /// Before it was granted or renewed for the last time: it lasts from then on, or from a little later.
    since: Instant,
}

/// One of them, for as long as it is in scope.
pub(super) struct Hold {
    held: Held,
    fence: Fence,
    why: watch::Receiver<Option<Why>>,
    pub(super) stops: Stops,
}

impl Held {
    /// `since`: before the lease was asked for.
    pub(super) fn hold(&self, fence: Fence, since: Instant, stops: Stops) -> Hold {
        let mut held = self.lock();
        let (sender, why) = watch::channel(held.all);
        let lease = Lease {
            fence,
            why: sender,
            stops: stops.clone(),
            since,
        };
        held.by_execution.insert(fence.execution, lease);
        Hold {
            held: self.clone(),
            fence,
            why,
            stops,
        }
    }

    pub(super) fn cancel_all(&self, why: Why) {
        let mut held = self.lock();
        held.all = Some(why);
        for lease in held.by_execution.values() {
            lease.why.send_replace(Some(why));
        }
    }

    /// Every stage in work stops at its next unit boundary and gives its lease back.
    pub(super) fn pause_all(&self) {
        for lease in self.lock().by_execution.values() {
            lease.stops.pause.cancel();
        }
    }

    fn interrupt(&self, execution: WorkflowExecutionId, interruption: Interruption) {
        if let Some(lease) = self.lock().by_execution.get(&execution) {
            lease.stops.pause.cancel();
            if interruption == Interruption::Stop {
                lease.why.send_replace(Some(Why::Stop));
                // Its job may still be on its way to whoever listens.
                lease.stops.hang_up.cancel();
            }
        }
    }

    /// The execution may have been settled and leased anew, here, since its fence was asked about: that lease holds.
    fn lose(&self, fence: Fence) {
        if let Some(lease) = self.lock().by_execution.get(&fence.execution)
            && lease.fence == fence
        {
            lease.why.send_replace(Some(Why::Lost));
        }
    }

    /// How long ago the lease was certain to be held; none if it is another one, or gone.
    fn age(&self, fence: Fence) -> Option<Duration> {
        let leases = self.lock();
        let lease = leases.by_execution.get(&fence.execution)?;
        (lease.fence == fence).then(|| lease.since.elapsed())
    }

    fn renewed(&self, fence: Fence, since: Instant) {
        if let Some(lease) = self.lock().by_execution.get_mut(&fence.execution)
            && lease.fence == fence
        {
            lease.since = since;
        }
    }

    fn fences(&self) -> Vec<Fence> {
        let held = self.lock();
        held.by_execution
            .values()
            .map(|lease| lease.fence)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Leases> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Waits until the holder must let go.
    pub(super) async fn ended(&mut self) -> Why {
        match self.why.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Why::Lost),
            Err(_) => Why::Lost,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        let held = &mut held.by_execution;
        // A later lease of the same execution, in this process, is not ours to remove.
        if held
            .get(&self.fence.execution)
            .is_some_and(|lease| lease.fence == self.fence)
        {
            held.remove(&self.fence.execution);
        }
    }
}

/// Renews and looks until `keep` is cancelled, which comes after the drain: leases are kept to the last.
pub(super) async fn run(engine: Arc<Engine>, keep: CancellationToken) {
    let mut looks = time::interval(LOOK);
    looks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    let mut failing = false;
    loop {
        tokio::select! {
            () = keep.cancelled() => return,
            _ = looks.tick() => {}
        }
        let due = renewed.elapsed() >= engine.settings.renew;
        let result = if due {
            renew(&engine).await
        } else {
            look_for_interruptions(&engine).await
        };
        match result {
            Ok(()) => {
                failing = false;
                if due {
                    renewed = Instant::now();
                }
            }
            Err(error) if !failing => {
                failing = true;
                warn!(
                    error = &error as &dyn std::error::Error,
                    "leases could not be renewed"
                );
            }
            Err(_) => {}
        }
    }
}

async fn renew(engine: &Engine) -> Result<(), StoreError> {
    say_alive(engine).await?;
    let mut connection = engine.store.driver().await?;
    let fences = engine.held.fences();
    if fences.is_empty() {
        return Ok(());
    }
    let asked = Instant::now();
    let kept =
        store::renew_leases(&mut connection, engine.id, &fences, engine.settings.lease).await?;
    for fence in fences {
        if kept.contains(&fence.execution) {
            engine.held.renewed(fence, asked);
        } else {
            engine.held.lose(fence);
        }
    }
    Ok(())
}

/// Whether the lease is certain to be held: it was renewed as it should be. After a longer silence (this process was
/// frozen or starved) only the database knows. The own clock decides nothing but whether to ask.
pub(super) fn is_fresh(engine: &Engine, fence: Fence) -> bool {
    let age = engine.held.age(fence);
    age.is_some_and(|age| age < engine.settings.lease / 2)
}

/// Asks the database whether the lease is still held, and renews it if so.
///
/// # Errors
/// What the store says; trying again may help.
pub(super) async fn is_held(engine: &Engine, fence: Fence) -> Result<bool, StoreError> {
    if engine.held.age(fence).is_none() {
        return Ok(false);
    }
    let asked = Instant::now();
    let mut connection = engine.store.engine().await?;
    let lasts = engine.settings.lease;
    let kept = store::renew_leases(&mut connection, engine.id, &[fence], lasts).await?;
    if kept.is_empty() {
        engine.held.lose(fence);
        return Ok(false);
    }
    engine.held.renewed(fence, asked);
    Ok(true)
}

async fn look_for_interruptions(engine: &Engine) -> Result<(), StoreError> {
    let mut connection = engine.store.driver().await?;
    let fences = engine.held.fences();
    if fences.is_empty() {
        return Ok(());
    }
    for (execution, interruption) in store::interruptions(&mut connection, &fences).await? {
        engine.held.interrupt(execution, interruption);
    }
    Ok(())
}

/// Says in Postgres that this process lives, and learns how many do: they share the limits on calls without Redis.
pub(super) async fn say_alive(engine: &Engine) -> Result<(), StoreError> {
    let mut connection = engine.store.driver().await?;
    let slots = engine.settings.slots * crate::flow::Stage::ALL.len();
    let (version, lease) = (env!("CARGO_PKG_VERSION"), engine.settings.lease);
    let alive = store::see_worker(&mut connection, engine.id, version, slots, lease).await?;
    if let Some(access) = &engine.access {
        access.set_workers(alive);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use graphmill_jobs::OrganizationId;

    use super::*;

    #[test]
    fn a_lease_that_was_followed_by_another_is_lost_alone() {
        let held = Held::default();
        let first = Fence {
            organization: OrganizationId::DEFAULT,
            execution: WorkflowExecutionId::generate(),
            epoch: 1,
        };
        drop(held.hold(first, Instant::now(), Stops::default()));
        let second = Fence { epoch: 2, ..first };
        let mut again = held.hold(second, Instant::now(), Stops::default());
        held.lose(first);
        assert_eq!(again.ended().now_or_never(), None);
        held.lose(second);
        assert_eq!(again.ended().now_or_never(), Some(Why::Lost));
    }

    #[test]
    fn what_is_cancelled_is_told_to_whoever_has_it_in_hand_and_to_whoever_comes_later() {
        let held = Held::default();
        let of = |epoch| Fence {
            organization: OrganizationId::DEFAULT,
            execution: WorkflowExecutionId::generate(),
            epoch,
        };
        let (begun, execution) = (Stops::default(), of(1));
        let mut first = held.hold(execution, Instant::now(), begun.clone());
        held.interrupt(execution.execution, Interruption::Pause);
        assert!(begun.pause.is_cancelled() && !begun.hang_up.is_cancelled());
        held.interrupt(execution.execution, Interruption::Stop);
        assert!(begun.hang_up.is_cancelled());
        assert_eq!(first.ended().now_or_never(), Some(Why::Stop));
        held.cancel_all(Why::Drain);
        let mut later = held.hold(of(1), Instant::now(), Stops::default());
        assert_eq!(later.ended().now_or_never(), Some(Why::Drain));
    }

    #[test]
    fn a_lease_is_as_old_as_its_last_renewal_and_no_other_ones() {
        let held = Held::default();
        let first = Fence {
            organization: OrganizationId::DEFAULT,
            execution: WorkflowExecutionId::generate(),
            epoch: 1,
        };
        let long = Duration::from_secs(60);
        let ago = Instant::now().checked_sub(long).unwrap();
        let _hold = held.hold(first, ago, Stops::default());
        assert!(held.age(first).unwrap() >= long);
        let second = Fence { epoch: 2, ..first };
        held.renewed(second, Instant::now());
        assert!(held.age(first).unwrap() >= long);
        assert_eq!(held.age(second), None);
        held.renewed(first, Instant::now());
        assert!(held.age(first).unwrap() < long);
    }
}
