//! The trace that a request is part of: read from its head, and said in its answer.
//!
//! Invariant: whatever stands there, no request is refused for it.

use axum::http::{HeaderMap, HeaderName};

use crate::telemetry::TraceContext;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The context that the request names, as it is written down; two are none, by the standard.
pub(super) fn parent(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(only), None) = (given.next(), given.next()) else {
        return None;
    };
    TraceContext::parse(only.to_str().ok()?).map(|context| context.to_string())
}
