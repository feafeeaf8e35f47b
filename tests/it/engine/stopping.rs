//! Work that is stopped in the middle: batches, documents, resolutions and workers.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use graphmill::{
    extractors::{Extractors, UnitName},
    flow::{BatchStateName, ExecutionStatus, FailureCode, Signal},
    store,
    workflow::{self, BatchSignalled, Submission, WorkflowService},
};
use graphmill_jobs::{BatchId, WorkflowExecutionId};

use crate::support::{Drill, Ground, OURS, Scripted, documents, new_batch, poll, quick};

/// Documents from `d{first}` on never end by themselves.
fn stuck_from(first: usize, begun: &Arc<AtomicUsize>) -> Scripted {
    let begun = Arc::clone(begun);
    Scripted::new(move |unit: UnitName| {
        let stuck = unit.document[1..].parse::<usize>().unwrap() >= first;
        begun.fetch_add(usize::from(stuck), Ordering::SeqCst);
        async move {
            if stuck {
                pending::<()>().await;
            }
            Ok(())
        }
    })
}

async fn signal(ground: &Ground, id: WorkflowExecutionId, signal: Signal) -> Option<String> {
    let service = WorkflowService::new(ground.store.clone(), OURS);
    service.signal(id, signal).await.unwrap().unwrap().outcome
}

async fn cancel(ground: &Ground, id: WorkflowExecutionId) -> Option<String> {
    signal(ground, id, Signal::Cancel).await
}

async fn cancel_batch(ground: &Ground, batch: BatchId) -> bool {
    let done = workflow::signal_batch(&ground.store, OURS, batch, Signal::Cancel).await;
    done.unwrap() == BatchSignalled::Done
}

async fn begun(count: &AtomicUsize, wanted: usize) {
    poll("documents are in work", async || {
        (count.load(Ordering::SeqCst) >= wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cancelled_stops_what_is_in_work_and_keeps_what_is_done() {
    let stuck = Arc::default();
    let mut drill = Drill::with(stuck_from(5, &stuck)).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("cancelled"), documents(30)).await;
    begun(&stuck, 5).await;
    let completed = "select count(*) from workflow_execution where status = 'completed'";
    ground.until("five are completed", completed, 5).await;
    assert!(cancel_batch(&ground, batch).await);
    assert!(!cancel_batch(&ground, batch).await);
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Cancelled);
    assert_eq!((ended.counts.completed, ended.counts.cancelled), (5, 25));
    assert!(!cancel_batch(&ground, batch).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cancelled_before_its_seal_ends_too() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let ground = Arc::clone(&drill.ground);
    let mut submission = Submission::open(&ground.store, OURS, &new_batch("cut-off"))
        .await
        .unwrap();
    let batch = submission.batch();
    for document in documents(500) {
        submission.add(document).await.unwrap();
    }
    assert!(cancel_batch(&ground, batch).await);
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Cancelled);
    assert_eq!(ended.counts.accepted, 500);
    for document in documents(501).split_off(500) {
        submission.add(document).await.unwrap();
    }
    submission
        .seal()
        .await
        .expect_err("nothing is added to an ended batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_delivered_with_the_move_or_too_late() {
    let stuck = Arc::default();
    let mut drill = Drill::with(stuck_from(3, &stuck)).await;
    let ground = Arc::clone(&drill.ground);
    // Of seven documents five are in processing at most: the last one that is stuck waits.
    let batch = ground.submit(&new_batch("signals"), documents(9)).await;
    begun(&stuck, 5).await;
    let id = async |document: &str| ground.execution(batch, document).await;
    assert_eq!(
        cancel(&ground, id("d0").await).await.as_deref(),
        Some("too_late")
    );
    let queued =
        "select d.external_id from workflow_execution e join document d on d.id = e.document_id
                  where e.status = 'queued'";
    let queued = ground.text(queued).await;
    assert_eq!(
        cancel(&ground, id(&queued).await).await.as_deref(),
        Some("delivered")
    );
    for number in 3..9 {
        let name = format!("d{number}");
        if name == queued {
            continue;
        }
        let outcome = cancel(&ground, id(&name).await).await;
        assert_eq!(outcome, None, "{name}: its holder has to let go of it");
    }
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!((ended.counts.completed, ended.counts.cancelled), (3, 6));
    let outcomes = "select outcome from workflow_signal where delivered_at is not null order by 1";
    let outcomes = ground.texts(outcomes).await;
    assert_eq!(outcomes.len(), 7);
    assert_eq!(outcomes.iter().filter(|one| *one == "delivered").count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_resolution_is_cancelled_ends() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("resolution"), Vec::new()).await;
    let mut connection = ground.store.engine().await.unwrap();
    store::start_resolution(&mut connection, OURS, batch, 1)
        .await
        .unwrap();
    drop(connection);
    let id: uuid::Uuid = ground
        .text("select id from workflow_execution where workflow_type = 'resolution'")
        .await
        .parse()
        .unwrap();
    assert_eq!(
        cancel(&ground, id.into()).await.as_deref(),
        Some("delivered")
    );
    let mut drill = Drill::over(ground);
    drill
        .start(Extractors::default().with(Scripted::plain()), quick())
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_hands_back_what_it_can_not_finish() {
    let stuck = Arc::default();
    let mut drill = Drill::with(stuck_from(0, &stuck)).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("drained"), documents(5)).await;
    begun(&stuck, 5).await;
    drill.stop_within(Duration::from_millis(50)).await;
    let held = "select count(*) from workflow_execution where lease_owner is not null";
    assert_eq!(ground.number(held).await, 0);
    assert_eq!(
        ground.number("select count(*) from worker").await,
        0,
        "it signed off"
    );
    let mut read = ground.app().await;
    for execution in store::executions(&mut read, OURS, batch, None, 10)
        .await
        .unwrap()
    {
        assert_eq!(
            execution.status,
            ExecutionStatus::Processing,
            "no try is lost"
        );
        let attempts = store::activities(&mut read, OURS, execution.id)
            .await
            .unwrap();
        let last = attempts.last().unwrap();
        assert_eq!(last.error.as_ref().unwrap().code, FailureCode::HandedBack);
    }
    drop(read);
    drill
        .start(Extractors::default().with(Scripted::plain()), quick())
        .await;
    assert_eq!(drill.ends(batch).await.counts.completed, 5);
}
