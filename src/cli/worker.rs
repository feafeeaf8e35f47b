//! `graphmill worker`: a replica.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    calling, error::CliError, notifying, ontology, run::Interrupts, scraping, session::Session,
};
use crate::{
    config::{MetricsArgs, ModelArgs, Models, NotifyArgs, PipelineArgs, ServerArgs, WorkerArgs},
    extractors::Extractors,
    store::Caps,
    worker::{Ingest, IngestSettings, Worker, WorkerSettings},
    workflow::{ModelDefaults, Webhooks},
};

/// Arguments of `worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerCommandArgs {
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
    #[command(flatten)]
    models: ModelArgs,
    /// What may be found in the batches that come in through the queue: a .toml, .ttl, .owl or .rdf file; the built-in
    /// ontology without it.
    #[arg(long, env = "GRAPHMILL_ONTOLOGY", value_name = "FILE")]
    ontology: Option<PathBuf>,
    /// For batches that come in through the queue.
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
}

/// What batches that come in are opened with. `signs`: there is a secret to sign webhooks with.
pub(super) fn offered(
    extractors: &Extractors,
    pipeline: &PipelineArgs,
    ontology: Option<&Path>,
    notify: &NotifyArgs,
    signs: bool,
    models: &Models,
) -> Result<IngestSettings, CliError> {
    let offered = extractors.names().filter_map(|name| {
        let paid = extractors.get(name)?.is_paid();
        Some((name.to_owned(), pipeline.settings(paid)))
    });
    Ok(IngestSettings {
        extractors: offered.collect(),
        limits: pipeline.limits(),
        ontology: ontology::chosen(ontology)?,
        webhooks: Webhooks {
            otherwise: notifying::address(notify, signs)?,
            signs,
        },
        models: ModelDefaults {
            prices: models.prices.clone(),
            caps: Caps {
                cost: models.max_cost,
                tokens: models.max_tokens,
            },
        },
    })
}

pub(super) async fn worker(
    servers: &ServerArgs,
    args: &WorkerCommandArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let (extractors, models) = calling::equip(extractors, &args.models)?;
    let messenger = notifying::messenger(&args.notify.signing)?;
    let offered = offered(
        &extractors,
        &args.pipeline,
        args.ontology.as_deref(),
        &args.notify,
        messenger.is_some(),
        &models,
    )?;
    let for_metrics = scraping::bind(&args.metrics).await?;
    let session = Session::open(servers, false).await?;
    // From before anybody knows of the worker: who stops it may be that fast.
    let mut interrupts = Interrupts::listen();
    let settings = WorkerSettings {
        limits: models.limits,
        ..args.worker.settings(WorkerSettings::default().slots)
    };
    let queue = session.queue().await?;
    let store = session.store.clone();
    let worker =
        Worker::start_notifying(store, queue.clone(), extractors, settings, messenger).await?;
    let ingest = Ingest::start(session.store.clone(), &queue, offered);
    let scraping = scraping::begin(for_metrics, &session, &queue, Some(&worker));
    interrupts.next().await;
    tracing::info!("draining");
    // First: what it takes in to the end, the worker's sequencer tells of.
    ingest.drain(args.worker.drain).await;
    worker.drain(args.worker.drain).await;
    drop(scraping);
    session.close().await;
    Ok(ExitCode::SUCCESS)
}
