//! Entity tags: whoever has an answer already is told that it is still the same.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{asked, problem::Problem};

/// The tag of what depends on `bytes` alone.
pub(super) fn of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex = asked::hex(&hash[..16]);
    format!("\"{hex}\"")
}

/// Whether the caller has what `tag` stands for.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let told = headers.get_all(header::IF_NONE_MATCH);
    told.iter()
        .filter_map(|told| told.to_str().ok())
        .flat_map(|told| told.split(','))
        .map(|told| told.trim().trim_start_matches("W/"))
        .any(|told| told == tag || told == "*")
}

/// 304 with the tag.
pub(super) fn unchanged(tag: &str) -> Response {
    with(tag, StatusCode::NOT_MODIFIED.into_response())
}

/// The answer with its tag.
pub(super) fn with(tag: &str, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// An object as JSON with its tag, or 304 if the caller has it.
///
/// # Errors
/// 500 for an object that has no JSON form: a bug.
pub(super) fn json(headers: &HeaderMap, object: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(object).map_err(|error| Problem::bug(&error))?;
    let tag = of(&bytes);
    if is_known(headers, &tag) {
        return Ok(unchanged(&tag));
    }
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(with(&tag, response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_if_it_is_one_of_those_that_are_told() {
        let mut headers = HeaderMap::new();
        assert!(!is_known(&headers, "\"a\""));
        headers.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_static("\"b\", W/\"a\""),
        );
        assert!(is_known(&headers, "\"a\""));
        assert!(!is_known(&headers, "\"c\""));
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        assert!(is_known(&headers, "\"c\""));
    }
}
