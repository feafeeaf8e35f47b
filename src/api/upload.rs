//! Bodies that are taken in as they arrive: JSON Lines, and the files of a form.
//!
//! Knows how a document is cut out of either, and under which name it goes. Must not know what becomes of it.
//! Invariants: no more than one document is held, and of one that is too large nothing; every line and every file comes
//! out exactly once, and no two under one name.

use std::{collections::HashSet, time::Duration};

use axum::{
    body::{BodyDataStream, Bytes},
    extract::{FromRequest, Multipart, Request, multipart::MultipartError},
    http::{HeaderMap, StatusCode},
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{problem::Problem, receive};
use crate::{
    flow::{Failure, FailureCode},
    pipeline::{
        Limits, NewDocument, check_bytes, check_id, line_too_long, longest_line, parse_line,
    },
    workflow::Entry,
};

/// How long a body may be silent, and how long all of it may take.
const SILENCE: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(15 * 60);

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One document a line.
    Lines,
    /// The files of a form.
    Files,
}

/// What the content type says; `None`: something else.
pub(super) fn kind(headers: &HeaderMap) -> Option<Kind> {
    if !receive::is_plain(headers) {
        return None;
    }
    let essence = receive::essence(headers)?;
    match essence.to_ascii_lowercase().as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Some(Kind::Lines),
        "multipart/form-data" => Some(Kind::Files),
        _ => None,
    }
}

/// A body that is read piece by piece.
pub(super) struct Source {
    from: From,
    names: Names,
    limits: Limits,
    /// Bytes of the pieces so far, and their hash.
    bytes: u64,
    hash: Sha256,
    pieces: u64,
    upload_bytes: u64,
    until: Instant,
}

enum From {
    Lines {
        body: BodyDataStream,
        buffer: Bytes,
        received: u64,
    },
    Files(Multipart),
}

impl Source {
    /// Begins to read a body of `upload_bytes` at most.
    ///
    /// # Errors
    /// 400 or 413.
    pub(super) async fn open(
        kind: Kind,
        request: Request,
        limits: Limits,
        upload_bytes: u64,
    ) -> Result<Self, Problem> {
        if receive::announced(request.headers()).is_some_and(|bytes| bytes > upload_bytes) {
            let refused = receive::too_large(upload_bytes);
            return Err(receive::refused(request, refused).await);
        }
        let from = match kind {
            Kind::Lines => From::Lines {
                body: request.into_body().into_data_stream(),
                buffer: Bytes::new(),
                received: 0,
            },
            Kind::Files => From::Files(
                Multipart::from_request(request, &())
                    .await
                    .map_err(|_| unreadable())?,
            ),
        };
        Ok(Self {
            from,
            names: Names::default(),
            limits,
            bytes: 0,
            hash: Sha256::new(),
            pieces: 0,
            upload_bytes,
            until: Instant::now() + WHOLE,
        })
    }

    /// How many bytes the pieces so far have.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the pieces so far. Of a form what counts is the files' names and contents: what parts them is made up
    /// for every request.
    pub(super) fn hash(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// The next document, or the next one that is refused.
    ///
    /// # Errors
    /// 400, 408, 413 or 422: nothing more can be read.
    pub(super) async fn next_entry(&mut self) -> Result<Option<Entry>, Problem> {
        match self.from {
            From::Lines { .. } => self.next_line().await,
            From::Files(_) => self.next_file().await,
        }
    }

    /// Reads to the end for the hash alone.
    ///
    /// # Errors
    /// As [`Source::next_entry`].
    pub(super) async fn read_all(&mut self) -> Result<(), Problem> {
        while self.next_entry().await?.is_some() {}
        Ok(())
    }

    /// Takes the rest off the wire.
    pub(super) async fn discard(&mut self) {
        if let From::Lines { body, .. } = &mut self.from {
            let rest = async { while let Some(Ok(_)) = body.next().await {} };
            let _ = tokio::time::timeout(SILENCE, rest).await;
        }
    }

    /// The next part of the body, within its time.
    async fn part(&mut self) -> Result<Option<Bytes>, Problem> {
        let until = self.until.min(Instant::now() + SILENCE);
        let From::Lines { body, received, .. } = &mut self.from else {
            return Ok(None);
        };
        match tokio::time::timeout_at(until, body.next()).await {
            Err(_) => Err(silent()),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(unreadable()),
            Ok(Some(Ok(part))) => {
                *received += part.len() as u64;
                if *received > self.upload_bytes {
                    let limit = self.upload_bytes;
                    self.discard().await;
                    return Err(receive::too_large(limit));
                }
                Ok(Some(part))
            }
        }
    }

    async fn next_line(&mut self) -> Result<Option<Entry>, Problem> {
        let longest = longest_line(self.limits);
        loop {
            let mut line = Vec::new();
            let mut length = 0;
            let mut any = false;
            loop {
                let From::Lines { buffer, .. } = &mut self.from else {
                    return Ok(None);
                };
                if buffer.is_empty() {
                    match self.part().await? {
                        None => break,
                        Some(part) => {
                            if let From::Lines { buffer, .. } = &mut self.from {
                                *buffer = part;
                            }
                            continue;
                        }
                    }
                }
                any = true;
                let feed = buffer.iter().position(|&byte| byte == b'\n');
                let used = buffer.split_to(feed.map_or(buffer.len(), |feed| feed + 1));
                let content = &used[..feed.unwrap_or(used.len())];
                length += content.len() as u64;
                if length > longest {
                    line = Vec::new();
                } else {
                    line.extend_from_slice(content);
                }
                self.bytes += used.len() as u64;
                self.hash.update(&used);
                if feed.is_some() {
                    break;
                }
            }
            if !any {
                return Ok(None);
            }
            self.pieces += 1;
            let label = format!("line {}", self.pieces);
            if length > longest {
                let refused = line_too_long(length, self.limits);
                return Ok(Some(self.names.entry(&label, None, Err(refused))));
            }
            let line = match self.pieces {
                1 => line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line),
                _ => &line,
            };
            if !line.trim_ascii().is_empty() {
                let (id, content) = parse_line(line, self.limits);
                return Ok(Some(self.names.entry(&label, id, content)));
            }
        }
    }

    async fn next_file(&mut self) -> Result<Option<Entry>, Problem> {
        let From::Files(form) = &mut self.from else {
            return Ok(None);
        };
        let until = |until: Instant| until.min(Instant::now() + SILENCE);
        let field = tokio::time::timeout_at(until(self.until), form.next_field()).await;
        let Some(mut field) = field
            .map_err(|_| silent())?
            .map_err(|error| broken(&error))?
        else {
            return Ok(None);
        };
        self.pieces += 1;
        let Some(id) = field.file_name().map(str::to_owned) else {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "part {} of the form is no file: every part has a `filename`, which is its document's id, and \
                     the batch's options stand in the query",
                    self.pieces
                ),
            ));
        };
        let mut bytes = Vec::new();
        let mut length = 0_u64;
        loop {
            let chunk = tokio::time::timeout_at(until(self.until), field.chunk()).await;
            let chunk = chunk
                .map_err(|_| silent())?
                .map_err(|error| broken(&error))?;
            let Some(chunk) = chunk else { break };
            length += chunk.len() as u64;
            self.hash.update(&chunk);
            if self.bytes + length > self.upload_bytes {
                return Err(receive::too_large(self.upload_bytes));
            }
            if length > self.limits.document_bytes {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(&chunk);
            }
        }
        self.bytes += length;
        self.hash.update(length.to_be_bytes());
        self.hash.update(id.as_bytes());
        self.hash.update((id.len() as u64).to_be_bytes());
        let label = format!("file {}", self.pieces);
        let (id, content) = if let Err(invalid) = check_id(&id) {
            let failure = Failure::terminal(FailureCode::BrokenLine, invalid.to_string());
            (None, Err(failure))
        } else {
            let text = self
                .limits
                .check_size(length)
                .and_then(|()| check_bytes(bytes, &self.limits));
            let content = text.map(|text| NewDocument::new(id.clone(), text));
            (Some(id), content)
        };
        Ok(Some(self.names.entry(&label, id, content)))
    }
}

fn silent() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        format!(
            "the body was silent for {} s, or took longer than {} minutes in all",
            SILENCE.as_secs(),
            WHOLE.as_secs() / 60
        ),
    )
}

fn unreadable() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "the body did not arrive whole, or is not what its content type says: send it again",
    )
}

fn broken(error: &MultipartError) -> Problem {
    // Its own words may quote a name.
    tracing::debug!(status = error.status().as_u16(), "a form could not be read");
    unreadable()
}

/// The names that are taken, by the first 128 bits of their SHA-256: a million of them stay small.
#[derive(Default)]
struct Names(HashSet<[u8; 16]>);

impl Names {
    fn take(&mut self, name: &str) -> bool {
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(name)[..16]);
        self.0.insert(key)
    }

    /// `wanted`, or with a number if that is taken.
    fn free(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2_u32;
        while !self.take(&name) {
            name = format!("{wanted} ({number})");
            number += 1;
        }
        name
    }

    /// What comes out under a name of its own.
    fn entry(
        &mut self,
        label: &str,
        id: Option<String>,
        content: Result<NewDocument, Failure>,
    ) -> Entry {
        match content {
            Ok(document) if self.take(&document.id) => Entry::Document(document),
            Ok(document) => {
                let failure = Failure::terminal(
                    FailureCode::DuplicateId,
                    format!(
                        "the id `{}` of {label} is already that of another document: give one of them another id",
                        document.id
                    ),
                );
                let name = self.free(&format!("{} ({label})", document.id));
                Entry::Refused { name, failure }
            }
            Err(failure) => {
                let name = match id {
                    Some(id) if self.take(&id) => id,
                    Some(id) => self.free(&format!("{id} ({label})")),
                    None => self.free(label),
                };
                Entry::Refused { name, failure }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(text: &'static str, parts: usize) -> Vec<String> {
        let parts: Vec<Result<Bytes, std::io::Error>> = text
            .as_bytes()
            .chunks(parts)
            .map(|part| Ok(Bytes::from_static(part)))
            .collect();
        let body = axum::body::Body::from_stream(futures_util::stream::iter(parts));
        let request = Request::new(body);
        let limits = Limits { document_bytes: 64 };
        let mut source = Source::open(Kind::Lines, request, limits, 1 << 20)
            .await
            .unwrap();
        let mut told = Vec::new();
        while let Some(entry) = source.next_entry().await.unwrap() {
            told.push(match entry {
                Entry::Document(document) => document.id,
                Entry::Refused { name, failure } => format!("{name}: {}", failure.code.as_str()),
            });
        }
        assert_eq!(source.bytes(), text.len() as u64);
        assert_eq!(source.hash(), <[u8; 32]>::from(Sha256::digest(text)));
        told
    }

    #[tokio::test]
    async fn every_line_comes_out_once_however_it_is_cut() {
        let text = "\u{FEFF}{\"id\":\"a\",\"text\":\"one\"}\n\n{\"id\":\"a\",\"text\":\"two\"}\r\nsecret\n\
                    {\"id\":\"line 4\",\"text\":\"x\"}\n{\"id\":\"b\",\"text\":\" \"}\n{\"id\":\"b\",\"text\":\"y\"}";
        let wanted = [
            "a",
            "a (line 3): duplicate_id",
            "line 4: broken_line",
            "line 4 (line 5): duplicate_id",
            "b: empty",
            "b (line 7): duplicate_id",
        ];
        for parts in [1, 7, 4096] {
            assert_eq!(told(text, parts).await, wanted, "{parts}");
        }
    }
}
