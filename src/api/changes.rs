//! The routes that change what a batch holds. Must not know how a batch is worked, nor when it takes a change.
//!
//! Each is a task of its own: whoever waits for it may leave, and what was sent whole is written whole. All of them may
//! be repeated, and do nothing twice.

use axum::{
    Json,
    extract::{self, Path, Request},
    http::StatusCode,
};
use serde_json::{Value, json};
use tracing::Instrument;

use super::{
    State,
    access::Writes,
    batches::{find, report, submit_problem},
    body::{self, AdditionBody},
    intake::{self, Entry},
    problem::Problem,
    receive,
};
use crate::workflow::{self, BatchReport, RemoveError, Submission};

/// `POST /api/batches/{id or name}/documents`: 200 with what became of the documents. A batch that has ended is opened
/// again for them, and sealed; 409 if it is sealed and has not ended.
pub(super) async fn add(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let shared = &state.0;
    let Ok(_turn) = shared.permits.acquire().await else {
        return Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE));
    };
    let id = find(&state, organization, &wanted).await?;
    let bytes = receive::json(request, super::body_limit(shared.limits)).await?;
    let limits = shared.limits;
    // Checking many megabytes would keep a thread from answering others.
    let parsing = tokio::task::spawn_blocking(move || {
        let body: AdditionBody = body::read(&bytes)?;
        drop(bytes);
        Ok::<_, Problem>(intake::entries(body.documents, limits))
    });
    let entries = parsing.await.map_err(|error| Problem::bug(&error))??;
    let store = shared.store.clone();
    let work = async move {
        let mut submission = Submission::to(&store, organization, id).await?;
        for entry in entries {
            match entry {
                Entry::Document(document) => submission.add(document).await?,
                Entry::Refused { name, failure } => submission.refuse(name, failure).await?,
            }
        }
        submission.finish(false).await
    };
    let task = shared.submissions.spawn(work.in_current_span());
    let changed = task.await.map_err(|panic| Problem::bug(&panic))?;
    let changed =
        changed.map_err(|error| submit_problem(&error).with("batch_id", id.to_string()))?;
    tracing::info!(batch.id = %id, added = changed.added, replaced = changed.replaced, "documents were added");
    let refused: Vec<Value> = changed
        .refused
        .iter()
        .map(|one| {
            json!({
                "document": one.external_id,
                "code": one.failure.code.as_str(),
                "message": one.failure.message,
            })
        })
        .collect();
    Ok(Json(json!({
        "batch_id": id,
        "added": changed.added,
        "replaced": changed.replaced,
        "unchanged": changed.unchanged,
        "refused": refused,
    })))
}

/// `DELETE /api/batches/{id or name}/documents/{id}`: 200 with how many were removed now, 0 if it was removed before; 404 if
/// there is no such document.
pub(super) async fn remove(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path((wanted, document)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
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
        Ok(removed) => Ok(Json(json!({ "batch_id": id, "removed": removed.removed }))),
        Err(RemoveError::Unknown(_)) => Err(unknown()),
        Err(RemoveError::Change(error)) => {
            Err(submit_problem(&error).with("batch_id", id.to_string()))
        }
    }
}

/// `POST /api/batches/{id or name}/seal`: 202 with the report; 409 if it is sealed already.
pub(super) async fn seal(
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
