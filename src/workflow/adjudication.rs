//! How far asking about names has come, as the checkpoints of a batch's resolutions say.

use std::fmt::Write;

use graphmill_jobs::OrganizationId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    flow::Stage,
    graph::Sameness,
    pipeline::{Adjudicate, BatchConfig, UnitOutput},
    store::{self, AskedUnit, Batch, Connection, StoreError},
};

/// What was asked about names that may be of one thing, in all resolutions of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AdjudicationReport {
    /// Questions of a resolution, at most.
    pub most: u32,
    /// Questions that were answered.
    pub answered: u64,
    /// Questions that will be asked again.
    pub waiting: u64,
    /// Questions that failed for good: what they were about stays proposed.
    pub failed: u64,
    /// Why the last of them did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Pairs of names that were said to be of one thing. They are merged, unless something contradicts that.
    pub same: u64,
    /// Pairs that were said to be two things.
    pub different: u64,
    /// Pairs of which it could not be told.
    pub unsure: u64,
}

/// Whether somebody is to be asked about names of `batch`, and how much.
#[must_use]
pub fn adjudicates(batch: &Batch) -> Option<Adjudicate> {
    // What another version has configured is no reason to report nothing at all.
    let config = serde_json::from_value::<BatchConfig>(batch.config.clone()).unwrap_or_default();
    config.settings.adjudicate
}

/// What was asked about `batch`; `None` if nobody is to be asked.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn adjudication(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: &Batch,
) -> Result<Option<AdjudicationReport>, StoreError> {
    let Some(settings) = adjudicates(batch) else {
        return Ok(None);
    };
    let mut report = AdjudicationReport {
        most: settings.most,
        ..AdjudicationReport::default()
    };
    for unit in store::asked_units(connection, organization, batch.id).await? {
        let output = match unit {
            AskedUnit::Done(output) => output,
            AskedUnit::Retry => {
                report.waiting += 1;
                continue;
            }
            AskedUnit::Failed(failure) => {
                report.failed += 1;
                report.failure = Some(failure.message);
                continue;
            }
        };
        report.answered += 1;
        let output = UnitOutput::from_json(Stage::Resolve, output);
        let Ok(Some(UnitOutput::Verdicts(judged))) = output else {
            continue;
        };
        for judged in judged {
            match judged.verdict {
                Sameness::Same => report.same += 1,
                Sameness::Different => report.different += 1,
                Sameness::Unsure => report.unsure += 1,
            }
        }
    }
    Ok(Some(report))
}

impl AdjudicationReport {
    /// In words.
    #[must_use]
    pub fn for_people(&self) -> String {
        let mut said = format!(
            "{} questions answered (a resolution asks {} at most): {} same, {} different, {} unsure",
            self.answered, self.most, self.same, self.different, self.unsure
        );
        for (count, what) in [(self.waiting, "to be asked again"), (self.failed, "failed")] {
            if count > 0 {
                // Writing to a string does not fail.
                let _ = write!(said, ", {count} {what}");
            }
        }
        if let Some(failure) = &self.failure {
            let _ = write!(said, " ({failure})");
        }
        said
    }
}
