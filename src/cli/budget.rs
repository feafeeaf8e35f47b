//! `graphmill budget show|set|rebuild`: what all batches of the organization may spend together.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{error::CliError, output, session::Session};
use crate::{
    config::{OrganizationBudgetArgs, ServerArgs},
    store::{BudgetChange, Caps, Period},
    workflow::{self, BudgetReport},
};

/// Arguments of `budget`.
#[derive(Debug, Args)]
pub(super) struct BudgetCommandArgs {
    #[command(subcommand)]
    command: BudgetCommand,
}

#[derive(Debug, Subcommand)]
enum BudgetCommand {
    /// Show what all batches may spend together, have spent, and have reserved.
    Show {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set what all batches may spend together; those that wait for it go on.
    Set {
        #[command(flatten)]
        caps: OrganizationBudgetArgs,
        /// What counts: all calls that were ever made, or those of this calendar month (UTC).
        #[arg(long, value_enum)]
        period: Option<PeriodName>,
        /// Take away the caps that are not given.
        #[arg(long)]
        clear: bool,
    },
    /// Count all budgets anew from the ledger of calls, and say how many were wrong.
    Rebuild,
}

/// The periods that `--period` knows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PeriodName {
    Total,
    Month,
}

pub(super) async fn budget(
    servers: &ServerArgs,
    args: BudgetCommandArgs,
) -> Result<ExitCode, CliError> {
    if let BudgetCommand::Set {
        caps,
        period: None,
        clear: false,
    } = &args.command
        && caps.max_cost.is_none()
        && caps.max_tokens.is_none()
    {
        return Err(CliError::Usage(
            "set what? --max-cost, --max-tokens, --period, or --clear".to_owned(),
        ));
    }
    let session = Session::open(servers, true).await?;
    let done = work(&session, args.command).await;
    session.close().await;
    done
}

async fn work(session: &Session, command: BudgetCommand) -> Result<ExitCode, CliError> {
    let (store, organization) = (&session.store, session.organization);
    match command {
        BudgetCommand::Show { json } => {
            let report = workflow::organization_budget(store, organization).await?;
            output::written(if json {
                output::json(&report)
            } else {
                output::line(&for_people(&report))
            })?;
        }
        BudgetCommand::Set {
            caps,
            period,
            clear,
        } => {
            let change = BudgetChange {
                caps: Caps {
                    cost: caps.max_cost,
                    tokens: caps.max_tokens,
                },
                period: period.map(|period| match period {
                    PeriodName::Total => Period::Total,
                    PeriodName::Month => Period::Month,
                }),
            };
            let resumed = workflow::change_budget(store, organization, clear, change).await?;
            let report = workflow::organization_budget(store, organization).await?;
            output::note(&for_people(&report));
            for batch in resumed {
                output::note(&format!("batch {batch} goes on"));
            }
        }
        BudgetCommand::Rebuild => {
            let wrong = workflow::rebuild_budgets(store, organization).await?;
            output::note(&match wrong {
                0 => "all budgets are what the ledger says".to_owned(),
                1 => "1 budget was wrong".to_owned(),
                many => format!("{many} budgets were wrong"),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn for_people(report: &BudgetReport) -> String {
    let or_none = |cap: Option<String>| cap.unwrap_or_else(|| "no cap".to_owned());
    let over = match report.period {
        "month" => "all batches, this month (UTC)",
        _ => "all batches, in all",
    };
    format!(
        "{over}\n  cost    ${:.4} spent, ${:.4} reserved; {}\n  tokens  {} spent, {} reserved; {}",
        report.spent_cost,
        report.reserved_cost,
        or_none(report.max_cost.map(|cost| format!("at most ${cost:.4}"))),
        report.spent_tokens,
        report.reserved_tokens,
        or_none(report.max_tokens.map(|tokens| format!("at most {tokens}"))),
    )
}
