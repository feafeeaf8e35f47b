//! A scripted model server: real HTTP, answers that are found in the prompt, misbehaviour on demand, and a bill of its
//! own. For tests of graphmill and of what is built on it.
//!
//! Knows HTTP and the blocks of graphmill's prompts. Must not know anything of the rest of the house: it stands in for
//! somebody else's server, and a bill that shares code with the ledger proves nothing about it.
//!
//! Invariant: what a client was sent stands on the bill.

mod answer;
mod bill;
mod desk;
mod embedding;
mod failure;
mod latency;
mod limits;
mod request;
mod routes;
mod schema;
mod script;
mod spoil;
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use tokio::{net::TcpListener, task::JoinHandle};

pub use bill::{Entry, Event, Stats};
pub use latency::{Latency, LatencyError};
pub use script::{Script, ScriptError};

use bill::Bill;
use desk::Desk;
use wire::{Door, Scissors, Wires};

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 is one that is free.
    pub listen: SocketAddr,
    /// What it does.
    pub script: Script,
    /// Where its bill is written, and gone on with; only in memory without.
    pub bill: Option<PathBuf>,
    /// The key that a request must have; any or none without.
    pub api_key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            script: Script::default(),
            bill: None,
            api_key: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not of this machine.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The bill can't be read or written.
    #[error("the bill `{path}` can't be opened")]
    Bill {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A server that runs until it is dropped.
pub struct MockModel {
    address: SocketAddr,
    desk: Arc<Desk>,
    wires: Wires,
    accepting: JoinHandle<io::Result<()>>,
}

impl MockModel {
    /// Starts a server in this runtime.
    ///
    /// # Errors
    /// When it can't listen or its bill can't be opened; trying again may help with an address that is taken.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let bill = Bill::open(options.bill.as_deref()).map_err(|source| StartError::Bill {
            path: options.bill.clone().unwrap_or_default(),
            source,
        })?;
        let listen = |source| StartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let desk = Arc::new(Desk::new(options.script, bill, options.api_key));
        let wires = Wires::default();
        let service =
            routes::routes(desk.clone()).into_make_service_with_connect_info::<Scissors>();
        let door = Door::new(listener, wires.clone());
        let accepting = tokio::spawn(async move { axum::serve(door, service).await });
        Ok(Self {
            address,
            desk,
            wires,
            accepting,
        })
    }

    /// What a client takes for its base URL.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Every line of the bill so far.
    #[must_use]
    pub fn bill(&self) -> Vec<Entry> {
        self.desk.bill()
    }

    /// Sums over the bill.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.desk.stats()
    }

    /// Replaces the script; rules, limits and times begin anew.
    pub fn play(&self, script: Script) {
        self.desk.play(script);
    }
}

impl Drop for MockModel {
    /// As a process that dies: no connection outlives it.
    fn drop(&mut self) {
        self.accepting.abort();
        self.wires.cut_all();
    }
}
