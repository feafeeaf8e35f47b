//! `graphmill batch add`: documents for a batch that is open or has ended.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::find;
use crate::{
    cli::{
        error::{CliError, SOME_FAILED},
        input::{self, Input},
        output,
        session::Session,
    },
    config::PipelineArgs,
    workflow::Submission,
};

/// Refusals that are spelt out; the batch's report has them all.
const SPELT_OUT: usize = 10;

/// Arguments of `batch add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The batch's id or name.
    batch: String,
    /// A folder (its .txt and .md files), a file, or a .jsonl file with one {"id","text"} a line.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Keep a batch open that had ended, until `batch seal`; without it the addition seals it again.
    #[arg(long)]
    open: bool,
    /// Print one object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

pub(super) async fn add(session: &Session, args: AddArgs) -> Result<ExitCode, CliError> {
    let organization = session.organization;
    let id = find(session, &args.batch).await?;
    let inputs = input::read(&args.paths, args.pipeline.limits())?;
    let mut submission = Submission::to(&session.store, organization, id).await?;
    for input in inputs {
        match input {
            Input::Document(document) => submission.add(document).await?,
            Input::Refused { id, failure } => submission.refuse(id, failure).await?,
        }
    }
    let changed = submission.finish(args.open).await?;
    let refused = &changed.refused;
    let duplicates = refused.iter().filter(|one| one.is_duplicate()).count();
    if args.json {
        output::written(output::json(&json!({
            "batch_id": id,
            "added": changed.added,
            "replaced": changed.replaced,
            "unchanged": changed.unchanged,
            "refused": refused.len() - duplicates,
            "duplicate": duplicates,
        })))?;
    } else {
        output::written(output::line(&format!(
            "{} added, {} replaced, {} unchanged, {} refused",
            changed.added,
            changed.replaced,
            changed.unchanged,
            refused.len(),
        )))?;
    }
    for one in refused.iter().take(SPELT_OUT) {
        output::note(&format!("{}: {}", one.external_id, one.failure.message));
    }
    if changed.added + changed.replaced > 0 {
        let batch = &args.batch;
        output::note(&format!(
            "worked by any worker, or by `graphmill run --resume {batch}`"
        ));
    }
    Ok(if refused.len() == duplicates {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    })
}
