//! Submitting through Redis: an envelope pushed, and the receipt for it.
//!
//! Knows the keys of the queue and the order of the commands (docs/PRODUCERS.md says the same for every other language).
//! Must not know what becomes of a batch. Invariants: a push is one transaction, so that no half of it is ever seen; a
//! receipt is read and not taken away, so that a wait that is cut off loses nothing.

mod envelope;
mod options;
mod receipt;

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use self::{
    envelope::{Addition, Ask, Document, Envelope, Seal, Submission},
    options::Options,
    receipt::{DocumentCounts, Receipt, RefusedDocument},
};
use crate::submit_queue::{ACTIVE, CHANNEL, DATA, META, RECEIPT};

/// How long a command may take.
const RESPONSE: Duration = Duration::from_secs(10);
/// How long one wait at Redis is; a lost connection is noticed after it.
const WAIT: Duration = Duration::from_secs(5);
/// The pause before a broken connection is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// What went wrong on the way to Redis.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The address isn't one of Redis. Trying again does not help.
    #[error("this is not an address of Redis: expected redis://host:port/db or redis+unix:///path")]
    Address(#[source] redis::RedisError),
    /// No connection came about. Trying again helps once Redis is there.
    #[error("connecting to Redis failed")]
    Connect(#[source] redis::RedisError),
    /// The envelope could not be written as JSON. Trying again does not help.
    #[error("the envelope has no JSON form")]
    Encode(#[source] serde_json::Error),
    /// It may or may not have been pushed. Submitting it again under the same key is safe.
    #[error("pushing the envelope failed")]
    Push(#[source] redis::RedisError),
    /// The receipt could not be read. Asking again is safe; it helps unless an ACL forbids it.
    #[error("reading the receipt failed")]
    Receipt(#[source] redis::RedisError),
    /// The receipt is none that this version can read. Trying again does not help.
    #[error("the receipt can't be read")]
    Decode(#[source] serde_json::Error),
}

/// An envelope that was pushed: what its receipt is asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The id of this push.
    pub id: String,
}

/// Submits documents; cheap to clone, all clones share one connection, which heals by itself.
#[derive(Clone)]
pub struct Client {
    server: redis::Client,
    redis: ConnectionManager,
    api_key: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // neither the key nor a password in the address
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `redis://host:port/db`, or to a socket as `redis+unix:///path`. `api_key` (`gm_…`, scope `write`)
    /// says for which organization.
    ///
    /// # Errors
    /// [`EnqueueError::Address`] or [`EnqueueError::Connect`]; with the latter, trying again may help.
    pub async fn connect(url: &str, api_key: impl Into<String>) -> Result<Self, EnqueueError> {
        let server = redis::Client::open(url).map_err(EnqueueError::Address)?;
        let settings = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE))
            .set_connection_timeout(Some(RESPONSE));
        let redis = server
            .get_connection_manager_with_config(settings)
            .await
            .map_err(EnqueueError::Connect)?;
        Ok(Self {
            server,
            redis,
            api_key: api_key.into(),
        })
    }

    /// Pushes a batch with all its documents. `key` is yours: whatever is submitted again under it is not submitted
    /// twice, and gets the first answer.
    ///
    /// It is as durable as Redis until its receipt is there; see [`Client::receipt`].
    ///
    /// # Errors
    /// [`EnqueueError`]; after [`EnqueueError::Push`] submit it again under the same key.
    pub async fn submit(
        &self,
        key: impl Into<String>,
        submission: Submission,
    ) -> Result<Ticket, EnqueueError> {
        self.push(&self.envelope(key, Ask::Submit(submission)))
            .await
    }

    /// Pushes documents for a batch that is kept open; whoever comes first opens it.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn add(
        &self,
        key: impl Into<String>,
        addition: Addition,
    ) -> Result<Ticket, EnqueueError> {
        self.push(&self.envelope(key, Ask::Add(addition))).await
    }

    /// Pushes the seal of a batch that is kept open: no more documents come, and it may end.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn seal(&self, key: impl Into<String>, seal: Seal) -> Result<Ticket, EnqueueError> {
        self.push(&self.envelope(key, Ask::Seal(seal))).await
    }

    /// The envelope that this client would push, to be changed before it is pushed.
    #[must_use]
    pub fn envelope(&self, key: impl Into<String>, ask: Ask) -> Envelope {
        Envelope::new(&self.api_key, key, ask)
    }

    /// Pushes an envelope.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn push(&self, envelope: &Envelope) -> Result<Ticket, EnqueueError> {
        let payload = serde_json::to_vec(envelope).map_err(EnqueueError::Encode)?;
        let id = format!("submit:{}", Uuid::new_v4().simple());
        let () = redis::pipe()
            .atomic()
            .hset(DATA, &id, payload)
            .cmd("HSET")
            .arg(format!("{META}:{id}"))
            .arg(&["attempts", "0", "max_attempts", "1", "status", "Pending"])
            .rpush(ACTIVE, &id)
            .publish(CHANNEL, &id)
            .exec_async(&mut self.redis.clone())
            .await
            .map_err(EnqueueError::Push)?;
        Ok(Ticket { id })
    }

    /// Waits until what was pushed is durable or was refused; `None` if `patience` ends before. May be asked again, also
    /// by another process, for as long as the receipt is kept (15 minutes, if its envelope says nothing else).
    ///
    /// # Errors
    /// [`EnqueueError::Receipt`], if Redis is away for as long as `patience`, or [`EnqueueError::Decode`].
    pub async fn receipt(
        &self,
        ticket: &Ticket,
        patience: Duration,
    ) -> Result<Option<Receipt>, EnqueueError> {
        let list = format!("{RECEIPT}:{}", ticket.id);
        let until = Instant::now() + patience;
        let mut waiting: Option<MultiplexedConnection> = None;
        loop {
            let asked = timeout_at(until, self.ask(&mut waiting, &list, until)).await;
            match asked {
                Ok(Ok(Some(receipt))) => {
                    let receipt = serde_json::from_slice(&receipt);
                    return receipt.map(Some).map_err(EnqueueError::Decode);
                }
                Ok(Ok(None)) if Instant::now() < until => {}
                Ok(Ok(None)) | Err(_) => return Ok(None),
                Ok(Err(error)) if is_final(&error) || Instant::now() + PAUSE >= until => {
                    return Err(EnqueueError::Receipt(error));
                }
                Ok(Err(_)) => {
                    waiting = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Looks for a receipt, and waits for it a while, on a connection of its own: whoever waits at Redis holds up all
    /// that share a connection.
    async fn ask(
        &self,
        waiting: &mut Option<MultiplexedConnection>,
        list: &str,
        until: Instant,
    ) -> redis::RedisResult<Option<Vec<u8>>> {
        let there: Option<Vec<u8>> = redis::cmd("LINDEX")
            .arg(list)
            .arg(0)
            .query_async(&mut self.redis.clone())
            .await?;
        if there.is_some() {
            return Ok(there);
        }
        let connection = if let Some(connection) = waiting.take() {
            connection
        } else {
            let settings = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(RESPONSE))
                .set_response_timeout(Some(WAIT * 2));
            self.server
                .get_multiplexed_async_connection_with_config(&settings)
                .await?
        };
        let connection = waiting.insert(connection);
        let wait = until
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(10), WAIT);
        // From the list to itself: it stays there.
        redis::cmd("BLMOVE")
            .arg(list)
            .arg(list)
            .arg("LEFT")
            .arg("LEFT")
            .arg(wait.as_secs_f64())
            .query_async(connection)
            .await
    }
}

/// Whether asking again gives the same answer: an ACL that lacks a command.
fn is_final(error: &redis::RedisError) -> bool {
    error.code() == Some("NOPERM")
}
