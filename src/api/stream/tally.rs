//! What became of streams: counted for whoever watches the service, and a line in the log for each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::metrics;

/// Counts of all streams of a process.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Tallies(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    opened: AtomicU64,
    open: AtomicU64,
    events: AtomicU64,
    catch_ups: AtomicU64,
    over: AtomicU64,
    left: AtomicU64,
    stopped: AtomicU64,
    failed: AtomicU64,
    milliseconds: AtomicU64,
}

/// What became of the streams of a process since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Streams that were begun.
    pub opened: u64,
    /// Streams that are open now.
    pub open: u64,
    /// Events that were sent.
    pub events: u64,
    /// How often a reader was too slow for the tail, and read the log instead.
    pub catch_ups: u64,
    /// Streams that ended with what they followed.
    pub over: u64,
    /// Streams whose client left.
    pub left: u64,
    /// Streams that ended with the process.
    pub stopped: u64,
    /// Streams that broke off for want of Postgres: what is missing to an uptime of 100 %.
    pub failed: u64,
    /// Milliseconds that ended streams were open, in all.
    pub milliseconds: u64,
}

/// Why a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With what it followed.
    Over,
    /// With the process.
    Stopped,
    /// Postgres was away for too long.
    Failed,
}

/// One stream's. Dropped without an end, its client has left.
pub(super) struct Tally {
    counters: Arc<Counters>,
    begun: Instant,
    span: tracing::Span,
    events: u64,
    catch_ups: u64,
    end: Option<End>,
}

impl Tallies {
    pub(super) fn open(&self) -> Tally {
        self.0.opened.fetch_add(1, Relaxed);
        self.0.open.fetch_add(1, Relaxed);
        metrics::get().service.stream_opened();
        Tally {
            counters: Arc::clone(&self.0),
            begun: Instant::now(),
            // Of the request, which has been answered by the time that the stream ends.
            span: tracing::Span::current(),
            events: 0,
            catch_ups: 0,
            end: None,
        }
    }

    pub(in crate::api) fn read(&self) -> StreamCounts {
        let counters = &self.0;
        StreamCounts {
            opened: counters.opened.load(Relaxed),
            open: counters.open.load(Relaxed),
            events: counters.events.load(Relaxed),
            catch_ups: counters.catch_ups.load(Relaxed),
            over: counters.over.load(Relaxed),
            left: counters.left.load(Relaxed),
            stopped: counters.stopped.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            milliseconds: counters.milliseconds.load(Relaxed),
        }
    }
}

impl Tally {
    pub(super) fn sent(&mut self) {
        self.events += 1;
        self.counters.events.fetch_add(1, Relaxed);
        metrics::get().service.stream_sent();
    }

    pub(super) fn end(&mut self, end: End, catch_ups: u64) {
        self.end = Some(end);
        self.catch_ups = catch_ups;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let counters = &self.counters;
        let (ended, why, reason) = match self.end {
            Some(End::Over) => (&counters.over, "over", "over"),
            Some(End::Stopped) => (&counters.stopped, "the process stops", "stopped"),
            Some(End::Failed) => (&counters.failed, "failed", "failed"),
            None => (&counters.left, "the client left", "left"),
        };
        ended.fetch_add(1, Relaxed);
        let open_for = self.begun.elapsed();
        metrics::get()
            .service
            .stream_ended(reason, self.catch_ups, open_for);
        let milliseconds = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
        counters.milliseconds.fetch_add(milliseconds, Relaxed);
        counters.catch_ups.fetch_add(self.catch_ups, Relaxed);
        counters.open.fetch_sub(1, Relaxed);
        let (events, catch_ups) = (self.events, self.catch_ups);
        self.span.in_scope(|| {
            tracing::info!(
                why,
                duration_ms = milliseconds,
                events,
                catch_ups,
                "a stream has ended"
            );
        });
    }
}
