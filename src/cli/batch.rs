//! `graphmill batch list|show|watch|cancel|pause|resume|retry`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use graphmill_jobs::{BatchId, OrganizationId};
use tokio_util::sync::CancellationToken;

use super::{
    error::{CliError, INTERRUPTED},
    output,
    progress::{self, Watched},
    run::{Interrupts, exit_code},
    session::Session,
    summary,
};
use crate::{
    config::{BudgetArgs, ServerArgs},
    flow::Signal,
    store::{self, Caps, StoreError},
    workflow::{self, BatchSignalled},
};

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
    /// Follow a batch that others work, until it has ended; leaving changes nothing.
    Watch {
        /// The batch's id or name.
        batch: String,
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
    /// Try again what failed: documents that were given up, stopped or left partial; what is done is not done again.
    Retry {
        /// The batch's id or name.
        batch: String,
    },
}

pub(super) async fn batch(servers: &ServerArgs, args: BatchArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = work(&session, args).await;
    session.close().await;
    done
}

async fn work(session: &Session, args: BatchArgs) -> Result<ExitCode, CliError> {
    let organization = OrganizationId::DEFAULT;
    let store = &session.store;
    match args.command {
        BatchCommand::List { json } => {
            let reports = workflow::list(store, organization, LISTED).await?;
            output::written(if json {
                output::json(&reports)
            } else {
                output::line(&summary::table(&reports))
            })?;
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
            })?;
        }
        BatchCommand::Watch { batch } => return watch(session, &batch).await,
        BatchCommand::Cancel { batch } => ask(session, &batch, Signal::Cancel).await?,
        BatchCommand::Pause { batch } => ask(session, &batch, Signal::Pause).await?,
        BatchCommand::Resume { batch, budget } => {
            raise(session, find(session, &batch).await?, &budget).await?;
            ask(session, &batch, Signal::Resume).await?;
        }
        BatchCommand::Retry { batch } => ask(session, &batch, Signal::Retry).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how far a batch is until it has ended, and then what came of it.
async fn watch(session: &Session, batch: &str) -> Result<ExitCode, CliError> {
    let (store, organization) = (&session.store, OrganizationId::DEFAULT);
    let id = find(session, batch).await?;
    let stop = CancellationToken::new();
    let mut interrupts = Interrupts::listen();
    let left = stop.clone();
    let listening = tokio::spawn(async move {
        interrupts.next().await;
        left.cancel();
    });
    let watched = progress::follow(store, organization, id, None, &stop).await;
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

/// Sets the caps that are given.
pub(super) async fn raise(
    session: &Session,
    id: BatchId,
    budget: &BudgetArgs,
) -> Result<(), CliError> {
    let caps = Caps {
        cost: budget.max_cost,
        tokens: budget.max_tokens,
    };
    if caps == Caps::default() {
        return Ok(());
    }
    let organization = OrganizationId::DEFAULT;
    let mut transaction = session.store.app(organization).await?;
    if store::budget(&mut transaction, organization, id)
        .await?
        .is_none()
    {
        return Err(CliError::Usage(format!(
            "the batch {id} calls no model: it has no budget"
        )));
    }
    store::set_budget(&mut transaction, organization, id, caps).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Signals a batch, and says what came of it.
async fn ask(session: &Session, batch: &str, signal: Signal) -> Result<(), CliError> {
    let id = find(session, batch).await?;
    let done = workflow::signal_batch(&session.store, OrganizationId::DEFAULT, id, signal).await?;
    output::note(&match (signal, done) {
        (_, BatchSignalled::Retrying(documents)) => {
            let documents = match documents {
                0 => "what there is is".to_owned(),
                1 => "1 document is".to_owned(),
                many => format!("{many} documents are"),
            };
            format!("{documents} tried again, by any worker or `graphmill run --resume {batch}`")
        }
        (Signal::Retry, _) => "nothing to retry".to_owned(),
        (_, BatchSignalled::Ended) => {
            "it has ended: `graphmill batch retry` tries again what failed".to_owned()
        }
        (Signal::Cancel, BatchSignalled::Done) => "stopping: what is in work ends".to_owned(),
        (Signal::Cancel, BatchSignalled::Nothing) => "it is stopping already".to_owned(),
        (Signal::Pause, BatchSignalled::Done) => {
            "paused: what is in work stops at its next unit".to_owned()
        }
        (Signal::Pause, BatchSignalled::Nothing) => "it is paused already".to_owned(),
        (Signal::Resume, BatchSignalled::Done) => "it goes on".to_owned(),
        (Signal::Resume, BatchSignalled::Nothing) => "it is not paused".to_owned(),
    });
    Ok(())
}

/// The batch with that id or name.
pub(super) async fn find(session: &Session, wanted: &str) -> Result<BatchId, CliError> {
    workflow::find_batch(&session.store, OrganizationId::DEFAULT, wanted)
        .await?
        .ok_or_else(|| unknown(wanted))
}

fn unknown(batch: &str) -> CliError {
    CliError::Usage(format!(
        "there is no batch `{batch}`: `graphmill batch list` shows them"
    ))
}
