//! Nothing crosses from one organization to another by either lock alone: by the keys that every query has, with row
//! security out of the way, and by row security, with the wrong keys in the query.

use std::fs;

use graphmill::store::{self, Connection, EntityFilter, NameRange, RelationFilter, Store};
use graphmill_jobs::{
    BatchId, ClusterId, DocumentId, EntityId, LinkId, OntologyId, OrganizationId, RelationId,
    WorkflowExecutionId,
};
use sqlx::Connection as _;

use crate::{
    roles::{OF_AN_ORGANIZATION, seed, theirs},
    support::{Ground, OURS},
};

/// Queries over a table of organizations that name none: those of whoever schedules over all of them. Each stands here
/// by how it begins.
const OVER_ALL: [&str; 8] = [
    // What Prometheus asks of the fleet: counts, and nothing of anybody's.
    "with open as materialized ( select id, paused_at is not null or stopping is not null as held",
    "select state, paused_at is not null as \"paused!\", count(*) as \"batches!\" from batch",
    "select batch_id, count(*) as \"count!\" from workflow_execution where batch_id = any($1)",
    "select id from batch where id = any($1)",
    "select id, batch_id, payload from event_outbox",
    "select exists (select from webhook_delivery",
    "update webhook_delivery set lease_until",
    "update webhook_delivery set status",
];

/// Ids of ours.
struct Things {
    batch: BatchId,
    document: DocumentId,
    execution: WorkflowExecutionId,
    ontology: OntologyId,
    entity: EntityId,
    relation: RelationId,
    cluster: ClusterId,
    link: LinkId,
}

impl Things {
    async fn of(ground: &Ground, organization: OrganizationId) -> Self {
        let of = organization.uuid();
        let id = async |what: &str| -> uuid::Uuid {
            let sql = format!("select id from {what} where organization_id = '{of}' limit 1");
            ground.text(sql).await.parse().unwrap()
        };
        Self {
            batch: id("batch").await.into(),
            document: id("document").await.into(),
            execution: id("workflow_execution").await.into(),
            ontology: id("ontology").await.into(),
            entity: id("entity").await.into(),
            relation: id("relation").await.into(),
            cluster: id("cluster").await.into(),
            link: id("same_as").await.into(),
        }
    }
}

/// Publishes what was seeded: rows as a worked batch has them.
async fn publish(ground: &Ground) {
    let sql = "
        update workflow_execution set status = 'completed', completed_at = now();
        update batch b set resolution_id = (select resolution_id from cluster c where c.batch_id = b.id),
                           notify_url = 'https://example.com';
        update cluster_member m set entity_id = (select id from entity e where e.organization_id = m.organization_id);
        update relation r set subject_id = e.id, object_id = e.id
            from entity e where e.organization_id = r.organization_id;
        update llm_call c set batch_id = b.id, request_hash = decode(repeat('00', 32), 'hex')
            from batch b where b.organization_id = c.organization_id;
        update same_as s set resolution_id = b.resolution_id, left_entity_id = e.id, right_entity_id = d.id
            from batch b, entity e, document d
            where b.organization_id = s.organization_id and e.organization_id = s.organization_id
              and d.organization_id = s.organization_id;";
    ground.execute(sql).await.unwrap();
}

/// What each look at our things finds, as if they were `of` an organization.
async fn looks(c: &mut Connection, of: OrganizationId, our: &Things) -> Vec<(&'static str, bool)> {
    let Things {
        batch,
        document,
        execution,
        ontology,
        entity,
        relation,
        cluster,
        link,
    } = *our;
    let named = ["d0".to_owned()];
    let (entities, clusters) = ([entity], [cluster]);
    let any = EntityFilter::default();
    let range = NameRange {
        name: "n",
        prefix: false,
    };
    let around = RelationFilter {
        either: Some(&entities),
        ..RelationFilter::default()
    };
    macro_rules! look {
        ($($name:ident($($argument:expr),*): $found:ident $(! $not:tt)?),+ $(,)?) => {
            vec![$((
                stringify!($name),
                look!(@ store::$name(c, of, $($argument),*).await.unwrap().$found() $(, $not)?),
            )),+]
        };
        (@ $found:expr) => { $found };
        (@ $found:expr, not) => { !$found };
    }
    let mut found = look![
        batch_by_id(batch): is_some,
        batch_by_name("seed"): is_some,
        batches(None, 10): is_empty !not,
        batch_setup(batch): is_some,
        document_page(batch, None, 10): is_empty !not,
        document_text(document): is_some,
        find_documents(batch, &named, &[document]): is_empty !not,
        events_after(batch, 0, 10): is_empty !not,
        executions(batch, None, 10): is_empty !not,
        execution_by_id(execution): is_some,
        activities(execution): is_empty !not,
        signals(execution): is_empty !not,
        budget(batch): is_some,
        organization_budget(): is_some,
        notice(batch): is_some,
        dropped_counts(batch): is_empty !not,
        api_keys(): is_empty !not,
        known_key("k"): is_some,
        call_page(batch, None, 10): is_empty !not,
        // The graph, as exports read it,
        entity_page(batch, None, 10): is_empty !not,
        relation_page(batch, None, 10): is_empty !not,
        cluster_page(batch, None, 10): is_empty !not,
        published_page(batch, None, 10): is_empty !not,
        busiest(batch, 10): is_empty !not,
        // as it is asked,
        entities_by_name(range, any, None, 10): is_empty !not,
        entities_by_words("n", any, None, 10): is_empty !not,
        entities_of_batch(batch, None, None, 10): is_empty !not,
        entities_by_id(&entities): is_empty !not,
        mentions_of(entity, 10): is_empty !not,
        relations_of(&around, None, 10): is_empty !not,
        relations_of_batch(batch, None, None, 10): is_empty !not,
        relations_of_all(None, None, 10): is_empty !not,
        relations_by_id(&[relation]): is_empty !not,
        cluster_by_id(cluster, None): is_some,
        members_of(&clusters, None, None, 10): is_empty !not,
        // and as it is resolved.
        resolvable_by_id(&entities): is_empty !not,
        published_members(&clusters, 10): is_empty !not,
        clusters_of_entities(&entities): is_empty !not,
        links_of_batch(batch, 10): is_empty !not,
        link_page(batch, None, 10): is_empty !not,
        link_by_id(link): is_some,
        link_ends(&entities): is_empty !not,
    ];
    let read = store::ontology_by_id(c, of, ontology).await;
    found.push(("ontology_by_id", read.is_ok()));
    found
}

/// What the routes ask of the graph is among the looks, so that a new query can't be forgotten.
fn knows_the_graph(looks: &[(&'static str, bool)]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let asked = fs::read_to_string(folder.join("store/found.rs")).unwrap();
    let names = asked.split("pub async fn ").skip(1);
    let names: Vec<&str> = names.map(|rest| &rest[..rest.find('(').unwrap()]).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(
            looks.iter().any(|(look, _)| *look == name),
            "no look at what {name} finds"
        );
    }
}

/// The names of what is found of `things`.
fn names(looks: Vec<(&'static str, bool)>) -> Vec<&'static str> {
    let found = looks.into_iter().filter(|(_, found)| *found);
    found.map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn either_lock_alone_keeps_organizations_apart() {
    let ground = Ground::new().await;
    let theirs = theirs(&ground).await;
    seed(&ground, OURS).await;
    seed(&ground, theirs).await;
    publish(&ground).await;
    let (our, other) = (
        Things::of(&ground, OURS).await,
        Things::of(&ground, theirs).await,
    );
    let store: &Store = &ground.store;
    let mut owner = sqlx::PgConnection::connect(ground.url()).await.unwrap();

    // The looks are good: whose things they are finds them.
    let mut app = store.app(OURS).await.unwrap();
    let all = looks(&mut app, OURS, &our).await;
    let blind: Vec<_> = all.iter().filter(|(_, found)| !found).collect();
    assert!(blind.is_empty(), "{blind:?}");
    knows_the_graph(&all);
    drop(app);

    // What a name or a list finds without naming a thing of ours is theirs, who look.
    let unnamed = [
        "batch_by_name",
        "batches",
        "organization_budget",
        "api_keys",
        "known_key",
        "entities_by_name",
        "relations_of_all",
    ];
    // The keys, with no row security: whoever owns the database is bound by no policy.
    let found = names(looks(&mut owner, theirs, &our).await);
    assert_eq!(found, unnamed, "by their keys");
    // Row security, with the right keys: the transaction is another organization's.
    let mut app = store.app(theirs).await.unwrap();
    let found = names(looks(&mut app, OURS, &our).await);
    assert!(found.is_empty(), "by row security: {found:?}");
    // And both the other way round.
    let mut app = store.app(OURS).await.unwrap();
    let found = names(looks(&mut app, theirs, &other).await);
    assert!(found.is_empty(), "by row security: {found:?}");
    let mut nobody = store.outside().await.unwrap();
    let found = names(looks(&mut nobody, OURS, &our).await);
    assert!(found.is_empty(), "without an organization: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_over_an_organizations_table_names_the_organization() {
    let ground = Ground::new().await;
    let tables = ground.texts(OF_AN_ORGANIZATION).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let (mut seen, mut forgetful) = (0, Vec::new());
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let described: serde_json::Value = serde_json::from_str(&text).unwrap();
        let query = described["query"].as_str().unwrap().to_lowercase();
        let words: Vec<&str> = query.split_whitespace().collect();
        let touches = words.windows(2).any(|pair| {
            let table = pair[1].trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
            ["from", "join", "update", "into"].contains(&pair[0].trim_start_matches('('))
                && tables.iter().any(|known| known == table)
        });
        let query = words.join(" ");
        let over_all = OVER_ALL.iter().any(|known| query.starts_with(known));
        if touches {
            seen += 1;
            if !query.contains("organization_id") && !over_all {
                forgetful.push(query);
            }
        }
    }
    assert!(seen > 100, "only {seen} queries were found");
    assert!(forgetful.is_empty(), "{forgetful:#?}");
}
