//! `graphmill worker`: a replica.

use std::process::ExitCode;

use clap::Args;

use super::{error::CliError, run::interrupted, session::Session};
use crate::{
    config::{ServerArgs, WorkerArgs},
    extractors::Extractors,
    worker::{Worker, WorkerSettings},
};

/// Arguments of `worker`.
#[derive(Debug, Args)]
pub(super) struct WorkerCommandArgs {
    #[command(flatten)]
    pub(super) worker: WorkerArgs,
}

pub(super) async fn worker(
    servers: &ServerArgs,
    args: &WorkerCommandArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    let session = Session::open(servers, false).await?;
    let settings = args.worker.settings(WorkerSettings::default().slots);
    let worker = Worker::start(
        session.store.clone(),
        session.queue().await?,
        extractors,
        settings,
    )
    .await?;
    interrupted().await;
    tracing::info!("draining");
    worker.drain(args.worker.drain).await;
    session.close().await;
    Ok(ExitCode::SUCCESS)
}
