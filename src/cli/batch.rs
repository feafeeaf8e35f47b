//! `graphmill batch …`: one file a command, one arm in [`BatchCommand`].

mod add;
mod list;
mod remove;
mod rerun;
mod resume;
mod seal;
mod show;
mod signal;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use graphmill_jobs::BatchId;

use self::signal::ask;
pub(super) use resume::raise;

use super::{error::CliError, session::Session};
use crate::{
    config::{BudgetArgs, ServerArgs},
    extractors::Extractors,
    flow::Signal,
    workflow,
};

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
    /// Add documents to a batch that is open or has ended; one that changed replaces its old version.
    Add(add::AddArgs),
    /// Take documents out of a batch that is open or has ended, with all that was found in them.
    #[command(name = "remove-document")]
    Remove(remove::RemoveArgs),
    /// Say that no more documents will come to a batch that was kept open: it is resolved and ends.
    Seal {
        /// The batch's id or name.
        batch: String,
    },
    /// Follow a batch that others work, until it has ended; leaving changes nothing.
    Watch {
        /// The batch's id or name.
        batch: String,
        /// Print how it stands, and then every event, each as an object in a line of its own.
        #[arg(long)]
        json: bool,
    },
    /// Stop a batch: nothing more of it is begun, and what is in work stops.
    Cancel {
        /// The batch's id or name.
        batch: String,
    },
    /// Let a batch wait: nothing more of it is begun, and what is in work stops at its next unit.
    Pause {
        /// The batch's id or name.
        batch: String,
    },
    /// Let a paused batch go on; with a higher cap, if its budget was used up.
    Resume {
        /// The batch's id or name.
        batch: String,
        #[command(flatten)]
        budget: BudgetArgs,
    },
    /// Work an ended batch again from a stage on, with another ontology or prompt; what still holds is reused.
    Rerun(rerun::RerunArgs),
    /// Try again what failed: documents that were given up, stopped or left partial; what is done is not done again.
    Retry {
        /// The batch's id or name.
        batch: String,
    },
}

pub(super) async fn batch(
    servers: &ServerArgs,
    args: BatchArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, args, &extractors).await;
    session.close().await;
    done
}

async fn work(
    session: &Session,
    args: BatchArgs,
    extractors: &Extractors,
) -> Result<ExitCode, CliError> {
    match args.command {
        BatchCommand::List { json } => list::list(session, json).await?,
        BatchCommand::Show { batch, json } => show::show(session, &batch, json).await?,
        BatchCommand::Add(args) => return add::add(session, args).await,
        BatchCommand::Remove(args) => remove::remove(session, args).await?,
        BatchCommand::Seal { batch } => seal::seal(session, &batch).await?,
        BatchCommand::Watch { batch, json } => return watch::watch(session, &batch, json).await,
        BatchCommand::Cancel { batch } => ask(session, &batch, Signal::Cancel).await?,
        BatchCommand::Pause { batch } => ask(session, &batch, Signal::Pause).await?,
        BatchCommand::Resume { batch, budget } => {
            raise(session, find(session, &batch).await?, &budget).await?;
            ask(session, &batch, Signal::Resume).await?;
        }
        BatchCommand::Rerun(args) => rerun::rerun(session, &args, extractors).await?,
        BatchCommand::Retry { batch } => ask(session, &batch, Signal::Retry).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The batch with that id or name.
pub(super) async fn find(session: &Session, wanted: &str) -> Result<BatchId, CliError> {
    workflow::find_batch(&session.store, session.organization, wanted)
        .await?
        .ok_or_else(|| unknown(wanted))
}

fn unknown(batch: &str) -> CliError {
    CliError::Usage(format!(
        "there is no batch `{batch}`: `graphmill batch list` shows them"
    ))
}
