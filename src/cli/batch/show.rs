//! `graphmill batch show`.

use super::{find, unknown};
use crate::{
    cli::{error::CliError, output, session::Session, summary},
    workflow,
};

pub(super) async fn show(session: &Session, batch: &str, json: bool) -> Result<(), CliError> {
    let id = find(session, batch).await?;
    let details = workflow::details(&session.store, session.organization, id).await?;
    let details = details.ok_or_else(|| unknown(batch))?;
    output::written(if json {
        output::json(&details)
    } else {
        output::line(&summary::details(&details))
    })
}
