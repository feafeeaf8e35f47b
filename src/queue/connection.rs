//! The handle on Redis: how it connects, how it is, and which incarnation of it this is.
//!
//! Knows addresses, timeouts and what `INFO` says. Must not know jobs. Invariant: every call ends within the
//! response timeout, or within the reconnects that are allowed; nothing waits for Redis for ever.

use std::{collections::HashMap, fmt, io, sync::Arc, time::Duration};

use redis::{
    Client, IntoConnectionInfo,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keys::{Keys, SENTINEL};
use crate::flow::Stage;

/// How long a command may take. A stall of the server (a fork, a swap storm) is shorter than this and must not
/// look like a loss. **Source:** measured, a freeze of 2 s with the client's default of 0.5 s stops every worker.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt to connect may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the first connection may take with all its attempts: somebody waits for it.
const FIRST_CONNECTION: Duration = Duration::from_secs(4);

/// Attempts before the commands that wait for the connection fail. The next command starts anew.
const RECONNECTS: usize = 6;

/// The first and the longest pause between two attempts: a Redis that returns is found within half a second.
const RECONNECT_PAUSE: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_millis(500));

/// What went wrong between us and Redis.
///
/// Every command here may be given again without harm. Whether that helps is said for each variant.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The address isn't one of Redis. Trying again does not help.
    #[error(
        "`{url}` is not an address of Redis: expected redis://host:port/db or redis+unix:///path"
    )]
    Address {
        /// What was given, without a password.
        url: String,
        /// What the parser says.
        #[source]
        source: redis::RedisError,
    },
    /// No connection came about. Trying again helps once Redis is there.
    #[error("connecting to Redis failed")]
    Connect(#[source] redis::RedisError),
    /// The server's state could not be read. Trying again helps once Redis is there.
    #[error("asking Redis how it is failed")]
    Check(#[source] redis::RedisError),
    /// Rings may or may not have been pushed; ringing again is safe, and helps once Redis is there.
    #[error("ringing for `{stage}` failed")]
    Ring {
        /// Whose queue it was.
        stage: Stage,
        /// What Redis or the connection says.
        #[source]
        source: redis::RedisError,
    },
    /// A ring could not be written as JSON. Trying again does not help.
    #[error("writing a ring for `{stage}` failed")]
    Encode {
        /// Whose queue it was.
        stage: Stage,
        /// What the encoder says.
        #[source]
        source: serde_json::Error,
    },
    /// The queues could not be counted. Trying again helps once Redis is there.
    #[error("counting the queues failed")]
    Depth(#[source] redis::RedisError),
    /// The incarnation could not be read. Trying again helps once Redis is there.
    #[error("reading the incarnation of Redis failed")]
    Incarnation(#[source] redis::RedisError),
    /// The list of jobs that were set aside could not be read. Trying again helps once Redis is there.
    #[error("reading what was set aside failed")]
    SetAside(#[source] redis::RedisError),
    /// The queue of submissions did not do its part. Trying again helps once Redis is there.
    #[error("the queue of submissions could not be worked")]
    Submissions(#[source] redis::RedisError),
}

/// How the Redis server is set up, for `graphmill doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The server's version, for example `7.0.15`.
    pub version: String,
    /// Whether it knows all commands that the queues use (6.2 and later).
    pub recent_enough: bool,
    /// `maxmemory-policy`; anything but `noeviction` lets Redis drop rings at will.
    pub maxmemory_policy: String,
    /// Whether that is `noeviction`.
    pub noeviction: bool,
    /// Whether the append-only file is on: without it a restart loses every ring, which costs seconds, not data.
    pub append_only: bool,
    /// Bytes in use.
    pub used_memory: u64,
    /// Bytes that it may use; 0 is no limit.
    pub max_memory: u64,
}

/// A handle on the queues; cheap to clone, all clones share one connection.
#[derive(Clone)]
pub struct Queue {
    pub(super) client: Client,
    pub(super) redis: ConnectionManager,
    keys: Arc<[Keys; 6]>,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the client's own output could show a password
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Connects to `redis://host:port/db`, or to a socket as `redis+unix:///path` or `unix:///path`.
    ///
    /// From then on the connection heals by itself: a command that finds it broken fails, the next ones wait for
    /// the reconnect, at most a few seconds.
    ///
    /// # Errors
    ///
    /// [`QueueError::Address`]: trying again does not help. [`QueueError::Connect`]: it does, once Redis is there.
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        let client = client(url)?;
        let connecting = client.get_connection_manager_with_config(settings());
        let redis = tokio::time::timeout(FIRST_CONNECTION, connecting)
            .await
            .unwrap_or_else(|_| {
                let silent = format!("no answer within {} s", FIRST_CONNECTION.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, silent).into())
            })
            .map_err(QueueError::Connect)?;
        Ok(Self::over(client, redis))
    }

    fn over(client: Client, redis: ConnectionManager) -> Self {
        Self {
            client,
            redis,
            keys: Arc::new(Stage::ALL.map(Keys::of)),
        }
    }

    /// A handle that has never been connected, for tests of what happens without a Redis.
    #[cfg(test)]
    pub(super) fn unconnected(url: &str) -> Self {
        let client = client(url).unwrap();
        let redis = ConnectionManager::new_lazy_with_config(client.clone(), settings()).unwrap();
        Self::over(client, redis)
    }

    pub(super) fn keys(&self, stage: Stage) -> &Keys {
        &self.keys[stage as usize]
    }

    /// Asks the server how it is set up.
    ///
    /// # Errors
    ///
    /// [`QueueError::Check`]; trying again helps once Redis is there.
    pub async fn check(&self) -> Result<Health, QueueError> {
        // INFO, not CONFIG GET, which hosted servers refuse
        let info: String = redis::cmd("INFO")
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Check)?;
        let fields = fields(&info);
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        let version = field("redis_version").to_owned();
        let maxmemory_policy = field("maxmemory_policy").to_owned();
        Ok(Health {
            recent_enough: at_least(&version, (6, 2)),
            noeviction: maxmemory_policy == "noeviction",
            append_only: field("aof_enabled") == "1",
            used_memory: field("used_memory").parse().unwrap_or(0),
            max_memory: field("maxmemory").parse().unwrap_or(0),
            version,
            maxmemory_policy,
        })
    }

    /// A number that stands for this run of the server over this data set: after a restart, a flush or a wipe it
    /// is another one, and whatever was rung before counts as unrung. One round trip, cheap enough for twice a
    /// second.
    ///
    /// # Errors
    ///
    /// [`QueueError::Incarnation`]; trying again helps once Redis is there.
    pub async fn incarnation(&self) -> Result<i64, QueueError> {
        let (info, sentinel): (String, Vec<u8>) = redis::pipe()
            .atomic()
            .cmd("SET")
            .arg(SENTINEL)
            .arg(Uuid::new_v4().simple().to_string())
            .arg("NX")
            .ignore()
            .cmd("INFO")
            .arg("server")
            .get(SENTINEL)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Incarnation)?;
        let run_id = fields(&info)
            .get("run_id")
            .copied()
            .unwrap_or_default()
            .to_owned();
        let digest = Sha256::new()
            .chain_update(run_id)
            .chain_update(":")
            .chain_update(sentinel);
        let mut first = [0; 8];
        first.copy_from_slice(&digest.finalize()[..8]);
        Ok(i64::from_be_bytes(first))
    }
}

fn client(url: &str) -> Result<Client, QueueError> {
    let address = |source| QueueError::Address {
        url: without_password(url),
        source,
    };
    let info = url.into_connection_info().map_err(address)?;
    Client::open(info.set_tcp_settings(tcp_settings())).map_err(address)
}

fn settings() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        .set_number_of_retries(RECONNECTS)
        .set_min_delay(RECONNECT_PAUSE.0)
        .set_max_delay(RECONNECT_PAUSE.1)
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    // a peer that vanished without a word is given up after this, not after the kernel's quarter of an hour
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(15));
    settings
}

/// The `name:value` lines of an `INFO` answer.
fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect()
}

fn at_least(version: &str, wanted: (u32, u32)) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= wanted
}

/// The address without user and password, to be shown in errors.
fn without_password(url: &str) -> String {
    let bare = match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, rest)), Some(at)) if at >= scheme.len() + 3 => {
            format!("{scheme}://…@{}", &rest[at - scheme.len() - 2..])
        }
        _ => url.to_owned(),
    };
    bare.split_once("pass=")
        .map_or(bare.clone(), |(before, _)| format!("{before}pass=…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("redis://me:secret@host:1/0"),
            "redis://…@host:1/0"
        );
        assert_eq!(
            without_password("unix:///s?pass=secret&db=1"),
            "unix:///s?pass=…"
        );
        assert_eq!(without_password("http://host"), "http://host");
        assert_eq!(without_password("nonsense"), "nonsense");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(
            at_least("6.2.0", (6, 2)) && at_least("7.0.15", (6, 2)) && at_least("10.1", (6, 2))
        );
        assert!(!at_least("6.0.16", (6, 2)) && !at_least("", (6, 2)));
    }
}
