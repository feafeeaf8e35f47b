//! A settle to begin from.

use std::time::Duration;

use graphmill::{
    flow::{ActivityStatus, ExecutionStatus, Stage},
    store::Settled,
};
use serde_json::json;

/// `worked` is completed, and the execution moves to `status` at `stage`; nothing else is written or told.
pub(crate) fn completed<'a>(worked: Stage, status: ExecutionStatus, stage: Stage) -> Settled<'a> {
    Settled {
        status,
        stage,
        worked,
        activity: ActivityStatus::Completed,
        partial: false,
        wait: Duration::ZERO,
        error: None,
        output: None,
        checkpoint: json!({}),
        units: &[],
        incarnation: 1,
        events: &[],
        takeover: None,
    }
}
