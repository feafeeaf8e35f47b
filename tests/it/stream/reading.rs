//! The other ways to read the log: polling it, and following it in one's own process; what is refused; what is told of
//! a stage that takes a while; and the page that says it all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use graphmill::{
    extractors::{ExtractError, WaitCause},
    flow::{EventKind, FailureCode, HeadwayStatus, Stage},
    workflow::{Feed, follow_batch, follow_execution},
};
use graphmill_jobs::{OrganizationId, WorkflowExecutionId};
use tokio::sync::Semaphore;

use super::*;
use crate::support::{Drill, Scripted, documents, poll};

async fn get(client: &Client, url: &str, accept: &str) -> Response {
    client
        .get(url)
        .header("accept", accept)
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_can_be_polled_and_what_is_no_position_is_refused() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let batch = idle_batch(&ground, "polled").await;
    publish(&ground, batch, 5, 10).await;
    let replica = Replica::start(&ground, &redis);
    let client = super::client();
    let path = format!("/api/batches/{batch}/events");
    let url = replica.url(&path);
    let json = "application/json";
    let begin: Value = get(&client, &url, json).await.json().await.unwrap();
    assert_eq!(begin["snapshot"]["type"], "Snapshot");
    assert_eq!(
        (&begin["events"], &begin["ended"]),
        (&Value::Array(Vec::new()), &false.into())
    );
    assert_eq!(begin["next"], begin["snapshot"]["position"]);
    let next = begin["next"].as_i64().unwrap();
    // A poll that waits is answered by what comes.
    let waits = format!("{url}?poll&wait=20&after={next}");
    let (waited, ()) = tokio::join!(get(&client, &waits, "*/*"), async {
        publish(&ground, batch, 3, 10).await;
    });
    let waited: Value = waited.json().await.unwrap();
    let got = waited["events"].as_array().unwrap();
    assert!((1..=3).contains(&got.len()));
    assert_eq!(got[0]["position"], next + 1);
    assert_eq!(waited["next"], next + i64::try_from(got.len()).unwrap());
    // Page by page, it is the whole log.
    let (mut after, mut seen) = (0, 0);
    loop {
        let url = format!("{url}?poll=1&limit=3&after={after}");
        let page: Value = get(&client, &url, "*/*").await.json().await.unwrap();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            break;
        }
        for event in events {
            assert!(event["position"].as_i64().unwrap() > after);
            after = event["position"].as_i64().unwrap();
            seen += 1;
        }
        assert_eq!(page["next"], after);
    }
    assert_eq!(after, next + 3);
    assert_eq!(seen, ground.events(batch).await.len());

    for (path, status) in [
        (format!("{path}?after=-1"), 400),
        (format!("{path}?after=x"), 400),
        (format!("{path}?poll&limit=0"), 400),
        (format!("{path}?poll&wait=21"), 400),
        (format!("{path}?colour=red"), 400),
        ("/api/batches/nobody/events".to_owned(), 404),
        ("/api/knowledge/extraction/progress/nobody".to_owned(), 404),
        ("/api/executions/nobody/events".to_owned(), 404),
        (
            format!(
                "/api/workflows/{}/progress",
                WorkflowExecutionId::generate()
            ),
            404,
        ),
    ] {
        let response = get(&client, &replica.url(&path), "text/event-stream").await;
        assert_eq!(response.status(), status, "{path}");
        let kind = &response.headers()["content-type"];
        assert_eq!(kind, "application/problem+json", "{path}");
    }
    let response = client.get(&url).header("last-event-id", "abc").send();
    assert_eq!(response.await.unwrap().status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_says_that_it_is_there() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let batch = idle_batch(&ground, "silent").await;
    let replica = Replica::start(&ground, &redis);
    let client = super::client();
    let url = replica.url(&format!("/api/batches/{batch}/events"));
    let mut reading = Reading::open(&client, &url, None).await;
    let snapshot = reading.must().await;
    let heartbeat = tokio::time::timeout(HEARTBEAT, async {
        loop {
            let told = reading.block().await.unwrap().unwrap();
            // Events of the batch's beginning may still come; nothing else.
            if told.comment {
                return told;
            }
            assert!(told.position() > snapshot.position());
        }
    });
    let heartbeat = heartbeat.await.expect("a heartbeat");
    assert_eq!((heartbeat.id, heartbeat.data), (None, None));
}

/// An execution that has ended is over, and stands as it was told last; nobody else sees it.
async fn assert_over(feed: &Feed, execution: WorkflowExecutionId) {
    let following = follow_execution(feed, OURS, execution, None)
        .await
        .unwrap()
        .unwrap();
    assert!(following.over);
    let snapshot = following.snapshot.unwrap();
    assert_eq!(snapshot.progress().unwrap().progress, 100);
    assert!(
        follow_execution(feed, OrganizationId::generate(), execution, None)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_takes_a_while_says_how_far_it_is_as_its_checkpoints_say() {
    let gate = Arc::new(Semaphore::new(0));
    let at_gate = Arc::clone(&gate);
    let mut drill = Drill::with(Scripted::new(move |unit| {
        let gate = Arc::clone(&at_gate);
        async move {
            if unit.stage == "mentions" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let mut batch = new_batch("units");
    batch.settings.chunks.chars = 120;
    let text = "Ada Lovelace met Charles Babbage in London. ".repeat(20);
    let document = graphmill::pipeline::NewDocument::new("long", text);
    let batch = ground.submit(&batch, vec![document]).await;
    let feed = Feed::new(ground.store.clone());
    let stranger = OrganizationId::generate();
    assert!(
        follow_batch(&feed, stranger, batch, None)
            .await
            .unwrap()
            .is_none()
    );
    let mut follower = follow_batch(&feed, OURS, batch, Some(0))
        .await
        .unwrap()
        .unwrap()
        .follower;
    let mut at: Vec<(u64, u64)> = Vec::new();
    let mut told = Vec::new();
    while let Some(entry) = tokio::time::timeout(PATIENCE, follower.next())
        .await
        .expect("in time")
        .unwrap()
    {
        let kind = entry.kind().unwrap();
        if let EventKind::StageProgress {
            stage,
            current,
            total,
        } = kind
        {
            assert_eq!(stage, Stage::Mentions);
            // As many as the rows say. Nothing goes on before this was read, until all may.
            let rows =
                "select count(*) from checkpoint where stage = 'mentions' and outcome = 'done'";
            let rows = ground.number(rows).await.unsigned_abs();
            assert!(rows == current || at.len() >= 3 && rows > current);
            at.push((current, total));
            if at.len() < 3 {
                gate.add_permits(1);
            } else {
                gate.add_permits(1000);
            }
        }
        told.push(entry);
    }
    let total = at[0].1;
    assert!(total > 3);
    assert_eq!(at[..3], [(0, total), (1, total), (2, total)]);
    let execution = told.iter().find_map(|entry| entry.execution).unwrap();
    let headways = told
        .iter()
        .filter(|entry| entry.execution == Some(execution))
        .filter_map(|entry| entry.kind().unwrap().headway());
    let headways: Vec<_> = headways.collect();
    assert!(headways.is_sorted_by_key(|headway| headway.progress));
    let of_mentions: Vec<_> = headways
        .iter()
        .filter(|headway| headway.stage == Stage::Mentions)
        .map(|headway| headway.status)
        .collect();
    assert_eq!(of_mentions[0], HeadwayStatus::Started);
    assert_eq!(of_mentions[1], HeadwayStatus::InProgress);
    assert_eq!(of_mentions.last(), Some(&HeadwayStatus::Completed));
    assert_eq!(headways.last().unwrap().progress, 100);

    drop(follower);
    assert_over(&feed, execution).await;
    poll("nobody follows", async || {
        (feed.followers() == 0).then_some(())
    })
    .await;
    feed.stop();
    let late = follow_batch(&feed, OURS, batch, None)
        .await
        .unwrap()
        .unwrap();
    let mut late = late.follower;
    assert!(late.next().await.unwrap().is_none());
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_waits_for_is_told_in_a_word() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut drill = Drill::with(Scripted::new(move |unit| {
        let waits = unit.stage == "mentions" && asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if waits {
                return Err(ExtractError::Wait {
                    reason: "the breaker is open".to_owned(),
                    wait: Duration::ZERO,
                    cause: WaitCause::Breaker,
                });
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("waits"), documents(1)).await;
    drill.ends(batch).await;
    let retried = ground.events(batch).await.into_iter().find_map(|event| {
        if let EventKind::StageRetried {
            failure, reached, ..
        } = event.kind
        {
            return Some((failure, reached));
        }
        None
    });
    let (failure, reached) = retried.unwrap();
    assert_eq!(failure.code, FailureCode::Waiting);
    assert_eq!(failure.details["cause"], "breaker");
    assert_eq!(reached.map(|reached| reached.current), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_followed_is_told_to_nobody_and_a_line_that_is_full_is_cut() {
    let ground = Ground::new().await;
    let (ours, other) = (
        idle_batch(&ground, "ours").await,
        idle_batch(&ground, "other").await,
    );
    let feed = Feed::new(ground.store.clone());
    let following = follow_batch(&feed, OURS, ours, None)
        .await
        .unwrap()
        .unwrap();
    let mut follower = following.follower;
    publish(&ground, other, 10, 10).await;
    publish(&ground, ours, 1, 10).await;
    let first = tokio::time::timeout(Duration::from_secs(30), follower.next());
    let first = first.await.unwrap().unwrap().unwrap();
    assert_eq!(first.batch, ours);
    // Far more than a line holds, while nobody reads it.
    publish(&ground, ours, 5000, 10).await;
    let mut another = follow_batch(&feed, OURS, ours, Some(first.position))
        .await
        .unwrap()
        .unwrap()
        .follower;
    for expected in first.position + 1..=first.position + 5000 {
        let entry = another.next().await.unwrap().unwrap();
        assert_eq!(entry.position, expected);
    }
    for expected in first.position + 1..=first.position + 5000 {
        let entry = follower.next().await.unwrap().unwrap();
        assert_eq!(entry.position, expected);
    }
    assert!(follower.catch_ups() >= 1, "its line was never full");
}

#[test]
fn the_page_names_every_event() {
    let page = include_str!("../../../docs/EVENTS.md");
    let source = include_str!("../../../src/flow/event.rs");
    let names: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=> \""))
        .filter_map(|(_, name)| name.strip_suffix("\","))
        .collect();
    assert!(names.len() >= 30, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("| `{name}` |")),
            "docs/EVENTS.md lacks `{name}`"
        );
    }
}
