//! A line of JSON Lines: one document, or why there is none. The command line and the HTTP API read the same lines and
//! refuse the same ones.
//!
//! Messages name the reason and never quote the line: what serde would quote is ruled out before serde is asked.

use serde::Deserialize;
use serde_json::Value;

use super::{Limits, NewDocument, not_utf8};
use crate::flow::{Failure, FailureCode};

/// The most bytes that a line may have: escapes can double a text, and the other fields need some room.
#[must_use]
pub const fn longest_line(limits: Limits) -> u64 {
    limits
        .document_bytes
        .saturating_mul(2)
        .saturating_add(1024 * 1024)
}

/// The fields that are read; data files often have more, which are ignored. All are `Value`, because serde's own
/// words on a wrong type quote the value.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    text: Value,
    #[serde(default)]
    title: Value,
    #[serde(default)]
    source_uri: Value,
    #[serde(default)]
    metadata: Value,
}

/// The id of the document in a line, unless the line is broken, and the document.
pub fn parse_line(line: &[u8], limits: Limits) -> (Option<String>, Result<NewDocument, Failure>) {
    let line = match std::str::from_utf8(line) {
        Ok(line) => line,
        Err(error) => return (None, Err(not_utf8(error.valid_up_to(), "in this line; "))),
    };
    if !line.trim_start().starts_with('{') {
        return (None, Err(broken_line("not a JSON object")));
    }
    let fields: Fields = match serde_json::from_str(line) {
        Ok(fields) => fields,
        Err(error) => return (None, Err(broken_line(&line_reason(&error)))),
    };
    let id = match id_of(&fields.id) {
        Ok(id) => id,
        Err(failure) => return (None, Err(failure)),
    };
    // A line that is broken goes by its number; only an unfit text goes by its id.
    let checked = document(id.clone(), fields).and_then(|document| {
        document.check(&limits)?;
        Ok(document)
    });
    let broken = checked
        .as_ref()
        .is_err_and(|failure| failure.code == FailureCode::BrokenLine);
    ((!broken).then_some(id), checked)
}

fn id_of(value: &Value) -> Result<String, Failure> {
    match value {
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        // Its digits may be lost by now, and two ids become one.
        Value::Number(_) => Err(broken_line(
            "`id` is a number that is not a whole one of up to 64 bits: write it as a string",
        )),
        Value::Null => Err(broken_line("it has no `id`")),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(wrong_type("id", value, "a string"))
        }
    }
}

fn document(id: String, fields: Fields) -> Result<NewDocument, Failure> {
    let mut document = NewDocument::new(
        id,
        match fields.text {
            Value::String(text) => text,
            Value::Null => return Err(broken_line("it has no `text`")),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(wrong_type("text", &other, "a string"));
            }
        },
    );
    document.title = optional("title", fields.title)?;
    document.source_uri = optional("source_uri", fields.source_uri)?;
    match fields.metadata {
        Value::Null => {}
        object @ Value::Object(_) => document.metadata = object,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::String(_)) => {
            return Err(wrong_type("metadata", &other, "an object"));
        }
    }
    Ok(document)
}

fn optional(field: &str, value: Value) -> Result<Option<String>, Failure> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(wrong_type(field, &other, "a string"))
        }
    }
}

fn wrong_type(field: &str, value: &Value, wanted: &str) -> Failure {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    broken_line(&format!("`{field}` is {found}, not {wanted}"))
}

/// serde's reason with the column alone: it counts lines from this one.
#[must_use]
pub fn line_reason(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let what = whole
        .rsplit_once(" at line ")
        .map_or(&*whole, |(what, _)| what);
    format!("{what} at column {}", error.column())
}

/// Why a line is no document.
#[must_use]
pub fn broken_line(reason: &str) -> Failure {
    Failure::terminal(FailureCode::BrokenLine, reason)
}

/// A line of so many bytes is longer than [`longest_line`].
#[must_use]
pub fn line_too_long(bytes: u64, limits: Limits) -> Failure {
    let limit = limits.document_bytes;
    let mut failure = Failure::terminal(
        FailureCode::TooLarge,
        format!(
            "the line has {bytes} bytes, too many for a document of at most {limit}: split the document, or \
             raise the limit with --max-document-bytes"
        ),
    );
    failure.details = serde_json::json!({ "bytes": bytes, "limit": limit });
    failure
}
