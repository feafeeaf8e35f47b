//! The HTTP API.

use std::future::Future;

use tokio::net::TcpListener;

use crate::{
    pipeline::{Limits, Settings},
    queue::Queue,
    store::Store,
};

/// What every route needs.
#[derive(Clone)]
pub struct State {
    store: Store,
    queue: Queue,
    extractors: Vec<String>,
    limits: Limits,
    settings: Settings,
}

impl State {
    /// The state of a server: batches may name one of `extractors`, and documents must keep to `limits`.
    #[must_use]
    pub const fn new(
        store: Store,
        queue: Queue,
        extractors: Vec<String>,
        limits: Limits,
        settings: Settings,
    ) -> Self {
        Self {
            store,
            queue,
            extractors,
            limits,
            settings,
        }
    }
}

/// Serves until `stop` is over, then lets open requests end.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    state: State,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let _ = state;
    axum::serve(listener, axum::Router::<()>::new())
        .with_graceful_shutdown(stop)
        .await
}
