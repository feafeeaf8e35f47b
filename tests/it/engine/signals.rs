//! Pause, resume and retry, of a document and of a batch, while workers are at it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use graphmill::{
    extractors::{ExtractError, UnitName},
    flow::{BatchStateName, FailurePolicy, RetryPolicy, Signal},
    pipeline::NewDocument,
    workflow::{self, BatchSignalled, NewBatch, WorkflowService},
};
use graphmill_jobs::{BatchId, WorkflowExecutionId};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::support::{Drill, Ground, OURS, Scripted, documents, new_batch, poll, without_ids};

/// Counts the units that were begun, and lets each one go on when there is a permit.
#[derive(Clone)]
struct Gate {
    begun: Arc<Mutex<HashMap<String, usize>>>,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn new(permits: usize) -> Self {
        Self {
            begun: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    fn open(&self) {
        self.permits.add_permits(100_000);
    }

    /// An extractor behind the gate; units for which `fails` holds fail.
    fn extractor(&self, fails: impl Fn(&UnitName) -> bool + Send + Sync + 'static) -> Scripted {
        let gate = self.clone();
        Scripted::new(move |unit| {
            let gate = gate.clone();
            *gate
                .begun
                .lock()
                .unwrap()
                .entry(unit.to_string())
                .or_default() += 1;
            let fails = fails(&unit);
            async move {
                if let Ok(permit) = gate.permits.acquire().await {
                    permit.forget();
                }
                if fails {
                    return Err(ExtractError::Terminal("no".to_owned()));
                }
                Ok(())
            }
        })
    }

    fn begun(&self) -> HashMap<String, usize> {
        self.begun.lock().unwrap().clone()
    }

    async fn until_begun(&self, units: usize) {
        poll("units are in work", async || {
            (self.begun().len() >= units).then_some(())
        })
        .await;
    }
}

fn never(_: &UnitName) -> bool {
    false
}

async fn signal(ground: &Ground, id: WorkflowExecutionId, signal: Signal) -> Option<String> {
    let service = WorkflowService::new(ground.store.clone(), OURS);
    service.signal(id, signal).await.unwrap().unwrap().outcome
}

async fn signal_batch(ground: &Ground, id: BatchId, signal: Signal) -> BatchSignalled {
    let done = workflow::signal_batch(&ground.store, OURS, id, signal).await;
    done.unwrap()
}

/// One document of many chunks, worked one by one.
fn long(name: &str) -> (NewBatch, Vec<NewDocument>) {
    let mut batch = new_batch(name);
    batch.settings.parallel_chunks = 1;
    let text: Vec<String> = documents(60).into_iter().map(|one| one.text).collect();
    (batch, vec![NewDocument::new("long", text.join("\n\n"))])
}

async fn graph(ground: &Ground, batch: BatchId) -> Value {
    let format = graphmill::graph::ExportFormat::Json;
    let json = workflow::export(&ground.store, OURS, batch, format, Vec::new()).await;
    let mut graph = without_ids(&serde_json::from_slice(&json.unwrap()).unwrap());
    forget_confidences(&mut graph);
    graph
}

/// How sure the local extractor is of a class depends on the group that a mention was asked about in.
fn forget_confidences(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("confidence");
            members.values_mut().for_each(forget_confidences);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_confidences),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_pauses_at_its_next_unit_and_goes_on_where_it_stopped() {
    let gate = Gate::new(1);
    let mut drill = Drill::with(gate.extractor(never)).await;
    let ground = Arc::clone(&drill.ground);
    let (spec, document) = long("paused");
    let batch = ground.submit(&spec, document).await;
    // One unit is through, the second one is in work.
    gate.until_begun(2).await;
    let id = ground.execution(batch, "long").await;
    assert_eq!(signal(&ground, id, Signal::Pause).await, None);
    // Its holder lets the unit go on to its checkpoint, and begins no other.
    let flagged = "select count(*) from workflow_execution where paused_at is not null";
    assert_eq!(ground.number(flagged).await, 1);
    // The flag is looked at every 300 ms; the unit is let through after it was seen, or before.
    tokio::time::sleep(Duration::from_millis(700)).await;
    gate.permits.add_permits(1);
    let given_back = "select count(*) from workflow_execution where status = 'retry'";
    ground.until("it is given back", given_back, 1).await;
    assert_eq!(gate.begun().len(), 2);
    let done = "select count(*) from checkpoint where stage = 'mentions' and outcome = 'done'";
    assert_eq!(
        ground.number(done).await,
        2,
        "what was in work has its checkpoint"
    );
    assert_eq!(
        ground.text("select outcome from workflow_signal").await,
        "delivered"
    );
    // A paused document is not admitted, and a pause of a paused one is one all the same.
    assert_eq!(
        signal(&ground, id, Signal::Pause).await.as_deref(),
        Some("delivered")
    );
    gate.open();
    assert_eq!(
        signal(&ground, id, Signal::Resume).await.as_deref(),
        Some("delivered")
    );
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 1);
    assert!(
        gate.begun().values().all(|&times| times == 1),
        "no unit was worked twice"
    );
    assert_eq!(
        signal(&ground, id, Signal::Resume).await.as_deref(),
        Some("too_late")
    );
    assert_eq!(ground.told(batch, "DocumentPaused").await, 1);
    assert_eq!(ground.told(batch, "DocumentResumed").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_document_keeps_no_slot() {
    let drill = Drill::new().await;
    let ground = Arc::clone(&drill.ground);
    let spec = NewBatch {
        concurrency: 1,
        ..new_batch("slots")
    };
    let batch = ground.submit(&spec, documents(3)).await;
    let first = ground.execution(batch, "d0").await;
    assert_eq!(
        signal(&ground, first, Signal::Pause).await.as_deref(),
        Some("delivered"),
        "nobody holds it"
    );
    let mut drill = drill;
    drill
        .start(
            graphmill::extractors::Extractors::default().with(Scripted::plain()),
            crate::support::quick(),
        )
        .await;
    let completed = "select count(*) from workflow_execution where status = 'completed'";
    ground.until("the others are through", completed, 2).await;
    assert_eq!(ground.column(first, "status").await, "queued");
    signal(&ground, first, Signal::Resume).await;
    assert_eq!(drill.ends(batch).await.counts.completed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_batch_begins_nothing_until_it_is_resumed() {
    let gate = Gate::new(0);
    let mut drill = Drill::with(gate.extractor(never)).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("paused"), documents(12)).await;
    gate.until_begun(5).await;
    assert_eq!(
        signal_batch(&ground, batch, Signal::Pause).await,
        BatchSignalled::Done
    );
    assert_eq!(
        signal_batch(&ground, batch, Signal::Pause).await,
        BatchSignalled::Nothing
    );
    tokio::time::sleep(Duration::from_millis(700)).await;
    gate.open();
    let held = "select count(*) from workflow_execution where lease_owner is not null";
    ground.until("every lease is given back", held, 0).await;
    let begun = gate.begun().len();
    // Rings for what was given back are answered by nobody.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gate.begun().len(), begun);
    assert_eq!(ground.number(held).await, 0);
    assert_eq!(
        signal_batch(&ground, batch, Signal::Resume).await,
        BatchSignalled::Done
    );
    assert_eq!(drill.ends(batch).await.counts.completed, 12);
    assert!(gate.begun().values().all(|&times| times == 1));
    assert_eq!(
        signal_batch(&ground, batch, Signal::Pause).await,
        BatchSignalled::Ended
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_next_try_comes_at_once_when_asked_to() {
    let tries = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&tries);
    let mut drill = Drill::with(Scripted::new(move |unit: UnitName| {
        let mut tries = counted.lock().unwrap();
        *tries += usize::from(unit.stage == "mentions");
        let fails = unit.stage == "mentions" && *tries <= 2;
        async move {
            if fails {
                return Err(ExtractError::Transient("not yet".to_owned()));
            }
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let mut spec = new_batch("waiting");
    spec.settings.units.retry = RetryPolicy {
        retries: 3,
        first: Duration::from_secs(3600),
        longest: Duration::from_secs(7200),
    };
    let batch = ground.submit(&spec, documents(1)).await;
    let waiting = "select count(*) from workflow_execution where status = 'retry'";
    ground.until("it waits", waiting, 1).await;
    let id = ground.execution(batch, "d0").await;
    assert_eq!(
        signal(&ground, id, Signal::Retry).await.as_deref(),
        Some("delivered")
    );
    let again = "select count(*) from workflow_activity
                 where activity_name = 'extract-mentions' and status = 'failed'";
    ground.until("it has failed twice", again, 2).await;
    ground.until("it waits again", waiting, 1).await;
    assert_eq!(
        signal_batch(&ground, batch, Signal::Retry).await,
        BatchSignalled::Retrying(1)
    );
    assert_eq!(drill.ends(batch).await.counts.completed, 1);
}

/// Documents 0 to 2 are given up, 3 and 4 partial; afterwards nothing fails any more.
async fn ended_with_failures(drill: &mut Drill, failing: &Arc<Mutex<bool>>) -> BatchId {
    let (spec, _) = long("retried");
    let spec = NewBatch {
        policy: FailurePolicy::ContinueOnFailure,
        ..spec
    };
    let mut spec = spec;
    spec.settings.allow_partial = true;
    let text = |number: usize| {
        let (_, mut long) = long("x");
        let text = long.pop().unwrap().text;
        NewDocument::new(format!("d{number}"), format!("Number {number}.\n\n{text}"))
    };
    *failing.lock().unwrap() = true;
    let batch = drill.ground.submit(&spec, (0..8).map(text).collect()).await;
    drill.ground.ended(batch).await;
    *failing.lock().unwrap() = false;
    batch
}

fn fails(failing: &Arc<Mutex<bool>>) -> impl Fn(&UnitName) -> bool + Send + Sync + 'static {
    let failing = Arc::clone(failing);
    move |unit| {
        let number: usize = unit.document[1..].parse().unwrap_or(9);
        *failing.lock().unwrap()
            && unit.stage == "mentions"
            && (number < 3 || number < 5 && unit.unit == 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_batch_works_what_failed_and_nothing_else() {
    let failing = Arc::new(Mutex::new(false));
    let gate = Gate::new(0);
    gate.open();
    let mut drill = Drill::with(gate.extractor(fails(&failing))).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ended_with_failures(&mut drill, &failing).await;
    let before = ground.batch(batch).await;
    assert_eq!(before.state.name(), BatchStateName::Completed);
    let counts = before.counts;
    assert_eq!(
        (counts.completed, counts.partial, counts.abandoned),
        (5, 2, 3)
    );
    let begun = gate.begun();

    assert_eq!(
        signal_batch(&ground, batch, Signal::Retry).await,
        BatchSignalled::Retrying(5)
    );
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    let counts = ended.counts;
    assert_eq!(
        (counts.completed, counts.partial, counts.abandoned),
        (8, 0, 0)
    );
    assert_eq!(ended.generation, 2);
    let details = workflow::details(&ground.store, OURS, batch).await.unwrap();
    assert!(details.unwrap().failed_units.is_empty(), "they are cured");
    for (unit, times) in gate.begun() {
        let earlier = begun.get(&unit).copied().unwrap_or(0);
        let number: usize = unit[1..2].parse().unwrap();
        let failed = unit.contains("/mentions/")
            && (number < 3 || number < 5 && unit.ends_with("/mentions/1"));
        let is_new = earlier == 0;
        // The chunk that failed, and those that overlap it, have names now that they had not.
        let has_more = (3..5).contains(&number)
            && ["/relations/0", "/relations/1", "/relations/2"]
                .iter()
                .any(|of| unit.ends_with(of));
        if !has_more {
            assert_eq!(times - earlier, usize::from(failed || is_new), "{unit}");
        }
    }
    assert_eq!(
        signal_batch(&ground, batch, Signal::Retry).await,
        BatchSignalled::Nothing
    );
    // The graph is that of a batch in which nothing failed.
    let (spec, _) = long("clean");
    let texts = ground
        .texts(format!(
            "select external_id || E'\\t' || text from document where batch_id = '{}' order by id",
            batch.uuid()
        ))
        .await;
    let again = texts
        .iter()
        .map(|line| {
            let (id, text) = line.split_once('\t').unwrap();
            NewDocument::new(id, text)
        })
        .collect();
    let mut spec = spec;
    spec.settings.allow_partial = true;
    let clean = ground.submit(&spec, again).await;
    ground.ended(clean).await;
    let (graph, wanted) = (graph(&ground, batch).await, graph(&ground, clean).await);
    for list in ["entities", "relations", "clusters"] {
        let (got, wanted) = (
            graph[list].as_array().unwrap(),
            wanted[list].as_array().unwrap(),
        );
        let differs = got.iter().find(|one| !wanted.contains(one));
        assert!(
            differs.is_none() && got.len() == wanted.len(),
            "{list}: {differs:?}"
        );
    }
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_document_of_an_ended_batch_is_retried_alone() {
    let failing = Arc::new(Mutex::new(false));
    let gate = Gate::new(0);
    gate.open();
    let mut drill = Drill::with(gate.extractor(fails(&failing))).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ended_with_failures(&mut drill, &failing).await;
    let (given_up, whole) = (
        ground.execution(batch, "d1").await,
        ground.execution(batch, "d7").await,
    );
    assert_eq!(
        signal(&ground, whole, Signal::Retry).await.as_deref(),
        Some("too_late")
    );
    assert_eq!(
        signal(&ground, given_up, Signal::Retry).await.as_deref(),
        Some("delivered")
    );
    let ended = ground.ended(batch).await;
    let counts = ended.counts;
    assert_eq!(
        (counts.completed, counts.partial, counts.abandoned),
        (6, 2, 2)
    );
    drill.stop().await;
}

/// As if the process that retried the batch had died after its first step: not sealed, and executions are missing.
async fn cut_off(ground: &Ground) {
    for cut in [
        "update batch set sealed_at = null",
        "delete from workflow_execution where generation = 2 and id in
             (select id from workflow_execution where generation = 2 order by id limit 2)",
        "delete from event_outbox where type = 'BatchSealed'",
    ] {
        ground.execute(cut).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_cut_off_is_finished_by_whatever_comes_next() {
    for next in ["retry", "retry twice at once", "retry of one", "cancel"] {
        let failing = Arc::new(Mutex::new(false));
        let gate = Gate::new(0);
        gate.open();
        let mut drill = Drill::with(gate.extractor(fails(&failing))).await;
        let ground = Arc::clone(&drill.ground);
        let batch = ended_with_failures(&mut drill, &failing).await;
        drill.stop().await;
        let given_up = ground.execution(batch, "d1").await;
        signal_batch(&ground, batch, Signal::Retry).await;
        cut_off(&ground).await;
        match next {
            "cancel" => {
                let done = signal_batch(&ground, batch, Signal::Cancel).await;
                assert_eq!(done, BatchSignalled::Done);
            }
            "retry of one" => {
                signal(&ground, given_up, Signal::Retry).await;
            }
            "retry" => {
                signal_batch(&ground, batch, Signal::Retry).await;
            }
            _ => {
                tokio::join!(
                    signal_batch(&ground, batch, Signal::Retry),
                    signal_batch(&ground, batch, Signal::Retry),
                );
            }
        }
        drill
            .start(
                graphmill::extractors::Extractors::default().with(gate.extractor(never)),
                crate::support::quick(),
            )
            .await;
        let counts = drill.ends(batch).await.counts;
        let wanted = if next == "cancel" { (3, 5) } else { (8, 0) };
        assert_eq!((counts.completed, counts.cancelled), wanted, "{next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_that_was_stopped_is_retried_without_a_document() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let ground = Arc::clone(&drill.ground);
    // Its settle waits for the lock, so that it can be stopped before.
    let mut lock = ground.store.app(OURS).await.unwrap();
    let batch = ground.submit(&new_batch("stopped"), documents(3)).await;
    sqlx::raw_sql("lock table cluster in share mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let leased = "select count(*) from workflow_execution
                  where workflow_type = 'resolution' and lease_owner is not null";
    ground.until("it is being resolved", leased, 1).await;
    signal_batch(&ground, batch, Signal::Cancel).await;
    // Its holder looks every 300 ms.
    tokio::time::sleep(Duration::from_millis(700)).await;
    lock.rollback().await.unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Cancelled);
    assert_eq!(
        signal_batch(&ground, batch, Signal::Retry).await,
        BatchSignalled::Retrying(0)
    );
    let ended = drill.ends(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(
        (ended.counts.completed, ended.counts.clusters > 0),
        (3, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_generation_gave_up_does_not_abort_the_next() {
    let failing = Arc::new(Mutex::new(true));
    let gate = Gate::new(0);
    gate.open();
    let failing_now = Arc::clone(&failing);
    let mut drill = Drill::with(gate.extractor(move |unit| {
        *failing_now.lock().unwrap() && &*unit.document == "d0" && unit.stage == "mentions"
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let spec = NewBatch {
        policy: FailurePolicy::AbortAll,
        concurrency: 1,
        ..new_batch("aborted")
    };
    let batch = ground.submit(&spec, documents(4)).await;
    let ended = ground.ended(batch).await;
    assert_eq!((ended.counts.abandoned, ended.counts.cancelled), (1, 3));
    *failing.lock().unwrap() = false;
    // d0 stays as it is; another one is tried again.
    let other = ground.execution(batch, "d2").await;
    assert_eq!(
        signal(&ground, other, Signal::Retry).await.as_deref(),
        Some("delivered")
    );
    let ended = drill.ends(batch).await;
    let counts = ended.counts;
    assert_eq!(
        (counts.completed, counts.abandoned, counts.cancelled),
        (1, 1, 2)
    );
    let outcome = "select outcome from workflow_signal where signal_name = 'retry'";
    assert_eq!(ground.text(outcome).await, "delivered");
}
