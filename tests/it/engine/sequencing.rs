//! A batch that the sequencer can't move keeps its events, and stops no other.

use std::sync::Arc;

use graphmill::flow::BatchStateName;
use graphmill_jobs::BatchId;

use crate::support::{Drill, Ground, Scripted, documents, new_batch, poll};

/// Writes an event that this version does not know, as a newer one would; returns its place in the outbox.
async fn tell_unknown(ground: &Ground, batch: BatchId) -> i64 {
    ground
        .number(format!(
            "insert into event_outbox (organization_id, batch_id, type, payload)
             select organization_id, id, 'DocumentTranslated', '{{\"type\": \"DocumentTranslated\"}}'
             from batch where id = '{}' returning id",
            batch.uuid()
        ))
        .await
}

async fn waiting(ground: &Ground, batch: BatchId) -> i64 {
    ground
        .number(format!(
            "select count(*) from event_outbox where batch_id = '{}'",
            batch.uuid()
        ))
        .await
}

/// Waits until every document of the batch is done, whether or not it was told.
async fn worked(ground: &Ground, batch: BatchId, documents: i64) {
    let completed = format!(
        "select count(*) from workflow_execution where status = 'completed' and batch_id = '{}'",
        batch.uuid()
    );
    ground
        .until("the documents are worked", &completed, documents)
        .await;
}

/// The names of the batch's events, in the order of the log.
async fn log(ground: &Ground, batch: BatchId) -> Vec<&'static str> {
    let events = ground.events(batch).await;
    events.iter().map(|event| event.kind.name()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_version_holds_its_batch_and_no_other() {
    let ground = Ground::new().await;
    let ours = ground.submit(&new_batch("newer"), documents(3)).await;
    let unknown = tell_unknown(&ground, ours).await;
    let mut drill = Drill::over(ground);
    drill.start_plain().await;
    let ground = Arc::clone(&drill.ground);
    worked(&ground, ours, 3).await;
    let other = ground.submit(&new_batch("other"), documents(3)).await;
    poll("the other batch ends", async || {
        ground
            .batch(other)
            .await
            .state
            .name()
            .has_ended()
            .then_some(())
    })
    .await;

    let before = ["BatchCreated", "DocumentsAdded", "BatchSealed"];
    assert_eq!(log(&ground, ours).await, before, "up to the unknown one");
    let held = format!(
        "select min(id) from event_outbox where batch_id = '{}'",
        ours.uuid()
    );
    assert_eq!(ground.number(held).await, unknown, "nothing overtakes it");
    assert!(waiting(&ground, ours).await > 3 * 5);

    // As a newer version reads it; this one only looks again.
    let known = format!(
        "update event_outbox set type = 'DocumentsAdded', payload = '{{\"type\": \"DocumentsAdded\",
         \"accepted\": 0, \"refused\": 0, \"duplicate\": 0, \"later\": true}}' where id = {unknown}"
    );
    assert_eq!(ground.execute(known).await, Ok(1));
    let ended = drill.ends(ours).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    let log = log(&ground, ours).await;
    assert_eq!(log[..4], [&before[..], &["DocumentsAdded"]].concat());
    assert_eq!(
        ground
            .number("select count(*) from event where payload ->> 'later' = 'true'")
            .await,
        1,
        "what this version does not know of it is kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn however_much_of_a_held_batch_waits_the_others_go_on() {
    let ground = Ground::new().await;
    let ours = ground.submit(&new_batch("flood"), documents(1)).await;
    for unknown in ["DocumentTranslated", "DocumentDreamtOf"] {
        let flood = format!(
            "insert into event_outbox (organization_id, batch_id, type, payload)
             select organization_id, id, '{unknown}', '{{\"type\": \"{unknown}\"}}'
             from batch cross join generate_series(1, 1500) where id = '{}'",
            ours.uuid()
        );
        assert_eq!(ground.execute(flood).await, Ok(1500));
    }
    let other = ground.submit(&new_batch("other"), documents(3)).await;
    let mut drill = Drill::over(ground);
    drill.start_plain().await;
    let ground = Arc::clone(&drill.ground);
    poll("the other batch ends", async || {
        ground
            .batch(other)
            .await
            .state
            .name()
            .has_ended()
            .then_some(())
    })
    .await;
    assert!(waiting(&ground, ours).await >= 3000);
    assert_eq!(
        ground
            .execute(
                "delete from event_outbox where type in ('DocumentTranslated', 'DocumentDreamtOf')"
            )
            .await,
        Ok(3000)
    );
    drill.ends(ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_row_can_not_be_read_or_written_is_left_as_it_is() {
    for (name, spoil, mend) in [
        (
            "counts",
            "counts = jsonb_build_object('was', counts)",
            "counts = counts -> 'was'",
        ),
        // It is told to be sealed and isn't: the table's own rules refuse to let it resolve.
        ("rules", "sealed_at = null", "sealed_at = now()"),
    ] {
        let ground = Ground::new().await;
        let ours = ground.submit(&new_batch(name), documents(2)).await;
        let set = |change: &str| format!("update batch set {change} where id = '{}'", ours.uuid());
        assert_eq!(ground.execute(set(spoil)).await, Ok(1), "{name}");
        let mut drill = Drill::over(ground);
        drill.start_plain().await;
        let ground = Arc::clone(&drill.ground);
        worked(&ground, ours, 2).await;
        let other = ground.submit(&new_batch("other"), documents(2)).await;
        poll("the other batch ends", async || {
            ground
                .batch(other)
                .await
                .state
                .name()
                .has_ended()
                .then_some(())
        })
        .await;
        assert!(waiting(&ground, ours).await > 0, "{name}");
        assert_eq!(ground.execute(set(mend)).await, Ok(1), "{name}");
        let ended = drill.ends(ours).await;
        assert_eq!(ended.state.name(), BatchStateName::Completed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_row_somebody_has_locked_stops_no_other() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let ground = Arc::clone(&drill.ground);
    let ours = ground.submit(&new_batch("locked"), documents(2)).await;
    let mut somebody = ground.app().await;
    sqlx::raw_sql("select from batch for update")
        .execute(&mut *somebody)
        .await
        .unwrap();
    let other = ground.submit(&new_batch("other"), documents(2)).await;
    poll("the other batch ends", async || {
        ground
            .batch(other)
            .await
            .state
            .name()
            .has_ended()
            .then_some(())
    })
    .await;
    assert!(!ground.batch(ours).await.state.name().has_ended());
    somebody.rollback().await.unwrap();
    drill.ends(ours).await;
}
