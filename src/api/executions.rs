//! The routes of single executions: looking at one, and signalling it.

use axum::{
    Json,
    extract::{self, Path},
    http::StatusCode,
};
use graphmill_jobs::{OrganizationId, WorkflowExecutionId};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::{Reads, Writes},
    problem::Problem,
};
use crate::{
    flow::Signal,
    workflow::{History, SignalReport, WorkflowService},
};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(cancel))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(retry))
}

/// An execution with every attempt at its stages, its units and what was asked of it.
#[utoipa::path(get, path = "/api/executions/{execution}", tag = "executions",
    params(("execution" = String, Path, description = "Its id")), responses(
    (status = 200, description = "The execution", body = History),
    (status = 404, description = "There is no such execution"),
))]
async fn show(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
) -> Result<Json<History>, Problem> {
    let id = wanted.parse().map_err(|_| unknown())?;
    let service = WorkflowService::new(state.0.store.clone(), organization);
    Ok(Json(service.history(id).await?.ok_or_else(unknown)?))
}

/// Stops an execution, calls in flight too.
#[utoipa::path(post, path = "/api/executions/{execution}/cancel", tag = "executions",
    params(("execution" = String, Path, description = "Its id")), responses(
    (status = 202, description = "It is asked; `outcome` is null until its worker has answered", body = SignalReport),
    (status = 404, description = "There is no such execution"),
    (status = 409, description = "It has ended"),
))]
async fn cancel(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<SignalReport>), Problem> {
    ask(&state, organization, &wanted, Signal::Cancel).await
}

/// Lets an execution wait; what is in work stops at its next unit.
#[utoipa::path(post, path = "/api/executions/{execution}/pause", tag = "executions",
    params(("execution" = String, Path, description = "Its id")), responses(
    (status = 202, description = "It is asked; `outcome` is null until its worker has answered", body = SignalReport),
    (status = 404, description = "There is no such execution"),
    (status = 409, description = "It has ended"),
))]
async fn pause(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<SignalReport>), Problem> {
    ask(&state, organization, &wanted, Signal::Pause).await
}

/// Lets a paused execution go on.
#[utoipa::path(post, path = "/api/executions/{execution}/resume", tag = "executions",
    params(("execution" = String, Path, description = "Its id")), responses(
    (status = 202, description = "It goes on", body = SignalReport),
    (status = 404, description = "There is no such execution"),
    (status = 409, description = "It is not paused, or has ended"),
))]
async fn resume(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<SignalReport>), Problem> {
    ask(&state, organization, &wanted, Signal::Resume).await
}

/// Tries again what failed, now. One that has ended is retried once its batch has ended.
#[utoipa::path(post, path = "/api/executions/{execution}/retry", tag = "executions",
    params(("execution" = String, Path, description = "Its id")), responses(
    (status = 202, description = "It is tried again; what is done is not done again", body = SignalReport),
    (status = 404, description = "There is no such execution"),
    (status = 409, description = "It is in work or completed, or its batch has not ended"),
))]
async fn retry(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<SignalReport>), Problem> {
    ask(&state, organization, &wanted, Signal::Retry).await
}

async fn ask(
    state: &State,
    organization: OrganizationId,
    wanted: &str,
    signal: Signal,
) -> Result<(StatusCode, Json<SignalReport>), Problem> {
    let id: WorkflowExecutionId = wanted.parse().map_err(|_| unknown())?;
    let service = WorkflowService::new(state.0.store.clone(), organization);
    let sent = service.signal(id, signal).await?.ok_or_else(unknown)?;
    if sent.outcome.as_deref() == Some("too_late") {
        let why = match signal {
            Signal::Cancel | Signal::Pause => "too late: it has ended",
            Signal::Resume => "there is nothing to resume: it is not paused, or has ended",
            Signal::Retry => {
                "there is nothing to retry: it is in work or completed; one that has ended is retried once its batch \
                 has ended"
            }
        };
        return Err(Problem::new(StatusCode::CONFLICT, why).with("execution_id", id.to_string()));
    }
    tracing::info!(execution.id = %id, %signal, "an execution was signalled");
    Ok((StatusCode::ACCEPTED, Json(sent)))
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no execution has this id: GET /api/batches/{batch}/executions lists them",
    )
}
