//! What a dead process, a wipe, a loss or a frozen Redis change.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use super::*;

fn quick() -> LimitSettings {
    LimitSettings {
        concurrency: 4,
        lease: Duration::from_millis(900),
        ..LimitSettings::default()
    }
}

/// A process that takes a permit and holds it until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test's second process"]
async fn holder() {
    let mut url = String::new();
    std::io::stdin().read_line(&mut url).unwrap();
    let queue = Queue::connect(url.trim()).await.unwrap();
    let settings = LimitSettings {
        concurrency: 1,
        breaker_open: Duration::from_millis(300),
        ..quick()
    };
    let limiter = Limiter::new(&queue, NAME, settings);
    let _permit = granted(&limiter, "holder", 0, LONG).await;
    println!("HELD");
    std::future::pending::<()>().await;
}

async fn killed_while_holding(redis: &TestRedis, limiter: &Limiter) -> Duration {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "queue::limits::trouble::holder",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", redis.url()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .find(|line| line.as_ref().unwrap().contains("HELD"))
        .unwrap()
        .unwrap();
    // longer than its lease: it renews it
    let patience = Duration::from_millis(1500);
    let refused = limiter.acquire("next", 0, patience).await;
    assert!(matches!(refused, Acquired::Wait(_)), "{refused:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    granted(limiter, "next", 0, LONG)
        .await
        .settle(ANSWERED)
        .await;
    killed.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_killed_process_returns() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        concurrency: 1,
        ..quick()
    };
    let limiter = replica(&redis, &settings).await;
    let took = killed_while_holding(&redis, &limiter).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_probe_makes_room_for_the_next() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        concurrency: 1,
        breaker_open: Duration::from_millis(300),
        ..quick()
    };
    let limiter = replica(&redis, &settings).await;
    for _ in 0..5 {
        call(&limiter, CallEnd::Failed).await;
    }
    let took = killed_while_holding(&redis, &limiter).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Callers that go on until they are told to stop; each counts its calls, and the most at once.
struct Load {
    callers: JoinSet<()>,
    calls: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicUsize>,
}

impl Load {
    fn start(limiters: &[Limiter]) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            calls: Arc::default(),
            most: Arc::default(),
            stop: Arc::default(),
        };
        let running = Arc::new(AtomicUsize::new(0));
        for caller in 0..16 {
            let limiter = limiters[caller % limiters.len()].clone();
            let (running, most) = (Arc::clone(&running), Arc::clone(&load.most));
            let (calls, stop) = (Arc::clone(&load.calls), Arc::clone(&load.stop));
            load.callers.spawn(async move {
                let mut unit = 0;
                while stop.load(Ordering::SeqCst) == 0 {
                    let ticket = format!("{caller}-{unit}");
                    let asked = Instant::now();
                    if let Acquired::Granted(permit) =
                        limiter.acquire(&ticket, 10, Duration::from_secs(1)).await
                    {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        tokio::task::yield_now().await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        permit.settle(ANSWERED).await;
                        calls.fetch_add(1, Ordering::SeqCst);
                        unit += 1;
                    }
                    assert!(asked.elapsed() < Duration::from_secs(8), "it hung");
                }
            });
        }
        load
    }

    /// Waits until so many calls more were made.
    async fn goes_on(&self) {
        let goal = self.calls.load(Ordering::SeqCst) + 50;
        until("calls go on", async || {
            self.calls.load(Ordering::SeqCst) >= goal
        })
        .await;
    }

    async fn end(mut self) {
        self.stop.store(1, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_stops_nothing_and_calls_in_flight_count_again() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    let load = Load::start(&limiters);
    load.goes_on().await;
    for _ in 0..5 {
        let _: () = redis::cmd("FLUSHALL")
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        load.goes_on().await;
    }
    load.end().await;

    let _held = [
        granted(&limiters[0], "a", 0, LONG).await,
        granted(&limiters[1], "b", 0, LONG).await,
    ];
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    assert_eq!(limiters[2].status().await.in_flight, 0);
    until("both count again", async || {
        limiters[2].status().await.in_flight == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_process_takes_its_share_until_it_is_back() {
    let mut redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    for limiter in &limiters {
        limiter.set_workers(4);
    }
    let load = Load::start(&limiters);
    load.goes_on().await;
    redis.kill();
    load.goes_on().await;
    let status = limiters[0].status().await;
    assert_eq!(
        (status.shared, status.limit),
        (false, 1),
        "4 calls by 4 processes"
    );
    assert!(
        load.most.load(Ordering::SeqCst) <= 8,
        "shared permits, and those of the shares"
    );
    redis.restart().await;
    until("limits are shared again", async || {
        limiters[0].status().await.shared
    })
    .await;
    load.goes_on().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_counts_what_the_minute_has_seen_already() {
    let mut redis = TestRedis::start().await;
    let settings = LimitSettings {
        requests_per_minute: Some(4),
        breaker_failures: 2,
        ..quick()
    };
    let limiters = replicas(&redis, &settings).await;
    for limiter in &limiters {
        limiter.set_workers(2);
    }
    for _ in 0..2 {
        call(&limiters[0], ANSWERED).await;
    }
    redis.kill();
    let waiting = waits(&limiters[0], "unit", 0).await;
    assert_eq!(waiting.reason, WaitReason::Requests);
    assert!(waiting.wait > Duration::from_secs(40), "{waiting:?}");

    // the breaker of the process itself
    let permit = granted(&limiters[1], "a", 0, LONG).await;
    assert!(!permit.is_shared());
    permit.settle(CallEnd::Failed).await;
    drop(granted(&limiters[2], "a", 0, LONG).await);
    let throttled = CallEnd::Throttled {
        retry_after: Some(Duration::from_secs(20)),
    };
    call(&limiters[3], throttled).await;
    assert_eq!(waits(&limiters[3], "b", 0).await.reason, WaitReason::Paused);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_heard_of_the_server_holds_without_redis() {
    let mut redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    let throttled = CallEnd::Throttled {
        retry_after: Some(Duration::from_secs(20)),
    };
    for _ in 0..5 {
        call(&limiters[0], CallEnd::Failed).await;
    }
    let open = WaitReason::BreakerOpen { failures: 5 };
    assert_eq!(waits(&limiters[1], "a", 0).await.reason, open);
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    call(&limiters[0], throttled).await;
    assert_eq!(waits(&limiters[2], "a", 0).await.reason, WaitReason::Paused);
    redis.kill();
    assert_eq!(waits(&limiters[1], "a", 0).await.reason, open);
    assert_eq!(waits(&limiters[2], "a", 0).await.reason, WaitReason::Paused);
    granted(&limiters[3], "a", 0, LONG)
        .await
        .settle(ANSWERED)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_holds_nobody_for_longer_than_a_second() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    call(&limiters[0], ANSWERED).await;
    redis.signal("-STOP");
    let begun = Instant::now();
    let permit = granted(&limiters[0], "a", 0, LONG).await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    assert!(!permit.is_shared());
    permit.settle(ANSWERED).await;
    redis.signal("-CONT");
    until("limits are shared again", async || {
        limiters[0].status().await.shared
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_wrong_type_or_full_of_nonsense_heal() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        requests_per_minute: Some(1000),
        tokens_per_minute: Some(1_000_000),
        ..quick()
    };
    let limiters = replicas(&redis, &settings).await;
    call(&limiters[0], ANSWERED).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("graphmill:limit:*")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    let prefix = keys[0].rsplit_once(':').unwrap().0;
    for key in [
        "state", "calls", "slots", "line", "here", "places", "accounts",
    ] {
        let key = format!("{prefix}:{key}");
        let _: () = redis::pipe()
            .del(&key)
            .set(&key, "nonsense")
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        let permit = granted(&limiters[1], "unit", 10, LONG).await;
        assert!(permit.is_shared(), "{key}");
        permit.settle(ANSWERED).await;
    }
    let fields: Vec<String> = redis::cmd("HKEYS")
        .arg(format!("{prefix}:state"))
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    assert!(fields.len() > 5, "{fields:?}");
    for field in fields {
        let _: () = redis::cmd("HSET")
            .arg(format!("{prefix}:state"))
            .arg(&field)
            .arg("nonsense")
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        let permit = granted(&limiters[2], "unit", 10, LONG).await;
        assert!(permit.is_shared(), "{field}");
        permit.settle(ANSWERED).await;
    }
    // and all of them go by themselves
    for key in redis.leftovers().await {
        let ttl: i64 = redis::cmd("TTL")
            .arg(&key)
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        assert!(ttl > 0, "{key} is kept for ever");
    }
}
