//! The routes of batches. Must not know how a batch is worked.
//!
//! Invariant: a submission runs as a task of its own. Whoever waits for it may leave, and it still ends with a seal or
//! with a problem that names the batch.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{self, Path, Query, Request, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Instrument;

use super::{
    State,
    access::{Reads, Writes},
    body::{self, SubmissionBody},
    intake::{self, Checked, Entry},
    problem::Problem,
    receive,
    request::Arrived,
};
use crate::{
    flow::Signal,
    workflow::{self, BatchReport, BatchSignalled, BatchStatus, Submission, SubmitError},
};

/// How long after its arrival a submission is answered, done or not: a little before the request's time is over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(29);
/// How long a submission waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long Postgres may take to begin. A pool tries again for as long as a request may last, and by then nobody could
/// say that nothing was begun.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches in a list: at most, and without a limit.
const MOST_LISTED: i64 = 1000;
const LISTED: i64 = 50;

/// `POST /api/batches`: 201 with the report once all is durable and sealed, or kept open if it says so.
pub(super) async fn submit(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Extension(Arrived(arrived)): Extension<Arrived>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let turn = tokio::time::timeout(TURN_TIMEOUT, shared.permits.acquire());
    let Ok(Ok(_turn)) = turn.await else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many submissions at once: trying again helps",
        ));
    };
    let bytes = receive::json(request, super::body_limit(shared.limits)).await?;
    let parsing = {
        let state = state.clone();
        // Checking many megabytes would keep a thread from answering others.
        tokio::task::spawn_blocking(move || {
            let shared = &state.0;
            let body: SubmissionBody = body::read(&bytes)?;
            drop(bytes);
            let open = body.open.unwrap_or(false);
            intake::check(
                body,
                &shared.extractors,
                shared.limits,
                &shared.ontology,
                &shared.webhooks,
            )
            .map(|checked| (checked, open))
        })
    };
    let (checked, open) = parsing.await.map_err(|error| Problem::bug(&error))??;
    match tokio::time::timeout(BEGIN_TIMEOUT, shared.store.app(organization)).await {
        Ok(begun) => drop(begun?),
        Err(_) => {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Postgres does not answer, and nothing was stored: trying again may help",
            ));
        }
    }
    let name = checked.batch.name.clone();
    let submitted = checked.entries.len() as u64;
    let opened = Arc::new(OnceLock::new());
    let work = write(
        state.clone(),
        organization,
        checked,
        open,
        Arc::clone(&opened),
    )
    .in_current_span();
    let task = shared.submissions.spawn(work);
    let until = arrived + ANSWER_TIMEOUT;
    let id = match tokio::time::timeout_at(until, task).await {
        Ok(Ok(written)) => written?,
        Ok(Err(panic)) => return Err(naming(Problem::bug(&panic), opened.get())),
        Err(_) => {
            let late = Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "the submission takes longer than a request may, and goes on: see what becomes of the batch \
                     `{name}` before sending it again"
                ),
            );
            return Err(naming(late.with("name", name), opened.get()));
        }
    };
    let mut report = report(&state, organization, id).await.map_err(|problem| {
        problem
            .with("batch_id", id.to_string())
            .with("sealed", !open)
    })?;
    // The counts follow the batch's events, which nobody may have folded yet; this one is known already.
    report.documents.total = report.documents.total.max(submitted);
    let location = [(header::LOCATION, format!("/api/batches/{id}"))];
    Ok((StatusCode::CREATED, location, Json(report)).into_response())
}

/// Writes a submission down. Says which batch it is as soon as there is one.
async fn write(
    state: State,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    opened: Arc<OnceLock<BatchId>>,
) -> Result<BatchId, Problem> {
    let written = async {
        let batch = &checked.batch;
        let mut submission = Submission::open(&state.0.store, organization, batch).await?;
        let _ = opened.set(submission.batch());
        if let Some(address) = &checked.notify {
            submission.notify(address).await?;
        }
        for entry in checked.entries {
            match entry {
                Entry::Document(document) => submission.add(document).await?,
                Entry::Refused { name, failure } => submission.refuse(name, failure).await?,
            }
        }
        let id = submission.batch();
        submission.finish(open).await?;
        Ok::<_, SubmitError>(id)
    };
    match written.await {
        Ok(id) => {
            tracing::info!(batch.id = %id, "a batch was submitted");
            Ok(id)
        }
        Err(error) => Err(naming(submit_problem(&error), opened.get())),
    }
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

/// What a list may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<i64>,
}

/// `GET /api/batches?limit=`: the newest batches.
pub(super) async fn list(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let limit = query
        .ok()
        .map(|Query(query)| query.limit.unwrap_or(LISTED))
        .filter(|limit| (1..=MOST_LISTED).contains(limit))
        .ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the one parameter is `limit`, a whole number within 1 to {MOST_LISTED}"),
            )
        })?;
    let batches = workflow::list(&state.0.store, organization, limit).await?;
    Ok(Json(json!({ "batches": batches })))
}

/// `GET /api/batches/{id or name}`: the report, how far the batch is, and how the news of its end stands.
pub(super) async fn show(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
) -> Result<Json<BatchStatus>, Problem> {
    let id = find(&state, organization, &wanted).await?;
    let status = workflow::status(&state.0.store, organization, id).await?;
    Ok(Json(status.ok_or_else(unknown)?))
}

/// `POST /api/batches/{id or name}/cancel`: 202 with the report; what is in work ends at its next unit. Cancelling
/// again changes nothing; 409 if the batch has ended.
pub(super) async fn cancel(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    let id = find(&state, organization, &wanted).await?;
    let store = &state.0.store;
    match workflow::signal_batch(store, organization, id, Signal::Cancel).await? {
        BatchSignalled::Done => tracing::info!(batch.id = %id, "a batch is being cancelled"),
        BatchSignalled::Nothing | BatchSignalled::Retrying(_) => {}
        BatchSignalled::Ended => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "the batch has ended: there is nothing to cancel",
            )
            .with("batch_id", id.to_string()));
        }
    }
    Ok((
        StatusCode::ACCEPTED,
        Json(report(&state, organization, id).await?),
    ))
}

pub(super) async fn find(
    state: &State,
    organization: OrganizationId,
    wanted: &str,
) -> Result<BatchId, Problem> {
    // No batch has such a name, and Postgres takes no NUL.
    let can_be = !wanted.chars().any(char::is_control);
    let found = if can_be {
        workflow::find_batch(&state.0.store, organization, wanted).await?
    } else {
        None
    };
    found.ok_or_else(unknown)
}

pub(super) async fn report(
    state: &State,
    organization: OrganizationId,
    id: BatchId,
) -> Result<BatchReport, Problem> {
    workflow::report(&state.0.store, organization, id, 0)
        .await?
        .ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no batch has this id or name: GET /api/batches lists them",
    )
}
