//! Errors as RFC 9457 problems.
//!
//! Knows statuses and words. Must not know the request: where a problem happened is added when it is settled
//! ([`super::request`]). Invariant: a detail holds names that the caller gave and never a text; what an outside
//! system said is logged, once, where the problem is made, and not told.

use std::error::Error;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{store::StoreError, telemetry::causes, workflow::SignalError};

/// The media type of a problem.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Seconds after which a request that failed for a passing reason may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");
/// How to say who asks.
const BEARER: HeaderValue = HeaderValue::from_static("Bearer");

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem that is told as `detail`.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            members: Map::new(),
        }
    }

    /// A problem of which no more is known than its status, for example one that a layer answered with.
    pub(super) fn of(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::NOT_FOUND => "there is no such route",
            StatusCode::METHOD_NOT_ALLOWED => {
                "the route exists, but not with this method: see the header Allow"
            }
            StatusCode::REQUEST_TIMEOUT => "the request did not arrive in time",
            StatusCode::SERVICE_UNAVAILABLE => "the server did not get to an answer in time",
            StatusCode::INTERNAL_SERVER_ERROR => {
                "the server failed, and its log says why under this request's id"
            }
            _ => "the request can't be answered",
        };
        Self::new(status, detail)
    }

    /// The same problem with a member of its own.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The store did not do its part. Logs it with its whole chain.
    pub(super) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::NameTaken(name) => Self::new(
                StatusCode::CONFLICT,
                format!("the name `{name}` is taken by another batch: give another one, or none"),
            )
            .with("name", name.as_str()),
            StoreError::Sealed => Self::new(
                StatusCode::CONFLICT,
                "the batch is sealed: it takes no more documents",
            ),
            StoreError::Quota { quota, limit } => Self::new(
                StatusCode::FORBIDDEN,
                format!("the quota is used up: the organization may have {limit} {quota} at most"),
            )
            .with("quota", *quota)
            .with("limit", *limit),
            StoreError::Address(_)
            | StoreError::Connect(_)
            | StoreError::Migrate(_)
            | StoreError::Query(_)
            | StoreError::Decode { .. }
            | StoreError::Overtaken => {
                let cause = chain(error);
                if error.is_transient() {
                    tracing::warn!(error = cause, "Postgres did not do its part of a request");
                    Self::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "Postgres did not do its part: trying again may help",
                    )
                } else {
                    tracing::error!(error = cause, "a request failed at Postgres");
                    Self::of(StatusCode::INTERNAL_SERVER_ERROR)
                }
            }
        }
    }

    /// What `error` says with its causes is logged; the caller is told that there is a bug.
    pub(super) fn bug(error: &dyn Error) -> Self {
        tracing::error!(error = chain(error), "a request failed, which is a bug");
        Self::of(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer, whole but for what the request says. `base` is the answer that the problem came in: its headers,
    /// such as `allow`, stay.
    pub(super) fn render(self, base: Response, instance: &str, request: &str) -> Response {
        let mut object = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": instance,
            "request_id": request,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(self.members);
        }
        let (mut parts, _) = base.into_parts();
        parts.status = self.status;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(header::CONTENT_TYPE, PROBLEM);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            parts.headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            parts.headers.insert(header::WWW_AUTHENTICATE, BEARER);
        }
        Response::from_parts(parts, object.to_string().into())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store(&error)
    }
}

impl From<SignalError> for Problem {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::Store(error) => Self::store(&error),
            SignalError::Illegal(illegal) => {
                tracing::error!(%illegal, "a signal could not be given");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the signal could not be given",
                )
            }
        }
    }
}

/// Only carries the problem to where it is settled.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    causes(error).replace('\n', "; ")
}
