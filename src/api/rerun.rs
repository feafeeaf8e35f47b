//! The route that works an ended batch again from a stage on, or says what that would take.
//!
//! Must not know how a batch is worked. Another prompt can't be given here: the extractor that would check it is not
//! this room's business.

use std::sync::Arc;

use axum::{
    Json,
    extract::{self, Path, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use graphmill_jobs::BatchId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Writes,
    batches::{find, unknown},
    body,
    problem::Problem,
    receive,
    signals::SMALL,
    submit::submit_problem,
};
use crate::{
    flow::Stage,
    graph::Ontology,
    workflow::{self, Forecast, Rerun, RerunError, Rerunning},
};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(rerun))
}

/// What is to be worked again, and how.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct RerunBody {
    /// The first stage that is worked otherwise: `mentions`, `entities`, `relations`, `assemble` or `resolve`.
    from: String,
    /// What may be found from then on: `server` (what new batches get) or `built-in`; without it, what it had.
    ontology: Option<String>,
    /// Work the stage again even if nothing changes for it.
    #[serde(default)]
    force: bool,
    /// Say what would be done and cost, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What is worked again.
#[derive(Serialize, ToSchema)]
struct RerunReport {
    /// The batch.
    #[schema(value_type = String)]
    batch_id: BatchId,
    /// The first stage that is worked otherwise.
    from: String,
    /// Whether there was anything to do.
    changes: bool,
    /// Documents that go through their stages; null if what had been cut off goes on.
    documents: Option<u64>,
    /// The generation that they go through them in.
    generation: Option<i32>,
}

/// Works an ended batch again from a stage on; what was found before with the same input is not worked again.
#[utoipa::path(post, path = "/api/batches/{batch}/rerun", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), request_body = RerunBody, responses(
    (status = 200, description = "What it would take (`dry_run`)", body = Forecast),
    (status = 202, description = "It is worked again", body = RerunReport),
    (status = 400, description = "The body is not JSON"),
    (status = 404, description = "There is no such batch"),
    (status = 408, description = "The body did not arrive in time"),
    (status = 409, description = "It has not ended"),
    (status = 413, description = "The body is too large"),
    (status = 415, description = "The body is not JSON"),
    (status = 422, description = "The body has another shape, or the stage has nothing that would change"),
))]
async fn rerun(
    extract::State(state): extract::State<State>,
    Writes(organization): Writes,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let body: RerunBody = body::read(&receive::json(request, SMALL).await?)?;
    let wanted_stage = body.from.parse::<Stage>().ok();
    let from = wanted_stage.filter(|stage| *stage != Stage::Chunk);
    let from = from.ok_or_else(|| {
        unfit(
            "from",
            "one of mentions, entities, relations, assemble and resolve",
        )
    })?;
    let ontology = match body.ontology.as_deref() {
        None => None,
        Some("server") => Some(Arc::clone(&state.0.ontology)),
        Some("built-in") => Some(Arc::new(
            Ontology::builtin().map_err(|error| Problem::bug(&error))?,
        )),
        Some(_) => return Err(unfit("ontology", "`server` or `built-in`")),
    };
    let id = find(&state, organization, &wanted).await?;
    let rerun = Rerun {
        from,
        ontology,
        prompt: None,
        force: body.force,
    };
    let store = state.0.store.clone();
    let told = |error: RerunError| problem(&error).with("batch_id", id.to_string());
    if body.dry_run {
        let name = workflow::extractor_of(&store, organization, id).await?;
        let name = name.ok_or_else(unknown)?;
        let foresights = &state.0.foresights;
        let Some((_, foresight)) = foresights.iter().find(|(known, _)| *known == name) else {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("the batch's extractor `{name}` is not in this server"),
            ));
        };
        let forecast = workflow::forecast(&store, organization, id, &rerun, foresight)
            .await
            .map_err(told)?;
        return Ok(Json(forecast).into_response());
    }
    // It may take more than one transaction, and is to be whole whoever waits for it.
    let work = async move { workflow::rerun(&store, organization, id, &rerun).await };
    let done = state.0.submissions.spawn(work).await;
    let done = done.map_err(|panic| Problem::bug(&panic))?.map_err(told)?;
    tracing::info!(batch.id = %id, %from, "a batch is worked again");
    let (documents, generation) = match done {
        Rerunning::Documents {
            documents,
            generation,
        } => (Some(documents), Some(generation)),
        Rerunning::Nothing | Rerunning::GoesOn => (None, None),
    };
    let report = RerunReport {
        batch_id: id,
        from: from.as_str().to_owned(),
        changes: done != Rerunning::Nothing,
        documents,
        generation,
    };
    Ok((StatusCode::ACCEPTED, Json(report)).into_response())
}

fn problem(error: &RerunError) -> Problem {
    match error {
        RerunError::Change(error) => submit_problem(error),
        RerunError::Unknown => unknown(),
        RerunError::NoRecipe(_) | RerunError::Chunks => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
    }
}

fn unfit(place: &str, wanted: &str) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`{place}` is not what it should be: {wanted}"),
    )
    .with("place", place)
}
