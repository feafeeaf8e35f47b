//! Withdrawing documents: they stay in the table with their executions, checkpoints and calls, and nothing of them is
//! counted, exported or resolved any more.
//!
//! Invariant: the event of a withdrawal says to the last entity what the batch no longer counts, whatever became of
//! the document before; so its executions' rows are locked first.

use std::collections::HashMap;

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use crate::{
    flow::{Event, EventKind, ExecutionStatus, Failure, FailureCode, Stage, Withdrawn},
    store::{StoreError, event::append_event, parsed, to_json},
};

/// A document that leaves its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// Which one.
    pub(super) document: DocumentId,
    /// What takes its place.
    pub(super) by: Option<DocumentId>,
    /// A newer version was sent; else it was removed.
    pub(super) replaced: bool,
}

/// Withdraws documents from a batch that is in `generation`, and tells of each. Returns how many of them had a text.
pub(super) async fn withdraw(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    leaving: &[Leaving],
) -> Result<i64, StoreError> {
    if leaving.is_empty() {
        return Ok(0);
    }
    let documents: Vec<Uuid> = leaving.iter().map(|l| l.document.uuid()).collect();
    let mut stored = 0;
    let mut was: HashMap<Uuid, Withdrawn> = HashMap::new();
    let refused = mark_documents(&mut *connection, organization, leaving, &documents).await?;
    for (document, refusal) in refused {
        let was = was.entry(document).or_default();
        match refusal.as_deref() {
            None => {
                was.accepted = 1;
                stored += 1;
            }
            Some(code) if code == FailureCode::Duplicate.as_str() => was.duplicate = 1,
            Some(_) => was.refused = 1,
        }
    }
    // The newest last: what became of that one became of the document.
    let rows = query!(
        r#"select id, document_id as "document_id!", generation, status, current_activity, partial from workflow_execution
           where organization_id = $1 and document_id = any($2) and workflow_type = 'extraction'
           order by document_id, generation for update"#,
        organization.uuid(),
        &documents,
    )
    .fetch_all(&mut *connection)
    .await?;
    let executions: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let document_of: HashMap<Uuid, Uuid> =
        rows.iter().map(|row| (row.id, row.document_id)).collect();
    let mut newest = HashMap::new();
    for row in rows {
        let status: ExecutionStatus = parsed("a status", &row.status)?;
        let is_earlier = row.generation < generation;
        let at = Stage::of_activity(&row.current_activity).ok_or_else(|| {
            StoreError::decode("an activity name")(row.current_activity.clone().into())
        })?;
        newest.insert(
            row.document_id,
            (row.id, status, at, row.partial, is_earlier),
        );
    }
    for (document, (_, status, at, partial, is_earlier)) in &newest {
        let was = was.entry(*document).or_default();
        for (passed, stage) in was.passed.iter_mut().zip(Stage::of_a_document()) {
            *passed = u64::from(stage < *at || *status == ExecutionStatus::Completed);
        }
        match status {
            ExecutionStatus::Completed => {
                was.completed = 1;
                was.partial = u64::from(*partial);
            }
            ExecutionStatus::Failed => was.failed = 1,
            ExecutionStatus::Abandoned => {
                was.abandoned = 1;
                was.abandoned_before = u64::from(*is_earlier);
            }
            ExecutionStatus::Cancelled => was.cancelled = 1,
            // It was in no count but that of what is to be worked.
            ExecutionStatus::Queued | ExecutionStatus::Processing | ExecutionStatus::Retry => {}
        }
    }
    end_executions(&mut *connection, organization, &executions).await?;
    for (execution, entities, relations) in
        drop_graphs(&mut *connection, organization, &executions).await?
    {
        if let Some(document) = document_of.get(&execution) {
            let was = was.entry(*document).or_default();
            was.entities += entities;
            was.relations += relations;
        }
    }
    for left in leaving {
        let document = left.document;
        let was = was.get(&document.uuid()).copied().unwrap_or_default();
        let kind = if left.replaced {
            let by = left.by;
            EventKind::DocumentReplaced { document, by, was }
        } else {
            EventKind::DocumentRemoved { document, was }
        };
        let execution = newest.get(&document.uuid());
        let event = Event {
            organization,
            batch,
            execution: execution.map(|(id, ..)| WorkflowExecutionId::from(*id)),
            kind,
        };
        append_event(&mut *connection, &event).await?;
    }
    Ok(stored)
}

/// Marks the rows of documents; returns each one's refusal code, if it was refused.
async fn mark_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    leaving: &[Leaving],
    documents: &[Uuid],
) -> Result<Vec<(Uuid, Option<String>)>, StoreError> {
    let by: Vec<Option<Uuid>> = leaving
        .iter()
        .map(|left| left.by.map(DocumentId::uuid))
        .collect();
    let rows = query!(
        "update document d set withdrawn_at = now(), replaced_by = leaving.by
         from unnest($2::uuid[], $3::uuid[]) as leaving (id, by)
         where d.organization_id = $1 and d.id = leaving.id and d.withdrawn_at is null
         returning d.id, d.refusal ->> 'code' as refusal",
        organization.uuid(),
        documents,
        &by as &[Option<Uuid>],
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.refusal)).collect())
}

/// Ends what is not final of these executions. Their rows are locked: whoever holds a lease on one has lost it with
/// this commit, is told to stop when it looks next, and can't write anything of it any more.
async fn end_executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    executions: &[Uuid],
) -> Result<(), StoreError> {
    query!(
        "with ended as (
             update workflow_execution e
             set withdrawn_at = now(), updated_at = now(),
                 status = case when e.completed_at is null then $3 else e.status end,
                 completed_at = coalesce(e.completed_at, now()),
                 stop_requested_at = case when e.lease_owner is not null then now() else e.stop_requested_at end,
                 lease_owner = null, lease_until = null, paused_at = null, pause_reason = null
             where e.organization_id = $1 and e.id = any($2)
         ), closed as (
             update workflow_activity set status = 'cancelled', completed_at = now(), error = $4
             where organization_id = $1 and workflow_execution_id = any($2) and status = 'running'
         )
         update workflow_signal set delivered_at = now(), outcome = 'too_late'
         where organization_id = $1 and workflow_execution_id = any($2) and delivered_at is null",
        organization.uuid(),
        executions,
        ExecutionStatus::Cancelled.as_str(),
        to_json("a failure", &Failure::cancelled())?,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what was found by these executions; returns of how many entities and relations that were, by execution.
async fn drop_graphs(
    connection: &mut PgConnection,
    organization: OrganizationId,
    executions: &[Uuid],
) -> Result<Vec<(Uuid, u64, u64)>, StoreError> {
    let rows = query!(
        r#"with entities as (
               delete from entity where organization_id = $1 and workflow_execution_id = any($2)
               returning workflow_execution_id
           ), relations as (
               delete from relation where organization_id = $1 and workflow_execution_id = any($2)
               returning workflow_execution_id, id
           ), mentions as (
               delete from mention where organization_id = $1 and workflow_execution_id = any($2)
           ), evidences as (
               delete from evidence
               where organization_id = $1 and relation_id = any(array(select id from relations))
           )
           select workflow_execution_id as "execution!", count(*) filter (where is_entity) as "entities!",
                  count(*) filter (where not is_entity) as "relations!"
           from (select workflow_execution_id, true as is_entity from entities
                 union all select workflow_execution_id, false from relations) as gone
           group by workflow_execution_id"#,
        organization.uuid(),
        executions,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                row.execution,
                row.entities.unsigned_abs(),
                row.relations.unsigned_abs(),
            )
        })
        .collect())
}
