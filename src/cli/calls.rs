//! `graphmill calls`: the ledger of a batch, one line a call.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use graphmill_jobs::LlmCallId;
use serde::Serialize;

use super::{batch::find, error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    store::{self, ListedCall},
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

/// A call, as it is printed.
#[derive(Debug, Serialize)]
struct Line {
    id: LlmCallId,
    request_hash: String,
    attempt: i32,
    /// `answered`, `rejected`, `in_doubt` or `cached`; `intent` while it is being made.
    outcome: String,
    prompt_tokens: Option<i64>,
    cached_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    cost: Option<f64>,
    started_at: String,
    ended_at: Option<String>,
    stage: Option<String>,
    unit: Option<i32>,
    model: String,
    prompt: String,
    http_status: Option<i32>,
    error: Option<String>,
    /// Whose answer was used again.
    answered_by: Option<LlmCallId>,
}

impl From<ListedCall> for Line {
    fn from(call: ListedCall) -> Self {
        let time = |at: chrono::DateTime<chrono::Utc>| {
            at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
        };
        Self {
            id: call.id,
            request_hash: call.hash.iter().fold(String::new(), |mut text, byte| {
                // Writing to a string does not fail.
                let _ = write!(text, "{byte:02x}");
                text
            }),
            attempt: call.attempt,
            outcome: call.outcome,
            prompt_tokens: call.prompt_tokens,
            cached_tokens: call.cached_tokens,
            completion_tokens: call.completion_tokens,
            cost: call.cost.map(dollars),
            started_at: time(call.started_at),
            ended_at: call.ended_at.map(time),
            stage: call.stage,
            unit: call.unit,
            model: call.model,
            prompt: call.prompt,
            http_status: call.http_status,
            error: call.error,
            answered_by: call.answer,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to nine million dollars"
)]
fn dollars(nanodollars: i64) -> f64 {
    nanodollars as f64 / 1e9
}

pub(super) async fn calls(servers: &ServerArgs, args: CallsArgs) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, true).await?;
    let done = list(&session, &args).await;
    session.close().await;
    done
}

async fn list(session: &Session, args: &CallsArgs) -> Result<ExitCode, CliError> {
    let organization = session.organization;
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
            let line = Line::from(call);
            output::written(if args.json {
                output::json(&line)
            } else {
                output::line(&line.for_people())
            })?;
        }
    }
    if !args.json {
        output::written(output::line(&sums.for_people()))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Line {
    fn for_people(&self) -> String {
        let tokens = match (self.prompt_tokens, self.completion_tokens) {
            (Some(prompt), Some(completion)) if self.outcome != "cached" => {
                format!("{prompt} + {completion} tokens")
            }
            _ => String::new(),
        };
        let cost = self.cost.filter(|_| self.outcome != "cached");
        format!(
            "{}  {}  {:<9} {:<9} {:>3}  try {}  {tokens} {} {}",
            self.started_at,
            self.id,
            self.outcome,
            self.stage.as_deref().unwrap_or(""),
            self.unit.unwrap_or(0),
            self.attempt,
            cost.map_or_else(String::new, |cost| format!("${cost:.6}")),
            self.error.as_deref().unwrap_or(""),
        )
        .trim_end()
        .to_owned()
    }
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
