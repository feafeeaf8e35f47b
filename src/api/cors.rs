//! Which web pages of other origins may ask: none, unless it is said.
//!
//! Must not know any route.

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The origin of a web page, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that is no origin. Trying again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is `https://host` or `http://host:port`, without a path, or `*`")]
pub struct BadOrigin;

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let uri: Uri = text.parse().map_err(|_| BadOrigin)?;
        let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
            && !text.ends_with('/')
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        if text != "*" && !is_origin {
            return Err(BadOrigin);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| BadOrigin)
    }
}

/// What pages of other origins may do; nothing, if there are none.
pub(super) fn layer(origins: &[Origin]) -> CorsLayer {
    if origins.is_empty() {
        return CorsLayer::new();
    }
    let origins = if origins.iter().any(|origin| origin.0 == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|origin| origin.0.clone()))
    };
    let own = [
        "idempotency-key",
        "last-event-id",
        "x-request-id",
        "traceparent",
    ]
    .map(HeaderName::from_static);
    let told = ["x-request-id", "idempotency-replayed", "traceparent"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(
            [
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_NONE_MATCH,
            ]
            .into_iter()
            .chain(own)
            .collect::<Vec<_>>(),
        )
        .expose_headers(
            [header::LOCATION, header::ETAG, header::RETRY_AFTER]
                .into_iter()
                .chain(told)
                .collect::<Vec<_>>(),
        )
        .max_age(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_else() {
        for good in ["*", "https://example.com", "http://localhost:3000"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "https://example.com/",
            "https://example.com/a",
            "ftp://a",
            "https://a@b",
        ] {
            assert_eq!(bad.parse::<Origin>(), Err(BadOrigin), "{bad}");
        }
    }
}
