//! The routes that signal a batch: cancel, pause, resume, retry. They only ask; whoever works it, on whichever replica,
//! feels it within a second.
//!
//! Asking for what is so already changes nothing and is answered like the first time; what can't be any more is 409.

use axum::{
    Json,
    extract::{self, Path, Request},
    http::StatusCode,
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Writes,
    batches::{find, report},
    body,
    problem::Problem,
    receive, spending,
};
use crate::{
    flow::Signal,
    store::Caps,
    workflow::{self, BatchReport, BatchSignalled},
};

/// The most bytes of a small body.
pub(super) const SMALL: usize = 64 << 10;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(cancel))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(retry))
}

/// Stops a batch: nothing more of it is begun, and what is in work ends at its next unit.
#[utoipa::path(post, path = "/api/batches/{batch}/cancel", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 202, description = "It is being stopped", body = BatchReport),
    (status = 404, description = "There is no such batch"),
    (status = 409, description = "It has ended"),
))]
async fn cancel(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    let id = find(&state, organization, &wanted).await?;
    let ended = "the batch has ended: there is nothing to cancel";
    ask(&state, organization, id, Signal::Cancel, ended).await
}

/// Lets a batch wait: nothing more of it is begun, and what is in work stops at its next unit.
#[utoipa::path(post, path = "/api/batches/{batch}/pause", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 202, description = "It waits", body = BatchReport),
    (status = 404, description = "There is no such batch"),
    (status = 409, description = "It has ended"),
))]
async fn pause(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    let id = find(&state, organization, &wanted).await?;
    let ended = "the batch has ended: there is nothing to pause";
    ask(&state, organization, id, Signal::Pause, ended).await
}

/// The caps that a batch goes on with; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ResumeBody {
    /// What its calls of models may cost in all, in US dollars.
    max_cost: Option<f64>,
    /// How many tokens they may take in all.
    max_tokens: Option<u64>,
}

/// Lets a paused batch go on, if need be with new caps.
#[utoipa::path(post, path = "/api/batches/{batch}/resume", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")),
    request_body(content = inline(Option<ResumeBody>), description = "New caps; it may be left out"), responses(
    (status = 202, description = "It goes on", body = BatchReport),
    (status = 400, description = "The body can't be read"),
    (status = 404, description = "There is no such batch"),
    (status = 409, description = "It has ended"),
    (status = 413, description = "The body is too large"),
    (status = 415, description = "The body is not JSON"),
    (status = 422, description = "A cap is not what it should be, or the batch calls no model"),
))]
async fn resume(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    let body: ResumeBody = match receive::json_if_any(request, SMALL).await? {
        Some(bytes) => body::read(&bytes)?,
        None => ResumeBody::default(),
    };
    let id = find(&state, organization, &wanted).await?;
    let caps = spending::caps(body.max_cost, body.max_tokens)?;
    if caps != Caps::default()
        && !workflow::raise_caps(&state.0.store, organization, id, caps).await?
    {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the batch calls no model: it has no budget",
        )
        .with("batch_id", id.to_string()));
    }
    let ended = "the batch has ended: a retry tries again what failed";
    ask(&state, organization, id, Signal::Resume, ended).await
}

/// What is tried again.
#[derive(Serialize, ToSchema)]
struct Retried {
    /// Documents that get another try.
    retried: u64,
    /// The batch.
    #[serde(flatten)]
    batch: BatchReport,
}

/// Tries again what failed. While the batch runs, documents that wait for their next try come at once; once it has
/// ended, those that were given up, stopped or left partial are worked again in its next generation.
#[utoipa::path(post, path = "/api/batches/{batch}/retry", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 202, description = "They are tried again; what is done is not done again", body = inline(Retried)),
    (status = 404, description = "There is no such batch"),
    (status = 409, description = "There is nothing to retry"),
))]
async fn retry(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<Retried>), Problem> {
    let id = find(&state, organization, &wanted).await?;
    let store = state.0.store.clone();
    // It may take more than one transaction, and is to be whole whoever waits for it.
    let work = state.0.submissions.spawn(async move {
        workflow::signal_batch(&store, organization, id, Signal::Retry).await
    });
    match work.await.map_err(|panic| Problem::bug(&panic))?? {
        BatchSignalled::Retrying(retried) => {
            tracing::info!(batch.id = %id, retried, "a batch is retried");
            let batch = report(&state, organization, id).await?;
            Ok((StatusCode::ACCEPTED, Json(Retried { retried, batch })))
        }
        BatchSignalled::Done | BatchSignalled::Ended | BatchSignalled::Nothing => Err(
            Problem::new(StatusCode::CONFLICT, "there is nothing to retry")
                .with("batch_id", id.to_string()),
        ),
    }
}

async fn ask(
    state: &State,
    organization: OrganizationId,
    id: BatchId,
    signal: Signal,
    ended: &str,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    match workflow::signal_batch(&state.0.store, organization, id, signal).await? {
        BatchSignalled::Done => tracing::info!(batch.id = %id, %signal, "a batch was signalled"),
        BatchSignalled::Nothing | BatchSignalled::Retrying(_) => {}
        BatchSignalled::Ended => {
            return Err(Problem::new(StatusCode::CONFLICT, ended).with("batch_id", id.to_string()));
        }
    }
    let report = report(state, organization, id).await?;
    Ok((StatusCode::ACCEPTED, Json(report)))
}
