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
mod asked;
mod batches;
mod body;
mod changes;
mod cors;
mod docs;
mod executions;
mod export;
mod graph;
mod health;
mod intake;
mod problem;
mod receive;
mod request;
mod rerun;
mod signals;
mod spending;
mod stream;
mod stream_token;
mod submit;
mod tag;
mod trace;
mod upload;

pub use access::Access;

use std::{future::Future, sync::Arc, time::Duration};

use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use cors::{BadOrigin, Origin};

pub use self::{spending::ModelDefaults, stream::StreamCounts};

use crate::{
    graph::Ontology,
    metrics,
    notify::Address,
    pipeline::{Foresight, Limits, Settings},
    queue::Queue,
    store::Store,
    workflow::{Desk, Feed},
};

/// How long a request may take before it is answered without a result.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests have to end after a stop: what a request may take, and a little to say so.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Bodies of the greatest size that are held at once, twice for a moment each; of small ones many more. The rest wait.
const BODIES: usize = 8;
/// Submissions that are taken in as they arrive, at once; each holds some megabytes.
const STREAMS: usize = 16;
/// Requests that are answered at once; further ones are told to come again.
const REQUESTS: usize = 1024;
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

/// What the surroundings let a server take and say.
pub struct Surroundings {
    /// What says of each extractor what a re-run would take.
    pub foresights: Vec<(String, Foresight)>,
    /// Origins of web pages that may ask; none without it.
    pub cors_origins: Vec<Origin>,
    /// The most bytes of a body that is taken in as it arrives.
    pub upload_bytes: u64,
    /// What models cost and batches may spend, where they don't say.
    pub models: ModelDefaults,
}

struct Shared {
    store: Store,
    queue: Queue,
    extractors: Vec<(String, Settings)>,
    limits: Limits,
    ontology: Arc<Ontology>,
    webhooks: Webhooks,
    permits: Semaphore,
    desk: Desk,
    foresights: Vec<(String, Foresight)>,
    streams: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    upload_bytes: u64,
    models: ModelDefaults,
    cors_origins: Vec<Origin>,
    submissions: TaskTracker,
    feed: Feed,
    tallies: stream::Tallies,
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
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another thing, and there is one caller"
    )]
    pub fn new(
        store: Store,
        queue: Queue,
        extractors: Vec<(String, Settings)>,
        limits: Limits,
        ontology: Arc<Ontology>,
        webhooks: Webhooks,
        surroundings: Surroundings,
        access: Access,
    ) -> Self {
        Self(Arc::new(Shared {
            feed: Feed::new(store.clone()),
            tallies: stream::Tallies::default(),
            desk: Desk::open(store.clone()),
            store,
            queue,
            extractors,
            limits,
            ontology,
            webhooks,
            permits: receive::permits(BODIES, body_limit(limits)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            requests: Arc::new(Semaphore::new(REQUESTS)),
            foresights: surroundings.foresights,
            upload_bytes: surroundings.upload_bytes,
            models: surroundings.models,
            cors_origins: surroundings.cors_origins,
            submissions: TaskTracker::new(),
            access,
        }))
    }

    /// What became of the streams of this process.
    #[must_use]
    pub fn streams(&self) -> StreamCounts {
        self.0.tallies.read()
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
    metrics::get().service.begin();
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    let submissions = state.0.submissions.clone();
    let feed = state.0.feed.clone();
    // Made once: without this each connection would have routes of its own, 60 KB of them.
    let service = router(state).into_make_service();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
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

/// Every route with what it says of itself: what is served and what is documented is one list.
fn documented() -> OpenApiRouter<State> {
    let timely = OpenApiRouter::new()
        .merge(batches::routes())
        .merge(changes::routes())
        .merge(signals::routes())
        .merge(rerun::routes())
        .merge(executions::routes())
        .merge(export::routes())
        .merge(graph::routes())
        .merge(health::routes())
        .merge(docs::routes())
        .merge(stream_token::routes())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ));
    // These see to their time themselves: a body may be long in coming.
    OpenApiRouter::with_openapi(docs::Above::openapi())
        .merge(timely)
        .merge(submit::routes())
        .merge(stream::routes())
}

fn router(state: State) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .fallback(async || problem::Problem::of(StatusCode::NOT_FOUND))
        // Innermost, so that whatever a route or a fallback answers, its caller was let in.
        .layer(middleware::from_fn_with_state(state.clone(), access::admit))
        .layer(CatchPanicLayer::custom(request::panicked))
        // Each route has limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(
            state.clone(),
            request::one_of_many,
        ))
        .layer(middleware::from_fn(request::settle))
        .layer(cors::layer(&state.0.cors_origins))
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
