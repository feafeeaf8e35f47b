//! What workers do: activities and their leases, units, rings, sweeps, events, webhooks, submissions taken in.

use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::{
    book::{Book, Level},
    instrument::{Durations, Table},
};

/// How activities end besides as their table has it.
const HANDED_BACK: &str = "handed_back";
const LOST: &str = "lost";
/// What the sweeper finds.
const FOUND: [&str; 3] = ["expired_lease", "unanswered_ring", "orphaned_signal"];

/// See the module.
#[derive(Debug)]
pub struct Work {
    activities: Table<Counter, 2>,
    took: Table<Durations, 1>,
    held: Level,
    retries: Table<Counter, 2>,
    failures: Table<Counter, 2>,
    units: Table<Counter, 2>,
    admitted: Counter,
    rings: Table<Counter, 2>,
    windows: Table<Level, 1>,
    swept: Table<Counter, 1>,
    events: Table<Counter, 1>,
    webhooks: Table<Counter, 1>,
    submissions: Table<Counter, 1>,
}

/// An attempt at a stage, from its lease on. One that is dropped without an end has left its lease: it was lost, or
/// could not be settled.
#[derive(Debug)]
pub struct Activity<'a> {
    work: &'a Work,
    stage: &'static str,
    begun: Instant,
    outcome: &'static str,
}

/// From a stage that finds nothing to do to one of a document that takes minutes. **Source:** idle stages take 3 ms,
/// a model's stage of a long document minutes.
fn durations() -> Durations {
    Durations::new(&[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
        600.0,
    ])
}

impl Work {
    pub(super) fn new(book: &mut Book) -> Self {
        book.chapter("Work");
        Self {
            activities: book.counters(
                "graphmill_activities",
                ["stage", "outcome"],
                "Attempts at a stage that have ended in this process. `completed`, `failed` and `cancelled` are \
                 written with the attempt; `handed_back` is written as cancelled; `lost` has left its lease without \
                 a settle, and whoever takes it over writes it as failed",
            ),
            took: book.durations(
                "graphmill_activity_duration_seconds",
                ["stage"],
                durations,
                "From an attempt's lease to its end, waits for models and limits among it",
            ),
            held: book.gauge("graphmill_leases_held", "Leases that this process holds"),
            retries: book.counters(
                "graphmill_activity_retries",
                ["stage", "reason"],
                "Attempts that were put off to be tried again, by the code of the failure; `waiting` is a limit or \
                 an open breaker, and no failure",
            ),
            failures: book.counters(
                "graphmill_activity_failures",
                ["stage", "reason"],
                "Attempts after which their document failed (it waits for another round, or is given up), by the \
                 code of the failure",
            ),
            units: book.counters(
                "graphmill_units",
                ["stage", "outcome"],
                "Units (a chunk, or a group of mentions) that were worked: `done`, `retry`, or `failed` for good",
            ),
            admitted: book.counter(
                "graphmill_admitted",
                "Executions that this process' stager has given a slot",
            ),
            rings: book.counters(
                "graphmill_rings",
                ["stage", "answer"],
                "Jobs that this process has pushed: `pushed`, `handed_on` (to its own worker, with the lease), \
                 `present` (it was there already), `full` (its window had no room) or `failed` (Redis did not answer)",
            ),
            windows: book.gauges(
                "graphmill_window_size",
                ["stage"],
                "Jobs that may wait in Redis at once, as this process has it from the live slots",
            ),
            swept: book.counters(
                "graphmill_sweeper_found",
                ["found"],
                "What this process' sweeper has found and put right: `expired_lease` (its holder died or lost \
                 Postgres), `unanswered_ring` (a job that got lost, did not fit or was not taken for 5 s), \
                 `orphaned_signal` (its holder is gone)",
            ),
            events: book.counters(
                "graphmill_events",
                ["event"],
                "Events that this process' sequencer has moved to the log, by type; each is moved once in the fleet",
            ),
            webhooks: book.counters(
                "graphmill_webhook_attempts",
                ["outcome"],
                "Attempts to deliver a webhook: `delivered`, `waiting` (to be tried again) or `given_up`",
            ),
            submissions: book.counters(
                "graphmill_submissions",
                ["outcome"],
                "Envelopes of the submit queue that this process has dealt with: `accepted` (also those that were \
                 submitted before), `refused`, or `put_back` to be tried again",
            ),
        }
    }

    /// A process works these stages from now on; there are these types of events.
    pub fn begin(&self, stages: &[&'static str], events: &[&'static str]) {
        for stage in stages.iter().copied() {
            for outcome in ["completed", "failed", "cancelled", HANDED_BACK, LOST] {
                self.activities.begin([stage, outcome]);
            }
            for outcome in ["done", "retry", "failed"] {
                self.units.begin([stage, outcome]);
            }
            for answer in ["pushed", "handed_on", "present", "full", "failed"] {
                self.rings.begin([stage, answer]);
            }
            self.took.begin([stage]);
            self.retries.begin([stage, "waiting"]);
            self.failures.begin([stage, "extractor"]);
            self.windows.begin([stage]);
        }
        for event in events {
            self.events.begin([event]);
        }
        for found in FOUND {
            self.swept.begin([found]);
        }
        for outcome in ["delivered", "waiting", "given_up"] {
            self.webhooks.begin([outcome]);
        }
        for outcome in ["accepted", "refused", "put_back"] {
            self.submissions.begin([outcome]);
        }
    }

    /// An attempt has begun.
    #[must_use]
    pub fn activity(&self, stage: &'static str) -> Activity<'_> {
        self.held.inc();
        Activity {
            work: self,
            stage,
            begun: Instant::now(),
            outcome: LOST,
        }
    }

    /// An attempt is put off.
    pub fn retried(&self, stage: &'static str, reason: &'static str) {
        self.retries.at([stage, reason], Counter::inc);
    }

    /// A document has failed.
    pub fn failed(&self, stage: &'static str, reason: &'static str) {
        self.failures.at([stage, reason], Counter::inc);
    }

    /// A unit has come to an end.
    pub fn unit(&self, stage: &'static str, outcome: &'static str) {
        self.units.at([stage, outcome], Counter::inc);
    }

    /// So many executions have a slot now.
    pub fn admitted(&self, executions: usize) {
        self.admitted.inc_by(executions as u64);
    }

    /// So many rings were answered so.
    pub fn rung(&self, stage: &'static str, answer: &'static str, rings: usize) {
        self.rings
            .at([stage, answer], |counter| counter.inc_by(rings as u64));
    }

    /// The window of a stage's queue.
    pub fn window(&self, stage: &'static str, jobs: usize) {
        self.windows.at([stage], |window| window.set(level(jobs)));
    }

    /// The sweeper has found leases that ran out, rings that nobody answered, and signals of holders that are gone.
    pub fn swept(&self, expired: usize, unanswered: usize, orphaned: usize) {
        for (found, count) in FOUND.into_iter().zip([expired, unanswered, orphaned]) {
            self.swept
                .at([found], |counter| counter.inc_by(count as u64));
        }
    }

    /// An event is in the log.
    pub fn event(&self, event: &'static str) {
        self.events.at([event], Counter::inc);
    }

    /// A webhook was attempted.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.at([outcome], Counter::inc);
    }

    /// An envelope of the submit queue was dealt with.
    pub fn submission(&self, outcome: &'static str) {
        self.submissions.at([outcome], Counter::inc);
    }
}

impl Activity<'_> {
    /// It has ended as its table says.
    pub const fn ended(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Its lease was given back before it was through.
    pub const fn handed_back(&mut self) {
        self.outcome = HANDED_BACK;
    }
}

impl Drop for Activity<'_> {
    fn drop(&mut self) {
        let took: Duration = self.begun.elapsed();
        self.work.held.dec();
        self.work
            .activities
            .at([self.stage, self.outcome], Counter::inc);
        self.work
            .took
            .at([self.stage], |durations| durations.took(took));
    }
}

/// A count as a gauge has it.
#[expect(clippy::cast_precision_loss, reason = "nobody has so many")]
pub(super) const fn level(count: usize) -> f64 {
    count as f64
}
