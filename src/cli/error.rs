//! Why a command failed, and the exit code that says so.

use std::process::ExitCode;

use super::input::InputError;
use crate::{
    config::{ModelConfigError, TraceConfigError},
    graph::ExportError,
    mock_model::ScriptError,
    queue::QueueError,
    servers::ServersError,
    store::StoreError,
    telemetry::{CollectorError, LogFilterError},
    worker::WorkerError,
    workflow::{ExportFailure, LinkError, RemoveError, RerunError, SignalError, SubmitError},
};

/// Some document did not complete, or was refused.
pub(super) const SOME_FAILED: u8 = 1;
/// Wrong usage, or nothing usable.
pub(super) const USAGE: u8 = 2;
/// A server is missing or failed.
pub(super) const SERVER: u8 = 3;
/// Interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    LogFilter(#[from] LogFilterError),
    #[error(transparent)]
    Traces(#[from] TraceConfigError),
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// The command was called in a way that can't be meant; the message has the remedy.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    Servers(#[from] ServersError),
    #[error(
        "{variable} is not set, and private servers are switched off: set it, or leave out --no-embedded"
    )]
    NoEmbedded { variable: &'static str },
    #[error(
        "the database's schema is at version {applied}, this graphmill needs {known}: run `graphmill migrate`"
    )]
    SchemaBehind { applied: i64, known: i64 },
    #[error(transparent)]
    Models(#[from] ModelConfigError),
    #[error("the built-in ontology is broken")]
    Ontology(#[source] crate::graph::OntologyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Submit(SubmitError),
    #[error(transparent)]
    Signal(#[from] SignalError),
    #[error(transparent)]
    Export(ExportFailure),
    #[error("`{path}` can't be written")]
    Write {
        path: String,
        source: std::io::Error,
    },
    #[error("can't listen on {address}")]
    Listen {
        address: String,
        source: std::io::Error,
    },
    #[error("can't listen on {address} for metrics (--metrics)")]
    ListenForMetrics {
        address: String,
        source: std::io::Error,
    },
    #[cfg(feature = "train")]
    #[error(transparent)]
    Train(#[from] crate::extractors::train::TrainError),
    #[error("no threads can be started")]
    Runtime(#[source] std::io::Error),
}

impl From<SubmitError> for CliError {
    fn from(error: SubmitError) -> Self {
        match &error {
            SubmitError::Store(StoreError::NameTaken(name)) => Self::Usage(format!(
                "the name `{name}` is taken by another batch: give another --name, or go on with that batch: \
                 --resume {name}"
            )),
            SubmitError::Illegal(refused) => {
                let remedy = match refused.machine {
                    "open batch" => "seal it first (`graphmill batch seal`), and wait for its end",
                    "sealed batch" => "wait for its end (`graphmill batch watch`), or cancel it",
                    "ended batch" => "it is sealed",
                    "stopping batch" => "wait for its end (`graphmill batch watch`)",
                    _ => "go on with it first: `graphmill batch retry`",
                };
                Self::Usage(format!("{refused}: {remedy}"))
            }
            SubmitError::Store(_)
            | SubmitError::Settings(_)
            | SubmitError::Sealed
            | SubmitError::Refused => Self::Submit(error),
        }
    }
}

impl From<RemoveError> for CliError {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Change(error) => error.into(),
            unknown @ RemoveError::Unknown(_) => {
                Self::Usage(format!("{unknown}: nothing was removed"))
            }
        }
    }
}

impl From<RerunError> for CliError {
    fn from(error: RerunError) -> Self {
        match error {
            RerunError::Change(error) => error.into(),
            RerunError::Unknown | RerunError::NoRecipe(_) | RerunError::Chunks => {
                Self::Usage(error.to_string())
            }
        }
    }
}

impl From<ExportFailure> for CliError {
    fn from(error: ExportFailure) -> Self {
        match error {
            ExportFailure::Write(ExportError::Write(source)) => Self::Write {
                path: "the export".to_owned(),
                source,
            },
            ExportFailure::Write(_) | ExportFailure::Store(_) | ExportFailure::NoBatch(_) => {
                Self::Export(error)
            }
        }
    }
}

impl From<LinkError> for CliError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Store(error) => Self::Store(error),
            LinkError::UnknownLink(_)
            | LinkError::UnknownCluster(_)
            | LinkError::NotAMember { .. }
            | LinkError::WholeCluster(_)
            | LinkError::Gone(_)
            | LinkError::Contradicts(_)
            | LinkError::TooLarge => Self::Usage(error.to_string()),
        }
    }
}

impl CliError {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_)
            | Self::LogFilter(_)
            | Self::Traces(_)
            | Self::Collector(_)
            | Self::Usage(_)
            | Self::Models(_)
            | Self::Script(_)
            // What may be had is used up: nothing is wrong with a server.
            | Self::Store(StoreError::Quota { .. })
            | Self::Submit(SubmitError::Store(StoreError::Quota { .. }))
            | Self::Write { .. } => USAGE,
            #[cfg(feature = "train")]
            Self::Train(_) => USAGE,
            Self::Servers(_)
            | Self::NoEmbedded { .. }
            | Self::SchemaBehind { .. }
            | Self::Ontology(_)
            | Self::Store(_)
            | Self::Queue(_)
            | Self::Worker(_)
            | Self::Submit(_)
            | Self::Signal(_)
            | Self::Export(_)
            | Self::Listen { .. }
            | Self::ListenForMetrics { .. }
            | Self::Runtime(_) => SERVER,
        })
    }
}
