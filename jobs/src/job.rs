//! One job type a stage, each with a queue of its own; the payload of all of them is a [`Ring`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{OrganizationId, WorkflowExecutionId};

/// What a job says: "this execution may be worked, and this is the state in which I saw it".
///
/// Whoever takes the job leases the execution in Postgres first; an epoch that is no longer the row's makes the
/// job a no-op.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The execution to work.
    pub execution: WorkflowExecutionId,
    /// The organization that owns it.
    pub organization: OrganizationId,
    /// The execution's lease epoch when the job was pushed.
    pub epoch: i64,
    /// The workflow version that the execution records; a worker leaves versions that it doesn't know.
    pub version: i32,
    /// W3C trace context of whoever rang, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A typed job of one stage.
pub trait StageJob: Serialize + DeserializeOwned + Clone + Send + Sync + Unpin + 'static {
    /// The stage's queue in Redis.
    const QUEUE: &'static str;

    /// The job that rings for `ring`.
    fn new(ring: Ring) -> Self;

    /// What the job rings for.
    fn ring(&self) -> &Ring;
}

macro_rules! jobs {
    ($($(#[$doc:meta])* $name:ident, $queue:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ring);

        impl StageJob for $name {
            const QUEUE: &'static str = $queue;

            fn new(ring: Ring) -> Self {
                Self(ring)
            }

            fn ring(&self) -> &Ring {
                &self.0
            }
        }
    )+};
}

jobs! {
    /// Cut a document into chunks.
    ChunkText, "graphmill:chunk";
    /// Find the names in each chunk.
    ExtractMentions, "graphmill:mentions";
    /// Give each mention a class of the ontology.
    ClassifyEntities, "graphmill:entities";
    /// Find typed relations in each chunk.
    ExtractRelations, "graphmill:relations";
    /// Merge a document's findings into its graph.
    AssembleGraph, "graphmill:assemble";
    /// Merge the same thing across a batch's documents.
    Resolve, "graphmill:resolve";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_its_ring_and_nothing_else() {
        let execution = WorkflowExecutionId::generate();
        let ring = Ring {
            execution,
            organization: OrganizationId::DEFAULT,
            epoch: 3,
            version: 1,
            traceparent: None,
        };
        let json = serde_json::to_value(ChunkText::new(ring.clone())).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "execution": execution.to_string(),
                "organization": "org_00000000000070008000000000000001",
                "epoch": 3,
                "version": 1,
            })
        );
        assert_eq!(
            serde_json::from_value::<ChunkText>(json).unwrap().ring(),
            &ring
        );
    }
}
