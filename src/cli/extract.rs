//! `graphmill extract`: the direct path. The same stages as the durable path, in memory.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    error::{CliError, SOME_FAILED},
    input::{self, Input},
    ontology, output, summary,
};
use crate::{
    config::PipelineArgs,
    extractors::Extractors,
    flow::Failure,
    graph::{DocumentGraph, Text, extracted_line},
    pipeline::{self, Document, Threads, Work, Workplace},
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
    /// Documents extracted at once; as many as there are cores without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Who extracts.
    #[arg(long, value_name = "NAME", default_value = "local")]
    extractor: String,
    /// What may be found: a .toml, .ttl, .owl or .rdf file; the built-in ontology without it.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
    /// Who says how sure the local extractor's relations are: its rules alone, or a logistic regression too.
    #[arg(long, value_name = "SCORER", value_enum)]
    relation_scorer: Option<super::run::ScorerName>,
    #[command(flatten)]
    pipeline: PipelineArgs,
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

enum Extracted {
    Graph {
        id: String,
        text: Text,
        graph: DocumentGraph,
    },
    Refused {
        id: String,
        failure: Failure,
    },
}

pub(super) async fn extract(
    args: ExtractArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let name = super::run::with_scorer(args.extractor, args.relation_scorer)?;
    let extractor = super::run::extractor(&extractors, &name)?;
    let inputs = input::read(&args.paths, args.pipeline.limits())?;
    let ontology = ontology::chosen(args.ontology.as_deref())?;
    let settings = args.pipeline.settings(extractor.is_paid());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.map_or(cores, usize::from);
    let workplace = Workplace {
        threads: Threads::own().map_err(CliError::Runtime)?,
        ..Workplace::here()
    };
    let mut results = stream::iter(inputs)
        .map(|input| {
            let (extractor, ontology) = (Arc::clone(&extractor), Arc::clone(&ontology));
            let workplace = workplace.clone();
            // A task of its own, so that documents are worked on all cores.
            let task = tokio::spawn(async move {
                let document = match input {
                    Input::Document(document) => document,
                    Input::Refused { id, failure } => return Extracted::Refused { id, failure },
                };
                let (id, text) = (document.id, Text::new(document.text));
                let work = Work {
                    document: Document {
                        name: id.as_str().into(),
                        text: text.clone(),
                    },
                    extractor,
                    ontology,
                    settings,
                    round: 0,
                    pause: CancellationToken::new(),
                    workplace,
                    gate: Arc::new(pipeline::Open),
                };
                match pipeline::extract(&work).await {
                    Ok(graph) => Extracted::Graph { id, text, graph },
                    Err(error) => Extracted::Refused {
                        id,
                        failure: error.0,
                    },
                }
            });
            async move {
                task.await
                    .map_err(|error| CliError::Runtime(std::io::Error::other(error)))
            }
        })
        .buffered(threads);
    let mut refused = 0_u64;
    while let Some(result) = results.next().await {
        let written = match result? {
            Extracted::Graph { id, text, graph } => {
                if args.json {
                    output::json(&extracted_line(&id, &text, &graph))
                } else {
                    output::line(&summary::extracted(&id, &graph))
                }
            }
            Extracted::Refused { id, failure } => {
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
