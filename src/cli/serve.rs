//! `graphmill serve`: the HTTP API.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::net::TcpListener;

use super::{error::CliError, notifying, ontology, run::interrupted, session::Session};
use crate::{
    api,
    config::{NotifyArgs, PipelineArgs, ServerArgs},
    extractors::Extractors,
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
    let state = api::State::new(
        session.store.clone(),
        session.queue().await?,
        offered.collect(),
        args.pipeline.limits(),
        ontology,
        webhooks,
    );
    let served = api::serve(listener, state, interrupted())
        .await
        .map_err(listen);
    session.close().await;
    served.map(|()| ExitCode::SUCCESS)
}
