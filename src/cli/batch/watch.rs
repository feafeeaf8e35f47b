//! `graphmill batch watch`.

use std::process::ExitCode;

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
    workflow,
};

/// Shows how far a batch is until it has ended, and then what came of it.
pub(super) async fn watch(session: &Session, batch: &str) -> Result<ExitCode, CliError> {
    let (store, organization) = (&session.store, session.organization);
    let id = find(session, batch).await?;
    let stop = CancellationToken::new();
    let mut interrupts = Interrupts::listen();
    let left = stop.clone();
    let listening = tokio::spawn(async move {
        interrupts.next().await;
        left.cancel();
    });
    let watched = progress::follow(store, organization, id, None, Until::Ended, &stop).await;
    listening.abort();
    let ended = matches!(watched?, Watched::Ended);
    let report = workflow::report(store, organization, id, 0).await?;
    let report = report.ok_or_else(|| unknown(batch))?;
    if !ended {
        output::note(&format!(
            "not watching any more; the batch goes on: graphmill batch watch {batch}"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    output::written(output::line(&summary::report(&report, &[], None)))?;
    Ok(exit_code(&report))
}
