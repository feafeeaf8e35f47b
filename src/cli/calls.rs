//! `graphmill calls`: the ledger of a batch, one line a call.

use std::process::ExitCode;

use clap::Args;
use graphmill_jobs::OrganizationId;

use super::{batch::find, error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    store::{self, ListedCall},
    workflow::CallReport,
};

/// Calls that are read at once.
const PAGE: i64 = 1000;

/// Arguments of `calls`.
#[derive(Debug, Args)]
pub(super) struct CallsArgs {
    /// The batch's id or name.
    batch: String,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn calls(servers: &ServerArgs, args: CallsArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = list(&session, &args).await;
    session.close().await;
    done
}

async fn list(session: &Session, args: &CallsArgs) -> Result<ExitCode, CliError> {
    let organization = OrganizationId::DEFAULT;
    let batch = find(session, &args.batch).await?;
    let mut after = None;
    let mut sums = Sums::default();
    loop {
        // A page a transaction: none is held open for long.
        let mut read = session.store.app(organization).await?;
        let page = store::call_page(&mut read, organization, batch, after, PAGE).await?;
        drop(read);
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.id);
        for call in page {
            sums.add(&call);
            let line = CallReport::from(call);
            output::written(if args.json {
                output::json(&line)
            } else {
                output::line(&for_people(&line))
            })?;
        }
    }
    if !args.json {
        output::written(output::line(&sums.for_people()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn for_people(call: &CallReport) -> String {
    let tokens = match (call.prompt_tokens, call.completion_tokens) {
        (Some(prompt), Some(completion)) if call.outcome != "cached" => {
            format!("{prompt} + {completion} tokens")
        }
        _ => String::new(),
    };
    let cost = call.cost.filter(|_| call.outcome != "cached");
    format!(
        "{}  {}  {:<9} {:<9} {:>3}  try {}  {tokens} {} {}",
        call.started_at,
        call.id,
        call.outcome,
        call.stage.as_deref().unwrap_or(""),
        call.unit.unwrap_or(0),
        call.attempt,
        cost.map_or_else(String::new, |cost| format!("${cost:.6}")),
        call.error.as_deref().unwrap_or(""),
    )
    .trim_end()
    .to_owned()
}

#[derive(Default)]
struct Sums {
    answered: u64,
    cached: u64,
    rejected: u64,
    in_doubt: u64,
    open: u64,
    cost: i64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to nine million dollars"
)]
fn dollars(nanodollars: i64) -> f64 {
    nanodollars as f64 / 1e9
}

impl Sums {
    fn add(&mut self, call: &ListedCall) {
        let count = match call.outcome.as_str() {
            "answered" => &mut self.answered,
            "cached" => &mut self.cached,
            "rejected" => &mut self.rejected,
            "in_doubt" => &mut self.in_doubt,
            _ => &mut self.open,
        };
        *count += 1;
        self.cost += call.cost.unwrap_or(0);
    }

    fn for_people(&self) -> String {
        format!(
            "{} answered, {} from the ledger, {} rejected, {} in doubt, {} open; ${:.6}",
            self.answered,
            self.cached,
            self.rejected,
            self.in_doubt,
            self.open,
            dollars(self.cost)
        )
    }
}
