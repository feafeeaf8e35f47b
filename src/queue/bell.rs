//! The bell: one subscription a process, which wakes the feeders of the queues that were pushed to.
//!
//! Knows pub/sub and nothing of jobs. Invariant: a wake-up may be lost (Redis promises none), never invented work;
//! the feeders also look by themselves every second, so that a lost one costs a second and not a job.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::Client;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

/// The pause before a broken subscription is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// A subscription that was silent for so long is made anew: it may hang on a peer that vanished.
const SILENCE: Duration = Duration::from_secs(30);

/// How long it may take to connect and subscribe.
const PATIENCE: Duration = Duration::from_secs(5);

/// Wakes `bells[channel]` at every message on that channel, until `stop`; survives any restart of Redis.
pub(super) async fn listen(
    client: Client,
    bells: HashMap<String, Arc<Notify>>,
    stop: CancellationToken,
) {
    let channels: Vec<&String> = bells.keys().collect();
    let mut heard_of_trouble = false;
    while !stop.is_cancelled() {
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = once(&client, &channels, &bells) => ended,
        };
        match ended {
            Ok(()) => heard_of_trouble = false,
            Err(error) => {
                if !heard_of_trouble {
                    heard_of_trouble = true;
                    tracing::debug!(%error, "no wake-ups from Redis; looking every second until it is back");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// One subscription, until it breaks or falls silent.
async fn once(
    client: &Client,
    channels: &[&String],
    bells: &HashMap<String, Arc<Notify>>,
) -> Result<(), redis::RedisError> {
    let subscribe = async {
        let mut pubsub = client.get_async_pubsub().await?;
        pubsub.subscribe(channels).await?;
        Ok::<_, redis::RedisError>(pubsub)
    };
    let pubsub = timeout(PATIENCE, subscribe)
        .await
        .map_err(std::io::Error::from)??;
    // whatever was pushed while nobody listened
    for bell in bells.values() {
        bell.notify_one();
    }
    let mut messages = pubsub.into_on_message();
    while let Ok(message) = timeout(SILENCE, messages.next()).await {
        let Some(message) = message else {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        };
        if let Some(bell) = bells.get(message.get_channel_name()) {
            bell.notify_one();
        }
    }
    Ok(())
}
