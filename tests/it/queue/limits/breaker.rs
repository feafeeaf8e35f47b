//! The breaker that all replicas share.

use graphmill::queue::Breaker;

use super::*;

fn quick() -> LimitSettings {
    LimitSettings {
        concurrency: 8,
        breaker_open: Duration::from_millis(600),
        lease: Duration::from_millis(900),
        ..LimitSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_opens_at_the_fifth_failure_probes_one_at_a_time_and_closes_after_two_successes() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    for _ in 0..4 {
        call(&limiters[0], CallEnd::Failed).await;
    }
    call(&limiters[1], CallEnd::Refused).await;
    for n in 0..5 {
        assert_eq!(
            limiters[3].status().await.breaker,
            Breaker::Closed,
            "after {n}"
        );
        call(&limiters[n % 4], CallEnd::Failed).await;
    }
    let opened = Instant::now();
    for limiter in &limiters {
        let waiting = waits(limiter, "a", 0).await;
        assert_eq!(waiting.reason, WaitReason::BreakerOpen { failures: 5 });
        assert!(waiting.wait <= Duration::from_millis(620), "{waiting:?}");
        assert_eq!(
            waiting.to_string(),
            "the circuit breaker of openai/gpt-x is open after 5 failures; next probe in 1 s"
        );
    }

    // several wait for the end of it; one goes through
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let mut callers = JoinSet::new();
    for n in 0..8 {
        let limiter = limiters[n % 4].clone();
        let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
        callers.spawn(async move {
            let permit = granted(&limiter, &format!("unit-{n}"), 0, LONG).await;
            arrived.lock().unwrap().push(Instant::now());
            gate.acquire().await.unwrap().forget();
            permit.settle(ANSWERED).await;
        });
    }
    let count = || arrived.lock().unwrap().len();
    until("a probe", async || count() == 1).await;
    let probed = arrived.lock().unwrap()[0] - opened;
    assert!(
        probed > Duration::from_millis(550) && probed < Duration::from_millis(1500),
        "{probed:?}"
    );
    let waiting = waits(&limiters[0], "b", 0).await;
    assert_eq!(waiting.reason, WaitReason::Probing { failures: 5 });
    assert_eq!(limiters[0].status().await.breaker, Breaker::HalfOpen);
    gate.add_permits(1);
    until("a second probe", async || count() == 2).await;
    assert_eq!(
        waits(&limiters[0], "b", 0).await.reason,
        WaitReason::Probing { failures: 5 }
    );
    gate.add_permits(1);
    until("all others", async || count() == 8).await;
    assert_eq!(limiters[0].status().await.breaker, Breaker::Closed);
    gate.add_permits(6);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_probe_opens_it_again_and_a_dropped_one_makes_room_for_the_next() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    for _ in 0..5 {
        call(&limiters[0], CallEnd::Failed).await;
    }
    call(&limiters[1], CallEnd::Failed).await;
    let Breaker::Open { wait } = limiters[2].status().await.breaker else {
        panic!("a failed probe leaves it open");
    };
    assert!(wait > Duration::from_millis(400), "{wait:?}");
    drop(granted(&limiters[3], "dropped", 0, LONG).await);
    let next = granted(&limiters[0], "next", 0, LONG).await;
    let waiting = waits(&limiters[2], "after it", 0).await;
    assert_eq!(waiting.reason, WaitReason::Probing { failures: 6 });
    next.settle(ANSWERED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_calls_from_before_neither_close_nor_open_it() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    let before = granted(&limiters[0], "good", 0, LONG).await;
    let also = granted(&limiters[0], "bad", 0, LONG).await;
    let third = granted(&limiters[0], "bad too", 0, LONG).await;
    for _ in 0..5 {
        call(&limiters[1], CallEnd::Failed).await;
    }
    let probe = granted(&limiters[1], "probe", 0, LONG).await;
    before.settle(ANSWERED).await;
    also.settle(CallEnd::Failed).await;
    assert_eq!(limiters[2].status().await.breaker, Breaker::HalfOpen);
    assert!(matches!(
        waits(&limiters[2], "next", 0).await.reason,
        WaitReason::Probing { .. }
    ));
    probe.settle(ANSWERED).await;
    call(&limiters[2], ANSWERED).await;
    third.settle(CallEnd::Failed).await;
    let status = limiters[3].status().await;
    assert_eq!((status.breaker, status.failures), (Breaker::Closed, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_are_no_failures() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &quick()).await;
    let throttled = CallEnd::Throttled {
        retry_after: Some(Duration::from_millis(5)),
    };
    for _ in 0..7 {
        call(&limiters[0], throttled).await;
    }
    let status = limiters[1].status().await;
    assert_eq!((status.breaker, status.failures), (Breaker::Closed, 0));
}
