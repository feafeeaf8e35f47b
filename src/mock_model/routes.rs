//! The routes, and how an answer leaves: at once, byte by byte, in part, or not at all.
//!
//! Knows HTTP. Must not know what an answer says: [`Desk`] does.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use futures_util::stream;
use serde_json::json;

use super::{
    desk::{Arrival, Desk, Endpoint, Plan, Reply},
    failure,
    script::{Cut, Script, Then},
    wire::Scissors,
};

/// The header by which a call is joined to the bill.
const CALL: &str = "x-graphmill-call";
/// The largest body that is taken, in bytes.
const BODY_LIMIT: usize = 64 << 20;

type Shared = State<Arc<Desk>>;

pub(super) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/bill", get(bill))
        .route("/stats", get(stats))
        .route("/script", post(script))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(desk)
}

async fn models() -> Response {
    let model = json!({"id": "mock", "object": "model", "created": 0, "owned_by": "graphmill"});
    Json(json!({"object": "list", "data": [model]})).into_response()
}

async fn bill(State(desk): Shared) -> Response {
    let lines: Result<Vec<String>, _> = desk
        .bill()
        .iter()
        .map(|entry| serde_json::to_string(entry).map(|line| line + "\n"))
        .collect();
    match lines {
        Ok(lines) => {
            let kind = HeaderValue::from_static("application/x-ndjson");
            ([(header::CONTENT_TYPE, kind)], lines.concat()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn stats(State(desk): Shared) -> Response {
    Json(desk.stats()).into_response()
}

async fn script(State(desk): Shared, text: String) -> Response {
    match Script::read(&text) {
        Ok(script) => {
            desk.play(script);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map_or(String::new(), |cause| format!(": {cause}"));
            (StatusCode::BAD_REQUEST, format!("{error}{cause}\n")).into_response()
        }
    }
}

async fn chat(
    State(desk): Shared,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    serve(desk, scissors, Endpoint::Chat, &headers, &body).await
}

async fn embeddings(
    State(desk): Shared,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    serve(desk, scissors, Endpoint::Embeddings, &headers, &body).await
}

/// Counts a request as in flight until it is dropped: at the end of its answer, or when its client leaves.
struct Visit(Arc<Desk>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.left();
    }
}

async fn serve(
    desk: Arc<Desk>,
    scissors: Scissors,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let arrival = Arrival {
        endpoint,
        call: text(CALL).map(str::to_owned),
        authorization: text("authorization"),
        body,
    };
    let plan = match desk.receive(&arrival) {
        Ok(plan) => plan,
        Err(error) => return no_bill(&error),
    };
    let visit = Visit(desk.clone());
    let then = plan.then.clone();
    // In a task of its own: a client that leaves takes this function with it, but not the work that it will pay for.
    let (done, result) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let worked = work(&desk, plan, || done.is_closed()).await;
        let _ = done.send(worked);
    });
    match result.await {
        Ok(Ok(response)) => deliver(response, &then, scissors, visit).await,
        Ok(Err(error)) => no_bill(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn no_bill(error: &io::Error) -> Response {
    let message = format!("the bill can't be written: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
}

/// Takes its time, and puts the end on the bill.
async fn work(desk: &Desk, mut plan: Plan, client_left: impl Fn() -> bool) -> io::Result<Response> {
    tokio::time::sleep(plan.latency).await;
    let response = match &plan.reply {
        Reply::Good(body) => {
            let mut response = Response::new(Body::from(body.to_string()));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Reply::Bad(failed) => {
            let now = i64::try_from(desk.unix().as_millis()).unwrap_or(i64::MAX);
            let now = DateTime::<Utc>::from_timestamp_millis(now).unwrap_or_default();
            failure::response(failed, now)
        }
    };
    let headless = matches!(plan.then, Then::Cut(Cut::BeforeHeaders) | Then::Hang);
    let status = (!headless).then(|| response.status().as_u16());
    desk.answered(&mut plan, status, client_left())?;
    Ok(response)
}

/// Sends an answer in the way that the rule has it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other behaviour has its place elsewhere"
)]
async fn deliver(response: Response, then: &Then, scissors: Scissors, visit: Visit) -> Response {
    match *then {
        Then::Hang => {
            std::future::pending::<()>().await;
            response
        }
        Then::Cut(Cut::BeforeHeaders) => {
            drop(visit);
            scissors.cut();
            response
        }
        Then::Cut(Cut::AfterHeaders) => cut(response, scissors, visit, 0).await,
        Then::Cut(Cut::MidBody) => cut(response, scissors, visit, 2).await,
        Then::Dribble(pause) => dribble(response, pause, visit).await,
        _ => {
            // Before the client has it: its next request may come at once, and is not at the same time as this one.
            drop(visit);
            response
        }
    }
}

/// The bytes of a body, and the response without them.
async fn taken(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (parts, body) = response.into_parts();
    // It was made here, from a string.
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    (parts, bytes)
}

/// Sends the head and the part of the body that `share` is (a half: 2; nothing: 0), then cuts.
async fn cut(response: Response, scissors: Scissors, visit: Visit, share: usize) -> Response {
    let (mut parts, bytes) = taken(response).await;
    parts
        .headers
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    let part = bytes.slice(..bytes.len().checked_div(share).unwrap_or(0));
    let chunks = stream::unfold(Some((part, visit)), move |left| {
        let scissors = scissors.clone();
        async move {
            let (part, visit) = left?;
            if !part.is_empty() {
                return Some((Ok(part), Some((Bytes::new(), visit))));
            }
            // What was sent so far leaves while the body lets it wait.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            drop(visit);
            scissors.cut();
            Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
        }
    });
    Response::from_parts(parts, Body::from_stream(chunks))
}

/// Sends a body byte by byte.
async fn dribble(response: Response, pause: Duration, visit: Visit) -> Response {
    let (mut parts, bytes) = taken(response).await;
    parts
        .headers
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    let chunks = stream::unfold(
        (bytes, Some(visit)),
        move |(mut bytes, mut visit)| async move {
            if bytes.is_empty() {
                return None;
            }
            tokio::time::sleep(pause).await;
            let byte = bytes.split_to(1);
            if bytes.is_empty() {
                visit = None;
            }
            Some((Ok::<_, Infallible>(byte), (bytes, visit)))
        },
    );
    Response::from_parts(parts, Body::from_stream(chunks))
}
