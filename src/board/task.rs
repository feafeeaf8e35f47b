//! A task, as the board shows it: an execution at one stage, and what was tried there.
//!
//! Knows the board's words for where a task stands. Invariant: of a document it says its ids and its title, and nothing
//! of its text or of what was found.

use std::collections::BTreeMap;

use apalis_core::task::{ExecutionContext, Task, status::Status};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    flow::{ActivityStatus, ExecutionStatus},
    store::{Activity, Shown, StageOfExecution},
};

/// The status that a query names.
pub(super) fn status(name: &str) -> Option<Status> {
    name.parse().ok()
}

/// What a list of tasks of this status has.
pub(super) fn shown(status: Option<&Status>) -> Shown {
    match status {
        Some(Status::Pending) => Shown::Waiting,
        Some(Status::Queued) => Shown::Taken,
        Some(Status::Running) => Shown::InWork,
        Some(Status::Done) => Shown::Through,
        Some(Status::Failed) => Shown::Failed,
        Some(Status::Killed) => Shown::Stopped,
        // The board may come to know more.
        Some(_) | None => Shown::Any,
    }
}

/// Where an execution stands at the stage that it is at.
pub(super) const fn standing(status: ExecutionStatus, leased: bool) -> Shown {
    match status {
        ExecutionStatus::Queued | ExecutionStatus::Retry => Shown::Waiting,
        ExecutionStatus::Processing if leased => Shown::InWork,
        ExecutionStatus::Processing => Shown::Taken,
        ExecutionStatus::Completed => Shown::Through,
        ExecutionStatus::Failed | ExecutionStatus::Abandoned => Shown::Failed,
        ExecutionStatus::Cancelled => Shown::Stopped,
    }
}

/// Where an execution stands at the stage at which it is looked at; none if it has not come there, or never will.
fn status_of(execution: &StageOfExecution) -> Option<Status> {
    let (at, stage) = (execution.at, execution.stage);
    if at.workflow() != stage.workflow() || at > stage {
        return None;
    }
    let standing = if at < stage {
        Shown::Through
    } else {
        standing(execution.status, execution.leased)
    };
    Some(match standing {
        Shown::Waiting => Status::Pending,
        Shown::Taken => Status::Queued,
        Shown::InWork => Status::Running,
        Shown::Through | Shown::Any => Status::Done,
        Shown::Failed => Status::Failed,
        Shown::Stopped => Status::Killed,
    })
}

/// The task, with what was tried at its stage as far as that was read; none if it has not come there.
///
/// # Errors
/// When the board takes no such task.
pub(super) fn task(
    execution: &StageOfExecution,
    attempts: &[Activity],
) -> Option<Result<Task<Value>, serde_json::Error>> {
    let status = status_of(execution)?;
    let is_here = execution.at == execution.stage;
    let seconds = |at: DateTime<Utc>| at.timestamp();
    let waits = status == Status::Pending;
    let id = execution.id.to_string();
    let context = json!({
        "task_id": id,
        "attempt": execution.attempts,
        "status": status.to_string(),
        // When it is due, while it waits; else when it was begun last.
        "run_at": seconds(execution.started_at.filter(|_| !waits).unwrap_or(execution.due_at)),
        "done_at": execution.ended_at.filter(|_| !waits && !execution.leased).map(seconds),
        "lock_at": execution.started_at.filter(|_| is_here && execution.leased).map(seconds),
        "lock_by": execution.owner.filter(|_| is_here && execution.leased).map(|owner| owner.to_string()),
        "idempotency_key": null,
        "metadata": metadata(execution, is_here),
        "max_attempts": null,
        "priority": null,
        "queue": execution.at.as_str(),
        "runs": attempts.iter().map(|attempt| run(attempt, &id)).collect::<Vec<_>>(),
    });
    let arguments = json!({
        "execution": execution.id,
        "batch": execution.batch,
        "batchName": execution.batch_name,
        "document": execution.document,
        "title": execution.title,
        "stage": execution.at.as_str(),
    });
    let context = serde_json::from_value::<ExecutionContext>(context);
    Some(context.map(|context| Task::new(arguments).map_context(|_| context.into())))
}

fn metadata(execution: &StageOfExecution, is_here: bool) -> BTreeMap<&'static str, String> {
    let mut metadata = BTreeMap::from([("generation", execution.generation.to_string())]);
    if is_here {
        metadata.insert("status", execution.status.to_string());
        if let Some(error) = &execution.error {
            metadata.insert(
                "failure",
                format!("{}: {}", error.code.as_str(), error.message),
            );
        }
        if let Some(reason) = &execution.paused {
            metadata.insert("paused", reason.clone());
        }
        if execution.partial {
            metadata.insert("partial", "some units failed".to_owned());
        }
    }
    metadata
}

/// An attempt, as a run.
fn run(attempt: &Activity, task: &str) -> Value {
    let begun = attempt.started_at.timestamp();
    let ended = attempt
        .duration_ms
        .map(|duration| (attempt.started_at.timestamp_millis() + duration) / 1000);
    let (status, result) = match attempt.status {
        ActivityStatus::Pending => ("Pending", None),
        ActivityStatus::Running => ("Running", None),
        ActivityStatus::Completed | ActivityStatus::Skipped => ("Done", Some(json!({ "Ok": [] }))),
        ActivityStatus::Failed => ("Failed", None),
        ActivityStatus::Cancelled => ("Killed", None),
    };
    let failure = attempt
        .error
        .as_ref()
        .map(|error| json!({ "Err": format!("{}: {}", error.code.as_str(), error.message) }));
    let result = failure.or(result).map(|result| {
        json!({ "task_id": task, "attempt": attempt.attempt, "status": status, "result": result })
    });
    json!({ "result": result, "lock_at": begun, "lock_by": attempt.id, "done_at": ended })
}
