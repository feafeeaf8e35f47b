//! Private servers: real Postgres and real Redis as supervised children of this process, on unix sockets below one
//! folder, for a machine where nobody has set up either.
//!
//! Knows binaries, folders, locks and processes. Must not know any other room, SQL drivers, the queue or the
//! environment: what the environment says comes in through [`Settings`]. Synchronous, and safe to call from a
//! blocking task: every child belongs to a thread of this room's own, because a child's death signal follows the
//! thread that forked it.
//!
//! Invariants:
//! - At most one process supervises a folder (`owner`), and nothing starts in it while any child of an earlier owner
//!   lives (`lock`, which the children inherit).
//! - No server outlives its owner, whatever kills it.
//! - Whoever attached to a living owner's servers takes them over when the owner goes, on the same URLs.
//! - The folder `pg` is either absent or a whole cluster that has the database `graphmill`.

mod attach;
mod binaries;
mod child;
mod crew;
mod error;
mod folder;
mod identity;
mod plan;
mod postgres;
mod redis;
mod supervisor;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use binaries::Versions;
pub use error::ServersError;

use plan::Plan;
use supervisor::{Shared, Supervisor};

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder for data, sockets, locks and logs; made when missing. It fixes the URLs.
    pub dir: PathBuf,
    /// Whether to run Postgres.
    pub postgres: bool,
    /// Whether to run Redis.
    pub redis: bool,
    /// What the servers promise about acknowledged writes.
    pub durability: Durability,
    /// The folder that holds `postgres` and `initdb`; `None` looks in the usual places.
    pub pg_bin: Option<PathBuf>,
    /// The `redis-server` to run; `None` looks in the usual places.
    pub redis_server: Option<PathBuf>,
    /// `LD_LIBRARY_PATH` for the servers, never for this process: needed by privately unpacked ones.
    pub library_path: Option<OsString>,
    /// The `PATH` to look for binaries in; `None` looks in the usual places only.
    pub search_path: Option<OsString>,
    /// Postgres' `max_connections`.
    pub max_connections: u32,
}

impl Settings {
    /// Both servers in `dir`, durable, from whatever is installed in the usual places.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            postgres: true,
            redis: true,
            durability: Durability::Full,
            pg_bin: None,
            redis_server: None,
            library_path: None,
            search_path: None,
            max_connections: 100,
        }
    }

    fn wants(&self, server: Server) -> bool {
        match server {
            Server::Postgres => self.postgres,
            Server::Redis => self.redis,
        }
    }
}

/// What the servers promise about acknowledged writes. Neither level loses one when processes are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Also safe against power loss, except for Redis' last second.
    Full,
    /// For throw-away data: nothing is forced to the disk.
    Test,
}

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The database.
    Postgres,
    /// The queue.
    Redis,
}

impl Server {
    const ALL: [Self; 2] = [Self::Redis, Self::Postgres];

    /// The name that errors, logs and log files use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// The private servers of one folder, running for as long as this value lives.
#[derive(Debug)]
pub struct Servers {
    settings: Settings,
    dir: PathBuf,
    database_url: String,
    redis_url: String,
    versions: Versions,
    shared: Arc<Shared>,
    supervisor: Supervisor,
}

impl Servers {
    /// Starts the servers, or attaches to those that another living process runs in the same folder. Returns when
    /// all that were asked for answer; the database `graphmill` exists by then.
    ///
    /// # Errors
    /// When a binary is missing, the folder can't be used, or a server doesn't come up. Every message is one line
    /// with its remedy, then perhaps the last lines of a log; trying again helps only after the remedy.
    pub fn start(settings: Settings) -> Result<Self, ServersError> {
        let plan = Plan::new(settings)?;
        let shared = Arc::new(Shared::default());
        let (settings, dir, versions) = (
            plan.settings.clone(),
            plan.folder.dir.clone(),
            plan.binaries.versions.clone(),
        );
        let database_url = plan.folder.database_url();
        let redis_url = plan.folder.redis_url();
        let supervisor = Supervisor::start(plan, Arc::clone(&shared))?;
        Ok(Self {
            settings,
            dir,
            database_url,
            redis_url,
            versions,
            shared,
            supervisor,
        })
    }

    /// Where to reach Postgres; `None` when it wasn't asked for.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.settings.postgres.then_some(self.database_url.as_str())
    }

    /// Where to reach Redis; `None` when it wasn't asked for.
    #[must_use]
    pub fn redis_url(&self) -> Option<&str> {
        self.settings.redis.then_some(self.redis_url.as_str())
    }

    /// The folder that is really used: absolute, and not the one asked for where Postgres' user can't enter that.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The versions of the binaries.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Whether this process supervises the servers. `false` turns to `true` when it takes them over.
    #[must_use]
    pub fn owner(&self) -> bool {
        self.shared.owner()
    }

    /// The process id of a running server that this process supervises.
    #[must_use]
    pub fn pid(&self, server: Server) -> Option<u32> {
        self.shared.pid(server)
    }

    /// Stops the servers and waits for their end; only detaches where another process owns them. Dropping does the
    /// same.
    pub fn stop(mut self) {
        self.supervisor.stop();
    }
}
