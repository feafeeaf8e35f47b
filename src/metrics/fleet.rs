//! The fleet, as it was read with a scrape. Every replica says the same, so the greatest is taken and nothing is added;
//! what could not be read is not there at all.

use super::{
    book::{Book, Level},
    instrument::Table,
    work::level,
};

/// See the module.
#[derive(Debug)]
pub struct Fleet {
    up: Table<Level, 1>,
    documents: Table<Level, 1>,
    batches: Table<Level, 1>,
    leases: Table<Level, 1>,
    expired_age: Table<Level, 0>,
    idle_age: Table<Level, 0>,
    outbox: Table<Level, 0>,
    outbox_age: Table<Level, 0>,
    workers: Table<Level, 0>,
    jobs: Table<Level, 1>,
    slots: Table<Level, 1>,
    submissions: Table<Level, 0>,
    set_aside: Table<Level, 0>,
}

/// What Postgres says.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Documents of open batches, by where they stand.
    pub documents: [(&'static str, i64); 4],
    /// Open batches, by where they stand.
    pub batches: Vec<(&'static str, i64)>,
    /// Leases that are held.
    pub leases: i64,
    /// Leases that ran out and should be taken over.
    pub expired: i64,
    /// How long ago the first ran out, in seconds.
    pub expired_seconds: f64,
    /// How long something has waited for a worker, in seconds.
    pub idle_seconds: f64,
    /// Events without a position.
    pub outbox: i64,
    /// How long the oldest has waited, in seconds.
    pub outbox_seconds: f64,
    /// Processes that work.
    pub workers: i64,
}

/// What Redis says of each stage.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// Stage, jobs that wait in its window, slots of its living workers.
    pub stages: Vec<(&'static str, usize, usize)>,
    /// Envelopes in the submit queue.
    pub submissions: usize,
    /// Jobs that nobody can run, and envelopes that were refused.
    pub set_aside: usize,
}

impl Fleet {
    pub(super) fn new(book: &mut Book) -> Self {
        book.chapter_of_the_fleet("The fleet");
        Self {
            up: book.gauges(
                "graphmill_up",
                ["server"],
                "1 if this replica could read `postgres` or `redis` for this scrape; 0 if it could not, and what it \
                 would have read is left out",
            ),
            documents: book.gauges(
                "graphmill_queue_documents",
                ["state"],
                "Documents of open batches: `waiting` for a slot of their batch, `processing` (they have one), \
                 `paused` (their batch is, or is being stopped) or `failed` (they wait for another round)",
            ),
            batches: book.gauges(
                "graphmill_batches",
                ["state"],
                "Open batches, by their state, or `paused`",
            ),
            leases: book.gauges(
                "graphmill_leases",
                ["state"],
                "Leases: `held` (documents in flight), or `expired` (they ran out, and somebody should take them over)",
            ),
            expired_age: book.gauges(
                "graphmill_lease_expired_seconds",
                [],
                "How long ago the first of the expired leases ran out; 0 without one",
            ),
            idle_age: book.gauges(
                "graphmill_queue_oldest_seconds",
                [],
                "How long a document that has its slot has waited for a worker; 0 without one",
            ),
            outbox: book.gauges(
                "graphmill_outbox_events",
                [],
                "Events that wait for their position in the log; 10000 at most",
            ),
            outbox_age: book.gauges(
                "graphmill_outbox_oldest_seconds",
                [],
                "How long the oldest of them has waited; 0 without one",
            ),
            workers: book.gauges(
                "graphmill_workers",
                [],
                "Processes that work stages and were seen in the last 30 s",
            ),
            jobs: book.gauges(
                "graphmill_window_jobs",
                ["stage"],
                "Jobs that wait in the stage's window in Redis",
            ),
            slots: book.gauges(
                "graphmill_worker_slots",
                ["stage"],
                "Slots of the living workers",
            ),
            submissions: book.gauges(
                "graphmill_submissions_waiting",
                [],
                "Envelopes in the submit queue: those that wait, and those that are being taken in",
            ),
            set_aside: book.gauges(
                "graphmill_jobs_set_aside",
                [],
                "Jobs that nobody can run and envelopes that were refused, which were set aside; 1000 at most",
            ),
        }
    }

    /// What Postgres says now, if it says anything.
    pub fn postgres(&self, seen: Option<&Seen>) {
        for table in [&self.documents, &self.batches, &self.leases] {
            table.clear();
        }
        for table in [
            &self.expired_age,
            &self.idle_age,
            &self.outbox,
            &self.outbox_age,
            &self.workers,
        ] {
            table.clear();
        }
        self.server("postgres", seen.is_some());
        let Some(seen) = seen else { return };
        for (state, documents) in seen.documents {
            self.documents
                .at([state], |gauge| gauge.set(counted(documents)));
        }
        for (state, batches) in &seen.batches {
            self.batches
                .at([state], |gauge| gauge.set(counted(*batches)));
        }
        for (state, leases) in [("held", seen.leases), ("expired", seen.expired)] {
            self.leases.at([state], |gauge| gauge.set(counted(leases)));
        }
        for (table, value) in [
            (&self.expired_age, seen.expired_seconds),
            (&self.idle_age, seen.idle_seconds),
            (&self.outbox, counted(seen.outbox)),
            (&self.outbox_age, seen.outbox_seconds),
            (&self.workers, counted(seen.workers)),
        ] {
            table.at([], |gauge| gauge.set(value));
        }
    }

    /// What Redis says now, if it says anything.
    pub fn redis(&self, waiting: Option<&Waiting>) {
        self.jobs.clear();
        self.slots.clear();
        self.submissions.clear();
        self.set_aside.clear();
        self.server("redis", waiting.is_some());
        let Some(waiting) = waiting else { return };
        for (stage, jobs, slots) in waiting.stages.iter().copied() {
            self.jobs.at([stage], |gauge| gauge.set(level(jobs)));
            self.slots.at([stage], |gauge| gauge.set(level(slots)));
        }
        self.submissions
            .at([], |gauge| gauge.set(level(waiting.submissions)));
        self.set_aside
            .at([], |gauge| gauge.set(level(waiting.set_aside)));
    }

    fn server(&self, server: &'static str, is_up: bool) {
        let value = if is_up { 1.0 } else { 0.0 };
        self.up.at([server], |gauge| gauge.set(value));
    }
}

fn counted(count: i64) -> f64 {
    level(usize::try_from(count).unwrap_or(0))
}
