//! The statements of `store` and the functions of `flow` decide the same: every combination of what a statement looks
//! at is written as a row, and both are asked. What the model proves of the functions holds for the SQL by this.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use graphmill::{
    flow::{
        BatchView, ExecutionStatus, ExecutionView, Failure, FailureCode, LeaseState, RingView,
        Signal, Stage, StageEnd, WORKFLOW_VERSION, settled,
    },
    store::{
        self, AdmitLimits, CheckpointRow, Fence, LeaseRequest, Settled, Settlement, TakeUp,
        Takeover, UnitEnd,
    },
    workflow::NewBatch,
};
use graphmill_jobs::{BatchId, WorkerId, WorkflowExecutionId};
use serde_json::json;

use crate::support::{Ground, OURS, completed, new_batch};

const HERE: i64 = 42;
const EPOCH: i64 = 7;
const BOOLS: [bool; 2] = [false, true];
const EPOCHS: [i64; 3] = [EPOCH - 1, EPOCH, EPOCH + 1];
const OPEN: BatchView = BatchView {
    stopping: false,
    paused: false,
    ended: false,
};
/// How each state of a ring reads in the columns `rung_at` and `ring_incarnation`.
const RINGS: [(RingView, &str); 7] = [
    (ring(false, false, false), "null, null"),
    (ring(false, false, true), "null, 42"),
    (ring(true, false, true), "now() - interval '4 seconds', 42"),
    (ring(true, false, false), "now() - interval '4 seconds', 41"),
    (
        ring(true, false, false),
        "now() - interval '4 seconds', null",
    ),
    (ring(true, true, true), "now() - interval '1 hour', 42"),
    (ring(true, true, false), "now() - interval '1 hour', 41"),
];
/// How old an unanswered ring must be; the test must be done before the younger ones are as old.
const PATIENCE: Duration = Duration::from_secs(1800);

const fn ring(rung: bool, overdue: bool, here: bool) -> RingView {
    RingView {
        rung,
        overdue,
        here,
    }
}

/// Every row that the schema's CHECKs let be: a lease needs `processing`.
fn views() -> Vec<ExecutionView> {
    let mut views = Vec::new();
    for status in ExecutionStatus::ALL {
        for lease in LeaseState::ALL {
            if lease != LeaseState::Free && status != ExecutionStatus::Processing {
                continue;
            }
            for bits in 0..16 {
                views.push(ExecutionView {
                    status,
                    stage: Stage::Mentions,
                    epoch: EPOCH,
                    lease,
                    due: bits & 1 != 0,
                    paused: bits & 2 != 0,
                    stop_requested: bits & 4 != 0,
                    version: WORKFLOW_VERSION + i32::from(bits & 8 != 0),
                });
            }
        }
    }
    views
}

/// The same without what a write or a stop does not look at.
fn held_views() -> Vec<ExecutionView> {
    let plain = |view: &ExecutionView| {
        view.due && !view.paused && view.version == WORKFLOW_VERSION && !view.stop_requested
    };
    views().into_iter().filter(plain).collect()
}

/// Rows to be inserted together.
struct Rows {
    holder: WorkerId,
    values: String,
}

impl Rows {
    fn new() -> Self {
        Self {
            holder: WorkerId::generate(),
            values: String::new(),
        }
    }

    fn add(&mut self, batch: BatchId, view: &ExecutionView, ring: &str) -> WorkflowExecutionId {
        let id = WorkflowExecutionId::generate();
        let holder = self.holder.uuid();
        let failed = matches!(
            view.status,
            ExecutionStatus::Failed | ExecutionStatus::Abandoned
        );
        let lease = match view.lease {
            LeaseState::Free => "null, null".to_owned(),
            LeaseState::Live => format!("'{holder}', now() + interval '1 hour'"),
            LeaseState::Expired => format!("'{holder}', now() - interval '1 second'"),
        };
        let only = |yes: bool, value: &'static str| if yes { value } else { "null" };
        write!(
            self.values,
            "{}('{}', '{}', '{}', 1, gen_random_uuid(), 'extraction', {}, '{}', '{}', {}, {}, {lease}, {}, {}, {},
              {}, {}, {ring})",
            if self.values.is_empty() { "" } else { "," },
            id.uuid(),
            OURS.uuid(),
            batch.uuid(),
            view.version,
            view.status,
            view.stage.activity_name(),
            only(failed, r#"'{"code": "extractor", "message": "no", "retryable": false}'"#),
            only(view.status.is_final(), "now()"),
            view.epoch,
            if view.due { "now() - interval '1 second'" } else { "now() + interval '1 hour'" },
            only(view.paused, "now()"),
            only(view.paused, "'by hand'"),
            only(view.stop_requested, "now()"),
        )
        .unwrap();
        id
    }

    async fn insert(self, ground: &Ground) {
        ground
            .execute(format!(
                "insert into workflow_execution (id, organization_id, batch_id, generation, document_id,
                     workflow_type, workflow_version, status, current_activity, error, completed_at,
                     lease_owner, lease_until, lease_epoch, due_at, paused_at, pause_reason,
                     stop_requested_at, rung_at, ring_incarnation)
                 values {}",
                self.values
            ))
            .await
            .unwrap();
    }
}

/// A batch as the view says, with room for all.
async fn batch(ground: &Ground, view: BatchView) -> BatchId {
    let wide = NewBatch {
        concurrency: 10_000,
        ..new_batch(&format!("{view:?}"))
    };
    let id = ground.submit(&wide, Vec::new()).await;
    let mut changes = vec!["name = name"];
    if view.stopping {
        changes.push("stopping = 'cancel'");
    }
    if view.paused {
        changes.push("paused_at = now(), pause_reason = 'by hand'");
    }
    if view.ended {
        changes.push("ended_at = now(), state = 'Failed', state_data = '{\"name\": \"Failed\"}'");
    }
    let sql = format!(
        "update batch set {} where id = '{}'",
        changes.join(", "),
        id.uuid()
    );
    assert_eq!(ground.execute(sql).await, Ok(1));
    id
}

fn batch_views(ended: &[bool]) -> Vec<BatchView> {
    let mut views = Vec::new();
    for &ended in ended {
        for stopping in BOOLS {
            for paused in BOOLS {
                views.push(BatchView {
                    stopping,
                    paused,
                    ended,
                });
            }
        }
    }
    views
}

/// The executions for which `what` is so, by their rows.
async fn rows_where(ground: &Ground, what: &str) -> BTreeSet<WorkflowExecutionId> {
    ground
        .texts(format!(
            "select id::text from workflow_execution where {what}"
        ))
        .await
        .into_iter()
        .map(|id| WorkflowExecutionId::from(id.parse::<uuid::Uuid>().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn admissions() {
    let ground = Ground::new().await;
    let (mut yes, mut no) = (0, 0);
    for of in batch_views(&BOOLS) {
        let batch = batch(&ground, of).await;
        let mut rows = Rows::new();
        let mut wanted = BTreeSet::new();
        for view in views() {
            let id = rows.add(batch, &view, "null, null");
            if view.may_admit(of) {
                wanted.insert(id);
            } else {
                no += 1;
            }
        }
        yes += wanted.len();
        rows.insert(&ground).await;
        let mut transaction = ground.store.engine_transaction().await.unwrap();
        let admitted = store::admit(&mut transaction, OURS, batch, 10_000, HERE)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let admitted: BTreeSet<_> = admitted.rings.iter().map(|ring| ring.execution).collect();
        assert_eq!(admitted, wanted, "{of:?}");
    }
    // An admission is sought in an open batch alone, for what is queued or to be tried again.
    assert_eq!((yes, yes + no), (4, 8 * 144));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases() {
    let ground = Ground::new().await;
    let mut rows = Rows::new();
    let mut asked = Vec::new();
    for of in batch_views(&[false]) {
        let batch = batch(&ground, of).await;
        for view in views() {
            asked.push((of, view, rows.add(batch, &view, "null, null")));
        }
    }
    rows.insert(&ground).await;
    let mut connection = ground.store.engine().await.unwrap();
    let mut granted = BTreeSet::new();
    for (of, view, execution) in asked {
        // The job that tells the truth comes last, since it changes the row.
        let lies = EPOCHS
            .map(|epoch| (Stage::Entities, epoch))
            .into_iter()
            .chain([(view.stage, EPOCH - 1), (view.stage, EPOCH + 1)]);
        let lies = lies.filter(|_| view.status == ExecutionStatus::Processing);
        for (stage, epoch) in lies.chain([(view.stage, EPOCH)]) {
            let request = LeaseRequest {
                fence: Fence {
                    organization: OURS,
                    execution,
                    epoch,
                },
                stage,
                owner: WorkerId::generate(),
                lasts: Duration::from_secs(3600),
            };
            let lease = store::lease(&mut connection, &request).await.unwrap();
            let may = view.may_lease(of, stage, epoch);
            assert_eq!(lease.is_some(), may, "{of:?} {view:?} {stage} {epoch}");
            if let Some(lease) = lease {
                assert_eq!(lease.fence.epoch, EPOCH + 1);
                granted.insert(execution);
            }
        }
    }
    assert_eq!(granted.len(), 2, "free and expired");
    let raised = format!("lease_epoch = {EPOCH} + 1 and lease_until > now()");
    assert_eq!(rows_where(&ground, &raised).await, granted);
}

#[tokio::test(flavor = "multi_thread")]
async fn rings() {
    let ground = Ground::new().await;
    let mut rows = Rows::new();
    let mut wanted = BTreeSet::new();
    let paused = BatchView {
        paused: true,
        ..OPEN
    };
    for of in [OPEN, paused] {
        let batch = batch(&ground, of).await;
        for view in views() {
            for (ring, columns) in RINGS {
                let id = rows.add(batch, &view, columns);
                if view.must_ring(of, ring) {
                    wanted.insert(id);
                }
            }
        }
    }
    rows.insert(&ground).await;
    let mut connection = ground.store.engine().await.unwrap();
    let rung = store::to_ring(&mut connection, HERE, PATIENCE, 10_000)
        .await
        .unwrap();
    let rung: BTreeSet<_> = rung.rings.iter().map(|ring| ring.execution).collect();
    assert_eq!(rung, wanted);
    // Nobody's or an expired lease, and any ring but the one that is still to be answered.
    assert_eq!(wanted.len(), 2 * (RINGS.len() - 1));
}

/// An admission takes up exactly what a job would then get the lease of, and of the first stage alone.
#[tokio::test(flavor = "multi_thread")]
async fn admissions_with_a_lease() {
    let ground = Ground::new().await;
    let takeover = Takeover {
        owner: WorkerId::generate(),
        lasts: Duration::from_secs(3600),
    };
    let limits = AdmitLimits {
        take_up: Some(TakeUp {
            takeover,
            most: 1000,
        }),
        ..AdmitLimits::default()
    };
    let (mut taken, mut rung) = (BTreeSet::new(), BTreeSet::new());
    for of in batch_views(&BOOLS) {
        let batch = batch(&ground, of).await;
        let mut rows = Rows::new();
        for stage in [Stage::Chunk, Stage::Mentions] {
            for view in views() {
                let view = ExecutionView { stage, ..view };
                let id = rows.add(batch, &view, "null, null");
                let admitted = ExecutionView {
                    status: ExecutionStatus::Processing,
                    ..view
                };
                let begins = stage == Stage::Chunk && admitted.may_lease(of, stage, EPOCH);
                match (view.may_admit(of), begins) {
                    (false, _) => {}
                    (true, true) => _ = taken.insert(id),
                    (true, false) => _ = rung.insert(id),
                }
            }
        }
        rows.insert(&ground).await;
        let mut transaction = ground.store.admission(true).await.unwrap();
        let admitted = store::admit_from(&mut transaction, OURS, batch, None, limits, HERE).await;
        transaction.commit().await.unwrap();
        let admitted = admitted.unwrap();
        assert_eq!(admitted.taken_up.len() + admitted.rings.len(), {
            let open = !(of.stopping || of.paused || of.ended);
            if open { 8 } else { 0 }
        });
        for ring in &admitted.rings {
            assert!(rung.contains(&ring.execution), "{of:?}");
        }
        for (ring, lease) in &admitted.taken_up {
            assert!(taken.contains(&ring.execution), "{of:?}");
            assert_eq!(lease.fence.execution, ring.execution);
            assert_eq!((ring.epoch, lease.fence.epoch), (EPOCH, EPOCH + 1));
        }
    }
    // Queued and to be tried again; those that are to stop, and those of another stage.
    assert_eq!((taken.len(), rung.len()), (2, 2 + 4));
    assert_eq!(rows_where(&ground, &leased_to(takeover.owner)).await, taken);
    let free = format!(
        "status = 'processing' and lease_epoch = {EPOCH} and lease_owner is null and lease_until is null
         and rung_at is not null"
    );
    assert_eq!(rows_where(&ground, &free).await, rung);
}

/// What is so of a row that was leased, for long, under the epoch that follows.
fn leased_to(owner: WorkerId) -> String {
    format!(
        "lease_epoch = {EPOCH} + 1 and lease_owner = '{}' and lease_until > now() + interval '30 minutes'
         and exists (select from workflow_activity a where a.workflow_execution_id = workflow_execution.id
                     and a.lease_epoch = {EPOCH} + 1 and a.status = 'running'
                     and a.activity_name = current_activity)",
        owner.uuid()
    )
}

/// A settle takes the next stage up exactly where a job for it would then get the lease.
#[tokio::test(flavor = "multi_thread")]
async fn takeovers() {
    let ground = Ground::new().await;
    let mut rows = Rows::new();
    let mut asked = Vec::new();
    let is_held = |view: &ExecutionView| {
        view.lease != LeaseState::Free && view.due && view.version == WORKFLOW_VERSION
    };
    for of in batch_views(&[false]) {
        let batch = batch(&ground, of).await;
        for view in views().into_iter().filter(is_held) {
            for wanted in BOOLS {
                let execution = rows.add(batch, &view, "now(), 42");
                asked.push((of, batch, view, wanted, execution));
            }
        }
    }
    rows.insert(&ground).await;
    let owner = WorkerId::generate();
    let (mut taken, mut left) = (BTreeSet::new(), BTreeSet::new());
    for (of, batch, view, wanted, execution) in asked {
        let moved = settled(Stage::Mentions, StageEnd::Done).unwrap();
        let settled = Settled {
            takeover: wanted.then_some(Takeover {
                owner,
                lasts: Duration::from_secs(3600),
            }),
            ..done(&[])
        };
        let fence = Fence {
            organization: OURS,
            execution,
            epoch: EPOCH,
        };
        let mut transaction = ground.app().await;
        let settlement = store::settle(&mut transaction, fence, batch, &settled).await;
        transaction.commit().await.unwrap();
        let next = ExecutionView {
            status: moved.status,
            stage: moved.stage,
            lease: LeaseState::Free,
            ..view
        };
        let may = wanted && next.may_lease(of, moved.stage, EPOCH);
        let expected = match (may, view.paused || view.stop_requested) {
            (_, true) => Settlement::Signalled,
            (true, false) => Settlement::TakenUp(1),
            (false, false) => Settlement::Written,
        };
        assert_eq!(settlement.unwrap(), expected, "{of:?} {view:?} {wanted}");
        if may {
            taken.insert(execution);
        } else {
            left.insert(execution);
        }
    }
    assert_eq!(taken.len(), 2, "live and expired");
    assert_eq!(rows_where(&ground, &leased_to(owner)).await, taken);
    let free = format!("lease_epoch = {EPOCH} and lease_owner is null and lease_until is null");
    assert_eq!(rows_where(&ground, &free).await, left);
}

/// The settle of `mentions` that is done.
fn done(units: &[CheckpointRow]) -> Settled<'_> {
    let moved = settled(Stage::Mentions, StageEnd::Done).unwrap();
    Settled {
        units,
        incarnation: HERE,
        ..completed(Stage::Mentions, moved.status, moved.stage)
    }
}

fn unit() -> CheckpointRow {
    CheckpointRow {
        stage: Stage::Mentions,
        unit: 0,
        round: 0,
        tries: 1,
        deaths: 0,
        input_hash: [0; 32],
        end: UnitEnd::Done(json!([])),
    }
}

/// The writes that a lease is for.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Settle,
    Release,
    RecordUnits,
    Renew,
}

async fn write_under(
    ground: &Ground,
    deed: Deed,
    fence: Fence,
    batch: BatchId,
    holder: WorkerId,
) -> bool {
    let mut transaction = ground.app().await;
    let done = match deed {
        Deed::Settle => {
            // Its units are written under the same fence.
            let units = [unit()];
            let settlement = store::settle(&mut transaction, fence, batch, &done(&units)).await;
            let written = format!(
                "id = '{}' and exists (select from checkpoint c
                                   where c.workflow_execution_id = workflow_execution.id)",
                fence.execution.uuid()
            );
            let settled = settlement.unwrap() != Settlement::Lost;
            transaction.commit().await.unwrap();
            assert_eq!(!rows_where(ground, &written).await.is_empty(), settled);
            return settled;
        }
        Deed::RecordUnits => store::record_units(&mut transaction, fence, &[unit()])
            .await
            .unwrap(),
        Deed::Release => {
            let reason = Failure::transient(FailureCode::LeaseLost, "handed back");
            let mut connection = ground.store.engine().await.unwrap();
            store::release(&mut connection, fence, &reason)
                .await
                .unwrap();
            let handed = format!("id = '{}' and rung_at is null", fence.execution.uuid());
            !rows_where(ground, &handed).await.is_empty()
        }
        Deed::Renew => {
            let mut connection = ground.store.engine().await.unwrap();
            let lasts = Duration::from_secs(3600);
            let kept = store::renew_leases(&mut connection, holder, &[fence], lasts)
                .await
                .unwrap();
            kept == [fence.execution]
        }
    };
    transaction.commit().await.unwrap();
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_under_a_lease() {
    let ground = Ground::new().await;
    let batch = batch(&ground, OPEN).await;
    let mut rows = Rows::new();
    let holder = rows.holder;
    let mut asked = Vec::new();
    for view in held_views() {
        for deed in [Deed::Settle, Deed::Release, Deed::RecordUnits, Deed::Renew] {
            for epoch in EPOCHS {
                let execution = rows.add(batch, &view, "now(), 42");
                let fence = Fence {
                    organization: OURS,
                    execution,
                    epoch,
                };
                asked.push((view, deed, fence));
            }
        }
    }
    rows.insert(&ground).await;
    let mut taken = 0;
    for (view, deed, fence) in asked {
        let may = view.may_write(fence.epoch);
        let done = write_under(&ground, deed, fence, batch, holder).await;
        assert_eq!(done, may, "{view:?} {deed:?} {}", fence.epoch);
        taken += usize::from(done);
    }
    assert_eq!(taken, 2 * 4, "live and expired, at the row's epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn stops() {
    let ground = Ground::new().await;
    let stopping = BatchView {
        stopping: true,
        ..OPEN
    };
    let (here, there) = (batch(&ground, OPEN).await, batch(&ground, stopping).await);
    let mut rows = Rows::new();
    let (mut by_signal, mut orphaned) = (Vec::new(), Vec::new());
    let mut wanted = BTreeSet::new();
    for view in held_views() {
        let asked = ExecutionView {
            stop_requested: true,
            ..view
        };
        let ids = [
            rows.add(here, &view, "null, null"),
            rows.add(here, &asked, "null, null"),
            rows.add(there, &view, "null, null"),
        ];
        by_signal.push(ids[0]);
        orphaned.push((view, ids[1]));
        if view.may_stop() {
            wanted.extend(ids);
        }
    }
    rows.insert(&ground).await;
    // Some were stopped before: they count for nobody.
    let before = rows_where(&ground, "status = 'cancelled'").await;
    for id in by_signal {
        let mut transaction = ground.app().await;
        store::send_signal(&mut transaction, OURS, id, Signal::Cancel, &json!({}))
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        // Whoever holds a lease is asked; that is not what is compared here.
        let asked = format!(
            "update workflow_execution set stop_requested_at = null where id = '{}'",
            id.uuid()
        );
        assert_eq!(ground.execute(asked).await, Ok(1));
    }
    for (_, id) in &orphaned {
        let asked = format!(
            "insert into workflow_signal (id, organization_id, workflow_execution_id, signal_name)
             values (gen_random_uuid(), '{}', '{}', 'cancel')",
            OURS.uuid(),
            id.uuid()
        );
        assert_eq!(ground.execute(asked).await, Ok(1));
    }
    let mut connection = ground.store.engine().await.unwrap();
    let found = store::orphaned_signals(&mut connection).await.unwrap();
    for (view, id) in orphaned {
        assert!(
            found.contains(&(OURS, id)) || !view.may_stop(),
            "{view:?} is found"
        );
        let mut transaction = ground.app().await;
        let status = store::answer_signals(&mut transaction, OURS, id, None)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let stopped =
            status == Some(ExecutionStatus::Cancelled) && view.status != ExecutionStatus::Cancelled;
        assert_eq!(stopped, view.may_stop(), "{view:?}");
    }
    let mut transaction = ground.store.engine_transaction().await.unwrap();
    store::cancel_stopped(&mut transaction, OURS, there, 10_000)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let after = rows_where(&ground, "status = 'cancelled'").await;
    assert_eq!(
        after.difference(&before).copied().collect::<BTreeSet<_>>(),
        wanted
    );
    assert_eq!(
        wanted.len(),
        3 * 5,
        "queued, retry, failed, and processing with a free or expired lease"
    );
}
