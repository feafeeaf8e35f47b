//! A job that is handed on: what Redis sees of it, and whose slots it takes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use graphmill::{
    flow::Stage,
    queue::{Handler, Onward, Queue, Reserved, Slots, Workers, WorkersConfig},
};
use graphmill_jobs::{Ring, WorkerId};
use tokio::sync::Semaphore;

use super::{SECONDS, TestRedis, WINDOW, ring, rings, until};

/// Hands the rings of `chunk` on to `mentions`, as far as there is a slot; each stage waits at a gate.
struct Relay {
    /// After a slot was reserved, and before the ring is handed on.
    first: Semaphore,
    gate: Semaphore,
    /// Asks for a slot until it gets one: for a moment the feeder may have them all, to look for whom they are.
    insists: AtomicBool,
    /// Whether its jobs would be rung for at the front.
    ahead: AtomicBool,
    reserved: AtomicUsize,
    handed: AtomicUsize,
    refused: AtomicUsize,
    begun: Mutex<Vec<(Stage, Ring)>>,
}

impl Relay {
    fn new(first: usize) -> Arc<Self> {
        Arc::new(Self {
            first: Semaphore::new(first),
            gate: Semaphore::new(0),
            insists: AtomicBool::new(true),
            ahead: AtomicBool::new(false),
            reserved: AtomicUsize::new(0),
            handed: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            begun: Mutex::default(),
        })
    }

    fn begun(&self, stage: Stage) -> usize {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|(of, _)| *of == stage).count()
    }

    async fn reserve(&self, onward: &Onward) -> Option<Reserved> {
        loop {
            let reserved = onward.reserve(Stage::Mentions, self.ahead.load(Ordering::SeqCst));
            if reserved.is_some() || !self.insists.load(Ordering::SeqCst) {
                return reserved;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Handler for Relay {
    async fn handle(&self, stage: Stage, ring: Ring, onward: &Onward) {
        self.begun.lock().unwrap().push((stage, ring.clone()));
        if stage == Stage::Mentions {
            self.gate.acquire().await.unwrap().forget();
            return;
        }
        match self.reserve(onward).await {
            None => _ = self.refused.fetch_add(1, Ordering::SeqCst),
            Some(reserved) => {
                self.reserved.fetch_add(1, Ordering::SeqCst);
                self.first.acquire().await.unwrap().forget();
                let next = Ring {
                    epoch: ring.epoch + 1,
                    ..ring
                };
                if reserved.hand(next).await {
                    self.handed.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }
}

/// A relay at work, of which so many rings pass the first gate.
async fn start(slots: Slots, first: usize) -> (TestRedis, Queue, Arc<Relay>, Workers) {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let relay = Relay::new(first);
    let config = WorkersConfig::new(WorkerId::generate(), slots);
    let workers = Workers::start(&queue, config, Arc::clone(&relay) as Arc<dyn Handler>);
    (redis, queue, relay, workers)
}

/// Nothing is left, in Redis or in work.
async fn end(redis: &TestRedis, workers: Workers) {
    until("nothing is left", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    assert_eq!(workers.in_flight(Stage::Mentions), 0);
    workers.drain(SECONDS).await;
}

async fn keys(redis: &TestRedis, command: &str, key: &str) -> usize {
    redis::cmd(command)
        .arg(key)
        .query_async(&mut redis.raw().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_in_flight_in_redis_and_leaves_nothing_behind() {
    let (redis, queue, relay, workers) = start(Slots::each(4), 100).await;
    queue.ring(Stage::Chunk, &[ring(0)], WINDOW).await.unwrap();
    until("it was handed on and begun", async || {
        relay.handed.load(Ordering::SeqCst) == 1 && relay.begun(Stage::Mentions) == 1
    })
    .await;
    // It is there, and waits for nobody.
    assert_eq!(keys(&redis, "HLEN", "graphmill:mentions:data").await, 1);
    assert_eq!(keys(&redis, "LLEN", "graphmill:mentions:active").await, 0);
    assert_eq!(workers.in_flight(Stage::Mentions), 1);
    until("the first is acknowledged", async || {
        keys(&redis, "HLEN", "graphmill:chunk:data").await == 0
    })
    .await;
    let (_, handed) = relay.begun.lock().unwrap()[1].clone();
    assert_eq!(handed.epoch, 1);
    relay.gate.add_permits(1);
    end(&redis, workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_handler_hands_several_on() {
    let (redis, _queue, relay, workers) = start(Slots::each(4), 0).await;
    let onward = workers.onward();
    let mut reserved = Vec::new();
    until("there are slots", async || {
        reserved.extend(onward.reserve(Stage::Mentions, false));
        reserved.len() == 4
    })
    .await;
    assert!(onward.reserve(Stage::Mentions, false).is_none());
    // One is not needed after all.
    drop(reserved.pop());
    let handed = reserved.into_iter().map(|slot| slot.hand(ring(0)));
    let handed = futures_util::future::join_all(handed).await;
    assert_eq!(handed, [true; 3]);
    until("all have begun", async || relay.begun(Stage::Mentions) == 3).await;
    assert_eq!(workers.in_flight(Stage::Mentions), 3);
    assert_eq!(keys(&redis, "HLEN", "graphmill:mentions:data").await, 3);
    relay.gate.add_permits(3);
    end(&redis, workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_a_slot_of_its_stage_and_none_that_somebody_waits_for() {
    let (redis, queue, relay, workers) = start(Slots::each(2), 100).await;
    queue.ring(Stage::Chunk, &rings(2), WINDOW).await.unwrap();
    until("both slots are taken", async || {
        relay.begun(Stage::Mentions) == 2
    })
    .await;
    relay.insists.store(false, Ordering::SeqCst);
    queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
    until("there is none for the third", async || {
        relay.refused.load(Ordering::SeqCst) == 1
    })
    .await;
    // Now others wait in the queue: whatever becomes free is theirs, however fast somebody asks.
    queue
        .ring(Stage::Mentions, &rings(20), WINDOW)
        .await
        .unwrap();
    let before = relay.handed.load(Ordering::SeqCst);
    for waited in 1..=10 {
        relay.gate.add_permits(1);
        // The first that begins shows that the queue has been seen.
        if waited > 1 {
            queue.ring(Stage::Chunk, &rings(4), WINDOW).await.unwrap();
        }
        until("one of those that waited has begun", async || {
            relay.begun(Stage::Mentions) == 2 + waited
        })
        .await;
    }
    assert_eq!(relay.handed.load(Ordering::SeqCst), before);
    relay.gate.add_permits(100);
    end(&redis, workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slots_for_the_front_are_for_those_who_would_ring_there() {
    let slots = Slots::each(20).with(Stage::Mentions, 4);
    let (redis, queue, relay, workers) = start(slots, 100).await;
    queue.ring(Stage::Chunk, &rings(4), WINDOW).await.unwrap();
    until("all slots are taken", async || {
        relay.begun(Stage::Mentions) == 4
    })
    .await;
    relay.insists.store(false, Ordering::SeqCst);
    queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
    until("there is none for whoever is behind", async || {
        relay.refused.load(Ordering::SeqCst) == 1
    })
    .await;
    relay.ahead.store(true, Ordering::SeqCst);
    relay.insists.store(true, Ordering::SeqCst);
    queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
    until("there is one for a newcomer", async || {
        relay.begun(Stage::Mentions) == 5
    })
    .await;
    relay.insists.store(false, Ordering::SeqCst);
    queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
    until("and none for the next", async || {
        relay.refused.load(Ordering::SeqCst) == 2
    })
    .await;
    relay.gate.add_permits(100);
    end(&redis, workers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_it_is_handed_on_all_the_same() {
    let (mut redis, queue, relay, workers) = start(Slots::each(4), 0).await;
    queue.ring(Stage::Chunk, &[ring(0)], WINDOW).await.unwrap();
    until("the first has a slot for the next", async || {
        relay.reserved.load(Ordering::SeqCst) == 1
    })
    .await;
    redis.kill();
    relay.first.add_permits(1);
    until("the next has begun", async || {
        relay.begun(Stage::Mentions) == 1
    })
    .await;
    redis.restart().await;
    relay.gate.add_permits(1);
    until("its slot is free again", async || {
        workers.in_flight(Stage::Mentions) == 0
    })
    .await;
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_process_stops_nothing_is_handed_on() {
    let (_redis, queue, relay, workers) = start(Slots::each(4), 0).await;
    queue.ring(Stage::Chunk, &[ring(0)], WINDOW).await.unwrap();
    until("it has a slot for the next", async || {
        relay.reserved.load(Ordering::SeqCst) == 1
    })
    .await;
    relay.insists.store(false, Ordering::SeqCst);
    let drained = tokio::spawn(workers.drain(SECONDS));
    until("nothing is taken any more", async || {
        queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
        queue.depth(Stage::Chunk).await.unwrap() > 0
    })
    .await;
    relay.first.add_permits(100);
    drained.await.unwrap();
    assert_eq!(relay.handed.load(Ordering::SeqCst), 0);
    assert_eq!(relay.begun(Stage::Mentions), 0);
}
