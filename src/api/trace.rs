//! The trace that a request is part of: read from its head, and said in its answer.
//!
//! Invariant: whatever stands there, no request is refused for it.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};

use crate::telemetry::TraceContext;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The context that the request names; two are none, by the standard.
pub(super) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(only), None) = (given.next(), given.next()) else {
        return None;
    };
    TraceContext::parse(only.to_str().ok()?)
}

/// The same, as it is written down.
pub(super) fn parent(headers: &HeaderMap) -> Option<String> {
    context(headers).map(|context| context.to_string())
}

/// Says in the answer what hangs where, if a trace is made.
pub(super) fn say(response: &mut Response, traced: Option<TraceContext>) {
    let value = traced.and_then(|context| HeaderValue::from_str(&context.to_string()).ok());
    if let Some(value) = value {
        response.headers_mut().insert(TRACEPARENT, value);
    }
}
