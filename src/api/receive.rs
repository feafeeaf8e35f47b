//! Receiving the body of a submission: what it must be, how large it may be and how long it may take.
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

use super::problem::Problem;

/// How long a body may take to arrive, so that there is time left to write it down.
const TIMEOUT: Duration = Duration::from_secs(20);

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
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

async fn discard(mut parts: BodyDataStream) {
    while let Some(Ok(_)) = parts.next().await {}
}

fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let value = |name| {
        let value = headers.get(name).map(|value| value.to_str());
        value.map_or(Ok(""), |value| value.map(str::trim))
    };
    let is_json = value(header::CONTENT_TYPE).is_ok_and(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    let is_plain = value(header::CONTENT_ENCODING)
        .is_ok_and(|encoding| encoding.is_empty() || encoding.eq_ignore_ascii_case("identity"));
    if !is_json || !is_plain {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a submission is JSON: send it with `content-type: application/json` and without a content-encoding",
        ));
    }
    let announced = value(header::CONTENT_LENGTH).map(str::parse::<u64>);
    match announced {
        Ok(Ok(announced)) if announced > limit as u64 => Err(too_large(limit)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {limit} bytes: submit the documents in several batches"),
    )
    .with("limit", limit)
}
