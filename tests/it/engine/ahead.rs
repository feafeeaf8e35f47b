//! What begins before a settle is through: the calls of the next stage, and the document that comes to the place.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use graphmill::{
    extractors::Extractors,
    flow::{Signal, Stage},
    pipeline::NewDocument,
    store::{self, Passed, Takeover},
    workflow::{NewBatch, WorkflowService},
};
use graphmill_jobs::{BatchId, WorkerId, WorkflowExecutionId};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Semaphore;

use crate::support::{Drill, Ground, OURS, Scripted, documents, new_batch, poll, quick};

/// Units by their stage, in the order in which they were begun; those of one stage wait for permits.
#[derive(Clone)]
struct Begun {
    units: Arc<Mutex<Vec<(String, String)>>>,
    waits: Stage,
    permits: Arc<Semaphore>,
}

impl Begun {
    fn waiting_at(stage: Stage) -> Self {
        Self {
            units: Arc::default(),
            waits: stage,
            permits: Arc::new(Semaphore::new(0)),
        }
    }

    fn extractor(&self) -> Scripted {
        let begun = self.clone();
        Scripted::new(move |unit| {
            let begun = begun.clone();
            begun
                .units
                .lock()
                .unwrap()
                .push((unit.stage.to_owned(), unit.to_string()));
            async move {
                if unit.stage == begun.waits.as_str()
                    && let Ok(permit) = begun.permits.acquire().await
                {
                    permit.forget();
                }
                Ok(())
            }
        })
    }

    fn of(&self, stage: Stage) -> Vec<String> {
        let units = self.units.lock().unwrap();
        units
            .iter()
            .filter(|(of, _)| of == stage.as_str())
            .map(|(_, unit)| unit.clone())
            .collect()
    }

    async fn until(&self, stage: Stage, count: usize) {
        poll("its units have begun", async || {
            (self.of(stage).len() >= count).then_some(())
        })
        .await;
    }
}

/// One document of some sentences, each a chunk.
fn in_small_chunks(name: &str) -> (NewBatch, Vec<NewDocument>) {
    let mut batch = new_batch(name);
    batch.settings.chunks.chars = 120;
    batch.settings.chunks.min_chars = 10;
    (batch, documents(1))
}

async fn only_execution(ground: &Ground, batch: BatchId) -> WorkflowExecutionId {
    let sql = format!(
        "select id::text from workflow_execution where batch_id = '{}' and workflow_type = 'extraction'",
        batch.uuid()
    );
    let id: uuid::Uuid = ground.text(sql).await.parse().unwrap();
    id.into()
}

/// Keeps every settle of the execution from being written, until it is dropped.
async fn lock(ground: &Ground, id: WorkflowExecutionId) -> PgConnection {
    let mut connection = PgConnection::connect(ground.url()).await.unwrap();
    let sql = format!(
        "begin; select from workflow_execution where id = '{}' for update",
        id.uuid()
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

async fn waits_for_locks(ground: &Ground, count: i64) {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    ground
        .until("somebody waits for the lock", sql, count)
        .await;
}

async fn rows_of(ground: &Ground, id: WorkflowExecutionId, stage: Stage) -> i64 {
    let (id, activity) = (id.uuid(), stage.activity_name());
    let sql = format!(
        "select (select count(*) from checkpoint where workflow_execution_id = '{id}' and stage = '{stage}')
              + (select count(*) from workflow_activity
                 where workflow_execution_id = '{id}' and activity_name = '{activity}')"
    );
    ground.number(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_begin_while_the_stage_before_is_settled_and_nothing_is_written_of_them() {
    let begun = Begun::waiting_at(Stage::Entities);
    let mut drill = Drill::with(begun.extractor()).await;
    let ground = Arc::clone(&drill.ground);
    let (batch, documents) = in_small_chunks("ahead");
    let batch = ground.submit(&batch, documents).await;
    begun.until(Stage::Entities, 1).await;
    let id = only_execution(&ground, batch).await;
    let chunks = begun.of(Stage::Mentions).len();
    assert!(chunks > 1, "all but the last have checkpoints of their own");

    let locked = lock(&ground, id).await;
    begun.permits.add_permits(100);
    begun.until(Stage::Relations, chunks).await;
    waits_for_locks(&ground, 1).await;
    assert_eq!(rows_of(&ground, id, Stage::Relations).await, 0);
    drop(locked);
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 1);
    let units: BTreeSet<String> = begun.of(Stage::Relations).into_iter().collect();
    assert_eq!(units.len(), chunks);
    assert_eq!(
        begun.of(Stage::Relations).len(),
        chunks,
        "each is begun once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_in_vain_leaves_nothing_and_is_worked_again() {
    let begun = Begun::waiting_at(Stage::Mentions);
    let mut drill = Drill::with(begun.extractor()).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("vain"), documents(1)).await;
    begun.until(Stage::Mentions, 1).await;
    let id = only_execution(&ground, batch).await;

    // The pause is before the settle at the row.
    let locked = lock(&ground, id).await;
    let service = WorkflowService::new(ground.store.clone(), OURS);
    let pausing = tokio::spawn(async move { service.signal(id, Signal::Pause).await });
    waits_for_locks(&ground, 1).await;
    begun.permits.add_permits(100);
    begun.until(Stage::Entities, 1).await;
    drop(locked);
    pausing.await.unwrap().unwrap().unwrap();
    let at_rest = format!(
        "select count(*) from workflow_execution
         where id = '{}' and paused_at is not null and lease_owner is null and current_activity = 'classify-entities'",
        id.uuid()
    );
    ground.until("it is settled and paused", &at_rest, 1).await;
    assert_eq!(rows_of(&ground, id, Stage::Entities).await, 0);

    let service = WorkflowService::new(ground.store.clone(), OURS);
    service.signal(id, Signal::Resume).await.unwrap().unwrap();
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 1);
    assert_eq!(begun.of(Stage::Entities).len(), 2, "in vain, and again");
    assert_eq!(begun.of(Stage::Mentions).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_ahead_of_a_stage_that_is_suspected() {
    let begun = Begun::waiting_at(Stage::Mentions);
    let mut drill = Drill::with(begun.extractor()).await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("suspect"), documents(1)).await;
    begun.until(Stage::Mentions, 1).await;
    let id = only_execution(&ground, batch).await;
    drill.stop_within(Duration::ZERO).await;
    let sql = format!(
        "update workflow_execution set lost_leases = 1 where id = '{}'",
        id.uuid()
    );
    assert_eq!(ground.execute(sql).await, Ok(1));

    let extractors = Extractors::default().with(begun.extractor());
    drill.start(extractors, quick()).await;
    begun.until(Stage::Mentions, 2).await;
    let locked = lock(&ground, id).await;
    begun.permits.add_permits(100);
    waits_for_locks(&ground, 1).await;
    // Whoever had begun ahead would have done so before it waited for the lock.
    assert_eq!(rows_of(&ground, id, Stage::Entities).await, 0);
    assert!(
        begun.of(Stage::Entities).is_empty(),
        "a stage began under suspicion"
    );
    drop(locked);
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 1);
}

/// Documents that have a call under way, and the most that had.
#[derive(Clone, Default)]
struct Calling(Arc<Mutex<(BTreeMap<String, usize>, usize)>>);

impl Calling {
    fn extractor(&self) -> Scripted {
        let calling = self.clone();
        Scripted::new(move |unit| {
            let calling = calling.clone();
            async move {
                let document = unit.document.to_string();
                {
                    let mut calling = calling.0.lock().unwrap();
                    *calling.0.entry(document.clone()).or_default() += 1;
                    calling.1 = calling.1.max(calling.0.len());
                }
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                let mut calling = calling.0.lock().unwrap();
                let count = calling.0.get_mut(&document).unwrap();
                *count -= 1;
                if *count == 0 {
                    calling.0.remove(&document);
                }
                Ok(())
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_makes_no_more_calls_passes_its_place_on() {
    let calling = Calling::default();
    let mut drill = Drill::with(calling.extractor()).await;
    let ground = Arc::clone(&drill.ground);
    let mut batch = new_batch("places");
    batch.concurrency = 2;
    let batch = ground.submit(&batch, documents(20)).await;
    let ended = drill.ends(batch).await;
    assert_eq!(ended.counts.completed, 20);
    assert_eq!(
        calling.0.lock().unwrap().1,
        2,
        "as many as may, and no more"
    );
    // While another one still has its place, a third is in processing: it is published, or is about to be.
    let passed = format!(
        "select count(*) from workflow_execution e
         where e.batch_id = '{0}' and e.workflow_type = 'extraction'
           and (select count(*) from workflow_execution other
                where other.batch_id = '{0}' and other.workflow_type = 'extraction' and other.id <> e.id
                  and other.started_at <= e.started_at and other.completed_at > e.started_at) >= 2",
        batch.uuid()
    );
    assert!(ground.number(passed).await >= 10, "most come to a place so");
    let attempts = format!(
        "select count(*) from workflow_activity a join workflow_execution e on e.id = a.workflow_execution_id
         where e.batch_id = '{}' and a.attempt_number > 1",
        batch.uuid()
    );
    assert_eq!(ground.number(attempts).await, 0);
}

/// Passes a place on in a transaction of its own.
async fn pass_on(ground: &Ground, batch: BatchId, from: Option<&Passed>) -> Option<Passed> {
    let takeover = Takeover {
        owner: WorkerId::generate(),
        lasts: Duration::from_secs(15),
    };
    let mut transaction = ground.app().await;
    let from = from.map(|passed| passed.mark);
    let passed = store::pass_on(&mut transaction, OURS, batch, from, takeover, 42).await;
    transaction.commit().await.unwrap();
    passed.unwrap()
}

async fn set_first(ground: &Ground, batch: BatchId, change: &str) {
    let sql = format!(
        "update workflow_execution set {change} where id = (
             select id from workflow_execution where batch_id = '{}' and status in ('queued', 'retry')
             order by due_at, id limit 1)",
        batch.uuid()
    );
    assert_eq!(ground.execute(sql).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_passed_on_to_the_first_that_is_due_and_was_never_worked() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("due"), documents(4)).await;
    let of = batch.uuid();
    let first = pass_on(&ground, batch, None).await.unwrap();
    assert_eq!(
        (
            first.lease.fence.epoch,
            first.lease.attempt,
            first.lease.suspect
        ),
        (1, 1, false)
    );
    assert_eq!((first.name.as_str(), first.version), ("d0", 1));
    assert!(first.text.as_deref().unwrap().contains("Document 0 says"));
    let row = format!(
        "select concat_ws(' ', e.status, e.lease_epoch, e.lease_owner is not null, e.lease_until > now(),
                          a.activity_name, a.status, a.attempt_number, a.lease_epoch,
                          (select string_agg(type, ',') from event_outbox o
                           where o.workflow_execution_id = e.id))
         from workflow_execution e join workflow_activity a on a.workflow_execution_id = e.id
         where e.batch_id = '{of}'"
    );
    assert_eq!(
        ground.texts(&*row).await,
        ["processing 1 t t chunk-text running 1 1 DocumentStarted"]
    );
    // It is held: whoever has a job for it gets nothing, and it is passed on once.
    let second = pass_on(&ground, batch, Some(&first)).await.unwrap();
    assert_ne!(second.lease.fence, first.lease.fence);

    for (why, change, undo) in [
        (
            "paused",
            "paused_at = now(), pause_reason = 'by hand'",
            "paused_at = null, pause_reason = null",
        ),
        ("stopping", "stopping = 'cancel'", "stopping = null"),
    ] {
        let set = |change: &str| format!("update batch set {change} where id = '{of}'");
        assert_eq!(ground.execute(set(change)).await, Ok(1));
        assert!(pass_on(&ground, batch, None).await.is_none(), "{why}");
        assert_eq!(ground.execute(set(undo)).await, Ok(1));
    }
    // Who must not be leased is left as he is.
    for (change, undo) in [
        ("stop_requested_at = now()", "stop_requested_at = null"),
        ("generation = 2", "generation = 1"),
        (
            "current_activity = 'extract-mentions'",
            "current_activity = 'chunk-text'",
        ),
        ("status = 'retry'", "status = 'queued'"),
    ] {
        set_first(&ground, batch, change).await;
        assert!(pass_on(&ground, batch, None).await.is_none(), "{change}");
        set_first(&ground, batch, undo).await;
    }
    // Who waits for somebody is passed by.
    for (change, undo) in [
        (
            "paused_at = now(), pause_reason = 'by hand'",
            "paused_at = null, pause_reason = null",
        ),
        ("workflow_version = 99", "workflow_version = 1"),
    ] {
        set_first(&ground, batch, change).await;
        let mut transaction = ground.app().await;
        let takeover = Takeover {
            owner: WorkerId::generate(),
            lasts: Duration::from_secs(15),
        };
        let passed = store::pass_on(&mut transaction, OURS, batch, None, takeover, 42).await;
        transaction.rollback().await.unwrap();
        assert_eq!(passed.unwrap().unwrap().name, "d3", "{change}");
        set_first(&ground, batch, undo).await;
    }
    // Who has a history is left as he is, to whoever reads it.
    let worked = "lease_epoch = 1";
    set_first(&ground, batch, worked).await;
    assert!(pass_on(&ground, batch, None).await.is_none());
    let left = format!(
        "select count(*) from workflow_execution
         where batch_id = '{of}' and status = 'queued' and lease_epoch = 1 and lease_owner is null"
    );
    assert_eq!(ground.number(&*left).await, 1);
    set_first(&ground, batch, "due_at = now() + interval '1 hour'").await;
    let last = pass_on(&ground, batch, Some(&second)).await.unwrap();
    assert_eq!(last.name, "d3");
    assert!(
        pass_on(&ground, batch, None).await.is_none(),
        "nobody is due"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_left_to_whoever_works_it() {
    let ground = Ground::new().await;
    let long = NewDocument::new("long", "Maria lives in Oslo. ".repeat(20_000));
    let batch = ground.submit(&new_batch("long"), vec![long]).await;
    let passed = pass_on(&ground, batch, None).await.unwrap();
    assert_eq!(passed.text, None);
}
