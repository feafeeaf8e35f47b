//! `graphmill worker`: a replica.

use std::process::ExitCode;

use clap::Args;

use super::{calling, error::CliError, notifying, run::Interrupts, scraping, session::Session};
use crate::{
    config::{MetricsArgs, ModelArgs, ServerArgs, SigningArgs, WorkerArgs},
    extractors::Extractors,
    worker::{Worker, WorkerSettings},
};

/// Arguments of `worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerCommandArgs {
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
}

pub(super) async fn worker(
    servers: &ServerArgs,
    args: &WorkerCommandArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let (extractors, models) = calling::equip(extractors, &args.models)?;
    let messenger = notifying::messenger(&args.signing)?;
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
    let scraping = scraping::begin(for_metrics, &session, &queue, Some(&worker));
    interrupts.next().await;
    tracing::info!("draining");
    worker.drain(args.worker.drain).await;
    drop(scraping);
    session.close().await;
    Ok(ExitCode::SUCCESS)
}
