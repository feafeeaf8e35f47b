//! What is left in Redis: nothing that grows with the work done, with workers that died or with broken jobs.

use std::{sync::Arc, time::Duration};

use graphmill::{
    flow::Stage,
    queue::{Drained, Handler, Queue, Slots, Workers, WorkersConfig},
};
use graphmill_jobs::WorkerId;

use super::{Probe, SECONDS, TestRedis, WINDOW, rings, until};

/// Every key.
async fn keys(redis: &TestRedis) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    keys.sort();
    keys
}

/// Workers that count as dead after two seconds.
fn work(queue: &Queue, probe: &Arc<Probe>) -> Workers {
    let config = WorkersConfig {
        heartbeat: Duration::from_secs(1),
        missed: 2,
        ..WorkersConfig::new(WorkerId::generate(), Slots::each(4))
    };
    Workers::start(queue, config, Arc::clone(probe) as Arc<dyn Handler>)
}

/// A process that dies with four jobs in each hand: its runtime is torn down, and nothing of it takes its leave.
async fn die_at_work(redis: &TestRedis) {
    let process = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let probe = Arc::new(Probe::gated());
    let (url, held) = (redis.url(), Arc::clone(&probe));
    let workers = process.spawn(async move {
        let queue = Queue::connect(&url).await.unwrap();
        work(&queue, &held)
    });
    let workers = workers.await.unwrap();
    probe.running(8).await;
    process.shutdown_background();
    // Its end says stop to tasks that are gone.
    drop(workers);
}

async fn push_broken(redis: &TestRedis, count: usize) {
    let mut pipe = redis::pipe();
    for number in 0..count {
        let id = format!("broken-{number}");
        pipe.hset("graphmill:chunk:data", &id, "{").ignore();
        pipe.rpush("graphmill:chunk:active", &id).ignore();
        let whole = &["attempts", "0", "max_attempts", "1", "status", "Pending"];
        let mut meta = redis::cmd("HSET");
        meta.arg(format!("graphmill:mentions:meta:{id}")).arg(whole);
        pipe.add_command(meta).ignore();
        pipe.rpush("graphmill:mentions:active", &id).ignore();
    }
    pipe.query_async::<()>(&mut redis.raw().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_with_work_with_dead_workers_or_with_broken_jobs() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    queue.incarnation().await.unwrap();
    for _ in 0..3 {
        for stage in [Stage::Chunk, Stage::Mentions] {
            queue.ring(stage, &rings(100), WINDOW).await.unwrap();
        }
        die_at_work(&redis).await;
        push_broken(&redis, 600).await;
    }
    let dead = keys(&redis).await;
    assert!(
        dead.iter().any(|key| key.contains(":inflight:")),
        "{dead:?}"
    );

    let probe = Arc::new(Probe::default());
    let workers = work(&queue, &probe);
    // What the dead held is dropped, for Postgres to ring again; the rest is worked.
    probe.ended(2 * (300 - 3 * 4)).await;
    until("the dead and the work are gone", async || {
        let keys = keys(&redis).await;
        let workers = keys.iter().filter(|key| key.contains(":workers:metadata:"));
        workers.count() == Stage::ALL.len() && redis.leftovers().await == ["graphmill:set-aside"]
    })
    .await;
    assert_eq!(probe.ended.load(std::sync::atomic::Ordering::SeqCst), 576);
    let mut lengths = redis::pipe();
    lengths.llen("graphmill:set-aside");
    lengths.zcard("core:apalis:queues:list");
    let (aside, queues): (usize, usize) =
        lengths.query_async(&mut redis.raw().await).await.unwrap();
    assert_eq!((aside, queues), (1_000, Stage::ALL.len()));

    assert_eq!(workers.drain(SECONDS).await, Drained::Clean);
    assert_eq!(
        keys(&redis).await,
        [
            "core:apalis:queues:list",
            "graphmill:sentinel",
            "graphmill:set-aside"
        ]
    );
}
