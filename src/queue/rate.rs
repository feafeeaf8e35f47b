//! How many requests an organization may make, over all replicas of the API: a bucket that fills up steadily.
//!
//! Knows Redis and its clock. Must not know who asks for what. Invariants: nobody waits longer than [`PATIENCE`] for
//! Redis, and an error is never the caller's; without Redis a replica lets its share through, by how many replicas asked
//! when Redis was there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use graphmill_jobs::OrganizationId;
use redis::{Script, aio::ConnectionManager};
use uuid::Uuid;

use super::connection::Queue;
use crate::flow::RequestRate;

/// How long a request waits for Redis to say whether it may go on.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long Redis is left alone after it gave no answer.
const REST: Duration = Duration::from_millis(500);
/// For how long a replica counts after its last request.
const COUNTS: Duration = Duration::from_secs(30);
/// Organizations whose bucket a replica keeps; a fuller one is forgotten before an emptier one.
const KEPT: usize = 10_000;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate.lua")));

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// It may go on.
    pub allowed: bool,
    /// Requests that may come at once now.
    pub left: u64,
    /// Until there is one.
    pub wait: Duration,
    /// Until there are all.
    pub full: Duration,
}

/// Counts the requests of organizations; cheap to clone.
#[derive(Clone)]
pub struct RateLimiter(Arc<Inner>);

struct Inner {
    redis: ConnectionManager,
    replica: String,
    alone: Mutex<Alone>,
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RateLimiter(…)")
    }
}

/// What a replica knows by itself.
#[derive(Default)]
struct Alone {
    /// When Redis may be asked again; `None` while it answers.
    lost: Option<Instant>,
    buckets: HashMap<OrganizationId, Bucket>,
}

/// A bucket without Redis: this replica's share.
struct Bucket {
    left: f64,
    at: Instant,
    /// Replicas that asked for the organization when Redis was there.
    replicas: u32,
}

impl RateLimiter {
    /// Counts in the Redis of `queue`.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        Self(Arc::new(Inner {
            redis: queue.redis.clone(),
            replica: Uuid::new_v4().simple().to_string(),
            alone: Mutex::default(),
        }))
    }

    /// Takes one request of the organization's.
    pub async fn take(&self, organization: OrganizationId, rate: RequestRate) -> Taken {
        let is_lost = {
            let alone = self.alone();
            alone.lost.is_some_and(|until| Instant::now() < until)
        };
        if !is_lost {
            let asked = tokio::time::timeout(PATIENCE, self.ask(organization, rate)).await;
            if let Ok(Ok((taken, replicas))) = asked {
                let mut alone = self.alone();
                if alone.lost.take().is_some() {
                    tracing::info!("request rates are shared again");
                }
                alone.note(organization, &taken, replicas);
                return taken;
            }
            let mut alone = self.alone();
            if alone.lost.replace(Instant::now() + REST).is_none() {
                tracing::warn!(
                    "no answer of Redis: each replica lets its share of requests through"
                );
            }
        }
        self.alone().take(organization, rate, Instant::now())
    }

    fn alone(&self) -> MutexGuard<'_, Alone> {
        self.0.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        organization: OrganizationId,
        rate: RequestRate,
    ) -> redis::RedisResult<(Taken, u32)> {
        let name = organization.uuid().simple().to_string();
        let answer: (i64, u64, u64, u64, u32) = TAKE
            .key(format!("graphmill:rate:{{{name}}}"))
            .key(format!("graphmill:rate:{{{name}}}:replicas"))
            .arg(rate.per_second)
            .arg(rate.burst)
            .arg(&self.0.replica)
            .arg(u64::try_from(COUNTS.as_millis()).unwrap_or(u64::MAX))
            .invoke_async(&mut self.0.redis.clone())
            .await?;
        let (allowed, left, wait, full, replicas) = answer;
        let taken = Taken {
            allowed: allowed == 1,
            left,
            wait: Duration::from_micros(wait),
            full: Duration::from_micros(full),
        };
        Ok((taken, replicas))
    }
}

impl Alone {
    /// Remembers what Redis said, so that its loss gives nobody a full bucket.
    fn note(&mut self, organization: OrganizationId, taken: &Taken, replicas: u32) {
        self.make_room(organization);
        let replicas = replicas.max(1);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a burst has seven digits at most"
        )]
        let left = taken.left as f64 / f64::from(replicas);
        let bucket = Bucket {
            left,
            at: Instant::now(),
            replicas,
        };
        self.buckets.insert(organization, bucket);
    }

    fn take(&mut self, organization: OrganizationId, rate: RequestRate, now: Instant) -> Taken {
        self.make_room(organization);
        let share = |number: u32, replicas: u32| f64::from(number) / f64::from(replicas);
        let bucket = self.buckets.entry(organization).or_insert_with(|| Bucket {
            left: f64::from(rate.burst),
            at: now,
            replicas: 1,
        });
        let speed = share(rate.per_second, bucket.replicas);
        // A replica may always let one through, however many there are.
        let most = share(rate.burst, bucket.replicas).max(1.0);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * speed).min(most);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        let until =
            |wanted: f64| Duration::from_secs_f64(((wanted - bucket.left) / speed).max(0.0));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within 0 and the burst"
        )]
        let left = bucket.left as u64;
        Taken {
            allowed,
            left,
            wait: until(1.0),
            full: until(most),
        }
    }

    fn make_room(&mut self, organization: OrganizationId) {
        if self.buckets.len() < KEPT || self.buckets.contains_key(&organization) {
            return;
        }
        let fullest = self
            .buckets
            .iter()
            .max_by(|(_, one), (_, other)| one.left.total_cmp(&other.left))
            .map(|(organization, _)| *organization);
        if let Some(fullest) = fullest {
            self.buckets.remove(&fullest);
        }
    }
}
