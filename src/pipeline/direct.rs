//! The direct path: the stages of one document in memory, with no Postgres and no Redis. The same code as the
//! durable path, which is measured against it.

use async_trait::async_trait;

use super::{
    stage::{self, Outcome, Work},
    units::{CheckpointError, Checkpoints, UnitRecord},
};
use crate::{
    flow::{Failure, FailureCode, WorkflowType},
    graph::DocumentGraph,
};

/// A document that could not be extracted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DirectError(pub Failure);

/// Checkpoints of a document that nobody will resume: the stage itself keeps what the next one needs.
struct Forgotten;

#[async_trait]
impl Checkpoints for Forgotten {
    async fn record(
        &mut self,
        _records: Vec<UnitRecord>,
        _last: bool,
    ) -> Result<(), CheckpointError> {
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), CheckpointError> {
        Ok(())
    }
}

/// Takes one document through every stage.
///
/// # Errors
/// [`DirectError`] when a unit has failed for good; it says whether trying again can help.
pub async fn extract(work: &Work) -> Result<DocumentGraph, DirectError> {
    let mut records = Vec::new();
    let mut stage = WorkflowType::Extraction.first_stage();
    loop {
        let outcome = stage::run(stage, work, &mut records, &mut Forgotten)
            .await
            .map_err(|error| {
                DirectError(Failure::transient(FailureCode::Corrupt, error.to_string()))
            })?;
        match (outcome, stage.next()) {
            (
                Outcome::Settled {
                    graph: Some(graph), ..
                },
                None,
            ) => return Ok(graph),
            (Outcome::Settled { .. }, Some(next)) => stage = next,
            (Outcome::Settled { graph: None, .. }, None) => {
                return Err(DirectError(Failure::terminal(
                    FailureCode::Corrupt,
                    "the last stage gave no graph",
                )));
            }
            (Outcome::Retry { wait, .. }, _) => tokio::time::sleep(wait).await,
            (Outcome::Failed { failure } | Outcome::Blocked { failure }, _) => {
                return Err(DirectError(failure));
            }
            (Outcome::Paused, _) => {
                let failure = Failure::transient(FailureCode::Cancelled, "it was asked to pause");
                return Err(DirectError(failure));
            }
        }
    }
}
