//! `graphmill serve`: the HTTP API.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use tokio::net::TcpListener;

use super::{
    calling, error::CliError, first_key::have_key, notifying, run::Interrupts, session::Session,
    worker::offered,
};
use crate::{
    api,
    config::{ModelArgs, NotifyArgs, PipelineArgs, ServerArgs, WorkerArgs},
    extractors::Extractors,
    keys::Keyring,
    pipeline::Foresight,
    queue::RateLimiter,
    worker::{Ingest, Worker, WorkerSettings},
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen. Beyond loopback addresses only once there is an API key (`graphmill keys create`); encrypt what
    /// leaves the machine with a proxy.
    #[arg(
        long,
        env = "GRAPHMILL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
    /// Ask nobody for a key: whoever reaches the address owns the organization's batches. For loopback addresses only.
    #[arg(long, env = "GRAPHMILL_NO_KEYS")]
    no_keys: bool,
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
    let is_local = args.listen.ip().is_loopback();
    if args.no_keys && !is_local {
        return Err(CliError::Usage(format!(
            "--no-keys --listen {}: anybody could ask for anything there; listen on 127.0.0.1, or leave out --no-keys",
            args.listen
        )));
    }
    let offered = offered(
        &extractors,
        &args.pipeline,
        args.ontology.as_deref(),
        &args.notify,
    )?;
    let listen = |source| CliError::Listen {
        address: args.listen.to_string(),
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(listen)?;
    let session = Session::open(servers, false).await?;
    if !args.no_keys
        && let Err(error) = have_key(&session, servers, args.listen).await
    {
        session.close().await;
        return Err(error);
    }
    let queue = session.queue().await?;
    let rates = RateLimiter::new(&queue);
    let access = if args.no_keys {
        api::Access::open(session.organization, rates)
    } else {
        api::Access::by_key(Keyring::new(session.store.clone()), rates)
    };
    // From before anybody knows of the server: who stops it may be that fast.
    let mut interrupts = Interrupts::listen();
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "listening");
    let foresights = extractors.names().filter_map(|name| {
        let extractor = extractors.get(name)?;
        Some((name.to_owned(), Foresight::new(extractor)))
    });
    let foresights = foresights.collect();
    let state = api::State::new(
        session.store.clone(),
        queue.clone(),
        offered.extractors.clone(),
        offered.limits,
        Arc::clone(&offered.ontology),
        offered.webhooks.clone(),
        api::Surroundings {
            foresights,
            cors_origins: args.cors_origin.clone(),
            upload_bytes: args.max_upload_bytes,
        },
        access,
    );
    let worker = if args.with_worker {
        let worker = work(&session, queue.clone(), extractors, args).await?;
        let ingest = Ingest::start(session.store.clone(), &queue, offered);
        Some((worker, ingest))
    } else {
        None
    };
    let served = api::serve(listener, state, async move { interrupts.next().await })
        .await
        .map_err(listen);
    // Behind the requests: what they have submitted to the end is seen by others.
    if let Some((worker, ingest)) = worker {
        ingest.drain(args.worker.drain).await;
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
