//! How far a batch is, seen in the middle of it: what is said is what the rows say, and no time is made up.

use std::{collections::BTreeSet, sync::Arc};

use graphmill::{
    extractors::UnitName,
    flow::Stage,
    workflow::{self, BatchStatus, NewBatch},
};
use graphmill_jobs::BatchId;
use tokio::sync::Semaphore;

use crate::support::{Drill, OURS, Scripted, documents, new_batch, poll};

async fn status(drill: &Drill, batch: BatchId) -> BatchStatus {
    let status = workflow::status(&drill.ground.store, OURS, batch).await;
    status.unwrap().unwrap()
}

/// Documents through each stage, and in all.
fn stages(status: &BatchStatus) -> Vec<(u64, u64)> {
    let stages = status.progress.stages.iter();
    stages
        .map(|stage| (stage.done.current, stage.done.total))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_told_by_stage_while_documents_are_in_work() {
    let gate = Arc::new(Semaphore::new(0));
    let at_gate = Arc::clone(&gate);
    // No document gets through its relations until the gate is opened.
    let extractor = Scripted::new(move |unit: UnitName| {
        let gate = Arc::clone(&at_gate);
        async move {
            if unit.stage == Stage::Relations.as_str() {
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let mut drill = Drill::with(extractor).await;
    let batch = NewBatch {
        concurrency: 3,
        ..new_batch("middle")
    };
    let batch = drill.ground.submit(&batch, documents(8)).await;
    let seen = poll("three documents are at the gate", async || {
        let seen = status(&drill, batch).await;
        (stages(&seen)[2].0 == 3).then_some(seen)
    })
    .await;
    assert_eq!(
        stages(&seen),
        [(3, 8), (3, 8), (3, 8), (0, 8), (0, 8), (0, 1)]
    );
    assert_eq!((seen.progress.in_work, seen.progress.waiting), (3, 5));
    assert_eq!(seen.progress.documents.current, 0);
    assert_eq!(seen.stage, Some(Stage::Relations));
    assert_eq!(seen.progress.stages[0].done.percent.to_string(), "37.5");
    // Nothing has ended: nobody knows how long it takes.
    assert_eq!(seen.progress.documents_per_minute, None);
    assert_eq!(seen.progress.seconds_left, None);
    gate.add_permits(4);
    let seen = poll("some documents have ended", async || {
        let seen = status(&drill, batch).await;
        (seen.progress.documents.current >= 3).then_some(seen)
    })
    .await;
    assert!(seen.report.entities > 0 && seen.report.relations > 0);
    gate.add_permits(1000);
    let ended = drill.ends(batch).await;
    let seen = status(&drill, batch).await;
    assert_eq!(
        stages(&seen),
        [(8, 8), (8, 8), (8, 8), (8, 8), (8, 8), (1, 1)]
    );
    assert_eq!((seen.progress.in_work, seen.progress.waiting), (0, 0));
    assert_eq!(seen.progress.documents_per_minute, None);
    assert_eq!(seen.stage, Some(Stage::Resolve));
    assert!(ended.pace.is_some());
    // What the README shows has the same names.
    let readme = include_str!("../../README.md");
    let shown = readme
        .split("```json\n")
        .filter_map(|rest| serde_json::from_str(rest.split("```").next()?).ok())
        .find(|value: &serde_json::Value| value.get("in_work").is_some())
        .expect("the README shows how far a batch is");
    let real = serde_json::to_value(&seen.progress).unwrap();
    let keys = |value: &serde_json::Value| {
        let keys = value.as_object().unwrap().keys();
        keys.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(keys(&shown), keys(&real));
    assert_eq!(keys(&shown["stages"][0]), keys(&real["stages"][0]));
    assert_eq!(keys(&shown["documents"]), keys(&real["documents"]));
}
