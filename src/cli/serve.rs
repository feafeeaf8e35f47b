//! `graphmill serve`: the HTTP API.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::net::TcpListener;

use super::{
    error::CliError, first_key::have_key, notifying, ontology, run::interrupted, session::Session,
};
use crate::{
    api,
    config::{NotifyArgs, PipelineArgs, ServerArgs},
    extractors::Extractors,
    keys::Keyring,
    queue::RateLimiter,
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
    let address = listener.local_addr().map_err(listen)?;
    tracing::info!(%address, "listening");
    let offered = extractors.names().filter_map(|name| {
        let paid = extractors.get(name)?.is_paid();
        Some((name.to_owned(), args.pipeline.settings(paid)))
    });
    let state = api::State::new(
        session.store.clone(),
        queue,
        offered.collect(),
        args.pipeline.limits(),
        ontology,
        webhooks,
        access,
    );
    let served = api::serve(listener, state, interrupted())
        .await
        .map_err(listen);
    session.close().await;
    served.map(|()| ExitCode::SUCCESS)
}
