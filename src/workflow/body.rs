//! The JSON of a submission: reading it, and saying where it is wrong. What comes over HTTP and what comes through Redis
//! is read here, so that both take the same and say the same.
//!
//! Invariant: no message quotes what was sent. serde's own words do, so only their fixed parts are used: the kind of
//! the error, what was expected, and the place.

use std::fmt::Write;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};
use utoipa::ToSchema;

/// The most characters of a caller's field name that a message shows.
const FIELD_CHARACTERS: usize = 40;

/// Why what was sent can't be taken. Sending the same again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unfit {
    /// It is no JSON at all, rather than JSON that says something else than it should.
    pub is_no_json: bool,
    /// What is wrong, with names that the caller gave and never a text.
    pub detail: String,
    /// Where: `documents[3].title`.
    pub place: Option<String>,
    /// The line and the column, where that is known.
    pub at: Option<(usize, usize)>,
}

impl Unfit {
    /// A field is not what it should be.
    pub(super) fn field(place: &str, why: &str) -> Self {
        Self {
            is_no_json: false,
            detail: format!("`{place}`: {why}"),
            place: Some(place.to_owned()),
            at: None,
        }
    }
}

/// A submission, as it is sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct SubmissionBody {
    /// Unique in the organization; one is made up without it.
    pub name: Option<String>,
    /// The documents; none only for a batch that is kept open.
    pub documents: Vec<DocumentBody>,
    /// Documents in work at once, over all replicas, 1 to 10,000 (5).
    pub concurrency: Option<u32>,
    /// What to do about a document that fails: `continue-on-failure`, `abort-all` or `retry-failed`.
    pub failure_policy: Option<String>,
    /// Extra rounds that `retry-failed` gives, 0 to 100 (2).
    pub max_retries: Option<u32>,
    /// Documents that may be given up, as a number or a share (`10`, `5%`), before the rest is cancelled.
    pub max_failures: Option<String>,
    /// Its share of the fleet against the organization's other batches, 1 to 1,000 (1).
    pub weight: Option<u32>,
    /// Who extracts (`local`).
    pub extractor: Option<String>,
    /// What becomes of a document some of whose units failed: `allow` or `fail`.
    pub partial: Option<String>,
    /// Where to tell of its end: an http or https address.
    pub notify: Option<String>,
    /// Keep it open for more documents; somebody seals it later.
    pub open: Option<bool>,
    /// The model that is called, as its server knows it: for an extractor that calls models, or to be asked about names.
    pub model: Option<String>,
    /// What it costs, in US dollars a million tokens: those of prompts. Left out, the server's own prices count.
    pub price_input: Option<f64>,
    /// … those of prompts that its server read from its cache (as others).
    pub price_cached_input: Option<f64>,
    /// … those of answers.
    pub price_output: Option<f64>,
    /// What its calls may cost in all, in US dollars: the batch is paused before one could pass it. It needs a price.
    pub max_cost: Option<f64>,
    /// How many tokens they may take in all, of prompts and answers.
    pub max_tokens: Option<u64>,
    /// Whether a model is asked about names that may be of one thing.
    pub adjudicate: Option<bool>,
    /// Questions about names, at most, 1 to 10,000.
    pub adjudicate_most: Option<u32>,
}

/// Documents for a batch that is there, as they are sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct AdditionBody {
    /// The documents.
    pub documents: Vec<DocumentBody>,
}

/// A document, as it is sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct DocumentBody {
    /// The caller's own name for it, 1 to 512 characters, unique in its batch.
    pub id: String,
    /// The whole text.
    pub text: String,
    /// Its title.
    pub title: Option<String>,
    /// Where it came from.
    pub source_uri: Option<String>,
    /// Whatever is to be kept with it: an object.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// Reads a submission, or documents for a batch that is there.
///
/// # Errors
/// [`Unfit`]; trying the same again does not help.
pub fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unfit> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| unreadable(error.inner(), Some(error.path())))?;
    json.end().map_err(|error| unreadable(&error, None))?;
    Ok(body)
}

fn unreadable(error: &serde_json::Error, path: Option<&Path>) -> Unfit {
    let (line, column) = (error.line(), error.column());
    let no_json = |detail| (true, detail, None);
    let (is_no_json, detail, place) = match error.classify() {
        Category::Data => {
            let place = path.map(place).filter(|place| !place.is_empty());
            let place = place.unwrap_or_else(|| "the body".to_owned());
            let said = said(&error.to_string(), &place);
            let detail = format!("{said} (line {line}, column {column})");
            (false, detail, Some(place))
        }
        Category::Eof => no_json(format!(
            "the JSON ends too early, at line {line}, column {column}"
        )),
        Category::Syntax | Category::Io => no_json(format!(
            "the body is not JSON in UTF-8: see line {line}, column {column}"
        )),
    };
    Unfit {
        is_no_json,
        detail,
        place,
        at: Some((line, column)),
    }
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
        let unfit = read_body::<SubmissionBody>(body.as_bytes()).err().unwrap();
        let status = if unfit.is_no_json { 400 } else { 422 };
        format!("{status} {unfit:?}")
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
