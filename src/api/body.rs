//! The JSON of a submission: reading it, and saying where it is wrong.
//!
//! Invariant: no message quotes what was sent. serde's own words do, so only their fixed parts are used: the kind of
//! the error, what was expected, and the place.

use std::fmt::Write;

use axum::http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};

use super::problem::Problem;

/// The most characters of a caller's field name that a message shows.
const FIELD_CHARACTERS: usize = 40;

/// A submission, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct SubmissionBody {
    pub(super) name: Option<String>,
    pub(super) documents: Vec<DocumentBody>,
    pub(super) concurrency: Option<u32>,
    pub(super) failure_policy: Option<String>,
    pub(super) max_retries: Option<u32>,
    pub(super) max_failures: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) extractor: Option<String>,
    pub(super) partial: Option<String>,
    pub(super) notify: Option<String>,
    pub(super) open: Option<bool>,
    pub(super) model: Option<String>,
    pub(super) adjudicate: Option<bool>,
    pub(super) adjudicate_most: Option<u32>,
}

/// Documents for a batch that is there, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct AdditionBody {
    pub(super) documents: Vec<DocumentBody>,
}

/// A document, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct DocumentBody {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) title: Option<String>,
    pub(super) source_uri: Option<String>,
    pub(super) metadata: Option<Value>,
}

/// Reads a submission, or documents for a batch that is there.
///
/// # Errors
/// 400 for what is not JSON, 422 for JSON of another shape; trying the same again does not help.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| unreadable(error.inner(), Some(error.path())))?;
    json.end().map_err(|error| unreadable(&error, None))?;
    Ok(body)
}

fn unreadable(error: &serde_json::Error, path: Option<&Path>) -> Problem {
    let (line, column) = (error.line(), error.column());
    let problem = match error.classify() {
        Category::Data => {
            let place = path.map(place).filter(|place| !place.is_empty());
            let place = place.as_deref().unwrap_or("the body");
            let said = said(&error.to_string(), place);
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("{said} (line {line}, column {column})"),
            )
            .with("place", place)
        }
        Category::Eof => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the JSON ends too early, at line {line}, column {column}"),
        ),
        Category::Syntax | Category::Io => Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON in UTF-8: see line {line}, column {column}"),
        ),
    };
    problem.with("line", line).with("column", column)
}

/// Says what serde says, without what it quotes. Everything after the last `, expected ` is ours.
fn said(whole: &str, place: &str) -> String {
    let whole = whole
        .rsplit_once(" at line ")
        .map_or(whole, |(what, _)| what);
    let expected = whole
        .rsplit_once(", expected ")
        .map_or("something else", |(_, what)| what);
    if whole.starts_with("unknown field") {
        let known = expected.strip_prefix("one of ").unwrap_or(expected);
        format!("`{place}` is an unknown field: known are {known}")
    } else if whole.starts_with("missing field") || whole.starts_with("duplicate field") {
        // The field is one that is known, so its name is ours.
        format!("`{place}`: {whole}")
    } else {
        let expected = match expected {
            "u32" => "a whole number, not negative",
            "a sequence" => "an array",
            other => other,
        };
        format!("`{place}` is not what it should be: expected {expected}")
    }
}

/// `documents[3].title`. A name that may be a text is left out.
fn place(path: &Path) -> String {
    let mut place = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => {
                // Writing to a string does not fail.
                let _ = write!(place, "[{index}]");
                continue;
            }
            Segment::Map { key } if is_plain(key) => key,
            Segment::Map { .. } | Segment::Enum { .. } | Segment::Unknown => "…",
        };
        if !place.is_empty() {
            place.push('.');
        }
        place.push_str(name);
    }
    place
}

fn is_plain(name: &str) -> bool {
    (1..=FIELD_CHARACTERS).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let read = read::<SubmissionBody>(body.as_bytes());
        format!("{:?}", read.err().unwrap())
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_without_the_content() {
        let broken: [(&str, &[&str]); 11] = [
            ("{\"name\":\n \"secret", &["400", "line 2"]),
            ("{\"name\": secret}", &["400", "line 1, column 10"]),
            ("{\"documents\": []} secret", &["400", "column 19"]),
            (
                "\"secret, expected gold\"",
                &["422", "the body", "an object"],
            ),
            ("{}", &["422", "missing field `documents`"]),
            (
                r#"{"documents": [], "nmae": "secret"}"#,
                &["422", "`nmae` is an unknown field", "`failure_policy`"],
            ),
            (
                r#"{"documents": [{"id": "a", "text": "secret", "the secret": 1}]}"#,
                &[
                    "422",
                    "`documents[0].…` is an unknown field",
                    "`source_uri`",
                ],
            ),
            (
                r#"{"documents": [{"id": "a", "text": "b"}, {"id": "a", "text": ["secret"]}]}"#,
                &["422", "documents[1].text", "expected a string"],
            ),
            (
                r#"{"documents": [{"id": "secret"}]}"#,
                &["422", "documents[0]", "missing field `text`"],
            ),
            (
                r#"{"documents": [], "concurrency": "secret"}"#,
                &["422", "`concurrency`", "a whole number"],
            ),
            (
                r#"{"documents": [], "max_retries": -1}"#,
                &["422", "`max_retries`", "a whole number"],
            ),
        ];
        for (body, words) in broken {
            let refused = refused(body);
            assert!(!refused.contains("secret"), "{refused}");
            for word in words {
                assert!(refused.contains(word), "{word} is not in {refused}");
            }
        }
    }
}
