//! Every reader of a batch's documents and executions sees what is current, and nothing that was withdrawn.

use graphmill::{
    extractors::ExtractError,
    flow::{FailurePolicy, Signal},
    store,
    workflow::BatchSignalled,
};

use super::*;

/// `d0` is given up, `d1` is partial, `d2` and `d3` complete; `broken` is refused, and `copy` a duplicate.
async fn ended_with_everything(ground: &Ground) -> BatchId {
    let mut spec = new_batch("readers");
    spec.policy = FailurePolicy::ContinueOnFailure;
    spec.settings.allow_partial = true;
    spec.settings.chunks.chars = 120;
    let mut submission = Submission::open(&ground.store, OURS, &spec).await.unwrap();
    let batch = submission.batch();
    for number in 0..4 {
        submission.add(version(number, 0)).await.unwrap();
    }
    let copy = NewDocument::new("copy", version(2, 0).text);
    submission.add(copy).await.unwrap();
    let failure =
        graphmill::flow::Failure::terminal(graphmill::flow::FailureCode::Empty, "it is empty");
    submission
        .refuse("broken".to_owned(), failure)
        .await
        .unwrap();
    submission.seal().await.unwrap();
    ground.ended(batch).await;
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withdrawn_is_in_no_report_and_is_not_tried_again() {
    let mut drill = Drill::with(Scripted::new(|unit| {
        let fails = unit.stage == "mentions"
            && (&*unit.document == "d0" || &*unit.document == "d1" && unit.unit == 0);
        async move {
            if fails {
                return Err(ExtractError::Terminal("no".to_owned()));
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let batch = ended_with_everything(&ground).await;
    let counts = ground.batch(batch).await.counts;
    assert_eq!(
        (counts.abandoned, counts.partial, counts.completed),
        (1, 1, 3)
    );
    assert_eq!((counts.refused, counts.duplicate), (1, 1));
    let details = workflow::details(&ground.store, OURS, batch)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(details.status.report.failures.len(), 3);
    assert_eq!(details.failed_units.len(), 3, "two of d0, one of d1");

    let dropped = "insert into dropped_item (organization_id, workflow_execution_id, stage, unit, reason, count)
                   select organization_id, id, 'mentions', 0, 'ungrounded', 1 from workflow_execution
                   where workflow_type = 'extraction'";
    assert_eq!(ground.execute(dropped).await, Ok(4));
    remove(&ground, batch, &["d0", "d1", "d3", "broken", "copy"]).await;
    let counts = ground.ended(batch).await.counts;
    assert_eq!(
        (counts.abandoned, counts.partial, counts.completed),
        (0, 0, 1)
    );
    assert_eq!((counts.refused, counts.duplicate), (0, 0));
    assert_eq!((counts.abandoned_before, counts.submitted()), (0, 1));
    let details = workflow::details(&ground.store, OURS, batch)
        .await
        .unwrap()
        .unwrap();
    assert!(details.status.report.failures.is_empty(), "{details:?}");
    assert!(details.failed_units.is_empty(), "{details:?}");
    let documents: Vec<_> = details
        .executions
        .iter()
        .filter_map(|execution| execution.document.as_deref())
        .collect();
    assert_eq!(documents, ["d2"]);
    let stages = &details.status.progress.stages;
    let through: Vec<_> = (stages.iter())
        .map(|stage| (stage.done.current, stage.done.total))
        .collect();
    assert_eq!(through, [(1, 1); 6]);
    let mut read = ground.app().await;
    let page = store::document_page(&mut read, OURS, batch, None, 100)
        .await
        .unwrap();
    let ids: Vec<&str> = page.iter().map(|row| row.external_id.as_str()).collect();
    assert_eq!(ids, ["d2"]);
    let dropped = store::dropped_counts(&mut read, OURS, batch).await.unwrap();
    assert_eq!(
        dropped,
        [("mentions".to_owned(), "ungrounded".to_owned(), 1)]
    );
    drop(read);
    let retried = workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry).await;
    assert_eq!(retried.unwrap(), BatchSignalled::Nothing);
    assert_eq!(ground.batch(batch).await.generation, 2);
    // Nor by itself.
    let gone = ground
        .text(
            "select e.id::text from workflow_execution e join document d on d.id = e.document_id
               where d.external_id = 'd0'",
        )
        .await;
    let gone = graphmill_jobs::WorkflowExecutionId::from(gone.parse::<uuid::Uuid>().unwrap());
    let asked = workflow::signal_execution(&ground.store, OURS, gone, Signal::Retry).await;
    assert_eq!(asked.unwrap().unwrap().outcome.as_deref(), Some("too_late"));
    assert_eq!(ground.batch(batch).await.generation, 2);
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_change_takes_up_what_is_left_and_counts_it_right() {
    let failing = Arc::new(Mutex::new(true));
    let flag = Arc::clone(&failing);
    let mut drill = Drill::with(Scripted::new(move |unit| {
        let fails = unit.stage == "mentions" && *flag.lock().unwrap() && unit.unit == 0;
        async move {
            if fails {
                return Err(ExtractError::Terminal("no".to_owned()));
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let first = (0..3).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("retried"), first).await;
    let ended = ground.ended(batch).await;
    assert_eq!(
        (ended.state.name().as_str(), ended.counts.abandoned),
        ("Failed", 3)
    );
    *failing.lock().unwrap() = false;
    // What had failed and is replaced is given up no longer; what is not stays so.
    add(&ground, batch, vec![version(0, 1)]).await.unwrap();
    let ended = ground.ended(batch).await;
    let counts = ended.counts;
    assert_eq!(
        (ended.state.name().as_str(), counts.completed),
        ("Completed", 1)
    );
    assert_eq!((counts.abandoned, counts.abandoned_before), (2, 2));
    let retried = workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry).await;
    assert_eq!(retried.unwrap(), BatchSignalled::Retrying(2));
    ground.ended(batch).await;
    let now = [version(0, 1), version(1, 0), version(2, 0)];
    assert_holds(&ground, batch, now.to_vec()).await;
    drill.stop().await;
}
