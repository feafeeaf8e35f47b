//! A batch that is kept open, and what a batch says to what it can't do.

use graphmill::flow::{BatchStateName, Signal};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_open_batch_works_what_it_has_and_stays_open_until_it_is_sealed() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let batch = open(
        &ground,
        &new_batch("open"),
        vec![version(0, 0), version(1, 0)],
    )
    .await;
    let rested = ground.at_rest(batch).await;
    assert_eq!(rested.state.name(), BatchStateName::Assembling);
    assert_eq!((rested.counts.completed, rested.counts.clusters), (2, 0));
    // A level look of the sequencer, which comes every second, does not end it either.
    let begun = std::time::Instant::now();
    while begun.elapsed().as_millis() < 1500 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(ground.batch(batch).await.state, rested.state);
    }
    let added = add(&ground, batch, vec![version(1, 0), version(2, 0)]).await;
    let added = added.unwrap();
    assert_eq!((added.added, added.replaced, added.unchanged), (1, 0, 1));
    assert_eq!(ground.at_rest(batch).await.counts.completed, 3);
    workflow::seal_batch(&ground.store, OURS, batch)
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.generation, 1);
    for (event, times) in [
        ("BatchKeptOpen", 1),
        ("BatchSealed", 1),
        ("DocumentsAdded", 2),
        ("ResolutionStarted", 1),
    ] {
        assert_eq!(ground.told(batch, event).await, times, "{event}");
    }
    assert_holds(&ground, batch, (0..3).map(|n| version(n, 0)).collect()).await;
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_batch_of_nothing_rests_and_ends_empty() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let batch = open(&ground, &new_batch("empty"), Vec::new()).await;
    assert_eq!(ground.at_rest(batch).await.counts.accepted, 0);
    workflow::seal_batch(&ground.store, OURS, batch)
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    drill.stop().await;
}

#[track_caller]
fn assert_illegal<T: std::fmt::Debug>(
    asked: Result<T, SubmitError>,
    machine: &str,
    state: &str,
    event: &str,
) {
    match asked {
        Err(SubmitError::Illegal(refused)) => {
            assert_eq!(
                (refused.machine, refused.state, refused.event),
                (machine, state, event)
            );
        }
        other => panic!("{other:?}"),
    }
}

async fn removal(ground: &Ground, batch: BatchId) -> Result<Removed, SubmitError> {
    match workflow::remove_documents(&ground.store, OURS, batch, &["d0".to_owned()]).await {
        Ok(removed) => Ok(removed),
        Err(workflow::RemoveError::Change(error)) => Err(error),
        Err(unknown @ workflow::RemoveError::Unknown(_)) => panic!("{unknown}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_can_not_do_is_refused_with_its_state_and_changes_nothing() {
    let ground = Ground::new().await;
    let seal = async |batch| workflow::seal_batch(&ground.store, OURS, batch).await;
    let one = || vec![version(7, 0)];
    let batch = ground
        .submit(&new_batch("sealed"), vec![version(0, 0)])
        .await;
    let all = "select (select count(*) from document) + (select count(*) from event_outbox)
                      + (select count(*) from workflow_execution)";
    let before = ground.number(all).await;
    assert_illegal(
        add(&ground, batch, one()).await,
        "sealed batch",
        "Pending",
        "add",
    );
    assert_illegal(
        removal(&ground, batch).await,
        "sealed batch",
        "Pending",
        "remove",
    );
    assert_illegal(seal(batch).await, "sealed batch", "Pending", "seal");
    let moved = "update batch set state = 'ExtractingMentions',
                     state_data = '{\"name\": \"ExtractingMentions\", \"progress\": {\"current\": 0, \"total\": 1}}'";
    ground.execute(moved).await.unwrap();
    let added = add(&ground, batch, one()).await;
    assert_illegal(added, "sealed batch", "ExtractingMentions", "add");
    let stopping = "update batch set stopping = 'cancel'";
    ground.execute(stopping).await.unwrap();
    let added = add(&ground, batch, one()).await;
    assert_illegal(added, "stopping batch", "ExtractingMentions", "add");
    let retried =
        "update batch set stopping = null, sealed_at = null, filling = 'retry', generation = 2";
    ground.execute(retried).await.unwrap();
    let added = add(&ground, batch, one()).await;
    assert_illegal(added, "batch in preparation", "ExtractingMentions", "add");
    assert_illegal(
        seal(batch).await,
        "batch in preparation",
        "ExtractingMentions",
        "seal",
    );
    assert_eq!(ground.number(all).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_batch_is_not_sealed_again_and_a_cancelled_one_may_be_added_to() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let batch = open(&ground, &new_batch("ended"), vec![version(0, 0)]).await;
    ground.at_rest(batch).await;
    workflow::signal_batch(&ground.store, OURS, batch, Signal::Cancel)
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Cancelled);
    let sealed = workflow::seal_batch(&ground.store, OURS, batch).await;
    assert_illegal(sealed, "ended batch", "Cancelled", "seal");
    add(&ground, batch, vec![version(1, 0)]).await.unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.completed, 2);
    drill.stop().await;
}
