//! The commands: one file a command, one arm in [`Command`]; the exhaustive match is the registry.
//!
//! Logs go to stderr, results to stdout. Must not run a stage itself: it works through `worker`, or through
//! `pipeline`'s direct path.

mod adjudication;
mod batch;
mod budget;
mod calling;
mod calls;
mod direct;
mod doctor;
mod error;
mod estimate;
mod evaluate;
mod execution;
mod export;
mod extract;
mod first_key;
mod input;
mod keys;
mod link;
mod manual;
mod migrate;
mod mock_model;
mod notifying;
mod ontology;
mod organization;
mod output;
mod progress;
mod prune;
mod resolve;
mod run;
mod scraping;
mod serve;
mod servers;
mod session;
mod summary;
#[cfg(feature = "train")]
mod train;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    config::{LogArgs, ServerArgs, TraceArgs},
    extractors::Extractors,
    telemetry,
};
use error::CliError;

const EXIT_CODES: &str = "Exit codes:
  0    every submitted document completed, and none was refused (duplicates alone are fine)
  1    some did not
  2    wrong usage, or nothing usable
  3    a server is missing or failed
  130  interrupted";

/// Turns a pile of documents into a knowledge graph, and does not lose its place.
#[derive(Debug, Parser)]
#[command(name = "graphmill", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    servers: ServerArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Extract a graph from documents, durably: the main job.
    #[command(after_help = EXIT_CODES)]
    Run(Box<run::RunArgs>),
    /// Extract in memory, with neither Postgres nor Redis: one JSON line a document.
    Extract(extract::ExtractArgs),
    /// Score mentions, entities and relations on documents in which somebody marked them.
    Evaluate(evaluate::EvaluateArgs),
    /// Find out in memory which names of many documents are of one thing.
    Resolve(resolve::ResolveArgs),
    /// Work the stages of all batches until stopped: a replica.
    Worker(worker::WorkerCommandArgs),
    /// Serve the HTTP API.
    Serve(serve::ServeArgs),
    /// Make, list and revoke the keys of the HTTP API.
    Keys(keys::KeysArgs),
    /// Make and list organizations, and set what each may ask for and have.
    Organization(organization::OrganizationArgs),
    /// Keep the private servers running, for a command or until stopped.
    Servers(servers::ServersArgs),
    /// Apply the schema to the database.
    Migrate,
    /// Look at binaries, servers, versions, settings and the work, and say what to do.
    Doctor(doctor::DoctorArgs),
    /// Delete by age what has served its time: events, answers, ended batches.
    Prune(prune::PruneArgs),
    /// List, show and steer batches.
    Batch(batch::BatchArgs),
    /// Show and steer one document's pass.
    Execution(execution::ExecutionArgs),
    /// Say what extracting documents with a model will take, before anything is spent.
    Estimate(estimate::EstimateArgs),
    /// Show and set what all batches together may spend on models.
    Budget(budget::BudgetCommandArgs),
    /// List the calls of models that a batch has made, and what they cost.
    Calls(calls::CallsArgs),
    /// Check an ontology file, or show one as TOML.
    Ontology(ontology::OntologyArgs),
    /// Decide which clusters are one thing, and which are not.
    Link(link::LinkArgs),
    /// Write a batch's graph to stdout or a file.
    Export(export::ExportArgs),
    /// Print the completions of a shell.
    Completions(manual::CompletionsArgs),
    /// Print the man page, or write one for each command.
    Man(manual::ManArgs),
    /// Print pages of docs/ that are made of the code.
    #[command(hide = true)]
    Docs(manual::DocsArgs),
    /// Serve a scripted model, for tests.
    #[command(hide = true)]
    MockModel(mock_model::MockModelArgs),
    /// Make the weights of the local extractor from corpora.
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
    /// Work the one unit on stdin; a worker starts it.
    #[command(name = crate::worker::WORK_UNIT, hide = true)]
    WorkUnit,
}

/// Runs the command line of this process with these extractors; a program with an extractor of its own calls it too.
#[must_use]
pub fn main(extractors: Extractors) -> ExitCode {
    let cli = Cli::parse();
    let level = match &cli.command {
        Command::Worker(_) | Command::Serve(_) => "info",
        Command::Run(_)
        | Command::Extract(_)
        | Command::Evaluate(_)
        | Command::Resolve(_)
        | Command::Keys(_)
        | Command::Organization(_)
        | Command::Servers(_)
        | Command::Migrate
        | Command::Doctor(_)
        | Command::Prune(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Docs(_)
        | Command::Batch(_)
        | Command::Execution(_)
        | Command::Budget(_)
        | Command::Calls(_)
        | Command::Estimate(_)
        | Command::Ontology(_)
        | Command::Export(_)
        | Command::Link(_)
        | Command::MockModel(_)
        | Command::WorkUnit => "warn",
        #[cfg(feature = "train")]
        Command::Train(_) => "warn",
    };
    // A unit's process must not fail for a filter that its parent was given a better one than.
    let is_unit = matches!(cli.command, Command::WorkUnit);
    let done = telemetry::init(&cli.log, level)
        .or_else(|error| if is_unit { Ok(()) } else { Err(error) })
        .map_err(CliError::from)
        .and_then(|()| {
            let runtime = runtime()?;
            let traces = (!is_unit).then(|| cli.traces.clone());
            let done = runtime.block_on(traced(traces, dispatch(cli, extractors)));
            // Never waits for a thread that a unit keeps.
            runtime.shutdown_background();
            done
        });
    done.unwrap_or_else(|error| {
        output::complain(&error);
        error.exit_code()
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
}

/// Does `work` with the traces that are asked for, and delivers them to the end.
async fn traced(
    args: Option<TraceArgs>,
    work: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let settings = match args {
        Some(args) => args.settings()?,
        None => None,
    };
    let exporting = match settings {
        Some(settings) => telemetry::begin_traces(&settings)?,
        None => None,
    };
    let done = work.await;
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    done
}

async fn dispatch(cli: Cli, extractors: Extractors) -> Result<ExitCode, CliError> {
    let servers = &cli.servers;
    match cli.command {
        Command::Run(args) => Box::pin(run::run(servers, *args, extractors)).await,
        Command::Extract(args) => extract::extract(args, extractors).await,
        Command::Evaluate(args) => evaluate::evaluate(args, extractors).await,
        Command::Resolve(args) => resolve::resolve(&args),
        Command::Worker(args) => worker::worker(servers, &args, extractors).await,
        Command::Serve(args) => serve::serve(servers, &args, extractors).await,
        Command::Keys(args) => keys::keys(servers, args).await,
        Command::Organization(args) => organization::organization(servers, args).await,
        Command::Servers(args) => servers::servers(servers, args).await,
        Command::Migrate => migrate::migrate(servers).await,
        Command::Doctor(args) => doctor::doctor(servers, args).await,
        Command::Prune(args) => prune::prune(servers, args).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Docs(args) => manual::docs(&args),
        Command::Batch(args) => batch::batch(servers, args, extractors).await,
        Command::Execution(args) => execution::execution(servers, args).await,
        Command::Estimate(args) => estimate::estimate_batch(&args),
        Command::Budget(args) => budget::budget(servers, args).await,
        Command::Calls(args) => calls::calls(servers, args).await,
        Command::Ontology(args) => ontology::ontology(&args),
        Command::Link(args) => link::link(servers, args).await,
        Command::Export(args) => export::export(servers, args).await,
        Command::MockModel(args) => mock_model::mock_model(args).await,
        #[cfg(feature = "train")]
        Command::Train(args) => train::train(&args),
        Command::WorkUnit => Ok(crate::worker::work_unit(extractors).await),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
