//! Documents through the direct path, several at once, results in their order: what `extract` and `evaluate` share.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{calling, error::CliError, input::GoldLine, ontology, run};
use crate::{
    config::{ModelArgs, PipelineArgs},
    extractors::{Extractor, Extractors, Given},
    flow::Failure,
    graph::{DocumentGraph, GoldMention, Ontology, Text, with_gold},
    pipeline::{self, Document, Settings, Threads, Work, Workplace},
};

/// Who extracts, and how.
#[derive(Debug, Args)]
pub(super) struct DirectArgs {
    /// Documents extracted at once; as many as there are cores without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Who extracts.
    #[arg(long, value_name = "NAME", default_value = "local")]
    extractor: String,
    /// Who says how sure the local extractor's relations are: its rules alone, or a logistic regression too.
    #[arg(long, value_name = "SCORER", value_enum)]
    relation_scorer: Option<run::ScorerName>,
    /// What may be found: a .toml, .ttl, .owl or .rdf file; the built-in ontology without it.
    #[arg(long, value_name = "FILE")]
    ontology: Option<PathBuf>,
    #[command(flatten)]
    pub(super) pipeline: PipelineArgs,
    #[command(flatten)]
    models: ModelArgs,
}

/// A document to extract.
pub(super) struct Task {
    pub(super) id: String,
    pub(super) text: Text,
    /// Its mentions, if they are given.
    pub(super) given: Option<Vec<GoldMention>>,
}

impl Task {
    /// The document of a gold line, on its own mentions or not.
    pub(super) fn of(line: &GoldLine, given: bool) -> Self {
        Self {
            id: line.id.clone(),
            text: line.text.clone(),
            given: given.then(|| line.mentions.clone()),
        }
    }
}

/// What came of one.
pub(super) struct Extracted {
    pub(super) id: String,
    pub(super) text: Text,
    pub(super) graph: DocumentGraph,
    /// Which of the given mentions each mention is.
    pub(super) gold: Option<Vec<usize>>,
}

/// A document without a graph.
pub(super) struct Refused {
    pub(super) id: String,
    pub(super) failure: Failure,
}

/// The direct path, ready to work.
pub(super) struct Direct {
    extractor: Arc<dyn Extractor>,
    ontology: Arc<Ontology>,
    settings: Settings,
    workplace: Workplace,
    threads: usize,
}

impl Direct {
    pub(super) fn new(args: &DirectArgs, extractors: &Extractors) -> Result<Self, CliError> {
        let name = run::with_scorer(args.extractor.clone(), args.relation_scorer)?;
        let (extractors, models) = calling::equip(extractors.clone(), &args.models)?;
        let extractor = calling::extractor(&extractors, &name)?;
        let mut settings = args.pipeline.settings(extractor.is_paid());
        let extractor = match calling::directly(&*extractor, &extractors, &models)? {
            Some(calling) => {
                settings = calling::patient(settings, &models);
                calling
            }
            None => extractor,
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            settings,
            extractor,
            ontology: ontology::chosen(args.ontology.as_deref())?,
            workplace: Workplace {
                threads: Threads::own().map_err(CliError::Runtime)?,
                ..Workplace::here()
            },
            threads: args.threads.map_or(cores, usize::from),
        })
    }

    /// Extracts `tasks`; one that was refused before passes through in its place.
    pub(super) fn extract(
        self,
        tasks: impl Iterator<Item = Result<Task, Refused>> + Send,
    ) -> impl Stream<Item = Result<Result<Extracted, Refused>, CliError>> {
        let threads = self.threads;
        stream::iter(tasks)
            .map(move |task| {
                // On the threads of its units, so that documents are worked on all cores and none changes threads.
                let threads = &self.workplace.threads;
                let work = task.map(|task| threads.spawn(self.work(task)));
                async move {
                    match work {
                        Ok(running) => running
                            .await
                            .map_err(|error| CliError::Runtime(std::io::Error::other(error))),
                        Err(refused) => Ok(Err(refused)),
                    }
                }
            })
            .buffered(threads)
    }

    fn work(
        &self,
        task: Task,
    ) -> impl Future<Output = Result<Extracted, Refused>> + Send + 'static {
        let Task { id, text, given } = task;
        let extractor = match &given {
            Some(given) => Arc::new(Given::new(Arc::clone(&self.extractor), given)),
            None => Arc::clone(&self.extractor),
        };
        let work = Work {
            document: Document {
                name: id.as_str().into(),
                text: text.clone(),
            },
            extractor,
            ontology: Arc::clone(&self.ontology),
            settings: self.settings,
            round: 0,
            pause: CancellationToken::new(),
            workplace: self.workplace.clone(),
            gate: Arc::new(pipeline::Open),
            past: pipeline::Past::default(),
        };
        async move {
            match pipeline::extract(&work).await {
                Ok(graph) => {
                    let (graph, gold) = match given {
                        Some(given) => {
                            let (graph, gold) = with_gold(&text, graph, &given, &work.ontology);
                            (graph, Some(gold))
                        }
                        None => (graph, None),
                    };
                    Ok(Extracted {
                        id,
                        text,
                        graph,
                        gold,
                    })
                }
                Err(error) => Err(Refused {
                    id,
                    failure: error.0,
                }),
            }
        }
    }
}
