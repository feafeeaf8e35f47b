//! What every document must pass, whoever submits it: the command line and the HTTP API refuse the same things
//! with the same words.
//!
//! Knows nothing of files, requests or tables. What passes here can be stored in Postgres as it is: valid UTF-8
//! without NUL, an id that fits an index. No message quotes the document.

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::flow::{Failure, FailureCode};

/// The most characters that an id may have.
const ID_CHARACTERS: usize = 512;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How large a document may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one document may have; 10 MiB unless set (`--max-document-bytes`).
    pub document_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 10 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Whether a document of that many bytes is within the limit: what can be said before it is read.
    ///
    /// # Errors
    /// `too_large`; trying again helps only with a higher limit.
    pub fn check_size(&self, bytes: u64) -> Result<(), Failure> {
        let limit = self.document_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let mut failure = Failure::terminal(
            FailureCode::TooLarge,
            format!(
                "the document has {bytes} bytes and the limit is {limit}: split it, or raise the limit with \
                 --max-document-bytes"
            ),
        );
        failure.details = serde_json::json!({ "bytes": bytes, "limit": limit });
        Err(failure)
    }
}

/// A document as it is submitted.
#[derive(Clone, PartialEq)]
pub struct NewDocument {
    /// The caller's own name for it, 1 to 512 characters, unique in its batch.
    pub id: String,
    /// Its title.
    pub title: Option<String>,
    /// The whole text.
    pub text: String,
    /// Where it came from.
    pub source_uri: Option<String>,
    /// Whatever the caller wants to keep with it: a JSON object, `{}` if there is nothing.
    pub metadata: Value,
}

/// Leaves the text out: a log must not get it by accident.
impl fmt::Debug for NewDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewDocument")
            .field("id", &self.id)
            .field("bytes", &self.text.len())
            .field("source_uri", &self.source_uri)
            .finish_non_exhaustive()
    }
}

impl NewDocument {
    /// A document with nothing but an id and a text.
    #[must_use]
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            title: None,
            text: text.into(),
            source_uri: None,
            metadata: Value::Object(serde_json::Map::new()),
        }
    }

    /// Everything that is asked of a document but that its id is new.
    ///
    /// # Errors
    /// `broken_line` for an id or metadata of the wrong form, `binary` for NUL in any field, and what
    /// [`check_text`] says. Trying the same again does not help.
    pub fn check(&self, limits: &Limits) -> Result<(), Failure> {
        check_id(&self.id)
            .map_err(|invalid| Failure::terminal(FailureCode::BrokenLine, invalid.to_string()))?;
        check_text(&self.text, limits)?;
        if !self.metadata.is_object() {
            return Err(Failure::terminal(
                FailureCode::BrokenLine,
                "`metadata` is not an object",
            ));
        }
        let has_nul = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('\0'));
        for (field, nul) in [
            ("title", has_nul(&self.title)),
            ("source_uri", has_nul(&self.source_uri)),
            ("metadata", holds_nul(&self.metadata)),
        ] {
            if nul {
                return Err(Failure::terminal(
                    FailureCode::Binary,
                    format!("`{field}` holds a NUL character, which can't be stored: remove it"),
                ));
            }
        }
        Ok(())
    }
}

/// An id that can't be used. Trying the same again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// No characters, or only white space.
    #[error("the id is empty: an id has 1 to {ID_CHARACTERS} characters")]
    Empty,
    /// Too many characters.
    #[error("the id has {characters} characters: an id has 1 to {ID_CHARACTERS}")]
    TooLong {
        /// How many it has.
        characters: usize,
    },
    /// A control character, for example a line break.
    #[error("the id holds a control character (U+{code:04X}), which an id can't have")]
    ControlCharacter {
        /// Its code point.
        code: u32,
    },
}

/// Checks a caller's id: 1 to 512 characters, not all white space, no control characters.
///
/// # Errors
/// [`InvalidId`]; trying again does not help.
pub fn check_id(id: &str) -> Result<(), InvalidId> {
    if id.trim().is_empty() {
        return Err(InvalidId::Empty);
    }
    // Counting the characters of a huge "id" is wasted work, but it's bounded by the size of a request or a line.
    let characters = id.chars().count();
    if characters > ID_CHARACTERS {
        return Err(InvalidId::TooLong { characters });
    }
    match id.chars().find(|c| c.is_control()) {
        Some(found) => Err(InvalidId::ControlCharacter {
            code: u32::from(found),
        }),
        None => Ok(()),
    }
}

/// Makes a text of a file's bytes: checks it and strips a byte order mark. Offsets in messages count from the
/// first byte of the file.
///
/// # Errors
/// `too_large`, `binary`, `not_utf8` or `empty`, in this order; trying the same again does not help.
pub fn check_bytes(mut bytes: Vec<u8>, limits: &Limits) -> Result<String, Failure> {
    limits.check_size(bytes.len() as u64)?;
    // UTF-16 is full of NUL; "binary" would send its owner the wrong way.
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(not_utf8(0, "it begins like UTF-16: "));
    }
    check_nul(&bytes)?;
    let stripped = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    bytes.drain(..stripped);
    let text = String::from_utf8(bytes)
        .map_err(|error| not_utf8(stripped + error.utf8_error().valid_up_to(), ""))?;
    check_blank(&text)?;
    Ok(text)
}

/// Checks a text that came as a string, for example in JSON.
///
/// # Errors
/// `too_large`, `binary` or `empty`, in this order; trying the same again does not help.
pub fn check_text(text: &str, limits: &Limits) -> Result<(), Failure> {
    limits.check_size(text.len() as u64)?;
    check_nul(text.as_bytes())?;
    check_blank(text)
}

/// The SHA-256 of a text: two documents with one hash hold the same.
#[must_use]
pub fn content_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The refusal of bytes that stop being UTF-8 at `offset`.
pub(crate) fn not_utf8(offset: usize, hint: &str) -> Failure {
    let mut failure = Failure::terminal(
        FailureCode::NotUtf8,
        format!("not UTF-8 at byte {offset} (from 0): {hint}convert it to UTF-8"),
    );
    failure.details = serde_json::json!({ "offset": offset });
    failure
}

fn check_nul(bytes: &[u8]) -> Result<(), Failure> {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(offset) => Err(Failure::terminal(
            FailureCode::Binary,
            format!("a NUL at byte {offset} (from 0): it's binary data, not a text"),
        )),
        None => Ok(()),
    }
}

fn check_blank(text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        let what = if text.is_empty() {
            "the document is empty"
        } else {
            "the document holds nothing but white space"
        };
        return Err(Failure::terminal(FailureCode::Empty, what));
    }
    Ok(())
}

/// Whether a string or a key anywhere in `value` has NUL, which jsonb refuses.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SMALL: Limits = Limits { document_bytes: 16 };

    fn code(bytes: &[u8]) -> FailureCode {
        check_bytes(bytes.to_vec(), &SMALL).unwrap_err().code
    }

    #[test]
    fn each_kind_of_bad_bytes_is_refused_by_its_name() {
        assert_eq!(code(b""), FailureCode::Empty);
        assert_eq!(code(b" \t\r\n"), FailureCode::Empty);
        assert_eq!(code("\u{FEFF} \u{2003}\n".as_bytes()), FailureCode::Empty);
        assert_eq!(code(b"\x89PNG\0"), FailureCode::Binary);
        assert_eq!(code(b"caf\xE9"), FailureCode::NotUtf8);
        assert_eq!(code(b"\xFF\xFEh\0i\0"), FailureCode::NotUtf8);
        assert_eq!(code(b"12345678901234567"), FailureCode::TooLarge);
        assert_eq!(
            check_bytes(b"1234567890123456".to_vec(), &SMALL).unwrap(),
            "1234567890123456"
        );
    }

    #[test]
    fn messages_name_the_place_and_the_remedy() {
        let message = |bytes: &[u8]| check_bytes(bytes.to_vec(), &SMALL).unwrap_err().message;
        assert!(message(b"caf\xE9").contains("byte 3"));
        assert!(message(b"\xEF\xBB\xBFcaf\xE9").contains("byte 6"));
        let large = message(b"12345678901234567");
        for part in ["17", "16", "--max-document-bytes"] {
            assert!(large.contains(part), "{large}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_stripped() {
        let bytes = "\u{FEFF}Ada".as_bytes().to_vec();
        assert_eq!(check_bytes(bytes, &SMALL).unwrap(), "Ada");
    }

    #[test]
    fn ids_are_short_and_printable() {
        assert_eq!(check_id(""), Err(InvalidId::Empty));
        assert_eq!(check_id("  "), Err(InvalidId::Empty));
        assert_eq!(check_id(&"é".repeat(512)), Ok(()));
        assert_eq!(
            check_id(&"é".repeat(513)),
            Err(InvalidId::TooLong { characters: 513 })
        );
        assert_eq!(
            check_id("a\nb"),
            Err(InvalidId::ControlCharacter { code: 10 })
        );
    }

    #[test]
    fn nul_is_refused_in_every_field() {
        let limits = Limits::default();
        let good = NewDocument::new("a", "text");
        assert_eq!(good.check(&limits), Ok(()));
        let with = |change: fn(&mut NewDocument)| {
            let mut document = good.clone();
            change(&mut document);
            document.check(&limits).unwrap_err().code
        };
        assert_eq!(with(|d| d.text = "a\0".into()), FailureCode::Binary);
        assert_eq!(with(|d| d.title = Some("\0".into())), FailureCode::Binary);
        assert_eq!(
            with(|d| d.metadata = json!({ "a": [{ "b\0": 1 }] })),
            FailureCode::Binary
        );
        assert_eq!(with(|d| d.metadata = json!([])), FailureCode::BrokenLine);
        assert_eq!(with(|d| d.id.clear()), FailureCode::BrokenLine);
    }

    #[test]
    fn debug_output_holds_no_text() {
        let shown = format!("{:?}", NewDocument::new("a", "secret"));
        assert!(shown.contains('6') && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(content_hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    proptest! {
        #[test]
        fn what_passes_as_bytes_passes_as_text(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(text) = check_bytes(bytes, &SMALL) {
                prop_assert_eq!(check_text(&text, &SMALL), Ok(()));
            }
        }
    }
}
