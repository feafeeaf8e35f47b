//! A permit in hand: what became of the call is told once, and the slot is renewed until then.
//!
//! Knows how a call can end. Must not know who waits. Invariant: a slot is held exactly as long as its permit lives
//! and its process with it; a permit that is dropped gives the slot back and says nothing about the server.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::Inner;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// With an answer: it used so many tokens, and took so long.
    Answered {
        /// Tokens in and out, as the server counts them.
        tokens: u64,
        /// From sending to the last byte.
        latency: Duration,
    },
    /// 429: all workers pause. Without a time the pause is 1 s, doubled with each throttled round, at most 60 s.
    /// It says nothing to the breaker: the server lives, but does not work for us.
    Throttled {
        /// What `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// 5xx, 529, no connection, cut off, timed out: counts for the breaker.
    Failed,
    /// Another 4xx: the server lives and has judged, which is a success to the breaker. The tokens stay charged.
    Refused,
    /// It was not sent, so that nothing is charged.
    Unsent,
}

/// What the end of a call did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// It has opened, or opened again after a probe that failed.
    Opened {
        /// Failures in a row.
        failures: u32,
        /// How long until the next probe.
        wait: Duration,
    },
    /// It has closed.
    Closed,
}

/// How the limits stand after the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// What it did to the breaker.
    pub turned: Option<Turned>,
    /// How long nobody calls, because the server asked for that; zero is not at all.
    pub paused: Duration,
}

/// The right to make one call now. [`settle`](Self::settle) it; a dropped one gives its slot back, keeps its tokens
/// charged and leaves the breaker alone.
#[must_use = "a permit that is dropped frees its slot"]
pub struct Permit {
    inner: Arc<Inner>,
    id: String,
    tokens: u64,
    /// When it was asked for; it was granted later, so this is the safe side.
    asked: Instant,
    grant: Grant,
    settled: bool,
}

/// Who granted it.
enum Grant {
    Shared {
        generation: String,
        at: i64,
        probes: bool,
    },
    Alone {
        probes: bool,
    },
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("of", &self.inner.name)
            .field("id", &self.id)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl Permit {
    pub(super) fn shared(
        inner: &Arc<Inner>,
        id: String,
        tokens: u64,
        asked: Instant,
        (generation, at): (String, i64),
        probes: bool,
    ) -> Self {
        inner.alone().note(&id, tokens, asked);
        keep(inner, &id);
        Self {
            inner: Arc::clone(inner),
            id,
            tokens,
            asked,
            grant: Grant::Shared {
                generation,
                at,
                probes,
            },
            settled: false,
        }
    }

    pub(super) fn alone(inner: &Arc<Inner>, id: String, tokens: u64, asked: Instant) -> Self {
        let probes = inner.alone().is_probe(&id);
        Self {
            inner: Arc::clone(inner),
            id,
            tokens,
            asked,
            grant: Grant::Alone { probes },
            settled: false,
        }
    }

    /// Whether so much time has passed since the grant that a call sent now could make a minute too full at the
    /// server. Then settle it as [`CallEnd::Unsent`] and ask anew. A process that was frozen finds out here.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.asked.elapsed() > self.inner.settings.slack()
    }

    /// Whether it is of the fleet's limits, and not of this process' share without Redis.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.grant, Grant::Shared { .. })
    }

    /// Whether the breaker is half-open, and this is the one call that finds out how the server is.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        match self.grant {
            Grant::Shared { probes, .. } | Grant::Alone { probes } => probes,
        }
    }

    /// The generation of the breaker that it was granted in: another one after each time that it opened or closed.
    /// Without Redis there is none.
    #[must_use]
    pub fn generation(&self) -> &str {
        match &self.grant {
            Grant::Shared { generation, .. } => generation,
            Grant::Alone { .. } => "",
        }
    }

    /// Tells how the call ended. Waits for Redis a second at most; without it the end is noted in this process.
    pub async fn settle(mut self, end: CallEnd) -> Settled {
        self.settled = true;
        let own = self
            .inner
            .alone()
            .end(&self.id, self.tokens, Some(&end), Instant::now());
        if let Grant::Shared { generation, at, .. } = &self.grant {
            held(&self.inner).ids.remove(&self.id);
            let Self {
                inner, id, tokens, ..
            } = &self;
            let shared = inner
                .scripts
                .settle(id, *tokens, Some(&end), generation, *at)
                .await;
            return shared.unwrap_or(own);
        }
        own
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.inner
            .alone()
            .end(&self.id, self.tokens, None, Instant::now());
        if let Grant::Shared { generation, at, .. } = &self.grant {
            held(&self.inner).ids.remove(&self.id);
            give_back(&self.inner, &self.id, self.tokens, generation, *at);
        }
    }
}

/// Frees a slot, which says nothing about the server. Without a runtime it returns when its lease is over.
pub(super) fn give_back(inner: &Arc<Inner>, id: &str, tokens: u64, generation: &str, at: i64) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let (inner, id, generation) = (Arc::clone(inner), id.to_owned(), generation.to_owned());
        runtime.spawn(async move {
            inner
                .scripts
                .settle(&id, tokens, None, &generation, at)
                .await;
        });
    }
}

/// The shared permits of a process.
#[derive(Default)]
pub(super) struct Held {
    ids: HashSet<String>,
    /// Whether the task that renews them runs.
    keeping: bool,
}

fn held(inner: &Inner) -> MutexGuard<'_, Held> {
    inner.held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `id` is renewed. One task does it for all, and ends when there is nothing to renew.
fn keep(inner: &Arc<Inner>, id: &str) {
    let mut held = held(inner);
    held.ids.insert(id.to_owned());
    if !held.keeping {
        held.keeping = true;
        tokio::spawn(renew(Arc::downgrade(inner), inner.settings.lease / 3));
    }
}

async fn renew(limiter: Weak<Inner>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = limiter.upgrade() else {
            return;
        };
        let ids: Vec<String> = {
            let mut held = held(&inner);
            held.keeping = !held.ids.is_empty();
            if !held.keeping {
                return;
            }
            held.ids.iter().cloned().collect()
        };
        renew_once(&inner, &ids).await;
    }
}

/// Renews, and gives back to Redis what it has lost: after a wipe the calls in flight count again. A permit that
/// was settled meanwhile must not come back to life, so that is looked at once more afterwards.
async fn renew_once(inner: &Arc<Inner>, ids: &[String]) {
    let Some(mut missing) = inner.scripts.renew(ids, false).await else {
        return;
    };
    missing.retain(|id| held(inner).ids.contains(id));
    if missing.is_empty() || inner.scripts.renew(&missing, true).await.is_none() {
        return;
    }
    missing.retain(|id| !held(inner).ids.contains(id));
    for id in missing {
        inner.scripts.settle(&id, 0, None, "0", 0).await;
    }
}
