//! What is read grows with what is asked for, and not with what a batch or its organization has published; with
//! statements that were planned while the tables were empty, and without statistics.

use graphmill::store::{self, PoolSettings, Store};
use graphmill_jobs::{BatchId, ClusterId, EntityId};
use uuid::Uuid;

use crate::support::{Drill, Ground, OURS, documents, new_batch, texts};

/// Clusters that are published beside what is asked for.
const MANY: i64 = 3_000;
/// Rows that a question for ten may read at most: each with its cluster, its batch and its entity.
const FEW: i64 = 200;

/// A published batch with many clusters, all of which have the key 7 and each a key of its own from 1,000 on.
async fn filled(drill: &mut Drill) -> BatchId {
    drill.start_plain().await;
    let batch = drill.ground.submit(&new_batch("large"), documents(2)).await;
    drill.ground.ended(batch).await;
    drill
        .ground
        .execute(format!(
            "with of as (select organization_id as o, id as b, resolution_id as r,
                                (select id from entity order by id limit 1) as e from batch),
             added as (
                 insert into cluster (organization_id, batch_id, resolution_id, id, name, type)
                 select o, b, r, gen_random_uuid(), 'n' || n, 'person' from of, generate_series(1, {MANY}) n
                 returning id, name
             ), joined as (
                 insert into cluster_member (organization_id, resolution_id, cluster_id, entity_id)
                 select o, r, id, gen_random_uuid() from of, added
             )
             select set_config('graphmill.none', count(*)::text, true) from added",
        ))
        .await
        .unwrap();
    drill
        .ground
        .execute(
            "insert into cluster_key (organization_id, batch_id, resolution_id, key, cluster_id, entity_id)
             select c.organization_id, c.batch_id, c.resolution_id, k.key, c.id,
                    (select id from entity order by id limit 1)
             from (select *, row_number() over (order by id) as n from cluster where name like 'n%') c
             cross join lateral (values (7::bigint), (1000 + c.n)) as k (key)",
        )
        .await
        .unwrap();
    batch
}

/// Rows that the transaction has read of the tables of clusters.
async fn read(transaction: &mut store::AppTransaction) -> i64 {
    let sql = "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint::text from pg_stat_xact_user_tables
               where relname in ('cluster', 'cluster_member', 'cluster_key', 'batch', 'entity')";
    texts(&mut **transaction, sql).await[0].parse().unwrap()
}

async fn ids<I: From<Uuid>>(ground: &Ground, sql: &str) -> Vec<I> {
    let ids = ground.texts(sql).await;
    ids.into_iter()
        .map(|id| id.parse::<Uuid>().unwrap().into())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_reads_no_more_than_it_is_about() {
    let mut drill = Drill::new().await;
    let another = BatchId::generate();
    // One connection: what it has planned it never plans again.
    let one = PoolSettings {
        app: 1,
        ..PoolSettings::default()
    };
    let store = Store::connect(drill.ground.url(), &one).await.unwrap();
    let mut asked = store.app(OURS).await.unwrap();
    let nobody = [ClusterId::from(Uuid::now_v7())];
    store::published_page(&mut asked, OURS, another, None, 10)
        .await
        .unwrap();
    store::cluster_page(&mut asked, OURS, another, None, 10)
        .await
        .unwrap();
    store::clusters_elsewhere(&mut asked, OURS, another, &nobody)
        .await
        .unwrap();
    store::clusters_of_entities(&mut asked, OURS, &[EntityId::from(Uuid::now_v7())])
        .await
        .unwrap();
    store::published_members(&mut asked, OURS, &nobody, 10)
        .await
        .unwrap();
    store::clusters_by_key(&mut asked, OURS, another, &[7])
        .await
        .unwrap();
    asked.commit().await.unwrap();

    let batch = filled(&mut drill).await;
    let ground = &drill.ground;
    let clusters: Vec<ClusterId> = ids(ground, "select id from cluster order by id limit 10").await;
    let members: Vec<EntityId> = ids(
        ground,
        "select entity_id from cluster_member order by 1 limit 10",
    )
    .await;

    let mut asked = store.app(OURS).await.unwrap();
    let page = store::published_page(&mut asked, OURS, batch, None, 10).await;
    let page = page.unwrap();
    assert_eq!(page.len(), 10);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "a page of members reads {rows} rows");
    let after = page.last().map(|last| (last.cluster.id, last.entity));
    let next = store::published_page(&mut asked, OURS, batch, after, 10).await;
    assert!(next.unwrap()[0].cluster.id > clusters[5]);
    let rows = read(&mut asked).await;
    assert!(rows <= 2 * FEW, "and so does the next: {rows} rows");

    drop(asked);
    let mut asked = store.app(OURS).await.unwrap();
    let page = store::cluster_page(&mut asked, OURS, batch, None, 10).await;
    assert_eq!(page.unwrap().len(), 10);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "a page of clusters reads {rows} rows");

    drop(asked);
    let mut asked = store.app(OURS).await.unwrap();
    let found = store::clusters_elsewhere(&mut asked, OURS, another, &clusters).await;
    assert_eq!(found.unwrap().len(), 10);
    let own = store::clusters_elsewhere(&mut asked, OURS, batch, &clusters).await;
    assert_eq!(own.unwrap().len(), 0);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "ten clusters by id read {rows} rows");

    drop(asked);
    let mut asked = store.app(OURS).await.unwrap();
    let found = store::clusters_of_entities(&mut asked, OURS, &members).await;
    assert_eq!(found.unwrap().len(), 10);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "ten clusters by member read {rows} rows");

    drop(asked);
    let mut asked = store.app(OURS).await.unwrap();
    let found = store::published_members(&mut asked, OURS, &clusters, 1000).await;
    assert!(found.unwrap().len() >= 10);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "the members of ten clusters read {rows} rows");

    drop(asked);
    let mut asked = store.app(OURS).await.unwrap();
    let keys: Vec<i64> = (1001..1011).collect();
    let found = store::clusters_by_key(&mut asked, OURS, another, &keys).await;
    assert_eq!(found.unwrap().len(), 10);
    let rows = read(&mut asked).await;
    assert!(rows <= FEW, "ten keys read {rows} rows");
    let shared = store::clusters_by_key(&mut asked, OURS, another, &[7]).await;
    assert_eq!(shared.unwrap().len(), 16, "the first few of a key");
    let rows = read(&mut asked).await;
    assert!(rows <= 2 * FEW, "a key of all of them reads {rows} rows");
    let own = store::clusters_by_key(&mut asked, OURS, batch, &keys).await;
    assert_eq!(own.unwrap().len(), 0, "not the batch's own");
    drop(asked);
    store.close().await;
    drill.stop().await;
}
