//! The bill: what reached the server and what became of it, told by the server alone.
//!
//! Knows lines in a file and their copy in memory; must not know why a request was answered as it was.
//!
//! Invariant: a line is with the operating system before the server goes on, so that a killed server has not lost one
//! that a client could know of. A bill that is opened again is gone on with, under further numbers.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// What is told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It is there, with its whole body.
    Received,
    /// The server is through with it; the answer, if there is one, leaves after this.
    Answered,
}

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// The request's number on this bill, from 1.
    pub n: u64,
    /// Milliseconds since the server started, by a clock that never leaps.
    pub at_ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// `chat` or `embeddings`.
    pub endpoint: String,
    /// `X-Graphmill-Call`.
    pub call: Option<String>,
    /// Whether an `Authorization` came with it.
    pub authorization: bool,
    /// SHA-256 of the body, in hex.
    pub request_sha256: String,
    /// The model that was asked for.
    pub model: Option<String>,
    /// The task, as the system message tells it.
    pub task: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Whether it costs something.
    pub billed: bool,
    /// The status; none while it is in work, and none when no head was sent.
    pub status: Option<u16>,
    /// The rule that was played: its name, or its number from 1.
    pub rule: Option<String>,
    /// Whether the client was gone when the work was done.
    pub client_left: bool,
    /// Requests in the server, this one included.
    pub in_flight: u64,
}

/// Sums over a bill.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that the server is through with.
    pub answered: u64,
    /// Requests that cost something.
    pub billed: u64,
    /// Tokens of prompts that cost something.
    pub prompt_tokens: u64,
    /// Tokens of answers that cost something.
    pub completion_tokens: u64,
    /// Answers by status; `none` where no head was sent.
    pub statuses: BTreeMap<String, u64>,
    /// Requests in the server now.
    pub in_flight: u64,
    /// The most there ever were.
    pub max_in_flight: u64,
    /// The most requests that arrived in any sliding minute.
    pub max_per_minute: u64,
    /// Calls, by `X-Graphmill-Call`, that arrived more than once, and how often.
    pub repeated_calls: BTreeMap<String, u64>,
    /// Requests, by hash, that arrived more than once, and how often.
    pub repeated_requests: BTreeMap<String, u64>,
    /// Requests, by hash, that were billed more than once, and how often.
    pub billed_again: BTreeMap<String, u64>,
}

/// The bill of a server.
#[derive(Debug, Default)]
pub(super) struct Bill {
    file: Option<File>,
    entries: Vec<Entry>,
    attempts: HashMap<String, u64>,
    requests: u64,
}

impl Bill {
    /// Opens a bill, or one in memory alone.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        let mut bill = Self {
            file: Some(file),
            ..Self::default()
        };
        // A line that was torn with its server is nothing that a client could know of.
        for entry in text.lines().flat_map(serde_json::from_str) {
            bill.remember(entry);
        }
        Ok(bill)
    }

    /// The number that the next request gets.
    pub(super) fn next_number(&self) -> u64 {
        self.requests + 1
    }

    /// How often a request has come.
    pub(super) fn attempts(&self, request_sha256: &str) -> u64 {
        self.attempts.get(request_sha256).copied().unwrap_or(0)
    }

    /// Writes a line.
    pub(super) fn write(&mut self, entry: Entry) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        self.remember(entry);
        Ok(())
    }

    fn remember(&mut self, entry: Entry) {
        if entry.event == Event::Received {
            self.requests = self.requests.max(entry.n);
            *self
                .attempts
                .entry(entry.request_sha256.clone())
                .or_default() += 1;
        }
        self.entries.push(entry);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Stats {
    /// Sums up; requests without an end are taken for in flight.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let mut stats = Self::default();
        let mut arrivals = Vec::new();
        for entry in entries {
            match entry.event {
                Event::Received => {
                    stats.requests += 1;
                    stats.max_in_flight = stats.max_in_flight.max(entry.in_flight);
                    arrivals.push(entry.unix_ms);
                    if let Some(call) = &entry.call {
                        *stats.repeated_calls.entry(call.clone()).or_default() += 1;
                    }
                    let hash = entry.request_sha256.clone();
                    *stats.repeated_requests.entry(hash).or_default() += 1;
                }
                Event::Answered => {
                    stats.answered += 1;
                    let head = (entry.status).map_or("none".to_owned(), |code| code.to_string());
                    *stats.statuses.entry(head).or_default() += 1;
                    if entry.billed {
                        stats.billed += 1;
                        stats.prompt_tokens += entry.prompt_tokens;
                        stats.completion_tokens += entry.completion_tokens;
                        let hash = entry.request_sha256.clone();
                        *stats.billed_again.entry(hash).or_default() += 1;
                    }
                }
            }
        }
        stats.in_flight = stats.requests.saturating_sub(stats.answered);
        for counts in [
            &mut stats.repeated_calls,
            &mut stats.repeated_requests,
            &mut stats.billed_again,
        ] {
            counts.retain(|_, count| *count > 1);
        }
        stats.max_per_minute = busiest(&mut arrivals, 60_000);
        stats
    }
}

/// The most of these times that lie within any `window`, its end left out.
pub(super) fn busiest(times: &mut [u64], window: u64) -> u64 {
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for last in 0..times.len() {
        while times[last] - times[first] >= window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_minute_slides() {
        assert_eq!(busiest(&mut [], 60), 0);
        assert_eq!(busiest(&mut [0, 59, 60, 61], 60), 3);
        assert_eq!(busiest(&mut [120, 0, 60], 60), 1);
        assert_eq!(busiest(&mut [5, 5, 5], 60), 3);
    }
}
