//! `graphmill batch remove-document`: documents leave a batch that is open or has ended.

use clap::Args;
use serde_json::json;

use super::find;
use crate::{
    cli::{error::CliError, output, session::Session},
    workflow,
};

/// Arguments of `batch remove-document`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The batch's id or name.
    batch: String,
    /// Documents, by the ids that they were submitted with, or graphmill's.
    #[arg(required = true)]
    documents: Vec<String>,
    /// Print one object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn remove(session: &Session, args: RemoveArgs) -> Result<(), CliError> {
    let organization = session.organization;
    let id = find(session, &args.batch).await?;
    let removed =
        workflow::remove_documents(&session.store, organization, id, &args.documents).await?;
    output::written(if args.json {
        output::json(&json!({
            "batch_id": id,
            "removed": removed.removed,
            "gone": removed.gone,
        }))
    } else {
        output::line(&format!("{} removed", removed.removed))
    })?;
    for gone in &removed.gone {
        output::note(&format!("{gone}: it was removed before"));
    }
    if removed.removed > 0 {
        let batch = &args.batch;
        output::note(&format!(
            "what is left is resolved anew once the batch is sealed and through, by any worker or \
             `graphmill run --resume {batch}`"
        ));
    }
    Ok(())
}
