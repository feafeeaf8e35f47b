//! Documents that are added, sent again and removed, before and after the batch's end.

use std::time::Duration;

use graphmill::flow::{BatchStateName, Signal};
use tokio::sync::Semaphore;

use super::*;
use crate::support::poll;

#[tokio::test(flavor = "multi_thread")]
async fn adding_to_an_ended_batch_works_what_is_new_and_resolves_all() {
    let begun = Begun::default();
    let (mut drill, ground) = drill(&begun).await;
    let first: Vec<NewDocument> = (0..4).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("grown"), first.clone()).await;
    let before = ground.ended(batch).await;
    begun.take();

    let same = add(&ground, batch, first).await.unwrap();
    assert_eq!((same.added, same.unchanged), (0, 4));
    let same = ground.batch(batch).await;
    assert_eq!(
        (same.generation, &same.state),
        (1, &before.state),
        "a no-op"
    );

    add(&ground, batch, vec![version(2, 0), version(4, 0)])
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.generation, 2);
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    let worked = begun.take();
    assert!(
        worked.keys().all(|unit| unit.starts_with("d4/")) && !worked.is_empty(),
        "{worked:?}"
    );
    assert_eq!(ground.told(batch, "BatchReopened").await, 1);
    assert_eq!(ground.told(batch, "ResolutionCompleted").await, 2);
    assert_holds(&ground, batch, (0..5).map(|n| version(n, 0)).collect()).await;
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_document_replaces_its_own_contribution_and_going_back_costs_nothing() {
    let begun = Begun::default();
    let (mut drill, ground) = drill(&begun).await;
    let first = (0..4).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("changed"), first).await;
    ground.ended(batch).await;
    begun.take();

    let changed = add(&ground, batch, vec![version(1, 1), version(2, 0)]).await;
    let changed = changed.unwrap();
    assert_eq!(
        (changed.added, changed.replaced, changed.unchanged),
        (0, 1, 1)
    );
    ground.ended(batch).await;
    let worked = begun.take();
    assert!(
        worked.keys().all(|unit| unit.starts_with("d1/")),
        "{worked:?}"
    );
    assert_eq!(ground.told(batch, "DocumentReplaced").await, 1);
    let now = [version(0, 0), version(1, 1), version(2, 0), version(3, 0)];
    assert_holds(&ground, batch, now.to_vec()).await;
    begun.take();

    add(&ground, batch, vec![version(1, 0)]).await.unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!(ended.generation, 3);
    assert_eq!(
        begun.take(),
        HashMap::new(),
        "its units have their checkpoints"
    );
    assert_holds(&ground, batch, (0..4).map(|n| version(n, 0)).collect()).await;
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_document_takes_what_it_alone_supports_along() {
    let begun = Begun::default();
    let (mut drill, ground) = drill(&begun).await;
    let first = (0..4).map(|n| version(n, 0)).collect();
    let batch = ground.submit(&new_batch("removed"), first).await;
    ground.ended(batch).await;
    begun.take();

    // By the caller's id and by graphmill's.
    let id = ground
        .text("select id::text from document where external_id = 'd3'")
        .await;
    let id = graphmill_jobs::DocumentId::from(id.parse::<uuid::Uuid>().unwrap());
    let removed = remove(&ground, batch, &["d1", &id.to_string()]).await;
    assert_eq!(removed.removed, 2);
    let ended = ground.ended(batch).await;
    assert_eq!(
        (ended.generation, ended.state.name()),
        (2, BatchStateName::Completed)
    );
    assert_eq!(begun.take(), HashMap::new());
    assert_eq!(ground.told(batch, "DocumentRemoved").await, 2);
    assert_holds(&ground, batch, vec![version(0, 0), version(2, 0)]).await;

    let again = remove(&ground, batch, &["d1"]).await;
    assert_eq!((again.removed, again.gone), (0, vec!["d1".to_owned()]));
    let wanted = vec!["d0".to_owned(), "nobody".to_owned()];
    let unknown = workflow::remove_documents(&ground.store, OURS, batch, &wanted).await;
    assert!(
        matches!(&unknown, Err(workflow::RemoveError::Unknown(ids)) if *ids == ["nobody"]),
        "{unknown:?}"
    );
    assert_eq!(
        ground.batch(batch).await.generation,
        2,
        "nothing was removed"
    );

    remove(&ground, batch, &["d0", "d2"]).await;
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(holds(&ended.counts), [0; 6]);
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_may_be_swapped_and_a_text_that_is_anothers_is_refused() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let named = |id: &str, like: &NewDocument| NewDocument::new(id, like.text.clone());
    let (a, b) = (version(0, 0), version(1, 0));
    let batch = open(&ground, &new_batch("swapped"), vec![a.clone(), b.clone()]).await;
    ground.at_rest(batch).await;
    let swapped = vec![named("d0", &b), named("d1", &a)];
    assert_eq!(
        add(&ground, batch, swapped.clone()).await.unwrap().replaced,
        2
    );
    ground.at_rest(batch).await;

    // What it said before is withdrawn all the same.
    let refused = add(&ground, batch, vec![named("d0", &a)]).await.unwrap();
    assert_eq!((refused.replaced, refused.refused.len()), (0, 1));
    let rested = ground.at_rest(batch).await;
    assert_eq!((rested.counts.accepted, rested.counts.duplicate), (1, 1));
    let again = add(&ground, batch, vec![named("d0", &a)]).await.unwrap();
    assert_eq!((again.unchanged, again.refused.len()), (1, 0));

    // Once the text is free, and sent again, it is taken, and the refusal is forgotten.
    remove(&ground, batch, &["d1"]).await;
    assert_eq!(
        add(&ground, batch, vec![named("d0", &a)])
            .await
            .unwrap()
            .added,
        1
    );
    let rested = ground.at_rest(batch).await;
    assert_eq!((rested.counts.accepted, rested.counts.duplicate), (1, 0));
    workflow::seal_batch(&ground.store, OURS, batch)
        .await
        .unwrap();
    ground.ended(batch).await;
    assert_holds(&ground, batch, vec![named("d0", &a)]).await;
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_in_the_middle_of_its_work_writes_nothing_any_more() {
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    let begun = Begun::default();
    let seen = begun.clone();
    let mut drill = Drill::with(Scripted::new(move |unit| {
        *seen.0.lock().unwrap().entry(unit.to_string()).or_default() += 1;
        let held = Arc::clone(&held);
        async move {
            let _permit = held.acquire().await;
            Ok(())
        }
    }))
    .await;
    let ground = Arc::clone(&drill.ground);
    let first = (0..4).map(|n| version(n, 0)).collect();
    let batch = open(&ground, &new_batch("cut"), first).await;
    poll("all are in work", async || {
        (begun.0.lock().unwrap().len() >= 4).then_some(())
    })
    .await;
    remove(&ground, batch, &["d0"]).await;
    add(&ground, batch, vec![version(1, 1)]).await.unwrap();
    let cut = "select count(*) from workflow_execution
               where withdrawn_at is not null and status = 'cancelled' and lease_owner is null";
    assert_eq!(ground.number(cut).await, 2);
    permits.add_permits(10_000);
    ground.at_rest(batch).await;
    workflow::seal_batch(&ground.store, OURS, batch)
        .await
        .unwrap();
    ground.ended(batch).await;
    let now = [version(1, 1), version(2, 0), version(3, 0)];
    assert_holds(&ground, batch, now.to_vec()).await;
    drill.stop_within(Duration::from_secs(10)).await;
}

/// A little pseudo-random generator: the same seed, the same changes.
fn next(seed: &mut u64, below: usize) -> usize {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % below
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_in_whatever_order_the_batch_holds_what_it_holds() {
    for mut seed in [1, 2, 3] {
        let (mut drill, ground) = drill(&Begun::default()).await;
        let mut current: HashMap<usize, usize> = HashMap::from([(0, 0), (1, 0), (2, 0)]);
        let first = (0..3).map(|n| version(n, 0)).collect();
        let batch = open(&ground, &new_batch("random"), first).await;
        for _ in 0..14 {
            let number = next(&mut seed, 6);
            match next(&mut seed, 7) {
                0..=2 => {
                    let wanted = next(&mut seed, 3);
                    let added = add(&ground, batch, vec![version(number, wanted)]).await;
                    match added {
                        Ok(_) => _ = current.insert(number, wanted),
                        Err(SubmitError::Illegal(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                3 | 4 if current.contains_key(&number) => {
                    let wanted = vec![format!("d{number}")];
                    let removed =
                        workflow::remove_documents(&ground.store, OURS, batch, &wanted).await;
                    match removed {
                        Ok(_) => _ = current.remove(&number),
                        Err(workflow::RemoveError::Change(SubmitError::Illegal(_))) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                5 => _ = workflow::seal_batch(&ground.store, OURS, batch).await,
                6 if ground.batch(batch).await.sealed => _ = ground.ended(batch).await,
                _ => {}
            }
        }
        let _ = workflow::seal_batch(&ground.store, OURS, batch).await;
        ground.ended(batch).await;
        // One that was emptied and filled again may have been cancelled nowhere, and failed nowhere.
        let documents: Vec<NewDocument> = current.into_iter().map(|(n, v)| version(n, v)).collect();
        assert_holds(&ground, batch, documents).await;
        drill.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_was_cut_off_is_sealed_by_its_repeat() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let batch = ground
        .submit(&new_batch("cut off"), vec![version(0, 0)])
        .await;
    ground.ended(batch).await;
    let mut submission = Submission::to(&ground.store, OURS, batch).await.unwrap();
    submission.add(version(1, 0)).await.unwrap();
    // Five hundred fill a step, which opens the next generation; then it is cut off.
    for number in 2..502 {
        let text = format!("Number {number}.");
        let document = NewDocument::new(format!("n{number}"), text);
        submission.add(document).await.unwrap();
    }
    drop(submission);
    let open = ground.batch(batch).await;
    assert_eq!((open.generation, open.sealed), (2, false));
    let completed = "select count(*) from workflow_execution
                     where status = 'completed' and workflow_type = 'extraction'";
    ground.until("what came is worked", completed, 501).await;
    // A retry has no part in it.
    workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
        .await
        .unwrap();
    assert!(!ground.batch(batch).await.sealed);
    add(&ground, batch, vec![version(1, 0), version(2, 0)])
        .await
        .unwrap();
    let ended = ground.ended(batch).await;
    assert_eq!((ended.generation, ended.counts.completed), (2, 502));
    drill.stop().await;
}
