//! Units that fail, and what the policies make of it.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use graphmill::{
    extractors::{ExtractError, UnitName},
    flow::{BatchStateName, EventKind, FailureCode, FailurePolicy, Stage},
    store::{self, UnitEnd},
    workflow::NewBatch,
};

use tokio::sync::watch;

use crate::support::{Drill, OURS, Scripted, documents, new_batch};

/// How often each unit was begun.
#[derive(Clone, Default)]
struct Tries(Arc<Mutex<HashMap<String, usize>>>);

impl Tries {
    /// Counts a try; returns how many there were before.
    fn begin(&self, unit: &UnitName) -> usize {
        let mut tries = self.0.lock().unwrap();
        let count = tries.entry(unit.to_string()).or_default();
        *count += 1;
        *count - 1
    }

    fn of(&self, unit: &str) -> usize {
        self.0.lock().unwrap().get(unit).copied().unwrap_or(0)
    }
}

/// Fails the `mentions` of documents for which `how_often` says so, that many times.
fn failing(tries: &Tries, how_often: impl Fn(&str) -> usize + Send + Sync + 'static) -> Scripted {
    let tries = tries.clone();
    Scripted::new(move |unit| {
        let before = tries.begin(&unit);
        let fails = unit.stage == "mentions" && before < how_often(&unit.document);
        async move {
            if fails {
                return Err(ExtractError::Transient("no answer".to_owned()));
            }
            Ok(())
        }
    })
}

const ALWAYS: usize = usize::MAX;

fn under(policy: FailurePolicy, max_retries: u32, name: &str) -> NewBatch {
    NewBatch {
        policy,
        max_retries,
        ..new_batch(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_fails_twice_is_tried_a_third_time() {
    let tries = Tries::default();
    let mut drill = Drill::with(failing(&tries, |id| if id == "d1" { 2 } else { 0 })).await;
    let batch = drill.ground.submit(&new_batch("third"), documents(3)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.completed, 3);
    assert_eq!(tries.of("d1/mentions/0"), 3);
    assert_eq!(tries.of("d1/entities/0"), 1);
    let ground = &drill.ground;
    assert_eq!(ground.told(batch, "StageRetried").await, 2);
    let id = ground.execution(batch, "d1").await;
    let mut read = ground.app().await;
    let units = store::checkpoints_of(&mut read, OURS, id).await.unwrap();
    let unit = units
        .iter()
        .find(|unit| unit.stage == Stage::Mentions)
        .unwrap();
    assert_eq!(unit.tries, 3);
    assert!(matches!(unit.end, UnitEnd::Done(_)));
    let execution = store::execution_by_id(&mut read, OURS, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(execution.error, None, "a completed document has no error");
    let attempts = store::activities(&mut read, OURS, id).await.unwrap();
    let of_stage: Vec<i32> = attempts
        .iter()
        .filter(|one| one.stage == Stage::Mentions)
        .map(|one| one.attempt)
        .collect();
    assert_eq!(of_stage, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_out_of_tries_is_abandoned_and_the_others_go_on() {
    let tries = Tries::default();
    let mut drill = Drill::with(failing(&tries, |id| if id == "d0" { ALWAYS } else { 0 })).await;
    let batch = drill
        .ground
        .submit(&new_batch("goes-on"), documents(6))
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!((ended.counts.completed, ended.counts.abandoned), (5, 1));
    assert_eq!(tries.of("d0/mentions/0"), 3, "the first and two retries");
    let mut read = drill.ground.app().await;
    let failures = store::failures(&mut read, OURS, batch, 10).await.unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].external_id, "d0");
    assert_eq!(failures[0].failure.code, FailureCode::Extractor);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_which_nothing_succeeds_fails() {
    let mut drill = Drill::with(failing(&Tries::default(), |_| ALWAYS)).await;
    let batch = drill
        .ground
        .submit(&new_batch("nothing"), documents(4))
        .await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Failed);
    assert_eq!(ended.counts.abandoned, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_all_cancels_the_rest_those_in_work_too() {
    let mut drill = Drill::with(Scripted::new(|unit: UnitName| async move {
        if &*unit.document == "d0" {
            return Err(ExtractError::Terminal("unusable".to_owned()));
        }
        // What is in work would never end by itself.
        pending().await
    }))
    .await;
    let batch = under(FailurePolicy::AbortAll, 0, "abort");
    let batch = drill.ground.submit(&batch, documents(12)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Failed);
    assert_eq!((ended.counts.abandoned, ended.counts.cancelled), (1, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_documents_get_another_round_when_the_others_are_through() {
    let tries = Tries::default();
    let mut drill = Drill::with(failing(&tries, |id| if id == "d2" { 3 } else { 0 })).await;
    let batch = under(FailurePolicy::RetryFailed, 2, "round");
    let batch = drill.ground.submit(&batch, documents(5)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.completed, 5);
    assert_eq!(tries.of("d2/mentions/0"), 4);
    let id = drill.ground.execution(batch, "d2").await;
    assert_eq!(drill.ground.column(id, "round").await, "1");
    let events = drill.ground.events(batch).await;
    let at = |name: &str| {
        let mut found = events.iter().filter(|event| event.kind.name() == name);
        let position = found.next().unwrap().position;
        assert!(found.next().is_none(), "one {name}");
        position
    };
    let (failed, revived) = (at("DocumentFailed"), at("DocumentRevived"));
    assert!(failed < revived);
    let completed_before = events.iter().filter(|event| {
        event.position < revived && matches!(event.kind, EventKind::DocumentCompleted { .. })
    });
    assert_eq!(completed_before.count(), 4, "the others were through");
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_end() {
    let tries = Tries::default();
    let mut drill = Drill::with(failing(&tries, |id| if id == "d2" { ALWAYS } else { 0 })).await;
    let mut batch = under(FailurePolicy::RetryFailed, 2, "rounds-end");
    batch.settings.units.retry.retries = 1;
    let batch = drill.ground.submit(&batch, documents(3)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!((ended.counts.completed, ended.counts.abandoned), (2, 1));
    assert_eq!(
        tries.of("d2/mentions/0"),
        6,
        "two tries in each of three rounds"
    );
    let id = drill.ground.execution(batch, "d2").await;
    assert_eq!(drill.ground.column(id, "round").await, "2");
    let mut rounds = Vec::new();
    for event in drill.ground.events(batch).await {
        if let EventKind::DocumentRevived { round } = event.kind {
            rounds.push(round);
        }
    }
    assert_eq!(rounds, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_a_hang_is_a_failed_try_and_the_worker_lives() {
    let tries = Tries::default();
    let counted = tries.clone();
    let mut drill = Drill::with(Scripted::new(move |unit: UnitName| {
        let before = counted.begin(&unit);
        async move {
            match (&*unit.document, unit.stage) {
                ("d0", "mentions") if before == 0 => panic!("the extractor of this test panics"),
                ("d1", "relations") if before == 0 => pending().await,
                ("d2", "entities") => panic!("the extractor of this test always panics"),
                ("d3", "mentions") => pending().await,
                _ => Ok(()),
            }
        }
    }))
    .await;
    let mut batch = new_batch("panics");
    batch.settings.units.soft_timeout = Duration::from_millis(100);
    batch.settings.units.hard_timeout = Duration::from_millis(200);
    let batch = drill.ground.submit(&batch, documents(6)).await;
    let ended = drill.ends(batch).await;
    assert_eq!((ended.counts.completed, ended.counts.abandoned), (4, 2));
    for unit in ["d0/mentions/0", "d1/relations/0"] {
        assert_eq!(tries.of(unit), 2, "{unit}");
    }
    let mut read = drill.ground.app().await;
    let failures = store::failures(&mut read, OURS, batch, 10).await.unwrap();
    let mut why: Vec<_> = failures
        .iter()
        .map(|one| (one.external_id.as_str(), one.failure.code.as_str()))
        .collect();
    why.sort_unstable();
    assert_eq!(why, [("d2", "panic"), ("d3", "timeout")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_can_not_be_read_fails_its_document_and_no_other() {
    let spoiled = Arc::new(watch::channel(false).0);
    let open = Arc::clone(&spoiled);
    let mut drill = Drill::with(Scripted::new(move |unit: UnitName| {
        let mut open = open.subscribe();
        async move {
            if &*unit.document == "d0" {
                open.wait_for(|&it| it).await.unwrap();
                // The retry reads the checkpoints again; what this process has just settled it would not.
                return Err(ExtractError::Transient("once more".to_owned()));
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("corrupt"), documents(3)).await;
    let id = ground.execution(batch, "d0").await.uuid();
    let of_d0 = format!("where workflow_execution_id = '{id}' and stage = 'chunk'");
    let cut = format!("select count(*) from checkpoint {of_d0}");
    ground.until("it is cut", &cut, 1).await;
    let spoil = format!("update checkpoint set output = '[{{\"nonsense\": 1}}]' {of_d0}");
    assert_eq!(ground.execute(spoil).await, Ok(1));
    spoiled.send_replace(true);
    let ended = drill.ends(batch).await;
    assert_eq!((ended.counts.completed, ended.counts.abandoned), (2, 1));
    let mut read = ground.app().await;
    let failures = store::failures(&mut read, OURS, batch, 10).await.unwrap();
    assert_eq!(failures[0].failure.code, FailureCode::Corrupt);
}
