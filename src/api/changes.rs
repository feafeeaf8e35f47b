//! The routes that change what a batch holds. Must not know how a batch is worked, nor when it takes a change.
//!
//! Each is a task of its own: whoever waits for it may leave, and what was sent whole is written whole. All of them may
//! be repeated, and do nothing twice.

use axum::{
    Json,
    extract::{self, Path, Request},
    http::StatusCode,
};
use serde::Serialize;
use tracing::Instrument;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Writes,
    batches::{find, report},
    body::{self, AdditionBody},
    problem::Problem,
    receive,
    submit::submit_problem,
};
use crate::workflow::{self, BatchReport, FailureReport, RemoveError, Submission};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(add))
        .routes(routes!(remove))
        .routes(routes!(seal))
}

/// What became of documents that were added.
#[derive(Serialize, ToSchema)]
struct AddedReport {
    /// The batch.
    #[schema(value_type = String)]
    batch_id: graphmill_jobs::BatchId,
    /// Documents that it did not have.
    added: u64,
    /// Documents that had another text.
    replaced: u64,
    /// Documents that it had.
    unchanged: u64,
    /// Documents that were refused, and why.
    refused: Vec<FailureReport>,
}

/// What became of a document that was removed.
#[derive(Serialize, ToSchema)]
struct RemovedReport {
    /// The batch.
    #[schema(value_type = String)]
    batch_id: graphmill_jobs::BatchId,
    /// 1, or 0 if it was removed before.
    removed: u64,
}

/// Adds documents to a batch. One that has ended is opened again for them, in its next generation.
#[utoipa::path(post, path = "/api/batches/{batch}/documents", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), request_body = AdditionBody, responses(
    (status = 200, description = "What became of them", body = AddedReport),
    (status = 400, description = "The body is not JSON"),
    (status = 404, description = "There is no such batch"),
    (status = 408, description = "The body did not arrive in time"),
    (status = 409, description = "It is sealed and has not ended"),
    (status = 413, description = "The body is too large"),
    (status = 415, description = "The body is not JSON"),
    (status = 422, description = "The body has another shape"),
))]
async fn add(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Json<AddedReport>, Problem> {
    let shared = &state.0;
    let limit = super::body_limit(shared.limits);
    let announced = receive::announced(request.headers());
    let _turn = receive::turn(&shared.permits, announced, limit).await?;
    let id = find(&state, organization, &wanted).await?;
    let bytes = receive::json(request, limit).await?;
    let limits = shared.limits;
    // Checking many megabytes would keep a thread from answering others.
    let parsing = tokio::task::spawn_blocking(move || {
        let body: AdditionBody = body::read(&bytes)?;
        drop(bytes);
        Ok::<_, Problem>(workflow::entries(body.documents, limits))
    });
    let entries = parsing.await.map_err(|error| Problem::bug(&error))??;
    let store = shared.store.clone();
    let work = async move {
        let mut submission = Submission::to(&store, organization, id).await?;
        for entry in entries {
            submission.take(entry).await?;
        }
        submission.finish(false).await
    };
    let task = shared.submissions.spawn(work.in_current_span());
    let changed = task.await.map_err(|panic| Problem::bug(&panic))?;
    let changed =
        changed.map_err(|error| submit_problem(&error).with("batch_id", id.to_string()))?;
    tracing::info!(batch.id = %id, added = changed.added, replaced = changed.replaced, "documents were added");
    Ok(Json(AddedReport {
        batch_id: id,
        added: changed.added,
        replaced: changed.replaced,
        unchanged: changed.unchanged,
        refused: changed.refused.into_iter().map(Into::into).collect(),
    }))
}

/// Removes a document from a batch, with all that was found in it. One that has ended is opened again for that, in
/// its next generation.
#[utoipa::path(delete, path = "/api/batches/{batch}/documents/{document}", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name"),
           ("document" = String, Path, description = "The document's id, the caller's or graphmill's")), responses(
    (status = 200, description = "It is removed", body = RemovedReport),
    (status = 404, description = "There is no such batch or document"),
    (status = 409, description = "The batch is sealed and has not ended"),
))]
async fn remove(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path((wanted, document)): Path<(String, String)>,
) -> Result<Json<RemovedReport>, Problem> {
    let id = find(&state, organization, &wanted).await?;
    let unknown = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "the batch has no document with this id",
        )
        .with("batch_id", id.to_string())
    };
    // No document has such an id, and Postgres takes no NUL.
    if document.chars().any(char::is_control) {
        return Err(unknown());
    }
    let store = state.0.store.clone();
    let work = async move {
        workflow::remove_documents(&store, organization, id, std::slice::from_ref(&document)).await
    };
    let task = state.0.submissions.spawn(work.in_current_span());
    match task.await.map_err(|panic| Problem::bug(&panic))? {
        Ok(removed) => Ok(Json(RemovedReport {
            batch_id: id,
            removed: removed.removed,
        })),
        Err(RemoveError::Unknown(_)) => Err(unknown()),
        Err(RemoveError::Change(error)) => {
            Err(submit_problem(&error).with("batch_id", id.to_string()))
        }
    }
}

/// Says that no more documents will come to a batch that was kept open.
#[utoipa::path(post, path = "/api/batches/{batch}/seal", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 202, description = "It is sealed", body = BatchReport),
    (status = 404, description = "There is no such batch"),
    (status = 409, description = "It is sealed already"),
))]
async fn seal(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
) -> Result<(StatusCode, Json<BatchReport>), Problem> {
    let id = find(&state, organization, &wanted).await?;
    workflow::seal_batch(&state.0.store, organization, id)
        .await
        .map_err(|error| submit_problem(&error).with("batch_id", id.to_string()))?;
    tracing::info!(batch.id = %id, "a batch was sealed");
    Ok((
        StatusCode::ACCEPTED,
        Json(report(&state, organization, id).await?),
    ))
}
