//! What is found in the graph, as it is printed.

use graphmill_jobs::{BatchId, ClusterId, DocumentId, EntityId, RelationId, WorkflowExecutionId};
use serde::Serialize;

use crate::store::{EvidenceRow, FoundEntity, FoundRelation, MentionRow};

/// An entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EntityReport {
    /// Its id, until its document is extracted anew.
    #[schema(value_type = String)]
    pub entity_id: EntityId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The normal form of its value, if it is a date, an amount, a quantity.
    pub value: Option<String>,
    /// How often its document mentions it.
    pub mentions: i32,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    #[schema(value_type = String)]
    pub document_id: DocumentId,
    /// Its batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// The thing that it is, across documents; null until its batch is resolved.
    #[schema(value_type = Option<String>)]
    pub cluster_id: Option<ClusterId>,
}

impl From<FoundEntity> for EntityReport {
    fn from(found: FoundEntity) -> Self {
        Self {
            entity_id: found.id,
            name: found.name,
            class: found.class,
            value: found.value,
            mentions: found.mentions,
            document: found.document,
            document_id: found.document_id,
            batch_id: found.batch,
            cluster_id: found.cluster,
        }
    }
}

/// An entity with its evidence and its neighbours.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct EntityDetails {
    /// The entity.
    #[serde(flatten)]
    pub entity: EntityReport,
    /// Its document's title.
    pub title: Option<String>,
    /// Where its document came from.
    pub source_uri: Option<String>,
    /// The execution that found it.
    #[schema(value_type = String)]
    pub execution_id: WorkflowExecutionId,
    /// Where its document speaks of it: its first hundred mentions.
    pub evidence: Vec<MentionReport>,
    /// What its document says of it: the first hundred relations, each with the neighbour at the other end.
    pub relations: Vec<RelationReport>,
    /// There are more of them: `GET /api/relations?entity=…` pages through all.
    pub more_relations: bool,
}

/// A mention. Offsets are Unicode scalar values of the document's text, half-open.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct MentionReport {
    /// Where it begins.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// What the text says there.
    pub text: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The normal form of its value.
    pub value: Option<String>,
    /// 0 to 1.
    pub confidence: f32,
}

impl From<MentionRow> for MentionReport {
    fn from(row: MentionRow) -> Self {
        Self {
            start: row.span.start,
            end: row.span.end,
            text: row.text,
            class: row.class,
            value: row.value,
            confidence: row.confidence,
        }
    }
}

/// A statement of a document about two of its entities.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct RelationReport {
    /// Its id, until its document is extracted anew.
    #[schema(value_type = String)]
    pub relation_id: RelationId,
    /// Of whom it is said.
    pub subject: RelationEnd,
    /// What is said.
    pub predicate: String,
    /// The other one.
    pub object: RelationEnd,
    /// 0 to 1.
    pub confidence: f32,
    /// The caller's id of its document.
    pub document: String,
    /// Its document.
    #[schema(value_type = String)]
    pub document_id: DocumentId,
    /// Its batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
    /// Where the document says so.
    pub evidence: Vec<EvidenceReport>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RelationEnd {
    /// Its id.
    #[schema(value_type = String)]
    pub entity_id: EntityId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
}

/// A piece of evidence. Offsets are Unicode scalar values of the document's text, half-open.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct EvidenceReport {
    /// Where it begins.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// What the text says there.
    pub text: String,
}

impl From<EvidenceRow> for EvidenceReport {
    fn from(row: EvidenceRow) -> Self {
        Self {
            start: row.span.start,
            end: row.span.end,
            text: row.text,
        }
    }
}

impl From<FoundRelation> for RelationReport {
    fn from(found: FoundRelation) -> Self {
        let end = |(entity_id, name, class)| RelationEnd {
            entity_id,
            name,
            class,
        };
        Self {
            relation_id: found.id,
            subject: end(found.subject),
            predicate: found.predicate,
            object: end(found.object),
            confidence: found.confidence,
            document: found.document,
            document_id: found.document_id,
            batch_id: found.batch,
            evidence: found
                .evidence
                .into_iter()
                .map(EvidenceReport::from)
                .collect(),
        }
    }
}

/// A thing across documents: a cluster, with a page of its members.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ThingReport {
    /// Its id, the same in every batch that speaks of it.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// How many members it has.
    pub total: u64,
    /// Its members, by id.
    pub members: Vec<MemberReport>,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct MemberReport {
    /// Its id.
    #[schema(value_type = String)]
    pub entity_id: EntityId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The caller's id of its document.
    pub document: String,
    /// Its batch.
    #[schema(value_type = String)]
    pub batch_id: BatchId,
}

impl From<EntityReport> for MemberReport {
    fn from(entity: EntityReport) -> Self {
        Self {
            entity_id: entity.entity_id,
            name: entity.name,
            class: entity.class,
            document: entity.document,
            batch_id: entity.batch_id,
        }
    }
}
