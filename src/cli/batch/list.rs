//! `graphmill batch list`.

use crate::{
    cli::{error::CliError, output, session::Session, summary},
    workflow,
};

/// Batches that are shown at most.
const LISTED: i64 = 1000;

pub(super) async fn list(session: &Session, json: bool) -> Result<(), CliError> {
    let reports = workflow::list(&session.store, session.organization, LISTED).await?;
    output::written(if json {
        output::json(&reports)
    } else {
        output::line(&summary::table(&reports))
    })
}
