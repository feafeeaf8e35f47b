//! The notifier: tells the owners of batches that have ended, on whichever replica that has a secret to sign with.
//!
//! What is owed is a row, written with the batch's last move; an attempt holds its lease. Invariants: no attempt is
//! made without a lease; a delivery ends as delivered or given up, whoever dies when; a slow receiver delays nobody
//! else's news beyond the attempts that are made at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

use super::Engine;
use crate::{
    flow::{DeliveryStatus, Heard, after_attempt},
    metrics,
    notify::{Address, Messenger, Webhook},
    store::{self, StoreError, WebhookLease},
    workflow,
};

/// Attempts at once in a process.
const AT_ONCE: usize = 8;
/// How often it looks for what is due without being woken.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a process that can't sign looks whether anybody else does.
const IDLE: Duration = Duration::from_secs(60);
/// How long attempts that are under way may go on after a stop.
const GRACE: Duration = Duration::from_secs(5);

/// Tells the notifier that a batch has ended.
#[derive(Default)]
pub(super) struct Bell(Notify);

impl Bell {
    pub(super) fn ring(&self) {
        self.0.notify_one();
    }
}

/// Delivers until the process stops.
pub(super) async fn run(engine: Arc<Engine>, messenger: Option<Messenger>) {
    match messenger {
        Some(messenger) => deliver(engine, messenger).await,
        None => watch(&engine).await,
    }
}

async fn deliver(engine: Arc<Engine>, messenger: Messenger) {
    let mut attempts = JoinSet::new();
    let mut failing = false;
    let stopped = loop {
        tokio::select! {
            () = engine.drained.cancelled() => break Instant::now(),
            () = engine.notifier.0.notified() => {}
            () = sleep(PERIOD) => {}
            Some(_) = attempts.join_next() => {}
        }
        while attempts.try_join_next().is_some() {}
        let free = AT_ONCE - attempts.len();
        if free == 0 {
            continue;
        }
        match lease(&engine, free).await {
            Ok(leases) => {
                failing = false;
                for lease in leases {
                    let (engine, messenger) = (Arc::clone(&engine), messenger.clone());
                    attempts.spawn(async move { attempt(&engine, &messenger, lease).await });
                }
            }
            Err(error) if !failing => {
                failing = true;
                warn!(
                    error = &error as &dyn std::error::Error,
                    "webhooks could not be looked for"
                );
            }
            Err(_) => {}
        }
    };
    // What is cut off is sent again by somebody else, once its lease has run out.
    let ended = async { while attempts.join_next().await.is_some() {} };
    let _ = timeout(GRACE.saturating_sub(stopped.elapsed()), ended).await;
}

async fn lease(engine: &Engine, most: usize) -> Result<Vec<WebhookLease>, StoreError> {
    let mut connection = engine.store.engine().await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    store::lease_webhooks(&mut connection, engine.id, engine.settings.lease, most).await
}

/// Makes an attempt and writes down what came of it.
async fn attempt(engine: &Engine, messenger: &Messenger, lease: WebhookLease) {
    let made = async {
        let Some((heard, error)) = send(engine, messenger, &lease).await? else {
            return Ok(());
        };
        let tries = lease.attempt.unsigned_abs();
        // The id's last bits are random; each attempt has jitter of its own.
        let seed = u64::from(lease.id.uuid().as_fields().0) ^ lease.id.uuid().as_u64_pair().1;
        let (status, wait) = after_attempt(tries, heard, seed.rotate_left(tries));
        let mut connection = engine.store.engine().await?;
        let settled =
            store::settle_webhook(&mut connection, &lease, status, wait, error.as_deref()).await?;
        if settled {
            say(&lease, status, wait, error.as_deref());
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = made.await {
        // Its lease runs out, and it is attempted again.
        warn!(
            error = &error as &dyn std::error::Error,
            batch.id = %lease.batch,
            webhook.id = %lease.id,
            "a webhook could not be attempted"
        );
    }
}

/// What the receiver says, and what is wrong with that. `None`: the lease is lost.
async fn send(
    engine: &Engine,
    messenger: &Messenger,
    lease: &WebhookLease,
) -> Result<Option<(Heard, Option<String>)>, StoreError> {
    let Some((address, body, timestamp)) = workflow::completion(&engine.store, lease).await? else {
        return Ok(None);
    };
    let Ok(address) = Address::parse(&address) else {
        // It was checked when it was given; somebody has changed the row by hand.
        let error = "the address is none that webhooks are sent to".to_owned();
        return Ok(Some((Heard::Answer(410, None), Some(error))));
    };
    let id = lease.id.to_string();
    let webhook = Webhook {
        id: &id,
        timestamp,
        body: &body,
    };
    let mut renewals = interval(engine.settings.renew);
    renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
    renewals.tick().await;
    let sending = messenger.send(&address, webhook);
    tokio::pin!(sending);
    let answer = loop {
        tokio::select! {
            answer = &mut sending => break answer,
            _ = renewals.tick() => {
                let mut connection = engine.store.engine().await?;
                let lasts = engine.settings.lease;
                if !store::renew_webhook(&mut connection, lease, lasts).await? {
                    return Ok(None);
                }
            }
        }
    };
    Ok(Some(match answer {
        Ok(answer) => {
            let refused = !(200..300).contains(&answer.status);
            let error = refused.then(|| format!("the receiver answered {}", answer.status));
            (Heard::Answer(answer.status, answer.retry_after), error)
        }
        Err(error) => (Heard::Nothing, Some(error.to_string())),
    }))
}

fn say(lease: &WebhookLease, status: DeliveryStatus, wait: Duration, error: Option<&str>) {
    let (batch, id, attempt) = (lease.batch, lease.id, lease.attempt);
    let error = error.unwrap_or_default();
    metrics::get().work.webhook(match status {
        DeliveryStatus::Delivered => "delivered",
        DeliveryStatus::Waiting => "waiting",
        DeliveryStatus::GivenUp => "given_up",
    });
    match status {
        DeliveryStatus::Delivered => {
            info!(batch.id = %batch, webhook.id = %id, attempt, "a webhook was delivered");
        }
        DeliveryStatus::Waiting => {
            warn!(batch.id = %batch, webhook.id = %id, attempt, error, wait_s = wait.as_secs(),
                  "a webhook was not delivered, and is tried again");
        }
        DeliveryStatus::GivenUp => {
            warn!(batch.id = %batch, webhook.id = %id, attempt, error, "a webhook was given up");
        }
    }
}

/// Says once if webhooks wait for a process that can sign.
async fn watch(engine: &Engine) {
    loop {
        tokio::select! {
            () = engine.drained.cancelled() => return,
            () = sleep(IDLE) => {}
        }
        let look = async { store::webhooks_lie_idle(&mut *engine.store.engine().await?).await };
        if let Ok(true) = look.await {
            warn!("webhooks wait for a worker that can sign them: set GRAPHMILL_WEBHOOK_SECRET");
            engine.drained.cancelled().await;
            return;
        }
    }
}
