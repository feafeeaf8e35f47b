//! `graphmill execution show|cancel|pause|resume|retry`: one document's pass, looked at and steered.

use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand};
use graphmill_jobs::WorkflowExecutionId;

use super::{error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    flow::Signal,
    workflow::{History, WorkflowService},
};

/// Arguments of `execution`.
#[derive(Debug, Args)]
pub(super) struct ExecutionArgs {
    #[command(subcommand)]
    command: ExecutionCommand,
}

#[derive(Debug, Subcommand)]
enum ExecutionCommand {
    /// Show an execution with every attempt at its stages: when, how long, and why it failed.
    Show {
        /// The execution's id (`exec_…`); `graphmill batch show` lists them.
        id: WorkflowExecutionId,
        /// Print one object.
        #[arg(long)]
        json: bool,
    },
    /// Stop an execution, calls in flight too.
    Cancel(Target),
    /// Let an execution wait; what is in work stops at its next unit.
    Pause(Target),
    /// Let a paused execution go on.
    Resume(Target),
    /// Try again what failed, now; what is done is not done again.
    Retry(Target),
}

#[derive(Debug, Args)]
struct Target {
    /// The execution's id (`exec_…`).
    id: WorkflowExecutionId,
    /// Print one object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn execution(
    servers: &ServerArgs,
    args: ExecutionArgs,
) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let service = WorkflowService::new(session.store.clone(), session.organization);
    let done = match args.command {
        ExecutionCommand::Show { id, json } => show(&service, id, json).await,
        ExecutionCommand::Cancel(target) => ask(&service, target, Signal::Cancel).await,
        ExecutionCommand::Pause(target) => ask(&service, target, Signal::Pause).await,
        ExecutionCommand::Resume(target) => ask(&service, target, Signal::Resume).await,
        ExecutionCommand::Retry(target) => ask(&service, target, Signal::Retry).await,
    };
    session.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn show(
    service: &WorkflowService,
    id: WorkflowExecutionId,
    json: bool,
) -> Result<(), CliError> {
    let history = service.history(id).await?.ok_or_else(|| unknown(id))?;
    output::written(if json {
        output::json(&history)
    } else {
        output::line(&described(&history))
    })
}

async fn ask(service: &WorkflowService, target: Target, signal: Signal) -> Result<(), CliError> {
    let sent = service.signal(target.id, signal).await?;
    let sent = sent.ok_or_else(|| unknown(target.id))?;
    if target.json {
        return output::written(output::json(&sent));
    }
    output::note(match (signal, sent.outcome.as_deref()) {
        (Signal::Cancel, Some("delivered")) => "cancelled",
        (Signal::Cancel, None) => "told its worker to stop: it does within a second",
        (Signal::Pause, Some("delivered")) => "paused",
        (Signal::Pause, None) => "told its worker to pause: it does after the units in work",
        (Signal::Resume, Some("delivered")) => "it goes on",
        (Signal::Resume, _) => "nothing to resume: it is not paused, or has ended",
        (Signal::Retry, Some("delivered")) => "it is tried again: what is done is not done again",
        (Signal::Retry, _) => {
            "nothing to retry: it is in work or completed; one that has ended is retried once its batch has ended"
        }
        (Signal::Cancel | Signal::Pause, Some(_)) => "too late: it has ended",
    });
    Ok(())
}

fn unknown(id: WorkflowExecutionId) -> CliError {
    CliError::Usage(format!(
        "there is no execution {id}: `graphmill batch show BATCH` lists them"
    ))
}

/// An execution for people.
fn described(history: &History) -> String {
    let execution = &history.execution;
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<10}{value}");
    };
    let what = execution.document.as_deref().unwrap_or("(resolution)");
    line("execution", &execution.id.to_string());
    line("document", what);
    line("batch", &history.batch_id.to_string());
    let mut status = execution.status.to_owned();
    if execution.partial {
        status.push_str(", partial");
    }
    if history.leased {
        status.push_str(", in work");
    }
    if let Some(reason) = &execution.paused {
        let _ = write!(status, ", paused {reason}");
    }
    line("status", &status);
    line("at", execution.current_activity);
    if history.generation > 1 || history.round > 0 {
        let (generation, round) = (history.generation, history.round);
        line("try", &format!("generation {generation}, round {round}"));
    }
    if let Some(error) = &execution.error {
        line("error", &format!("{}: {}", error.code, error.message));
    }
    for units in &history.units {
        let (stage, done) = (units.stage, units.done);
        let mut counts = format!("{stage}: {done} done");
        for (count, what) in [(units.retry, "to be retried"), (units.failed, "failed")] {
            if count > 0 {
                let _ = write!(counts, ", {count} {what}");
            }
        }
        line("units", &counts);
    }
    for sent in &history.signals {
        let outcome = sent.outcome.as_deref().unwrap_or("waits for its worker");
        line("signal", &format!("{}: {outcome}", sent.signal));
    }
    let _ = write!(
        text,
        "\n{:<20} {:>7}  {:<10} {:>9}  {:<24} why",
        "activity", "attempt", "status", "ms", "started"
    );
    for activity in &history.activities {
        let duration = activity
            .duration_ms
            .map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let started = activity.started_at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let why = activity
            .error
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        let _ = write!(
            text,
            "\n{:<20} {:>7}  {:<10} {duration:>9}  {started:<24} {why}",
            activity.name, activity.attempt, activity.status
        );
    }
    text
}
