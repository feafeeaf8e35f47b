//! `graphmill serve`: the HTTP API.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::net::TcpListener;

use super::{calling, error::CliError, notifying, ontology, run::interrupted, session::Session};
use crate::{
    api,
    config::{ModelArgs, NotifyArgs, PipelineArgs, ServerArgs, WorkerArgs},
    extractors::Extractors,
    pipeline::Foresight,
    worker::{Worker, WorkerSettings},
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; only a loopback address for now, since there are no keys yet.
    #[arg(
        long,
        env = "GRAPHMILL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
    /// What may be found in the batches that come in: a .toml, .ttl, .owl or .rdf file; the built-in ontology without it.
    #[arg(long, env = "GRAPHMILL_ONTOLOGY", value_name = "FILE")]
    ontology: Option<PathBuf>,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// For batches that name no address of their own; workers send and sign, with the same secret.
    #[command(flatten)]
    notify: NotifyArgs,
    /// Work in this process too, as `graphmill worker` does.
    #[arg(long, env = "GRAPHMILL_WITH_WORKER")]
    with_worker: bool,
    /// A web page's origin that may ask (`https://example.com`); may be given several times, or be `*`. Without it no
    /// page of another origin may.
    #[arg(
        long,
        env = "GRAPHMILL_CORS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    cors_origin: Vec<api::Origin>,
    /// The most bytes that a submission of lines or files may have.
    #[arg(
        long,
        env = "GRAPHMILL_MAX_UPLOAD_BYTES",
        value_name = "BYTES",
        default_value_t = 1 << 30
    )]
    max_upload_bytes: u64,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    models: ModelArgs,
}

pub(super) async fn serve(
    servers: &ServerArgs,
    args: &ServeArgs,
    extractors: Extractors,
) -> Result<ExitCode, CliError> {
    if !args.listen.ip().is_loopback() {
        return Err(CliError::Usage(format!(
            "--listen {}: anybody could submit there, and there are no keys yet; listen on 127.0.0.1 and put a \
             proxy that checks who it is in front",
            args.listen
        )));
    }
    let ontology = ontology::chosen(args.ontology.as_deref())?;
    let signs = notifying::messenger(&args.notify.signing)?.is_some();
    let webhooks = api::Webhooks {
        otherwise: notifying::address(&args.notify, signs)?,
        signs,
    };
    let listen = |source| CliError::Listen {
        address: args.listen.to_string(),
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(listen)?;
    let session = Session::open(servers, false).await?;
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "listening");
    let offered = extractors.names().filter_map(|name| {
        let paid = extractors.get(name)?.is_paid();
        Some((name.to_owned(), args.pipeline.settings(paid)))
    });
    let foresights = extractors.names().filter_map(|name| {
        let extractor = extractors.get(name)?;
        Some((name.to_owned(), Foresight::new(extractor)))
    });
    let foresights = foresights.collect();
    let queue = session.queue().await?;
    let state = api::State::new(
        session.store.clone(),
        queue.clone(),
        offered.collect(),
        args.pipeline.limits(),
        ontology,
        webhooks,
        api::Surroundings {
            foresights,
            cors_origins: args.cors_origin.clone(),
            upload_bytes: args.max_upload_bytes,
        },
    );
    let worker = if args.with_worker {
        Some(work(&session, queue, extractors, args).await?)
    } else {
        None
    };
    let served = api::serve(listener, state, interrupted())
        .await
        .map_err(listen);
    // Behind the requests: what they have submitted to the end is seen by others.
    if let Some(worker) = worker {
        worker.drain(args.worker.drain).await;
    }
    session.close().await;
    served.map(|()| ExitCode::SUCCESS)
}

/// Works in this process.
async fn work(
    session: &Session,
    queue: crate::queue::Queue,
    extractors: Extractors,
    args: &ServeArgs,
) -> Result<Worker, CliError> {
    let (extractors, models) = calling::equip(extractors, &args.models)?;
    let messenger = notifying::messenger(&args.notify.signing)?;
    let settings = WorkerSettings {
        limits: models.limits,
        ..args.worker.settings(WorkerSettings::default().slots)
    };
    let store = session.store.clone();
    Ok(Worker::start_notifying(store, queue, extractors, settings, messenger).await?)
}
