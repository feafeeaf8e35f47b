//! `graphmill prune`, the real binary on real servers: what is old goes, what anybody needs stays, whatever is at work
//! and whenever the prune is killed.

mod clusters;
mod killed;

use std::{collections::BTreeMap, process::Command, sync::Arc};

use graphmill::{
    extractors::Extractors,
    flow::{BatchCounts, Signal},
    graph::ExportFormat,
    pipeline::NewDocument,
    store,
    workflow::{self, Submission},
};
use graphmill_jobs::BatchId;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::support::{
    self, Drill, Ground, OURS, Said, Scripted, bare, documents, new_batch, poll, quick, say,
    without_ids,
};

/// Everything that prune deletes from.
const TABLES: [&str; 21] = [
    "batch",
    "document",
    "workflow_execution",
    "workflow_activity",
    "workflow_signal",
    "checkpoint",
    "chunk",
    "mention",
    "entity",
    "relation",
    "evidence",
    "dropped_item",
    "cluster",
    "cluster_member",
    "cluster_key",
    "resolution",
    "same_as",
    "same_as_member",
    "event",
    "webhook_delivery",
    "budget",
];

/// `graphmill prune` on a database.
fn prune(ground: &Ground, arguments: &[&str]) -> Command {
    let mut command = bare();
    command
        .env("DATABASE_URL", ground.url())
        .arg("prune")
        .args(arguments);
    command
}

fn pruned(ground: &Ground, arguments: &[&str]) -> Value {
    let said: Said = say(prune(ground, arguments).arg("--json"));
    said.exits(0).json()
}

const ALL: [&str; 6] = [
    "--events-older-than",
    "0s",
    "--answers-older-than",
    "0s",
    "--batches-older-than",
    "0s",
];

/// Rows of each table.
async fn rows(ground: &Ground) -> BTreeMap<&'static str, i64> {
    let mut rows = BTreeMap::new();
    for table in TABLES {
        let count = ground.number(format!("select count(*) from {table}")).await;
        rows.insert(table, count);
    }
    rows
}

/// Bytes of all rows, as they are stored.
async fn bytes(ground: &Ground) -> i64 {
    let mut bytes = 0;
    for table in TABLES {
        let sql = format!("select coalesce(sum(pg_column_size(t)), 0)::bigint from {table} t");
        bytes += ground.number(sql).await;
    }
    bytes
}

/// The rows of the report by kind.
fn gone(report: &Value) -> BTreeMap<String, (u64, u64)> {
    let kinds = report["gone"].as_array().unwrap().iter();
    kinds
        .map(|gone| {
            let number = |key: &str| gone[key].as_u64().unwrap();
            let kind = gone["kind"].as_str().unwrap().to_owned();
            (kind, (number("rows"), number("bytes")))
        })
        .collect()
}

async fn graph(ground: &Ground, batch: BatchId) -> Value {
    let json = workflow::export(&ground.store, OURS, batch, ExportFormat::Json, Vec::new()).await;
    without_ids(&serde_json::from_slice(&json.unwrap()).unwrap())
}

/// Waits for the end of a batch whose log may have lost its beginning.
async fn ended(ground: &Ground, batch: BatchId) {
    poll("the batch has ended", async || {
        let batch = ground.batch(batch).await;
        batch.state.name().has_ended().then_some(())
    })
    .await;
}

/// Waits until the sequencer has moved every event: a batch with unmoved ones is not pruned yet.
async fn sequenced(ground: &Ground) {
    poll("all events are moved", async || {
        let unmoved = ground.number("select count(*) from event_outbox").await;
        (unmoved == 0).then_some(())
    })
    .await;
}

/// A worker, and so many batches that have ended: `old-0` of three documents, `old-1` of four …
async fn old_batches(count: usize) -> (Drill, Vec<BatchId>) {
    let drill = Drill::with(Scripted::plain()).await;
    let mut old = Vec::new();
    for number in 0..count {
        let batch = new_batch(&format!("old-{number}"));
        let id = drill.ground.submit(&batch, documents(3 + number)).await;
        drill.ground.ended(id).await;
        old.push(id);
    }
    sequenced(&drill.ground).await;
    (drill, old)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_batch_ends_with_the_same_graph_and_the_database_is_smaller() {
    let (mut drill, _) = old_batches(3).await;
    drill.stop().await;
    let ground = Arc::clone(&drill.ground);
    // A worker whose units wait for leave after the first few.
    let leave = Arc::new(Semaphore::new(7));
    let waits = Arc::clone(&leave);
    let extractor = Scripted::new(move |_| {
        let leave = Arc::clone(&waits);
        async move {
            leave.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let extractors = Extractors::default().with(extractor);
    drill.start(extractors, quick()).await;
    let running = ground.submit(&new_batch("running"), documents(10)).await;
    let units = "select count(*) from checkpoint c join workflow_execution e on e.id = c.workflow_execution_id
                 join batch b on b.id = e.batch_id where b.name = 'running' and c.stage = 'mentions'";
    poll("some of it is done", async || {
        (leave.available_permits() == 0 && ground.number(units).await > 0).then_some(())
    })
    .await;

    let (rows_before, bytes_before) = (rows(&ground).await, bytes(&ground).await);
    let report = pruned(&ground, &ALL);
    assert_eq!(report["vacuumed"], true, "{report}");
    assert_eq!(gone(&report)["batches"].0, 3, "{report}");
    assert_eq!(gone(&report)["documents"].0, 3 + 4 + 5, "{report}");
    let (rows_after, bytes_after) = (rows(&ground).await, bytes(&ground).await);
    assert!(
        bytes_after < bytes_before / 2,
        "{bytes_before} bytes, then {bytes_after}"
    );
    for (table, before) in &rows_before {
        assert!(rows_after[table] <= *before, "{table}");
    }
    assert_eq!(rows_after["batch"], 1);
    assert_eq!(rows_after["document"], 10);
    let vacuumed = "select count(*) from pg_stat_user_tables
                    where relname in ('event', 'mention') and vacuum_count > 0";
    ground.until("both are vacuumed", vacuumed, 2).await;

    leave.add_permits(10_000);
    ended(&ground, running).await;
    drill.stop().await;

    let undisturbed = Drill::with(Scripted::plain()).await;
    let fresh = undisturbed
        .ground
        .submit(&new_batch("running"), documents(10))
        .await;
    let wanted = undisturbed.ground.ended(fresh).await;
    assert_eq!(ground.batch(running).await.counts, wanted.counts);
    assert_eq!(
        graph(&ground, running).await,
        graph(&undisturbed.ground, fresh).await
    );
    // Its own log is whole: it had not ended.
    let mut counts = BatchCounts::default();
    for event in ground.events(running).await {
        counts.fold(&event.kind);
    }
    assert_eq!(counts, wanted.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_goes_and_deletes_nothing() {
    let (drill, old) = old_batches(2).await;
    let ground = &drill.ground;
    let signalled = format!(
        "insert into workflow_signal (id, workflow_execution_id, organization_id, signal_name, outcome, delivered_at)
         select gen_random_uuid(), id, organization_id, 'cancel', 'too_late', now() from workflow_execution
         where batch_id = '{}'",
        old[0].uuid()
    );
    ground.execute(signalled).await.unwrap();
    let before = rows(ground).await;
    let dry = pruned(ground, &[&ALL[..], &["--dry-run"]].concat());
    assert_eq!(rows(ground).await, before);
    assert_eq!(dry["vacuumed"], Value::Null);
    let real = pruned(ground, &ALL);
    assert_eq!(gone(&dry), gone(&real));
    let told = gone(&real);
    for (kind, tables) in [
        ("batches", &["batch"][..]),
        ("documents", &["document"]),
        ("executions", &["workflow_execution"]),
        ("activities", &["workflow_activity"]),
        ("signals", &["workflow_signal"]),
        ("checkpoints", &["checkpoint"]),
        ("chunks", &["chunk"]),
        ("mentions", &["mention"]),
        ("entities", &["entity"]),
        ("relations", &["relation"]),
        ("evidence", &["evidence"]),
        ("clusters", &["cluster", "cluster_member", "cluster_key"]),
        ("events", &["event"]),
    ] {
        let wanted: i64 = tables.iter().map(|table| before[table]).sum();
        assert!(wanted > 0, "{kind}: nothing to tell of");
        assert_eq!(told[kind].0, wanted.unsigned_abs(), "{kind}");
        assert!(told[kind].1 > 0, "{kind}");
    }
    for (table, left) in rows(ground).await {
        assert_eq!(left, 0, "{table}");
    }
    // Again: nothing is left to do.
    let again = say(&mut prune(ground, &ALL)).exits(0);
    assert_eq!(again.stdout, "nothing is that old\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_at_work_or_owed_stays() {
    let (mut drill, old) = old_batches(4).await;
    drill.stop().await;
    let ground = Arc::clone(&drill.ground);
    let [young, owing, unmoved, going] = old[..] else {
        panic!("four batches");
    };
    let open = ground.submit(&new_batch("open"), documents(2)).await;
    let age = |batch: BatchId| {
        format!(
            "update batch set ended_at = now() - interval '91 days' where id = '{}'",
            batch.uuid()
        )
    };
    for batch in [owing, unmoved, going] {
        ground.execute(age(batch)).await.unwrap();
    }
    let owe = format!(
        "insert into webhook_delivery (batch_id, generation, organization_id, id, state_data, counts)
         select id, 1, organization_id, gen_random_uuid(), '{{}}', '{{}}' from batch where id = '{}'",
        owing.uuid()
    );
    ground.execute(owe).await.unwrap();
    let event = format!(
        "insert into event_outbox (organization_id, batch_id, type, payload)
         values ('{}', '{}', 'BatchSealed', '{{\"type\": \"BatchSealed\"}}')",
        OURS.uuid(),
        unmoved.uuid()
    );
    ground.execute(event).await.unwrap();
    let report = pruned(&ground, &["--batches-older-than", "90d"]);
    assert_eq!(gone(&report)["batches"].0, 1, "{report}");
    assert_eq!(report["waiting"], 2, "{report}");
    for (batch, stays) in [
        (young, true),
        (owing, true),
        (unmoved, true),
        (open, true),
        (going, false),
    ] {
        let mut app = ground.app().await;
        let found = store::batch_by_id(&mut app, OURS, batch).await.unwrap();
        assert_eq!(found.is_some(), stays, "{batch}");
    }
    // Delivered, it may go.
    ground
        .execute("update webhook_delivery set status = 'delivered', settled_at = now()")
        .await
        .unwrap();
    let report = pruned(&ground, &["--batches-older-than", "90d"]);
    assert_eq!(gone(&report)["batches"].0, 1, "{report}");
    assert_eq!(report["waiting"], 1, "{report}");
    drill.start_plain().await;
    ended(&ground, open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_loses_its_beginning_and_says_so() {
    let (drill, old) = old_batches(1).await;
    let ground = &drill.ground;
    let (batch, of) = (old[0], old[0].uuid());
    let before = ground.events(batch).await;
    assert!(before.len() > 10);
    let middle = before[5].position;
    let aged = format!(
        "update event set created_at = now() - interval '40 days' where batch_id = '{of}' and position <= {middle}"
    );
    ground.execute(aged).await.unwrap();
    let month = ["--events-older-than", "30d"];
    // The batch has not ended long ago.
    let report = pruned(ground, &month);
    assert_eq!(report["gone"], serde_json::json!([]));
    let aged = format!("update batch set ended_at = now() - interval '31 days' where id = '{of}'");
    ground.execute(aged).await.unwrap();
    let report = pruned(ground, &month);
    assert_eq!(gone(&report)["events"].0, 6, "{report}");
    let mut app = ground.app().await;
    let to = store::events_pruned_to(&mut app, OURS, batch)
        .await
        .unwrap();
    assert_eq!(to, Some(middle));
    let after: Vec<i64> = ground
        .events(batch)
        .await
        .iter()
        .map(|e| e.position)
        .collect();
    let wanted: Vec<i64> = before[6..].iter().map(|e| e.position).collect();
    assert_eq!(after, wanted);
    // Whatever happens next comes behind everything that ever was.
    let last = before.last().unwrap().position;
    let all = pruned(ground, &["--events-older-than", "0s"]);
    assert_eq!(gone(&all)["events"].0, wanted.len() as u64);
    let next = ground.submit(&new_batch("next"), documents(1)).await;
    ended(ground, next).await;
    let events = ground.events(next).await;
    assert!(events.iter().all(|event| event.position > last));
    // The graph and the counts are there as before.
    assert_eq!(ground.batch(batch).await.counts.completed, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_going_is_none_for_anybody_else() {
    let (drill, old) = old_batches(1).await;
    let ground = &drill.ground;
    let name = ground.batch(old[0]).await.name;
    let mut app = ground.app().await;
    store::change_clusters(&mut app, OURS).await.unwrap();
    let claimed = store::claim_batches(&mut app, OURS, 0.0, &old)
        .await
        .unwrap();
    app.commit().await.unwrap();
    assert_eq!(claimed, 1);
    let mut app = ground.app().await;
    assert!(
        store::batch_by_id(&mut app, OURS, old[0])
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store::batch_by_name(&mut app, OURS, &name)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store::batches(&mut app, OURS, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    drop(app);
    let refused = Submission::to(&ground.store, OURS, old[0]).await;
    assert!(refused.is_err(), "nobody adds to it");
    let retried = workflow::signal_batch(&ground.store, OURS, old[0], Signal::Retry)
        .await
        .unwrap();
    assert!(
        matches!(retried, workflow::BatchSignalled::Nothing),
        "nobody retries it"
    );
    let export =
        workflow::export(&ground.store, OURS, old[0], ExportFormat::Json, Vec::new()).await;
    assert!(export.is_err(), "nobody exports half of it");
    let opened = format!(
        "update batch set ended_at = null, state = 'Pending', state_data = '{{\"name\": \"Pending\"}}' where id = '{}'",
        old[0].uuid()
    );
    assert_eq!(
        ground.execute(opened).await.unwrap_err(),
        "batch_pruned_stays_ended"
    );
    // Its name is free, and the next prune takes what is left of it.
    let again = ground.submit(&new_batch(&name), documents(1)).await;
    ended(ground, again).await;
    let report = pruned(ground, &["--batches-older-than", "1d"]);
    assert_eq!(gone(&report)["batches"].0, 1, "{report}");
    assert_eq!(rows(ground).await["batch"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_organization_that_is_named_is_pruned() {
    let (drill, _) = old_batches(1).await;
    let ground = &drill.ground;
    ground
        .execute("insert into organization (id, name) values (gen_random_uuid(), 'theirs')")
        .await
        .unwrap();
    let all = &ALL[..];
    let report = pruned(ground, &[all, &["--organization", "theirs"]].concat());
    assert_eq!(report["gone"], serde_json::json!([]));
    let said = say(&mut prune(
        ground,
        &[all, &["--organization", "nobody"]].concat(),
    ))
    .exits(2);
    assert!(
        said.stderr.contains("no organization `nobody`"),
        "{said:#?}"
    );
    let said = say(&mut prune(ground, &[])).exits(2);
    assert!(said.stderr.contains("--batches-older-than"), "{said:#?}");
    let report = pruned(ground, &[all, &["--all-organizations"]].concat());
    assert_eq!(gone(&report)["batches"].0, 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_does_not_own_the_tables_is_told() {
    let (drill, _) = old_batches(1).await;
    let ground = &drill.ground;
    let role = format!("r_{}", uuid::Uuid::new_v4().simple());
    let made = format!("create role {role} login; grant graphmill_app, graphmill_engine to {role}");
    ground.execute(made).await.unwrap();
    let url = ground.url().replace("//graphmill@", &format!("//{role}@"));
    assert_ne!(url, ground.url());
    let said = say(prune(ground, &ALL).env("DATABASE_URL", url)).exits(0);
    assert!(said.stdout.contains("not vacuumed"), "{said:#?}");
    ground.execute(format!("drop role {role}")).await.unwrap();
    let said = say(support::bare().args(["prune", "--help"])).exits(0);
    assert!(!said.stdout.contains("--step-rows"), "{said:#?}");
}

/// Documents that speak of the same people as others, under other ids.
fn others(prefix: &str, count: usize) -> Vec<NewDocument> {
    let mut documents = documents(count);
    for document in &mut documents {
        document.id = format!("{prefix}-{}", document.id);
        document.text = format!("{} This is {prefix}.", document.text);
    }
    documents
}
