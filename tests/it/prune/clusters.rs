//! A batch that goes leaves the clusters of the others right: their ids, members and names stay, who was held by
//! somebody of it is held by somebody else, and decisions bind what is left.

use graphmill::store::Decision;
use graphmill_jobs::{ClusterId, EntityId, LinkId};

use super::*;

/// Batches `a`, `b` and `c` that speak of the same things, in this order.
async fn three() -> (Drill, Vec<BatchId>) {
    let drill = Drill::with(Scripted::plain()).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let id = drill.ground.submit(&new_batch(name), others(name, 3)).await;
        drill.ground.ended(id).await;
        ids.push(id);
    }
    (drill, ids)
}

async fn only_old(ground: &Ground, name: &str) -> Value {
    let aged =
        format!("update batch set ended_at = now() - interval '91 days' where name = '{name}'");
    ground.execute(aged).await.unwrap();
    sequenced(ground).await;
    pruned(ground, &["--batches-older-than", "90d"])
}

/// The clusters of the batches that are there: id, name and member, a line each.
async fn clusters(ground: &Ground, of: &[BatchId]) -> Vec<String> {
    let ids: Vec<String> = of.iter().map(|id| format!("'{}'", id.uuid())).collect();
    ground
        .texts(format!(
            "select concat_ws(' ', c.id, c.name, c.type, m.entity_id) from batch b
             join cluster c on c.resolution_id = b.resolution_id
             join cluster_member m on m.resolution_id = c.resolution_id and m.cluster_id = c.id
             where b.id in ({}) order by 1",
            ids.join(", ")
        ))
        .await
}

/// Members that are held by nobody who is there.
pub(super) const LOOSE: &str = "select count(*) from cluster_member m where m.with_entity_id is not null
    and not exists (select from cluster_member o where o.cluster_id = m.cluster_id and o.entity_id = m.with_entity_id)";
/// Clusters without exactly one first member.
pub(super) const HEADLESS: &str = "select count(*) from (
    select cluster_id from cluster_member group by cluster_id
    having count(*) filter (where with_entity_id is null) <> 1) as c";

/// A cluster with members in all three batches, and its members: of `a`, `b` and `c`.
async fn shared(ground: &Ground) -> (ClusterId, Vec<EntityId>) {
    let id = ground
        .text(
            "select m.cluster_id from cluster_member m join entity n on n.id = m.entity_id
             join workflow_execution e on e.id = n.workflow_execution_id
             group by m.cluster_id having count(distinct e.batch_id) = 3 order by 1 limit 1",
        )
        .await;
    let members = ground
        .texts(format!(
            "select distinct on (b.name) m.entity_id from cluster_member m join entity n on n.id = m.entity_id
             join workflow_execution e on e.id = n.workflow_execution_id join batch b on b.id = e.batch_id
             where m.cluster_id = '{id}' order by b.name, m.entity_id"
        ))
        .await;
    let uuid = |text: &String| text.parse::<uuid::Uuid>().unwrap();
    (
        ClusterId::from(uuid(&id)),
        members.iter().map(|id| uuid(id).into()).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_others_stay_and_hold_together() {
    let (drill, ids) = three().await;
    let ground = &drill.ground;
    assert_eq!(ground.number(LOOSE).await, 0);
    assert_eq!(ground.number(HEADLESS).await, 0);
    let held_by_a = "select count(*) from cluster_member m join entity n on n.id = m.with_entity_id
         join workflow_execution e on e.id = n.workflow_execution_id join batch b on b.id = e.batch_id
         where b.name = 'a' and m.resolution_id <> b.resolution_id";
    assert!(ground.number(held_by_a).await > 0, "nothing to mend");
    let before = clusters(ground, &ids[1..]).await;
    only_old(ground, "a").await;
    assert_eq!(clusters(ground, &ids[1..]).await, before);
    assert_eq!(ground.number(LOOSE).await, 0, "held by who is gone");
    assert_eq!(ground.number(HEADLESS).await, 0, "each has its first");
    // A later batch finds them.
    let cluster = {
        let id = ground
            .text(
                "select c.id from cluster c join batch b on b.resolution_id = c.resolution_id
                 group by c.id having count(*) = 2 order by 1 limit 1",
            )
            .await;
        ClusterId::from(id.parse::<uuid::Uuid>().unwrap())
    };
    let id = ground.submit(&new_batch("d"), others("d", 3)).await;
    ended(ground, id).await;
    let found = format!(
        "select count(*) from cluster c join batch b on b.resolution_id = c.resolution_id
         where c.id = '{}' and b.name = 'd'",
        cluster.uuid()
    );
    assert_eq!(ground.number(found).await, 1);
    // And people still decide about them, along the merges that are left.
    let report = workflow::cluster(&ground.store, OURS, cluster)
        .await
        .unwrap()
        .unwrap();
    let last = report.members.last().unwrap().entity_id;
    let members = report.members.len();
    workflow::split(&ground.store, OURS, cluster, &[last])
        .await
        .unwrap();
    let report = workflow::cluster(&ground.store, OURS, cluster)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(report.members.len(), members - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_bind_what_is_left_or_go() {
    let (drill, ids) = three().await;
    let ground = &drill.ground;
    let (cluster, members) = shared(ground).await;
    let [of_a, of_b, _] = members[..] else {
        panic!("a member of each")
    };
    // Whoever is of `b` is another thing than those of `a` and `c`: both sides outlive `a`.
    workflow::split(&ground.store, OURS, cluster, &[of_b])
        .await
        .unwrap();
    let stays = ground
        .text("select id from same_as where decision is not null")
        .await;
    // Whoever is of `a` is another thing still: that goes with it.
    let rest = ground
        .text(format!(
            "select cluster_id from cluster_member where entity_id = '{}'",
            of_a.uuid()
        ))
        .await;
    let rest = ClusterId::from(rest.parse::<uuid::Uuid>().unwrap());
    let mut of_all_a = Vec::new();
    let report = workflow::cluster(&ground.store, OURS, rest)
        .await
        .unwrap()
        .unwrap();
    for member in report.members {
        if member.batch_id == ids[0] {
            of_all_a.push(member.entity_id);
        }
    }
    workflow::split(&ground.store, OURS, rest, &of_all_a)
        .await
        .unwrap();
    assert_eq!(
        ground
            .number("select count(*) from same_as where decision is not null")
            .await,
        2
    );
    let aged = "update batch set ended_at = now() - interval '91 days' where name = 'a'";
    ground.execute(aged).await.unwrap();
    sequenced(ground).await;
    let dry = pruned(ground, &["--batches-older-than", "90d", "--dry-run"]);
    let report = only_old(ground, "a").await;
    assert_eq!(gone(&dry)["decisions"], gone(&report)["decisions"]);
    assert_eq!(gone(&report)["decisions"].0, 1, "{report}");
    assert_eq!(report["decisions_kept"], 1, "{report}");
    let left = ground
        .texts("select id from same_as where decision is not null")
        .await;
    assert_eq!(left, std::slice::from_ref(&stays));
    let of_gone = format!(
        "select count(*) from same_as_member where batch_id = '{}'",
        ids[0].uuid()
    );
    assert_eq!(ground.number(of_gone).await, 0);
    // It is shown with ends that are there, and can be taken back.
    let shown = workflow::links(&ground.store, OURS, ids[1], 100)
        .await
        .unwrap();
    let link = LinkId::from(stays.parse::<uuid::Uuid>().unwrap());
    let shown = shown.iter().find(|shown| shown.id == link).unwrap();
    assert_ne!(shown.batch_id, ids[0]);
    assert!(
        shown.left.cluster_id.is_some() && shown.right.cluster_id.is_some(),
        "{shown:?}"
    );
    let change = workflow::decide(&ground.store, OURS, link, Decision::Accepted).await;
    assert!(change.is_ok(), "{change:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_about_who_is_gone_goes() {
    let (drill, ids) = three().await;
    let ground = &drill.ground;
    let (_, members) = shared(ground).await;
    let [of_a, of_b, of_c] = members[..] else {
        panic!("a member of each")
    };
    for (left, right) in [(of_a, of_c), (of_b, of_c)] {
        let proposed = format!(
            "insert into same_as (id, organization_id, batch_id, resolution_id, left_entity_id, right_entity_id, score,
                                  reason)
             select gen_random_uuid(), organization_id, id, resolution_id, '{}', '{}', 0.5, 'part' from batch
             where id = '{}'",
            left.uuid(),
            right.uuid(),
            ids[2].uuid()
        );
        ground.execute(proposed).await.unwrap();
    }
    let of = format!(
        "select count(*) from same_as where decision is null and '{}' in (left_entity_id, right_entity_id)",
        of_c.uuid()
    );
    let before = ground.number(of.clone()).await;
    only_old(ground, "a").await;
    assert_eq!(ground.number(of).await, before - 1);
}
