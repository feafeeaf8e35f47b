//! The HTTP API: batches are submitted, changed, listed, reported and cancelled here.
//!
//! Knows requests, answers and how an error is told ([`problem`]). Must not know how a batch is worked: it runs no
//! stage, rings no bell and names no extractor beyond its name; it writes rows through `workflow` and reads them.
//!
//! Who asks is known by a key, and with it the organization ([`access`]): no route is reached without one.
//!
//! Invariants: a 2xx to a submission means that its rows are durable and the batch is sealed, or kept open as asked. A submission that has
//! begun is not cut off by its client's leaving, by a time-out or by a graceful stop. Every error is an RFC 9457
//! problem, and none quotes a document.

mod access;
mod batches;
mod body;
mod changes;
mod health;
mod intake;
mod problem;
mod receive;
mod request;
mod stream;
mod stream_token;

pub use access::Access;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{delete, get, post},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

pub use self::stream::StreamCounts;

use crate::{
    graph::Ontology,
    notify::Address,
    pipeline::{Limits, Settings},
    queue::Queue,
    store::Store,
    workflow::Feed,
};

/// How long a request may take before it is answered without a result.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests have to end after a stop: what a request may take, and a little to say so.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Submissions that are read and written at once. Each holds its whole body in memory, twice for a moment; the rest
/// wait.
const SUBMISSIONS: usize = 8;
/// The least that a body may have, in bytes, however small a document must be.
const LEAST_BODY_LIMIT: u64 = 64 << 20;

/// What every route needs; cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

/// Who is told of the ends of batches.
#[derive(Debug, Clone, Default)]
pub struct Webhooks {
    /// Where to, if a batch names nobody.
    pub otherwise: Option<Address>,
    /// There is a secret: without one, workers could not sign what they send.
    pub signs: bool,
}

struct Shared {
    store: Store,
    queue: Queue,
    extractors: Vec<(String, Settings)>,
    limits: Limits,
    ontology: Arc<Ontology>,
    webhooks: Webhooks,
    permits: Semaphore,
    submissions: TaskTracker,
    feed: Feed,
    streams: stream::Tallies,
    access: Access,
}

impl State {
    /// The state of a server: batches may name one of `extractors`, each with the settings of its batches, and
    /// documents must keep to `limits`. All get this `ontology`; their ends are told as `webhooks` says. Who may ask is
    /// `access`'s to say.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(
        store: Store,
        queue: Queue,
        extractors: Vec<(String, Settings)>,
        limits: Limits,
        ontology: Arc<Ontology>,
        webhooks: Webhooks,
        access: Access,
    ) -> Self {
        Self(Arc::new(Shared {
            feed: Feed::new(store.clone()),
            streams: stream::Tallies::default(),
            store,
            queue,
            extractors,
            limits,
            ontology,
            webhooks,
            permits: Semaphore::new(SUBMISSIONS),
            submissions: TaskTracker::new(),
            access,
        }))
    }

    /// What became of the streams of this process.
    #[must_use]
    pub fn streams(&self) -> StreamCounts {
        self.0.streams.read()
    }
}

/// Serves until `stop` is over, then lets open requests end, for 35 seconds at most.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    state: State,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    let submissions = state.0.submissions.clone();
    let feed = state.0.feed.clone();
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        stop.await;
        tracing::info!("stopping: open requests may end");
        told.cancel();
        // A stream has no end of its own: its client goes on at another replica.
        feed.stop();
    });
    let too_long = async {
        stopping.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    let served = tokio::select! {
        served = std::future::IntoFuture::into_future(serving) => served,
        // A client that never ends its request must not keep the process.
        () = too_long => Ok(()),
    };
    submissions.close();
    if tokio::time::timeout(STOP_TIMEOUT, submissions.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            "stopped with submissions that were not sealed: cancel them, or send them again"
        );
    }
    served
}

fn router(state: State) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/api/batches", get(batches::list).post(batches::submit))
        .route("/api/batches/{batch}", get(batches::show))
        .route("/api/batches/{batch}/cancel", post(batches::cancel))
        .route("/api/batches/{batch}/seal", post(changes::seal))
        .route("/api/batches/{batch}/documents", post(changes::add))
        .route(
            "/api/batches/{batch}/documents/{document}",
            delete(changes::remove),
        )
        .merge(stream::routes())
        .route("/api/stream-tokens", post(stream_token::create))
        .fallback(async || problem::Problem::of(StatusCode::NOT_FOUND))
        // Innermost, so that whatever a route or a fallback answers, its caller was let in.
        .layer(middleware::from_fn_with_state(state.clone(), access::admit))
        .layer(CatchPanicLayer::custom(request::panicked))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(middleware::from_fn(request::settle))
        .with_state(state)
}

/// The most bytes that a body may have: room for a few of the largest documents.
fn body_limit(limits: Limits) -> usize {
    let limit = limits
        .document_bytes
        .saturating_mul(4)
        .max(LEAST_BODY_LIMIT);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
