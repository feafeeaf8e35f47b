//! What is said, and where: progress to stderr, results to stdout.

use std::io::Write;

/// A line of progress.
pub(crate) fn note(line: &str) {
    // Whoever closed the pipe does not want to hear it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line of the result.
pub(crate) fn result(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
