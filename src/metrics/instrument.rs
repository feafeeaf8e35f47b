//! The instruments beside the crate's own: label sets whose names are known beforehand, histograms and fractions that
//! are made of atomics alone.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use prometheus_client::{
    encoding::{
        EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, NoLabelSet,
    },
    metrics::{MetricType, TypedMetric, exemplar::Exemplar, family::Family},
};

/// A label's value: a word of the code, or a model's name.
pub(super) type Value = Cow<'static, str>;

/// A label set of `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Labels<const N: usize> {
    names: [&'static str; N],
    values: [Value; N],
}

impl<const N: usize> PartialEq for Labels<N> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl<const N: usize> Eq for Labels<N> {}

impl<const N: usize> Hash for Labels<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values.hash(state);
    }
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(&self.values) {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// A metric with labels: one instrument for each set of values.
#[derive(Debug)]
pub(super) struct Table<M, const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, M>,
}

impl<M: Default, const N: usize> Table<M, N> {
    pub(super) fn new(names: [&'static str; N]) -> Self {
        Self::made_by(names, M::default)
    }
}

impl<M, const N: usize> Table<M, N> {
    pub(super) fn made_by(names: [&'static str; N], make: fn() -> M) -> Self {
        Self {
            names,
            family: Family::new_with_constructor(make),
        }
    }

    pub(super) fn family(&self) -> Family<Labels<N>, M> {
        self.family.clone()
    }

    /// Does something with the instrument of these values.
    pub(super) fn with<R>(&self, values: [Value; N], act: impl FnOnce(&M) -> R) -> R {
        let labels = Labels {
            names: self.names,
            values,
        };
        act(&self.family.get_or_create(&labels))
    }

    /// The same for words of the code.
    pub(super) fn at<R>(&self, values: [&'static str; N], act: impl FnOnce(&M) -> R) -> R {
        self.with(values.map(Cow::Borrowed), act)
    }

    /// That it is there from the beginning: what counts up from nothing is no increase to Prometheus.
    pub(super) fn begin(&self, values: [&'static str; N]) {
        self.at(values, |_| ());
    }

    pub(super) fn clear(&self) {
        self.family.clear();
    }
}

/// How long something took: counts by upper bound, in seconds.
#[derive(Debug)]
pub(super) struct Durations {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Durations {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        }
    }

    pub(super) fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // What was counted is what the buckets say, although others count meanwhile.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let none = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        encoder.encode_histogram(billionths(&self.nanoseconds), count, &buckets, none)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

/// A counter of billionths, told as whole ones: seconds and dollars add up exactly.
#[derive(Debug, Default)]
pub(super) struct Billionths(AtomicU64);

impl Billionths {
    pub(super) fn add(&self, billionths: u64) {
        self.0.fetch_add(billionths, Relaxed);
    }

    /// What somebody else has counted.
    pub(super) fn set(&self, billionths: u64) {
        self.0.fetch_max(billionths, Relaxed);
    }
}

impl EncodeMetric for Billionths {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, f64, f64>(&billionths(&self.0), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Billionths {
    const TYPE: MetricType = MetricType::Counter;
}

#[expect(
    clippy::cast_precision_loss,
    reason = "after 104 days a nanosecond is lost to rounding"
)]
fn billionths(of: &AtomicU64) -> f64 {
    of.load(Relaxed) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_under_the_first_bound_that_holds_it() {
        let durations = Durations::new(&[0.1, 1.0]);
        for milliseconds in [50, 100, 101, 5_000] {
            durations.took(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = durations.counts.iter().map(|c| c.load(Relaxed)).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert!((billionths(&durations.nanoseconds) - 5.251).abs() < 1e-9);
    }
}
