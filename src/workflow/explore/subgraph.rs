//! What lies around a thing, ring by ring.
//!
//! A node is a cluster, or an entity whose batch is not resolved: documents meet in their clusters. Invariant: bounded
//! work and a bounded answer, which says if it was cut.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use graphmill_jobs::{BatchId, ClusterId, EntityId, OrganizationId, RelationId};
use serde::{Serialize, Serializer};

use super::End;
use crate::store::{self, Connection, FoundRelation, RelationFilter, Store, StoreError};

/// Rings, at most.
const DEEPEST: u32 = 3;
/// Relations that are read for one ring, at most.
const RELATIONS: i64 = 5000;
/// Members of a ring's clusters that are looked at, at most.
const MEMBERS: i64 = 5000;
/// Relations that an edge names.
const NAMED: usize = 5;

/// How much is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Rings around the middle, 1 to 3.
    pub depth: u32,
    /// Nodes at most.
    pub nodes: usize,
    /// Edges at most.
    pub edges: usize,
}

/// A node's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thing {
    /// Across documents.
    Cluster(ClusterId),
    /// Of one document.
    Entity(EntityId),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(id) => id.fmt(f),
            Self::Entity(id) => id.fmt(f),
        }
    }
}

impl Serialize for Thing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Nodes and edges around a thing.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Subgraph {
    /// The one in the middle.
    #[schema(value_type = String)]
    pub around: Thing,
    /// Rings around it.
    pub depth: u32,
    /// Something is missing: a bound was reached.
    pub cut: bool,
    /// The nodes, from the middle outwards.
    pub nodes: Vec<SubgraphNode>,
    /// The edges between them.
    pub edges: Vec<SubgraphEdge>,
}

/// A thing in a subgraph.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SubgraphNode {
    /// A cluster's id, or an entity's where its batch is not resolved.
    #[schema(value_type = String)]
    pub id: Thing,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// In which ring it is; 0 for the middle.
    pub depth: u32,
}

/// What documents say of two things.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct SubgraphEdge {
    /// Of whom it is said: a node.
    #[schema(value_type = String)]
    pub subject: Thing,
    /// What is said.
    pub predicate: String,
    /// The other node.
    #[schema(value_type = String)]
    pub object: Thing,
    /// How many relations say so.
    pub count: u64,
    /// The surest of them, 0 to 1.
    pub confidence: f32,
    /// The first few of them: `GET /api/relations` has their evidence.
    #[schema(value_type = Vec<String>)]
    pub relations: Vec<RelationId>,
}

/// How often a relation is said, how surely at most, and where.
type Said = (u64, f32, Vec<RelationId>);

struct Growing {
    bounds: Bounds,
    nodes: Vec<SubgraphNode>,
    known: HashSet<Thing>,
    edges: BTreeMap<(Thing, String, Thing), Said>,
    counted: HashSet<RelationId>,
    cut: bool,
}

/// What lies around `middle`, in one batch or in all; `None`: there is no such thing.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn subgraph(
    store: &Store,
    organization: OrganizationId,
    middle: End,
    batch: Option<BatchId>,
    bounds: Bounds,
) -> Result<Option<Subgraph>, StoreError> {
    let mut read = store.app(organization).await?;
    let Some(middle) = first(&mut read, organization, middle, batch).await? else {
        return Ok(None);
    };
    let around = middle.id;
    let mut growing = Growing {
        bounds,
        known: HashSet::from([around]),
        nodes: vec![middle],
        edges: BTreeMap::new(),
        counted: HashSet::new(),
        cut: false,
    };
    let mut ring = vec![around];
    for depth in 1..=bounds.depth.min(DEEPEST) {
        if ring.is_empty() {
            break;
        }
        // A ring a transaction: none is held open for long.
        drop(read);
        read = store.app(organization).await?;
        let members = growing
            .members(&mut read, organization, &ring, batch)
            .await?;
        let relations = growing
            .relations(&mut read, organization, &members, batch)
            .await?;
        ring = growing
            .grow(&mut read, organization, relations, depth)
            .await?;
    }
    Ok(Some(Subgraph {
        around,
        depth: bounds.depth.min(DEEPEST),
        cut: growing.cut,
        nodes: growing.nodes,
        edges: growing
            .edges
            .into_iter()
            .map(
                |((subject, predicate, object), (count, confidence, relations))| SubgraphEdge {
                    subject,
                    predicate,
                    object,
                    count,
                    confidence,
                    relations,
                },
            )
            .collect(),
    }))
}

/// The middle: an entity stands for its cluster, if it has one.
async fn first(
    read: &mut Connection,
    organization: OrganizationId,
    middle: End,
    batch: Option<BatchId>,
) -> Result<Option<SubgraphNode>, StoreError> {
    let cluster = match middle {
        End::Cluster(id) => id,
        End::Entity(id) => {
            let found = store::entities_by_id(read, organization, &[id]).await?;
            let in_scope = |of: BatchId| batch.is_none_or(|batch| batch == of);
            let Some(found) = found.into_iter().find(|found| in_scope(found.batch)) else {
                return Ok(None);
            };
            match found.cluster {
                Some(cluster) => cluster,
                None => {
                    return Ok(Some(SubgraphNode {
                        id: Thing::Entity(id),
                        name: found.name,
                        class: found.class,
                        depth: 0,
                    }));
                }
            }
        }
    };
    let found = store::cluster_by_id(read, organization, cluster, batch).await?;
    Ok(found.map(|(name, class, _)| SubgraphNode {
        id: Thing::Cluster(cluster),
        name,
        class,
        depth: 0,
    }))
}

impl Growing {
    /// The entities that a ring's nodes are.
    async fn members(
        &mut self,
        read: &mut Connection,
        organization: OrganizationId,
        ring: &[Thing],
        batch: Option<BatchId>,
    ) -> Result<Vec<EntityId>, StoreError> {
        let mut entities = Vec::new();
        let mut clusters = Vec::new();
        for thing in ring {
            match *thing {
                Thing::Entity(id) => entities.push(id),
                Thing::Cluster(id) => clusters.push(id),
            }
        }
        if !clusters.is_empty() {
            let members =
                store::members_of(read, organization, &clusters, batch, None, MEMBERS + 1).await?;
            let most = usize::try_from(MEMBERS).unwrap_or(usize::MAX);
            self.cut |= members.len() > most;
            entities.extend(members.into_iter().take(most).map(|(_, entity)| entity));
        }
        Ok(entities)
    }

    async fn relations(
        &mut self,
        read: &mut Connection,
        organization: OrganizationId,
        entities: &[EntityId],
        batch: Option<BatchId>,
    ) -> Result<Vec<FoundRelation>, StoreError> {
        let filter = RelationFilter {
            either: Some(entities),
            batch,
            ..RelationFilter::default()
        };
        let mut rows =
            store::relations_of(read, organization, &filter, None, RELATIONS + 1).await?;
        let most = usize::try_from(RELATIONS).unwrap_or(usize::MAX);
        self.cut |= rows.len() > most;
        rows.truncate(most);
        let ids: Vec<RelationId> = rows.into_iter().map(|(_, id)| id).collect();
        store::relations_by_id(read, organization, &ids).await
    }

    /// Takes the relations in. Returns the nodes that are new: the next ring.
    async fn grow(
        &mut self,
        read: &mut Connection,
        organization: OrganizationId,
        relations: Vec<FoundRelation>,
        depth: u32,
    ) -> Result<Vec<Thing>, StoreError> {
        let ends: Vec<EntityId> = relations
            .iter()
            .flat_map(|relation| [relation.subject.0, relation.object.0])
            .collect();
        let of: HashMap<EntityId, ClusterId> =
            store::clusters_of_entities(read, organization, &ends)
                .await?
                .into_iter()
                .collect();
        let clusters: Vec<ClusterId> = of.values().copied().collect();
        // In every batch: none is left out.
        let named = store::clusters_elsewhere(
            read,
            organization,
            BatchId::from(uuid::Uuid::nil()),
            &clusters,
        )
        .await?;
        let named: HashMap<ClusterId, (String, String)> = named
            .into_iter()
            .map(|cluster| (cluster.id, (cluster.name, cluster.class)))
            .collect();
        let mut ring = Vec::new();
        for relation in relations {
            if !self.counted.insert(relation.id) {
                continue;
            }
            let mut things = [None, None];
            for (thing, (id, name, class)) in
                things.iter_mut().zip([relation.subject, relation.object])
            {
                let node = match of.get(&id).and_then(|of| Some((*of, named.get(of)?))) {
                    Some((cluster, (name, class))) => SubgraphNode {
                        id: Thing::Cluster(cluster),
                        name: name.clone(),
                        class: class.clone(),
                        depth,
                    },
                    None => SubgraphNode {
                        id: Thing::Entity(id),
                        name,
                        class,
                        depth,
                    },
                };
                *thing = self.node(node, &mut ring);
            }
            if let [Some(subject), Some(object)] = things {
                let key = (subject, relation.predicate, object);
                self.edge(key, relation.id, relation.confidence);
            }
        }
        Ok(ring)
    }

    /// The node, if it is there or there is room for it.
    fn node(&mut self, node: SubgraphNode, ring: &mut Vec<Thing>) -> Option<Thing> {
        let id = node.id;
        if !self.known.contains(&id) {
            if self.nodes.len() >= self.bounds.nodes {
                self.cut = true;
                return None;
            }
            self.known.insert(id);
            self.nodes.push(node);
            ring.push(id);
        }
        Some(id)
    }

    fn edge(&mut self, key: (Thing, String, Thing), relation: RelationId, confidence: f32) {
        if !self.edges.contains_key(&key) && self.edges.len() >= self.bounds.edges {
            self.cut = true;
            return;
        }
        let (count, surest, relations) = self.edges.entry(key).or_default();
        *count += 1;
        *surest = surest.max(confidence);
        if relations.len() < NAMED {
            relations.push(relation);
        }
    }
}
