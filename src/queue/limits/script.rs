//! The steps in Redis: each one script, bounded in time, with an answer or none.
//!
//! Knows the scripts' arguments and what Redis' errors mean. Must not know what is done without an answer.
//! Invariant: **an error is never the caller's**. A key of a wrong type is deleted and the step tried once more;
//! whatever else goes wrong is a loss: for [`REST`] nobody asks, then one does.

use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{FromRedisValue, Script, aio::ConnectionManager};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Breaker, CallEnd, LONGEST_PAUSE, LimitSettings, LimiterStatus, Look as Wait, MEMORY, Owner,
    Queue, Settled, Turned, WaitReason,
};

/// How long a step may take. Beyond it the process goes on alone.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long Redis is left alone after it gave no answer.
const REST: Duration = Duration::from_millis(500);

/// How many tokens a newcomer is ahead of those that have called before it. **Source:** the calls of ten short
/// documents, two or three each of some 2,000 tokens.
const NEWCOMER: u64 = 60_000;

/// How many waiters of a process look at the same time. Thousands may want to; whoever is called, and every end of
/// a call, must not stand behind them on the connection.
const LOOKS: usize = 32;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("shared.lua"), include_str!($file))))
    };
}

static ACQUIRE: LazyLock<Script> = script!("acquire.lua");
static SETTLE: LazyLock<Script> = script!("settle.lua");
static RENEW: LazyLock<Script> = script!("renew.lua");
static STATUS: LazyLock<Script> = script!("status.lua");

/// What a look says.
pub(super) enum Look {
    /// A permit, of a generation of the breaker, and when it was granted by Redis' clock.
    Granted {
        generation: String,
        at: i64,
        /// Whether it is the breaker's probe.
        probes: bool,
    },
    /// Not yet.
    Wait(Wait),
}

/// The scripts over one limiter's keys.
pub(super) struct Scripts {
    redis: ConnectionManager,
    keys: [String; 7],
    settings: Vec<String>,
    looks: Semaphore,
    /// When Redis may be asked again; `None` while it answers.
    lost: Mutex<Option<Instant>>,
    /// Whether it was said that others have stricter limits.
    differs: AtomicBool,
    name: Arc<str>,
}

impl Scripts {
    pub(super) fn new(
        queue: &Queue,
        name: &str,
        prefix: &str,
        channel: &str,
        settings: &LimitSettings,
    ) -> Self {
        let millis = |time: Duration| time.as_millis().to_string();
        Self {
            redis: queue.redis.clone(),
            keys: [
                "state", "calls", "slots", "line", "here", "places", "accounts",
            ]
            .map(|name| format!("{prefix}:{name}")),
            settings: vec![
                settings.requests_per_minute.unwrap_or(0).to_string(),
                settings.tokens_per_minute.unwrap_or(0).to_string(),
                settings.concurrency.max(1).to_string(),
                millis(settings.window()),
                millis(settings.lease.max(Duration::from_millis(3))),
                settings.breaker_failures.to_string(),
                millis(settings.breaker_open),
                settings.breaker_successes.max(1).to_string(),
                channel.to_owned(),
                millis(MEMORY),
            ],
            looks: Semaphore::new(LOOKS),
            lost: Mutex::new(None),
            differs: AtomicBool::new(false),
            name: name.into(),
        }
    }

    /// Waits until another look may begin; a waiter that was called need not.
    pub(super) async fn turn(&self, called: bool) -> Option<SemaphorePermit<'_>> {
        if called {
            return None;
        }
        self.looks.acquire().await.ok()
    }

    /// One look.
    pub(super) async fn acquire(
        &self,
        id: &str,
        ticket: &str,
        tokens: u64,
        left: Duration,
        owner: Owner<'_>,
    ) -> Option<Look> {
        let left = left.as_millis().min(LONGEST_PAUSE.as_millis());
        let arguments = [
            id.to_owned(),
            ticket.to_owned(),
            bounded(tokens),
            left.to_string(),
            owner.name.to_owned(),
            format!("{:.6}", owner.weight.clamp(1e-6, 1e6)),
            NEWCOMER.to_string(),
        ];
        let answer: Vec<i64> = self.run(&ACQUIRE, &arguments).await?;
        if answer.last() == Some(&1) && !self.differs.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                limits = %self.name,
                "another replica has stricter limits (--rpm, --tpm, --model-concurrency); they hold here too"
            );
        }
        Some(match answer[..] {
            [1, generation, at, probes, _] => Look::Granted {
                generation: generation.to_string(),
                at,
                probes: probes == 1,
            },
            [0, reason, wait, stays, ahead, failures, _] => {
                let failures = u32::try_from(failures).unwrap_or(0);
                Look::Wait(Wait {
                    reason: match reason {
                        1 => WaitReason::Requests,
                        2 => WaitReason::Tokens,
                        3 => WaitReason::Concurrency,
                        4 => WaitReason::Paused,
                        5 => WaitReason::BreakerOpen { failures },
                        6 => WaitReason::Probing { failures },
                        _ => WaitReason::Turn,
                    },
                    wait: millis(wait),
                    stays: stays == 1,
                    ahead: usize::try_from(ahead).unwrap_or(0),
                })
            }
            _ => return None,
        })
    }

    /// Tells the end of a call; `None` if Redis took no note of it.
    pub(super) async fn settle(
        &self,
        id: &str,
        reserved: u64,
        end: Option<&CallEnd>,
        generation: &str,
        granted: i64,
    ) -> Option<Settled> {
        let (how, tokens, latency, after) = match end {
            None => ("dropped", reserved, Duration::ZERO, None),
            Some(CallEnd::Answered { tokens, latency }) => ("answered", *tokens, *latency, None),
            Some(CallEnd::Throttled { retry_after }) => {
                ("throttled", reserved, Duration::ZERO, *retry_after)
            }
            Some(CallEnd::Failed) => ("failed", reserved, Duration::ZERO, None),
            Some(CallEnd::Refused) => ("refused", reserved, Duration::ZERO, None),
            Some(CallEnd::Unsent) => ("unsent", 0, Duration::ZERO, None),
        };
        let after = after.filter(|after| !after.is_zero()).map_or_else(
            || "-1".to_owned(),
            |after| {
                let millis = after.min(LONGEST_PAUSE).as_micros().div_ceil(1000);
                millis.to_string()
            },
        );
        let arguments = [
            id.to_owned(),
            bounded(reserved),
            how.to_owned(),
            bounded(tokens),
            latency.as_millis().to_string(),
            after,
            generation.to_owned(),
            granted.to_string(),
        ];
        let answer: Vec<i64> = self.run(&SETTLE, &arguments).await?;
        let number = |at: usize| answer.get(at).copied().unwrap_or(0);
        Some(Settled {
            turned: match number(0) {
                1 => Some(Turned::Opened {
                    failures: u32::try_from(number(1)).unwrap_or(0),
                    wait: millis(number(2)),
                }),
                2 => Some(Turned::Closed),
                _ => None,
            },
            paused: millis(number(3)),
        })
    }

    /// Renews the slots of `ids`, or gives back those that Redis has lost (`add`). Answers those that have none.
    pub(super) async fn renew(&self, ids: &[String], add: bool) -> Option<Vec<String>> {
        let mut arguments = vec![if add { "add" } else { "renew" }.to_owned()];
        arguments.extend_from_slice(ids);
        self.run(&RENEW, &arguments).await
    }

    pub(super) async fn status(&self) -> Option<LimiterStatus> {
        let answer: Vec<i64> = self.run(&STATUS, &[]).await?;
        let number = |at: usize| answer.get(at).copied().unwrap_or(0);
        let count = |at: usize| usize::try_from(number(at)).unwrap_or(0);
        Some(LimiterStatus {
            shared: true,
            breaker: match number(0) {
                0 => Breaker::Closed,
                1 => Breaker::Open {
                    wait: millis(number(1)),
                },
                _ => Breaker::HalfOpen,
            },
            failures: u32::try_from(number(2)).unwrap_or(0),
            paused: millis(number(3)),
            in_flight: count(4),
            limit: count(5),
            waiting: count(6),
            requests: count(7),
            tokens: u64::try_from(number(8)).unwrap_or(0),
        })
    }

    /// One step; `None` if there is no answer, whyever.
    async fn run<T: FromRedisValue>(&self, script: &Script, arguments: &[String]) -> Option<T> {
        if !self.may_ask() {
            return None;
        }
        let answer = match self.once(script, arguments).await {
            Err(error) if is_broken_data(&error) => {
                tracing::warn!(%error, "a limiter's keys in Redis were broken; it starts anew");
                match self.delete().await {
                    Ok(()) => self.once(script, arguments).await,
                    Err(error) => Err(error),
                }
            }
            answer => answer,
        };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                if lost.take().is_some() {
                    tracing::info!("limits are shared through Redis again");
                }
                Some(answer)
            }
            Err(error) => {
                if lost.replace(Instant::now() + REST).is_none() {
                    tracing::warn!(%error, "no limits from Redis; this process keeps to its share until it is back");
                }
                None
            }
        }
    }

    /// While Redis is lost, one asks at each end of a rest; the others go on alone meanwhile.
    fn may_ask(&self) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *lost {
            Some(until) if now < until => false,
            Some(_) => {
                *lost = Some(now + PATIENCE);
                true
            }
            None => true,
        }
    }

    async fn once<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &[String],
    ) -> Result<T, redis::RedisError> {
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        for argument in self.settings.iter().chain(arguments) {
            call.arg(argument);
        }
        let mut redis = self.redis.clone();
        tokio::time::timeout(PATIENCE, call.invoke_async(&mut redis))
            .await
            .map_err(std::io::Error::from)?
    }

    async fn delete(&self) -> Result<(), redis::RedisError> {
        let mut redis = self.redis.clone();
        let mut delete = redis::cmd("DEL");
        delete.arg(&self.keys);
        tokio::time::timeout(PATIENCE, delete.query_async(&mut redis))
            .await
            .map_err(std::io::Error::from)?
    }
}

/// Whether the keys are at fault, and not the server or the way to it. The wording differs between versions.
fn is_broken_data(error: &redis::RedisError) -> bool {
    let text = error.to_string();
    [
        "WRONGTYPE",
        "attempt to",
        "bad argument",
        "not a valid",
        "not an integer",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// Lua's numbers are exact to 2^53, and no limit is near that.
fn bounded(tokens: u64) -> String {
    tokens.min(1 << 50).to_string()
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
