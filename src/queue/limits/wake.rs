//! Who is called: one subscription a limiter and process, which wakes the waiter whose turn it is.
//!
//! Knows pub/sub and tickets. Must not know limits. Invariant: a call may be lost (Redis promises none), and costs
//! at most the time until the waiter looks by itself; the subscription begins with the first waiter and ends with
//! the limiter.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use redis::Client;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The pause before a broken subscription is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// A subscription that was silent for so long is made anew: it may hang on a peer that vanished.
const SILENCE: Duration = Duration::from_secs(30);

/// How long it may take to connect and subscribe.
const PATIENCE: Duration = Duration::from_secs(5);

type Waiters = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

/// The waiters of this process, by ticket.
pub(super) struct Wakes {
    client: Client,
    channel: String,
    waiters: Waiters,
    listening: Once,
    stop: CancellationToken,
    _stops: DropGuard,
}

impl Wakes {
    pub(super) fn new(client: Client, channel: String) -> Self {
        let stop = CancellationToken::new();
        Self {
            client,
            channel,
            waiters: Waiters::default(),
            listening: Once::new(),
            _stops: stop.clone().drop_guard(),
            stop,
        }
    }

    /// From now on, calls of `ticket` are heard, until the answer is dropped.
    pub(super) fn listen(&self, ticket: &str) -> Called {
        self.listening.call_once(|| {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            let (waiters, stop) = (Arc::clone(&self.waiters), self.stop.clone());
            tokio::spawn(stop.run_until_cancelled_owned(hear(client, channel, waiters)));
        });
        let notify = Arc::clone(lock(&self.waiters).entry(ticket.to_owned()).or_default());
        Called {
            waiters: Arc::clone(&self.waiters),
            ticket: ticket.to_owned(),
            notify,
        }
    }
}

/// A waiter that can be called.
pub(super) struct Called {
    waiters: Waiters,
    ticket: String,
    notify: Arc<Notify>,
}

impl Called {
    /// Returns at a call, also at one that came before anyone asked.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        // the list's own and this one: nobody else waits with the same ticket
        if Arc::strong_count(&self.notify) <= 2 {
            waiters.remove(&self.ticket);
        }
    }
}

fn lock(waiters: &Waiters) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn hear(client: Client, channel: String, waiters: Waiters) {
    loop {
        if let Err(error) = once(&client, &channel, &waiters).await {
            tracing::debug!(%error, channel, "no calls from Redis; waiters look by themselves until it is back");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One subscription, until it breaks or falls silent.
async fn once(client: &Client, channel: &str, waiters: &Waiters) -> Result<(), redis::RedisError> {
    let subscribe = async {
        let mut pubsub = client.get_async_pubsub().await?;
        pubsub.subscribe(channel).await?;
        Ok::<_, redis::RedisError>(pubsub)
    };
    let pubsub = timeout(PATIENCE, subscribe)
        .await
        .map_err(std::io::Error::from)??;
    let mut messages = pubsub.into_on_message();
    while let Ok(message) = timeout(SILENCE, messages.next()).await {
        let Some(message) = message else {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        };
        let waiter = std::str::from_utf8(message.get_payload_bytes())
            .ok()
            .and_then(|ticket| lock(waiters).get(ticket).cloned());
        if let Some(waiter) = waiter {
            waiter.notify_one();
        }
    }
    Ok(())
}
