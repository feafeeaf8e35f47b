//! What Redis and broken jobs can do to workers: nothing that lasts longer than the trouble.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use graphmill::{
    flow::Stage,
    queue::{Drained, Queue, Rung, Slots},
};

use super::{Probe, SECONDS, TestRedis, WINDOW, rings, until, work};

#[tokio::test(flavor = "multi_thread")]
async fn broken_jobs_are_set_aside_and_their_neighbours_run() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let good = rings(20);
    queue.ring(Stage::Chunk, &good[..10], WINDOW).await.unwrap();
    let mut pipe = redis::pipe();
    let whole = |id: &str| {
        let mut cmd = redis::cmd("HSET");
        cmd.arg(format!("graphmill:chunk:meta:{id}"));
        cmd.arg(&["attempts", "0", "max_attempts", "1", "status", "Pending"]);
        cmd
    };
    for (id, payload) in [
        ("not-json", "{"),
        ("other-type", r#"{"doc_id":10}"#),
        ("no-meta", "{}"),
    ] {
        pipe.hset("graphmill:chunk:data", id, payload)
            .rpush("graphmill:chunk:active", id);
    }
    pipe.add_command(whole("not-json"))
        .add_command(whole("other-type"));
    pipe.add_command(whole("no-data"))
        .rpush("graphmill:chunk:active", "no-data");
    pipe.rpush("graphmill:chunk:active", "nothing-at-all");
    pipe.rpush("graphmill:chunk:active", b"\xff\xfe not text");
    pipe.set("graphmill:chunk:meta:wrong-type", 1);
    pipe.hset("graphmill:chunk:data", "wrong-type", "{}");
    pipe.rpush("graphmill:chunk:active", "wrong-type");
    pipe.hset("graphmill:chunk:data", "huge", "x".repeat(100_000));
    pipe.add_command(whole("huge"))
        .rpush("graphmill:chunk:active", "huge");
    pipe.query_async::<()>(&mut redis.raw().await)
        .await
        .unwrap();
    queue.ring(Stage::Chunk, &good[10..], WINDOW).await.unwrap();

    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(3), &probe);
    probe.ended(20).await;
    assert!(good.iter().all(|ring| probe.times(Stage::Chunk, ring) == 1));
    until("eight are set aside", async || {
        queue.set_aside(100).await.unwrap().len() == 8
    })
    .await;
    let aside = queue.set_aside(100).await.unwrap();
    assert!(
        aside
            .iter()
            .all(|bad| bad.queue == "graphmill:chunk" && bad.at > 0)
    );
    let reason = |id: &str| {
        aside
            .iter()
            .find(|bad| bad.id == id)
            .unwrap()
            .reason
            .clone()
    };
    assert!(reason("not-json").contains("EOF"), "{}", reason("not-json"));
    assert!(
        reason("other-type").contains("missing field"),
        "{}",
        reason("other-type")
    );
    assert!(
        reason("no-meta").contains("meta lacks"),
        "{}",
        reason("no-meta")
    );
    assert!(
        reason("no-data").contains("no data"),
        "{}",
        reason("no-data")
    );
    assert!(reason("nothing-at-all").contains("no data"));
    assert!(
        reason("huge").contains("larger than 65536"),
        "{}",
        reason("huge")
    );
    assert_eq!(
        aside
            .iter()
            .find(|bad| bad.id == "not-json")
            .unwrap()
            .payload,
        "{"
    );
    assert_eq!(workers.tally().set_aside, 8);
    assert_eq!(workers.tally().restarts, 0);
    workers.drain(SECONDS).await;
    assert_eq!(redis.leftovers().await, ["graphmill:set-aside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_bounded() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let mut pipe = redis::pipe();
    for n in 0..1_500 {
        pipe.rpush("graphmill:chunk:active", format!("bad-{n}"))
            .ignore();
    }
    pipe.query_async::<()>(&mut redis.raw().await)
        .await
        .unwrap();
    let workers = work(&queue, Slots::each(8), &Arc::new(Probe::default()));
    until("all are set aside", async || {
        workers.tally().set_aside == 1_500
    })
    .await;
    let aside = queue.set_aside(5_000).await.unwrap();
    assert_eq!((aside.len(), aside[0].id.as_str()), (1_000, "bad-1499"));
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_another_incarnation_and_later_rings_run() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let before = queue.incarnation().await.unwrap();
    assert_eq!(queue.incarnation().await.unwrap(), before, "it is stable");
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(4), &probe);
    let lost = rings(100);
    queue.ring(Stage::Chunk, &lost, WINDOW).await.unwrap();
    probe.running(4).await;
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut redis.raw().await)
        .await
        .unwrap();
    assert_ne!(queue.incarnation().await.unwrap(), before);
    // the same ids again, while the first deliveries of four of them are still in flight
    let rung = queue.ring(Stage::Chunk, &lost, WINDOW).await.unwrap();
    assert!(rung.iter().all(|rung| *rung == Rung::Pushed));
    probe.open(1_000);
    probe.ended(104).await;
    assert!(lost.iter().all(|ring| probe.times(Stage::Chunk, ring) >= 1));
    until("all is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    assert_eq!(workers.tally().set_aside, 0);
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_back_after_redis_was_killed() {
    let mut redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let before = queue.incarnation().await.unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(2), &probe);
    queue.ring(Stage::Chunk, &rings(10), WINDOW).await.unwrap();
    probe.running(2).await;
    redis.kill();
    assert!(queue.ring(Stage::Chunk, &rings(1), WINDOW).await.is_err());
    // what is in flight goes on and ends although nobody can be told
    probe.open(2);
    probe.ended(2).await;
    redis.restart().await;
    probe.open(1_000);
    until("the connection is back", async || {
        queue.incarnation().await.is_ok()
    })
    .await;
    assert_ne!(queue.incarnation().await.unwrap(), before);
    let again = rings(50);
    let begun = Instant::now();
    queue.ring(Stage::Chunk, &again, WINDOW).await.unwrap();
    probe.ended(52).await;
    println!(
        "first rings after the restart were handled within {:?}",
        begun.elapsed()
    );
    assert!(
        again
            .iter()
            .all(|ring| probe.times(Stage::Chunk, ring) == 1)
    );
    // the subscription is back too: a ring is heard at once, not at the next look
    let mut quick = 0;
    for n in 0..20 {
        let begun = Instant::now();
        queue.ring(Stage::Chunk, &rings(1), WINDOW).await.unwrap();
        probe.ended(53 + n).await;
        quick += usize::from(begun.elapsed() < Duration::from_millis(100));
    }
    assert!(quick >= 15, "only {quick} of 20 were heard at once");
    assert_eq!(workers.drain(SECONDS).await, Drained::Clean);
    assert!(redis.leftovers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_stops_nobody() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(2), &probe);
    queue.ring(Stage::Chunk, &rings(10), WINDOW).await.unwrap();
    probe.ended(10).await;
    redis.signal("-STOP");
    let frozen = tokio::spawn({
        let queue = queue.clone();
        async move { queue.ring(Stage::Chunk, &rings(10), WINDOW).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.signal("-CONT");
    frozen.await.unwrap().unwrap();
    probe.ended(20).await;
    assert_eq!(
        (workers.tally().failed_calls, workers.tally().restarts),
        (0, 0)
    );
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_wrong_types_stop_a_queue_only_while_they_last() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let mut raw = redis.raw().await;
    for key in ["active", "data", "workers", "scheduled"] {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
        let key = format!("graphmill:chunk:{key}");
        let _: () = redis::cmd("SET")
            .arg(&key)
            .arg("broken")
            .query_async(&mut raw)
            .await
            .unwrap();
        let probe = Arc::new(Probe::default());
        let workers = work(&queue, Slots::each(2), &probe);
        let _ = queue.ring(Stage::Chunk, &rings(3), WINDOW).await;
        until("it is in trouble", async || {
            workers.tally().failed_calls > 0
        })
        .await;
        queue
            .ring(Stage::Mentions, &rings(5), WINDOW)
            .await
            .unwrap();
        until("the others work", async || workers.tally().ended >= 5).await;
        let _: () = redis::cmd("DEL")
            .arg(&key)
            .query_async(&mut raw)
            .await
            .unwrap();
        queue.ring(Stage::Chunk, &rings(5), WINDOW).await.unwrap();
        until(&format!("{key} is mended"), async || {
            workers.tally().ended >= 10
        })
        .await;
        assert!(workers.tally().failed_calls < 50, "it spins");
        workers.drain(SECONDS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_how_redis_is_set_up() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let health = queue.check().await.unwrap();
    assert!(
        health.recent_enough && health.noeviction && !health.append_only,
        "{health:?}"
    );
    assert!(health.version.split('.').count() >= 2, "{health:?}");
    let mut raw = redis.raw().await;
    for (name, value) in [("maxmemory-policy", "allkeys-lru"), ("appendonly", "yes")] {
        let mut set = redis::cmd("CONFIG");
        let _: () = set
            .arg("SET")
            .arg(name)
            .arg(value)
            .query_async(&mut raw)
            .await
            .unwrap();
    }
    let health = queue.check().await.unwrap();
    assert!(!health.noeviction && health.append_only, "{health:?}");
    assert!(Queue::connect("http://localhost").await.is_err());
    assert!(
        Queue::connect("redis+unix:///nowhere/redis.sock")
            .await
            .is_err()
    );
}
