//! What is counted, for Prometheus: each number with its name, labels, unit and meaning. `docs/METRICS.md` is made of
//! it.
//!
//! One set of counters a process, which whoever counts reaches by [`get`]. Must not know who counts, and never a clock's
//! date. Invariants: a label's values come from the code, but for the names of models, of which no more than
//! [`MODELS`] are told apart; no label is an id, an organization's, a batch's or a worker's name; and counting is a
//! look-up and an atomic addition, whatever reads meanwhile.

mod book;
mod fleet;
mod instrument;
mod model_calls;
mod process;
mod service;
mod work;

use std::sync::LazyLock;

use prometheus_client::{encoding::text, registry::Registry};

pub use book::{Described, Kind};
pub use fleet::{Fleet, Seen, Waiting};
pub use model_calls::{Held, MODELS, Model, Models};
pub use process::Process;
pub use service::Service;
pub use work::{Activity, Work};

use book::Book;

/// In which form [`Metrics::write`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that a process counts.
#[derive(Debug)]
pub struct Metrics {
    /// Activities, leases, rings, sweeps, events.
    pub work: Work,
    /// Calls of models, and what stands before them.
    pub models: Models,
    /// Requests and streams.
    pub service: Service,
    /// This process itself.
    pub process: Process,
    /// The fleet, as it was at the last scrape.
    pub fleet: Fleet,
    registry: Registry,
    described: Vec<Described>,
}

/// The counters of this process.
#[must_use]
pub fn get() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut book = Book::default();
        let (work, models) = (Work::new(&mut book), Models::new(&mut book));
        let (service, fleet) = (Service::new(&mut book), Fleet::new(&mut book));
        let process = Process::new(&mut book);
        let (registry, described) = book.close();
        Self {
            work,
            models,
            service,
            process,
            fleet,
            registry,
            described,
        }
    }

    /// Every number, in the text format of `OpenMetrics`.
    #[must_use]
    pub fn write(&self) -> String {
        let mut page = String::with_capacity(1 << 16);
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }

    /// What each number is, in the order of the page.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }
}
