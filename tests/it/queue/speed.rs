//! How soon and how fast: no ring may stall; latency and throughput are measured.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use graphmill::{
    flow::Stage,
    queue::{Handler, Onward, Queue, Rung, Slots, Workers, WorkersConfig},
};
use graphmill_jobs::{Ring, WorkerId};
use tokio::sync::Notify;

use super::{SECONDS, TestRedis, WINDOW, ring, rings, until};

/// When each of the rings was rung and begun, by its epoch, in nanoseconds since the start.
struct Clock {
    start: Instant,
    begun: Vec<AtomicU64>,
}

#[async_trait]
impl Handler for Clock {
    async fn handle(&self, _: Stage, ring: Ring, _: &Onward) {
        let at = u64::try_from(self.start.elapsed().as_nanos()).unwrap();
        self.begun[usize::try_from(ring.epoch).unwrap()].store(at, Ordering::SeqCst);
    }
}

/// A small generator of the test's own: the same gaps in every run.
struct Gaps(u64);

impl Gaps {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_single_rings_at_random_gaps_never_stall() {
    const RINGS: usize = 10_000;
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let clock = Arc::new(Clock {
        start: Instant::now(),
        begun: (0..RINGS).map(|_| AtomicU64::new(0)).collect(),
    });
    let config = WorkersConfig::new(WorkerId::generate(), Slots::each(4));
    let workers = Workers::start(&queue, config, Arc::clone(&clock) as Arc<dyn Handler>);
    let mut gaps = Gaps(0x5EED);
    let mut rung_at = Vec::with_capacity(RINGS);
    let mut one = ring(0);
    for n in 0..RINGS {
        match gaps.next() % 100 {
            0..30 => {}
            30..98 => tokio::time::sleep(Duration::from_micros(gaps.next() % 2_000)).await,
            _ => tokio::time::sleep(Duration::from_millis(gaps.next() % 60)).await,
        }
        one.epoch = i64::try_from(n).unwrap();
        rung_at.push(clock.start.elapsed());
        let stage = Stage::ALL[usize::try_from(gaps.next() % 6).unwrap()];
        let rung = queue
            .ring(stage, std::slice::from_ref(&one), WINDOW)
            .await
            .unwrap();
        assert_eq!(rung, [Rung::Pushed]);
    }
    until("all are begun", async || {
        clock.begun.iter().all(|at| at.load(Ordering::SeqCst) > 0)
    })
    .await;
    let mut waits: Vec<Duration> = rung_at
        .iter()
        .zip(&clock.begun)
        .map(|(rung, begun)| {
            Duration::from_nanos(begun.load(Ordering::SeqCst)).saturating_sub(*rung)
        })
        .collect();
    waits.sort();
    let late = waits
        .iter()
        .filter(|wait| **wait > Duration::from_millis(50))
        .count();
    let mut report = String::new();
    for (name, place) in [
        ("p50", 5_000),
        ("p99", 9_900),
        ("p99.9", 9_990),
        ("max", 9_999),
    ] {
        write!(report, "{name} {:?}  ", waits[place]).unwrap();
    }
    println!("ring to handler: {report} later than 50 ms: {late}");
    assert!(
        waits[RINGS - 1] < Duration::from_secs(1),
        "a ring stalled: {report}"
    );
    workers.drain(SECONDS).await;
}

/// A chain: every handler rings the next link until there are enough.
struct Chain {
    queue: Queue,
    hops: AtomicI64,
    wanted: i64,
    done: Notify,
}

#[async_trait]
impl Handler for Chain {
    async fn handle(&self, stage: Stage, mut ring: Ring, _: &Onward) {
        if self.hops.fetch_add(1, Ordering::SeqCst) + 1 >= self.wanted {
            self.done.notify_one();
            return;
        }
        ring.epoch += 1;
        let next = stage.next().unwrap_or(Stage::Chunk);
        self.queue.ring(next, &[ring], WINDOW).await.unwrap();
    }
}

/// `cargo test --release --test it -- --nocapture hops`
#[tokio::test(flavor = "multi_thread")]
async fn hops_a_second() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    for (slots, chains) in [(4, 16), (16, 64), (32, 256)] {
        // The figure wants a release build and a quiet machine; that every hop is made, neither.
        let wanted = if cfg!(debug_assertions) {
            3_000
        } else {
            50_000
        };
        let chain = Arc::new(Chain {
            queue: queue.clone(),
            hops: AtomicI64::new(0),
            wanted,
            done: Notify::new(),
        });
        let config = WorkersConfig::new(WorkerId::generate(), Slots::each(slots));
        let workers = Workers::start(&queue, config, Arc::clone(&chain) as Arc<dyn Handler>);
        let begun = Instant::now();
        queue
            .ring(Stage::Chunk, &rings(chains), WINDOW)
            .await
            .unwrap();
        chain.done.notified().await;
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count that fits")]
        let rate = wanted as f64 / seconds;
        println!("{slots} slots a stage, {chains} chains: {rate:.0} hops a second");
        workers.drain(SECONDS).await;
    }
}

/// How many idle hops are measured.
const IDLE_HOPS: i64 = if cfg!(debug_assertions) { 200 } else { 2_000 };

/// `cargo test --release --test it -- --nocapture idle`
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hop() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Clock {
        start: Instant::now(),
        begun: (0..IDLE_HOPS).map(|_| AtomicU64::new(0)).collect(),
    });
    let config = WorkersConfig::new(WorkerId::generate(), Slots::each(4));
    let workers = Workers::start(&queue, config, Arc::clone(&probe) as Arc<dyn Handler>);
    let mut waits = Vec::new();
    for n in 0..IDLE_HOPS {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let rung = probe.start.elapsed();
        queue.ring(Stage::Chunk, &[ring(n)], WINDOW).await.unwrap();
        let begun = &probe.begun[usize::try_from(n).unwrap()];
        until("it is begun", async || begun.load(Ordering::SeqCst) > 0).await;
        waits.push(Duration::from_nanos(begun.load(Ordering::SeqCst)).saturating_sub(rung));
    }
    waits.sort();
    let hops = waits.len();
    println!(
        "idle hop: p50 {:?} p99 {:?} max {:?}",
        waits[hops / 2],
        waits[hops * 99 / 100],
        waits[hops - 1]
    );
    workers.drain(SECONDS).await;
}
