//! What surrounds every request: its id, its span, its line in the log, and the one place where problems are written
//! out.
//!
//! Must not know any route. Invariant: every answer carries `x-request-id`, and every answer of 400 and above is a
//! problem, whoever made it: a route, a layer or the router.

use std::any::Any;

use axum::{
    extract::{self, MatchedPath, Request},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::{State, problem::Problem, trace};
use crate::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most characters of an id that a caller may give; a longer one is replaced.
const ID_CHARACTERS: usize = 128;

/// When a request arrived, for routes that must answer in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived(pub(super) Instant);

/// Surrounds a request.
pub(super) async fn settle(mut request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    request.extensions_mut().insert(Arrived(arrived));
    let id = id(&request);
    let header = HeaderValue::from_str(&id).ok();
    let instance = request.uri().path().to_owned();
    let method = request.method().clone();
    // The template, not the path: a batch's name is its owner's.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    let span = tracing::info_span!("request", request.id = id, trace_id = tracing::field::Empty);
    if let Some(context) = trace::context(request.headers()) {
        span.record("trace_id", context.trace_id());
    }
    async {
        let mut response = next.run(request).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let problem = response.extensions_mut().remove::<Problem>();
            let problem = problem.unwrap_or_else(|| Problem::of(status));
            response = problem.render(response, &instance, &id);
        }
        if let Some(header) = header {
            response.headers_mut().insert(REQUEST_ID, header);
        }
        let (status, took) = (status.as_u16(), arrived.elapsed());
        let service = &metrics::get().service;
        service.answered(route, method.as_str(), status, took);
        let duration_ms = took.as_millis();
        if matches!(route, "/healthz" | "/readyz") {
            tracing::debug!(%method, route, status, duration_ms, "answered");
        } else {
            tracing::info!(%method, route, status, duration_ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// Lets a request in if there is room; one whose answer is a stream makes room once that has begun.
pub(super) async fn one_of_many(
    extract::State(state): extract::State<State>,
    request: Request,
    next: Next,
) -> Response {
    match state.0.requests.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests at once: trying again helps",
        )
        .into_response(),
    }
}

/// The caller's id for the request if it can be shown, else a new one.
fn id(request: &Request) -> String {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|given| given.to_str().ok());
    match given {
        Some(given)
            if (1..=ID_CHARACTERS).contains(&given.len())
                && given.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            given.to_owned()
        }
        Some(_) | None => Uuid::new_v4().simple().to_string(),
    }
}

/// The answer of a route that panicked. The message may quote a document and is dropped; the panic's place is in the
/// log.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::of(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}
