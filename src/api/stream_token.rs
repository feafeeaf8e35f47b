//! `POST /api/stream-tokens`: a token for one stream, for whoever can send no header to it.
//!
//! Must not know which streams there are: a token for a path that is none opens nothing.

use axum::{
    Json,
    extract::{self, Request},
    http::StatusCode,
};
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::{self, Caller, Reads},
    body,
    problem::Problem,
    receive,
};

/// The most bytes that the body may have.
const BODY: usize = 16 << 10;
/// The most characters of a path.
const PATH: usize = 4096;

/// The route of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(create))
}

/// What a token is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct TokenBody {
    /// The stream, as it will be asked for: `/api/batches/…/events`.
    path: String,
}

/// A token.
#[derive(Serialize, ToSchema)]
struct TokenReport {
    /// What to connect with, as `?token=`.
    token: String,
    /// Until when, RFC 3339; none where there are no keys.
    expires_at: Option<String>,
}

/// Makes a token that one connects with to the stream at `path`, as `?token=`: for whoever can send no header to it.
#[utoipa::path(post, path = "/api/stream-tokens", tag = "live", request_body = TokenBody, responses(
    (status = 201, description = "It is good for a minute", body = TokenReport),
    (status = 400, description = "The body can't be read"),
    (status = 413, description = "The body is too large"),
    (status = 415, description = "The body is not JSON"),
    (status = 422, description = "That is no path of a stream"),
))]
async fn create(
    extract::State(state): extract::State<State>,
    Reads(_): Reads,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<TokenReport>), Problem> {
    let bytes = receive::json(request, BODY).await?;
    let TokenBody { path } = body::read(&bytes)?;
    let is_path = path.starts_with("/api/")
        && path.len() <= PATH
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    if !is_path {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`path` is not that of a stream: it begins with `/api/`, has no query, and is escaped as it will be asked for",
        )
        .with("place", "path"));
    }
    // Where there are no keys, any token opens any stream: clients need not know it.
    let (Caller::Key(holder), Some(keyring)) = (&caller, state.0.access.keyring()) else {
        let none = TokenReport {
            token: "none".to_owned(),
            expires_at: None,
        };
        return Ok((StatusCode::CREATED, Json(none)));
    };
    let token = keyring.stream_token(holder, &path).await;
    let (token, ends_ms) = token.map_err(|refusal| access::refused(&refusal))?;
    let ends = DateTime::from_timestamp_millis(ends_ms.cast_signed()).unwrap_or_default();
    let report = TokenReport {
        token: token.reveal().clone(),
        expires_at: Some(ends.to_rfc3339_opts(SecondsFormat::Millis, true)),
    };
    Ok((StatusCode::CREATED, Json(report)))
}
