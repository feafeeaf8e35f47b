//! A head start: the calls of a stage begin while the settle of the one before it is being written.
//!
//! A document makes its calls one after the other, and a settle between two of them is time in which its slot does
//! nothing. What the next stage begins with is known before it is durable; so whoever has a slot for that stage begins
//! it at once, and the settle decides whether it counts.
//!
//! Invariants: it begins under the lease of the stage before, which nobody else can have; nothing is written of it
//! before its own lease is granted, and no job is pushed; if it is not granted, it is dropped. A call that it has made by
//! then is carried to its end, and whoever works the stage finds the answer in the ledger: nothing is paid twice. Only
//! stages that wait for a model have one; where it is the processors that are short, it would win nothing. And none
//! follows a stage that is suspected of having taken its process down: that is found by who held which lease. (A unit that
//! does so at once may take two processes along instead of one: the stage before is suspected first.)

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{Instrument, debug, field};

use super::{
    executor::{Answered, ExecuteError, Executor, Reins, span},
    keeper::Stops,
    recent,
    traced::Attempt,
    worked::Came,
};
use crate::{
    flow::Stage,
    pipeline::CheckpointError,
    store::{self, Fence, Interruption, Lease},
};

/// The lease that a head start waits for.
#[derive(Clone)]
pub(super) struct Grant {
    /// The lease that it began under.
    pub(super) before: Fence,
    granted: watch::Receiver<bool>,
}

impl Grant {
    /// Waits until the settle is written; `false`: it did not lease the stage.
    pub(super) async fn is_given(&self) -> bool {
        self.granted.clone().wait_for(|it| *it).await.is_ok()
    }
}

/// A stage that has begun before it is leased. Dropping it stops it; calls are carried to their end.
pub(super) struct HeadStart {
    attempt: Attempt,
    reins: Reins,
    running: Running,
    granted: watch::Sender<bool>,
}

/// What a head start's work comes to.
pub(super) struct Running(AbortOnDropHandle<Result<Came, ExecuteError>>);

impl Running {
    /// Waits for its end.
    pub(super) async fn ended(self) -> Result<Came, ExecuteError> {
        match self.0.await {
            Ok(came) => came,
            Err(error) => match error.try_into_panic() {
                // As if it had been worked here.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going.
                Err(_) => Err(CheckpointError::LeaseLost.into()),
            },
        }
    }
}

impl HeadStart {
    /// What stops it.
    pub(super) fn stops(&self) -> Stops {
        self.reins.stops.clone()
    }

    /// It goes no further; what it has sent is carried to its end, unless it is hung up on.
    pub(super) fn drop_work(mut self, outcome: &'static str) -> CancellationToken {
        self.attempt.ends_without(outcome);
        self.reins.stops.pause.cancel();
        self.reins.stops.hang_up
    }

    /// Its lease is granted: what it has done may be written.
    pub(super) fn grant(&self) {
        self.granted.send_replace(true);
    }

    /// Whoever answers the job goes on with it, under `lease`.
    pub(super) fn go_on(mut self, lease: &Lease) -> (Attempt, Reins, Option<Running>) {
        self.attempt.goes_on(lease);
        (self.attempt, self.reins, Some(self.running))
    }
}

impl Executor {
    /// Begins the stage that `next` would be the lease of, with what was just settled. It takes the settled only if it
    /// begins.
    pub(super) async fn head_start(
        &self,
        of: Answered<'_>,
        stage: Stage,
        next: &Lease,
        settled: &mut Option<recent::Settled>,
    ) -> Option<HeadStart> {
        // It was there for the stage before.
        let context = self.context(next).await.ok()?;
        if !context.extractor.as_ref()?.is_paid() {
            return None;
        }
        let settled = settled.take()?;
        let span = span(stage, next.fence.execution);
        span.record("batch.id", field::display(next.batch));
        let attempt = Attempt::begin(&self.0, stage, next)
            .instrument(span.clone())
            .await;
        let stops = Stops {
            pause: of.hold.stops.pause.child_token(),
            hang_up: of.hold.stops.hang_up.child_token(),
        };
        let reins = self.reins(next, stops, &attempt);
        let (granted, waits) = watch::channel(false);
        let grant = Grant {
            before: of.lease.fence,
            granted: waits,
        };
        let loaded = self.load(stage, next, &context, settled, reins.clone(), Some(grant))?;
        let engine = Arc::clone(&self.0);
        let work = async move { Ok(loaded.run(&engine).await?) };
        Some(HeadStart {
            attempt,
            reins,
            running: Running(AbortOnDropHandle::new(tokio::spawn(work.instrument(span)))),
            granted,
        })
    }

    /// The settle did not lease the stage: it has begun in vain. Whoever cancels does not wait for its calls either.
    pub(super) async fn began_in_vain(&self, fence: Fence, ahead: HeadStart) {
        let hang_up = ahead.drop_work("in-vain");
        let asked = async {
            let mut connection = self.0.store.engine().await?;
            store::interruptions(&mut connection, &[fence]).await
        };
        match asked.await {
            Ok(asked) if asked.iter().any(|(_, why)| *why == Interruption::Stop) => {
                hang_up.cancel();
                debug!("a stage that had begun is cancelled");
            }
            Ok(_) => debug!("a stage has begun in vain"),
            // Its calls are carried to their end: nothing is lost but time.
            Err(error) => debug!(%error, "a stage has begun in vain"),
        }
    }
}
