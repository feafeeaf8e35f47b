//! `graphmill serve`: the HTTP API.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    calling, error::CliError, first_key::have_key, notifying, run::Interrupts, scraping,
    session::Session, worker::offered,
};
use crate::{
    api, board,
    config::{MetricsArgs, ModelArgs, NotifyArgs, PipelineArgs, ServerArgs, WorkerArgs},
    extractors::Extractors,
    keys::Keyring,
    notify::Messenger,
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
    /// Where to show the board: pages of queues, tasks and workers, behind the same keys. Nowhere without it; beyond
    /// loopback addresses as `--listen`.
    #[arg(long, env = "GRAPHMILL_BOARD", value_name = "ADDRESS")]
    board: Option<SocketAddr>,
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
    metrics: MetricsArgs,
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
    let addresses = [("listen", Some(args.listen)), ("board", args.board)];
    check_addresses(&addresses, args.no_keys)?;
    let messenger = notifying::messenger(&args.notify.signing)?;
    let offered = offered(
        &extractors,
        &args.pipeline,
        args.ontology.as_deref(),
        &args.notify,
        messenger.is_some(),
        &args.models.load()?,
    )?;
    let listen = |source| CliError::Listen {
        address: args.listen.to_string(),
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(listen)?;
    let for_metrics = scraping::bind(&args.metrics).await?;
    let board = Board::bind(args).await?;
    let session = Session::open(servers, false).await?;
    for (flag, address) in addresses {
        if let Some(address) = address.filter(|_| !args.no_keys)
            && let Err(error) = have_key(&session, servers, flag, address).await
        {
            session.close().await;
            return Err(error);
        }
    }
    let queue = session.queue().await?;
    let rates = RateLimiter::new(&queue);
    let keyring = Keyring::new(session.store.clone());
    let board = board.map(|board| board.with(&session, args, &keyring, &rates));
    let access = if args.no_keys {
        api::Access::open(session.organization, rates)
    } else {
        api::Access::by_key(keyring, rates)
    };
    // From before anybody knows of the server: who stops it may be that fast.
    let interrupts = Interrupts::listen();
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "listening");
    if let Some(board) = &board {
        let address = board
            .listener
            .local_addr()
            .map_err(|source| board.failed(source))?;
        tracing::info!(%address, "the board is there");
    }
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
            models: offered.models.clone(),
        },
        access,
    );
    let worker = if args.with_worker {
        let worker = work(&session, queue.clone(), extractors, messenger, args).await?;
        let ingest = Ingest::start(session.store.clone(), &queue, offered);
        Some((worker, ingest))
    } else {
        None
    };
    let scraping = scraping::begin(
        for_metrics,
        &session,
        &queue,
        worker.as_ref().map(|(worker, _)| worker),
    );
    let serving = async |stop| api::serve(listener, state, stop).await.map_err(listen);
    let served = until_stopped(serving, board, interrupts).await;
    // Behind the requests: what they have submitted to the end is seen by others.
    if let Some((worker, ingest)) = worker {
        ingest.drain(args.worker.drain).await;
        worker.drain(args.worker.drain).await;
    }
    drop(scraping);
    session.close().await;
    served.map(|()| ExitCode::SUCCESS)
}

/// Without keys only who is on this machine may ask.
fn check_addresses(
    addresses: &[(&str, Option<SocketAddr>)],
    no_keys: bool,
) -> Result<(), CliError> {
    for (flag, address) in addresses {
        if let Some(address) = address.filter(|address| no_keys && !address.ip().is_loopback()) {
            return Err(CliError::Usage(format!(
                "--no-keys --{flag} {address}: anybody could ask for anything there; listen on 127.0.0.1, or leave out \
                 --no-keys"
            )));
        }
    }
    Ok(())
}

/// Serves the API and the board until it is told to stop. If one of them breaks, so does the other: who watches the
/// process must learn of it.
async fn until_stopped(
    serving: impl AsyncFnOnce(WaitForCancellationFutureOwned) -> Result<(), CliError>,
    board: Option<Board<board::State>>,
    mut interrupts: Interrupts,
) -> Result<(), CliError> {
    let stop = CancellationToken::new();
    let shown = async {
        match board {
            Some(board) => board.serve(stop.clone().cancelled_owned()).await,
            None => Ok(()),
        }
    };
    let served = async { tokio::try_join!(serving(stop.clone().cancelled_owned()), shown) };
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = interrupts.next() => {
            stop.cancel();
            served.await
        }
    };
    ended.map(|_| ())
}

/// The board's listener, and what it shows once there is a session.
struct Board<State = ()> {
    address: SocketAddr,
    listener: TcpListener,
    state: State,
}

impl Board {
    async fn bind(args: &ServeArgs) -> Result<Option<Self>, CliError> {
        let Some(address) = args.board else {
            return Ok(None);
        };
        let bound = TcpListener::bind(address).await;
        bound
            .map(|listener| {
                Some(Self {
                    address,
                    listener,
                    state: (),
                })
            })
            .map_err(|source| CliError::Listen {
                address: address.to_string(),
                source,
            })
    }

    fn with(
        self,
        session: &Session,
        args: &ServeArgs,
        keyring: &Keyring,
        rates: &RateLimiter,
    ) -> Board<board::State> {
        let access = if args.no_keys {
            board::Access::open(session.organization, rates.clone())
        } else {
            board::Access::by_key(keyring.clone(), rates.clone())
        };
        Board {
            address: self.address,
            listener: self.listener,
            state: board::State::new(session.store.clone(), access),
        }
    }
}

impl Board<board::State> {
    async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), CliError> {
        let address = self.address.to_string();
        board::serve(self.listener, self.state, stop)
            .await
            .map_err(|source| CliError::Listen { address, source })
    }

    fn failed(&self, source: std::io::Error) -> CliError {
        CliError::Listen {
            address: self.address.to_string(),
            source,
        }
    }
}

/// Works in this process.
async fn work(
    session: &Session,
    queue: crate::queue::Queue,
    extractors: Extractors,
    messenger: Option<Messenger>,
    args: &ServeArgs,
) -> Result<Worker, CliError> {
    let (extractors, models) = calling::equip(extractors, &args.models)?;
    let settings = WorkerSettings {
        limits: models.limits,
        ..args.worker.settings(WorkerSettings::default().slots)
    };
    let store = session.store.clone();
    Ok(Worker::start_notifying(store, queue, extractors, settings, messenger).await?)
}
