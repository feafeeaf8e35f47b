//! The route that submits a batch: as JSON, as JSON Lines, as files.
//!
//! Invariants: a submission runs as a task of its own: whoever waits for it may leave, and it still ends with a seal, or
//! with a problem that names the batch. What is sent again with the same `Idempotency-Key` is the same batch, and gets
//! the first answer.

mod streamed;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{self, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use graphmill_jobs::{BatchId, OrganizationId};
use tracing::Instrument;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Writes,
    asked,
    batches::report,
    body::{self, BatchOptions, SubmissionBody},
    problem::Problem,
    receive,
    request::Arrived,
    trace, upload,
};
use crate::workflow::{
    self, BatchReport, Checked, Entry, Filed, HandInError, HandedIn, KEY_CHARACTERS, Parcel,
    SubmitError, WholeRequest, is_key,
};

/// How long after its arrival a submission in JSON is answered, done or not: a little before the request's time is
/// over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(29);
/// How long Postgres may take to begin. A pool tries again for as long as a request may last, and by then nobody could
/// say that nothing was begun.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(submit))
}

/// Submits a batch. The answer comes when all is durable and the batch is sealed, or kept open if it says so.
///
/// Documents come as one JSON object, as JSON Lines (one document a line: `id`, `text`, and perhaps `title`,
/// `source_uri`, `metadata`), or as the files of a form. Lines and files are taken in as they arrive, whatever their
/// number; each that can't be taken is refused by name, and the others go on. With lines and files the batch's options
/// stand in the query. A body that breaks off cancels its batch, unless it has an `Idempotency-Key`: then the same
/// request goes on with it. A key is known for a day.
#[utoipa::path(post, path = "/api/batches", tag = "batches",
    params(BatchOptions,
        ("idempotency-key" = Option<String>, Header, description = "1 to 255 visible characters, made up by the caller: \
          the same key with the same body is the same batch"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context that the batch's work hangs below; one \
          that is not valid is ignored")),
    request_body(content(
        (SubmissionBody = "application/json"), (String = "application/x-ndjson"), (Object = "multipart/form-data"))),
    responses(
    (status = 201, description = "It is durable", body = BatchReport,
        headers(("location" = String), ("idempotency-replayed" = String), ("traceparent" = String))),
    (status = 400, description = "The body is not JSON, breaks off, or the query can't be read"),
    (status = 408, description = "The body did not arrive in time"),
    (status = 409, description = "The name is taken, or the batch was cancelled meanwhile"),
    (status = 413, description = "The body is too large"),
    (status = 415, description = "The body is none of the three"),
    (status = 422, description = "The body has another shape, there are no documents, or the key was sent with another body"),
    (status = 504, description = "It takes longer than a request may, and goes on"),
))]
async fn submit(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Extension(Arrived(arrived)): Extension<Arrived>,
    request: Request,
) -> Result<Response, Problem> {
    let key = match key(request.headers()) {
        Ok(key) => key,
        Err(refused) => return Err(receive::refused(request, refused).await),
    };
    match upload::kind(request.headers()) {
        None => json(&state, organization, arrived, request, key).await,
        Some(kind) => streamed::submit(&state, organization, request, kind, key).await,
    }
}

/// The key, if there is one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match key.to_str().ok().filter(|key| is_key(key)) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("`Idempotency-Key` has 1 to {KEY_CHARACTERS} visible characters"),
        )
        .with("place", "idempotency-key")),
    }
}

async fn json(
    state: &State,
    organization: OrganizationId,
    arrived: tokio::time::Instant,
    request: Request,
    key: Option<String>,
) -> Result<Response, Problem> {
    let shared = &state.0;
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        let refused = asked::unfit("query", "with JSON, the batch's options stand in the body");
        return Err(receive::refused(request, refused).await);
    }
    let traceparent = trace::parent(request.headers());
    let limit = super::body_limit(shared.limits);
    let announced = receive::announced(request.headers());
    let _turn = receive::turn(&shared.permits, announced, limit).await?;
    let bytes = receive::json(request, limit).await?;
    let parsing = {
        let state = state.clone();
        let read = move || {
            let shared = &state.0;
            let request = "POST /api/batches application/json";
            let sent = key.map(|key| WholeRequest::new(key, request, &bytes));
            let body: SubmissionBody = body::read(&bytes)?;
            drop(bytes);
            let open = body.open.unwrap_or(false);
            workflow::check(
                body,
                &shared.extractors,
                shared.limits,
                &shared.ontology,
                &shared.webhooks,
                &shared.models,
                false,
            )
            .map(|checked| (checked, open, sent))
            .map_err(Problem::from)
        };
        // Checking many megabytes would keep a thread from answering others.
        tokio::task::spawn_blocking(read)
    };
    let (mut checked, open, sent) = parsing.await.map_err(|error| Problem::bug(&error))??;
    checked.batch.traceparent = traceparent;
    let (checked, sent) = match small(checked, sent, open) {
        Err(alone) => *alone,
        Ok(parcel) => match hand_in(state, organization, arrived, parcel).await? {
            Handed::Answered(response) => return Ok(response),
            Handed::KeyIsKnown(parcel) => opened_up(*parcel),
        },
    };
    begin(state, organization).await?;
    let name = checked.batch.name.clone();
    let submitted = checked.entries.len() as u64;
    let opened = Arc::new(OnceLock::new());
    let key = sent.as_ref().map(|sent| sent.once.key.clone());
    let work = write(
        state.clone(),
        organization,
        checked,
        open,
        Arc::clone(&opened),
        sent,
    );
    let task = shared.submissions.spawn(work.in_current_span());
    let until = arrived + ANSWER_TIMEOUT;
    let ended = match tokio::time::timeout_at(until, task).await {
        Ok(Ok(ended)) => ended?,
        Ok(Err(panic)) => return Err(naming(Problem::bug(&panic), opened.get())),
        Err(_) => return Err(naming(late(&name), opened.get())),
    };
    answer(state, organization, ended, submitted, open, key).await
}

/// The submission for the desk, if it is one of those that many are written of at once.
fn small(
    checked: Checked,
    sent: Option<WholeRequest>,
    open: bool,
) -> Result<Parcel, Box<(Checked, Option<WholeRequest>)>> {
    let is_document = |entry: &Entry| matches!(entry, Entry::Document(_));
    if open || !checked.entries.iter().all(is_document) {
        return Err(Box::new((checked, sent)));
    }
    let documents = checked.entries.into_iter().filter_map(|entry| match entry {
        Entry::Document(document) => Some(document),
        Entry::Refused { .. } => None,
    });
    let parcel = Parcel {
        documents: documents.collect(),
        batch: checked.batch,
        notify: checked.notify,
        sent,
    };
    if parcel.is_small() {
        return Ok(parcel);
    }
    Err(Box::new(opened_up(parcel)))
}

fn opened_up(parcel: Parcel) -> (Checked, Option<WholeRequest>) {
    let checked = Checked {
        entries: parcel.documents.into_iter().map(Entry::Document).collect(),
        batch: parcel.batch,
        notify: parcel.notify,
    };
    (checked, parcel.sent)
}

/// What came of handing in.
enum Handed {
    Answered(Response),
    /// It was sent before, or is being sent.
    KeyIsKnown(Box<Parcel>),
}

/// A small submission, written with others that come at the same time.
async fn hand_in(
    state: &State,
    organization: OrganizationId,
    arrived: tokio::time::Instant,
    parcel: Parcel,
) -> Result<Handed, Problem> {
    let name = parcel.batch.name.clone();
    let handed_in = state.0.desk.submit(organization, parcel);
    let (filed, traced) = match tokio::time::timeout_at(arrived + ANSWER_TIMEOUT, handed_in).await {
        Err(_) => return Err(late(&name)),
        Ok(None) => return Err(Problem::of(StatusCode::INTERNAL_SERVER_ERROR)),
        Ok(Some((filed, traced))) => (filed.map_err(|error| submit_problem(&error))?, traced),
    };
    match filed {
        Filed::KeyIsKnown(parcel) => Ok(Handed::KeyIsKnown(parcel)),
        Filed::Written(report) => {
            let id = report.batch_id;
            tracing::info!(batch.id = %id, "a batch was submitted");
            let location = [(header::LOCATION, format!("/api/batches/{id}"))];
            // As a repeat is answered, to the byte.
            let object = serde_json::to_value(&report).map_err(|error| Problem::bug(&error))?;
            let mut response = (StatusCode::CREATED, location, Json(object)).into_response();
            trace::say(&mut response, traced);
            Ok(Handed::Answered(response))
        }
    }
}

fn late(name: &str) -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        format!(
            "the submission takes longer than a request may, and goes on: see what becomes of the batch `{name}` \
             before sending it again"
        ),
    )
    .with("name", name)
}

/// Whether Postgres answers, before anything is begun.
async fn begin(state: &State, organization: OrganizationId) -> Result<(), Problem> {
    match tokio::time::timeout(BEGIN_TIMEOUT, state.0.store.app(organization)).await {
        Ok(begun) => {
            drop(begun?);
            Ok(())
        }
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Postgres does not answer, and nothing was stored: trying again may help",
        )),
    }
}

/// Writes a submission down. Says which batch it is as soon as there is one.
async fn write(
    state: State,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    opened: Arc<OnceLock<BatchId>>,
    sent: Option<WholeRequest>,
) -> Result<HandedIn, Problem> {
    let store = &state.0.store;
    let sent = sent.as_ref();
    match workflow::hand_in(store, organization, checked, open, sent, &opened).await {
        Ok(handed_in) => Ok(handed_in),
        Err(HandInError::AnotherBody) => Err(another_body()),
        Err(HandInError::Submit(error)) => Err(naming(submit_problem(&error), opened.get())),
    }
}

/// What is answered in the end; under a key, what was answered first.
async fn answer(
    state: &State,
    organization: OrganizationId,
    ended: HandedIn,
    submitted: u64,
    open: bool,
    key: Option<String>,
) -> Result<Response, Problem> {
    let id = ended.batch;
    let object = if let Some(answer) = ended.answer {
        answer
    } else {
        let named = |problem: Problem| {
            problem
                .with("batch_id", id.to_string())
                .with("sealed", !open)
        };
        let mut report = report(state, organization, id).await.map_err(named)?;
        // The counts follow the batch's events, which nobody may have folded yet; this one is known already.
        report.documents.total = report.documents.total.max(submitted);
        let report = serde_json::to_value(&report).map_err(|error| Problem::bug(&error))?;
        match key {
            None => report,
            Some(key) => workflow::keep_answer(&state.0.store, organization, &key, report).await?,
        }
    };
    let location = [(header::LOCATION, format!("/api/batches/{id}"))];
    let mut response = (StatusCode::CREATED, location, Json(object)).into_response();
    trace::say(&mut response, ended.trace);
    if ended.again {
        let replayed = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, replayed);
    }
    Ok(response)
}

pub(super) fn submit_problem(error: &SubmitError) -> Problem {
    match error {
        SubmitError::Store(error) => Problem::store(error),
        SubmitError::Settings(_) => Problem::bug(error),
        SubmitError::Illegal(refused) => Problem::new(StatusCode::CONFLICT, refused.to_string()),
        SubmitError::Sealed | SubmitError::Refused => Problem::new(
            StatusCode::CONFLICT,
            "the batch was cancelled while its documents were being written",
        ),
    }
}

fn another_body() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "this `Idempotency-Key` was sent with another request: a new request needs a new key",
    )
    .with("place", "idempotency-key")
}

/// The same problem with the batch that is left open, if there is one.
fn naming(problem: Problem, opened: Option<&BatchId>) -> Problem {
    match opened {
        Some(id) => {
            tracing::warn!(batch.id = %id, "a submission did not end within its request");
            problem
                .with("batch_id", id.to_string())
                .with("cancel", format!("/api/batches/{id}/cancel"))
        }
        None => problem,
    }
}
