//! Logs: to stderr, for people or as JSON; and traces: to a collector, if there is one. No document text, prompt, answer
//! or key is ever logged or traced.

mod context;
mod export;
mod otlp;
mod span;

use std::{error::Error, io::IsTerminal};

use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider, ShouldSample},
};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

pub use context::TraceContext;
pub use export::Exporting;
pub use otlp::CollectorError;
pub use span::{Does, Span, derived, stand, traces};

use crate::config::{LogArgs, LogFormat, Share, TraceSettings};

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
        LogFormat::Text => logs
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    Ok(())
}

/// Begins to make traces, until what it returns is ended. To be called on the runtime that is to deliver them. `None`:
/// they are made already.
///
/// # Errors
/// [`CollectorError`]; whether there is a collector at the address is found out later, and no error.
pub fn begin_traces(settings: &TraceSettings) -> Result<Option<Exporting>, CollectorError> {
    let root = match settings.share {
        Share::All => Sampler::AlwaysOn,
        Share::None => Sampler::AlwaysOff,
        Share::Of(share) => Sampler::TraceIdRatioBased(share),
    };
    let sampler: Box<dyn ShouldSample> = if settings.parent_decides {
        Box::new(Sampler::ParentBased(Box::new(root.clone())))
    } else {
        Box::new(root.clone())
    };
    let resource = resource(settings);
    let (funnel, exporting) = export::begin(otlp::Collector::new(settings, &resource)?);
    let scope = InstrumentationScope::builder("graphmill")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_resource(resource)
        .with_span_processor(funnel.clone())
        .build();
    let begun = span::set(span::Maker {
        tracer: provider.tracer_with_scope(scope.clone()),
        root: Box::new(root),
        scope,
        funnel,
    });
    Ok(begun.then_some(exporting))
}

/// What traces say of this process.
fn resource(settings: &TraceSettings) -> Resource {
    let given = settings
        .attributes
        .iter()
        .map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        ])
        .with_attributes(given)
        .with_service_name(settings.service.clone())
        .build()
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
