//! A prune is killed, as `kill -9` does, after each of several steps, and run again: the end is that of one that was
//! left alone.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use super::*;

/// Small steps, so that there are many to be killed in.
const SMALL: [&str; 2] = ["--step-rows", "4"];

/// After how many steps it is killed.
const KILLS: [usize; 8] = [1, 3, 7, 15, 30, 60, 100, 150];

/// Three batches that speak of the same things; the first two are old. What is left in the end: rows, and the graph.
async fn scene() -> (Drill, BatchId) {
    let drill = Drill::with(Scripted::plain()).await;
    let ground = &drill.ground;
    let mut last = None;
    for name in ["a", "b", "c"] {
        let id = ground.submit(&new_batch(name), others(name, 4)).await;
        ground.ended(id).await;
        last = Some(id);
    }
    let aged = "update batch set ended_at = now() - interval '91 days' where name in ('a', 'b')";
    ground.execute(aged).await.unwrap();
    (drill, last.unwrap())
}

/// What is left: rows by table, the graph, and who is in which cluster; and every cluster holds together.
async fn left(
    ground: &Ground,
    batch: BatchId,
) -> (BTreeMap<&'static str, i64>, Value, Vec<String>) {
    let held = "select concat_ws(' ', c.id, c.name, n.name, d.external_id)
         from cluster_member m
         join cluster c on c.resolution_id = m.resolution_id and c.id = m.cluster_id
         join entity n on n.id = m.entity_id
         join workflow_execution e on e.id = n.workflow_execution_id
         join document d on d.id = e.document_id
         order by 1";
    assert_eq!(ground.number(clusters::LOOSE).await, 0);
    assert_eq!(ground.number(clusters::HEADLESS).await, 0);
    let mut rows = rows(ground).await;
    // A stage that takes a while tells of it: two runs of the same batch need not have as many events.
    rows.remove("event");
    let others = format!(
        "select count(*) from event where batch_id <> '{}'",
        batch.uuid()
    );
    assert_eq!(ground.number(others).await, 0);
    (rows, graph(ground, batch).await, ground.texts(held).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_prune_goes_on_when_it_is_run_again() {
    let old = ["--batches-older-than", "90d", "--no-vacuum"];
    let (undisturbed, batch) = scene().await;
    let before = graph(&undisturbed.ground, batch).await;
    pruned(&undisturbed.ground, &old);
    let wanted = left(&undisturbed.ground, batch).await;
    assert_eq!(wanted.0["batch"], 1);
    assert_eq!(
        wanted.1, before,
        "the third batch has the graph that it had"
    );

    let (drill, batch) = scene().await;
    let ground = &drill.ground;
    let mut kills = 0;
    for steps in KILLS {
        let mut child = prune(ground, &[&old[..], &SMALL].concat())
            .args(["--log", "graphmill=debug"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let seen = lines
            .map_while(Result::ok)
            .filter(|line| line.contains("pruned a step"))
            .take(steps)
            .count();
        if seen < steps {
            // It came to its end before.
            assert!(child.wait().unwrap().success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // Nobody sees half a batch meanwhile.
        let mut app = ground.app().await;
        let seen = store::batches(&mut app, OURS, None, 10).await.unwrap();
        for batch in seen {
            let whole = format!(
                "select count(*) from document where batch_id = '{}'",
                batch.id.uuid()
            );
            assert_eq!(ground.number(whole).await, 4, "{}", batch.name);
        }
    }
    assert!(kills >= 4, "it was killed {kills} times only");
    pruned(ground, &[&old[..], &SMALL].concat());
    assert_eq!(left(ground, batch).await, wanted);
}
