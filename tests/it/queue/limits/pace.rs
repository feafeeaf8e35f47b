//! Requests and tokens a minute, and the pauses that a server asks for.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// The most of `arrivals` in any sliding window of this length.
fn densest(arrivals: &[Instant], window: Duration) -> usize {
    let mut first = 0;
    (0..arrivals.len())
        .map(|last| {
            while arrivals[last] - arrivals[first] >= window {
                first += 1;
            }
            last - first + 1
        })
        .max()
        .unwrap_or(0)
}

/// Callers on all replicas, for so many minutes; when their calls arrived, in order.
async fn hammer(limiters: &[Limiter], minutes: u32, minute: Duration) -> Vec<Instant> {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let end = Instant::now() + minute * minutes;
    let mut callers = JoinSet::new();
    for caller in 0..40 {
        let limiter = limiters[caller % limiters.len()].clone();
        let arrivals = Arc::clone(&arrivals);
        callers.spawn(async move {
            let mut unit = 0;
            while Instant::now() < end {
                let ticket = format!("{caller}-{unit}");
                let left = end - Instant::now();
                match limiter
                    .acquire(&ticket, 10, left.min(Duration::from_secs(5)))
                    .await
                {
                    Acquired::Granted(permit) => {
                        let end = {
                            let mut arrivals = arrivals.lock().unwrap();
                            if permit.is_late() {
                                CallEnd::Unsent
                            } else {
                                arrivals.push(Instant::now());
                                ANSWERED
                            }
                        };
                        permit.settle(end).await;
                        unit += 1;
                    }
                    Acquired::Wait(waiting) => {
                        assert_eq!(waiting.reason, WaitReason::Requests, "{waiting}");
                    }
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    Arc::into_inner(arrivals).unwrap().into_inner().unwrap()
}

async fn hammered(limit: u32, minutes: u32, minute: Duration) -> (usize, f64) {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        requests_per_minute: Some(limit),
        concurrency: 64,
        minute,
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &settings).await;
    let arrivals = hammer(&limiters, minutes, minute).await;
    let most = densest(&arrivals, minute);
    let used = f64::from(u32::try_from(arrivals.len()).unwrap()) / f64::from(limit * minutes);
    println!(
        "{} calls of {limit} in {minutes} x {minute:?}: at most {most}, {:.1} % used",
        arrivals.len(),
        used * 100.0
    );
    (most, used)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_never_pass_the_limit_in_any_sliding_minute_and_use_it() {
    let (most, used) = hammered(200, 3, Duration::from_secs(4)).await;
    assert!(most <= 200, "{most}");
    assert!(used >= 0.9, "{used}");
}

const SIX_HUNDRED: u32 = 600;
const MINUTES: u32 = 3;

/// One replica of the next test: a process whose callers send what they may to a server.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "another test's process"]
async fn replica_process() {
    let mut lines = std::io::stdin().lines();
    let mut line = || lines.next().unwrap().unwrap();
    let (url, server) = (line(), line());
    let queue = Queue::connect(&url).await.unwrap();
    let settings = LimitSettings {
        requests_per_minute: Some(SIX_HUNDRED),
        concurrency: 64,
        ..LimitSettings::default()
    };
    let limiter = Limiter::new(&queue, NAME, settings);
    let end = Instant::now() + Duration::from_secs(60) * MINUTES;
    let mut callers = JoinSet::new();
    for caller in 0..12 {
        let (limiter, server) = (limiter.clone(), server.clone());
        callers.spawn(async move {
            for unit in 0.. {
                let ticket = format!("{}-{caller}-{unit}", std::process::id());
                let patience = Duration::from_secs(5).min(end - Instant::now());
                if let Acquired::Granted(permit) = limiter.acquire(&ticket, 10, patience).await {
                    let end = if permit.is_late() {
                        CallEnd::Unsent
                    } else {
                        let mut stream = TcpStream::connect(&server).await.unwrap();
                        stream.write_all(b"?").await.unwrap();
                        match stream.read_u8().await.unwrap() {
                            b'+' => ANSWERED,
                            _ => CallEnd::Throttled { retry_after: None },
                        }
                    };
                    permit.settle(end).await;
                }
                if Instant::now() >= end {
                    return;
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
}

/// The bill of a server that allows [`SIX_HUNDRED`] in any sliding minute and answers 429 beyond.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "three real minutes, four processes"]
async fn four_replicas_under_600_a_minute() {
    let redis = TestRedis::start().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mut children: Vec<_> = (0..4)
        .map(|_| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "queue::limits::pace::replica_process",
                    "--exact",
                    "--ignored",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let stdin = child.stdin.as_mut().unwrap();
            writeln!(stdin, "{}\n{address}", redis.url()).unwrap();
            child
        })
        .collect();
    let mut arrivals: Vec<Instant> = Vec::new();
    let mut refused = 0_u32;
    let minute = Duration::from_secs(60);
    while !children
        .iter_mut()
        .all(|child| child.try_wait().unwrap().is_some())
    {
        let accepted = tokio::time::timeout(Duration::from_secs(1), server.accept()).await;
        let Ok(accepted) = accepted else {
            continue;
        };
        let (mut stream, _) = accepted.unwrap();
        stream.read_u8().await.unwrap();
        let now = Instant::now();
        arrivals.push(now);
        let full = arrivals
            .iter()
            .rev()
            .take_while(|at| now - **at < minute)
            .count()
            > SIX_HUNDRED as usize;
        refused += u32::from(full);
        // the call takes its time, but the server takes the next one meanwhile
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stream
                .write_all(if full { b"-" } else { b"+" })
                .await
                .unwrap();
        });
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let most = densest(&arrivals, minute);
    let span = (arrivals[arrivals.len() - 1] - arrivals[0]).as_secs_f64();
    let calls = f64::from(u32::try_from(arrivals.len()).unwrap());
    let used = calls / (f64::from(SIX_HUNDRED) / 60.0 * span);
    println!(
        "{calls} calls in {span:.1} s: at most {most} a minute, {refused} refused, {:.1} % used",
        used * 100.0
    );
    assert!(most <= SIX_HUNDRED as usize, "{most}");
    assert!(used >= 0.95, "{used}");
    assert_eq!(refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_limit_is_exact_too() {
    let (most, used) = hammered(3, 3, Duration::from_secs(2)).await;
    assert!(most <= 3, "{most}");
    assert!(used >= 0.9, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_reserved_and_what_was_used_is_settled() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        tokens_per_minute: Some(1000),
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &settings).await;
    let used = |tokens| CallEnd::Answered {
        tokens,
        latency: Duration::from_millis(5),
    };
    let first = granted(&limiters[0], "a", 600, AT_ONCE).await;
    let waiting = waits(&limiters[1], "b", 600).await;
    assert_eq!(waiting.reason, WaitReason::Tokens);
    assert_eq!(waiting.wait, Duration::from_secs(20), "then it looks again");
    first.settle(used(20)).await;
    assert_eq!(
        limiters[2].status().await.tokens,
        20,
        "the rest is given back"
    );
    let second = granted(&limiters[1], "b", 600, AT_ONCE).await;
    second.settle(used(980)).await;
    assert_eq!(
        limiters[2].status().await.tokens,
        1000,
        "and more is charged"
    );
    assert_eq!(waits(&limiters[3], "c", 1).await.reason, WaitReason::Tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_larger_than_the_whole_limit_goes_alone() {
    let redis = TestRedis::start().await;
    let settings = LimitSettings {
        tokens_per_minute: Some(1000),
        minute: Duration::from_secs(1),
        ..LimitSettings::default()
    };
    let limiters = replicas(&redis, &settings).await;
    granted(&limiters[0], "large", 5000, AT_ONCE)
        .await
        .settle(CallEnd::Refused)
        .await;
    assert_eq!(
        waits(&limiters[0], "small", 1).await.reason,
        WaitReason::Tokens
    );
    granted(&limiters[0], "large", 5000, LONG)
        .await
        .settle(CallEnd::Refused)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_server_asks_for_holds_every_replica() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &five()).await;
    let begun = Instant::now();
    let pause = Duration::from_millis(700);
    call(
        &limiters[0],
        CallEnd::Throttled {
            retry_after: Some(pause),
        },
    )
    .await;
    for limiter in &limiters {
        let waiting = waits(limiter, "unit", 0).await;
        assert_eq!(waiting.reason, WaitReason::Paused);
        assert!(
            waiting.wait <= pause + Duration::from_millis(20),
            "{waiting:?}"
        );
    }
    let told = Instant::now();
    let short = limiters[1]
        .acquire("unit", 0, Duration::from_millis(1))
        .await;
    assert!(
        matches!(short, Acquired::Wait(_)) && told.elapsed() < pause / 2,
        "{short:?}"
    );
    let permit = granted(&limiters[2], "unit", 0, LONG).await;
    let waited = begun.elapsed();
    assert!(waited >= pause && waited < pause * 2, "{waited:?}");
    permit.settle(ANSWERED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_word_how_long_the_pause_doubles_a_round() {
    let redis = TestRedis::start().await;
    let limiters = replicas(&redis, &five()).await;
    let silent = CallEnd::Throttled { retry_after: None };
    let mut pauses = Vec::new();
    for round in 0..2 {
        let mut permits = vec![granted(&limiters[0], "a", 0, LONG).await];
        if round == 0 {
            permits.push(granted(&limiters[1], "b", 0, LONG).await);
            permits.push(granted(&limiters[2], "c", 0, LONG).await);
        }
        for permit in permits {
            permit.settle(silent).await;
        }
        pauses.push(limiters[3].status().await.paused);
    }
    let seconds = |n| Duration::from_secs(n);
    assert!(
        pauses[0] > seconds(0) && pauses[0] <= seconds(1),
        "{pauses:?}"
    );
    assert!(
        pauses[1] > seconds(1) && pauses[1] <= seconds(2),
        "{pauses:?}"
    );
}
