//! Whether both servers answer. Must not know anything of their contents.

use std::{error::Error, future::Future, time::Duration};

use axum::{Json, extract, http::StatusCode};
use serde_json::{Value, json};

use super::{
    State,
    problem::{Problem, chain},
};
use crate::store;

/// How long each server has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /healthz`: 200 if Postgres and Redis answer, 503 with the names of those that don't.
pub(super) async fn healthz(
    extract::State(state): extract::State<State>,
) -> Result<Json<Value>, Problem> {
    let (postgres, redis) = tokio::join!(
        // The pool for scheduling, which requests can't use up.
        answers("Postgres", store::health(&state.0.store)),
        answers("Redis", state.0.queue.check()),
    );
    let silent: Vec<&str> = [postgres, redis].into_iter().flatten().collect();
    match silent[..] {
        [] => Ok(Json(json!({ "status": "ok" }))),
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

/// The server's name, if it does not answer.
async fn answers<T, E: Error>(
    name: &'static str,
    asked: impl Future<Output = Result<T, E>>,
) -> Option<&'static str> {
    let cause = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => chain(&error),
        Err(_) => "it is silent".to_owned(),
    };
    tracing::warn!(server = name, error = cause, "a server does not answer");
    Some(name)
}
