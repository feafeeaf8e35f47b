//! Links and clusters as commands print them.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, ClusterId, EntityId, LinkId};
use serde::Serialize;

use crate::store::{LinkEnd, LinkRow};

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkReport {
    /// Its id.
    pub id: LinkId,
    /// The batch in whose resolution it came up.
    pub batch_id: BatchId,
    /// `proposed`, `accepted` or `rejected`.
    pub status: &'static str,
    /// How likely, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: String,
    /// The one end.
    pub left: LinkEndReport,
    /// The other.
    pub right: LinkEndReport,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
}

/// An end of a link: a member of a cluster. What is gone is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkEndReport {
    /// The member.
    pub entity_id: EntityId,
    /// Its name.
    pub name: Option<String>,
    /// Its class.
    #[serde(rename = "type")]
    pub class: Option<String>,
    /// Its batch.
    pub batch_id: Option<BatchId>,
    /// The caller's id of its document.
    pub document: Option<String>,
    /// Its cluster.
    pub cluster_id: Option<ClusterId>,
}

impl LinkEndReport {
    fn of(end: LinkEnd) -> Self {
        Self {
            entity_id: end.entity,
            name: end.name,
            class: end.class,
            batch_id: end.batch,
            document: end.external,
            cluster_id: end.cluster,
        }
    }
}

impl LinkReport {
    pub(super) fn of(row: LinkRow) -> Self {
        Self {
            id: row.id,
            batch_id: row.batch,
            status: row
                .decision
                .map_or("proposed", |decision| decision.as_str()),
            score: row.score,
            reason: row.reason,
            left: LinkEndReport::of(row.left),
            right: LinkEndReport::of(row.right),
            decided_at: row.decided_at,
        }
    }
}

/// A cluster, in all batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterReport {
    /// Its id.
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// Its members, by document.
    pub members: Vec<ClusterMemberReport>,
}

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterMemberReport {
    /// Its id.
    pub entity_id: EntityId,
    /// Its name.
    pub name: String,
    /// Its class.
    #[serde(rename = "type")]
    pub class: String,
    /// Its batch.
    pub batch_id: BatchId,
    /// The caller's id of its document.
    pub document: String,
    /// The member that it was merged with; null for the first.
    pub with: Option<EntityId>,
    /// How sure that was, 0 to 1.
    pub score: Option<f32>,
    /// Why.
    pub reason: Option<String>,
}

/// What a decision has changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkChange {
    /// The link, as it is now.
    pub link: LinkReport,
    /// Whether the decision is a new one.
    pub changed: bool,
    /// The clusters that it is about, as they are now; empty if nothing has changed.
    pub clusters: Vec<ClusterReport>,
    /// Clusters that are no more.
    pub gone: Vec<ClusterId>,
}

impl LinkChange {
    pub(super) fn nothing(row: LinkRow) -> Self {
        Self {
            link: LinkReport::of(row),
            changed: false,
            clusters: Vec::new(),
            gone: Vec::new(),
        }
    }
}
