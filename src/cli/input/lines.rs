//! A JSON Lines file: one document a line.
//!
//! Holds one line at a time, and drops a line as soon as it turns out to be too long. Messages name the reason and never
//! quote the line: what serde would quote is ruled out before serde is asked.

use std::io::{self, BufRead};

use crate::{
    flow::{Failure, FailureCode},
    pipeline::{Limits, NewDocument, line_too_long, longest_line, parse_line},
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
            Ok(()) => parse_line(self.line(), self.limits),
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
                    return Some((number, Err(line_too_long(bytes, self.limits))));
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
