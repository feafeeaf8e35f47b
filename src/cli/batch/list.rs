//! `graphmill batch list`.

use graphmill_jobs::OrganizationId;

use crate::{
    cli::{error::CliError, output, session::Session, summary},
    workflow,
};

/// Batches that are shown at most.
const LISTED: i64 = 1000;

pub(super) async fn list(session: &Session, json: bool) -> Result<(), CliError> {
    let organization = OrganizationId::DEFAULT;
    let reports = workflow::batch_page(&session.store, organization, None, None, LISTED)
        .await?
        .items;
    output::written(if json {
        output::json(&reports)
    } else {
        output::line(&summary::table(&reports))
    })
}
