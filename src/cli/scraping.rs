//! The listener for metrics, of the commands that have one.

use tokio::net::TcpListener;

use super::{error::CliError, session::Session};
use crate::{
    config::MetricsArgs,
    queue::Queue,
    scrape::{self, Scraping, Sources},
    worker::Worker,
};

/// Takes the address, before anything is begun: one that is taken is to be said at once.
pub(super) async fn bind(args: &MetricsArgs) -> Result<Option<TcpListener>, CliError> {
    let Some(address) = args.address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(CliError::ListenForMetrics {
            address: address.to_string(),
            source,
        }),
    }
}

/// Answers scrapes until the value is dropped.
pub(super) fn begin(
    listener: Option<TcpListener>,
    session: &Session,
    queue: &Queue,
    worker: Option<&Worker>,
) -> Option<Scraping> {
    let listener = listener?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "metrics are served");
    }
    let sources = Sources {
        store: session.store.clone(),
        queue: queue.clone(),
        calls: worker.and_then(Worker::calls),
    };
    Some(scrape::serve(listener, sources))
}
