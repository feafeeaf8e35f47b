//! A Redis of its own for every test: its channels are shared by all numbered databases of a server.

use std::sync::atomic::{AtomicU32, Ordering};

use graphmill::servers::{Servers, Settings};

/// A Redis that lives as long as this value.
pub(crate) struct Redis(Servers);

impl Redis {
    /// Starts one, empty.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("redis-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let settings = Settings {
            postgres: false,
            ..super::settings(&name)
        };
        Self(Servers::start(settings).unwrap())
    }

    /// Where to reach it.
    pub(crate) fn url(&self) -> &str {
        self.0.redis_url().unwrap()
    }
}
