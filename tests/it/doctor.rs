//! `graphmill doctor` on a fleet: each thing that can be wrong is made wrong, is told of with its remedy, and is no more
//! once it is put right.

use std::{process::Command, sync::Arc, time::Duration};

use graphmill::{extractors::Extractors, flow::Stage, queue::Queue};
use graphmill_jobs::{OrganizationId, Ring, WorkflowExecutionId};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;

use crate::support::{
    Drill, MAX_CONNECTIONS, Scripted, bare, documents, new_batch, poll, quick, say,
};

fn doctor(drill: &Drill) -> Command {
    let mut command = bare();
    command
        .env("DATABASE_URL", drill.ground.url())
        .env("REDIS_URL", drill.redis.url())
        .arg("doctor");
    command
}

/// What it says of one check.
fn check(drill: &Drill, name: &str, arguments: &[&str]) -> Value {
    let said = say(doctor(drill).args(arguments).arg("--json"));
    let all = said.json();
    let checks = all["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == name);
    check
        .unwrap_or_else(|| panic!("no check `{name}`: {all}"))
        .clone()
}

#[track_caller]
fn assert_fails(check: &Value, found: &str, remedy: &str) {
    assert_eq!(check["ok"], false, "{check}");
    let says = |key: &str, wanted: &str| {
        check[key]
            .as_str()
            .is_some_and(|text| text.contains(wanted))
    };
    assert!(says("found", found), "`{found}`: {check}");
    assert!(says("remedy", remedy), "`{remedy}`: {check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_and_too_few_are_told_of() {
    let drill = Drill::new().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(PgConnection::connect(drill.ground.url()).await.unwrap());
    }
    let found = check(&drill, "connections", &["--connections", "1000"]);
    assert_fails(
        &found,
        &format!(" of {MAX_CONNECTIONS} used, this process may open 1000"),
        "max_connections",
    );
    let used = found["found"].as_str().unwrap().split(' ').next().unwrap();
    assert!(used.parse::<usize>().unwrap() > open.len(), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_that_nobody_takes_in_are_told_of() {
    let drill = Drill::new().await;
    let client = redis::Client::open(drill.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    assert_eq!(check(&drill, "submissions", &[])["ok"], true);
    let () = redis::cmd("RPUSH")
        .arg(&["graphmill:submit:active", "submit:a"])
        .query_async(&mut connection)
        .await
        .unwrap();
    let found = check(&drill, "submissions", &[]);
    assert_fails(&found, "1 wait", "graphmill worker");
}

/// Workers whose units wait until they may go on.
async fn stuck() -> (Drill, Arc<Semaphore>) {
    let leave = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&leave);
    let extractor = Scripted::new(move |_| {
        let leave = Arc::clone(&waits);
        async move {
            leave.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let mut drill = Drill::new().await;
    drill
        .start(Extractors::default().with(extractor), quick())
        .await;
    (drill, leave)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_at_work_is_well() {
    let (mut drill, leave) = stuck().await;
    let batch = drill
        .ground
        .submit(&new_batch("at-work"), documents(3))
        .await;
    let leased = "select count(*) from workflow_execution where lease_until > now()";
    drill.ground.until("all are in work", leased, 3).await;
    let found = check(&drill, "leases", &[]);
    assert_eq!(found["ok"], true, "{found}");
    assert_eq!(found["found"], "3 held, 0 ran out");
    for name in [
        "outbox",
        "webhooks",
        "window",
        "slow sessions",
        "dead rows",
        "work",
    ] {
        let found = check(&drill, name, &[]);
        assert_eq!(found["ok"], true, "{found}");
    }
    let window = check(&drill, "window", &[]);
    // Eight slots for each stage.
    assert!(
        window["found"].as_str().unwrap().contains("mentions 0/32"),
        "{window}"
    );
    leave.add_permits(1000);
    drill.ends(batch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_told_of() {
    let (mut drill, leave) = stuck().await;
    let ground = Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("left"), documents(1)).await;
    let leased = "select count(*) from workflow_execution where lease_until > now()";
    ground.until("it is in work", leased, 1).await;
    let holder = "select lease_owner from workflow_execution where lease_owner is not null";
    let owner = ground.text(holder).await;
    // Its worker is gone, and no other one comes.
    drill.stop_within(Duration::from_millis(100)).await;
    drop(leave);
    let expired = format!(
        "update workflow_execution set status = 'processing', lease_owner = '{owner}',
                lease_until = now() - interval '2 minutes', due_at = now() - interval '2 minutes', error = null,
                completed_at = null
         where batch_id = '{}' and workflow_type = 'extraction'",
        batch.uuid()
    );
    ground.execute(expired).await.unwrap();
    ground.execute("delete from worker").await.unwrap();
    let found = check(&drill, "leases", &[]);
    assert_fails(&found, "0 held, 1 ran out; exec_", "graphmill worker");
    ground
        .execute(format!(
            "insert into worker (id, version, slots) values ('{owner}', 'v', 1)"
        ))
        .await
        .unwrap();
    let found = check(&drill, "leases", &[]);
    assert_fails(
        &found,
        " s ago, and nobody took it over",
        "graphmill execution show exec_",
    );
    // In people's words too, and with the exit code of a failure.
    let said = say(&mut doctor(&drill)).exits(3);
    assert!(said.stdout.contains("FAIL leases"), "{said:#?}");
    ground
        .execute("update batch set paused_at = now(), pause_reason = 'hand'")
        .await
        .unwrap();
    assert_eq!(
        check(&drill, "leases", &[])["ok"],
        true,
        "paused work need not be taken over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_nobody_moves_are_told_of() {
    let drill = Drill::new().await;
    let ground = &drill.ground;
    let batch = ground.submit(&new_batch("unmoved"), documents(1)).await;
    // However long the look takes.
    ground
        .execute("update event_outbox set created_at = now() + interval '5 minutes'")
        .await
        .unwrap();
    let young = check(&drill, "outbox", &[]);
    assert_eq!(young["ok"], true, "{young}");
    ground
        .execute("update event_outbox set created_at = now() - interval '1 minute'")
        .await
        .unwrap();
    let found = check(&drill, "outbox", &[]);
    assert_fails(&found, &format!("of {batch}"), "nobody moves them");
    let mut drill = drill;
    drill.start_plain().await;
    drill.ends(batch).await;
    assert_eq!(
        check(&drill, "outbox", &[])["found"],
        "0 events without a position"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_lies_idle_is_told_of() {
    let drill = Drill::new().await;
    let ground = &drill.ground;
    let batch = ground.submit(&new_batch("owing"), documents(1)).await;
    let owe = format!(
        "insert into webhook_delivery (batch_id, generation, organization_id, id, state_data, counts, next_due)
         select id, 1, organization_id, gen_random_uuid(), '{{}}', '{{}}', now() - interval '2 minutes' from batch
         where id = '{}'",
        batch.uuid()
    );
    ground.execute(owe).await.unwrap();
    assert_fails(
        &check(&drill, "webhooks", &[]),
        "due for a minute",
        "--notify-secret",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_nobody_takes_are_told_of() {
    let drill = Drill::new().await;
    let queue = Queue::connect(drill.redis.url()).await.unwrap();
    let ring = Ring {
        execution: WorkflowExecutionId::generate(),
        organization: OrganizationId::DEFAULT,
        epoch: 0,
        version: 1,
        traceparent: None,
    };
    queue.ring(Stage::Chunk, &[ring], 32).await.unwrap();
    assert_fails(
        &check(&drill, "window", &[]),
        "chunk 1/32",
        "no living worker takes chunk",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_transaction_is_told_of_until_it_ends() {
    let drill = Drill::new().await;
    let mut connection = PgConnection::connect(drill.ground.url()).await.unwrap();
    sqlx::raw_sql("set application_name = 'somebody'; begin; select 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let pid = drill
        .ground
        .text("select pid from pg_stat_activity where application_name = 'somebody'")
        .await;
    let slow = ["--slow", "10ms"];
    let found = poll("it is seen", async || {
        let found = check(&drill, "slow sessions", &slow);
        (found["ok"] == false).then_some(found)
    })
    .await;
    assert_fails(
        &found,
        &format!("{pid} `somebody` idle in transaction"),
        &format!("pg_terminate_backend({pid})"),
    );
    let young = check(&drill, "slow sessions", &["--slow", "1h"]);
    assert_eq!(young["ok"], true, "it is young");
    sqlx::raw_sql("rollback")
        .execute(&mut connection)
        .await
        .unwrap();
    let found = check(&drill, "slow sessions", &slow);
    assert!(
        !found["found"].as_str().unwrap().contains("somebody"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_a_lock_is_told_of() {
    let drill = Drill::new().await;
    let mut holder = PgConnection::connect(drill.ground.url()).await.unwrap();
    sqlx::raw_sql("begin; lock table same_as")
        .execute(&mut holder)
        .await
        .unwrap();
    let mut waiter = PgConnection::connect(drill.ground.url()).await.unwrap();
    let waiting = tokio::spawn(async move {
        sqlx::raw_sql("set application_name = 'waiter'; select count(*) from same_as")
            .execute(&mut waiter)
            .await
            .unwrap();
    });
    poll("it is seen", async || {
        let found = check(&drill, "slow sessions", &["--slow", "10ms"]);
        let found = found["found"].as_str().unwrap();
        found.contains("`waiter` active").then(|| {
            assert!(found.contains("waits for Lock relation"), "{found}");
        })
    })
    .await;
    sqlx::raw_sql("rollback")
        .execute(&mut holder)
        .await
        .unwrap();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_full_of_dead_rows_is_told_of_until_it_is_vacuumed() {
    let drill = Drill::new().await;
    let ground = &drill.ground;
    ground
        .execute("alter table ontology set (autovacuum_enabled = off); alter table event set (autovacuum_enabled = off)")
        .await
        .unwrap();
    ground
        .execute(
            "insert into event (position, organization_id, batch_id, type, payload, created_at)
             select n, gen_random_uuid(), gen_random_uuid(), 'x', '{}', now() from generate_series(1, 12000) n;
             delete from event where position <= 11000",
        )
        .await
        .unwrap();
    let found = poll("the statistics have it", async || {
        let found = check(&drill, "dead rows", &[]);
        (found["ok"] == false).then_some(found)
    })
    .await;
    assert_fails(
        &found,
        "event 91 % dead (11000 rows",
        "`vacuum (analyze) event`",
    );
    ground.execute("vacuum (analyze) event").await.unwrap();
    poll("it is clean", async || {
        let found = check(&drill, "dead rows", &[]);
        (found["ok"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_is_not_loaded_is_no_trouble() {
    let drill = Drill::new().await;
    // Where it is not installed it can't be there by half.
    let _ = drill
        .ground
        .execute("create extension pg_stat_statements")
        .await;
    let said = say(doctor(&drill).arg("--json"));
    assert!(!said.stdout.contains("slowest on average"), "{said:#?}");
    assert_eq!(check(&drill, "slow sessions", &[])["ok"], true);
}
