//! Policies as users meet them: the plain case, what is tolerated, and how soon a batch that gives up is still.

use std::{future::pending, sync::Arc};

use graphmill::{
    extractors::{ExtractError, UnitName},
    flow::{BatchState, BatchStateName, FailurePolicy, Signal, Tolerance},
    pipeline::content_hash,
    store,
    workflow::{self, BatchSignalled, NewBatch, Submission, SubmitError},
};
use graphmill_jobs::BatchId;
use tokio::sync::watch;

use crate::support::{Drill, Ground, OURS, Scripted, documents, new_batch, poll};

/// Fails the documents from `d0` to before `d{below}`.
fn fails_below(below: usize) -> Scripted {
    Scripted::new(move |unit: UnitName| async move {
        if unit.document[1..].parse::<usize>().unwrap() < below {
            return Err(ExtractError::Terminal("unusable".to_owned()));
        }
        Ok(())
    })
}

fn tolerating(name: &str, tolerance: &str) -> NewBatch {
    NewBatch {
        tolerance: Some(tolerance.parse().unwrap()),
        ..new_batch(name)
    }
}

fn why(state: &BatchState) -> &str {
    let BatchState::Failed { error } = state else {
        panic!("{state:?}")
    };
    &error.message
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_documents_are_queued_and_all_complete() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let batch = drill.ground.submit(&new_batch("ten"), documents(10)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!((ended.counts.accepted, ended.counts.completed), (10, 10));
    assert_eq!(drill.ground.told(batch, "DocumentCompleted").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tolerated_goes_on_and_what_is_not_ends_the_batch() {
    let mut drill = Drill::with(fails_below(2)).await;
    let ground = Arc::clone(&drill.ground);
    for (name, tolerance) in [("two", "2"), ("tenth", "10%")] {
        let batch = tolerating(name, tolerance);
        let batch = ground.submit(&batch, documents(20)).await;
        let ended = ground.ended(batch).await;
        assert_eq!(ended.state.name(), BatchStateName::Completed);
        assert_eq!((ended.counts.completed, ended.counts.abandoned), (18, 2));
    }
    let one = ground.submit(&tolerating("one", "1"), documents(200)).await;
    let ended = ground.ended(one).await;
    assert_eq!(ended.state.name(), BatchStateName::Failed);
    assert_eq!(ended.counts.abandoned, 2);
    assert!(
        ended.counts.cancelled > 0,
        "the rest is not worked: {ended:?}"
    );
    assert_eq!(
        why(&ended.state),
        "2 documents were abandoned, more than the batch puts up with (max-failures 1)"
    );
    let none = ground.submit(&tolerating("none", "0"), documents(3)).await;
    let ended = drill.ends(none).await;
    assert!(why(&ended.state).ends_with("(max-failures 0)"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_judged_when_all_documents_are_known() {
    let mut drill = Drill::with(fails_below(2)).await;
    let ground = Arc::clone(&drill.ground);
    let batch = tolerating("share", "10%");
    let mut submission = Submission::open(&ground.store, OURS, &batch).await.unwrap();
    let id = submission.batch();
    for document in documents(500) {
        submission.add(document).await.unwrap();
    }
    // Two of the first five fail, and the batch goes on: it is not sealed.
    let abandoned = "select count(*) from workflow_execution where status = 'abandoned'";
    ground.until("two are abandoned", abandoned, 2).await;
    poll("that is folded", async || {
        (ground.batch(id).await.counts.abandoned == 2).then_some(())
    })
    .await;
    let stopping = "select count(*) from batch where stopping is not null";
    assert_eq!(
        ground.number(stopping).await,
        0,
        "hundreds more may succeed"
    );
    submission.seal().await.unwrap();
    poll("the seal is folded", async || {
        ground.batch(id).await.counts.sealed.then_some(())
    })
    .await;
    assert_eq!(ground.number(stopping).await, 0, "two of 500 are tolerated");
    let cancelled = workflow::signal_batch(&ground.store, OURS, id, Signal::Cancel).await;
    assert_eq!(cancelled.unwrap(), BatchSignalled::Done);
    drill.ends(id).await;
}

async fn kept_open(ground: &Ground, batch: &NewBatch, count: usize) -> BatchId {
    let mut submission = Submission::open(&ground.store, OURS, batch).await.unwrap();
    let id = submission.batch();
    for document in documents(count) {
        submission.add(document).await.unwrap();
    }
    submission.finish(true).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_batch_that_gives_up_ends_by_itself() {
    let mut drill = Drill::with(fails_below(2)).await;
    let ground = Arc::clone(&drill.ground);
    let abort_all = NewBatch {
        policy: FailurePolicy::AbortAll,
        ..new_batch("abort-all")
    };
    for (batch, reason) in [
        (abort_all, "policy is abort-all"),
        (tolerating("one", "1"), "(max-failures 1)"),
        (tolerating("none", "0%"), "(max-failures 0%)"),
    ] {
        let id = kept_open(&ground, &batch, 200).await;
        let ended = ground.ended(id).await;
        assert!(why(&ended.state).ends_with(reason), "{ended:?}");
        assert!(ended.counts.cancelled > 0 && ended.sealed, "{ended:?}");
        for (event, times) in [("BatchKeptOpen", 1), ("BatchSealed", 1), ("BatchFailed", 1)] {
            assert_eq!(ground.told(id, event).await, times, "{event}");
        }
        let sealed = workflow::seal_batch(&ground.store, OURS, id).await;
        assert!(matches!(sealed, Err(SubmitError::Illegal(_))), "{sealed:?}");
    }
    // Hundreds more may succeed.
    let open = kept_open(&ground, &tolerating("share", "5%"), 10).await;
    let rested = ground.at_rest(open).await;
    assert_eq!((rested.counts.abandoned, rested.sealed), (2, false));
    workflow::seal_batch(&ground.store, OURS, open)
        .await
        .unwrap();
    let ended = drill.ends(open).await;
    assert!(why(&ended.state).ends_with("(max-failures 5%)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_adds_while_an_open_batch_gives_up_is_counted() {
    let fail = watch::channel(false).0;
    let told = fail.subscribe();
    let mut drill = Drill::with(Scripted::new(move |_: UnitName| {
        let mut told = told.clone();
        async move {
            told.wait_for(|&it| it).await.unwrap();
            Err(ExtractError::Terminal("unusable".to_owned()))
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let id = kept_open(&ground, &tolerating("busy", "0"), 1).await;
    // A step that is not committed before the batch gives up.
    let mut adding = ground.app().await;
    let late = &documents(9)[8];
    let row = store::DocumentRow {
        external_id: &late.id,
        title: None,
        source_uri: None,
        text: &late.text,
        content_hash: content_hash(&late.text),
        metadata: &late.metadata,
    };
    store::add_documents(&mut adding, OURS, id, &[row])
        .await
        .unwrap();
    fail.send_replace(true);
    let stopping = "select count(*) from batch where stopping = 'abort'";
    ground.until("it gives up", stopping, 1).await;
    // A level look of the sequencer, which comes every second, does not seal it either.
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 1500 {
        let waiting = ground.batch(id).await;
        assert!(!waiting.sealed && !waiting.state.name().has_ended());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    adding.commit().await.unwrap();
    let ended = drill.ends(id).await;
    assert_eq!(ended.state.name(), BatchStateName::Failed);
    assert_eq!(
        (
            ended.counts.accepted,
            ended.counts.abandoned,
            ended.counts.cancelled
        ),
        (2, 1, 1)
    );
}

/// By the database's clock, from the settle that abandons a document to the last settle of those in work.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_gives_up_is_still_within_a_second() {
    let (all_in_work, fail) = (Arc::new(watch::channel(0).0), watch::channel(false).0);
    let (counted, told) = (Arc::clone(&all_in_work), fail.subscribe());
    let mut drill = Drill::with(Scripted::new(move |unit: UnitName| {
        let mut told = told.clone();
        counted.send_modify(|count| *count += 1);
        async move {
            if &*unit.document == "d0" {
                told.wait_for(|&it| it).await.unwrap();
                return Err(ExtractError::Terminal("unusable".to_owned()));
            }
            // A call that takes for ever.
            pending().await
        }
    }))
    .await;
    for (name, policy, tolerance) in [
        ("abort", FailurePolicy::AbortAll, None),
        (
            "tolerance",
            FailurePolicy::ContinueOnFailure,
            Some(Tolerance::Documents(0)),
        ),
    ] {
        all_in_work.send_replace(0);
        fail.send_replace(false);
        let batch = NewBatch {
            policy,
            tolerance,
            concurrency: 8,
            ..new_batch(name)
        };
        let batch = drill.ground.submit(&batch, documents(200)).await;
        let mut count = all_in_work.subscribe();
        count.wait_for(|&count| count == 8).await.unwrap();
        fail.send_replace(true);
        let ended = drill.ground.ended(batch).await;
        assert_eq!((ended.counts.abandoned, ended.counts.cancelled), (1, 199));
        let still_after = format!(
            "select (extract(epoch from max(completed_at) - min(completed_at) filter (where status = 'abandoned'))
                     * 1000)::bigint
             from workflow_execution where batch_id = '{}'",
            batch.uuid()
        );
        let still_after = drill.ground.number(still_after).await;
        println!("{name}: still after {still_after} ms");
        // A second on a machine of one's own; what matters is that no call that takes for ever is waited for.
        assert!(still_after <= 5000, "{still_after} ms");
    }
    drill.stop().await;
}
