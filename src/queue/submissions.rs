//! The queue in which producers put documents, and the receipts that they wait for.
//!
//! Knows the keys and the scripts. Must not know what an envelope says. Invariants: an envelope stays in Redis until
//! somebody says that it was dealt with, and is delivered again if its taker falls silent; then all of it goes in one
//! step, in which its producer is told; what is set aside is what the caller gives, never the envelope itself, which has
//! a key in it.
//!
//! Unlike a stage's job an envelope that is lost here is lost: nobody else knows of it. So the taken ones are a set with
//! an end for each, by Redis' clock, and not those of a worker.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use graphmill_jobs::submit_queue::{ACTIVE, CHANNEL, DATA, META, RECEIPT};
use redis::{Script, aio::ConnectionManager};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    bell,
    connection::{Queue, QueueError},
    keys::{SET_ASIDE, SET_ASIDE_KEPT},
};

/// The queue's name.
const QUEUE: &str = "graphmill:submit";
const SCHEDULED: &str = "graphmill:submit:scheduled";
const TAKEN: &str = "graphmill:submit:taken";

/// How long an envelope is somebody's without a word of his.
const LEASE: Duration = Duration::from_secs(15);
/// How long the end of an envelope is remembered: so long may a producer repeat a push of which it does not know
/// whether it came to pass.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most bytes that are taken in one call: they are held until they are dealt with.
const MOST_BYTES: usize = 32 << 20;
/// The longest id of an envelope: a receipt's key is made of it.
const LONGEST_ID: usize = 200;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("submit_take.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("submit_end.lua")));
static PUT_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("submit_put_back.lua")));

/// An envelope, as a producer pushed it.
#[derive(Clone)]
pub struct Envelope {
    /// The id that the producer made up for this push.
    pub id: Vec<u8>,
    /// What is in it; nothing if it is larger than an envelope may be.
    pub payload: Vec<u8>,
    /// Its size in bytes.
    pub bytes: usize,
    /// How often it was taken, this time included and those aside that it was put back after.
    pub times: u32,
    /// Since it was taken first.
    pub age: Duration,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // there is a key in it
        f.debug_struct("Envelope").finish_non_exhaustive()
    }
}

/// What is kept of an envelope that nobody can take in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What is wrong with it.
    pub reason: String,
    /// Its beginning, without any key.
    pub payload: String,
}

/// The queue of submissions; cheap to clone.
#[derive(Clone)]
pub struct Submissions {
    client: redis::Client,
    redis: ConnectionManager,
}

impl std::fmt::Debug for Submissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Submissions(…)")
    }
}

impl Submissions {
    /// The largest envelope. **Source:** it holds a document of 10 MiB in whatever way its JSON escapes it, but not in
    /// every way a Lua script and two copies of many of them would fit into memory.
    pub const LARGEST: usize = 32 << 20;

    /// That of `queue`.
    #[must_use]
    pub fn new(queue: &Queue) -> Self {
        Self {
            client: queue.client.clone(),
            redis: queue.redis.clone(),
        }
    }

    /// Takes up to `most` envelopes; and whether there may be more.
    ///
    /// # Errors
    /// [`QueueError::Submissions`]; what was taken without anybody's knowledge comes again.
    pub async fn take(&self, most: usize) -> Result<(Vec<Envelope>, bool), QueueError> {
        type Taken = (Vec<u8>, Vec<u8>, usize, u32, u64);
        let (taken, more): (Vec<Taken>, u8) = TAKE
            .key(ACTIVE)
            .key(DATA)
            .key(TAKEN)
            .key(SCHEDULED)
            .key(SET_ASIDE)
            .arg(most)
            .arg(MOST_BYTES)
            .arg(milliseconds(LEASE))
            .arg(META)
            .arg(Self::LARGEST)
            .arg(QUEUE)
            .arg(SET_ASIDE_KEPT)
            .invoke_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Submissions)?;
        let envelopes = taken
            .into_iter()
            .map(|(id, payload, bytes, times, age)| Envelope {
                id,
                payload,
                bytes,
                times,
                age: Duration::from_millis(age),
            })
            .collect();
        Ok((envelopes, more == 1))
    }

    /// Says that these are still being dealt with; at least every five seconds.
    ///
    /// # Errors
    /// [`QueueError::Submissions`]; trying again helps once Redis is there.
    pub async fn renew(&self, ids: impl IntoIterator<Item = &[u8]>) -> Result<(), QueueError> {
        let mut redis = self.redis.clone();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME")
            .query_async(&mut redis)
            .await
            .map_err(QueueError::Submissions)?;
        let until = seconds * 1000 + micros / 1000 + milliseconds(LEASE);
        let mut pipe = redis::pipe();
        let mut any = false;
        for id in ids {
            // Only if it is there: one that was lost is somebody else's.
            pipe.cmd("ZADD").arg(TAKEN).arg("XX").arg(until).arg(id);
            any = true;
        }
        if any {
            let () = pipe
                .exec_async(&mut redis)
                .await
                .map_err(QueueError::Submissions)?;
        }
        Ok(())
    }

    /// An envelope was dealt with: Redis forgets it, and whoever waits gets the receipt, which is kept for a while.
    ///
    /// # Errors
    /// [`QueueError::Submissions`]; it comes again, and is answered again.
    pub async fn end(
        &self,
        id: &[u8],
        receipt: &str,
        kept: Duration,
        aside: Option<&Aside>,
    ) -> Result<(), QueueError> {
        let fits = id.len() <= LONGEST_ID;
        let () = END
            .key(ACTIVE)
            .key(DATA)
            .key(TAKEN)
            .key(receipt_key(id))
            .key(SET_ASIDE)
            .arg(id)
            .arg(META)
            .arg(if fits { receipt } else { "" })
            .arg(kept.as_secs())
            .arg(aside.map_or("", |aside| &aside.reason))
            .arg(aside.map_or("", |aside| &aside.payload))
            .arg(SET_ASIDE_KEPT)
            .arg(QUEUE)
            .arg(REMEMBERED.as_secs())
            .invoke_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Submissions)?;
        Ok(())
    }

    /// An envelope could not be dealt with now: it comes again after `wait`.
    ///
    /// # Errors
    /// [`QueueError::Submissions`]; then it comes again when nobody speaks for it any more.
    pub async fn put_back(&self, id: &[u8], wait: Duration) -> Result<(), QueueError> {
        let () = PUT_BACK
            .key(TAKEN)
            .key(SCHEDULED)
            .arg(id)
            .arg(META)
            .arg(milliseconds(wait))
            .invoke_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Submissions)?;
        Ok(())
    }

    /// How many envelopes are there: those that wait, and those that are being taken in.
    ///
    /// # Errors
    /// [`QueueError::Submissions`]; trying again helps once Redis is there.
    pub async fn depth(&self) -> Result<usize, QueueError> {
        let (active, scheduled, taken): (usize, usize, usize) = redis::pipe()
            .llen(ACTIVE)
            .zcard(SCHEDULED)
            .zcard(TAKEN)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Submissions)?;
        Ok(active + scheduled + taken)
    }

    /// Rings `bell` whenever something was pushed, until `stop`. A ring may be lost: look every second too.
    pub async fn listen(&self, bell: Arc<Notify>, stop: CancellationToken) {
        let bells = HashMap::from([(CHANNEL.to_owned(), bell)]);
        bell::listen(self.client.clone(), bells, stop).await;
    }
}

/// Where the receipt for an envelope is.
fn receipt_key(id: &[u8]) -> Vec<u8> {
    let id = &id[..id.len().min(LONGEST_ID)];
    [RECEIPT.as_bytes(), b":", id].concat()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
