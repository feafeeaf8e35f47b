//! `graphmill batch seal`: no more documents will come.

use super::find;
use crate::{
    cli::{error::CliError, output, session::Session},
    workflow,
};

pub(super) async fn seal(session: &Session, batch: &str) -> Result<(), CliError> {
    let id = find(session, batch).await?;
    workflow::seal_batch(&session.store, session.organization, id).await?;
    output::note(&format!(
        "sealed: once its documents are through it is resolved, by any worker or `graphmill run --resume {batch}`"
    ));
    Ok(())
}
