//! What the surroundings say: the sole reader of the environment. Every setting is a flag too, and `--help` is its
//! reference.

mod metrics;
mod model;
mod notify;
mod trace;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

pub use metrics::MetricsArgs;
pub use model::{
    BudgetArgs, FILE_KEYS, FileKey, ModelArgs, ModelConfigError, Models, OrganizationBudgetArgs,
};
pub use notify::{NotifyArgs, SigningArgs};
pub use trace::{Share, TraceArgs, TraceConfigError, TraceSettings};

use crate::{
    flow::{PartialPolicy, RetryPolicy},
    pipeline::{Limits, Settings, UnitSettings},
    servers,
    store::PoolSettings,
    worker::WorkerSettings,
};

/// The organization that a database starts with.
pub const DEFAULT_ORGANIZATION: &str = "default";

/// Where Postgres and Redis are.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Servers")]
pub struct ServerArgs {
    /// Your own Postgres (15 or later); without it, a private one runs for this process.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        global = true,
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Your own Redis (6.2 or later); without it, a private one runs for this process.
    #[arg(
        long,
        env = "REDIS_URL",
        value_name = "URL",
        global = true,
        hide_env_values = true
    )]
    pub redis_url: Option<String>,
    /// The folder of the private servers.
    #[arg(
        long,
        env = "GRAPHMILL_DATA_DIR",
        value_name = "FOLDER",
        default_value = ".graphmill",
        global = true
    )]
    pub data_dir: PathBuf,
    /// Never start private servers: a missing address is an error.
    #[arg(long, env = "GRAPHMILL_NO_EMBEDDED", global = true)]
    pub no_embedded: bool,
    /// Connections of this process to Postgres, at most.
    #[arg(
        long,
        env = "GRAPHMILL_CONNECTIONS",
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(4..=1000),
        global = true
    )]
    pub connections: u32,
    /// The organization whose batches and keys a command is about; workers work those of all.
    #[arg(
        long,
        env = "GRAPHMILL_ORGANIZATION",
        value_name = "NAME",
        default_value = DEFAULT_ORGANIZATION,
        global = true
    )]
    pub organization: String,
    /// The folder with `postgres` and `initdb` for a private Postgres.
    #[arg(
        long,
        env = "GRAPHMILL_PG_BIN",
        value_name = "FOLDER",
        global = true,
        hide = true
    )]
    pub pg_bin: Option<PathBuf>,
    /// The `redis-server` for a private Redis.
    #[arg(
        long,
        env = "GRAPHMILL_REDIS_SERVER",
        value_name = "FILE",
        global = true,
        hide = true
    )]
    pub redis_server: Option<PathBuf>,
    /// The library path of the private servers.
    #[arg(
        long,
        env = "GRAPHMILL_LIBRARY_PATH",
        value_name = "PATH",
        global = true,
        hide = true
    )]
    pub library_path: Option<OsString>,
}

impl ServerArgs {
    /// What private servers are needed for what has no address; none, if both have one.
    #[must_use]
    pub fn private(&self) -> Option<servers::Settings> {
        let (postgres, redis) = (self.database_url().is_none(), self.redis_url().is_none());
        (postgres || redis).then(|| servers::Settings {
            postgres,
            redis,
            pg_bin: self
                .pg_bin
                .clone()
                .filter(|path| !path.as_os_str().is_empty()),
            redis_server: self
                .redis_server
                .clone()
                .filter(|path| !path.as_os_str().is_empty()),
            library_path: self.library_path.clone().filter(|path| !path.is_empty()),
            search_path: search_path(),
            ..servers::Settings::new(&self.data_dir)
        })
    }

    /// The address of Postgres, if one was given. An empty one counts as none.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }

    /// The address of Redis, if one was given. An empty one counts as none.
    #[must_use]
    pub fn redis_url(&self) -> Option<&str> {
        self.redis_url.as_deref().filter(|url| !url.is_empty())
    }

    /// How the connections are shared out: a quarter is for leases, and an eighth for the drivers.
    #[must_use]
    pub fn pools(&self) -> PoolSettings {
        let engine = (self.connections / 4).max(2);
        let drivers = (self.connections / 8).min(3);
        PoolSettings {
            app: self.connections - engine - drivers,
            engine,
            drivers,
            ..PoolSettings::default()
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this room is where the environment is read"
)]
fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// What to log to stderr: a level, or a filter such as `graphmill=debug,sqlx=warn`.
    #[arg(long, env = "GRAPHMILL_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,
    /// How log lines look.
    #[arg(
        long,
        env = "GRAPHMILL_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORMAT",
        global = true
    )]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How this process works.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkerArgs {
    /// Jobs of each stage that this process works at once.
    #[arg(
        long,
        env = "GRAPHMILL_SLOTS",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub slots: Option<u32>,
    /// How long work may go on after Ctrl-C or SIGTERM before it is handed back.
    #[arg(
        long,
        env = "GRAPHMILL_DRAIN",
        value_name = "TIME",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    pub drain: Duration,
    /// How long a lease lasts without being renewed; a third of it passes between renewals.
    #[arg(
        long,
        env = "GRAPHMILL_LEASE",
        value_name = "TIME",
        default_value = "15s",
        value_parser = lease,
        hide = true
    )]
    pub lease: Duration,
    /// How often the stager looks for due work without being woken.
    #[arg(
        long,
        env = "GRAPHMILL_STAGER_PERIOD",
        value_name = "TIME",
        default_value = "250ms",
        value_parser = period,
        hide = true
    )]
    pub stager_period: Duration,
    /// How often the sweeper looks for silent work.
    #[arg(
        long,
        env = "GRAPHMILL_SWEEPER_PERIOD",
        value_name = "TIME",
        default_value = "1s",
        value_parser = period,
        hide = true
    )]
    pub sweeper_period: Duration,
}

impl WorkerArgs {
    /// The settings of a worker, with `slots` where none were asked for.
    #[must_use]
    pub fn settings(&self, slots: usize) -> WorkerSettings {
        WorkerSettings {
            slots: self.slots.map_or(slots, |slots| slots as usize),
            lease: self.lease,
            renew: self.lease / 3,
            stager: self.stager_period,
            sweeper: self.sweeper_period,
            isolation: true,
            ..WorkerSettings::default()
        }
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if period < Duration::from_millis(10) {
        Err("less than 10ms".to_owned())
    } else {
        Ok(period)
    }
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if lease < Duration::from_secs(3) {
        Err("less than 3s".to_owned())
    } else {
        Ok(lease)
    }
}

/// How documents are worked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Extraction")]
pub struct PipelineArgs {
    /// A document larger than this is refused, in bytes (limit of the limit: 512 MiB).
    #[arg(
        long,
        env = "GRAPHMILL_MAX_DOCUMENT_BYTES",
        value_name = "BYTES",
        default_value_t = 10 << 20,
        value_parser = clap::value_parser!(u64).range(1..=(512 << 20))
    )]
    pub max_document_bytes: u64,
    /// Retries of a unit (a chunk, or a group of mentions) after its first try.
    #[arg(
        long,
        env = "GRAPHMILL_UNIT_RETRIES",
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    pub unit_retries: u32,
    /// The wait before the first retry; it doubles with each, with jitter.
    #[arg(
        long,
        env = "GRAPHMILL_RETRY_DELAY",
        value_name = "TIME",
        default_value = "1s",
        value_parser = humantime::parse_duration
    )]
    pub retry_delay: Duration,
    /// A unit that takes longer is warned about.
    #[arg(
        long,
        env = "GRAPHMILL_SOFT_TIMEOUT",
        value_name = "TIME",
        default_value = "45s",
        value_parser = humantime::parse_duration
    )]
    pub soft_timeout: Duration,
    /// A unit that takes longer has failed a try.
    #[arg(
        long,
        env = "GRAPHMILL_HARD_TIMEOUT",
        value_name = "TIME",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub hard_timeout: Duration,
    /// What becomes of a document some of whose units failed for good: it goes on without them (`allow`), or it fails
    /// (`fail`). Without it, `allow` for extractors whose calls cost money and `fail` for others.
    #[arg(long, env = "GRAPHMILL_PARTIAL", value_name = "POLICY", value_parser = partial())]
    pub partial: Option<PartialPolicy>,
}

/// The policies, so that a wrong one is answered with the right ones.
fn partial() -> impl clap::builder::TypedValueParser<Value = PartialPolicy> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(PartialPolicy::ALL.map(PartialPolicy::as_str))
        .try_map(|name| name.parse::<PartialPolicy>())
}

impl PipelineArgs {
    /// What a document must keep to.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            document_bytes: self.max_document_bytes,
        }
    }

    /// How stages work with an extractor that is `paid` or not.
    #[must_use]
    pub fn settings(&self, paid: bool) -> Settings {
        let partial = self.partial.unwrap_or(PartialPolicy::default_for(paid));
        let retry = RetryPolicy {
            retries: self.unit_retries,
            first: self.retry_delay,
            ..RetryPolicy::default()
        };
        let (soft_timeout, hard_timeout) =
            (self.soft_timeout.min(self.hard_timeout), self.hard_timeout);
        Settings {
            units: UnitSettings {
                retry,
                soft_timeout,
                hard_timeout,
            },
            allow_partial: partial == PartialPolicy::Allow,
            ..Settings::default()
        }
    }
}
