//! The JSON of a submission: reading it, and saying where it is wrong.
//!
//! Invariant: no message quotes what was sent. serde's own words do, so only their fixed parts are used: the kind of
//! the error, what was expected, and the place.

use std::fmt::Write;

use axum::http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;

/// The most characters of a caller's field name that a message shows.
const FIELD_CHARACTERS: usize = 40;

/// A submission, as it is sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct SubmissionBody {
    /// Unique in the organization; one is made up without it.
    pub(super) name: Option<String>,
    /// The documents; none only for a batch that is kept open.
    pub(super) documents: Vec<DocumentBody>,
    /// Documents in work at once, over all replicas, 1 to 10,000 (5).
    pub(super) concurrency: Option<u32>,
    /// What to do about a document that fails: `continue-on-failure`, `abort-all` or `retry-failed`.
    pub(super) failure_policy: Option<String>,
    /// Extra rounds that `retry-failed` gives, 0 to 100 (2).
    pub(super) max_retries: Option<u32>,
    /// Documents that may be given up, as a number or a share (`10`, `5%`), before the rest is cancelled.
    pub(super) max_failures: Option<String>,
    /// Its share of the fleet against the organization's other batches, 1 to 1,000 (1).
    pub(super) weight: Option<u32>,
    /// Who extracts (`local`).
    pub(super) extractor: Option<String>,
    /// What becomes of a document some of whose units failed: `allow` or `fail`.
    pub(super) partial: Option<String>,
    /// Where to tell of its end: an http or https address.
    pub(super) notify: Option<String>,
    /// Keep it open for more documents; somebody seals it later.
    pub(super) open: Option<bool>,
    /// The model that is called, as its server knows it: for an extractor that calls models, or to be asked about names.
    pub(super) model: Option<String>,
    /// What it costs, in US dollars a million tokens: those of prompts. Left out, the server's own prices count.
    pub(super) price_input: Option<f64>,
    /// … those of prompts that its server read from its cache (as others).
    pub(super) price_cached_input: Option<f64>,
    /// … those of answers.
    pub(super) price_output: Option<f64>,
    /// What its calls may cost in all, in US dollars: the batch is paused before one could pass it. It needs a price.
    pub(super) max_cost: Option<f64>,
    /// How many tokens they may take in all, of prompts and answers.
    pub(super) max_tokens: Option<u64>,
    /// Whether a model is asked about names that may be of one thing.
    pub(super) adjudicate: Option<bool>,
    /// Questions about names, at most, 1 to 10,000.
    pub(super) adjudicate_most: Option<u32>,
}

/// The options of a batch whose documents come as lines or files.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BatchOptions {
    /// With lines or files: the batch's name.
    name: Option<String>,
    /// With lines or files: documents in work at once, over all replicas, 1 to 10,000 (5).
    concurrency: Option<u32>,
    /// With lines or files: `continue-on-failure`, `abort-all` or `retry-failed`.
    failure_policy: Option<String>,
    /// With lines or files: extra rounds that `retry-failed` gives, 0 to 100 (2).
    max_retries: Option<u32>,
    /// With lines or files: documents that may be given up (`10`, `5%`).
    max_failures: Option<String>,
    /// With lines or files: its share of the fleet, 1 to 1,000 (1).
    weight: Option<u32>,
    /// With lines or files: who extracts (`local`).
    extractor: Option<String>,
    /// With lines or files: `allow` or `fail` documents some of whose units failed.
    partial: Option<String>,
    /// With lines or files: where to tell of its end.
    notify: Option<String>,
    /// With lines or files: keep it open for more.
    pub(super) open: Option<bool>,
    /// With lines or files: the model that is called.
    model: Option<String>,
    /// With lines or files: what tokens of its prompts cost, in US dollars a million.
    price_input: Option<f64>,
    /// With lines or files: what tokens of prompts cost that its server read from its cache.
    price_cached_input: Option<f64>,
    /// With lines or files: what tokens of its answers cost.
    price_output: Option<f64>,
    /// With lines or files: what its calls may cost in all, in US dollars.
    max_cost: Option<f64>,
    /// With lines or files: how many tokens they may take in all.
    max_tokens: Option<u64>,
    /// With lines or files: whether a model is asked about names that may be of one thing.
    adjudicate: Option<bool>,
    /// With lines or files: questions about names, at most, 1 to 10,000.
    adjudicate_most: Option<u32>,
}

impl From<BatchOptions> for SubmissionBody {
    fn from(options: BatchOptions) -> Self {
        Self {
            name: options.name,
            documents: Vec::new(),
            concurrency: options.concurrency,
            failure_policy: options.failure_policy,
            max_retries: options.max_retries,
            max_failures: options.max_failures,
            weight: options.weight,
            extractor: options.extractor,
            partial: options.partial,
            notify: options.notify,
            open: options.open,
            model: options.model,
            price_input: options.price_input,
            price_cached_input: options.price_cached_input,
            price_output: options.price_output,
            max_cost: options.max_cost,
            max_tokens: options.max_tokens,
            adjudicate: options.adjudicate,
            adjudicate_most: options.adjudicate_most,
        }
    }
}

/// Documents for a batch that is there, as they are sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct AdditionBody {
    /// The documents.
    pub(super) documents: Vec<DocumentBody>,
}

/// A document, as it is sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct DocumentBody {
    /// The caller's own name for it, 1 to 512 characters, unique in its batch.
    pub(super) id: String,
    /// The whole text.
    pub(super) text: String,
    /// Its title.
    pub(super) title: Option<String>,
    /// Where it came from.
    pub(super) source_uri: Option<String>,
    /// Whatever is to be kept with it: an object.
    #[schema(value_type = Option<Object>)]
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
            "u32" | "u64" => "a whole number, not negative",
            "f64" => "a number",
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
