//! The CHECKs of the schema and the machines of `flow` say the same. Every test loops over the enums, so that a new
//! variant without its migration fails here.

use graphmill::flow::{
    ActivityStatus, BatchCounts, BatchState, BatchStateName, ExecutionStatus, Failure, FailureCode,
    Progress, Stage, WorkflowType,
};
use graphmill_jobs::BatchId;

use crate::support::{Ground, OURS, documents, new_batch};

const ERROR: &str = r#"'{"code": "extractor", "message": "no", "retryable": false}'"#;
const HOLDER: &str = "'01900000-0000-7000-8000-00000000000a'";

/// An execution's row to be, coherent unless a test spoils it.
struct Row {
    batch: BatchId,
    workflow: WorkflowType,
    activity: String,
    status: String,
    error: bool,
    completed: bool,
    leased: bool,
}

impl Row {
    fn of(batch: BatchId, status: ExecutionStatus) -> Self {
        Self {
            batch,
            workflow: WorkflowType::Extraction,
            activity: Stage::Chunk.activity_name().to_owned(),
            status: status.as_str().to_owned(),
            error: matches!(status, ExecutionStatus::Failed | ExecutionStatus::Abandoned),
            completed: status.is_final(),
            leased: false,
        }
    }

    async fn insert(&self, ground: &Ground) -> Result<u64, String> {
        let document = match self.workflow {
            WorkflowType::Extraction => "gen_random_uuid()",
            WorkflowType::Resolution => "null",
        };
        let only = |yes: bool, value: &'static str| if yes { value } else { "null" };
        ground
            .execute(format!(
                "insert into workflow_execution (id, organization_id, batch_id, generation, document_id,
                     workflow_type, workflow_version, status, current_activity, error, completed_at,
                     lease_owner, lease_until)
                 values (gen_random_uuid(), '{}', '{}', (random() * 1000000)::integer, {document}, '{}', 1,
                         '{}', '{}', {}, {}, {}, {})",
                OURS.uuid(),
                self.batch.uuid(),
                self.workflow.as_str(),
                self.status,
                self.activity,
                only(self.error, ERROR),
                only(self.completed, "now()"),
                only(self.leased, HOLDER),
                only(self.leased, "now()"),
            ))
            .await
    }
}

async fn ground() -> (Ground, BatchId) {
    let ground = Ground::new().await;
    let batch = ground.submit(&new_batch("machines"), documents(1)).await;
    (ground, batch)
}

/// Names that no machine knows, some of them near to one that it does.
fn strangers() -> [String; 4] {
    ["", "paused", "Completed ", "QUEUED"].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_have_the_statuses_of_their_machine() {
    let (ground, batch) = ground().await;
    for status in ExecutionStatus::ALL {
        let row = || Row::of(batch, status);
        assert_eq!(row().insert(&ground).await, Ok(1), "{status}");
        let wrong = Row {
            completed: !status.is_final(),
            ..row()
        };
        assert_eq!(
            wrong.insert(&ground).await,
            Err("execution_completed_at_says_so".to_owned()),
            "{status}"
        );
        let leased = Row {
            leased: true,
            ..row()
        };
        let expected = if status == ExecutionStatus::Processing {
            Ok(1)
        } else {
            Err("execution_lease_needs_processing".to_owned())
        };
        assert_eq!(leased.insert(&ground).await, expected, "{status}");
        let silent = Row {
            error: false,
            ..row()
        };
        let expected = if row().error {
            Err("execution_failure_has_a_reason".to_owned())
        } else {
            Ok(1)
        };
        assert_eq!(silent.insert(&ground).await, expected, "{status}");
    }
    for status in strangers() {
        let row = Row {
            status: status.clone(),
            ..Row::of(batch, ExecutionStatus::Queued)
        };
        let refused = row.insert(&ground).await.unwrap_err();
        assert_eq!(refused, "workflow_execution_status_check", "`{status}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_whole() {
    let (ground, batch) = ground().await;
    let execution = ground.execution(batch, "d0").await.uuid();
    let refused = ground
        .execute(format!(
            "update workflow_execution set status = 'processing', lease_until = now() where id = '{execution}'"
        ))
        .await;
    assert_eq!(refused, Err("execution_lease_is_whole".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_are_at_a_stage_of_their_workflow() {
    let (ground, batch) = ground().await;
    for stage in Stage::ALL {
        for workflow in [WorkflowType::Extraction, WorkflowType::Resolution] {
            let row = Row {
                workflow,
                activity: stage.activity_name().to_owned(),
                ..Row::of(batch, ExecutionStatus::Queued)
            };
            let expected = if stage.workflow() == workflow {
                Ok(1)
            } else {
                Err("execution_stage_of_its_workflow".to_owned())
            };
            assert_eq!(row.insert(&ground).await, expected, "{stage}");
        }
    }
    for activity in ["", "chunk", "extract", "Chunk-Text"] {
        let row = Row {
            activity: activity.to_owned(),
            ..Row::of(batch, ExecutionStatus::Queued)
        };
        let refused = row.insert(&ground).await.unwrap_err();
        assert_eq!(
            refused, "workflow_execution_current_activity_check",
            "`{activity}`"
        );
    }
}

async fn activity(
    ground: &Ground,
    batch: BatchId,
    name: &str,
    status: &str,
    ended: bool,
    error: bool,
) -> Result<u64, String> {
    let execution = ground.execution(batch, "d0").await.uuid();
    ground
        .execute(format!(
            "insert into workflow_activity (id, workflow_execution_id, organization_id, activity_name,
                 activity_type, status, attempt_number, lease_epoch, completed_at, error)
             values (gen_random_uuid(), '{execution}', '{}', '{name}', 'extraction', '{status}', 1,
                     (random() * 1000000000)::bigint, {}, {})",
            OURS.uuid(),
            if ended { "now()" } else { "null" },
            if error { ERROR } else { "null" },
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_have_the_statuses_of_their_machine() {
    let (ground, batch) = ground().await;
    for status in ActivityStatus::ALL {
        let (name, ended) = (status.as_str(), status.is_final());
        let failed = status == ActivityStatus::Failed;
        for stage in Stage::ALL {
            let stage = stage.activity_name();
            let inserted = activity(&ground, batch, stage, name, ended, failed).await;
            assert_eq!(inserted, Ok(1), "{stage} {status}");
        }
        let wrong = activity(&ground, batch, "chunk-text", name, !ended, failed).await;
        assert_eq!(wrong, Err("activity_completed_at_says_so".to_owned()));
        if failed {
            let silent = activity(&ground, batch, "chunk-text", name, ended, false).await;
            assert_eq!(silent, Err("activity_failure_has_a_reason".to_owned()));
        }
    }
    for status in strangers() {
        let refused = activity(&ground, batch, "chunk-text", &status, false, false).await;
        assert_eq!(
            refused,
            Err("workflow_activity_status_check".to_owned()),
            "`{status}`"
        );
    }
    for name in ["", "chunk", "resolve "] {
        let refused = activity(&ground, batch, name, "running", false, false).await;
        assert_eq!(
            refused,
            Err("workflow_activity_activity_name_check".to_owned()),
            "`{name}`"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_of_a_stage() {
    let (ground, batch) = ground().await;
    let execution = ground.execution(batch, "d0").await.uuid();
    let insert = async |stage: &str, outcome: &str, failure: &str| {
        ground
            .execute(format!(
                "insert into checkpoint (workflow_execution_id, organization_id, stage, unit, input_hash,
                     outcome, failure, tries, lease_epoch)
                 values ('{execution}', '{}', '{stage}', (random() * 1000000000)::integer, '', '{outcome}',
                         {failure}, 1, 1)",
                OURS.uuid()
            ))
            .await
    };
    for stage in Stage::ALL {
        let stage = stage.as_str();
        assert_eq!(insert(stage, "done", "null").await, Ok(1), "{stage}");
        for outcome in ["retry", "failed"] {
            assert_eq!(insert(stage, outcome, ERROR).await, Ok(1), "{stage}");
            assert_eq!(
                insert(stage, outcome, "null").await,
                Err("checkpoint_has_an_output_or_a_reason".to_owned())
            );
        }
    }
    assert_eq!(
        insert("chunk", "done", ERROR).await,
        Err("checkpoint_has_an_output_or_a_reason".to_owned())
    );
    for stage in ["", "chunk-text", "Resolve"] {
        let refused = insert(stage, "done", "null").await;
        assert_eq!(
            refused,
            Err("checkpoint_stage_check".to_owned()),
            "`{stage}`"
        );
    }
}

/// A state of each name, as the sequencer would write it.
fn state(name: BatchStateName) -> BatchState {
    let (progress, counts) = (Progress::default(), BatchCounts::default());
    match name {
        BatchStateName::Pending => BatchState::Pending,
        BatchStateName::Chunking => BatchState::Chunking { progress },
        BatchStateName::ExtractingMentions => BatchState::ExtractingMentions { progress },
        BatchStateName::ExtractingEntities => BatchState::ExtractingEntities { progress },
        BatchStateName::ExtractingRelations => BatchState::ExtractingRelations { progress },
        BatchStateName::Assembling => BatchState::Assembling { progress },
        BatchStateName::Resolving => BatchState::Resolving { progress },
        BatchStateName::Completed => BatchState::Completed { counts },
        BatchStateName::Failed => BatchState::Failed {
            error: Failure::terminal(FailureCode::BatchFailed, "no"),
        },
        BatchStateName::Cancelled => BatchState::Cancelled { counts },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_have_the_states_of_their_machine() {
    let (ground, batch) = ground().await;
    let update = async |name: &str, data: &str, sealed: bool, ended: bool| {
        let when = |yes: bool| if yes { "now()" } else { "null" };
        ground
            .execute(format!(
                "update batch set state = '{name}', state_data = '{data}', sealed_at = {}, ended_at = {}
                 where id = '{}'",
                when(sealed),
                when(ended),
                batch.uuid()
            ))
            .await
    };
    for name in BatchStateName::ALL {
        let data = serde_json::to_string(&state(name)).unwrap();
        let (text, ended) = (name.as_str(), name.has_ended());
        assert_eq!(update(text, &data, true, ended).await, Ok(1), "{name}");
        assert_eq!(ground.batch(batch).await.state, state(name));
        assert_eq!(
            update(text, &data, true, !ended).await,
            Err("batch_ended_at_says_so".to_owned()),
            "{name}"
        );
        let unsealed = update(text, &data, false, ended).await;
        if matches!(name, BatchStateName::Resolving | BatchStateName::Completed) {
            assert_eq!(unsealed, Err("batch_resolves_sealed".to_owned()), "{name}");
        } else {
            assert_eq!(unsealed, Ok(1), "{name}");
        }
        for other in BatchStateName::ALL {
            let data = serde_json::to_string(&state(other)).unwrap();
            let told = update(text, &data, true, ended).await;
            assert_eq!(
                told.is_ok(),
                other == name,
                "{name} with the data of {other}"
            );
        }
    }
    for name in strangers() {
        let data = format!(r#"{{"name": "{name}"}}"#);
        let refused = update(&name, &data, true, false).await;
        assert_eq!(refused, Err("batch_state_check".to_owned()), "`{name}`");
    }
    for data in ["{}", "null", r#"{"name": null}"#] {
        let refused = update("Pending", data, true, false).await;
        assert_eq!(
            refused,
            Err("batch_state_data_agrees".to_owned()),
            "{data}: a null comparison must not pass"
        );
    }
}
