//! A document that ends is followed by another one: in the same process, leased with its admission, never more at a time
//! than the batch allows, and given back by whoever stops.

use std::sync::Arc;

use graphmill::{
    extractors::Extractors,
    flow::{EventKind, Stage},
    workflow::NewBatch,
};
use graphmill_jobs::BatchId;

use crate::support::{Drill, Ground, Scripted, documents, new_batch, poll, quick};

fn few_at_a_time(name: &str, concurrency: u32) -> NewBatch {
    NewBatch {
        concurrency,
        ..new_batch(name)
    }
}

/// Documents whose first attempt began with their admission: both times are those of one transaction.
async fn leased_with_their_admission(ground: &Ground, batch: BatchId) -> i64 {
    let sql = format!(
        "select count(*) from workflow_activity a join workflow_execution e on e.id = a.workflow_execution_id
         where a.activity_name = 'chunk-text' and a.started_at = e.started_at and e.batch_id = '{}'",
        batch.uuid()
    );
    ground.number(sql).await
}

/// The most documents of the batch that were being extracted at a time, by its log: who is published has left his place.
async fn most_in_work(ground: &Ground, batch: BatchId) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for event in ground.events(batch).await {
        if let EventKind::DocumentStarted = event.kind {
            now += 1;
        } else if let EventKind::StageCompleted {
            stage: Stage::Relations,
            ..
        } = event.kind
        {
            now -= 1;
        }
        most = most.max(now);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_is_followed_by_one_that_is_leased_with_its_admission() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let ground = Arc::clone(&drill.ground);
    let spec = few_at_a_time("followed", 3);
    let batch = ground.submit(&spec, documents(40)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 40);
    let together = leased_with_their_admission(&ground, batch).await;
    // Those that came with the submission are rung for. Now and then there is no slot to spare.
    assert!((1..=37).contains(&together), "{together}");
    assert_eq!(most_in_work(&ground, batch).await, 3);
    // Each stage was leased once.
    for (what, sql) in [
        (
            "attempts",
            "select count(*) from workflow_activity where activity_type = 'extraction'",
        ),
        (
            "leases",
            "select sum(lease_epoch) from workflow_execution where workflow_type = 'extraction'",
        ),
    ] {
        assert_eq!(ground.number(sql).await, 5 * 40, "{what}");
    }
}

/// A worker that lacks the extractor is through with a document at once.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_can_not_work_them_takes_no_further_ones_up() {
    let mut drill = Drill::new().await;
    drill.start(Extractors::default(), quick()).await;
    let ground = Arc::clone(&drill.ground);
    let spec = few_at_a_time("lacking", 2);
    let batch = ground.submit(&spec, documents(10)).await;
    poll("all were tried", async || {
        let tried = "select count(distinct workflow_execution_id) from workflow_activity where status <> 'running'";
        (ground.number(tried).await == 10).then_some(())
    })
    .await;
    assert_eq!(leased_with_their_admission(&ground, batch).await, 0);
    drill.stop().await;
    drill.start_plain().await;
    assert_eq!(drill.ends(batch).await.counts.completed, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_gives_back_what_it_had_just_leased() {
    let mut drill = Drill::new().await;
    let ground = Arc::clone(&drill.ground);
    let spec = few_at_a_time("stopped", 4);
    let batch = ground.submit(&spec, documents(120)).await;
    for stops in 1..=5 {
        drill.start_plain().await;
        poll("documents are through", async || {
            let through = "select count(*) from workflow_execution where status = 'completed'";
            (ground.number(through).await >= 20 * stops).then_some(())
        })
        .await;
        drill.stop().await;
        for (what, sql) in [
            (
                "held",
                "select count(*) from workflow_execution where lease_owner is not null",
            ),
            (
                "running",
                "select count(*) from workflow_activity where status = 'running'",
            ),
        ] {
            assert_eq!(ground.number(sql).await, 0, "{what} after {stops} stops");
        }
    }
    assert!(leased_with_their_admission(&ground, batch).await > 0);
    drill.start_plain().await;
    assert_eq!(drill.ends(batch).await.counts.completed, 120);
    let lost = "select count(*) from workflow_activity where error ->> 'code' = 'lease_lost'";
    assert_eq!(ground.number(lost).await, 0, "no lease ran out");
}
