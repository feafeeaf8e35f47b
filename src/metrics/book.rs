//! The book in which every metric is entered once: into the registry that is scraped, and into the list that is
//! documented.

use std::{fmt::Debug, hash::Hash, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric},
    metrics::{TypedMetric, counter::Counter, gauge::Gauge, info::Info},
    registry::{Metric, Registry},
};

use super::instrument::{Billionths, Durations, Table};

/// A number that goes up and down.
pub(super) type Level = Gauge<f64, AtomicU64>;

/// What sort of a number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only goes up, from the process' start on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
    /// 1; its labels say something.
    Info,
}

impl Kind {
    /// As Prometheus has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its name as it is asked for: with `_total` if it is a counter, without `_bucket` if it is a histogram.
    pub name: String,
    /// What sort of a number it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: Vec<&'static str>,
    /// What it says, without a full stop.
    pub meaning: &'static str,
    /// What it belongs to.
    pub chapter: &'static str,
    /// Whether every replica says the same, so that they are not to be added.
    pub of_the_fleet: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    registry: Registry,
    described: Vec<Described>,
    chapter: &'static str,
    of_the_fleet: bool,
}

impl Book {
    /// What is entered from now on belongs to `chapter`.
    pub(super) fn chapter(&mut self, chapter: &'static str) {
        self.chapter = chapter;
        self.of_the_fleet = false;
    }

    /// The same; every replica says it alike.
    pub(super) fn chapter_of_the_fleet(&mut self, chapter: &'static str) {
        self.chapter = chapter;
        self.of_the_fleet = true;
    }

    /// A counter without labels; `name` is without its `_total`.
    pub(super) fn counter(&mut self, name: &'static str, meaning: &'static str) -> Counter {
        let counter = Counter::default();
        self.enter(name, Kind::Counter, &[], meaning, counter.clone());
        counter
    }

    /// Counters by labels; `name` is without its `_total`.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Table<Counter, N> {
        self.table(name, Kind::Counter, Table::new(labels), labels, meaning)
    }

    /// Counters of fractions by labels.
    pub(super) fn fractions<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Table<Billionths, N> {
        self.table(name, Kind::Counter, Table::new(labels), labels, meaning)
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &'static str, meaning: &'static str) -> Level {
        let gauge = Level::default();
        self.enter(name, Kind::Gauge, &[], meaning, gauge.clone());
        gauge
    }

    /// Gauges by labels.
    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Table<Level, N> {
        self.table(name, Kind::Gauge, Table::new(labels), labels, meaning)
    }

    /// Histograms by labels, of which `make` makes one.
    pub(super) fn durations<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        make: fn() -> Durations,
        meaning: &'static str,
    ) -> Table<Durations, N> {
        let table = Table::made_by(labels, make);
        self.table(name, Kind::Histogram, table, labels, meaning)
    }

    /// Something that is said by labels alone; `name` is without its `_info`.
    pub(super) fn info<S>(
        &mut self,
        name: &'static str,
        labels: &[&'static str],
        said: S,
        meaning: &'static str,
    ) where
        S: EncodeLabelSet + Clone + Eq + Hash + Debug + Send + Sync + 'static,
    {
        self.enter(name, Kind::Info, labels, meaning, Info::new(said));
    }

    /// The registry, and what is in it.
    pub(super) fn close(self) -> (Registry, Vec<Described>) {
        (self.registry, self.described)
    }

    fn table<M, const N: usize>(
        &mut self,
        name: &'static str,
        kind: Kind,
        table: Table<M, N>,
        labels: [&'static str; N],
        meaning: &'static str,
    ) -> Table<M, N>
    where
        M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static,
    {
        self.enter(name, kind, &labels, meaning, table.family());
        table
    }

    fn enter(
        &mut self,
        name: &'static str,
        kind: Kind,
        labels: &[&'static str],
        meaning: &'static str,
        metric: impl Metric,
    ) {
        self.registry.register(name, meaning, metric);
        let ending = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.described.push(Described {
            name: format!("{name}{ending}"),
            kind,
            labels: labels.to_vec(),
            meaning,
            chapter: self.chapter,
            of_the_fleet: self.of_the_fleet,
        });
    }
}
