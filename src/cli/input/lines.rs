//! A JSON Lines file: one document a line.
//!
//! Holds one line at a time, and drops a line as soon as it turns out to be too long. Messages name the reason and never
//! quote the line: what serde would quote is ruled out before serde is asked.

use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    flow::{Failure, FailureCode},
    pipeline::{Limits, NewDocument, not_utf8},
};

/// What one line holds.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// The document's id, unless the line is broken.
    pub(super) id: Option<String>,
    /// The document, or why there is none.
    pub(super) content: Result<NewDocument, Failure>,
}

/// The lines of a file.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    limits: Limits,
    line: Vec<u8>,
    number: u64,
    done: bool,
}

/// How a line ended.
enum Ended {
    File,
    Line { bytes: u64, too_long: bool },
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(from: R, limits: Limits) -> Self {
        Self {
            from,
            limits,
            line: Vec::new(),
            number: 0,
            done: false,
        }
    }

    /// The next line that isn't blank. After an error of the disk there are no more.
    pub(super) fn next_line(&mut self) -> Option<Line> {
        let (number, read) = self.advance()?;
        let (id, content) = match read {
            Ok(()) => parse(self.line(), self.limits),
            Err(failure) => (None, Err(failure)),
        };
        Some(Line {
            number,
            id,
            content,
        })
    }

    /// Reads the next line that isn't blank, and says its number; [`Self::line`] has it then.
    pub(super) fn advance(&mut self) -> Option<(u64, Result<(), Failure>)> {
        while !self.done {
            self.number = self.number.saturating_add(1);
            let number = self.number;
            match self.read_line() {
                Ok(Ended::File) => self.done = true,
                Ok(Ended::Line {
                    bytes,
                    too_long: true,
                }) => {
                    return Some((number, Err(self.too_long(bytes))));
                }
                Ok(Ended::Line { .. }) => {
                    if !self.line().trim_ascii().is_empty() {
                        return Some((number, Ok(())));
                    }
                }
                Err(error) => {
                    self.done = true;
                    let failure = Failure::terminal(
                        FailureCode::Unreadable,
                        format!("the file can't be read on from here: {error}"),
                    );
                    return Some((number, Err(failure)));
                }
            }
        }
        None
    }

    /// The line that was read last, without the mark that some editors put before the first.
    pub(super) fn line(&self) -> &[u8] {
        let line = self.line.as_slice();
        if self.number == 1 {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        } else {
            line
        }
    }

    /// Reads up to the next line feed into `self.line`, or only counts once the line is too long.
    fn read_line(&mut self) -> io::Result<Ended> {
        self.line.clear();
        let longest = longest_line(self.limits);
        let mut bytes = 0_u64;
        loop {
            let part = match self.from.fill_buf() {
                Ok(part) => part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if part.is_empty() && bytes == 0 {
                return Ok(Ended::File);
            }
            let feed = part.iter().position(|&byte| byte == b'\n');
            let content = &part[..feed.unwrap_or(part.len())];
            bytes += content.len() as u64;
            let too_long = bytes > longest;
            if too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(content);
            }
            let ended = feed.is_some() || part.is_empty();
            let used = feed.map_or(part.len(), |feed| feed + 1);
            self.from.consume(used);
            if ended {
                return Ok(Ended::Line { bytes, too_long });
            }
        }
    }

    fn too_long(&self, bytes: u64) -> Failure {
        let limit = self.limits.document_bytes;
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
}

/// Escapes can double a text, and the other fields need some room.
const fn longest_line(limits: Limits) -> u64 {
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
    metadata: Value,
}

pub(super) fn parse(line: &[u8], limits: Limits) -> (Option<String>, Result<NewDocument, Failure>) {
    let line = match std::str::from_utf8(line) {
        Ok(line) => line,
        Err(error) => return (None, Err(not_utf8(error.valid_up_to(), "in this line; "))),
    };
    if !line.trim_start().starts_with('{') {
        return (None, Err(broken("not a JSON object")));
    }
    let fields: Fields = match serde_json::from_str(line) {
        Ok(fields) => fields,
        Err(error) => return (None, Err(broken(&reason(&error)))),
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
        Value::Number(_) => Err(broken(
            "`id` is a number that is not a whole one of up to 64 bits: write it as a string",
        )),
        Value::Null => Err(broken("it has no `id`")),
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
            Value::Null => return Err(broken("it has no `text`")),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(wrong_type("text", &other, "a string"));
            }
        },
    );
    document.title = match fields.title {
        Value::Null => None,
        Value::String(title) => Some(title),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(wrong_type("title", &other, "a string"));
        }
    };
    match fields.metadata {
        Value::Null => {}
        object @ Value::Object(_) => document.metadata = object,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::String(_)) => {
            return Err(wrong_type("metadata", &other, "an object"));
        }
    }
    Ok(document)
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
    broken(&format!("`{field}` is {found}, not {wanted}"))
}

/// serde's reason with the column alone: it counts lines from this one.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let whole = error.to_string();
    let what = whole
        .rsplit_once(" at line ")
        .map_or(&*whole, |(what, _)| what);
    format!("{what} at column {}", error.column())
}

pub(super) fn broken(reason: &str) -> Failure {
    Failure::terminal(FailureCode::BrokenLine, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { document_bytes: 64 };

    fn lines(text: impl AsRef<[u8]>) -> Vec<Line> {
        // A buffer far shorter than a line, to cross its end often.
        let from = io::BufReader::with_capacity(7, text.as_ref());
        let mut lines = Lines::new(from, SMALL);
        std::iter::from_fn(|| lines.next_line()).collect()
    }

    fn refusal(line: &str) -> Failure {
        let mut lines = lines(line);
        assert_eq!(lines.len(), 1);
        lines.remove(0).content.unwrap_err()
    }

    #[test]
    fn good_lines_become_documents_whatever_else_they_carry() {
        let text = "\u{FEFF}{\"id\": \"a\", \"text\": \"Ada\", \"ents\": [1], \"tokens\": null}\r\n\n  \r\n\
                    {\"id\": 18446744073709551615, \"text\": \"x\", \"title\": \"T\", \"metadata\": {\"k\": [1]}}";
        let found = lines(text);
        let numbers: Vec<u64> = found.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 4]);
        let last = found[1].content.as_ref().unwrap();
        assert_eq!(last.id, "18446744073709551615");
        assert_eq!(last.title.as_deref(), Some("T"));
        assert_eq!(last.metadata, serde_json::json!({ "k": [1] }));
        let first = found[0].content.as_ref().unwrap();
        assert_eq!((first.id.as_str(), first.text.as_str()), ("a", "Ada"));
        assert_eq!(first.metadata, serde_json::json!({}));
    }

    #[test]
    fn each_broken_line_is_refused_with_its_reason_and_without_its_text() {
        for (line, reason) in [
            (r#"{"id":"a","text":"secret"#, "EOF while parsing a string"),
            (r#"{"id":"a" "text":"secret"}"#, "at column 11"),
            (r#"{"id":"a","text":"secret"} x"#, "trailing characters"),
            (r#""secret""#, "not a JSON object"),
            (r#"["secret","secret"]"#, "not a JSON object"),
            (r#"{"text":"secret"}"#, "no `id`"),
            (r#"{"id":null,"text":"secret"}"#, "no `id`"),
            (r#"{"id":"","text":"secret"}"#, "the id is empty"),
            (r#"{"id":["secret"],"text":"secret"}"#, "`id` is an array"),
            (r#"{"id":1.5,"text":"secret"}"#, "write it as a string"),
            (
                r#"{"id":99999999999999999999,"text":"secret"}"#,
                "write it as a string",
            ),
            (r#"{"id":"a"}"#, "no `text`"),
            (r#"{"id":"a","text":{"secret":1}}"#, "`text` is an object"),
            (
                r#"{"id":"a","text":"secret","title":["secret"]}"#,
                "`title` is an array",
            ),
            (
                r#"{"id":"a","text":"secret","metadata":"secret"}"#,
                "`metadata` is a string",
            ),
            (
                r#"{"id":"a","text":"secret","text":"secret"}"#,
                "duplicate field `text`",
            ),
        ] {
            let failure = refusal(line);
            assert_eq!(failure.code, FailureCode::BrokenLine, "{line}");
            assert!(
                failure.message.contains(reason),
                "{line}: {}",
                failure.message
            );
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said_as_for_a_file() {
        let large = format!(r#"{{"id":"a","text":"{}"}}"#, "x".repeat(65));
        assert_eq!(refusal(&large).code, FailureCode::TooLarge);
        assert_eq!(refusal(r#"{"id":"a","text":" "}"#).code, FailureCode::Empty);
        assert_eq!(
            refusal(r#"{"id":"a","text":"\u0000"}"#).code,
            FailureCode::Binary
        );
        let bytes = lines(b"{\"id\":\"a\",\"text\":\"\xE9\"}");
        assert_eq!(
            bytes[0].content.as_ref().unwrap_err().code,
            FailureCode::NotUtf8
        );
    }

    #[test]
    fn an_endless_line_is_refused_without_being_held() {
        let longest = usize::try_from(longest_line(SMALL)).unwrap();
        let text = format!(
            "{}\n{}\n{{\"id\":1,\"text\":\"x\"}}",
            "x".repeat(longest),
            "y".repeat(longest + 1)
        );
        let mut lines = Lines::new(text.as_bytes(), SMALL);
        let at_limit = lines.next_line().unwrap().content.unwrap_err();
        assert_eq!(at_limit.code, FailureCode::BrokenLine);
        let over = lines.next_line().unwrap().content.unwrap_err();
        assert_eq!(over.code, FailureCode::TooLarge);
        assert_eq!(lines.line.capacity(), 0);
        assert_eq!(lines.next_line().unwrap().content.unwrap().id, "1");
        assert!(lines.next_line().is_none());
    }
}
