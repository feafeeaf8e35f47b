//! What the HTTP service does: requests, and streams of events.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::{
    book::{Book, Level},
    instrument::{Billionths, Durations, Table},
};

/// Methods that are told apart; a client may send any word.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the module.
#[derive(Debug)]
pub struct Service {
    requests: Table<Counter, 3>,
    took: Table<Durations, 2>,
    opened: Counter,
    open: Level,
    sent: Counter,
    catch_ups: Counter,
    ended: Table<Counter, 1>,
    open_time: Table<Billionths, 0>,
    lag: Table<Durations, 0>,
}

fn of_requests() -> Durations {
    Durations::new(&[
        0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

/// **Source:** 99 of 100 events are to be told within 0.25 s.
fn of_lags() -> Durations {
    Durations::new(&[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Service {
    pub(super) fn new(book: &mut Book) -> Self {
        book.chapter("HTTP and streams");
        Self {
            requests: book.counters(
                "graphmill_http_requests",
                ["route", "method", "status"],
                "Requests that were answered, by the route's template (`-` is none) and the class of the status",
            ),
            took: book.durations(
                "graphmill_http_request_duration_seconds",
                ["route", "method"],
                of_requests,
                "From a request's arrival to the head of its answer",
            ),
            opened: book.counter("graphmill_streams_opened", "Streams of events that were begun"),
            open: book.gauge("graphmill_streams_open", "Streams of events that are open now"),
            sent: book.counter(
                "graphmill_stream_events",
                "Events that were sent on streams",
            ),
            catch_ups: book.counter(
                "graphmill_stream_catch_ups",
                "How often a reader was too slow for the tail, and read the log instead",
            ),
            ended: book.counters(
                "graphmill_streams_ended",
                ["reason"],
                "Streams that have ended: `over` (with what they followed), `left` (the client went), `stopped` \
                 (with the process) or `failed` (Postgres was away for too long: what is missing to an uptime of \
                 100 %)",
            ),
            open_time: book.fractions(
                "graphmill_stream_open_seconds",
                [],
                "How long ended streams were open, in all",
            ),
            lag: book.durations(
                "graphmill_stream_lag_seconds",
                [],
                of_lags,
                "From when an event happened to when this process had it for the streams that follow it, by \
                 Postgres' clock",
            ),
        }
    }

    /// A server begins.
    pub fn begin(&self) {
        for reason in ["over", "left", "stopped", "failed"] {
            self.ended.begin([reason]);
        }
        self.open_time.begin([]);
        self.lag.begin([]);
    }

    /// A request was answered. `route` is the template; there are as many as there are routes.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method);
        let method = method.unwrap_or("other");
        let class = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        let status = STATUSES[class];
        let labels = [route.to_owned().into(), method.into(), status.into()];
        self.requests.with(labels, Counter::inc);
        let labels = [route.to_owned().into(), method.into()];
        self.took.with(labels, |durations| durations.took(took));
    }

    /// A stream was begun.
    pub fn stream_opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// An event was sent.
    pub fn stream_sent(&self) {
        self.sent.inc();
    }

    /// A stream has ended.
    pub fn stream_ended(&self, reason: &'static str, catch_ups: u64, open_for: Duration) {
        self.open.dec();
        self.ended.at([reason], Counter::inc);
        self.catch_ups.inc_by(catch_ups);
        let nanoseconds = u64::try_from(open_for.as_nanos()).unwrap_or(u64::MAX);
        self.open_time.at([], |counter| counter.add(nanoseconds));
    }

    /// An event that somebody follows came to this process so many seconds after it happened.
    pub fn stream_lag(&self, seconds: f64) {
        let lag = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.lag.at([], |durations| durations.took(lag));
    }
}
