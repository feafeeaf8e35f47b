//! apalis' board: pages on which people see queues, tasks and workers, on a listener of their own.
//!
//! Knows the board's pages and routes, and what a backend must tell them ([`backend`]). Must not know how work is done.
//! Whoever looks is known by an API key, as the password of HTTP Basic ([`access`]); everything shown is of the key's
//! organization, and comes from Postgres, which knows what Redis can't: history, and whose a job is. Workers alone are
//! everybody's.
//!
//! The board's program is compiled for `/` and `/api/v1`, so it can't stand among the routes of the HTTP API.
//!
//! Invariants: nothing is answered before its key was checked; nothing can be changed here; a backend is made for one
//! organization and for one request, so that no answer can cross.

mod access;
mod backend;
mod count;
mod page;
mod task;

pub use access::Access;

use std::{
    convert::Infallible,
    fmt::Write as _,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use apalis_board::axum::{
    framework::{ApiBuilder, RegisterRoute},
    sse::TracingBroadcaster,
};
use apalis_core::layers::Service;
use axum::{
    Extension, Router,
    extract::{Request, State as Shared},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures_util::{StreamExt, stream};
use graphmill_jobs::OrganizationId;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use self::{access::Caller, backend::StageOfOne};
use crate::{flow::Stage, store::Store};

/// How long a page may take to be made.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open requests have to end after a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Requests that are answered at once; further ones are told to come again.
const REQUESTS: usize = 64;
/// Pages that are open at once: each holds a connection.
const PAGES: usize = 256;
/// How often an open page is told that the server is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Rows of a page, at most. **Source:** the board asks for 15.
const ROWS: u32 = 100;
/// Rows to which pages reach, from the first on.
const REACH: u32 = 10_000;

/// What every page needs; cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Needs>);

struct Needs {
    store: Store,
    access: Access,
    requests: Semaphore,
    pages: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl State {
    /// The state of a board over this store. Who may look is `access`'s to say.
    #[must_use]
    pub fn new(store: Store, access: Access) -> Self {
        Self(Arc::new(Needs {
            store,
            access,
            requests: Semaphore::new(REQUESTS),
            pages: Arc::new(Semaphore::new(PAGES)),
            stopping: CancellationToken::new(),
        }))
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
    let stopping = state.0.stopping.clone();
    let told = stopping.clone();
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        stop.await;
        told.cancel();
    });
    let too_long = async {
        stopping.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = std::future::IntoFuture::into_future(serving) => served,
        () = too_long => Ok(()),
    }
}

fn router(state: State) -> Router {
    Router::new()
        .route("/api/v1/events", get(events))
        .fallback(other)
        .layer(middleware::from_fn(to_look_at))
        .layer(middleware::from_fn_with_state(state.clone(), access::admit))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(state.clone(), one_of_many))
        .layer(middleware::map_response(page::secured))
        .with_state(state)
}

/// Lets a request in if there is room.
async fn one_of_many(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    match state.0.requests.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "1")],
            "too many requests at once: trying again helps\n",
        )
            .into_response(),
    }
}

/// Lets in who only looks.
async fn to_look_at(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "GET, HEAD")],
        "the board only shows: documents come in through the HTTP API (POST /api/batches), and nothing can be enqueued \
         or changed here\n",
    )
        .into_response()
}

/// The board's own routes over the caller's organization alone, and its files. Not a route: what a route reads out of a
/// path is there for the board's routes too, which take it for theirs.
async fn other(
    Shared(state): Shared<State>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Response {
    if !request.uri().path().starts_with("/api/v1/") {
        return page::file(request.uri().path());
    }
    tidy(&mut request);
    let mut routes = of_organization(&state.0.store, caller.organization());
    routes
        .call(request)
        .await
        .unwrap_or_else(|never: Infallible| match never {})
}

/// Made anew for each request: it costs some dozen routes, and can't mix up two organizations.
fn of_organization(store: &Store, organization: OrganizationId) -> Router {
    let routes = Stage::ALL
        .into_iter()
        .fold(ApiBuilder::new(Router::new()), |routes, stage| {
            let backend = StageOfOne::new(store.clone(), organization, stage);
            routes.register(stage.as_str(), backend)
        });
    // The board's own events are the process' log, everybody's: nothing is ever sent there.
    let log: Arc<Mutex<TracingBroadcaster>> = TracingBroadcaster::create();
    Router::new()
        .nest("/api/v1", routes.build())
        .layer(Extension(log))
}

/// What an open page listens to: it shows by that whether the server is there. Nothing is told, for what the board would
/// show there is the log of the process, which is everybody's.
async fn events(Shared(state): Shared<State>, Extension(caller): Extension<Caller>) -> Response {
    let Ok(room) = Arc::clone(&state.0.pages).try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many open pages: trying again may help\n",
        )
            .into_response();
    };
    let stopping = state.0.stopping.clone();
    let over = async move {
        let _room = room;
        tokio::select! {
            () = stopping.cancelled() => {}
            () = state.0.access.gone(&caller) => {}
        }
    };
    let silence = stream::pending::<Result<Event, Infallible>>().take_until(Box::pin(over));
    Sse::new(silence)
        .keep_alive(KeepAlive::new().interval(HEARTBEAT))
        .into_response()
}

/// Leaves of a query what the board's routes know, within bounds: they would take any number.
fn tidy(request: &mut Request) {
    let query = request.uri().query().unwrap_or_default();
    let of = |name: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    };
    let number = |name| of(name).and_then(|value| value.parse::<u32>().ok());
    let rows = number("page_size").unwrap_or(ROWS).clamp(1, ROWS);
    let page = number("page").unwrap_or(1).clamp(1, REACH);
    let mut path = request.uri().path().to_owned();
    let _ = write!(path, "?page={page}&page_size={rows}");
    if let Some(status) = of("status").filter(|status| task::status(status).is_some()) {
        let _ = write!(path, "&status={status}");
    }
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
}
