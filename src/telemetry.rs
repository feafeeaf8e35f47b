//! Logs: to stderr, for people or as JSON. No document text, prompt, answer or key is ever logged.

mod context;

use std::error::Error;

use tracing_subscriber::EnvFilter;

pub use context::TraceContext;

use crate::config::{LogArgs, LogFormat};

/// The filter can't be read. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{filter}` is not a log filter: give a level (error, warn, info, debug, trace) or target=level,…"
)]
pub struct LogFilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Sets logging up for the process, with `level` where no filter was asked for.
///
/// # Errors
/// [`LogFilterError`] names the filter.
pub fn init(args: &LogArgs, level: &str) -> Result<(), LogFilterError> {
    let wanted = args.log.clone().filter(|filter| !filter.is_empty());
    // Where people read the summary, what the parts we build on grumble about is noise: what matters of it comes
    // back as an error of ours.
    let others = if level == "warn" { "error" } else { "warn" };
    let filter = wanted.unwrap_or_else(|| format!("{others},graphmill={level}"));
    let parsed = EnvFilter::try_new(&filter).map_err(|source| LogFilterError {
        filter: filter.clone(),
        source,
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr);
    say_where_it_panics();
    // A second call in one process changes nothing, which is what an embedding program wants.
    let _ = match args.log_format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    Ok(())
}

/// A panic's message may quote a document, so the log has its place only.
fn say_where_it_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "a panic, which is a bug");
    }));
}

/// An error with its causes, each said once.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}
