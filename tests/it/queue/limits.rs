//! The limits on model calls, with several replicas over one real Redis: who may call when, and what a dead caller,
//! a server's complaints or the loss of Redis change about it.

mod breaker;
mod pace;
mod trouble;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use graphmill::queue::{
    Acquired, CallEnd, LimitSettings, Limiter, LimiterStatus, Permit, Queue, WaitReason, Waiting,
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{TestRedis, until};

const NAME: &str = "openai/gpt-x";
const AT_ONCE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(30);
const ANSWERED: CallEnd = CallEnd::Answered {
    tokens: 0,
    latency: Duration::from_millis(100),
};

/// A limiter with a connection of its own, as each replica has one.
async fn replica(redis: &TestRedis, settings: &LimitSettings) -> Limiter {
    let queue = Queue::connect(&redis.url()).await.unwrap();
    Limiter::new(&queue, NAME, *settings)
}

async fn replicas(redis: &TestRedis, settings: &LimitSettings) -> Vec<Limiter> {
    let mut limiters = Vec::new();
    for _ in 0..4 {
        limiters.push(replica(redis, settings).await);
    }
    limiters
}

async fn granted(limiter: &Limiter, ticket: &str, tokens: u64, patience: Duration) -> Permit {
    match limiter.acquire(ticket, tokens, patience).await {
        Acquired::Granted(permit) => permit,
        Acquired::Wait(waiting) => panic!("{ticket}: {waiting}"),
    }
}

async fn waits(limiter: &Limiter, ticket: &str, tokens: u64) -> Waiting {
    match limiter.acquire(ticket, tokens, AT_ONCE).await {
        Acquired::Granted(permit) => panic!("{ticket} has {permit:?}"),
        Acquired::Wait(waiting) => waiting,
    }
}

async fn call(limiter: &Limiter, end: CallEnd) {
    granted(limiter, "one call", 0, LONG)
        .await
        .settle(end)
        .await;
}

fn five() -> LimitSettings {
    LimitSettings {
        concurrency: 5,
        ..LimitSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_callers_five_run_and_fifteen_wait_in_order_and_all_succeed() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &five()).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let mut callers = JoinSet::new();
    for n in 0..20 {
        let limiter = limiters[n % 4].clone();
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        let (order, gate) = (Arc::clone(&order), Arc::clone(&gate));
        callers.spawn(async move {
            let permit = granted(&limiter, &format!("unit-{n}"), 10, LONG).await;
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            order.lock().unwrap().push(n);
            gate.acquire().await.unwrap().forget();
            running.fetch_sub(1, Ordering::SeqCst);
            permit.settle(ANSWERED).await;
        });
        // each is in the line before the next one comes
        let there = |status: LimiterStatus| status.in_flight + status.waiting == n + 1;
        until("the caller is there", async || {
            there(limiters[0].status().await)
        })
        .await;
    }
    let status = limiters[3].status().await;
    assert_eq!((status.in_flight, status.waiting, status.limit), (5, 15, 5));
    for ended in 1..=20 {
        gate.add_permits(1);
        let begun = usize::min(5 + ended, 20);
        until("the next one runs", async || {
            order.lock().unwrap().len() == begun
        })
        .await;
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert_eq!(most.load(Ordering::SeqCst), 5);
    assert_eq!(limiters[0].status().await.in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_replicas_have_different_limits_the_strictest_holds_until_nobody_has_it() {
    let redis = TestRedis::start().await;
    let loose = LimitSettings {
        minute: Duration::from_secs(2),
        ..five()
    };
    let strict = replica(
        &redis,
        &LimitSettings {
            concurrency: 2,
            ..loose
        },
    )
    .await;
    let loose = replica(&redis, &loose).await;
    call(&strict, ANSWERED).await;
    let mut held = vec![
        granted(&loose, "a", 0, AT_ONCE).await,
        granted(&loose, "b", 0, AT_ONCE).await,
    ];
    let waiting = waits(&loose, "c", 0).await;
    assert_eq!(waiting.reason, WaitReason::Concurrency);
    // Whoever has the stricter limit does not call any more: after a minute it is not known any more.
    held.push(granted(&loose, "c", 0, LONG).await);
    for permit in held {
        permit.settle(ANSWERED).await;
    }
    // One that comes back with it counts again at once, also one that has a limit where the others have none.
    let requests = LimitSettings {
        requests_per_minute: Some(1),
        minute: Duration::from_secs(60),
        ..five()
    };
    let limited = replica(&redis, &requests).await;
    call(&limited, ANSWERED).await;
    let waiting = waits(&loose, "d", 0).await;
    assert_eq!(waiting.reason, WaitReason::Requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freed_slot_goes_to_another_replica_at_once() {
    let redis = TestRedis::start().await;
    let one = LimitSettings {
        concurrency: 1,
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &one).await;
    // the first round makes the subscriptions
    let mut slowest = Duration::ZERO;
    for round in 0..8 {
        let holder = granted(&limiters[0], "holder", 0, LONG).await;
        let other = limiters[1].clone();
        let waiter =
            tokio::spawn(async move { (granted(&other, "waiter", 0, LONG).await, Instant::now()) });
        until("it waits", async || limiters[0].status().await.waiting == 1).await;
        let freed = Instant::now();
        holder.settle(ANSWERED).await;
        let (permit, at) = waiter.await.unwrap();
        if round > 3 {
            slowest = slowest.max(at - freed);
        }
        permit.settle(ANSWERED).await;
    }
    // looking by itself it would find out a quarter of a second later
    assert!(slowest < Duration::from_millis(200), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_has_its_old_place_and_who_stays_away_blocks_nobody() {
    let redis = TestRedis::start().await;
    let one = LimitSettings {
        concurrency: 1,
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &one).await;
    let held = granted(&limiters[0], "held", 0, AT_ONCE).await;
    assert_eq!(waits(&limiters[0], "first", 0).await.ahead, 0);
    // handed back: it is not there, so the second one is the first in the line
    let second = waits(&limiters[1], "second", 0).await;
    assert_eq!((second.reason, second.ahead), (WaitReason::Concurrency, 0));
    assert_eq!(
        second.to_string(),
        "openai/gpt-x has as many calls at once as it takes; 0 are ahead"
    );

    // a waiter whose task is gone
    let other = limiters[2].clone();
    let gone = tokio::spawn(async move { drop(other.acquire("gone", 0, LONG).await) });
    until("it waits", async || limiters[0].status().await.waiting == 1).await;
    gone.abort();
    let _ = gone.await;

    let wait = |n: usize, ticket: &'static str| {
        let limiter = limiters[n].clone();
        tokio::spawn(async move { granted(&limiter, ticket, 0, LONG).await })
    };
    let third = wait(1, "third");
    until("it waits", async || limiters[0].status().await.waiting == 2).await;
    let first = wait(3, "first");
    until("it waits", async || limiters[0].status().await.waiting == 3).await;
    held.settle(ANSWERED).await;
    let first = first.await.unwrap();
    assert!(!third.is_finished(), "the third passed the first");
    // the one that is gone stands between them, and is passed
    let begun = Instant::now();
    first.settle(ANSWERED).await;
    third.await.unwrap().settle(ANSWERED).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_is_dropped_gives_its_slot_back_and_keeps_its_tokens_charged() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        concurrency: 1,
        tokens_per_minute: Some(1000),
        ..LimitSettings::default()
    };
    let limiter = replica(&redis, &settings).await;
    drop(granted(&limiter, "a", 40, AT_ONCE).await);
    until("the slot is free", async || {
        limiter.status().await.in_flight == 0
    })
    .await;
    let status = limiter.status().await;
    assert_eq!(
        (status.tokens, status.requests, status.failures),
        (40, 1, 0)
    );
    granted(&limiter, "b", 50, AT_ONCE)
        .await
        .settle(CallEnd::Unsent)
        .await;
    let status = limiter.status().await;
    assert_eq!(
        (status.tokens, status.requests),
        (40, 1),
        "nothing was sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_at_once_after_a_throttled_round_and_slowly_more_after_good_ones() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        concurrency: 10,
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &settings).await;
    let limit = async || limiters[1].status().await.limit;
    let round = async |n: usize, end: CallEnd| {
        let mut permits = Vec::new();
        for caller in 0..n {
            permits.push(granted(&limiters[caller % 4], &format!("{caller}"), 0, LONG).await);
        }
        for permit in permits {
            permit.settle(end).await;
        }
    };
    let throttled = CallEnd::Throttled {
        retry_after: Some(Duration::from_millis(20)),
    };
    assert_eq!(limit().await, 10);
    round(10, throttled).await;
    assert_eq!(limit().await, 7, "ten at once are one cut");
    round(7, throttled).await;
    assert_eq!(limit().await, 4);
    for _ in 0..5 {
        round(1, throttled).await;
    }
    assert_eq!(limit().await, 1, "never less than one");
    let mut calls = 0;
    let mut before = 1;
    while before < 10 {
        round(before, ANSWERED).await;
        calls += before;
        let after = limit().await;
        assert!(after <= before + 1, "{before} to {after} in one round");
        before = after;
    }
    // a call counts while at least half of what may be in flight is
    assert!((45..=120).contains(&calls), "{calls} calls for nine steps");

    // the server gets three times as slow under the load
    let took = |millis| CallEnd::Answered {
        tokens: 0,
        latency: Duration::from_millis(millis),
    };
    for n in 0..10 {
        // noise, and one call in ten that hangs
        round(9, took(60 + 8 * n)).await;
        round(1, took(3000)).await;
    }
    assert_eq!(limit().await, 10, "noise is no reason");
    for _ in 0..6 {
        round(limit().await, took(600)).await;
    }
    let slower = limit().await;
    assert!((2..=8).contains(&slower), "{slower}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_is_cancelled_at_any_moment_leaks_no_slot() {
    let redis = TestRedis::start().await;
    let one = LimitSettings {
        concurrency: 1,
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &one).await;
    for n in 0..200 {
        let limiter = limiters[n % 4].clone();
        let waiter = tokio::spawn(async move { limiter.acquire("unit", 0, LONG).await });
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        waiter.abort();
        let _ = waiter.await;
    }
    // the lease of a leaked one would be 15 s
    let begun = Instant::now();
    granted(&limiters[0], "last", 0, LONG)
        .await
        .settle(ANSWERED)
        .await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

/// What the line costs: run by hand, in release, for the numbers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn five_thousand_waiters_and_calls_of_100_ms() {
    let redis = TestRedis::start().await;
    let cost = async || {
        let info: String = redis::cmd("INFO")
            .query_async(&mut redis.raw().await)
            .await
            .unwrap();
        let field = |name: &str| -> f64 {
            let line = info.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once(':').unwrap().1.trim().parse().unwrap()
        };
        (
            field("total_commands_processed:"),
            field("used_cpu_user:") + field("used_cpu_sys:"),
        )
    };
    for waiters in [16, 5000] {
        let sixteen = LimitSettings::default();
        let limiters = replicas(&redis, &sixteen).await;
        let calls = Arc::new(AtomicUsize::new(0));
        let end = Instant::now() + Duration::from_secs(12);
        let before = cost().await;
        let mut callers = JoinSet::new();
        for caller in 0..waiters {
            let (limiter, calls) = (limiters[caller % 4].clone(), Arc::clone(&calls));
            callers.spawn(async move {
                let mut unit = 0;
                while Instant::now() < end {
                    let ticket = format!("{caller}-{unit}");
                    let patience = Duration::from_secs(5).min(end - Instant::now());
                    if let Acquired::Granted(permit) = limiter.acquire(&ticket, 10, patience).await
                    {
                        // the call itself
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        permit.settle(ANSWERED).await;
                        calls.fetch_add(1, Ordering::SeqCst);
                        unit += 1;
                    }
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        let after = cost().await;
        println!(
            "{waiters} callers: {} of 1920 calls, {:.0} commands/s, Redis {:.1} % of a core",
            calls.load(Ordering::SeqCst),
            (after.0 - before.0) / 12.0,
            (after.1 - before.1) / 0.12,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_s_calls_go_ahead_and_then_it_shares_by_tokens() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        concurrency: 1,
        ..LimitSettings::default()
    };
    let limiter = replica(&redis, &settings).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = granted(&limiter, "first", 10, LONG).await;
    let mut callers = JoinSet::new();
    let mut there = 0;
    // The large batch has used up what a newcomer is ahead by; the others are three of one, all equal in tokens.
    for (owner, weight, count) in [("large", 1.0, 12), ("small", 1.0, 2), ("heavy", 3.0, 9)] {
        for n in 0..count {
            let (caller, order) = (limiter.clone(), Arc::clone(&order));
            callers.spawn(async move {
                let of = graphmill::queue::Owner {
                    name: owner,
                    weight,
                };
                let ticket = format!("{owner}-{n}");
                let permit = match caller.acquire_for(of, &ticket, 30_000, LONG).await {
                    Acquired::Granted(permit) => permit,
                    Acquired::Wait(waiting) => panic!("{ticket}: {waiting}"),
                };
                order.lock().unwrap().push(owner);
                permit.settle(ANSWERED).await;
            });
            there += 1;
            until("the caller is there", async || {
                limiter.status().await.waiting == there
            })
            .await;
        }
    }
    first.settle(ANSWERED).await;
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let order = order.lock().unwrap();
    let at = |owner: &str, nth: usize| {
        let mut places = (0..order.len()).filter(|&place| order[place] == owner);
        places.nth(nth).unwrap()
    };
    // All three begin at the same place; from there on each is where its tokens by weight have come to.
    assert!(at("small", 1) < at("large", 2), "{order:?}");
    assert!(at("heavy", 8) < at("large", 4), "{order:?}");
    assert!(at("heavy", 8) > at("large", 2), "{order:?}");
}
