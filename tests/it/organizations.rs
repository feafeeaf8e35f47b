//! Nothing crosses from one organization to another by either lock alone: by the keys that every query has, with row
//! security out of the way, and by row security, with the wrong keys in the query.

use std::fs;

use graphmill::store::{self, Connection, Store};
use graphmill_jobs::{BatchId, DocumentId, OntologyId, OrganizationId, WorkflowExecutionId};
use sqlx::Connection as _;

use crate::{
    roles::{OF_AN_ORGANIZATION, seed, theirs},
    support::{Ground, OURS},
};

/// Looks that see nothing of a batch that nobody has worked.
const BLIND: [&str; 5] = [
    "entity_page",
    "relation_page",
    "cluster_page",
    "published_page",
    "call_page",
];

/// Queries over a table of organizations that name none: those of whoever schedules over all of them. Each stands here
/// by how it begins.
const OVER_ALL: [&str; 6] = [
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
        }
    }
}

/// What each look at our things finds, as if they were `of` an organization.
async fn looks(c: &mut Connection, of: OrganizationId, our: &Things) -> Vec<(&'static str, bool)> {
    let Things {
        batch,
        document,
        execution,
        ontology,
    } = *our;
    let named = ["d0".to_owned()];
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
        entity_page(batch, None, 10): is_empty !not,
        relation_page(batch, None, 10): is_empty !not,
        cluster_page(batch, None, 10): is_empty !not,
        published_page(batch, None, 10): is_empty !not,
        call_page(batch, None, 10): is_empty !not,
    ];
    let read = store::ontology_by_id(c, of, ontology).await;
    found.push(("ontology_by_id", read.is_ok()));
    found
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
    let tell = "update batch set notify_url = 'https://example.com'";
    ground.execute(tell).await.unwrap();
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
    assert!(
        blind.iter().all(|(name, _)| BLIND.contains(name)),
        "{blind:?}"
    );
    drop(app);

    // What a name or a list finds without naming a thing of ours is theirs, who look.
    let unnamed = [
        "batch_by_name",
        "batches",
        "organization_budget",
        "api_keys",
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
