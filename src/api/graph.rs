//! The routes that ask the published graph, over the organization or one batch: entities, relations, clusters, and what
//! lies around one. Must not know how any of it was found.

use axum::{
    Json,
    extract::{self, Path},
    http::StatusCode,
};
use graphmill_jobs::{BatchId, EntityId, OrganizationId, WorkflowExecutionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    State,
    access::Reads,
    asked::{self, Asked},
    batches::find,
    problem::Problem,
};
use crate::{
    store::{EntityFilter, NameRange},
    workflow::{
        self, Bounds, End, EntityDetails, EntityKey, EntityQuery, EntityReport, RelationQuery,
        RelationReport, Subgraph, ThingReport,
    },
};

/// Nodes of a subgraph, at most and without a bound; edges are five times as many.
const MOST_NODES: u32 = 1000;
const NODES: u32 = 200;
const EDGES_A_NODE: usize = 5;

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(entities))
        .routes(routes!(entity))
        .routes(routes!(relations))
        .routes(routes!(cluster))
        .routes(routes!(subgraph))
}

/// Which entities are wanted. At most one of `name`, `prefix` and `q`; without any, those of `batch` in the order of
/// its documents, or all by name.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EntitiesQuery {
    /// Those with this name; upper and lower case are one.
    name: Option<String>,
    /// Those whose names begin so.
    prefix: Option<String>,
    /// Those whose names have these words: `ada lovelace`, `"ada lovelace"`, `ada or grace`, `ada -lovelace`.
    q: Option<String>,
    /// Only those of this class.
    r#type: Option<String>,
    /// Only those of this batch, by id or name.
    batch: Option<String>,
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A page of entities.
#[derive(Serialize, ToSchema)]
struct EntityPage {
    /// The entities: by name, or with `q` by id.
    entities: Vec<EntityReport>,
    /// Where the next page begins, if there may be one. A page with `type` or `batch` may be short, even empty, and
    /// still have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Entities by name and class.
#[utoipa::path(get, path = "/api/entities", tag = "graph", params(EntitiesQuery), responses(
    (status = 200, description = "A page of them", body = EntityPage),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such batch"),
))]
async fn entities(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Asked(query): Asked<EntitiesQuery>,
) -> Result<Json<EntityPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let name = asked::text("name", query.name.as_deref())?;
    let prefix = asked::text("prefix", query.prefix.as_deref())?;
    let words = asked::text("q", query.q.as_deref())?;
    let class = asked::text("type", query.r#type.as_deref())?;
    let batch = batch(&state, organization, query.batch.as_deref()).await?;
    let wanted = match (name, prefix, words, batch) {
        (Some(name), None, None, _) => EntityQuery::Name(NameRange {
            name,
            prefix: false,
        }),
        (None, Some(name), None, _) => EntityQuery::Name(NameRange { name, prefix: true }),
        (None, None, Some(words), _) => EntityQuery::Words(words),
        (None, None, None, Some(batch)) => EntityQuery::All(batch),
        (None, None, None, None) => EntityQuery::Name(NameRange {
            name: "",
            prefix: true,
        }),
        _ => {
            return Err(asked::unfit(
                "q",
                "one of `name`, `prefix` and `q`, not two of them",
            ));
        }
    };
    let after = asked::after(query.after.as_deref(), |after| entity_key(wanted, after))?;
    let filter = EntityFilter { batch, class };
    let store = &state.0.store;
    let page = workflow::entity_page(store, organization, wanted, filter, after, limit).await?;
    Ok(Json(EntityPage {
        entities: page.items,
        next: page.next.map(|key| told_key(&key)),
    }))
}

/// An entity with its evidence (mentions with their offsets) and its neighbours.
#[utoipa::path(get, path = "/api/entities/{entity}", tag = "graph",
    params(("entity" = String, Path, description = "Its id")), responses(
    (status = 200, description = "The entity", body = EntityDetails),
    (status = 404, description = "There is no such entity; a document that is extracted anew gets new ones"),
))]
async fn entity(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
) -> Result<Json<EntityDetails>, Problem> {
    let id = wanted.parse().map_err(|_| unknown("entity"))?;
    let found = workflow::entity(&state.0.store, organization, id).await?;
    Ok(Json(found.ok_or_else(|| unknown("entity"))?))
}

/// Which relations are wanted. Ends are ids of entities or of clusters, which stand for all their members.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RelationsQuery {
    /// Of whom it is said.
    subject: Option<String>,
    /// The other one.
    object: Option<String>,
    /// The one or the other.
    entity: Option<String>,
    /// What is said, for example `works_for`.
    predicate: Option<String>,
    /// Only those of this batch, by id or name.
    batch: Option<String>,
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A page of relations.
#[derive(Serialize, ToSchema)]
struct RelationPage {
    /// The relations with their evidence, by document.
    relations: Vec<RelationReport>,
    /// Where the next page begins, if there may be one. A page with `predicate` alone may be short, even empty, and
    /// still have a next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Relations by subject, object and predicate, with their evidence.
#[utoipa::path(get, path = "/api/relations", tag = "graph", params(RelationsQuery), responses(
    (status = 200, description = "A page of them", body = RelationPage),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such batch"),
))]
async fn relations(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Asked(query): Asked<RelationsQuery>,
) -> Result<Json<RelationPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let wanted = RelationQuery {
        subject: end("subject", query.subject.as_deref())?,
        object: end("object", query.object.as_deref())?,
        entity: end("entity", query.entity.as_deref())?,
        predicate: asked::text("predicate", query.predicate.as_deref())?,
        batch: batch(&state, organization, query.batch.as_deref()).await?,
    };
    let after = asked::after(query.after.as_deref(), place)?;
    let page = workflow::relation_page(&state.0.store, organization, wanted, after, limit).await?;
    Ok(Json(RelationPage {
        relations: page.items,
        next: page
            .next
            .map(|(execution, ordinal)| format!("{execution}.{ordinal}")),
    }))
}

/// Which members are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ClusterQuery {
    /// Only those of this batch, by id or name.
    batch: Option<String>,
    /// Where the page begins: the `next` of the page before.
    after: Option<String>,
    /// How many members, 1 to 1,000 (50).
    limit: Option<u32>,
}

/// A thing across documents, with a page of its members.
#[derive(Serialize, ToSchema)]
struct ClusterPage {
    /// The thing.
    #[serde(flatten)]
    thing: ThingReport,
    /// Where the next page of members begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A cluster (one thing across documents) with its members.
#[utoipa::path(get, path = "/api/clusters/{cluster}", tag = "graph",
    params(("cluster" = String, Path, description = "Its id"), ClusterQuery), responses(
    (status = 200, description = "The cluster", body = ClusterPage),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such cluster, or no such batch"),
))]
async fn cluster(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Path(wanted): Path<String>,
    Asked(query): Asked<ClusterQuery>,
) -> Result<Json<ClusterPage>, Problem> {
    let limit = asked::limit(query.limit)?;
    let after = asked::after(query.after.as_deref(), |after| after.parse().ok())?;
    let id = wanted.parse().map_err(|_| unknown("cluster"))?;
    let batch = batch(&state, organization, query.batch.as_deref()).await?;
    let store = &state.0.store;
    let found = workflow::thing(store, organization, id, batch, after, limit).await?;
    let (thing, next) = found.ok_or_else(|| unknown("cluster"))?;
    Ok(Json(ClusterPage {
        thing,
        next: next.map(|id| id.to_string()),
    }))
}

/// What is wanted around which thing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SubgraphQuery {
    /// The id of an entity or of a cluster. An entity stands for its cluster, if it has one.
    around: String,
    /// Rings around it, 1 to 3 (1).
    depth: Option<u32>,
    /// Nodes at most, 1 to 1,000 (200); and five times as many edges.
    nodes: Option<u32>,
    /// Only what this batch says, by id or name.
    batch: Option<String>,
}

/// What lies around an entity or a cluster, to a depth of three. `cut` says whether a bound was reached.
#[utoipa::path(get, path = "/api/subgraph", tag = "graph", params(SubgraphQuery), responses(
    (status = 200, description = "Nodes and edges", body = Subgraph),
    (status = 400, description = "The query can't be read"),
    (status = 404, description = "There is no such thing, or no such batch"),
))]
async fn subgraph(
    extract::State(state): extract::State<State>,
    Reads(organization): Reads,
    Asked(query): Asked<SubgraphQuery>,
) -> Result<Json<Subgraph>, Problem> {
    let middle = end("around", Some(&query.around))?;
    let middle = middle.ok_or_else(|| unknown("entity"))?;
    let depth = query.depth.unwrap_or(1);
    if !(1..=3).contains(&depth) {
        return Err(asked::unfit("depth", "1, 2 or 3"));
    }
    let nodes = query.nodes.unwrap_or(NODES);
    if !(1..=MOST_NODES).contains(&nodes) {
        return Err(asked::unfit(
            "nodes",
            &format!("a whole number within 1 to {MOST_NODES}"),
        ));
    }
    let nodes = nodes as usize;
    let bounds = Bounds {
        depth,
        nodes,
        edges: nodes * EDGES_A_NODE,
    };
    let batch = batch(&state, organization, query.batch.as_deref()).await?;
    let found = workflow::subgraph(&state.0.store, organization, middle, batch, bounds).await?;
    Ok(Json(found.ok_or_else(|| unknown("entity or cluster"))?))
}

async fn batch(
    state: &State,
    organization: OrganizationId,
    wanted: Option<&str>,
) -> Result<Option<BatchId>, Problem> {
    match wanted {
        None => Ok(None),
        Some(wanted) => find(state, organization, wanted).await.map(Some),
    }
}

fn end(name: &str, text: Option<&str>) -> Result<Option<End>, Problem> {
    text.map(|text| {
        let entity = text.parse().map(End::Entity);
        entity
            .or_else(|_| text.parse().map(End::Cluster))
            .map_err(|_| asked::unfit(name, "the id of an entity or of a cluster"))
    })
    .transpose()
}

/// A cursor of these queries: the key in hex (a name may be anything) and the id, the id, or the place.
fn told_key(key: &EntityKey) -> String {
    match key {
        EntityKey::Name(key, id) => {
            let hex = asked::hex(key.as_bytes());
            format!("{hex}.{id}")
        }
        EntityKey::Words(id) => id.to_string(),
        EntityKey::Place(execution, ordinal) => format!("{execution}.{ordinal}"),
    }
}

fn entity_key(query: EntityQuery<'_>, after: &str) -> Option<EntityKey> {
    match query {
        EntityQuery::Name(_) => {
            let (hex, id) = after.split_once('.')?;
            let bytes = (0..hex.len()).step_by(2).map(|at| {
                let byte = hex.get(at..at + 2)?;
                u8::from_str_radix(byte, 16).ok()
            });
            let key = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
            let id: EntityId = id.parse().ok()?;
            (!key.contains('\0')).then_some(EntityKey::Name(key, id))
        }
        EntityQuery::Words(_) => after.parse().ok().map(EntityKey::Words),
        EntityQuery::All(_) => {
            place(after).map(|(execution, ordinal)| EntityKey::Place(execution, ordinal))
        }
    }
}

fn place(after: &str) -> Option<(WorkflowExecutionId, i32)> {
    let (execution, ordinal) = after.split_once('.')?;
    Some((execution.parse().ok()?, ordinal.parse().ok()?))
}

fn unknown(what: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("nothing that is published has this id: no {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let names = EntityQuery::Name(NameRange {
            name: "",
            prefix: true,
        });
        let key = EntityKey::Name("ada é.\u{10FFFF}".to_owned(), EntityId::generate());
        assert_eq!(entity_key(names, &told_key(&key)), Some(key));
        for broken in [
            "",
            ".",
            "0",
            "zz.x",
            "é.x",
            "ff.entity_00000000000070008000000000000001",
        ] {
            assert_eq!(entity_key(names, broken), None, "{broken}");
        }
    }
}
