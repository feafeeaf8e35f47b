//! `graphmill batch list|show`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use graphmill_jobs::OrganizationId;

use super::{error::CliError, output, session::Session, summary};
use crate::{config::ServerArgs, workflow};

/// Batches that `list` shows at most.
const LISTED: i64 = 1000;

/// Arguments of `batch`.
#[derive(Debug, Args)]
pub(super) struct BatchArgs {
    #[command(subcommand)]
    command: BatchCommand,
}

#[derive(Debug, Subcommand)]
enum BatchCommand {
    /// List the batches, newest first.
    List {
        /// Print an array of run's objects.
        #[arg(long)]
        json: bool,
    },
    /// Show a batch with its executions.
    Show {
        /// The batch's id or name.
        batch: String,
        /// Print one object.
        #[arg(long)]
        json: bool,
    },
    /// Stop a batch: nothing more of it is begun, and what is in work stops at its next unit.
    Cancel {
        /// The batch's id or name.
        batch: String,
    },
}

pub(super) async fn batch(servers: &ServerArgs, args: BatchArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, args).await;
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn work(session: &Session, args: BatchArgs) -> Result<(), CliError> {
    let organization = OrganizationId::DEFAULT;
    let store = &session.store;
    match args.command {
        BatchCommand::List { json } => {
            let reports = workflow::list(store, organization, LISTED).await?;
            output::written(if json {
                output::json(&reports)
            } else {
                output::line(&summary::table(&reports))
            })
        }
        BatchCommand::Show { batch, json } => {
            let id = find(session, &batch).await?;
            let Some(details) = workflow::details(store, organization, id).await? else {
                return Err(unknown(&batch));
            };
            output::written(if json {
                output::json(&details)
            } else {
                output::line(&summary::details(&details))
            })
        }
        BatchCommand::Cancel { batch } => {
            let id = find(session, &batch).await?;
            let stopped = workflow::cancel_batch(store, organization, id).await?;
            output::note(if stopped {
                "stopping: what is in work ends at its next unit"
            } else {
                "nothing to stop: it has ended, or is stopping already"
            });
            Ok(())
        }
    }
}

/// The batch with that id or name.
pub(super) async fn find(
    session: &Session,
    wanted: &str,
) -> Result<graphmill_jobs::BatchId, CliError> {
    workflow::find_batch(&session.store, OrganizationId::DEFAULT, wanted)
        .await?
        .ok_or_else(|| unknown(wanted))
}

fn unknown(batch: &str) -> CliError {
    CliError::Usage(format!(
        "there is no batch `{batch}`: `graphmill batch list` shows them"
    ))
}
