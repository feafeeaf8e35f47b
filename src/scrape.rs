//! What Prometheus scrapes: a listener of its own with one route, `/metrics`.
//!
//! This process' counters are read from memory. What concerns the whole fleet is read from Postgres and Redis with the
//! scrape, on every replica alike. Invariants: an answer comes within [`PATIENCE`], whoever is away, and says who is;
//! a server is asked by this process once in [`FRESH`] at most, and one question at a time, however often somebody
//! scrapes. Nobody is asked for a key, and nothing is told that belongs to an organization.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{
    calls::Access,
    flow::{BatchStateName, Stage},
    metrics::{self, Held, Model, Seen, Waiting},
    queue::{Queue, QueueError, Submissions},
    store::{self, Census, Store},
};

/// How long a scrape waits for a server. **Source:** Prometheus gives up after 10 s unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what a server said is told again. **Source:** ours: below every usual scrape interval, and more than a crowd
/// of scrapers may cost.
const FRESH: Duration = Duration::from_secs(5);

/// Of whom it is told.
pub struct Sources {
    /// The process' pools, and the rows of the fleet.
    pub store: Store,
    /// The windows of the fleet.
    pub queue: Queue,
    /// The limits of models, if this process calls any.
    pub calls: Option<Access>,
}

/// The listener; it ends with this value.
pub struct Scraping {
    _serving: AbortOnDropHandle<()>,
}

/// Answers scrapes from now on.
///
/// # Panics
/// Outside of a runtime.
#[must_use]
pub fn serve(listener: TcpListener, sources: Sources) -> Scraping {
    let desk = Arc::new(Desk {
        sources,
        asked: Mutex::default(),
    });
    let router = Router::new().route("/metrics", get(page)).with_state(desk);
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(error = &error as &dyn Error, "metrics are served no more");
        }
    });
    Scraping {
        _serving: AbortOnDropHandle::new(serving),
    }
}

struct Desk {
    sources: Sources,
    asked: Mutex<Asked>,
}

/// What was asked of the servers, and when. Who holds the lock writes the page, so that no page is half of one answer
/// and half of another.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    postgres: Question<Seen>,
    redis: Question<Waiting>,
    limits: Question<Vec<(Model, Held)>>,
}

/// A question that is under way. It is not broken off: a connection would be left in the middle of its answer.
struct Question<T>(Option<JoinHandle<Option<T>>>);

impl<T> Default for Question<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Question<T> {
    /// The answer, if there is one in time.
    async fn ask(
        &mut self,
        question: impl Future<Output = Option<T>> + Send + 'static,
    ) -> Option<T> {
        // An answer that came after its scrape may be of any age.
        let under_way = self.0.take().filter(|asked| !asked.is_finished());
        let mut asked = under_way.unwrap_or_else(|| tokio::spawn(question));
        if let Ok(answer) = timeout(PATIENCE, &mut asked).await {
            return answer.ok().flatten();
        }
        self.0 = Some(asked);
        None
    }
}

async fn page(State(desk): State<Arc<Desk>>) -> Response {
    let mut asked = desk.asked.lock().await;
    if asked.at.is_none_or(|at| at.elapsed() >= FRESH) {
        look(&desk.sources, &mut asked).await;
        asked.at = Some(Instant::now());
    }
    let metrics = metrics::get();
    for pool in desk.sources.store.pools() {
        let (name, used, idle, most) = (pool.name, pool.used, pool.idle, pool.most);
        metrics.process.pool(name, used, idle, most);
    }
    metrics.process.look();
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.write()).into_response()
}

async fn look(sources: &Sources, asked: &mut Asked) {
    let (store, queue) = (sources.store.clone(), sources.queue.clone());
    let calls = sources.calls.clone();
    let postgres = async move { answered("Postgres", store::census(&store).await) };
    let redis = async move { answered("Redis", windows(&queue).await) };
    let limits = async move {
        match calls {
            Some(calls) => Some(calls.limits().await),
            None => None,
        }
    };
    let (census, waiting, limits) = tokio::join!(
        asked
            .postgres
            .ask(async { postgres.await.as_ref().map(seen) }),
        asked.redis.ask(redis),
        asked.limits.ask(limits),
    );
    let metrics = metrics::get();
    metrics.fleet.postgres(census.as_ref());
    metrics.fleet.redis(waiting.as_ref());
    metrics.models.limits(&limits.unwrap_or_default());
}

/// The answer; that there is none, the page says.
fn answered<T>(server: &str, answer: Result<T, impl Error + 'static>) -> Option<T> {
    answer
        .inspect_err(|error| {
            debug!(error = error as &dyn Error, server, "a scrape does without");
        })
        .ok()
}

fn seen(census: &Census) -> Seen {
    // States that have no batch are told too; those of a newer version are not.
    let open = BatchStateName::ALL
        .into_iter()
        .filter(|state| !state.has_ended());
    let mut batches: Vec<(&'static str, i64)> = open
        .map(|state| {
            let state = state.as_str();
            let found = census.batches.iter().find(|(name, _)| name == state);
            (state, found.map_or(0, |(_, batches)| *batches))
        })
        .collect();
    batches.push(("paused", census.paused_batches));
    Seen {
        documents: [
            ("waiting", census.waiting),
            ("processing", census.processing),
            ("paused", census.paused),
            ("failed", census.failed),
        ],
        batches,
        leases: census.leases,
        expired: census.expired,
        expired_seconds: census.expired_seconds,
        idle_seconds: census.idle_seconds,
        outbox: census.outbox,
        outbox_seconds: census.outbox_seconds,
        workers: census.workers,
    }
}

async fn windows(queue: &Queue) -> Result<Waiting, QueueError> {
    let (depths, slots) = (queue.depths().await?, queue.live_slots().await?);
    let submissions = Submissions::new(queue).depth().await?;
    let set_aside = queue.set_aside_count().await?;
    let stages = Stage::ALL.map(Stage::as_str).into_iter();
    Ok(Waiting {
        stages: stages
            .zip(depths)
            .zip(slots)
            .map(|((stage, depth), slots)| (stage, depth, slots))
            .collect(),
        submissions,
        set_aside,
    })
}
