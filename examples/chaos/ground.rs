//! A Postgres and a Redis of a run's own, and what can be done to them. Real servers, supervised by graphmill's own
//! room for private servers, which starts again whatever dies.
//!
//! Postgres runs without fsync: only processes are killed here, the machine goes on, and what a process wrote is then
//! in the kernel's hands. `synchronous_commit` stays on, so what was acknowledged was written. Redis writes its
//! append-only file every second.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use graphmill::{
    servers::{Durability, Server, Servers, Settings},
    store,
};
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, PgPool, Row as _, postgres::PgPoolOptions};
use tokio::{sync::Mutex, task::spawn_blocking, time::sleep};

/// What a supervisor's folder is called, before its process id.
const PREFIX: &str = "chaos-";
/// A file that says: there is something to look at.
const KEPT: &str = "kept";
/// How long a server may take to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder in memory if there is room, with a migrated cluster that runs copy.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) folder: PathBuf,
}

impl Base {
    /// Makes the cluster, once for all runs.
    pub(crate) async fn prepare() -> Result<Self> {
        let shared = Path::new("/dev/shm");
        let in_memory = rustix::fs::statvfs(shared)
            .is_ok_and(|shm| shm.f_bavail.saturating_mul(shm.f_frsize) >= 4 << 30);
        let temporary = std::env::temp_dir();
        let parent = if in_memory { shared } else { &temporary };
        remove_folders_of_the_dead(parent);
        let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let base = Self { folder };
        let settings = settings(base.template(), true, false);
        let servers = start(settings).await?;
        let url = servers.database_url().context("no Postgres")?.to_owned();
        store::migrate(&url).await?;
        stop(servers).await?;
        Ok(base)
    }

    fn template(&self) -> PathBuf {
        self.folder.join("template")
    }

    /// Removes everything, unless a run was kept.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_dir_all(self.template());
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What an interrupted supervisor left, unless there is a run in it that failed.
fn remove_folders_of_the_dead(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let dead = name
            .strip_prefix(PREFIX)
            .and_then(|process| process.parse::<u32>().ok())
            .is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists());
        if dead && !entry.path().join(KEPT).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn settings(dir: PathBuf, postgres: bool, redis: bool) -> Settings {
    #[expect(clippy::disallowed_methods, reason = "an example has no config room")]
    let env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    Settings {
        postgres,
        redis,
        durability: if postgres {
            Durability::Test
        } else {
            Durability::Full
        },
        pg_bin: env("GRAPHMILL_PG_BIN").map(PathBuf::from),
        redis_server: env("GRAPHMILL_REDIS_SERVER").map(PathBuf::from),
        library_path: env("GRAPHMILL_LIBRARY_PATH"),
        search_path: env("PATH"),
        ..Settings::new(dir)
    }
}

async fn start(settings: Settings) -> Result<Servers> {
    Ok(spawn_blocking(|| Servers::start(settings)).await??)
}

async fn stop(servers: Servers) -> Result<()> {
    Ok(spawn_blocking(|| servers.stop()).await?)
}

/// The servers of a run.
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    postgres: Servers,
    redis: Mutex<Option<Servers>>,
    owner: PgPool,
}

impl Ground {
    pub(crate) async fn start(base: &Base, name: &str) -> Result<Self> {
        let folder = base.folder.join(name);
        let postgres = folder.join("p");
        fs::create_dir_all(&postgres)?;
        let copied = Command::new("cp")
            .arg("-a")
            .arg(base.template().join("pg"))
            .arg(&postgres)
            .status()?;
        ensure!(copied.success(), "the cluster can't be copied");
        let postgres = start(settings(postgres, true, false)).await?;
        let redis = start(settings(folder.join("r"), false, true)).await?;
        let database_url = postgres.database_url().context("no Postgres")?.to_owned();
        let redis_url = redis.redis_url().context("no Redis")?.to_owned();
        let owner = PgPoolOptions::new()
            .max_connections(3)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy(&database_url)?;
        Ok(Self {
            folder,
            database_url,
            redis_url,
            postgres,
            redis: Mutex::new(Some(redis)),
            owner,
        })
    }

    /// Stops the servers; the folder goes, unless it is kept.
    pub(crate) async fn stop(self, keep: bool) -> Result<()> {
        self.owner.close().await;
        if let Some(redis) = self.redis.into_inner() {
            stop(redis).await?;
        }
        stop(self.postgres).await?;
        if keep {
            let parent = self.folder.parent().unwrap_or(&self.folder);
            fs::write(parent.join(KEPT), "")?;
        } else {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    /// The rows of a question, every column as text; asked again while Postgres is away.
    pub(crate) async fn rows(&self, sql: impl Into<String>) -> Result<Vec<Vec<String>>> {
        let sql = sql.into();
        let begun = Instant::now();
        loop {
            match self.try_rows(&sql).await {
                Err(_) if begun.elapsed() < PATIENCE => sleep(Duration::from_millis(50)).await,
                done => return done.with_context(|| format!("asked in vain: {sql}")),
            }
        }
    }

    async fn try_rows(&self, sql: &str) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&self.owner)
            .await?;
        let text = |row: &sqlx::postgres::PgRow, column: usize| {
            let value = row.try_get_raw(column).ok();
            let text = value.and_then(|value| value.as_str().ok().map(str::to_owned));
            text.unwrap_or_default()
        };
        Ok(rows
            .iter()
            .map(|row| (0..row.len()).map(|column| text(row, column)).collect())
            .collect())
    }

    /// The only number that a question has for an answer.
    pub(crate) async fn number(&self, sql: impl Into<String>) -> Result<i64> {
        let rows = self.rows(sql).await?;
        let value = rows.first().and_then(|row| row.first());
        Ok(value.context("no row")?.parse()?)
    }

    /// A connection of its own to Redis.
    pub(crate) async fn redis(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.redis_url.as_str())?;
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(10)))
            .set_connection_timeout(Some(Duration::from_secs(5)));
        Ok(client
            .get_multiplexed_async_connection_with_config(&config)
            .await?)
    }

    /// One command to Redis, whatever it answers.
    pub(crate) async fn tell_redis(&self, words: &[&str]) -> Result<()> {
        let mut redis = self.redis().await?;
        let mut command = redis::cmd(words.first().copied().unwrap_or_default());
        for word in &words[1..] {
            command.arg(*word);
        }
        let _: redis::Value = command.query_async(&mut redis).await?;
        Ok(())
    }

    async fn until_redis_answers(&self) -> Result<()> {
        let begun = Instant::now();
        while self.tell_redis(&["PING"]).await.is_err() {
            ensure!(begun.elapsed() < PATIENCE, "Redis did not come back");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Redis dies of `kill -9`, and comes back with what its file has.
    pub(crate) async fn kill_redis(&self) -> Result<()> {
        let redis = self.redis.lock().await;
        let before = redis.as_ref().and_then(|it| it.pid(Server::Redis));
        kill(before, Signal::KILL)?;
        let begun = Instant::now();
        while redis.as_ref().and_then(|it| it.pid(Server::Redis)) == before {
            ensure!(begun.elapsed() < PATIENCE, "Redis was not started again");
            sleep(Duration::from_millis(5)).await;
        }
        self.until_redis_answers().await
    }

    /// Redis is away for a while, of `kill -9`; its data are removed meanwhile if `wiped`.
    pub(crate) async fn take_redis_away(&self, time: Duration, wiped: bool) -> Result<()> {
        let mut redis = self.redis.lock().await;
        let Some(servers) = redis.take() else {
            bail!("there is no Redis")
        };
        kill(servers.pid(Server::Redis), Signal::KILL)?;
        stop(servers).await?;
        if wiped {
            fs::remove_dir_all(self.folder.join("r/redis"))?;
        }
        sleep(time).await;
        *redis = Some(start(settings(self.folder.join("r"), false, true)).await?);
        self.until_redis_answers().await
    }

    /// Postgres gets `signal` and is started again: `INT` is a fast restart, `KILL` a crash.
    pub(crate) async fn restart_postgres(&self, signal: Signal) -> Result<()> {
        let before = self.postgres.pid(Server::Postgres);
        kill(before, signal)?;
        let begun = Instant::now();
        while self.postgres.pid(Server::Postgres) == before {
            ensure!(begun.elapsed() < PATIENCE, "Postgres was not started again");
            sleep(Duration::from_millis(5)).await;
        }
        self.rows("select 1").await?;
        Ok(())
    }
}

fn kill(process: Option<u32>, signal: Signal) -> Result<()> {
    let process = process.and_then(|pid| i32::try_from(pid).ok());
    let process = process.and_then(Pid::from_raw).context("no process")?;
    Ok(kill_process(process, signal)?)
}
