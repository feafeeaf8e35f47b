//! How work ends other than by a handler that returns: a panic, a drain, the death of a worker.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use graphmill::{
    flow::Stage,
    queue::{Drained, Queue, Rung, Slots},
};

use super::{Probe, SECONDS, TestRedis, WINDOW, rings, until, work};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_contained_and_its_ring_is_answered() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe {
        panics: true,
        ..Probe::default()
    });
    let workers = work(&queue, Slots::each(2), &probe);
    queue.ring(Stage::Chunk, &rings(20), WINDOW).await.unwrap();
    probe.ended(20).await;
    until("all is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    assert_eq!(
        (workers.tally().panicked, workers.tally().restarts),
        (20, 0)
    );
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_more() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(3), &probe);
    queue.ring(Stage::Chunk, &rings(10), WINDOW).await.unwrap();
    probe.running(3).await;
    let drain = tokio::spawn(workers.drain(SECONDS));
    until("no worker listens", async || {
        let heard: (String, usize) = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg("tasks:graphmill:chunk:active:available")
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        heard.1 == 0
    })
    .await;
    probe.open(1_000);
    assert_eq!(drain.await.unwrap(), Drained::Clean);
    assert_eq!(probe.ended.load(Ordering::SeqCst), 3);
    assert_eq!(queue.depth(Stage::Chunk).await.unwrap(), 7);
    // and the next process takes the rest
    let workers = work(&queue, Slots::each(3), &probe);
    probe.ended(10).await;
    workers.drain(SECONDS).await;
    assert!(redis.leftovers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_reaches_its_deadline_aborts() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(2), &probe);
    queue.ring(Stage::Chunk, &rings(2), WINDOW).await.unwrap();
    probe.running(2).await;
    let begun = Instant::now();
    assert_eq!(
        workers.drain(Duration::from_millis(200)).await,
        Drained::Aborted(2)
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(probe.ended.load(Ordering::SeqCst), 0);
    assert!(redis.leftovers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_dead_worker_are_dropped_and_can_be_rung_again() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let held = rings(2);
    queue.ring(Stage::Chunk, &held, WINDOW).await.unwrap();
    let mut raw = redis.raw().await;
    // a worker took both and died a while ago; one of them was rung again since
    let ids: Vec<String> = redis::cmd("LPOP")
        .arg("graphmill:chunk:active")
        .arg(2)
        .query_async(&mut raw)
        .await
        .unwrap();
    redis::pipe()
        .sadd("graphmill:chunk:inflight:dead", &ids)
        .zadd("graphmill:chunk:workers", "dead", 1_000)
        .hset("graphmill:chunk:workers:metadata:dead", "service", "x")
        .query_async::<()>(&mut raw)
        .await
        .unwrap();
    let again = queue
        .ring_again(Stage::Chunk, &held[..1], WINDOW)
        .await
        .unwrap();
    assert_eq!(again, [Rung::Pushed]);
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(1), &probe);
    probe.ended(1).await;
    until("the dead are cleared away", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    let names: Vec<String> = redis::cmd("ZRANGE")
        .arg("graphmill:chunk:workers")
        .arg(0)
        .arg(-1)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!(!names.contains(&"dead".to_owned()), "{names:?}");
    assert_eq!(
        queue.ring(Stage::Chunk, &held[1..], WINDOW).await.unwrap(),
        [Rung::Pushed]
    );
    probe.ended(2).await;
    assert!(held.iter().all(|ring| probe.times(Stage::Chunk, ring) == 1));
    workers.drain(SECONDS).await;
}
