//! Writing: results to stdout, everything else to stderr. A closed pipe is not an error worth a word.

use std::{
    error::Error,
    io::{self, Write},
};

use serde::Serialize;

use crate::telemetry;

use super::error::CliError;

/// Writes a line to stdout.
pub(super) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes what is text already, with its line breaks, to stdout.
pub(super) fn bytes(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// Writes one JSON value and a line break to stdout.
pub(super) fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::other)?;
    line(&text)
}

/// What became of a result that was written: a closed pipe is the reader's choice, a full disk is an error.
pub(super) fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Write {
            path: "stdout".to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line to stderr.
pub(super) fn note(text: &str) {
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes an error with its causes to stderr, in one line.
pub(super) fn complain(error: &dyn Error) {
    note(&format!("graphmill: {}", telemetry::causes(error)).replace('\n', "; "));
}

/// Whether somebody looks at stderr.
pub(super) fn is_watched() -> bool {
    use std::io::IsTerminal;
    io::stderr().is_terminal()
}
