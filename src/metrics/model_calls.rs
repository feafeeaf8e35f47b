//! Calls of models: what became of them, what they took, and what stands before them (limits, breaker).

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

use super::{
    book::{Book, Level},
    instrument::{Billionths, Durations, Table, Value},
    work::level,
};

/// Models that are told apart in a process; further ones are counted as [`OTHER`]. **Source:** ours: each has some
/// hundred series, and a batch may name any model.
pub const MODELS: usize = 32;
/// The model of all that are not told apart.
const OTHER: &str = "other";
/// The longest name of a model that is shown.
const LONGEST_NAME: usize = 80;

/// What becomes of a call.
const OUTCOMES: [&str; 10] = [
    "answered",
    "cached",
    "throttled",
    "blocked",
    "refused",
    "failed",
    "unreachable",
    "unsent",
    "broken",
    "cancelled",
];

/// Why a call gets no permit.
const REASONS: [&str; 7] = [
    "requests",
    "tokens",
    "concurrency",
    "paused",
    "breaker_open",
    "probing",
    "turn",
];

/// The states of a breaker.
const BREAKER: [&str; 3] = ["closed", "open", "half_open"];

/// See the module.
#[derive(Debug)]
pub struct Models {
    known: Mutex<BTreeSet<(&'static str, String)>>,
    calls: Table<Counter, 4>,
    took: Table<Durations, 2>,
    tokens: Table<Counter, 3>,
    cost: Table<Billionths, 2>,
    waits: Table<Durations, 2>,
    put_off: Table<Counter, 3>,
    permits: Table<Level, 2>,
    most: Table<Level, 2>,
    waiters: Table<Level, 2>,
    pause: Table<Level, 2>,
    breaker: Table<Level, 3>,
}

/// A model as labels have it.
#[derive(Debug, Clone)]
pub struct Model {
    provider: &'static str,
    name: Value,
}

/// How the limits of a model stand.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Calls in flight.
    pub in_flight: usize,
    /// The most at once.
    pub most: usize,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// How long the server's pause lasts.
    pub pause: Duration,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
}

fn of_calls() -> Durations {
    Durations::new(&[
        0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0,
    ])
}

/// Beyond 5 s a call is put off. **Source:** the patience of a call.
fn of_waits() -> Durations {
    Durations::new(&[
        0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Models {
    pub(super) fn new(book: &mut Book) -> Self {
        book.chapter("Calls of models");
        let pair = ["provider", "model"];
        Self {
            known: Mutex::default(),
            calls: book.counters(
                "graphmill_model_calls",
                ["provider", "model", "operation", "outcome"],
                "Calls, by what became of them. `answered` was paid and is in the ledger; `cached` was answered from \
                 the ledger; `throttled` (429), `blocked` (the account), `refused` (another 4xx), `failed` (5xx), \
                 `unreachable` and `unsent` have no answer and stand there as rejected; `broken` and `cancelled` are \
                 in doubt",
            ),
            took: book.durations(
                "graphmill_model_call_duration_seconds",
                pair,
                of_calls,
                "From sending a request to the last byte of its answer, or to its failure",
            ),
            tokens: book.counters(
                "graphmill_model_tokens",
                ["provider", "model", "kind"],
                "Tokens of answered calls: `prompt` (cached ones among them), `cached` and `completion`",
            ),
            cost: book.fractions(
                "graphmill_model_cost_dollars",
                pair,
                "What answered calls have cost, where the price is known",
            ),
            waits: book.durations(
                "graphmill_limiter_wait_duration_seconds",
                pair,
                of_waits,
                "How long calls have waited for a permit, whether or not they got one",
            ),
            put_off: book.counters(
                "graphmill_limiter_put_off",
                ["provider", "model", "reason"],
                "Calls that got no permit in time and whose document was put off: `requests`, `tokens`, \
                 `concurrency`, `paused`, `breaker_open`, `probing` or `turn`",
            ),
            permits: book.gauges(
                "graphmill_limiter_permits_in_use",
                pair,
                "Calls in flight over the whole fleet, as the workers that call this model see it",
            ),
            most: book.gauges(
                "graphmill_limiter_permits_max",
                pair,
                "The most calls at once over the whole fleet, as it has adapted",
            ),
            waiters: book.gauges(
                "graphmill_limiter_waiters",
                pair,
                "Calls of the whole fleet that wait for a permit",
            ),
            pause: book.gauges(
                "graphmill_limiter_pause_seconds",
                pair,
                "How long the pause still lasts that the server asked for; 0 without one",
            ),
            breaker: book.gauges(
                "graphmill_breaker_state",
                ["provider", "model", "state"],
                "1 for the state that the fleet's breaker is in, 0 for the others: `closed`, `open`, `half_open`",
            ),
        }
    }

    /// The model as labels have it.
    #[must_use]
    pub fn model(&self, provider: &'static str, name: &str) -> Model {
        let other = Model {
            provider,
            name: Cow::Borrowed(OTHER),
        };
        let shown = name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !shown {
            return other;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let model = (provider, name.to_owned());
        if !known.contains(&model) {
            if known.len() >= MODELS {
                return other;
            }
            known.insert(model.clone());
            self.begin(&Model {
                provider,
                name: Cow::Owned(model.1.clone()),
            });
        }
        Model {
            provider,
            name: Cow::Owned(model.1),
        }
    }

    /// A model is called from now on.
    fn begin(&self, model: &Model) {
        let labels = |word: &'static str| [model.provider.into(), model.name.clone(), word.into()];
        for outcome in OUTCOMES {
            let [provider, name, outcome] = labels(outcome);
            let labels = [provider, name, "chat".into(), outcome];
            self.calls.with(labels, |_| ());
        }
        for kind in ["prompt", "cached", "completion"] {
            self.tokens.with(labels(kind), |_| ());
        }
        for reason in REASONS {
            self.put_off.with(labels(reason), |_| ());
        }
        self.took.with(model.pair(), |_| ());
        self.waits.with(model.pair(), |_| ());
        self.cost.with(model.pair(), |_| ());
    }

    /// A call has come to an end.
    pub fn call(&self, of: &Model, operation: &'static str, outcome: &'static str) {
        let labels = [
            of.provider.into(),
            of.name.clone(),
            operation.into(),
            outcome.into(),
        ];
        self.calls.with(labels, Counter::inc);
    }

    /// An exchange with the server took so long, whatever came of it.
    pub fn took(&self, of: &Model, time: Duration) {
        self.took.with(of.pair(), |durations| durations.took(time));
    }

    /// What an answered call has used: tokens in, of those from the server's cache, tokens out, and billionths of a
    /// dollar.
    pub fn used(&self, of: &Model, prompt: u64, cached: u64, completion: u64, cost: Option<u64>) {
        for (kind, tokens) in [
            ("prompt", prompt),
            ("cached", cached),
            ("completion", completion),
        ] {
            let labels = [of.provider.into(), of.name.clone(), kind.into()];
            self.tokens.with(labels, |counter| counter.inc_by(tokens));
        }
        if let Some(cost) = cost {
            self.cost.with(of.pair(), |counter| counter.add(cost));
        }
    }

    /// A call has waited for its permit.
    pub fn waited(&self, of: &Model, time: Duration) {
        self.waits.with(of.pair(), |durations| durations.took(time));
    }

    /// It got none in time.
    pub fn put_off(&self, of: &Model, reason: &'static str) {
        let labels = [of.provider.into(), of.name.clone(), reason.into()];
        self.put_off.with(labels, Counter::inc);
    }

    /// How the limits of the models of this process stand now; of no others.
    pub fn limits(&self, of: &[(Model, Held)]) {
        for table in [&self.permits, &self.most, &self.waiters, &self.pause] {
            table.clear();
        }
        self.breaker.clear();
        // Those that are not told apart have no limits in common.
        for (model, held) in of.iter().filter(|(model, _)| model.name != OTHER) {
            for (table, value) in [
                (&self.permits, level(held.in_flight)),
                (&self.most, level(held.most)),
                (&self.waiters, level(held.waiting)),
                (&self.pause, held.pause.as_secs_f64()),
            ] {
                table.with(model.pair(), |gauge| gauge.set(value));
            }
            for state in BREAKER {
                let labels = [model.provider.into(), model.name.clone(), state.into()];
                let value = if state == held.breaker { 1.0 } else { 0.0 };
                self.breaker.with(labels, |gauge| gauge.set(value));
            }
        }
    }
}

impl Model {
    fn pair(&self) -> [Value; 2] {
        [self.provider.into(), self.name.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_beyond_the_bound_and_names_that_are_none_are_one() {
        let models = Models::new(&mut Book::default());
        let names: BTreeSet<Value> = (0..10 * MODELS)
            .map(|n| models.model("openai", &format!("model-{n}")).name)
            .collect();
        assert_eq!(names.len(), MODELS + 1);
        assert!(names.contains(OTHER));
        // Who was there before stays.
        assert_eq!(models.model("openai", "model-0").name, "model-0");
        for name in ["a b", "m\n", "modèle", &"m".repeat(LONGEST_NAME + 1)] {
            assert_eq!(models.model("openai", name).name, OTHER, "{name}");
        }
    }
}
