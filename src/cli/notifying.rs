//! What a command needs to tell of the ends of batches.

use std::time::{Duration, Instant};

use graphmill_jobs::{BatchId, OrganizationId};

use super::{error::CliError, output, session::steadily};
use crate::{
    config::{NotifyArgs, SigningArgs},
    flow::DeliveryStatus,
    notify::{Address, Messenger},
    store::{Store, StoreError},
    workflow,
};

/// How long a run waits for its news to be delivered.
///
/// **Source:** one attempt takes 15 s at most.
const LONGEST: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// Who delivers webhooks; nobody without a secret.
pub(super) fn messenger(args: &SigningArgs) -> Result<Option<Messenger>, CliError> {
    let secrets = args.secrets().map_err(|error| {
        CliError::Usage(format!(
            "GRAPHMILL_WEBHOOK_SECRET (--notify-secret) can't be used: {error}"
        ))
    })?;
    secrets
        .map(Messenger::new)
        .transpose()
        .map_err(|error| CliError::Runtime(std::io::Error::other(error)))
}

/// Where to tell of the ends of batches, if anywhere. Nobody is told what is not signed.
pub(super) fn address(args: &NotifyArgs, signs: bool) -> Result<Option<Address>, CliError> {
    let Some(address) = args.address() else {
        return Ok(None);
    };
    let address = Address::parse(address)
        .map_err(|error| CliError::Usage(format!("--notify (GRAPHMILL_NOTIFY): {error}")))?;
    if !signs {
        return Err(CliError::Usage(
            "--notify needs a secret to sign with: set GRAPHMILL_WEBHOOK_SECRET, for example to the output of \
             `echo whsec_$(head -c 32 /dev/urandom | base64)`, here and for every worker"
                .to_owned(),
        ));
    }
    Ok(Some(address))
}

/// Waits a while until the end of a batch is told, if this process tells it (`signs`), and says so if it is not: whoever
/// works later goes on with it.
pub(super) async fn wait(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    signs: bool,
) -> Result<(), StoreError> {
    let begun = Instant::now();
    let longest = if signs { LONGEST } else { Duration::ZERO };
    loop {
        let webhook =
            steadily(async || workflow::webhook(store, organization, batch).await).await?;
        let Some((url, delivery)) =
            webhook.and_then(|webhook| Some((webhook.url, webhook.delivery?)))
        else {
            return Ok(());
        };
        if delivery.status == DeliveryStatus::Delivered.as_str() {
            return Ok(());
        }
        let why = delivery
            .last_error
            .unwrap_or_else(|| "no answer yet".to_owned());
        if delivery.status == DeliveryStatus::GivenUp.as_str() {
            output::note(&format!("the webhook to {url} was given up: {why}"));
            return Ok(());
        }
        let left = longest.saturating_sub(begun.elapsed());
        // Before the first attempt it is due at once.
        if left.is_zero() || Duration::from_millis(delivery.wait_ms) > left {
            output::note(&format!(
                "the webhook to {url} is not delivered yet ({why}): any `graphmill worker` goes on with it"
            ));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
