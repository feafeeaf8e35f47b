//! What a request asks for in its query: reading it, and pages.
//!
//! Invariant: what can't be read is a problem that names the parameters that there are, and quotes nothing.

use std::fmt::Write;

use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::problem::Problem;

/// Rows of a page, at most and without a limit.
const MOST: u32 = 1000;
const OTHERWISE: u32 = 50;

/// The query of a request.
pub(super) struct Asked<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Asked<T>
where
    T: DeserializeOwned + IntoParams,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Ok(Query(asked)) = Query::<T>::from_request_parts(parts, state).await {
            return Ok(Self(asked));
        }
        let known = T::into_params(|| None);
        let known: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!(
                "the query can't be read: each of {} may stand there once",
                known.join(", ")
            ),
        ))
    }
}

/// Bytes in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// How many rows are wanted.
///
/// # Errors
/// 400 for a number that is not within 1 to 1,000.
pub(super) fn limit(limit: Option<u32>) -> Result<i64, Problem> {
    let limit = limit.unwrap_or(OTHERWISE);
    if (1..=MOST).contains(&limit) {
        Ok(i64::from(limit))
    } else {
        Err(unfit(
            "limit",
            &format!("a whole number within 1 to {MOST}"),
        ))
    }
}

/// A parameter that was given, parsed.
///
/// # Errors
/// 400 that says what it should be.
pub(super) fn given<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
    wanted: &str,
) -> Result<Option<T>, Problem> {
    text.map(|text| text.parse().map_err(|_| unfit(name, wanted)))
        .transpose()
}

/// Where a page begins: what `next` of the page before said.
///
/// # Errors
/// 400 for anything else.
pub(super) fn after<T>(
    text: Option<&str>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    text.map(|text| read(text).ok_or_else(|| unfit("after", "the `next` of another page")))
        .transpose()
}

/// A text that is looked up: Postgres takes no NUL, and nothing has one.
///
/// # Errors
/// 400 for one that is empty or holds a NUL.
pub(super) fn text<'t>(name: &str, text: Option<&'t str>) -> Result<Option<&'t str>, Problem> {
    match text {
        Some(text) if text.is_empty() || text.contains('\0') => {
            Err(unfit(name, "a text that is not empty"))
        }
        given => Ok(given),
    }
}

/// A parameter is not what it should be.
pub(super) fn unfit(name: &str, wanted: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        format!("`{name}` is not what it should be: {wanted}"),
    )
    .with("place", name)
}
