//! Clusters that batches share, repeats that change nothing, and writing that goes on where it stopped.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use graphmill::{
    extractors::{ExtractError, Extractors, UnitName},
    flow::{BatchStateName, Signal},
    pipeline::NewDocument,
    workflow,
};

use super::{Clusters, clusters, id_of};
use crate::support::{Drill, OURS, Scripted, documents, new_batch, quick};

fn about(id: &str, text: &str) -> NewDocument {
    NewDocument::new(id, text)
}

/// An extractor that fails documents of the name `broken` for as long as it is told to.
pub(super) fn breaking(broken: &Arc<AtomicBool>) -> Scripted {
    let broken = Arc::clone(broken);
    Scripted::new(move |unit: UnitName| {
        let fails = &*unit.document == "broken" && broken.load(Ordering::SeqCst);
        async move {
            if fails {
                return Err(ExtractError::Terminal("out of order".to_owned()));
            }
            Ok(())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_batch_finds_the_clusters_that_there_are() {
    let mut drill = Drill::with(Scripted::plain()).await;
    let ground = Arc::clone(&drill.ground);
    let first = ground.submit(&new_batch("first"), documents(6)).await;
    ground.ended(first).await;
    let before = clusters(&ground, first).await;
    let mut later = documents(3);
    later.push(about(
        "new",
        "Zoltan Kovacs was born in Budapest. He worked for Acme Corporation.",
    ));
    let second = ground.submit(&new_batch("second"), later).await;
    drill.ends(second).await;
    let after = clusters(&ground, second).await;
    assert_eq!(
        clusters(&ground, first).await,
        before,
        "the first batch is what it was"
    );
    for name in [
        "Acme Corporation",
        "Vienna",
        "Maria Keller",
        "Oslo",
        "Lisbon",
    ] {
        assert_eq!(id_of(&before, name), id_of(&after, name), "{name}");
    }
    for name in ["Zoltan Kovacs", "Budapest"] {
        assert!(!before.contains_key(id_of(&after, name)), "{name} is new");
    }
    // The others are there, and they alone.
    let shared: BTreeSet<&String> = before.keys().filter(|id| after.contains_key(*id)).collect();
    assert!(
        shared.len() >= 5 && shared.len() < after.len(),
        "{after:#?}"
    );
    let report = workflow::cluster(
        &ground.store,
        OURS,
        id_of(&before, "Vienna").parse().unwrap(),
    );
    let report = report.await.unwrap().unwrap();
    let batches: BTreeSet<_> = report
        .members
        .iter()
        .map(|member| member.batch_id)
        .collect();
    assert_eq!(batches, BTreeSet::from([first, second]));
    let alone = report
        .members
        .iter()
        .filter(|member| member.with.is_none())
        .count();
    assert_eq!(
        alone, 1,
        "every other one says whom it was merged with: {report:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_end_together_share_their_clusters() {
    let mut drill = Drill::new().await;
    for _ in 0..2 {
        let store = drill.ground.another_store().await;
        let extractors = Extractors::default().with(Scripted::plain());
        drill.start_on(store, extractors, quick()).await;
    }
    let ground = Arc::clone(&drill.ground);
    let mut batches = Vec::new();
    for name in ["a", "b", "c", "d"] {
        batches.push(ground.submit(&new_batch(name), documents(4)).await);
    }
    let have_ended = "select count(*) from batch where ended_at is not null";
    ground.until("all have ended", have_ended, 4).await;
    let mut seen: Vec<Clusters> = Vec::new();
    for &batch in &batches {
        ground.ended(batch).await;
        seen.push(clusters(&ground, batch).await);
    }
    drill.stop().await;
    for others in &seen[1..] {
        let ids = |clusters: &Clusters| clusters.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&seen[0]), ids(others));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_again_changes_nothing_but_what_is_new() {
    let broken = Arc::new(AtomicBool::new(true));
    let mut drill = Drill::with(breaking(&broken)).await;
    let ground = Arc::clone(&drill.ground);
    let mut all = documents(6);
    // It comes first of all, but only in the third generation.
    all.push(about(
        "broken",
        "Maria Keller was born in Vienna. Olga Petrova lives in Minsk.",
    ));
    let batch = ground.submit(&new_batch("again"), all).await;
    let ended = ground.ended(batch).await;
    let published = ended.resolution;
    let first = clusters(&ground, batch).await;
    let rows =
        "select concat_ws(' ', m.cluster_id, m.entity_id, m.with_entity_id, m.score, m.reason)
                from cluster_member m join batch b on b.resolution_id = m.resolution_id order by 1";
    let members = ground.texts(rows).await;
    let again = async |generation: i32| {
        workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
            .await
            .unwrap();
        let is_resolved = format!(
            "select count(*) from batch where generation = {generation} and ended_at is not null"
        );
        ground.until("it is resolved again", &is_resolved, 1).await;
        ground.ended(batch).await
    };
    let second = again(2).await;
    assert_ne!(second.resolution, published, "it was resolved again");
    assert_eq!(clusters(&ground, batch).await, first);
    assert_eq!(ground.texts(rows).await, members);
    let kept = "select count(distinct resolution_id) from cluster";
    broken.store(false, Ordering::SeqCst);
    let third = again(3).await;
    assert_eq!(third.state.name(), BatchStateName::Completed);
    assert_eq!(
        ground.number(kept).await,
        2,
        "older ones are swept, but for the last"
    );
    let more = clusters(&ground, batch).await;
    for (id, (name, class, had)) in &first {
        let (now, of, has) = &more[id];
        assert_eq!((name, class), (now, of));
        assert!(has.is_superset(had), "{name}");
    }
    assert_eq!(more.len(), first.len() + 2, "Olga and Minsk");
    drill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_before_a_break_is_not_written_again() {
    let mut drill = Drill::new().await;
    let ground = Arc::clone(&drill.ground);
    ground
        .execute(
            "create table broken (); create table written (id uuid);
             grant select on broken to graphmill_app; grant insert on written to graphmill_app;
             create function break_off() returns trigger language plpgsql as $$ begin
                 if to_regclass('broken') is not null then
                     raise exception 'out of order' using errcode = '40001';
                 end if;
                 return new;
             end $$;
             create function note() returns trigger language plpgsql as $$ begin
                 insert into written values (new.entity_id);
                 return new;
             end $$;
             create trigger break_off before insert on cluster_key for each row execute function break_off();
             create trigger note before insert on cluster_member for each row execute function note();",
        )
        .await
        .unwrap();
    drill.start_plain().await;
    let batch = ground.submit(&new_batch("broken-off"), documents(4)).await;
    let postponed = "select count(*) from workflow_execution where workflow_type = 'resolution' and status = 'retry'";
    ground.until("the resolution broke off", postponed, 1).await;
    assert_eq!(
        ground.number("select written from resolution").await,
        2,
        "clusters and members"
    );
    assert_eq!(
        ground.batch(batch).await.resolution,
        None,
        "nothing is shown"
    );
    let begun = ground.text("select id from resolution").await;
    ground.execute("drop table broken").await.unwrap();
    ground
        .execute("update workflow_execution set due_at = now() where status = 'retry'")
        .await
        .unwrap();
    let ended = drill.ends(batch).await;
    assert_eq!(ended.resolution.unwrap().to_string(), begun);
    let twice =
        "select count(*) from (select id from written group by id having count(*) > 1) again";
    assert_eq!(ground.number(twice).await, 0);
    let all = ground.number("select count(*) from written").await;
    assert_eq!(u64::try_from(all).unwrap(), ended.counts.entities);
}

/// Says how long it takes and how much memory; asserts nothing that a busy machine could break.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn fifty_thousand_entities() {
    let broken = Arc::new(AtomicBool::new(true));
    let mut drill = Drill::with(breaking(&broken)).await;
    let ground = Arc::clone(&drill.ground);
    let mut all = documents(50);
    all.push(about("broken", "Olga Petrova lives in Minsk."));
    let batch = ground.submit(&new_batch("many"), all).await;
    ground.ended(batch).await;
    ground
        .execute(
            "insert into entity (id, workflow_execution_id, organization_id, ordinal, name, type, mentions)
             select gen_random_uuid(), e.id, e.organization_id, 1000 + n,
                    initcap(substr(translate(md5((abs(hashtext(e.id::text)) % 40 * 900 + n)::text), '0123456789',
                                             'aeioubcdfg'), 1, 9)) || ' '
                    || initcap(substr(translate(md5((n * 7 % 2000)::text), '0123456789', 'aeioulmnrs'), 1, 7)),
                    (array['person', 'organization', 'location'])[1 + n % 3], array[0]
             from workflow_execution e, generate_series(1, 1000) n where e.workflow_type = 'extraction'
               and e.status = 'completed'",
        )
        .await
        .unwrap();
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        peak.to_owned()
    };
    for generation in 2..5 {
        let begun = std::time::Instant::now();
        let before = memory();
        workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
            .await
            .unwrap();
        let is_resolved = format!(
            "select count(*) from batch where generation = {generation} and ended_at is not null"
        );
        crate::support::eventually("it is resolved", async || {
            ground.number(&is_resolved).await == 1
        })
        .await;
        let rows = "select concat_ws(' ', (select count(*) from cluster c where c.resolution_id = b.resolution_id),
                        (select count(*) from cluster_key k where k.resolution_id = b.resolution_id),
                        (select count(*) from same_as s where s.resolution_id = b.resolution_id)) from batch b";
        println!(
            "{:?} for 50,000 entities; clusters, keys, links: {}; {before} -> {}",
            begun.elapsed(),
            ground.text(rows).await,
            memory()
        );
    }
    drill.stop().await;
}
