//! What is sent: with and without names, first how it stands, and where it ends.

use graphmill::{
    extractors::ExtractError,
    flow::{FailurePolicy, Signal},
    workflow::{self, NewBatch},
};

use super::*;
use crate::support::{Drill, Scripted, documents};

/// The names that a progress event may have.
const FIELDS: [&str; 10] = [
    "workflowExecutionId",
    "batchId",
    "stage",
    "status",
    "progress",
    "current",
    "total",
    "entityCount",
    "relationCount",
    "timestamp",
];

fn assert_progress(event: &Told) -> Value {
    assert_eq!(
        event.event, None,
        "it has a name, so `onmessage` does not hear it"
    );
    let json = event.json();
    for (field, _) in json.as_object().unwrap() {
        assert!(FIELDS.contains(&field.as_str()), "{json}");
    }
    for field in FIELDS {
        assert!(
            json.get(field).is_some() || field.ends_with("Count"),
            "{json}"
        );
    }
    assert!(
        (0..=100).contains(&json["progress"].as_i64().unwrap()),
        "{json}"
    );
    json
}

/// The log after its end, by the paths of the batch: all events and progress.
async fn assert_over(client: &Client, urls: [&str; 2], log: &[LoggedEvent]) {
    // What is over is over: 204, at which an EventSource stops.
    let end = log.last().unwrap().position;
    for url in urls {
        let again = Reading::ask(client, url, Some(end)).await.unwrap();
        assert_eq!(again.status(), 204);
        let late = Reading::open(client, url, None).await.rest().await;
        assert_eq!((late.len(), late[0].position()), (1, end));
    }
    let late = Reading::open(client, &format!("{}?after=0", urls[0]), None)
        .await
        .rest()
        .await;
    assert_eq!(late.len(), log.len());
    // A header knows better than an address.
    let after = log[log.len() - 3].position;
    let late = Reading::open(client, &format!("{}?after=0", urls[0]), Some(after))
        .await
        .rest()
        .await;
    assert_eq!(late.len(), 2);
}

/// An execution by itself, after its end.
async fn assert_execution(client: &Client, replica: &Replica, id: &str, log: &[LoggedEvent]) {
    let path = replica.url(&format!("/api/workflows/{id}/progress"));
    let late = Reading::open(client, &path, None).await.rest().await;
    assert_eq!(late.len(), 1);
    assert_eq!(assert_progress(&late[0])["progress"], 100);
    let again = Reading::ask(client, &path, Some(late[0].position()))
        .await
        .unwrap();
    assert_eq!(again.status(), 204);
    let path = replica.url(&format!("/api/executions/{id}/events?after=0"));
    let told = Reading::open(client, &path, None).await.rest().await;
    let wanted: Vec<_> = log
        .iter()
        .filter(|event| event.execution.is_some_and(|of| of.to_string() == *id))
        .map(|event| event.position)
        .collect();
    let got: Vec<_> = told.iter().map(Told::position).collect();
    assert_eq!(got, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_followed_from_its_snapshot_to_its_end_and_no_further() {
    let mut drill = Drill::new().await;
    let ground = std::sync::Arc::clone(&drill.ground);
    let batch = ground.submit(&new_batch("shapes"), documents(3)).await;
    let replica = Replica::start(&ground, &drill.redis);
    let client = super::client();
    let (all, progress) = (
        replica.url("/api/batches/shapes/events"),
        replica.url(&format!("/api/knowledge/extraction/progress/{batch}")),
    );
    let mut reading = Reading::open(&client, &all, None).await;
    let mut watching = Reading::open(&client, &progress, None).await;
    let first = reading.block().await.unwrap().unwrap();
    assert_eq!(first.retry.as_deref(), Some("1000"));
    let snapshot = reading.must().await;
    assert_eq!(snapshot.event.as_deref(), Some("Snapshot"));
    let json = snapshot.json();
    assert_eq!(
        (&json["version"], &json["state"]),
        (&1.into(), &"Pending".into())
    );
    assert_eq!(json["batchId"], batch.to_string());
    assert_eq!(json["position"], snapshot.position());
    let json = assert_progress(&watching.must().await);
    assert_eq!(
        (&json["workflowExecutionId"], &json["progress"]),
        (&Value::Null, &0.into())
    );

    drill.start_plain().await;
    let told = reading.rest().await;
    ground.ended(batch).await;
    let log = ground.events(batch).await;
    let wanted: Vec<_> = log
        .iter()
        .filter(|event| event.position > snapshot.position())
        .map(|event| (event.position, Some(event.kind.name().to_owned())))
        .collect();
    let got: Vec<_> = told
        .iter()
        .map(|event| (event.position(), event.event.clone()))
        .collect();
    assert_eq!(got, wanted);
    for event in &told {
        let json = event.json();
        assert_eq!(json["version"], 1);
        assert_eq!(json["type"].as_str(), event.event.as_deref());
        assert_eq!(json["position"], event.position());
        assert_eq!(json["batchId"], batch.to_string());
        assert!(json["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(
        told.last().unwrap().event.as_deref(),
        Some("BatchCompleted")
    );
    let ends = told.iter().filter(|event| {
        let name = event.event.as_deref().unwrap();
        ["BatchCompleted", "BatchFailed", "BatchCancelled"].contains(&name)
    });
    assert_eq!(ends.count(), 1);

    // Each execution goes to 100 and never back.
    let told: Vec<Value> = watching.rest().await.iter().map(assert_progress).collect();
    let last = told.last().unwrap();
    assert_eq!(
        (&last["stage"], &last["status"]),
        (&"resolve".into(), &"completed".into())
    );
    assert_eq!(last["progress"], 100);
    let ids: std::collections::BTreeSet<_> = told
        .iter()
        .filter_map(|json| json["workflowExecutionId"].as_str())
        .collect();
    assert_eq!(ids.len(), 4, "three documents and the resolution");
    for id in &ids {
        let of_it = told
            .iter()
            .filter(|json| json["workflowExecutionId"] == **id);
        let percent: Vec<_> = of_it
            .map(|json| json["progress"].as_i64().unwrap())
            .collect();
        assert!(
            percent.is_sorted() && percent.last() == Some(&100),
            "{percent:?}"
        );
    }
    let counts: i64 = told
        .iter()
        .filter_map(|json| json["entityCount"].as_i64())
        .sum();
    assert!(counts > 0);

    assert_over(&client, [&all, &progress], &log).await;
    let id = ids.iter().next().unwrap();
    assert_execution(&client, &replica, id, &log).await;
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_worked_again_is_followed_to_each_of_its_ends() {
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let at = std::sync::Arc::clone(&fails);
    let mut drill = Drill::with(Scripted::new(move |unit| {
        let fail = at.load(std::sync::atomic::Ordering::SeqCst) && unit.stage == "relations";
        async move {
            if fail {
                return Err(ExtractError::Terminal("no".to_owned()));
            }
            Ok(())
        }
    }))
    .await;
    let ground = std::sync::Arc::clone(&drill.ground);
    let batch = NewBatch {
        policy: FailurePolicy::AbortAll,
        ..new_batch("again")
    };
    let batch = ground.submit(&batch, documents(4)).await;
    ground.ended(batch).await;
    fails.store(false, std::sync::atomic::Ordering::SeqCst);
    workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
        .await
        .unwrap();
    ground.ended(batch).await;
    let replica = Replica::start(&ground, &drill.redis);
    let client = super::client();
    let url = replica.url("/api/batches/again/events");
    let first = Reading::open(&client, &url, Some(0)).await.rest().await;
    let end = first.last().unwrap();
    assert_eq!(end.event.as_deref(), Some("BatchFailed"));
    let second = Reading::open(&client, &url, Some(end.position()))
        .await
        .rest()
        .await;
    assert_eq!(
        second.last().unwrap().event.as_deref(),
        Some("BatchCompleted")
    );
    let got: Vec<_> = first.iter().chain(&second).map(Told::position).collect();
    let log = ground.events(batch).await;
    assert_eq!(
        got,
        log.iter().map(|event| event.position).collect::<Vec<_>>()
    );
    // Who failed says in which stage.
    let given_up = first
        .iter()
        .find(|event| event.event.as_deref() == Some("DocumentAbandoned"))
        .unwrap()
        .json();
    assert_eq!(
        (&given_up["stage"], &given_up["status"]),
        (&"relations".into(), &"failed".into())
    );
    let stopped = first
        .iter()
        .filter(|event| event.event.as_deref() == Some("DocumentCancelled"));
    assert!(
        stopped
            .map(Told::json)
            .all(|json| json["stage"].is_string())
    );
    drill.stop().await;
}
