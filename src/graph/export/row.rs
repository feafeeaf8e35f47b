//! The rows of an export. Their fields are the fields of the JSON.

use serde::Serialize;

use crate::graph::decimal;

/// A document of the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedDocument {
    /// The caller's id.
    pub id: String,
    /// Ours, with its prefix.
    pub document_id: String,
    /// How its work ended.
    pub state: String,
    /// Whether some of its units failed, so that its graph has holes.
    pub partial: bool,
    /// SHA-256 of its text in hexadecimal, which the spans hold for.
    pub text_sha256: Option<String>,
}

/// Where an entity is named. Offsets count Unicode scalar values of the document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedMention {
    /// The first character.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
    /// What stands there.
    pub text: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The normal form of its value, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// 0 to 1.
    #[serde(with = "decimal")]
    pub confidence: f32,
}

/// An entity of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedEntity {
    /// Its id, with its prefix.
    pub id: String,
    /// The caller's id of its document.
    pub document: String,
    /// Our id of it, with its prefix: for the formats that are graphs, whose things hang together by it.
    #[serde(skip)]
    pub document_id: String,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// Where it is named, in order.
    pub mentions: Vec<ExportedMention>,
}

impl ExportedEntity {
    /// The normal form of its value, if it is one: that of its first mention.
    pub(super) fn value(&self) -> Option<&str> {
        self.mentions.first()?.value.as_deref()
    }
}

/// Where a relation is stated. Offsets count Unicode scalar values of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedEvidence {
    /// The first character.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
    /// What stands there.
    pub text: String,
}

/// A relation of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedRelation {
    /// Its id, with its prefix.
    pub id: String,
    /// The caller's id of its document.
    pub document: String,
    /// Our id of it, with its prefix: for the formats that are graphs, whose things hang together by it.
    #[serde(skip)]
    pub document_id: String,
    /// The subject's entity id.
    pub subject: String,
    /// The subject's name: for CSV alone, whose rows should read without a join.
    #[serde(skip)]
    pub subject_name: String,
    /// What is said.
    pub predicate: String,
    /// The object's entity id.
    pub object: String,
    /// The object's name: for CSV alone.
    #[serde(skip)]
    pub object_name: String,
    /// 0 to 1.
    #[serde(with = "decimal")]
    pub confidence: f32,
    /// Where it is stated, in order.
    pub evidence: Vec<ExportedEvidence>,
}

/// One thing across the batch's documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedCluster {
    /// Its id, with its prefix.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// The entity ids of its members.
    pub members: Vec<String>,
}

/// Two entities that may be one thing, or that people have decided about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportedLink {
    /// Its id, with its prefix.
    pub id: String,
    /// The entity id of the one end.
    pub left: String,
    /// Its name; `None` if it is gone.
    pub left_name: Option<String>,
    /// The cluster that it is in.
    pub left_cluster: Option<String>,
    /// The entity id of the other end.
    pub right: String,
    /// Its name.
    pub right_name: Option<String>,
    /// The cluster that it is in.
    pub right_cluster: Option<String>,
    /// How likely it was held, 0 to 1.
    #[serde(with = "decimal")]
    pub score: f32,
    /// Why.
    pub reason: String,
    /// `proposed`, `accepted` or `rejected`.
    pub status: String,
    /// Whether both ends are entities of this batch: for GraphML, whose edges are between nodes of the file.
    #[serde(skip)]
    pub is_within: bool,
}
