//! The protocol of admission, rings, leases and settles, statement by statement: who may write what, and what a late
//! or a second one finds.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use graphmill::{
    extractors::Extractors,
    flow::{
        ActivityStatus, Event, EventKind, ExecutionStatus, Failure, FailureCode, FailurePolicy,
        Signal, Stage, Stopping,
    },
    queue::Queue,
    store::{
        self, AdmitLimits, Admitted, CheckpointRow, Fence, Interruption, LeaseRequest, Settled,
        Settlement, TakeUp, Takeover, UnitEnd,
    },
    worker::{Worker, WorkerSettings},
    workflow::NewBatch,
};
use graphmill_jobs::{BatchId, WorkerId, WorkflowExecutionId};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Ground, OURS, Redis, completed, documents, new_batch, poll};

const HERE: i64 = 42;

async fn admit(ground: &Ground, batch: BatchId, most: usize) -> Admitted {
    let mut transaction = ground.store.engine_transaction().await.unwrap();
    if !store::admit_lock(&mut transaction, batch).await.unwrap() {
        return Admitted::default();
    }
    let admitted = store::admit(&mut transaction, OURS, batch, most, HERE)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    admitted
}

fn request(execution: WorkflowExecutionId, stage: Stage, epoch: i64) -> LeaseRequest {
    LeaseRequest {
        fence: Fence {
            organization: OURS,
            execution,
            epoch,
        },
        stage,
        owner: WorkerId::generate(),
        lasts: Duration::from_secs(15),
    }
}

async fn lease(ground: &Ground, request: &LeaseRequest) -> Option<store::Lease> {
    let mut connection = ground.store.engine().await.unwrap();
    store::lease(&mut connection, request).await.unwrap()
}

async fn settle(ground: &Ground, batch: BatchId, fence: Fence, to: ExecutionStatus) -> bool {
    let failure = Failure::terminal(FailureCode::Extractor, "no");
    let failed = matches!(to, ExecutionStatus::Failed | ExecutionStatus::Abandoned);
    let settled = Settled {
        activity: if failed {
            ActivityStatus::Failed
        } else {
            ActivityStatus::Completed
        },
        error: failed.then_some(&failure),
        incarnation: HERE,
        ..completed(Stage::Chunk, to, Stage::Chunk)
    };
    let mut transaction = ground.app().await;
    let done = store::settle(&mut transaction, fence, batch, &settled)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    done != Settlement::Lost
}

async fn cancel(transaction: &mut store::AppTransaction, id: WorkflowExecutionId) {
    let sent = store::send_signal(transaction, OURS, id, Signal::Cancel, &json!({})).await;
    sent.unwrap().expect("there is such an execution");
}

async fn set(ground: &Ground, id: WorkflowExecutionId, change: &str) {
    let sql = format!(
        "update workflow_execution set {change} where id = '{}'",
        id.uuid()
    );
    assert_eq!(ground.execute(sql).await, Ok(1));
}

async fn set_batch(ground: &Ground, id: BatchId, change: &str) {
    let sql = format!("update batch set {change} where id = '{}'", id.uuid());
    assert_eq!(ground.execute(sql).await, Ok(1));
}

/// A batch with one admitted document.
async fn admitted(name: &str) -> (Ground, BatchId, WorkflowExecutionId) {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch(name), documents(1)).await;
    let rings = admit(&ground, batch, 10).await.rings;
    assert_eq!(rings.len(), 1);
    (ground, batch, rings[0].execution)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_want_a_lease_one_gets_it() {
    let (ground, _, id) = admitted("twenty").await;
    let mut attempts = JoinSet::new();
    for _ in 0..20 {
        let store = ground.store.clone();
        attempts.spawn(async move {
            let mut connection = store.engine().await.unwrap();
            store::lease(&mut connection, &request(id, Stage::Chunk, 0))
                .await
                .unwrap()
        });
    }
    let granted: Vec<_> = attempts.join_all().await.into_iter().flatten().collect();
    assert_eq!(granted.len(), 1);
    assert_eq!(granted[0].fence.epoch, 1);
    assert_eq!(
        ground
            .number("select count(*) from workflow_activity")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_tell_the_truth_gets_no_lease() {
    let (ground, batch, id) = admitted("truth").await;
    let good = request(id, Stage::Chunk, 0);
    for (what, wrong) in [
        ("a stale epoch", request(id, Stage::Chunk, -1)),
        ("an epoch to come", request(id, Stage::Chunk, 1)),
        ("another stage", request(id, Stage::Mentions, 0)),
        (
            "no such execution",
            request(WorkflowExecutionId::generate(), Stage::Chunk, 0),
        ),
    ] {
        assert!(lease(&ground, &wrong).await.is_none(), "{what}");
    }
    for (spoil, mend) in [
        ("due_at = now() + interval '1 hour'", "due_at = now()"),
        (
            "paused_at = now(), pause_reason = 'by hand'",
            "paused_at = null, pause_reason = null",
        ),
        ("stop_requested_at = now()", "stop_requested_at = null"),
        ("workflow_version = 99", "workflow_version = 1"),
        ("status = 'retry'", "status = 'processing'"),
        (
            "status = 'completed', completed_at = now()",
            "status = 'processing', completed_at = null",
        ),
        (
            "lease_owner = gen_random_uuid(), lease_until = now() + interval '1 hour'",
            "lease_owner = null, lease_until = null",
        ),
    ] {
        set(&ground, id, spoil).await;
        assert!(lease(&ground, &good).await.is_none(), "{spoil}");
        set(&ground, id, mend).await;
    }
    for (spoil, mend) in [
        ("stopping = 'cancel'", "stopping = null"),
        ("stopping = 'abort'", "stopping = null"),
        (
            "paused_at = now(), pause_reason = 'budget'",
            "paused_at = null, pause_reason = null",
        ),
    ] {
        set_batch(&ground, batch, spoil).await;
        assert!(lease(&ground, &good).await.is_none(), "{spoil}");
        set_batch(&ground, batch, mend).await;
    }
    assert_eq!(
        ground
            .number("select count(*) from workflow_activity")
            .await,
        0
    );
    assert!(
        lease(&ground, &good).await.is_some(),
        "and the truth gets it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_is_taken_over_and_its_holder_can_write_nothing() {
    let (ground, batch, id) = admitted("zombie").await;
    let zombie = request(id, Stage::Chunk, 0);
    let old = lease(&ground, &zombie).await.unwrap().fence;
    assert!(
        lease(&ground, &request(id, Stage::Chunk, 1))
            .await
            .is_none(),
        "it is live"
    );
    set(&ground, id, "lease_until = now() - interval '1 second'").await;
    let new = lease(&ground, &request(id, Stage::Chunk, 1)).await.unwrap();
    assert_eq!((new.fence.epoch, new.attempt), (2, 2));
    let mut read = ground.app().await;
    let attempts = store::activities(&mut read, OURS, id).await.unwrap();
    assert_eq!(
        (attempts[0].status, attempts[1].status),
        (ActivityStatus::Failed, ActivityStatus::Running)
    );
    assert_eq!(
        attempts[0].error.as_ref().unwrap().code,
        FailureCode::LeaseLost
    );

    let snapshot = "select e::text || coalesce((select string_agg(a::text, '' order by lease_epoch)
                                               from workflow_activity a), '')
                    from workflow_execution e";
    let before = ground.text(snapshot).await;
    let row = CheckpointRow {
        stage: Stage::Chunk,
        unit: 0,
        round: 0,
        tries: 1,
        deaths: 0,
        input_hash: [0; 32],
        end: UnitEnd::Done(json!([])),
    };
    let mut transaction = ground.app().await;
    assert!(
        !store::record_units(&mut transaction, old, &[row])
            .await
            .unwrap()
    );
    transaction.commit().await.unwrap();
    for to in [
        ExecutionStatus::Processing,
        ExecutionStatus::Completed,
        ExecutionStatus::Abandoned,
    ] {
        assert!(!settle(&ground, batch, old, to).await, "{to}");
    }
    let mut connection = ground.store.engine().await.unwrap();
    let reason = Failure::transient(FailureCode::LeaseLost, "handed back");
    assert!(!store::release(&mut connection, old, &reason).await.unwrap());
    let lasts = Duration::from_secs(60);
    let kept = store::renew_leases(&mut connection, zombie.owner, &[old], lasts)
        .await
        .unwrap();
    assert!(kept.is_empty());
    assert_eq!(ground.text(snapshot).await, before);
    assert_eq!(ground.number("select count(*) from checkpoint").await, 0);
    assert!(settle(&ground, batch, new.fence, ExecutionStatus::Completed).await);
    assert!(
        !settle(&ground, batch, new.fence, ExecutionStatus::Completed).await,
        "a second settle of one lease, as after a commit of unknown outcome"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_handed_back_can_be_taken_at_once() {
    let (ground, _, id) = admitted("handed").await;
    let held = lease(&ground, &request(id, Stage::Chunk, 0)).await.unwrap();
    let mut connection = ground.store.engine().await.unwrap();
    let reason = Failure::transient(FailureCode::LeaseLost, "handed back");
    assert!(
        store::release(&mut connection, held.fence, &reason)
            .await
            .unwrap()
    );
    let silent = store::to_ring(&mut connection, HERE, Duration::from_secs(5), 10)
        .await
        .unwrap();
    let rings = silent.rings;
    assert_eq!((rings.len(), rings[0].epoch), (1, 1));
    assert_eq!(silent.expired, 0, "it was given back");
    assert!(
        lease(&ground, &request(id, Stage::Chunk, 1))
            .await
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stagers_together_never_admit_more_than_the_batch_allows() {
    let ground = Ground::new().await;
    for turn in 0..50 {
        let batch = ground
            .submit(&new_batch(&format!("turn-{turn}")), documents(40))
            .await;
        let mut stagers = JoinSet::new();
        for _ in 0..3 {
            let store = ground.store.clone();
            stagers.spawn(async move {
                let mut admitted = 0;
                for _ in 0..2 {
                    let mut transaction = store.engine_transaction().await.unwrap();
                    if store::admit_lock(&mut transaction, batch).await.unwrap() {
                        let rings = store::admit(&mut transaction, OURS, batch, 100, HERE)
                            .await
                            .unwrap()
                            .rings;
                        admitted += rings.len();
                    }
                    transaction.commit().await.unwrap();
                }
                admitted
            });
        }
        let admitted: usize = stagers.join_all().await.into_iter().sum();
        assert_eq!(admitted, 5, "turn {turn}");
        let processing = format!(
            "select count(*) from workflow_execution where status = 'processing' and batch_id = '{}'",
            batch.uuid()
        );
        assert_eq!(ground.number(processing).await, 5, "turn {turn}");
    }
}

/// A batch of which four documents may be in work: of six one has had an attempt and comes again, and one has passed its
/// first stage.
async fn of_six(ground: &Ground, name: &str) -> BatchId {
    let spec = NewBatch {
        concurrency: 4,
        policy: FailurePolicy::RetryFailed,
        max_retries: 3,
        ..new_batch(name)
    };
    let batch = ground.submit(&spec, documents(6)).await;
    for (document, change) in [
        (
            "d0",
            "status = 'retry', lease_epoch = 3, round = 1, partial = true, lost_leases = 1",
        ),
        (
            "d1",
            "status = 'retry', current_activity = 'extract-mentions'",
        ),
        ("d4", "due_at = now() + interval '1 hour'"),
    ] {
        set(ground, ground.execution(batch, document).await, change).await;
    }
    let tried = format!(
        "insert into workflow_activity (id, organization_id, workflow_execution_id, activity_name, activity_type,
                                        status, attempt_number, lease_epoch, completed_at)
         select gen_random_uuid(), organization_id, id, 'chunk-text', 'extraction', 'cancelled', 1, 3, now()
         from workflow_execution where batch_id = '{}' and round = 1",
        batch.uuid()
    );
    assert_eq!(ground.execute(tried).await, Ok(1));
    batch
}

/// All that a lease says, but whose it is.
fn said(lease: &store::Lease) -> impl PartialEq + std::fmt::Debug {
    (
        (lease.fence.epoch, lease.generation, lease.round),
        (lease.attempt, lease.partial, lease.suspect),
        (lease.policy, lease.max_retries),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_up_with_its_admission_is_leased_as_a_job_would_lease_it() {
    let ground = Ground::new().await;
    let takeover = Takeover {
        owner: WorkerId::generate(),
        lasts: Duration::from_secs(15),
    };
    let take_up = async |batch, most| {
        let mut transaction = ground.store.admission(true).await.unwrap();
        assert!(store::admit_lock(&mut transaction, batch).await.unwrap());
        let limits = AdmitLimits {
            take_up: Some(TakeUp { takeover, most }),
            ..AdmitLimits::default()
        };
        let admitted = store::admit_from(&mut transaction, OURS, batch, None, limits, HERE).await;
        transaction.commit().await.unwrap();
        admitted.unwrap()
    };
    // The same in two steps.
    let twin = of_six(&ground, "twin").await;
    let rings = admit(&ground, twin, 10).await.rings;
    assert_eq!(rings.len(), 4);
    let mut leased = Vec::new();
    for document in ["d0", "d2"] {
        let id = ground.execution(twin, document).await;
        let ring = rings.iter().find(|ring| ring.execution == id).unwrap();
        let request = LeaseRequest {
            owner: takeover.owner,
            ..request(id, ring.stage, ring.epoch)
        };
        leased.push(lease(&ground, &request).await.unwrap());
    }

    let batch = of_six(&ground, "one").await;
    let admitted = take_up(batch, 2).await;
    assert_eq!((admitted.rings.len(), admitted.taken_up.len()), (2, 2));
    for (document, twin) in ["d0", "d2"].iter().zip(&leased) {
        let id = ground.execution(batch, document).await;
        let (ring, lease) = admitted
            .taken_up
            .iter()
            .find(|(ring, _)| ring.execution == id)
            .expect("the first that are due");
        assert_eq!(said(lease), said(twin), "{document}");
        assert_eq!(
            (ring.stage, ring.epoch + 1),
            (Stage::Chunk, twin.fence.epoch)
        );
        assert_eq!((lease.batch, lease.fence.execution), (batch, id));
        let document = lease.document.expect("it is a document's");
        assert_eq!(
            ground.column(id, "document_id").await,
            document.uuid().to_string()
        );
        let again = request(id, Stage::Chunk, ring.epoch);
        assert!(
            self::lease(&ground, &again).await.is_none(),
            "its job finds it leased"
        );
    }
    assert_eq!((leased[0].attempt, leased[0].fence.epoch), (2, 4));
    assert!(leased[0].suspect && leased[0].partial);
    let rows = async |batch: BatchId| {
        let sql = format!(
            "select concat_ws(' ', d.external_id, e.status, e.current_activity, e.round, e.lease_epoch, e.lease_owner,
                              e.lease_until > now() + interval '5 seconds', e.lost_leases, e.rung_at is not null,
                              e.ring_incarnation, e.started_at is not null,
                              (select string_agg(concat_ws(' ', activity_name, a.activity_type, a.status, attempt_number,
                                                           a.lease_epoch), ', ' order by a.lease_epoch)
                               from workflow_activity a where a.workflow_execution_id = e.id),
                              (select count(*) from event_outbox o
                               where o.workflow_execution_id = e.id and o.type = 'DocumentStarted'))
             from workflow_execution e join document d on d.id = e.document_id
             where e.batch_id = '{}' order by 1",
            batch.uuid()
        );
        ground.texts(sql).await
    };
    assert_eq!(rows(batch).await, rows(twin).await);
    let none = take_up(batch, 2).await;
    assert!(
        none.rings.is_empty() && none.taken_up.is_empty(),
        "four are in work"
    );
    set_batch(&ground, batch, "concurrency = 5").await;
    let last = take_up(batch, 2).await;
    assert_eq!((last.rings.len(), last.taken_up.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_heeds_the_window_and_what_must_not_start() {
    let ground = Ground::new().await;
    let wide = NewBatch {
        concurrency: 100,
        ..new_batch("window")
    };
    let batch = ground.submit(&wide, documents(12)).await;
    let first = admit(&ground, batch, 3).await;
    assert_eq!((first.rings.len(), first.more), (3, true));
    for (spoil, mend) in [
        ("stopping = 'cancel'", "stopping = null"),
        ("stopping = 'abort'", "stopping = null"),
        (
            "paused_at = now(), pause_reason = 'by hand'",
            "paused_at = null, pause_reason = null",
        ),
        (
            "ended_at = now(), state = 'Failed', state_data = '{\"name\": \"Failed\"}'",
            "ended_at = null, state = 'Pending', state_data = '{\"name\": \"Pending\"}'",
        ),
    ] {
        set_batch(&ground, batch, spoil).await;
        assert!(admit(&ground, batch, 100).await.rings.is_empty(), "{spoil}");
        set_batch(&ground, batch, mend).await;
    }
    assert!(admit(&ground, batch, 0).await.rings.is_empty());
    for (number, spoil) in [
        "paused_at = now(), pause_reason = 'by hand'",
        "due_at = now() + interval '1 hour'",
        "workflow_version = 99",
        "status = 'completed', completed_at = now()",
    ]
    .into_iter()
    .enumerate()
    {
        let id = ground.execution(batch, &format!("d{}", 11 - number)).await;
        set(&ground, id, spoil).await;
    }
    let rest = admit(&ground, batch, 100).await;
    assert_eq!((rest.rings.len(), rest.more), (5, false));
    let rung: HashSet<_> = first
        .rings
        .iter()
        .chain(&rest.rings)
        .map(|r| r.execution)
        .collect();
    assert_eq!(rung.len(), 8);
    assert_eq!(
        ground
            .number("select count(*) from event_outbox where type = 'DocumentStarted'")
            .await,
        8
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_finds_what_no_job_rings_for_and_nothing_else() {
    let ground = Ground::new().await;
    let batch = NewBatch {
        concurrency: 100,
        ..new_batch("silent")
    };
    let batch = ground.submit(&batch, documents(12)).await;
    admit(&ground, batch, 100).await;
    let sweep = async |incarnation: i64, most: usize| {
        let mut connection = ground.store.engine().await.unwrap();
        store::to_ring(&mut connection, incarnation, Duration::from_secs(5), most)
            .await
            .unwrap()
            .rings
    };
    assert!(sweep(HERE, 100).await.is_empty(), "all are rung");
    let mut wanted = BTreeSet::new();
    for (number, (change, found)) in [
        ("rung_at = null", true),
        ("rung_at = now() - interval '6 seconds'", true),
        ("rung_at = now() - interval '4 seconds'", false),
        ("ring_incarnation = 41", true),
        ("ring_incarnation = null", true),
        (
            "rung_at = null, lease_owner = gen_random_uuid(), lease_until = now() + interval '1 hour'",
            false,
        ),
        (
            "rung_at = null, lease_owner = gen_random_uuid(), lease_until = now() - interval '1 second'",
            true,
        ),
        ("rung_at = null, due_at = now() + interval '1 hour'", false),
        ("rung_at = null, paused_at = now(), pause_reason = 'x'", false),
        ("rung_at = null, stop_requested_at = now()", false),
        ("rung_at = null, workflow_version = 99", false),
        ("rung_at = null, status = 'retry'", false),
    ]
    .into_iter()
    .enumerate()
    {
        let id = ground.execution(batch, &format!("d{number}")).await;
        set(&ground, id, change).await;
        if found {
            wanted.insert(id);
        }
    }
    assert_eq!(
        sweep(HERE, 2).await.len(),
        2,
        "no more than it was asked for"
    );
    ground
        .execute(format!(
            "update workflow_execution set rung_at = null where id in ({})",
            wanted
                .iter()
                .map(|id| format!("'{}'", id.uuid()))
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .await
        .unwrap();
    let rings = sweep(HERE, 100).await;
    let found: BTreeSet<_> = rings.iter().map(|ring| ring.execution).collect();
    assert_eq!(found, wanted);
    assert!(sweep(HERE, 100).await.is_empty(), "they are rung now");
    let mut connection = ground.store.engine().await.unwrap();
    store::mark_unrung(&mut connection, &rings[..2])
        .await
        .unwrap();
    assert_eq!(sweep(HERE, 100).await.len(), 2, "taken back, so rung again");
    assert!(
        sweep(HERE + 1, 100).await.len() > 2,
        "another Redis has none of them"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one life, told in order")]
async fn a_stopping_batch_is_cancelled_but_for_what_is_in_work() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("stopping"), documents(8)).await;
    admit(&ground, batch, 3).await;
    let mut rows = ground
        .texts("select id::text from workflow_execution where status = 'processing' order by id")
        .await
        .into_iter()
        .map(|id| WorkflowExecutionId::from(id.parse::<uuid::Uuid>().unwrap()));
    let (held, gone, failed) = (
        rows.next().unwrap(),
        rows.next().unwrap(),
        rows.next().unwrap(),
    );
    for id in [held, gone, failed] {
        lease(&ground, &request(id, Stage::Chunk, 0)).await.unwrap();
    }
    let mut transaction = ground.app().await;
    cancel(&mut transaction, gone).await;
    transaction.commit().await.unwrap();
    set(&ground, gone, "lease_until = now() - interval '1 second'").await;
    let fence = Fence {
        epoch: 1,
        ..request(failed, Stage::Chunk, 0).fence
    };
    assert!(settle(&ground, batch, fence, ExecutionStatus::Failed).await);

    let mut transaction = ground.app().await;
    let stop = async |transaction: &mut store::AppTransaction| {
        store::stop_batch(transaction, OURS, batch, Stopping::Cancel)
            .await
            .unwrap()
    };
    assert!(stop(&mut transaction).await);
    assert!(
        !stop(&mut transaction).await,
        "a second stop changes nothing"
    );
    transaction.commit().await.unwrap();
    let mut connection = ground.store.engine().await.unwrap();
    let open = store::open_batches(&mut connection).await.unwrap();
    assert!(open[0].stopping);
    let mut cancelled = Vec::new();
    for _ in 0..3 {
        cancelled.push(
            store::cancel_stopped(&mut connection, OURS, batch, 4)
                .await
                .unwrap(),
        );
    }
    assert_eq!(cancelled, [4, 3, 0]);
    assert_eq!(ground.column(held, "status").await, "processing");
    let fence = Fence {
        epoch: 1,
        ..request(held, Stage::Chunk, 0).fence
    };
    assert_eq!(
        store::interruptions(&mut connection, &[fence])
            .await
            .unwrap(),
        [(held, Interruption::Stop)],
        "its holder is told"
    );
    for (what, sql, wanted) in [
        ("events", "event_outbox where type = 'DocumentCancelled'", 7),
        (
            "the failed one",
            "event_outbox where type = 'DocumentCancelled' and payload ->> 'stage' is not null
               and payload - 'stage' = '{\"type\": \"DocumentCancelled\", \"wasFailed\": true}'",
            1,
        ),
        (
            "attempts closed",
            "workflow_activity where status = 'cancelled'",
            1,
        ),
        (
            "signals delivered",
            "workflow_signal where outcome = 'delivered'",
            1,
        ),
    ] {
        assert_eq!(
            ground.number(format!("select count(*) from {sql}")).await,
            wanted,
            "{what}"
        );
    }
    // What the statement wrote by hand is what the log reads back.
    for payload in ground.texts("select payload::text from event_outbox").await {
        serde_json::from_str::<EventKind>(&payload).unwrap();
    }
    set_batch(&ground, batch, "paused_at = now(), pause_reason = 'budget'").await;
    assert_eq!(
        store::open_batches(&mut connection).await.unwrap().len(),
        1,
        "a pause does not keep a batch from being cancelled"
    );
    set_batch(&ground, batch, "stopping = null").await;
    assert!(
        store::open_batches(&mut connection)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_applied_whatever_its_holder_left_behind() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("orphans"), documents(5)).await;
    let mut held = Vec::new();
    for ring in admit(&ground, batch, 5).await.rings {
        let lease = lease(&ground, &request(ring.execution, Stage::Chunk, 0))
            .await
            .unwrap();
        let mut transaction = ground.app().await;
        cancel(&mut transaction, ring.execution).await;
        transaction.commit().await.unwrap();
        held.push(lease.fence);
    }
    let [live, dead, advanced, retried, failed] = held[..] else {
        panic!()
    };
    set(
        &ground,
        dead.execution,
        "lease_until = now() - interval '1 second'",
    )
    .await;
    for (fence, to) in [
        (advanced, ExecutionStatus::Processing),
        (retried, ExecutionStatus::Retry),
        (failed, ExecutionStatus::Failed),
    ] {
        assert!(settle(&ground, batch, fence, to).await);
    }
    let mut connection = ground.store.engine().await.unwrap();
    let orphans: BTreeSet<_> = store::orphaned_signals(&mut connection)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    let wanted: BTreeSet<_> = [dead, advanced, retried, failed]
        .map(|f| f.execution)
        .into();
    assert_eq!(orphans, wanted);
    for id in orphans.into_iter().chain([live.execution]) {
        for _ in 0..2 {
            let mut transaction = ground.app().await;
            let status = store::answer_signals(&mut transaction, OURS, id, None)
                .await
                .unwrap();
            let wanted = if id == live.execution {
                ExecutionStatus::Processing
            } else {
                ExecutionStatus::Cancelled
            };
            assert_eq!(status, Some(wanted), "however often it is asked");
            transaction.commit().await.unwrap();
        }
    }
    for (sql, wanted) in [
        ("workflow_execution where status = 'cancelled'", 4),
        ("workflow_signal where outcome = 'delivered'", 4),
        ("event_outbox where payload ->> 'wasFailed' = 'false'", 3),
        ("event_outbox where payload ->> 'wasFailed' = 'true'", 1),
    ] {
        assert_eq!(
            ground.number(format!("select count(*) from {sql}")).await,
            wanted,
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revived_documents_get_another_round() {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("revived"), documents(5)).await;
    for ring in admit(&ground, batch, 5).await.rings {
        let lease = lease(&ground, &request(ring.execution, Stage::Chunk, 0))
            .await
            .unwrap();
        assert!(settle(&ground, batch, lease.fence, ExecutionStatus::Failed).await);
    }
    let mut connection = ground.store.engine().await.unwrap();
    let mut revived = Vec::new();
    for _ in 0..3 {
        revived.push(
            store::revive_failed(&mut connection, OURS, batch, 3)
                .await
                .unwrap(),
        );
    }
    assert_eq!(revived, [3, 2, 0]);
    let rows = ground
        .texts("select distinct concat_ws(' ', status, round) from workflow_execution")
        .await;
    assert_eq!(rows, ["retry 1"]);
    for payload in ground
        .texts("select payload::text from event_outbox where type = 'DocumentRevived'")
        .await
    {
        let event: EventKind = serde_json::from_str(&payload).unwrap();
        assert_eq!(event, EventKind::DocumentRevived { round: 1 });
    }
    let again = admit(&ground, batch, 5).await.rings;
    assert_eq!(again.len(), 5);
    let lease = lease(&ground, &request(again[0].execution, Stage::Chunk, 1))
        .await
        .unwrap();
    assert_eq!((lease.round, lease.attempt, lease.fence.epoch), (1, 2, 2));
}

/// A reader that resumes from the last position sees each event once and in order, while writers commit in an order
/// of their own.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_never_becomes_visible_behind_a_reader() {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let ground = Ground::new().await;
    let redis = Redis::start();
    let batch = ground.submit(&new_batch("log"), Vec::new()).await;
    // Ended, so that the sequencer tells nothing of its own in between.
    let queue = Queue::connect(redis.url()).await.unwrap();
    let start = async |store| {
        let settings = WorkerSettings {
            slots: 1,
            ..WorkerSettings::default()
        };
        Worker::start(store, queue.clone(), Extractors::default(), settings)
            .await
            .unwrap()
    };
    let workers = [
        start(ground.store.clone()).await,
        start(ground.another_store().await).await,
    ];
    let before = ground.ended(batch).await;
    let begun = ground.events(batch).await.last().unwrap().position;

    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = ground.store.clone();
        writers.spawn(async move {
            for number in 0..EACH {
                let mut transaction = store.app(OURS).await.unwrap();
                let event = Event {
                    organization: OURS,
                    batch,
                    execution: None,
                    kind: EventKind::BatchCreated {
                        name: format!("{writer}/{number}"),
                    },
                };
                store::append_event(&mut transaction, &event).await.unwrap();
                // Held open for a while of its own, so that ids and commits come in different orders.
                let delay = (writer * 7 + number * 13) % 17;
                tokio::time::sleep(Duration::from_millis(delay as u64)).await;
                transaction.commit().await.unwrap();
            }
        });
    }
    let mut seen = Vec::new();
    let mut cursor = begun;
    poll("the reader has seen every event", async || {
        let mut read = ground.app().await;
        for event in store::events_after(&mut read, OURS, batch, cursor, 7)
            .await
            .unwrap()
        {
            assert_eq!(event.position, cursor + 1, "gap-free and ascending");
            cursor = event.position;
            if let EventKind::BatchCreated { name } = event.kind {
                seen.push(name);
            }
        }
        (seen.len() >= WRITERS * EACH).then_some(())
    })
    .await;
    writers.join_all().await;
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &seen {
        *times.entry(name).or_default() += 1;
    }
    assert_eq!(times.len(), WRITERS * EACH);
    assert!(times.values().all(|&count| count == 1));
    assert_eq!(ground.batch(batch).await.counts, before.counts);
    for worker in workers {
        worker.drain(Duration::from_secs(5)).await;
    }
}

/// When a connection breaks in the commit of a settle, whoever settled asks the rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_in_doubt_finds_the_lease_that_it_granted_and_no_other() {
    for taken_up in [true, false] {
        let (ground, batch, id) = admitted("doubt").await;
        let first = request(id, Stage::Chunk, 0);
        let (owner, lasts) = (first.owner, first.lasts);
        let fence = lease(&ground, &first).await.unwrap().fence;
        let asked = async |owner| {
            let mut read = ground.app().await;
            store::settled_status(&mut read, fence, Stage::Chunk, owner)
                .await
                .unwrap()
        };
        assert_eq!(asked(owner).await, None, "it is not settled");
        let settled = Settled {
            incarnation: HERE,
            takeover: taken_up.then_some(Takeover { owner, lasts }),
            ..completed(Stage::Chunk, ExecutionStatus::Processing, Stage::Mentions)
        };
        let mut transaction = ground.app().await;
        store::settle(&mut transaction, fence, batch, &settled)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let attempt = taken_up.then_some(1);
        let found = Some((ExecutionStatus::Processing, attempt));
        assert_eq!(asked(owner).await, found);
        if taken_up {
            assert_eq!(asked(WorkerId::generate()).await, None);
        } else {
            // By a job that was rung for meanwhile: he works it already.
            let next = LeaseRequest {
                owner,
                ..request(id, Stage::Mentions, fence.epoch)
            };
            assert!(lease(&ground, &next).await.is_some());
            assert_eq!(asked(owner).await, None);
        }
    }
}
