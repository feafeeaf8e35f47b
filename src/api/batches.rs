//! The routes that read batches: what there is, how far it is, what it has called and spent. Must not know how a batch
//! is worked.

use axum::{
    Json,
    extract::{self, Path},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use graphmill_jobs::{BatchId, OrganizationId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Reads,
    asked::{self, Asked},
    problem::Problem,
    tag,
};
use crate::{
    flow::{BatchStateName, ExecutionStatus},
    workflow::{
        self, BatchReport, BatchStatus, CallReport, CostReport, ExecutionFilter, ExecutionReport,
    },
};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(executions))
        .routes(routes!(calls))
        .routes(routes!(cost))
}

/// Which batches are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only batches in this state, for example `Completed`.
    state: Option<String>,
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A page of batches.
#[derive(Serialize, ToSchema)]
struct BatchPage {
    /// The batches, newest first.
    batches: Vec<BatchReport>,
    /// Where the next page begins, if there may be one. A page with `state` may be short and still have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The batches, newest first.
#[utoipa::path(get, path = "/api/batches", tag = "batches", params(ListQuery), responses(
    (status = 200, description = "A page of them", body = BatchPage),
    (status = 400, description = "The query can't be read"),
))]
async fn list(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<BatchPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let wanted = query
        .state
        .map(|state| {
            let known = BatchStateName::ALL;
            known
                .into_iter()
                .find(|known| known.as_str() == state)
                .ok_or_else(|| {
                    let known = known.map(BatchStateName::as_str);
                    asked::unfit("state", &format!("one of {}", known.join(", ")))
                })
        })
        .transpose()?;
    let before = asked::after(query.after.as_deref(), |after| after.parse().ok())?;
    let store = &state.0.store;
    let page = workflow::batch_page(store, organization, wanted, before, limit).await?;
    Ok(Json(BatchPage {
        batches: page.items,
        next: page.next.map(|id| id.to_string()),
    }))
}

/// A batch: what became of its documents, and how far it is.
///
/// With `If-None-Match` 304 if nothing has changed.
#[utoipa::path(get, path = "/api/batches/{batch}", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 200, description = "The batch", body = BatchStatus, headers(("etag" = String))),
    (status = 304, description = "It is what the caller has"),
    (status = 404, description = "There is no such batch"),
))]
async fn show(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = find(&state, organization, &wanted).await?;
    let status = workflow::status(&state.0.store, organization, id).await?;
    tag::json(&headers, &status.ok_or_else(unknown)?)
}

/// Which executions are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExecutionsQuery {
    /// Only those that stand there: `queued`, `processing`, `retry`, `failed`, `completed`, `abandoned` or `cancelled`.
    status: Option<String>,
    /// Only that of the document with this id.
    document: Option<String>,
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A page of executions.
#[derive(Serialize, ToSchema)]
struct ExecutionPage {
    /// The executions, by id; of a document that was retried only the newest.
    executions: Vec<ExecutionReport>,
    /// Where the next page begins, if there may be one. A page with `status` may be short and still have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The executions of a batch: one for each document, and its resolution.
#[utoipa::path(get, path = "/api/batches/{batch}/executions", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name"), ExecutionsQuery), responses(
    (status = 200, description = "A page of them", body = ExecutionPage),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such batch"),
))]
async fn executions(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
    Asked(query): Asked<ExecutionsQuery>,
) -> Result<Json<ExecutionPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let filter = ExecutionFilter {
        status: asked::given::<ExecutionStatus>(
            "status",
            query.status.as_deref(),
            "one of queued, processing, retry, failed, completed, abandoned, cancelled",
        )?,
        document: asked::text("document", query.document.as_deref())?,
    };
    let after = asked::after(query.after.as_deref(), |after| after.parse().ok())?;
    let id = find(&state, organization, &wanted).await?;
    let store = &state.0.store;
    let page = workflow::execution_page(store, organization, id, filter, after, limit).await?;
    Ok(Json(ExecutionPage {
        executions: page.items,
        next: page.next.map(|id| id.to_string()),
    }))
}

/// Which page is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A page of the ledger.
#[derive(Serialize, ToSchema)]
struct CallPage {
    /// The calls, in the order in which they were begun.
    calls: Vec<CallReport>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The ledger of a batch: every call of a model that was made for it.
#[utoipa::path(get, path = "/api/batches/{batch}/calls", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name"), PageQuery), responses(
    (status = 200, description = "A page of it", body = CallPage),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such batch"),
))]
async fn calls(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
    Asked(query): Asked<PageQuery>,
) -> Result<Json<CallPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let after = asked::after(query.after.as_deref(), |after| after.parse().ok())?;
    let id = find(&state, organization, &wanted).await?;
    let page = workflow::call_page(&state.0.store, organization, id, after, limit).await?;
    Ok(Json(CallPage {
        calls: page.items,
        next: page.next.map(|id| id.to_string()),
    }))
}

/// What a batch may spend and has spent.
#[utoipa::path(get, path = "/api/batches/{batch}/cost", tag = "batches",
    params(("batch" = String, Path, description = "Its id or name")), responses(
    (status = 200, description = "All zero, if it calls no model", body = CostReport),
    (status = 404, description = "There is no such batch"),
))]
async fn cost(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
) -> Result<Json<CostReport>, Problem> {
    let id = find(&state, organization, &wanted).await?;
    let cost = workflow::cost(&state.0.store, organization, id).await?;
    Ok(Json(cost.ok_or_else(unknown)?))
}

pub(super) async fn find(
    state: &State,
    organization: OrganizationId,
    wanted: &str,
) -> Result<BatchId, Problem> {
    let found = workflow::find_batch(&state.0.store, organization, wanted).await?;
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

pub(super) fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no batch has this id or name: GET /api/batches lists them",
    )
}
