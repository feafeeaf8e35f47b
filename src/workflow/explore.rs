//! Asking the published graph: entities by name and words, an entity with its evidence and neighbours, relations,
//! clusters; over an organization or one batch. What is found is what an export of the batches would hold.

mod shape;
mod subgraph;

use std::collections::HashMap;

use graphmill_jobs::{BatchId, ClusterId, EntityId, OrganizationId, RelationId};

pub use shape::{
    EntityDetails, EntityReport, EvidenceReport, MemberReport, MentionReport, RelationEnd,
    RelationReport, ThingReport,
};
pub use subgraph::{Bounds, Subgraph, SubgraphEdge, SubgraphNode, Thing, subgraph};

use super::page::{LOOKED_AT, Page, page};
use crate::store::{
    self, Connection, EntityFilter, NameRange, Place, RelationFilter, Store, StoreError,
};

/// Mentions and relations that come along with an entity, at most.
const ALONG: i64 = 100;
/// Members of a cluster whose relations are asked for together, at most.
const MEMBERS: i64 = 10_000;

/// How entities are asked for.
#[derive(Debug, Clone, Copy)]
pub enum EntityQuery<'a> {
    /// By name.
    Name(NameRange<'a>),
    /// By words of the name.
    Words(&'a str),
    /// All of the batch.
    All(BatchId),
}

/// Where a page of entities ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityKey {
    /// By name: the name's key and the id.
    Name(String, EntityId),
    /// By words: the id.
    Words(EntityId),
    /// Of a batch: the execution and the place in it.
    Place(graphmill_jobs::WorkflowExecutionId, i32),
}

fn place(key: (graphmill_jobs::WorkflowExecutionId, i32)) -> Place {
    Place {
        execution: key.0,
        ordinal: key.1,
    }
}

/// A page of entities. `after` must be of the same query.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn entity_page(
    store: &Store,
    organization: OrganizationId,
    query: EntityQuery<'_>,
    filter: EntityFilter<'_>,
    after: Option<EntityKey>,
    most: i64,
) -> Result<Page<EntityReport, EntityKey>, StoreError> {
    let mut read = store.app(organization).await?;
    let found = match query {
        EntityQuery::Name(names) => {
            let after = match after {
                Some(EntityKey::Name(key, id)) => Some((key, id)),
                Some(EntityKey::Words(_) | EntityKey::Place(..)) | None => None,
            };
            let looked = store::entities_by_name(
                &mut read,
                organization,
                names,
                filter,
                after.as_ref(),
                LOOKED_AT,
            )
            .await?;
            with_key(page(looked, most, LOOKED_AT), |(key, id)| {
                EntityKey::Name(key, id)
            })
        }
        EntityQuery::Words(words) => {
            let after = match after {
                Some(EntityKey::Words(id)) => Some(id),
                Some(EntityKey::Name(..) | EntityKey::Place(..)) | None => None,
            };
            let limit = i32::try_from(LOOKED_AT).unwrap_or(i32::MAX);
            let looked =
                store::entities_by_words(&mut read, organization, words, filter, after, limit)
                    .await?;
            with_key(page(looked, most, LOOKED_AT), EntityKey::Words)
        }
        EntityQuery::All(batch) => {
            let after = match after {
                Some(EntityKey::Place(execution, ordinal)) => Some(place((execution, ordinal))),
                Some(EntityKey::Name(..) | EntityKey::Words(_)) | None => None,
            };
            let class = filter.class;
            let looked =
                store::entities_of_batch(&mut read, organization, batch, class, after, LOOKED_AT)
                    .await?;
            with_key(page(looked, most, LOOKED_AT), |place: Place| {
                EntityKey::Place(place.execution, place.ordinal)
            })
        }
    };
    Ok(Page {
        items: entities(&mut read, organization, &found.items).await?,
        next: found.next,
    })
}

fn with_key<T, K, L>(page: Page<T, K>, to: impl FnOnce(K) -> L) -> Page<T, L> {
    Page {
        items: page.items,
        next: page.next.map(to),
    }
}

/// Entities in the order of `ids`.
async fn entities(
    read: &mut Connection,
    organization: OrganizationId,
    ids: &[EntityId],
) -> Result<Vec<EntityReport>, StoreError> {
    let found = store::entities_by_id(read, organization, ids).await?;
    let mut found: HashMap<EntityId, EntityReport> = found
        .into_iter()
        .map(|entity| (entity.id, entity.into()))
        .collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// An entity with its evidence and its neighbours, a hundred of each at most; `None`: there is none.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn entity(
    store: &Store,
    organization: OrganizationId,
    id: EntityId,
) -> Result<Option<EntityDetails>, StoreError> {
    let mut read = store.app(organization).await?;
    let found = store::entities_by_id(&mut read, organization, &[id]).await?;
    let Some(found) = found.into_iter().next() else {
        return Ok(None);
    };
    let most = i32::try_from(ALONG).unwrap_or(i32::MAX);
    let mentions = store::mentions_of(&mut read, organization, id, most).await?;
    let filter = RelationFilter {
        either: Some(&[id]),
        ..RelationFilter::default()
    };
    let mut at = store::relations_of(&mut read, organization, &filter, None, ALONG + 1).await?;
    let more = at.len() > usize::try_from(ALONG).unwrap_or(0);
    at.truncate(usize::try_from(ALONG).unwrap_or(0));
    let ids: Vec<RelationId> = at.into_iter().map(|(_, id)| id).collect();
    let relations = store::relations_by_id(&mut read, organization, &ids).await?;
    Ok(Some(EntityDetails {
        title: found.title.clone(),
        source_uri: found.source_uri.clone(),
        execution_id: found.execution,
        evidence: mentions.into_iter().map(MentionReport::from).collect(),
        relations: relations.into_iter().map(RelationReport::from).collect(),
        more_relations: more,
        entity: found.into(),
    }))
}

/// An end of a relation, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An entity.
    Entity(EntityId),
    /// Any member of a cluster.
    Cluster(ClusterId),
}

/// How relations are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelationQuery<'a> {
    /// Its subject.
    pub subject: Option<End>,
    /// Its object.
    pub object: Option<End>,
    /// Its subject or its object.
    pub entity: Option<End>,
    /// What is said.
    pub predicate: Option<&'a str>,
    /// In which batch.
    pub batch: Option<BatchId>,
}

/// A page of relations with their evidence, behind `after`.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn relation_page(
    store: &Store,
    organization: OrganizationId,
    query: RelationQuery<'_>,
    after: Option<(graphmill_jobs::WorkflowExecutionId, i32)>,
    most: i64,
) -> Result<Page<RelationReport, (graphmill_jobs::WorkflowExecutionId, i32)>, StoreError> {
    let mut read = store.app(organization).await?;
    let after = after.map(place);
    let subjects = ends(&mut read, organization, query.subject).await?;
    let objects = ends(&mut read, organization, query.object).await?;
    let either = ends(&mut read, organization, query.entity).await?;
    let found = if subjects.is_some() || objects.is_some() || either.is_some() {
        let filter = RelationFilter {
            subjects: subjects.as_deref(),
            objects: objects.as_deref(),
            either: either.as_deref(),
            predicate: query.predicate,
            batch: query.batch,
        };
        let rows = store::relations_of(&mut read, organization, &filter, after, most + 1).await?;
        let looked = rows.into_iter().map(|(key, id)| store::Looked {
            key,
            id,
            fits: true,
        });
        page(looked.collect(), most, most + 1)
    } else {
        let predicate = query.predicate;
        let limit = if predicate.is_some() {
            LOOKED_AT
        } else {
            most + 1
        };
        let looked = match query.batch {
            Some(batch) => {
                store::relations_of_batch(&mut read, organization, batch, predicate, after, limit)
                    .await?
            }
            None => {
                store::relations_of_all(&mut read, organization, predicate, after, limit).await?
            }
        };
        page(looked, most, limit)
    };
    let relations = store::relations_by_id(&mut read, organization, &found.items).await?;
    Ok(Page {
        items: relations.into_iter().map(RelationReport::from).collect(),
        next: found.next.map(|place| (place.execution, place.ordinal)),
    })
}

async fn ends(
    read: &mut Connection,
    organization: OrganizationId,
    end: Option<End>,
) -> Result<Option<Vec<EntityId>>, StoreError> {
    Ok(match end {
        None => None,
        Some(End::Entity(id)) => Some(vec![id]),
        Some(End::Cluster(id)) => {
            let members = store::members_of(read, organization, &[id], None, None, MEMBERS).await?;
            Some(members.into_iter().map(|(_, entity)| entity).collect())
        }
    })
}

/// A cluster with a page of its members, behind `after`; `None`: none is published.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn thing(
    store: &Store,
    organization: OrganizationId,
    id: ClusterId,
    batch: Option<BatchId>,
    after: Option<EntityId>,
    most: i64,
) -> Result<Option<(ThingReport, Option<EntityId>)>, StoreError> {
    let mut read = store.app(organization).await?;
    let Some((name, class, total)) =
        store::cluster_by_id(&mut read, organization, id, batch).await?
    else {
        return Ok(None);
    };
    let rows = store::members_of(&mut read, organization, &[id], batch, after, most + 1).await?;
    let looked = rows.into_iter().map(|(_, entity)| store::Looked {
        key: entity,
        id: entity,
        fits: true,
    });
    let found = page(looked.collect(), most, most + 1);
    let members = entities(&mut read, organization, &found.items).await?;
    let report = ThingReport {
        cluster_id: id,
        name,
        class,
        total,
        members: members.into_iter().map(MemberReport::from).collect(),
    };
    Ok(Some((report, found.next)))
}
