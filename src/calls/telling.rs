//! Telling those who follow a batch that its calls wait: for a limit, or for the breaker.
//!
//! Must not know why somebody calls. Invariants: a call never waits for what is told of it; what a whole fleet has to
//! say of a batch is said once in a while, which the database decides, and this process asks it as rarely.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use graphmill_jobs::BatchId;
use tokio::time::Instant;

use super::Door;
use crate::{
    flow::{Event, EventKind, LimitCause},
    queue::{Permit, Settled, Turned, WaitReason, Waiting},
    store::{self, BreakerNotice, StoreError},
};

/// How long nothing more is said of limits in a batch.
const LIMITED_AGAIN: Duration = Duration::from_secs(10);
/// How long the same is not said of the breaker again.
const BREAKER_AGAIN: Duration = Duration::from_secs(5);
/// A wait for a limit of ours that is shorter is its pace, and no news.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// Batches of which it is remembered what was told; the memory of a worker stays flat.
const REMEMBERED: usize = 1024;

/// What this process has told, or asked to tell, of batches.
#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<Concerned, Last>>);

/// A batch, and a model by its name.
type Concerned = (BatchId, String);

#[derive(Default)]
struct Last {
    limited: Option<Instant>,
    opened: Option<Instant>,
    /// The breaker's generation in which a call last went through.
    generation: Option<String>,
}

impl Told {
    fn of(&self, door: &Door) -> (MutexGuard<'_, HashMap<Concerned, Last>>, Concerned) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (door.caller.batch, door.caller.model.name.clone());
        if told.len() >= REMEMBERED && !told.contains_key(&key) {
            told.clear();
        }
        (told, key)
    }

    /// Whether so much time has passed; if so, it begins anew.
    fn is_due(
        &self,
        door: &Door,
        last: impl Fn(&mut Last) -> &mut Option<Instant>,
        again: Duration,
    ) -> bool {
        let (mut told, key) = self.of(door);
        let last = last(told.entry(key).or_default());
        let due = last.is_none_or(|at| at.elapsed() >= again);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// Whether no call went through in this generation before.
    fn is_new(&self, door: &Door, generation: &str) -> bool {
        let (mut told, key) = self.of(door);
        let last = told.entry(key).or_default();
        if last.generation.as_deref() == Some(generation) {
            return false;
        }
        last.generation = Some(generation.to_owned());
        // Should it open again, that is news.
        last.opened = None;
        true
    }
}

/// What is to be told, if nobody has.
enum News {
    Limited { cause: LimitCause, wait: Duration },
    Opened { failures: u32, wait: Duration },
    Probed,
    Closed,
}

impl Door {
    /// A call waits for its permit.
    pub(super) fn tell_waiting(&self, waiting: &Waiting) {
        let wait = waiting.wait;
        let cause = match waiting.reason {
            WaitReason::Paused => LimitCause::Server,
            WaitReason::Requests if wait >= WORTH_TELLING => LimitCause::Requests,
            WaitReason::Tokens if wait >= WORTH_TELLING => LimitCause::Tokens,
            WaitReason::BreakerOpen { failures } => return self.tell_opened(failures, wait),
            WaitReason::Requests
            | WaitReason::Tokens
            | WaitReason::Concurrency
            | WaitReason::Probing { .. }
            | WaitReason::Turn => return,
        };
        self.tell_limited(cause, wait);
    }

    /// A call got its permit.
    pub(super) fn tell_granted(&self, permit: &Permit) {
        if permit.is_probe() {
            self.tell(News::Probed);
        } else if self.access.0.told.is_new(self, permit.generation()) {
            // Another process may have told of the breaker, and this one finds it closed.
            self.tell(News::Closed);
        }
    }

    /// A call has ended. `throttled`: the server asked for fewer.
    pub(super) fn tell_settled(&self, settled: &Settled, throttled: bool) {
        match settled.turned {
            Some(Turned::Opened { failures, wait }) => self.tell_opened(failures, wait),
            Some(Turned::Closed) => self.tell(News::Closed),
            None if throttled => self.tell_limited(LimitCause::Server, settled.paused),
            None => {}
        }
    }

    fn tell_limited(&self, cause: LimitCause, wait: Duration) {
        let told = &self.access.0.told;
        if told.is_due(self, |last| &mut last.limited, LIMITED_AGAIN) {
            self.tell(News::Limited { cause, wait });
        }
    }

    fn tell_opened(&self, failures: u32, wait: Duration) {
        let told = &self.access.0.told;
        if told.is_due(self, |last| &mut last.opened, BREAKER_AGAIN) {
            self.tell(News::Opened { failures, wait });
        }
    }

    /// Tells it behind the call's back.
    fn tell(&self, news: News) {
        let (door, inner) = (self.clone(), &self.access.0);
        let told = async move {
            if let Err(error) = door.write_down(news).await {
                // The next one that waits tells it.
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a wait was not told"
                );
            }
        };
        inner.open.spawn_on(told, &inner.drivers);
    }

    async fn write_down(&self, news: News) -> Result<(), StoreError> {
        let (organization, batch) = (self.caller.organization, self.caller.batch);
        let model = self.caller.model.name.clone();
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (breaker, kind) = match news {
            News::Limited { cause, wait } => {
                let wait_ms = millis(wait);
                (
                    None,
                    EventKind::RateLimited {
                        model: model.clone(),
                        cause,
                        wait_ms,
                    },
                )
            }
            News::Opened { failures, wait } => {
                let wait_ms = millis(wait);
                let kind = EventKind::BreakerOpened {
                    model: model.clone(),
                    failures,
                    wait_ms,
                };
                (Some(BreakerNotice::Open), kind)
            }
            News::Probed => {
                let kind = EventKind::BreakerProbed {
                    model: model.clone(),
                };
                (Some(BreakerNotice::HalfOpen), kind)
            }
            News::Closed => {
                let kind = EventKind::BreakerClosed {
                    model: model.clone(),
                };
                (Some(BreakerNotice::Closed), kind)
            }
        };
        let mut write = self.access.0.store.app(organization).await?;
        let first = match breaker {
            None => {
                store::notice_limit(&mut write, organization, batch, &model, LIMITED_AGAIN).await
            }
            Some(breaker) => {
                let again = BREAKER_AGAIN;
                store::notice_breaker(&mut write, organization, batch, &model, breaker, again).await
            }
        };
        if first? {
            let event = Event::of_batch(organization, batch, kind);
            store::append_event(&mut write, &event).await?;
            write.commit().await?;
        }
        Ok(())
    }
}
