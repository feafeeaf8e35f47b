//! Receiving a body whole: what it must be, how large it may be and how long it may take.
//!
//! Must not know what is in it. Invariant: a client is answered only after its body has been taken off the wire
//! (or its time is over): an answer before that closes the connection under a client that is still writing, which then
//! sees a broken pipe instead of the reason.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// How long a body may take to arrive, so that there is time left to write it down.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a body waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that one permit stands for.
const PERMIT_BYTES: usize = 64 << 10;

/// Permits for `bodies` of `limit` bytes at once, or for many more small ones.
pub(super) fn permits(bodies: usize, limit: usize) -> Semaphore {
    Semaphore::new(
        bodies
            .saturating_mul(limit.div_ceil(PERMIT_BYTES))
            .min(Semaphore::MAX_PERMITS),
    )
}

/// Waits until there is room in memory for a body: for as much as is announced, or for `limit`.
///
/// # Errors
/// 503 if it waits too long.
pub(super) async fn turn(
    permits: &Semaphore,
    announced: Option<u64>,
    limit: usize,
) -> Result<SemaphorePermit<'_>, Problem> {
    let bytes = announced.map_or(limit, |bytes| {
        usize::try_from(bytes).unwrap_or(limit).min(limit)
    });
    let wanted = u32::try_from(bytes.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
    match tokio::time::timeout(TURN_TIMEOUT, permits.acquire_many(wanted)).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) | Err(_) => Err(too_many()),
    }
}

/// There is no room for another body.
pub(super) fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many submissions at once: trying again helps",
    )
}

/// Receives a JSON body of `limit` bytes at most, or none where there is none.
///
/// # Errors
/// As [`json`].
pub(super) async fn json_if_any(
    request: Request,
    limit: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    use axum::body::HttpBody;
    if request.body().is_end_stream() {
        return Ok(None);
    }
    json(request, limit).await.map(Some)
}

/// Takes a body off the wire that is refused before it is looked at.
pub(super) async fn refused(request: Request, why: Problem) -> Problem {
    if !request.headers().contains_key(header::EXPECT) {
        let parts = request.into_body().into_data_stream();
        let _ = tokio::time::timeout(TIMEOUT, discard(parts)).await;
    }
    why
}

/// The content type without its parameters.
pub(super) fn essence(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next().unwrap_or_default().trim())
}

/// The body is not packed.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let packed = headers
        .get(header::CONTENT_ENCODING)
        .map(|packed| packed.to_str());
    packed.is_none_or(|packed| {
        packed.is_ok_and(|packed| {
            let packed = packed.trim();
            packed.is_empty() || packed.eq_ignore_ascii_case("identity")
        })
    })
}

/// How many bytes a body says that it has.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Receives a JSON body of `limit` bytes at most.
///
/// # Errors
/// 415, 413, 408, or 400 for a body that breaks off.
pub(super) async fn json(request: Request, limit: usize) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    let fit = check_headers(&parts.headers, limit);
    // It waits for our word before it sends, so there is nothing to take off the wire.
    if parts.headers.contains_key(header::EXPECT) {
        fit.clone()?;
    }
    let received = tokio::time::timeout(TIMEOUT, receive(body, fit, limit)).await;
    received.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", TIMEOUT.as_secs()),
        ))
    })
}

async fn receive(body: Body, fit: Result<(), Problem>, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut parts = body.into_data_stream();
    if let Err(unfit) = fit {
        discard(parts).await;
        return Err(unfit);
    }
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "the body did not arrive whole: send it again",
            )
        })?;
        if bytes.len() + part.len() > limit {
            drop(bytes);
            discard(parts).await;
            return Err(too_large(limit as u64));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

async fn discard(mut parts: BodyDataStream) {
    while let Some(Ok(_)) = parts.next().await {}
}

fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let is_json =
        essence(headers).is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    if !is_json || !is_plain(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON with `content-type: application/json` and without a content-encoding; a new batch may also be \
             `application/x-ndjson` or `multipart/form-data`",
        ));
    }
    match announced(headers) {
        Some(announced) if announced > limit as u64 => Err(too_large(limit as u64)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn too_large(limit: u64) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {limit} bytes: submit the documents in several batches"),
    )
    .with("limit", limit)
}
