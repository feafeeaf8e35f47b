//! The backend that apalis drives: typed jobs of one stage out of its feeder.
//!
//! Knows apalis' `Backend` and the feeder. Must not know Redis. Invariants: whoever gets `Pending` has a waker in
//! the feeder's channel, never in a timer that could be lost; the channel's end before a stop is an error, so that
//! the monitor starts another worker.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral, queue::Queue as QueueName},
    layers::Identity,
    task::{Task, builder::TaskBuilder, task_id::TaskId},
    worker::context::WorkerContext,
};
use futures_util::FutureExt;
use graphmill_jobs::StageJob;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
};

use super::{feeder::feed, ticket::Delivery, workers::Seat};

/// The pause before the first restart; it doubles with each one up to [`LONGEST_PAUSE`], so that nothing spins.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The feeder ended although nobody stopped it: it panicked. Trying again, with a new worker, helps.
#[derive(Debug, thiserror::Error)]
#[error("the feeder of `{worker}` ended unasked")]
pub(super) struct FeederGone {
    worker: String,
}

/// One worker's end of its stage's queue.
#[derive(Debug)]
pub(super) struct StageQueue<J> {
    seat: Arc<Seat>,
    name: String,
    restarts: usize,
    state: State<J>,
}

#[derive(Debug)]
enum State<J> {
    Idle,
    Feeding {
        jobs: UnboundedReceiver<Delivery<J>>,
        feeder: JoinHandle<()>,
    },
    Closing(JoinHandle<()>),
    Closed,
}

impl<J: StageJob> StageQueue<J> {
    /// The backend of the worker `name`, which is its stage's after so many restarts.
    pub(super) const fn new(seat: Arc<Seat>, name: String, restarts: usize) -> Self {
        Self {
            seat,
            name,
            restarts,
            state: State::Idle,
        }
    }

    fn delay(&self) -> Duration {
        match self.restarts.checked_sub(1) {
            None => Duration::ZERO,
            Some(before) => FIRST_PAUSE
                .saturating_mul(1 << before.min(10))
                .min(LONGEST_PAUSE),
        }
    }
}

impl<J: StageJob> Backend for StageQueue<J> {
    type Task = Task<Delivery<J>>;
    type Error = FeederGone;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), FeederGone>> {
        if matches!(self.state, State::Idle) {
            let (sender, jobs) = unbounded_channel();
            let feed = feed(
                Arc::clone(&self.seat),
                self.name.clone(),
                self.delay(),
                sender,
            );
            let feeder = self.seat.tasks.spawn(feed);
            self.state = State::Feeding { jobs, feeder };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, FeederGone>>> {
        let State::Feeding { jobs, .. } = &mut self.state else {
            return Poll::Ready(None);
        };
        match ready!(jobs.poll_recv(cx)) {
            Some(delivery) => {
                let id = String::from_utf8_lossy(delivery.ticket.id()).into_owned();
                let task = TaskBuilder::new(delivery)
                    .task_id(TaskId::from_string(id))
                    .queue(QueueName::from(self.seat.keys.queue))
                    .max_attempts(1)
                    .build();
                Poll::Ready(Some(Ok(task)))
            }
            // the monitor wakes the worker, which then closes
            None if self.seat.stop.is_cancelled() => Poll::Pending,
            None => Poll::Ready(Some(Err(FeederGone {
                worker: self.name.clone(),
            }))),
        }
    }

    /// Gives back what no handler has seen, and waits until the feeder has reported the rest.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), FeederGone>> {
        if let State::Feeding { .. } = self.state
            && let State::Feeding { jobs, feeder } =
                std::mem::replace(&mut self.state, State::Closed)
        {
            drop(jobs);
            self.state = State::Closing(feeder);
        }
        if let State::Closing(feeder) = &mut self.state {
            // a feeder that panicked has nothing more to say
            let _ = ready!(feeder.poll_unpin(cx));
        }
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }
}

impl<J: StageJob> BackendConfig for StageQueue<J> {
    type Args = Delivery<J>;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
