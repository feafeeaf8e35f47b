//! The way of spans to the collector: a funnel of bounded size, and one task that empties it in batches.
//!
//! Invariants: whoever makes a span never waits, for nobody; what does not fit, or can't be delivered, is dropped and
//! counted, and the log says how many; at the end what is left is delivered within a time, or counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::otlp::{Collector, Delivered};

/// Spans that wait at most; a span takes about a kilobyte.
const WAITING: usize = 8192;
/// Spans of a request. **Source:** OpenTelemetry's `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const BATCH: usize = 512;
/// How long a span waits for others: a process that is killed takes no more with it.
const DELAY: Duration = Duration::from_secs(1);
/// Tries of a request that may help, and the pause before the second; it doubles.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the end of the process may wait for the collector.
const FLUSH: Duration = Duration::from_secs(5);

/// Where spans go in.
#[derive(Debug, Clone)]
pub(super) struct Funnel {
    spans: mpsc::Sender<SpanData>,
    lost: Arc<AtomicU64>,
}

impl Funnel {
    /// Takes a span, or drops it.
    pub(super) fn take(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SpanProcessor for Funnel {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.take(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Spans under way to the collector.
#[derive(Debug)]
pub struct Exporting {
    end: CancellationToken,
    task: JoinHandle<()>,
    lost: Arc<AtomicU64>,
}

/// Begins to deliver. To be called on the runtime that is to do it.
pub(super) fn begin(collector: Collector) -> (Funnel, Exporting) {
    let (sender, spans) = mpsc::channel(WAITING);
    let (lost, end) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let work = Work {
        spans,
        collector,
        end: end.clone(),
        lost: Arc::clone(&lost),
        told: 0,
    };
    let funnel = Funnel {
        spans: sender,
        lost: Arc::clone(&lost),
    };
    let task = tokio::spawn(work.run());
    (funnel, Exporting { end, task, lost })
}

impl Exporting {
    /// Delivers what is left, within a few seconds.
    pub async fn end(self) {
        self.end.cancel();
        let in_time = timeout(FLUSH, self.task).await.is_ok();
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 || !in_time {
            warn!(lost, in_time, "not every span reached the collector");
        }
    }
}

struct Work {
    spans: mpsc::Receiver<SpanData>,
    collector: Collector,
    end: CancellationToken,
    lost: Arc<AtomicU64>,
    /// How many the log knows of.
    told: u64,
}

impl Work {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.gather(&mut batch).await;
            if batch.is_empty() {
                return;
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            self.deliver(full).await;
        }
    }

    /// Waits for spans, and a little for more of them; none come any more if there are none then.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) {
        tokio::select! {
            biased;
            _ = self.spans.recv_many(batch, BATCH) => {}
            () = self.end.cancelled() => return,
        }
        let until = Instant::now() + DELAY;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            let more = async {
                tokio::select! {
                    biased;
                    more = self.spans.recv_many(batch, room) => more,
                    () = self.end.cancelled() => 0,
                }
            };
            match timeout_at(until, more).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    async fn deliver(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let request = self.collector.request(batch);
        let mut pause = PAUSE;
        let mut tries = 1;
        let why = loop {
            match self.collector.send(&request).await {
                Delivered::Taken { refused } => {
                    self.lost.fetch_add(refused, Ordering::Relaxed);
                    return self.tell_back();
                }
                Delivered::Failed { why, again } => {
                    if !again || tries >= TRIES || self.end.is_cancelled() {
                        break why;
                    }
                }
            }
            tries += 1;
            tokio::select! {
                () = sleep(pause) => pause *= 2,
                () = self.end.cancelled() => {}
            }
        };
        let lost = self.lost.fetch_add(count, Ordering::Relaxed) + count;
        if self.told == 0 {
            warn!(
                why,
                lost, "the collector does not take spans: they are dropped until it does"
            );
        }
        self.told = lost;
    }

    /// Says once that spans are taken again.
    fn tell_back(&mut self) {
        if self.told > 0 {
            let lost = self.lost.load(Ordering::Relaxed);
            info!(lost, "the collector takes spans again");
            self.told = 0;
        }
    }
}
