//! Waits for limits and the breaker, as those who follow a batch are told of them.

use std::time::Instant;

use graphmill::flow::{EventKind, LimitCause};

use super::*;
use crate::support::ModelServer;

/// What was told of limits and of the breaker, in order.
async fn told(scene: &Scene, batch: BatchId) -> Vec<EventKind> {
    let events = scene.ground.events(batch).await;
    let kinds = events.into_iter().map(|event| event.kind);
    kinds
        .filter(|kind| {
            let names = [
                "RateLimited",
                "BreakerOpened",
                "BreakerProbed",
                "BreakerClosed",
            ];
            names.contains(&kind.name())
        })
        .collect()
}

async fn is_told(scene: &Scene, batch: BatchId, name: &str) {
    support::eventually(name, async || {
        told(scene, batch)
            .await
            .iter()
            .any(|kind| kind.name() == name)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_opens_and_closes_again_is_told_to_each_batch_that_it_stops() {
    let scene = Scene::new("told-breaker").await;
    let server = ModelServer::start("[[rule]]\nthen = { fail = { status = 500 } }").await;
    let limits = ["--breaker-failures", "3", "--breaker-seconds", "1"];
    let _workers = [
        scene.worker(&server.base_url(), &limits),
        scene.worker(&server.base_url(), &limits),
    ];
    let begun = Instant::now();
    let one = scene
        .submit(batch("one", Caps::default()), documents(6))
        .await;
    let other = scene
        .submit(batch("other", Caps::default()), documents(6))
        .await;
    is_told(&scene, one, "BreakerOpened").await;
    is_told(&scene, other, "BreakerOpened").await;
    support::eventually("a probe is told", async || {
        let all = [told(&scene, one).await, told(&scene, other).await].concat();
        all.iter().any(|kind| kind.name() == "BreakerProbed")
    })
    .await;
    server.script("");
    scene.completed(one, 6).await;
    scene.completed(other, 6).await;
    let most = usize::try_from(begun.elapsed().as_secs() / 5).unwrap() + 1;
    for id in [one, other] {
        let told = told(&scene, id).await;
        let names: Vec<&str> = told.iter().map(EventKind::name).collect();
        let count = |name: &str| names.iter().filter(|told| **told == name).count();
        assert_eq!(names.first(), Some(&"BreakerOpened"), "{names:?}");
        assert_eq!(names.last(), Some(&"BreakerClosed"), "{names:?}");
        assert_eq!(count("BreakerClosed"), 1, "{names:?}");
        assert!(count("BreakerOpened") <= most, "{names:?} of {most}");
        assert!(count("BreakerProbed") <= most, "{names:?} of {most}");
        let EventKind::BreakerOpened {
            model,
            failures,
            wait_ms,
        } = &told[0]
        else {
            panic!("{told:?}");
        };
        assert_eq!(model, "mock");
        assert!(*failures >= 3 && *wait_ms <= 1000, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_asked_for_fewer_calls_says_so_once_in_a_while() {
    let scene = Scene::new("told-limits").await;
    let server = ModelServer::start(
        r#"
        [[rule]]
        when = { every = 2 }
        then = { fail = { status = 429, retry_after = "50ms", retry_form = "milliseconds" } }
        "#,
    )
    .await;
    let _workers = [
        scene.worker(&server.base_url(), &[]),
        scene.worker(&server.base_url(), &[]),
    ];
    let begun = Instant::now();
    let id = scene
        .submit(batch("limited", Caps::default()), documents(10))
        .await;
    scene.completed(id, 10).await;
    let most = usize::try_from(begun.elapsed().as_secs() / 10).unwrap() + 1;
    let throttled = server.stats().statuses["429"];
    assert!(throttled >= 10, "{throttled}");
    let told = told(&scene, id).await;
    assert!((1..=most).contains(&told.len()), "{told:?}, {most} at most");
    for kind in &told {
        let EventKind::RateLimited { model, cause, .. } = kind else {
            panic!("{told:?}");
        };
        assert_eq!((model.as_str(), *cause), ("mock", LimitCause::Server));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_uses_up_the_requests_of_a_minute_is_told() {
    let scene = Scene::new("told-pace").await;
    let server = ModelServer::start("").await;
    let _worker = scene.worker(&server.base_url(), &["--rpm", "12"]);
    let id = scene
        .submit(batch("paced", Caps::default()), documents(8))
        .await;
    is_told(&scene, id, "RateLimited").await;
    let told = told(&scene, id).await;
    let EventKind::RateLimited { cause, wait_ms, .. } = &told[0] else {
        panic!("{told:?}");
    };
    assert_eq!(*cause, LimitCause::Requests);
    assert!((1_000..=62_000).contains(wait_ms), "{told:?}");
}
