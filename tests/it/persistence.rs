//! `WorkflowPersistence`: what is saved is read back, whole; and the schema is applied once, whoever applies it.

use std::time::Duration;

use graphmill::{
    flow::{
        ActivityStatus, EventKind, ExecutionStatus, Failure, FailureCode, Signal, Stage,
        WorkflowType,
    },
    pipeline::NewDocument,
    store::{
        self, CheckpointRow, Fence, Interruption, LeaseRequest, Schema, Settled, Settlement,
        UnitEnd,
    },
    workflow::Submission,
};
use graphmill_jobs::{WorkerId, WorkflowExecutionId};
use serde_json::json;

use crate::support::{Database, Ground, OURS, completed, documents, new_batch};

fn failure() -> Failure {
    Failure {
        code: FailureCode::Timeout,
        message: "took longer than 3 ms – ‘quoted’ \"twice\" \\ 漢字".to_owned(),
        retryable: true,
        details: json!({ "unit": 3, "nested": [null, 1.5, { "a": "b" }] }),
    }
}

fn unit(stage: Stage, unit: i32, tries: i32, end: UnitEnd) -> CheckpointRow {
    CheckpointRow {
        stage,
        unit,
        round: 0,
        tries,
        deaths: 0,
        input_hash: [7; 32],
        end,
    }
}

async fn leased(
    ground: &Ground,
    execution: WorkflowExecutionId,
    stage: Stage,
    epoch: i64,
) -> store::Lease {
    let request = LeaseRequest {
        fence: Fence {
            organization: OURS,
            execution,
            epoch,
        },
        stage,
        owner: WorkerId::generate(),
        lasts: Duration::from_secs(15),
    };
    let mut connection = ground.store.engine().await.unwrap();
    store::lease(&mut connection, &request)
        .await
        .unwrap()
        .expect("the lease is granted")
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one life, told in order")]
async fn an_execution_its_activities_and_its_signals_are_saved_and_loaded() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("saved"), documents(1)).await;
    let id = ground.execution(batch, "d0").await;

    let mut transaction = ground.store.engine_transaction().await.unwrap();
    assert!(store::admit_lock(&mut transaction, batch).await.unwrap());
    let admitted = store::admit(&mut transaction, OURS, batch, 10, 42)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(admitted.rings.len(), 1);
    assert_eq!(admitted.rings[0].execution, id);

    let lease = leased(&ground, id, Stage::Chunk, 0).await;
    assert_eq!((lease.fence.epoch, lease.attempt, lease.round), (1, 1, 0));
    let chunk = unit(
        Stage::Chunk,
        0,
        1,
        UnitEnd::Done(json!([{ "start": 0, "end": 9 }])),
    );
    let mut transaction = ground.app().await;
    assert!(
        store::record_units(&mut transaction, lease.fence, std::slice::from_ref(&chunk))
            .await
            .unwrap()
    );
    let done = Settled {
        checkpoint: json!({ "stage": "chunk", "units": 1 }),
        incarnation: 42,
        events: &[EventKind::StageCompleted {
            stage: Stage::Chunk,
            units: 1,
            failed_units: 0,
        }],
        ..completed(Stage::Chunk, ExecutionStatus::Processing, Stage::Mentions)
    };
    let settlement = store::settle(&mut transaction, lease.fence, batch, &done).await;
    assert_eq!(settlement.unwrap(), Settlement::Written);
    transaction.commit().await.unwrap();

    let lease = leased(&ground, id, Stage::Mentions, 1).await;
    let units = [
        unit(Stage::Mentions, 0, 1, UnitEnd::Done(json!([]))),
        unit(Stage::Mentions, 1, 2, UnitEnd::Retry(failure())),
        unit(Stage::Mentions, 2, 3, UnitEnd::Failed(failure())),
    ];
    let mut transaction = ground.app().await;
    assert!(
        store::record_units(&mut transaction, lease.fence, &units)
            .await
            .unwrap()
    );
    transaction.commit().await.unwrap();

    // Asked for while it is leased: the signal waits for the holder.
    let mut transaction = ground.app().await;
    let sent = store::send_signal(&mut transaction, OURS, id, Signal::Cancel, &json!({}))
        .await
        .unwrap()
        .unwrap();
    let waiting = store::signals(&mut transaction, OURS, id).await.unwrap();
    assert_eq!(
        (waiting[0].id, waiting[0].signal, &waiting[0].outcome),
        (sent.id, Signal::Cancel, &None)
    );
    transaction.commit().await.unwrap();

    let mut transaction = ground.app().await;
    let why = failure();
    let failed = Settled {
        status: ExecutionStatus::Abandoned,
        stage: Stage::Mentions,
        worked: Stage::Mentions,
        activity: ActivityStatus::Failed,
        error: Some(&why),
        checkpoint: json!({ "stage": "mentions" }),
        events: &[EventKind::DocumentAbandoned {
            failure: failure(),
            stage: None,
            reached: None,
        }],
        ..done
    };
    let settlement = store::settle(&mut transaction, lease.fence, batch, &failed).await;
    assert_eq!(settlement.unwrap(), Settlement::Signalled);
    let status = store::answer_signals(&mut transaction, OURS, id, None).await;
    assert_eq!(status.unwrap(), Some(ExecutionStatus::Abandoned));
    transaction.commit().await.unwrap();

    let mut read = ground.app().await;
    let execution = store::execution_by_id(&mut read, OURS, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (execution.status, execution.stage, execution.batch),
        (ExecutionStatus::Abandoned, Stage::Mentions, batch)
    );
    assert_eq!(execution.document.as_deref(), Some("d0"));
    assert_eq!(execution.error, Some(failure()), "an error round-trips");
    let listed = store::executions(&mut read, OURS, batch, None, 10)
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    let activities = store::activities(&mut read, OURS, id).await.unwrap();
    let seen: Vec<_> = activities
        .iter()
        .map(|activity| (activity.stage, activity.status, activity.attempt))
        .collect();
    assert_eq!(
        seen,
        [
            (Stage::Chunk, ActivityStatus::Completed, 1),
            (Stage::Mentions, ActivityStatus::Failed, 1)
        ]
    );
    assert_eq!(
        activities[0].output,
        Some(json!({ "stage": "chunk", "units": 1 }))
    );
    assert_eq!(activities[1].error, Some(failure()));
    assert!(activities.iter().all(|one| one.duration_ms >= Some(0)));
    let mut checkpoints = store::checkpoints_of(&mut read, OURS, id).await.unwrap();
    checkpoints.sort_by_key(|row| (row.stage, row.unit));
    let mut all = vec![chunk.clone()];
    all.extend(units);
    assert_eq!(checkpoints, all);
    let signals = store::signals(&mut read, OURS, id).await.unwrap();
    assert_eq!(signals[0].outcome.as_deref(), Some("too_late"));
    assert_eq!(store::calls(&mut read, OURS, batch).await.unwrap(), 6);
    assert!(
        store::execution_by_id(&mut read, OURS, WorkflowExecutionId::generate())
            .await
            .unwrap()
            .is_none()
    );
    let nobody = WorkflowExecutionId::generate();
    let missing = store::send_signal(&mut read, OURS, nobody, Signal::Cancel, &json!({})).await;
    assert!(missing.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_done_is_never_written_again_and_a_failed_one_is_superseded() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("superseded"), documents(1)).await;
    let id = ground.execution(batch, "d0").await;
    let mut transaction = ground.store.engine_transaction().await.unwrap();
    store::admit(&mut transaction, OURS, batch, 1, 1)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let lease = leased(&ground, id, Stage::Chunk, 0).await;
    let done = |value: i32| UnitEnd::Done(json!([value]));
    for (end, stored) in [
        (UnitEnd::Retry(failure()), UnitEnd::Retry(failure())),
        (UnitEnd::Failed(failure()), UnitEnd::Failed(failure())),
        (done(1), done(1)),
        (done(2), done(1)),
        (UnitEnd::Failed(failure()), done(1)),
    ] {
        let mut transaction = ground.app().await;
        let row = unit(Stage::Mentions, 0, 1, end);
        assert!(
            store::record_units(&mut transaction, lease.fence, &[row])
                .await
                .unwrap()
        );
        let rows = store::checkpoints_of(&mut transaction, OURS, id)
            .await
            .unwrap();
        assert_eq!(rows[0].end, stored);
        transaction.commit().await.unwrap();
    }
}

/// Every worker asks three times a second, and a cancel is to be felt within one: whatever the planner knew of the
/// tables when it made the plan.
#[tokio::test(flavor = "multi_thread")]
async fn looking_for_interruptions_reads_the_rows_of_the_leases_and_no_others() {
    const LEASES: usize = 20;
    let ground = Ground::new().await;
    let mut transaction = ground.store.engine_transaction().await.unwrap();
    let nobody = Fence {
        organization: OURS,
        execution: WorkflowExecutionId::generate(),
        epoch: 1,
    };
    // The plan is made now, and kept.
    let asked = store::interruptions(&mut transaction, &[nobody]).await;
    assert!(asked.unwrap().is_empty());
    let batch = ground.submit(&new_batch("many"), documents(400)).await;
    let ids = ground
        .texts(format!(
            "select id::text from workflow_execution where batch_id = '{}' order by id limit {LEASES}",
            batch.uuid()
        ))
        .await;
    let fences: Vec<Fence> = ids
        .iter()
        .map(|id| Fence {
            execution: id.parse::<uuid::Uuid>().unwrap().into(),
            ..nobody
        })
        .collect();
    ground
        .execute(format!(
            "update workflow_execution set stop_requested_at = now() where id = '{}'",
            ids[7]
        ))
        .await
        .unwrap();
    let asked = store::interruptions(&mut transaction, &fences).await;
    assert_eq!(
        asked.unwrap(),
        [(fences[7].execution, Interruption::Stop)],
        "what is to stop is found"
    );
    let read = sqlx::query_scalar!(
        r#"select (seq_tup_read + idx_tup_fetch)::bigint as "read!" from pg_stat_xact_user_tables
           where relname = 'workflow_execution'"#,
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert!(
        (1..=2 * LEASES).contains(&usize::try_from(read).unwrap()),
        "{read} rows for {LEASES} leases"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_in_order_without_gaps_or_repeats() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("pages"), documents(23)).await;
    let mut read = ground.app().await;
    let (mut executions, mut documents) = (Vec::new(), Vec::new());
    loop {
        let after = executions.last().copied();
        let page = store::executions(&mut read, OURS, batch, after, 5)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        executions.extend(page.iter().map(|row| row.id));
    }
    loop {
        let after = documents.last().copied();
        let page = store::document_page(&mut read, OURS, batch, after, 7)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        documents.extend(page.iter().map(|row| row.id));
    }
    assert_eq!((executions.len(), documents.len()), (23, 23));
    assert!(executions.is_sorted_by(|a, b| a < b) && documents.is_sorted_by(|a, b| a < b));
    for number in 0..3 {
        let other = ground
            .submit(&new_batch(&format!("other-{number}")), Vec::new())
            .await;
        assert_ne!(other, batch);
    }
    let mut names = Vec::new();
    let mut before = None;
    loop {
        let page = store::batches(&mut read, OURS, before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        names.extend(page.into_iter().map(|batch| batch.name));
    }
    assert_eq!(names, ["other-2", "other-1", "other-0", "pages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_come_again_are_added_once() {
    let ground = Ground::new().await;
    let batch = new_batch("again");
    let mut submission = Submission::open(&ground.store, OURS, &batch).await.unwrap();
    let id = submission.batch();
    for document in documents(4) {
        submission.add(document).await.unwrap();
    }
    let refusal = Failure::terminal(FailureCode::Empty, "no text in it");
    submission
        .refuse("empty.txt".to_owned(), refusal.clone())
        .await
        .unwrap();
    // Cut off with everything buffered: nothing is durable, and nothing is told.
    drop(submission);
    assert_eq!(ground.number("select count(*) from document").await, 0);

    let row = |document: &NewDocument| {
        let added = document.clone();
        let hash = graphmill::pipeline::content_hash(&added.text);
        (added, hash)
    };
    let mut rows: Vec<_> = documents(4).iter().map(row).collect();
    rows.push(row(&NewDocument::new("copy", documents(1)[0].text.clone())));
    rows.push(row(&NewDocument::new(
        "d1",
        "Another text with the id of another.",
    )));
    let add = async || {
        let mut transaction = ground.app().await;
        let rows: Vec<_> = rows
            .iter()
            .map(|(document, hash)| store::DocumentRow {
                external_id: &document.id,
                title: document.title.as_deref(),
                source_uri: document.source_uri.as_deref(),
                text: &document.text,
                content_hash: *hash,
                metadata: &document.metadata,
            })
            .collect();
        let added = store::add_documents(&mut transaction, OURS, id, &rows)
            .await
            .unwrap();
        store::add_refusals(
            &mut transaction,
            OURS,
            id,
            &[store::Refused {
                external_id: "empty.txt".to_owned(),
                failure: refusal.clone(),
            }],
        )
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        added
    };
    let first = add().await;
    assert_eq!((first.accepted, first.known), (4, 0));
    let codes: Vec<_> = first.refused.iter().map(|one| one.failure.code).collect();
    assert_eq!(codes, [FailureCode::Duplicate, FailureCode::DuplicateId]);
    let rows_before = ground.number("select count(*) from document").await;
    let events_before = ground.number("select count(*) from event_outbox").await;
    let again = add().await;
    assert_eq!((again.accepted, again.known), (0, 6));
    assert!(again.refused.is_empty());
    assert_eq!(
        ground.number("select count(*) from document").await,
        rows_before
    );
    assert_eq!(rows_before, 7, "four accepted, three refused");
    assert_eq!(
        ground.number("select count(*) from event_outbox").await,
        events_before,
        "a repeat tells nothing"
    );
    for (count, wanted) in [("accepted", 4), ("refused", 2), ("duplicate", 1)] {
        let sql = format!(
            "select sum((payload ->> '{count}')::integer) from event_outbox where type = 'DocumentsAdded'"
        );
        assert_eq!(ground.number(sql).await, wanted, "{count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_takes_no_more_documents() {
    let ground = Ground::new().await;
    let batch = new_batch("sealed");
    let submission = Submission::open(&ground.store, OURS, &batch).await.unwrap();
    let id = submission.batch();
    let other = Submission::reopen(&ground.store, OURS, id).await.unwrap();
    let mut late = Submission::reopen(&ground.store, OURS, id).await.unwrap();
    submission.seal().await.unwrap();
    other.seal().await.unwrap();
    let told = "select count(*) from event_outbox where type = 'BatchSealed'";
    assert_eq!(ground.number(told).await, 1, "sealed twice, told once");
    for document in documents(1) {
        late.add(document).await.unwrap();
    }
    let refused = late.seal().await;
    assert!(
        matches!(refused, Err(graphmill::workflow::SubmitError::Sealed)),
        "{refused:?}"
    );
    assert_eq!(ground.number("select count(*) from document").await, 0);
    assert!(Submission::reopen(&ground.store, OURS, id).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_is_queued_once_a_generation() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("once"), Vec::new()).await;
    for _ in 0..3 {
        let mut connection = ground.store.engine().await.unwrap();
        store::start_resolution(&mut connection, OURS, batch, 1)
            .await
            .unwrap();
    }
    let sql = format!(
        "select count(*) from workflow_execution where workflow_type = '{}'",
        WorkflowType::Resolution.as_str()
    );
    assert_eq!(ground.number(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_twice_or_from_two_places_at_once_is_migrating_once() {
    let database = Database::create().await;
    let url = database.url();
    let before = store::check_schema(url).await.unwrap();
    let Schema::Behind { applied: 0, known } = before else {
        panic!("an empty database is behind: {before:?}");
    };
    assert!(known >= 4);
    let (one, other) = tokio::join!(store::migrate(url), store::migrate(url));
    one.unwrap();
    other.unwrap();
    assert_eq!(store::check_schema(url).await.unwrap(), Schema::Current);
    store::migrate(url).await.unwrap();
    assert_eq!(store::check_schema(url).await.unwrap(), Schema::Current);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_from_the_future_is_told_apart() {
    let ground = Ground::new().await;
    let url = ground.url();
    ground
        .execute("update _sqlx_migrations set version = 9999 where version = (select max(version) from _sqlx_migrations)")
        .await
        .unwrap();
    let schema = store::check_schema(url).await.unwrap();
    assert!(
        matches!(schema, Schema::Ahead { applied: 9999, .. }),
        "{schema:?}"
    );
}
