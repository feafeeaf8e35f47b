//! `graphmill batch watch`: the stream that the HTTP API sends, as bars or as lines of JSON.

use std::process::ExitCode;

use graphmill_jobs::{BatchId, OrganizationId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{find, unknown};
use crate::{
    cli::{
        error::{CliError, INTERRUPTED},
        output,
        progress::{self, Until, Watched},
        run::{Interrupts, exit_code},
        session::Session,
        summary,
    },
    workflow::{self, EventMessage, Feed, Following, follow_batch},
};

/// Shows how far a batch is until it has ended, and then what came of it.
pub(super) async fn watch(
    session: &Session,
    batch: &str,
    json: bool,
) -> Result<ExitCode, CliError> {
    let (store, organization) = (&session.store, session.organization);
    let id = find(session, batch).await?;
    let stop = CancellationToken::new();
    let mut interrupts = Interrupts::listen();
    let left = stop.clone();
    let listening = tokio::spawn(async move {
        interrupts.next().await;
        left.cancel();
    });
    let feed = Feed::new(store.clone());
    let watched = if json {
        lines(&feed, organization, id, &stop).await
    } else {
        bars(session, &feed, id, &stop).await
    };
    listening.abort();
    feed.stop();
    let ended = matches!(watched?, Watched::Ended);
    let report = workflow::report(store, organization, id, 0).await?;
    let report = report.ok_or_else(|| unknown(batch))?;
    if !ended {
        output::note(&format!(
            "not watching any more; the batch goes on: graphmill batch watch {batch}"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if !json {
        output::written(output::line(&summary::report(&report, &[], None)))?;
    }
    Ok(exit_code(&report))
}

/// Draws anew with every event, and now and then without one.
async fn bars(
    session: &Session,
    feed: &Feed,
    id: BatchId,
    stop: &CancellationToken,
) -> Result<Watched, CliError> {
    let organization = session.organization;
    let Some(Following { mut follower, .. }) = follow_batch(feed, organization, id, None).await?
    else {
        return Err(unknown(&id.to_string()));
    };
    let (moved, seen) = watch::channel(0);
    let following = tokio::spawn(async move {
        // Once it is over, or Postgres is away for long, the clock alone says when to look.
        while let Ok(Some(_)) = follower.next().await {
            moved.send_modify(|times| *times += 1);
        }
    });
    let store = &session.store;
    let watched = progress::follow(store, organization, id, Some(seen), Until::Ended, stop).await;
    following.abort();
    watched
}

/// Prints how the batch stands, and then every event until its end.
async fn lines(
    feed: &Feed,
    organization: OrganizationId,
    id: BatchId,
    stop: &CancellationToken,
) -> Result<Watched, CliError> {
    let Some(Following {
        snapshot,
        mut follower,
        ..
    }) = follow_batch(feed, organization, id, None).await?
    else {
        return Err(unknown(&id.to_string()));
    };
    if let Some(snapshot) = snapshot {
        output::written(output::json(&snapshot))?;
    }
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return Ok(Watched::Interrupted),
            next = follower.next() => next?,
        };
        let Some(entry) = next else {
            return Ok(Watched::Ended);
        };
        output::written(output::json(&EventMessage::of(&entry)))?;
    }
}
