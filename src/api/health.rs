//! Whether the process answers, and whether it can do its part. Must not know anything of the servers' contents.

use std::{error::Error, future::Future, time::Duration};

use axum::{Json, extract, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    problem::{Problem, chain},
};
use crate::store;

/// How long each server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The routes of this file, which everybody may ask.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
}

/// All is well.
#[derive(Serialize, ToSchema)]
struct Well {
    /// `ok`.
    status: &'static str,
}

/// Whether Postgres and Redis answer.
#[utoipa::path(get, path = "/healthz", tag = "service", responses(
    (status = 200, description = "Both do", body = Well),
    (status = 503, description = "One does not: `silent` names those"),
))]
async fn healthz(extract::State(state): extract::State<State>) -> Result<Json<Well>, Problem> {
    let (postgres, redis) = tokio::join!(
        // The pool for scheduling, which requests can't use up.
        answers("Postgres", store::health(&state.0.store)),
        answers("Redis", state.0.queue.check()),
    );
    let silent: Vec<&str> = [postgres.err(), redis.err()]
        .into_iter()
        .flatten()
        .collect();
    match silent[..] {
        [] => Ok(Json(Well { status: "ok" })),
        _ => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "no answer within {} s from {}",
                PATIENCE.as_secs(),
                silent.join(" and ")
            ),
        )
        .with("silent", silent)),
    }
}

/// What the service is made of stands ready.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready`.
    status: &'static str,
    /// The last migration of the database.
    schema: i64,
    /// Workers that were seen in the last half minute.
    workers: i64,
}

/// Whether submissions are taken and worked: Postgres and Redis answer, the schema is there, and a worker is alive.
#[utoipa::path(get, path = "/readyz", tag = "service", responses(
    (status = 200, description = "They are", body = Ready),
    (status = 503, description = "Something is missing: `missing` names it (`postgres`, `schema`, `redis`, `workers`)"),
))]
async fn readyz(extract::State(state): extract::State<State>) -> Result<Json<Ready>, Problem> {
    let (postgres, redis) = tokio::join!(
        answers("Postgres", store::readiness(&state.0.store)),
        answers("Redis", state.0.queue.check()),
    );
    let mut missing = Vec::new();
    match &postgres {
        Err(_) => missing.push("postgres"),
        Ok(found) => {
            // A newer one is that of a newer binary, which has seen to it that this one goes on.
            if found.applied < found.known {
                missing.push("schema");
            }
            if found.workers == 0 {
                missing.push("workers");
            }
        }
    }
    if redis.is_err() {
        missing.push("redis");
    }
    match postgres {
        Ok(found) if missing.is_empty() => Ok(Json(Ready {
            status: "ready",
            schema: found.applied,
            workers: found.workers,
        })),
        _ => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready, for want of: {}", missing.join(", ")),
        )
        .with("missing", missing)),
    }
}

/// The answer, or the server's name if it does not answer.
async fn answers<T, E: Error>(
    name: &'static str,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, &'static str> {
    let cause = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => chain(&error),
        Err(_) => "it is silent".to_owned(),
    };
    tracing::warn!(server = name, error = cause, "a server does not answer");
    Err(name)
}
