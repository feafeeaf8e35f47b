//! `graphmill extract`: the direct path. The same stages as the durable path, in memory.

use std::{collections::HashMap, path::PathBuf, pin::pin, process::ExitCode};

use clap::Args;
use futures_util::StreamExt;
use serde::Serialize;

use super::{
    direct::{Direct, DirectArgs, Extracted, Refused, Task},
    error::{CliError, SOME_FAILED},
    input::{self, GoldLines, Input},
    output, summary,
};
use crate::{
    extractors::Extractors,
    flow::{Failure, FailureCode},
    graph::{Text, extracted_line},
    pipeline::Limits,
};

/// Arguments of `extract`.
#[derive(Debug, Args)]
pub(super) struct ExtractArgs {
    /// A folder (its .txt and .md files), a file, or a .jsonl file with one {"id","text"} a line.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Print one JSON object a document, in input order; without it, a short summary each.
    #[arg(long)]
    json: bool,
    /// Take the mentions from the input instead of looking for them: each PATH is a .jsonl file whose lines also have
    /// "ents", [[start, end, label, …], …] in characters. A mention then has `gold`, its index there.
    #[arg(long)]
    gold_mentions: bool,
    #[command(flatten)]
    direct: DirectArgs,
}

/// A document that was refused or failed.
#[derive(Serialize)]
struct RefusedLine<'a> {
    id: &'a str,
    error: ErrorLine<'a>,
}

#[derive(Serialize)]
struct ErrorLine<'a> {
    code: &'static str,
    message: &'a str,
}

pub(super) async fn extract(
    args: ExtractArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let direct = Direct::new(&args.direct, &extractors)?;
    let limits = args.direct.pipeline.limits();
    let tasks: Box<dyn Iterator<Item = Result<Task, Refused>> + Send> = if args.gold_mentions {
        Box::new(marked(args.paths, limits)?)
    } else {
        Box::new(input::read(&args.paths, limits)?.map(|input| match input {
            Input::Document(document) => Ok(Task {
                id: document.id,
                text: Text::new(document.text),
                given: None,
            }),
            Input::Refused { id, failure } => Err(Refused { id, failure }),
        }))
    };
    let mut results = pin!(direct.extract(tasks));
    let mut refused = 0_u64;
    while let Some(result) = results.next().await {
        let written = match result? {
            Ok(Extracted {
                id,
                text,
                graph,
                gold,
            }) => {
                if args.json {
                    output::json(&extracted_line(&id, &text, &graph, gold.as_deref()))
                } else {
                    output::line(&summary::extracted(&id, &graph))
                }
            }
            Err(Refused { id, failure }) => {
                refused += 1;
                if args.json {
                    let error = ErrorLine {
                        code: failure.code.as_str(),
                        message: &failure.message,
                    };
                    output::json(&RefusedLine { id: &id, error })
                } else {
                    output::note(&format!("{id}: {failure}"));
                    Ok(())
                }
            }
        };
        if written.is_err() {
            // Nobody reads any more, or nobody can.
            return output::written(written).map(|()| ExitCode::SUCCESS);
        }
    }
    Ok(if refused == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    })
}

/// The documents of gold files on their own mentions; what can't be used is refused by its place.
fn marked(
    paths: Vec<PathBuf>,
    limits: Limits,
) -> Result<impl Iterator<Item = Result<Task, Refused>> + Send + use<>, CliError> {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let lines = GoldLines::open(paths, limits, false)?;
    Ok((1_u64..).zip(lines).map(move |(nth, line)| {
        let line = line.map_err(|(place, mut failure)| {
            failure.message = format!("{place}: {}", failure.message);
            Refused { id: place, failure }
        })?;
        if let Some(first) = seen.insert(line.id.clone(), nth) {
            // Two answers under one id could not be told apart.
            let failure = Failure::terminal(
                FailureCode::DuplicateId,
                format!("the id is that of document {first} as well: give one of them another id"),
            );
            let id = format!("{} (document {nth})", line.id);
            return Err(Refused { id, failure });
        }
        Ok(Task::of(&line, true))
    }))
}
