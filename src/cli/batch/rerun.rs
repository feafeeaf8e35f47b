//! `graphmill batch rerun`: an ended batch is worked again from a stage on, or says what that would take.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use graphmill_jobs::BatchId;
use serde_json::json;

use super::{find, unknown};
use crate::{
    cli::{error::CliError, ontology, output, session::Session},
    extractors::{Extractor, Extractors, check_prompt},
    flow::Stage,
    pipeline::Foresight,
    store,
    workflow::{self, Forecast, NewPrompt, Rerun, Rerunning},
};

/// What stands for the extractor's own prompt, and for the ontology that comes along.
const BUILT_IN: &str = "built-in";

/// Arguments of `batch rerun`.
#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    /// The batch's id or name; it must have ended.
    batch: String,
    /// The first stage that is worked otherwise; those before it keep what they found.
    #[arg(long, value_name = "STAGE")]
    from: From,
    /// What may be found from that stage on: a .toml, .ttl, .owl or .rdf file, or `built-in`.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
    /// The prompt of that stage, for extractors that call models; `built-in` goes back to the extractor's own.
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Say what would be done and cost, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Work the stage again even if neither its ontology nor its prompt changes.
    #[arg(long)]
    force: bool,
    /// Print one object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    Mentions,
    Entities,
    Relations,
    Assemble,
    Resolve,
}

impl From {
    const fn stage(self) -> Stage {
        match self {
            Self::Mentions => Stage::Mentions,
            Self::Entities => Stage::Entities,
            Self::Relations => Stage::Relations,
            Self::Assemble => Stage::Assemble,
            Self::Resolve => Stage::Resolve,
        }
    }
}

pub(super) async fn rerun(
    session: &Session,
    args: &RerunArgs,
    extractors: &Extractors,
) -> Result<(), CliError> {
    let organization = session.organization;
    let id = find(session, &args.batch).await?;
    let extractor = extractor(session, id, args, extractors).await?;
    let rerun = Rerun {
        from: args.from.stage(),
        ontology: match &args.ontology {
            None => None,
            Some(file) if is_built_in(file) => Some(ontology::chosen(None)?),
            Some(file) => Some(ontology::chosen(Some(file))?),
        },
        prompt: match &args.prompt {
            None => None,
            Some(file) => Some(prompt(file, args.from.stage(), &*extractor)?),
        },
        force: args.force,
    };
    if args.dry_run {
        let foresight = Foresight::new(extractor);
        let forecast =
            workflow::forecast(&session.store, organization, id, &rerun, &foresight).await?;
        return output::written(if args.json {
            output::json(&forecast)
        } else {
            output::line(&for_people(&forecast, foresight.calls_models()))
        });
    }
    let done = workflow::rerun(&session.store, organization, id, &rerun).await?;
    if args.json {
        let (documents, generation) = match done {
            Rerunning::Documents {
                documents,
                generation,
            } => (Some(documents), Some(generation)),
            Rerunning::Nothing | Rerunning::GoesOn => (None, None),
        };
        output::written(output::json(&json!({
            "batch_id": id,
            "from": rerun.from,
            "changes": done != Rerunning::Nothing,
            "documents": documents,
            "generation": generation,
        })))?;
    }
    let by = format!("by any worker or `graphmill run --resume {}`", args.batch);
    output::note(&match done {
        Rerunning::Documents { .. } if rerun.from == Stage::Resolve => {
            format!("it is resolved again, {by}")
        }
        Rerunning::Documents { documents, .. } => {
            format!(
                "{documents} documents are worked again from `{}` on, {by}",
                rerun.from
            )
        }
        Rerunning::GoesOn => format!("what had been cut off goes on, {by}"),
        Rerunning::Nothing => nothing(rerun.from),
    });
    Ok(())
}

fn is_built_in(file: &Path) -> bool {
    file.as_os_str() == BUILT_IN
}

/// The extractor of the batch.
async fn extractor(
    session: &Session,
    id: BatchId,
    args: &RerunArgs,
    extractors: &Extractors,
) -> Result<Arc<dyn Extractor>, CliError> {
    let organization = session.organization;
    let mut read = session.store.app(organization).await?;
    let found = store::batch_by_id(&mut read, organization, id).await?;
    let name = found.ok_or_else(|| unknown(&args.batch))?.extractor;
    extractors.get(&name).ok_or_else(|| {
        CliError::Usage(format!(
            "the batch's extractor `{name}` is not in this program: use the one that the batch was begun with"
        ))
    })
}

/// The prompt in a file.
fn prompt(file: &Path, stage: Stage, extractor: &dyn Extractor) -> Result<NewPrompt, CliError> {
    if extractor.prompt(stage.as_str()).is_none() {
        let name = extractor.name();
        return Err(CliError::Usage(if extractor.calls_models() {
            format!(
                "--prompt is for `mentions`, `entities` and `relations`: no model is asked in `{stage}`"
            )
        } else {
            format!("--prompt is for extractors that call models; `{name}` calls none")
        }));
    }
    if is_built_in(file) {
        return Ok(NewPrompt::BuiltIn);
    }
    let path = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::Usage(format!("{path}: the prompt can't be read: {error}")))?;
    match check_prompt(stage.as_str(), &text) {
        Ok(Some(text)) => Ok(NewPrompt::Own(text.into())),
        Ok(None) => Ok(NewPrompt::BuiltIn),
        Err(flaw) => Err(CliError::Usage(format!(
            "{path}:{}: {}",
            flaw.line, flaw.message
        ))),
    }
}

fn nothing(from: Stage) -> String {
    format!(
        "nothing would change: `{from}` was worked with the same ontology and prompt. Give another --ontology or \
         --prompt, or --force to work it again; `graphmill batch retry` tries again what failed"
    )
}

fn for_people(forecast: &Forecast, calls_models: bool) -> String {
    if !forecast.changes {
        return nothing(forecast.from);
    }
    if forecast.from == Stage::Resolve {
        return "it would be resolved again; no document would be worked".to_owned();
    }
    let mut lines = vec![format!(
        "{} documents from `{}` on",
        forecast.documents, forecast.from
    )];
    for stage in &forecast.stages {
        let mut line = format!(
            "  {:<10} {} to work, {} reused",
            stage.stage.as_str(),
            stage.worked,
            stage.reused
        );
        if stage.up_to > 0 {
            // A string takes everything.
            let _ = write!(
                line,
                ", and up to {} more (as many as the last run had)",
                stage.up_to
            );
        }
        lines.push(line);
    }
    if calls_models {
        lines.push(format!("  calls      {}", forecast.calls));
        lines.push(format!(
            "  tokens     {} in, {} out",
            forecast.prompt_tokens, forecast.completion_tokens
        ));
        lines.push(format!(
            "  cost       {}",
            forecast.cost.map_or_else(
                || "not known: the model's price was not".to_owned(),
                |cost| format!("${cost:.4}")
            )
        ));
        lines.push(
            "at most, as far as can be told: a question that was asked before is answered from the ledger"
                .to_owned(),
        );
    }
    lines.push("nothing was done: leave out --dry-run to do it".to_owned());
    lines.join("\n")
}
