//! The real binary, on a database and a Redis of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{Database, Redis};

/// A database with the schema.
pub(crate) async fn migrated() -> Database {
    Database::clone_of(super::template().await).await
}

/// The binary with nothing of the environment's settings: without addresses it would start private servers.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graphmill"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GRAPHMILL_") || text.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("DATABASE_URL")
        .env_remove("REDIS_URL")
        .env_remove("TRACEPARENT")
        .stdin(Stdio::null());
    command
}

/// The binary on these servers.
pub(crate) fn command(database: &Database, redis: &Redis) -> Command {
    let mut command = bare();
    command
        .env("DATABASE_URL", database.url())
        .env("REDIS_URL", redis.url());
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Asserts the exit code; says everything else when it is another one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The one JSON value that is all of stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(self.stdout.ends_with('\n'), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// Runs a command to its end.
pub(crate) fn say(command: &mut Command) -> Said {
    command.output().unwrap().into()
}

/// A folder of the examples.
pub(crate) fn examples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}
