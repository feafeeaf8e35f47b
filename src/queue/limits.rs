//! Limits on the calls to one model, across all replicas: how many a minute, how many tokens a minute, how many at
//! once, and a circuit breaker. What is over the limits waits in a line.
//!
//! Knows Redis, tickets and what became of a call. Must not know Postgres, HTTP, prompts or why someone calls.
//! Invariant: **Redis' clock decides, in one script a step**, so that all replicas see the same line and the same
//! breaker; a worker's own clock only measures how long it sleeps. No step waits for Redis longer than
//! [`script::PATIENCE`]: without it a process takes its share of the limits from memory ([`alone`]), by the same
//! rules, until it is back.
//!
//! # Keys
//!
//! All begin with `graphmill:limit:{…}`, a hash of the limiter's name in braces, so that a cluster keeps them
//! together. All expire when nobody calls any more; the state an hour later than the others.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `state` | HASH | breaker (`generation`, `failures`, `open_until`, `probe`, `successes`), pause (`paused_until`, `throttles`), concurrency (`limit`, `cut_at`, `latency`, `latency_now`, `seen`, `since_cut`), pace (`pace`, `token_pace`), `spent` tokens of the window, `served`: the place that the line has come to, the limits that hold (`rpm`, `tpm`, `cap`, each with `_at`) |
//! | `calls` | ZSET | `permit:tokens` → when it was granted: the log of the window |
//! | `slots` | ZSET | permit → end of its lease: the calls in flight |
//! | `line` | ZSET | ticket → place, of the waiters that are there |
//! | `here` | ZSET | ticket → until when it counts as there; its place is kept for 30 s more |
//! | `places` | HASH | ticket → place |
//! | `accounts` | HASH | owner → the place of its next call, in tokens by weight |
//! | `next` | channel | the ticket whose turn it is |
//!
//! # How the limits hold at the server
//!
//! A call arrives later than its permit was granted, and not always by the same time. So the log's window is longer
//! than a minute by [`SLACK`]: calls of any sliding minute at the server were granted within one such window, as long
//! as their delays differ by less. It costs 2.5 % of the limit. The pace in front of it spreads the calls, so that a
//! server with a finer window than a minute is content as well. A permit that got older than the slack before the
//! call was sent ([`Permit::is_late`]) should be given back [unsent](CallEnd::Unsent).

mod alone;
mod permit;
mod script;
mod wake;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::{alone::Alone, permit::Held, script::Scripts, wake::Wakes};
use super::connection::Queue;

pub use permit::{CallEnd, Permit, Settled, Turned};

/// The part of a minute by which calls may be late at the server without a minute becoming too full: 1.5 s.
const SLACK: f64 = 0.025;

/// How long a place in the line is kept for a waiter that went away. A unit that was handed back returns within it.
const MEMORY: Duration = Duration::from_secs(30);

/// The longest pause that a server can ask for; then it is asked again. The scripts have the same number.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What a model's server allows. All replicas should be given the same; where they differ, the strictest that was asked
/// with within the last minute holds for all, and the others say so once. The breaker's settings are each one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests in any sliding minute; `None` is no limit.
    pub requests_per_minute: Option<u32>,
    /// Tokens in any sliding minute; `None` is no limit.
    pub tokens_per_minute: Option<u64>,
    /// The most calls at once across the fleet; how many it is at a time adapts between 1 and this.
    pub concurrency: u32,
    /// Failures in a row that open the breaker; 0 is no breaker.
    pub breaker_failures: u32,
    /// How long it stays open before it lets a probe through.
    pub breaker_open: Duration,
    /// Successes in a row, one probe at a time, that close it.
    pub breaker_successes: u32,
    /// How long the slot of a dead worker is held. A living one renews it at each third, however long a call takes.
    pub lease: Duration,
    /// What a minute is. For tests, which have no minute to wait.
    #[doc(hidden)]
    pub minute: Duration,
}

impl Default for LimitSettings {
    /// No limit of requests and tokens, 16 calls at once, and a breaker.
    ///
    /// **Source:** 5 failures, 30 s and 2 successes are the design's; the lease is that of an execution.
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            concurrency: 16,
            breaker_failures: 5,
            breaker_open: Duration::from_secs(30),
            breaker_successes: 2,
            lease: Duration::from_secs(15),
            minute: Duration::from_secs(60),
        }
    }
}

impl LimitSettings {
    /// A minute, and the slack for calls that are late.
    fn window(&self) -> Duration {
        self.minute.mul_f64(1.0 + SLACK)
    }

    fn slack(&self) -> Duration {
        self.minute.mul_f64(SLACK)
    }
}

/// What came of asking for a permit.
#[derive(Debug)]
pub enum Acquired {
    /// Make the call, then [settle](Permit::settle).
    Granted(Permit),
    /// Not within the patience. The place in the line is kept; ask again with the same ticket.
    Wait(Waiting),
}

/// Why there is no permit yet, in words for people by its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The limiter's name, as `provider/model`.
    pub of: Arc<str>,
    /// What stands in the way.
    pub reason: WaitReason,
    /// When to ask again: exact for a pause and an open breaker, else a guess of at most 20 s.
    pub wait: Duration,
    /// How many are before it in the line.
    pub ahead: usize,
}

/// What stands in the way of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// The requests of the minute are used up, or the next one is not due yet.
    Requests,
    /// The tokens of the minute are used up, or the next call of this size is not due yet.
    Tokens,
    /// As many calls are in flight as the server takes.
    Concurrency,
    /// The server asked for a pause (`Retry-After`), or answered 429 without saying how long.
    Paused,
    /// The breaker is open until [`Waiting::wait`] is over.
    BreakerOpen {
        /// Failures in a row.
        failures: u32,
    },
    /// The breaker is half-open and its one probe is in flight.
    Probing {
        /// Failures in a row.
        failures: u32,
    },
    /// There is room, but others were first.
    Turn,
}

impl WaitReason {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
            Self::Paused => "paused",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Probing { .. } => "probing",
            Self::Turn => "turn",
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            of, wait, ahead, ..
        } = self;
        let seconds = wait.as_millis().div_ceil(1000);
        match self.reason {
            WaitReason::Requests => write!(f, "the requests a minute of {of} are used up")?,
            WaitReason::Tokens => write!(f, "the tokens a minute of {of} are used up")?,
            WaitReason::Concurrency => write!(f, "{of} has as many calls at once as it takes")?,
            WaitReason::Paused => {
                return write!(f, "{of} asked for a pause; {seconds} s are left");
            }
            WaitReason::BreakerOpen { failures } => {
                return write!(
                    f,
                    "the circuit breaker of {of} is open after {failures} failures; next probe in {seconds} s"
                );
            }
            WaitReason::Probing { failures } => {
                return write!(
                    f,
                    "the circuit breaker of {of} is half-open after {failures} failures; a probe is in flight"
                );
            }
            WaitReason::Turn => write!(f, "others were first at {of}")?,
        }
        write!(f, "; {ahead} are ahead")
    }
}

/// How the breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Calls go through.
    Closed,
    /// No call goes through before the time is over.
    Open {
        /// How long that is.
        wait: Duration,
    },
    /// One call at a time goes through, to see how the server is.
    HalfOpen,
}

/// How a limiter stands, for progress and `graphmill doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimiterStatus {
    /// Whether this is what the fleet shares; else Redis is away and it is this process' share.
    pub shared: bool,
    /// The breaker.
    pub breaker: Breaker,
    /// Failures in a row.
    pub failures: u32,
    /// How long the pause lasts that the server asked for; zero is none.
    pub paused: Duration,
    /// Calls in flight.
    pub in_flight: usize,
    /// The most calls at once at this time.
    pub limit: usize,
    /// Waiters that are there.
    pub waiting: usize,
    /// Requests of the last window.
    pub requests: usize,
    /// Tokens of the last window.
    pub tokens: u64,
}

/// Whose call it is. Owners share the line by weight, in tokens; each one's calls are in the order of its tickets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Owner<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its weight against the others'.
    pub weight: f64,
}

impl Owner<'_> {
    /// One for all.
    pub const ANYBODY: Self = Self {
        name: "",
        weight: 1.0,
    };
}

/// The limits of one model; cheap to clone. All clones of a process share what it needs without Redis, so a process
/// should make one of a name.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.inner.name).finish()
    }
}

struct Inner {
    name: Arc<str>,
    settings: LimitSettings,
    scripts: Scripts,
    wakes: Wakes,
    alone: Mutex<Alone>,
    workers: AtomicU32,
    /// The shared permits of this process, which it renews.
    held: Mutex<Held>,
}

impl Inner {
    fn alone(&self) -> MutexGuard<'_, Alone> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> u32 {
        self.workers.load(Ordering::Relaxed).max(1)
    }
}

impl Limiter {
    /// The limiter of `name`, which is the same across the fleet: `provider/model`.
    #[must_use]
    pub fn new(queue: &Queue, name: &str, settings: LimitSettings) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        let hash = u64::from_be_bytes(hash);
        let prefix = format!("graphmill:limit:{{{hash:016x}}}");
        let channel = format!("{prefix}:next");
        Self {
            inner: Arc::new(Inner {
                name: name.into(),
                scripts: Scripts::new(queue, name, &prefix, &channel, &settings),
                wakes: Wakes::new(queue.client.clone(), channel),
                alone: Mutex::new(Alone::new(&settings, Instant::now())),
                settings,
                workers: AtomicU32::new(1),
                held: Mutex::default(),
            }),
        }
    }

    /// The limiter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How many worker processes live, as last known: the share of one is taken from it while Redis is away.
    pub fn set_workers(&self, workers: u32) {
        self.inner.workers.store(workers, Ordering::Relaxed);
    }

    /// Waits for a permit, at most for `patience`, in the order of the tickets.
    ///
    /// A ticket stands for one piece of work. Its place in the line is kept for 30 s after a [`Waiting`], or for as
    /// long as that says; asking again with it goes on waiting there. `tokens` is an upper bound of what the call
    /// will use. A pause and an open breaker that last longer than the patience are told at once.
    ///
    /// Safe to be cancelled: a ticket that nobody asks for any more blocks no one for longer than a second, and a
    /// permit that is granted in the same moment is given back.
    pub async fn acquire(&self, ticket: &str, tokens: u64, patience: Duration) -> Acquired {
        self.acquire_for(Owner::ANYBODY, ticket, tokens, patience)
            .await
    }

    /// [`acquire`](Self::acquire), in the name of an owner that shares the line with others. Without Redis all stand
    /// in one line.
    pub async fn acquire_for(
        &self,
        owner: Owner<'_>,
        ticket: &str,
        tokens: u64,
        patience: Duration,
    ) -> Acquired {
        self.acquire_telling(owner, ticket, tokens, patience, |_| {})
            .await
    }

    /// [`acquire_for`](Self::acquire_for), and says what it waits for whenever it has looked in vain.
    pub async fn acquire_telling(
        &self,
        owner: Owner<'_>,
        ticket: &str,
        tokens: u64,
        patience: Duration,
        tell: impl Fn(&Waiting) + Send,
    ) -> Acquired {
        let inner = &self.inner;
        let id = format!("p{}", Uuid::new_v4().simple());
        let begun = Instant::now();
        let call = inner.wakes.listen(ticket);
        let mut called = false;
        loop {
            let turn = inner.scripts.turn(called).await;
            let left = patience.saturating_sub(begun.elapsed());
            let asked = Instant::now();
            let asking = Asking {
                inner: Some(inner),
                id: &id,
                tokens,
            };
            let scripts = &inner.scripts;
            let look = scripts.acquire(&id, ticket, tokens, left, owner).await;
            asking.answered();
            drop(turn);
            let seen = match look {
                Some(script::Look::Granted {
                    generation,
                    at,
                    probes,
                }) => {
                    let grant = (generation, at);
                    let permit = Permit::shared(inner, id, tokens, asked, grant, probes);
                    return Acquired::Granted(permit);
                }
                Some(script::Look::Wait(wait)) => {
                    inner.alone().heard(&wait, asked);
                    wait
                }
                None => {
                    let (share, now) = (inner.workers(), Instant::now());
                    let looked = inner.alone().acquire(&id, ticket, tokens, left, share, now);
                    match looked {
                        Ok(()) => {
                            return Acquired::Granted(Permit::alone(inner, id, tokens, now));
                        }
                        Err(wait) => wait,
                    }
                }
            };
            let waiting = Waiting {
                of: Arc::clone(&inner.name),
                reason: seen.reason,
                wait: seen.wait,
                ahead: seen.ahead,
            };
            tell(&waiting);
            if !seen.stays || left.is_zero() {
                return Acquired::Wait(waiting);
            }
            // a call for this ticket that came meanwhile is kept, so that none is missed between look and sleep
            let sleep = tokio::time::timeout(seen.wait.min(left), call.notified());
            called = sleep.await.is_ok();
        }
    }

    /// How it stands: what the fleet shares, or this process' own share while Redis is away.
    pub async fn status(&self) -> LimiterStatus {
        if let Some(status) = self.inner.scripts.status().await {
            return status;
        }
        let share = self.inner.workers();
        self.inner.alone().status(share, Instant::now())
    }
}

/// A look that is under way: who goes before its answer gives back what it may have been granted.
struct Asking<'a> {
    inner: Option<&'a Arc<Inner>>,
    id: &'a str,
    tokens: u64,
}

impl Asking<'_> {
    fn answered(mut self) {
        self.inner = None;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner {
            permit::give_back(inner, self.id, self.tokens, "0", 0);
        }
    }
}

/// What a look at the limits says to a waiter.
#[derive(Debug)]
struct Look {
    reason: WaitReason,
    wait: Duration,
    /// Whether it is worth while to go on waiting here.
    stays: bool,
    ahead: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_sentence() {
        let mut waiting = Waiting {
            of: "openai/gpt-x".into(),
            reason: WaitReason::BreakerOpen { failures: 5 },
            wait: Duration::from_millis(11_400),
            ahead: 3,
        };
        assert_eq!(
            waiting.to_string(),
            "the circuit breaker of openai/gpt-x is open after 5 failures; next probe in 12 s"
        );
        waiting.reason = WaitReason::Paused;
        assert_eq!(
            waiting.to_string(),
            "openai/gpt-x asked for a pause; 12 s are left"
        );
        waiting.reason = WaitReason::Requests;
        assert_eq!(
            waiting.to_string(),
            "the requests a minute of openai/gpt-x are used up; 3 are ahead"
        );
    }
}
