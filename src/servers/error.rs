//! What can go wrong with the private servers, each with its remedy. Knows no process and no file.

use std::io;
use std::path::PathBuf;

/// Why the private servers are not there.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// No usable binaries on this machine.
    #[error(
        "no {missing} found: set DATABASE_URL and REDIS_URL, or run ./do setup \
         (apt-get install -y --no-install-recommends postgresql redis-server)"
    )]
    Missing {
        /// `Postgres`, `Redis` or `Postgres/Redis`.
        missing: &'static str,
    },
    /// The cluster in the folder was made by another major version.
    #[error(
        "{} was made by Postgres {major}, which is not installed: install postgresql-{major}, \
         or move the folder away to start empty", .pg.display()
    )]
    OtherMajor {
        /// The cluster.
        pg: PathBuf,
        /// The major version that made it.
        major: u32,
    },
    /// Root, and no other user that Postgres could run as.
    #[error(
        "Postgres refuses to run as root and can run here neither as `postgres` nor as `nobody`: \
         start graphmill as another user, or set DATABASE_URL"
    )]
    NoIdentity,
    /// The folder or something in it can't be made, read or written.
    #[error("can't {attempt} {}: {source}; give another folder (GRAPHMILL_DATA_DIR)", .path.display())]
    Folder {
        /// What was tried, as a verb.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder for sockets below `/tmp` belongs to somebody else.
    #[error("{} belongs to another user: remove it, or give a folder with a shorter path (GRAPHMILL_DATA_DIR)", .0.display())]
    ForeignRunFolder(PathBuf),
    /// Processes of a dead owner don't go away.
    #[error("{} is still in use by leftover processes ({pids}): end them, then try again", .dir.display())]
    Leftovers {
        /// The folder.
        dir: PathBuf,
        /// Who holds it, as far as can be seen.
        pids: String,
    },
    /// The process that owns the folder doesn't run what was asked for.
    #[error(
        "process {owner} uses {} without {server}: wait for its end, or give another folder (GRAPHMILL_DATA_DIR)",
        .dir.display()
    )]
    OwnerRunsLess {
        /// The owner's process id.
        owner: String,
        /// The folder.
        dir: PathBuf,
        /// The server that it doesn't run.
        server: &'static str,
    },
    /// A binary can't be run at all.
    #[error("can't run {}: {source}", .program.display())]
    Run {
        /// The binary.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Making the cluster failed.
    #[error("can't make a Postgres cluster ({step}): {output}")]
    Init {
        /// `initdb` or `create database`.
        step: &'static str,
        /// What the program said.
        output: String,
    },
    /// A server ended while it was starting.
    #[error("{server} did not start ({status}); the end of {}:\n{tail}", .log.display())]
    Died {
        /// Which.
        server: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A server runs but doesn't answer.
    #[error("{server} did not answer within {seconds} s; see {}", .log.display())]
    Silent {
        /// Which.
        server: &'static str,
        /// How long it was waited for.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
    },
    /// The supervising thread can't be started or has ended.
    #[error("can't supervise the private servers: {0}")]
    Thread(#[source] io::Error),
    /// `stop` came while the servers were starting.
    #[error("stopped while the private servers were starting")]
    Stopped,
}

impl ServersError {
    /// Names the attempt and the path of an I/O error, for `map_err`.
    pub(super) fn folder(
        attempt: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder {
            attempt,
            path,
            source,
        }
    }

    /// Names the program of an I/O error, for `map_err`.
    pub(super) fn run(program: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Run { program, source }
    }
}
