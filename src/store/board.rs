//! What the board shows, over the tables of batches and executions: how many documents stand at each stage, which ones,
//! and who works.
//!
//! A batch may have a million rows, so numbers come from what its events add up to; rows are read where an index knows
//! the few that are asked for, and a list looks at a bounded number of them.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OrganizationId, WorkerId, WorkflowExecutionId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, execution::stage, from_json, parsed};
use crate::flow::{ExecutionStatus, Failure, Stage};

/// Batches of an organization that are counted at most, the newest first. **Source:** their counts are added up in
/// some 50 ms.
const COUNTED: i64 = 10_000;
/// Batches that a list goes through at most, the newest first.
const LISTED: i64 = 1000;
/// Rows that a list looks at, and rows of a batch that are counted one by one, at most.
const LOOKED_AT: i64 = 10_000;
/// Workers that are listed at most.
const WORKERS: i64 = 1000;

/// What the counts of some batches add up to: of one batch, or of all that have ended alike and were opened on one day.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The batch, if it is one.
    pub batch: Option<BatchId>,
    /// How many days ago it was opened, by UTC, if that is within a week.
    pub days_ago: Option<i32>,
    /// It has ended.
    pub ended: bool,
    /// Documents to work.
    pub accepted: u64,
    /// Documents that are through each stage.
    pub passed: [u64; Stage::OF_A_DOCUMENT],
    /// Documents that completed.
    pub completed: u64,
    /// Documents that wait for another round.
    pub failed: u64,
    /// Documents given up.
    pub abandoned: u64,
    /// Documents stopped.
    pub cancelled: u64,
}

/// What the newest 10,000 batches add up to. Those that have ended stand together as far as arithmetic can tell where
/// their documents stand; the others stand alone.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn standings(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<Standing>, StoreError> {
    let rows = query!(
        r#"with b as (
               select id, ended_at is not null as ended,
                      case when created_at > now() - interval '7 days'
                           then (now() at time zone 'UTC')::date - (created_at at time zone 'UTC')::date end as days_ago,
                      (counts ->> 'accepted')::bigint as accepted,
                      (counts ->> 'completed')::bigint as completed,
                      (counts ->> 'failed')::bigint as failed,
                      (counts ->> 'abandoned')::bigint as abandoned,
                      (counts ->> 'cancelled')::bigint as cancelled,
                      coalesce((counts -> 'passed' ->> 0)::bigint, 0) as passed_0,
                      coalesce((counts -> 'passed' ->> 1)::bigint, 0) as passed_1,
                      coalesce((counts -> 'passed' ->> 2)::bigint, 0) as passed_2,
                      coalesce((counts -> 'passed' ->> 3)::bigint, 0) as passed_3,
                      coalesce((counts -> 'passed' ->> 4)::bigint, 0) as passed_4
               from batch
               where organization_id = $1 and pruning_since is null
               order by id desc limit $2
           ), g as (
               select *, case when not ended or abandoned > 0 and cancelled > 0 then id end as alone from b
           )
           select alone as "alone?", days_ago as "days_ago?", ended as "ended!",
                  sum(accepted)::bigint as "accepted!", sum(completed)::bigint as "completed!",
                  sum(failed)::bigint as "failed!", sum(abandoned)::bigint as "abandoned!",
                  sum(cancelled)::bigint as "cancelled!",
                  array[sum(passed_0), sum(passed_1), sum(passed_2), sum(passed_3), sum(passed_4)]::bigint[]
                      as "passed!"
           from g
           group by alone, days_ago, ended, abandoned > 0
           order by alone desc nulls last"#,
        organization.uuid(),
        COUNTED,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut passed = [0; Stage::OF_A_DOCUMENT];
            for (to, count) in passed.iter_mut().zip(row.passed) {
                *to = count.unsigned_abs();
            }
            Standing {
                batch: row.alone.map(Into::into),
                days_ago: row.days_ago,
                ended: row.ended,
                accepted: row.accepted.unsigned_abs(),
                passed,
                completed: row.completed.unsigned_abs(),
                failed: row.failed.unsigned_abs(),
                abandoned: row.abandoned.unsigned_abs(),
                cancelled: row.cancelled.unsigned_abs(),
            }
        })
        .collect())
}

/// Executions of one batch that stand alike.
#[derive(Debug, Clone, Copy)]
pub struct Standers {
    /// The batch.
    pub batch: BatchId,
    /// The stage that they are at.
    pub stage: Stage,
    /// Somebody works on them.
    pub leased: bool,
    /// How many.
    pub count: u64,
}

macro_rules! read_standers {
    ($rows:expr) => {
        $rows
            .into_iter()
            .map(|row| {
                Ok(Standers {
                    batch: row.batch_id.into(),
                    stage: stage(&row.current_activity)?,
                    leased: row.leased,
                    count: row.count.unsigned_abs(),
                })
            })
            .collect()
    };
}

/// Documents of these batches that hold a slot, so never many.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn standers_in_work(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batches: &[BatchId],
) -> Result<Vec<Standers>, StoreError> {
    let batches: Vec<Uuid> = batches.iter().map(|batch| batch.uuid()).collect();
    let rows = query!(
        r#"select batch_id, current_activity, coalesce(lease_until > now(), false) as "leased!", count(*) as "count!"
           from workflow_execution
           where organization_id = $1 and batch_id = any($2) and status = 'processing'
             and workflow_type = 'extraction'
           group by 1, 2, 3"#,
        organization.uuid(),
        &batches,
    )
    .fetch_all(connection)
    .await?;
    read_standers!(rows)
}

/// Documents of these batches that have failed or were given up; 10,000 of a batch and a kind at most.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn standers_failed(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batches: &[BatchId],
) -> Result<Vec<Standers>, StoreError> {
    let batches: Vec<Uuid> = batches.iter().map(|batch| batch.uuid()).collect();
    let rows = query!(
        r#"select e.batch_id as "batch_id!", e.current_activity as "current_activity!", false as "leased!",
                  count(*) as "count!"
           from unnest($2::uuid[]) as b (id)
           cross join lateral (
               (select e.batch_id, e.current_activity from workflow_execution e
                where e.organization_id = $1 and e.batch_id = b.id and e.status = 'failed'
                  and e.workflow_type = 'extraction'
                limit $3)
               union all
               (select e.batch_id, e.current_activity from workflow_execution e
                where e.organization_id = $1 and e.batch_id = b.id and e.status = 'abandoned'
                  and e.workflow_type = 'extraction' and e.withdrawn_at is null
                  and not exists (select from workflow_execution later
                                  where later.document_id = e.document_id and later.generation > e.generation
                                    and later.workflow_type = 'extraction')
                limit $3)
           ) e
           group by 1, 2"#,
        organization.uuid(),
        &batches,
        LOOKED_AT,
    )
    .fetch_all(connection)
    .await?;
    read_standers!(rows)
}

/// Documents of these batches that wait to be admitted; 10,000 of a batch at most.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn standers_waiting(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batches: &[BatchId],
) -> Result<Vec<Standers>, StoreError> {
    let batches: Vec<Uuid> = batches.iter().map(|batch| batch.uuid()).collect();
    let rows = query!(
        r#"select e.batch_id as "batch_id!", e.current_activity as "current_activity!", false as "leased!",
                  count(*) as "count!"
           from unnest($2::uuid[]) as b (id)
           cross join lateral (
               select e.batch_id, e.current_activity from workflow_execution e
               where e.organization_id = $1 and e.batch_id = b.id and e.status in ('queued', 'retry')
                 and e.workflow_type = 'extraction'
               limit $3
           ) e
           group by 1, 2"#,
        organization.uuid(),
        &batches,
        LOOKED_AT,
    )
    .fetch_all(connection)
    .await?;
    read_standers!(rows)
}

/// Resolutions that stand alike: of each batch that of its newest generation.
#[derive(Debug, Clone, Copy)]
pub struct Resolutions {
    /// Where they stand.
    pub status: ExecutionStatus,
    /// Somebody works on them.
    pub leased: bool,
    /// How many days ago their batches were opened, by UTC, if that is within a week.
    pub days_ago: Option<i32>,
    /// How many.
    pub count: u64,
}

/// The resolutions of the newest 10,000 batches.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn resolutions_standing(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<Resolutions>, StoreError> {
    let rows = query!(
        r#"select e.status, coalesce(e.lease_until > now(), false) as "leased!", b.days_ago as "days_ago?",
                  count(*) as "count!"
           from (select id, generation,
                        case when created_at > now() - interval '7 days'
                             then (now() at time zone 'UTC')::date - (created_at at time zone 'UTC')::date end
                            as days_ago
                 from batch
                 where organization_id = $1 and pruning_since is null
                 order by id desc limit $2) b
           join workflow_execution e on e.organization_id = $1 and e.batch_id = b.id
                                    and e.generation = b.generation and e.workflow_type = 'resolution'
           group by 1, 2, 3"#,
        organization.uuid(),
        COUNTED,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Resolutions {
                status: parsed("a status", &row.status)?,
                leased: row.leased,
                days_ago: row.days_ago,
                count: row.count.unsigned_abs(),
            })
        })
        .collect()
}

/// Which executions a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Those that wait to be admitted.
    Waiting,
    /// Those that hold a slot and that nobody works on.
    Taken,
    /// Those that somebody works on.
    InWork,
    /// Those that are through.
    Through,
    /// Those that have failed or were given up.
    Failed,
    /// Those that were stopped.
    Stopped,
    /// All.
    Any,
}

impl Shown {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Taken => "taken",
            Self::InWork => "in work",
            Self::Through => "through",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Any => "any",
        }
    }
}

/// Executions that a list has, each with the stage at which it is shown: at one stage of documents, or of all stages
/// those where they stand. Batches come newest first, and looking ends at 1000 batches and 10,000 rows; of a document
/// that was tried again the newest counts, of one that was withdrawn none.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
#[expect(clippy::too_many_lines, reason = "one statement, and what it asks for")]
pub async fn shown_executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    shown: Shown,
    at: Option<Stage>,
    skip: i64,
    most: i64,
) -> Result<Vec<(WorkflowExecutionId, Stage)>, StoreError> {
    if at == Some(Stage::Resolve) {
        return shown_resolutions(connection, organization, shown, skip, most).await;
    }
    let beyond: Option<Vec<String>> = at.map(|at| {
        Stage::of_a_document()
            .filter(|stage| *stage > at)
            .map(|stage| stage.activity_name().to_owned())
            .collect()
    });
    let rows = query!(
        r#"with looked as (
               select e.* from (
                   select id, generation from batch
                   where organization_id = $1 and pruning_since is null
                     and case $2::text
                         when 'waiting' then ended_at is null
                         when 'taken' then ended_at is null
                         when 'in work' then ended_at is null
                         when 'stopped' then (counts ->> 'cancelled')::bigint > 0 or $3::text is null
                         when 'through' then (counts -> 'passed' ->> $4::integer)::bigint > 0 or $3::text is null
                         else true end
                   order by id desc limit $8
               ) b
               cross join lateral (
                   -- Each by its own index: one condition on all of them would read past everything else.
                   (select e.id, e.current_activity, e.status, e.lease_until, e.document_id, e.generation,
                           e.workflow_type, e.withdrawn_at
                    from workflow_execution e
                    where $2::text = 'waiting' and e.organization_id = $1 and e.batch_id = b.id
                      and e.status in ('queued', 'retry')
                    order by e.due_at, e.id limit $9)
                   union all
                   (select e.id, e.current_activity, e.status, e.lease_until, e.document_id, e.generation,
                           e.workflow_type, e.withdrawn_at
                    from workflow_execution e
                    where $2::text in ('taken', 'in work') and e.organization_id = $1 and e.batch_id = b.id
                      and e.status = 'processing'
                    limit $9)
                   union all
                   (select e.id, e.current_activity, e.status, e.lease_until, e.document_id, e.generation,
                           e.workflow_type, e.withdrawn_at
                    from workflow_execution e
                    where $2::text = 'failed' and e.organization_id = $1 and e.batch_id = b.id and e.status = 'failed'
                    limit $9)
                   union all
                   (select e.id, e.current_activity, e.status, e.lease_until, e.document_id, e.generation,
                           e.workflow_type, e.withdrawn_at
                    from workflow_execution e
                    where $2::text = 'failed' and e.organization_id = $1 and e.batch_id = b.id
                      and e.status = 'abandoned'
                    limit $9)
                   union all
                   (select e.id, e.current_activity, e.status, e.lease_until, e.document_id, e.generation,
                           e.workflow_type, e.withdrawn_at
                    from workflow_execution e
                    where $2::text in ('through', 'stopped', 'any') and e.organization_id = $1 and e.batch_id = b.id
                    order by e.id limit $9)
               ) e
               where e.workflow_type = 'extraction' or $3::text is null and e.generation = b.generation
               order by b.id desc
               limit $9
           )
           select id as "id!", current_activity as "current_activity!" from looked e
           where e.withdrawn_at is null
             and case $2::text
                 when 'waiting' then e.current_activity = coalesce($3, e.current_activity)
                 when 'taken' then e.current_activity = coalesce($3, e.current_activity)
                                   and coalesce(e.lease_until <= now(), true)
                 when 'in work' then e.current_activity = coalesce($3, e.current_activity) and e.lease_until > now()
                 when 'failed' then e.current_activity = coalesce($3, e.current_activity)
                 when 'stopped' then e.current_activity = coalesce($3, e.current_activity) and e.status = 'cancelled'
                 when 'through' then e.status = 'completed' or e.current_activity = any($5::text[])
                 else $3 is null or e.current_activity = $3 or e.status = 'completed'
                      or e.current_activity = any($5::text[])
                 end
             and not exists (select from workflow_execution later
                             where later.document_id = e.document_id and later.generation > e.generation
                               and later.workflow_type = 'extraction')
           offset $6 limit $7"#,
        organization.uuid(),
        shown.as_str(),
        at.map(Stage::activity_name),
        at.map(|at| i32::try_from(at.place()).unwrap_or_default()),
        beyond.as_deref(),
        skip,
        most,
        LISTED,
        LOOKED_AT,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok((
                row.id.into(),
                at.map_or_else(|| stage(&row.current_activity), Ok)?,
            ))
        })
        .collect()
}

async fn shown_resolutions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    shown: Shown,
    skip: i64,
    most: i64,
) -> Result<Vec<(WorkflowExecutionId, Stage)>, StoreError> {
    let rows = query!(
        r#"select e.id as "id!"
           from (select id, generation from batch
                 where organization_id = $1 and pruning_since is null
                 order by id desc limit $5) b
           join workflow_execution e on e.organization_id = $1 and e.batch_id = b.id
                                    and e.generation = b.generation and e.workflow_type = 'resolution'
           where case $2::text
                 when 'waiting' then e.status in ('queued', 'retry')
                 when 'taken' then e.status = 'processing' and coalesce(e.lease_until <= now(), true)
                 when 'in work' then e.status = 'processing' and e.lease_until > now()
                 when 'failed' then e.status in ('failed', 'abandoned')
                 when 'stopped' then e.status = 'cancelled'
                 when 'through' then e.status = 'completed'
                 else true end
           order by b.id desc
           offset $3 limit $4"#,
        organization.uuid(),
        shown.as_str(),
        skip,
        most,
        COUNTED,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id.into(), Stage::Resolve))
        .collect())
}

/// An execution at one stage.
#[derive(Debug, Clone)]
pub struct StageOfExecution {
    /// The execution.
    pub id: WorkflowExecutionId,
    /// The stage at which it is looked at.
    pub at: Stage,
    /// The stage where it stands.
    pub stage: Stage,
    /// How it stands there.
    pub status: ExecutionStatus,
    /// Somebody works on it.
    pub leased: bool,
    /// Who, if anybody does.
    pub owner: Option<WorkerId>,
    /// Completed with failed units.
    pub partial: bool,
    /// Why it failed last.
    pub error: Option<Failure>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// Which try of the batch it belongs to.
    pub generation: i32,
    /// The batch.
    pub batch: BatchId,
    /// The batch's name.
    pub batch_name: String,
    /// The document's id as the caller gave it; none for a resolution.
    pub document: Option<String>,
    /// The document's title.
    pub title: Option<String>,
    /// When it is due, while it waits.
    pub due_at: DateTime<Utc>,
    /// Attempts at the stage.
    pub attempts: u64,
    /// When the last of them began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the last of them ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// Reads executions, each at a stage, in this order.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn stages_of_executions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    wanted: &[(WorkflowExecutionId, Stage)],
) -> Result<Vec<StageOfExecution>, StoreError> {
    let ids: Vec<Uuid> = wanted.iter().map(|(id, _)| id.uuid()).collect();
    let stages: Vec<String> = wanted
        .iter()
        .map(|(_, stage)| stage.activity_name().to_owned())
        .collect();
    let rows = query!(
        r#"select e.id, w.activity as "at!", e.current_activity, e.status, e.lease_owner, e.partial, e.error,
                  e.pause_reason, e.generation, e.batch_id, b.name, d.external_id as "external_id?",
                  d.title as "title?", e.due_at, coalesce(e.lease_until > now(), false) as "leased!",
                  a.attempts as "attempts!", a.started_at, a.ended_at
           from unnest($2::uuid[], $3::text[]) with ordinality as w (id, activity, place)
           join workflow_execution e on e.organization_id = $1 and e.id = w.id
           join batch b on b.organization_id = $1 and b.id = e.batch_id and b.pruning_since is null
           left join document d on d.organization_id = $1 and d.id = e.document_id
           cross join lateral (
               select count(*) as attempts, max(a.started_at) as started_at, max(a.completed_at) as ended_at
               from workflow_activity a
               where a.organization_id = $1 and a.workflow_execution_id = e.id and a.activity_name = w.activity
           ) a
           order by w.place"#,
        organization.uuid(),
        &ids,
        &stages,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StageOfExecution {
                id: row.id.into(),
                at: stage(&row.at)?,
                stage: stage(&row.current_activity)?,
                status: parsed("a status", &row.status)?,
                leased: row.leased,
                owner: row.lease_owner.map(Into::into),
                partial: row.partial,
                error: row
                    .error
                    .map(|error| from_json("a failure", error))
                    .transpose()?,
                paused: row.pause_reason,
                generation: row.generation,
                batch: row.batch_id.into(),
                batch_name: row.name,
                document: row.external_id,
                title: row.title,
                due_at: row.due_at,
                attempts: row.attempts.unsigned_abs(),
                started_at: row.started_at,
                ended_at: row.ended_at,
            })
        })
        .collect()
}

/// A process that works stages.
#[derive(Debug, Clone)]
pub struct LivingWorker {
    /// Its id.
    pub id: WorkerId,
    /// Its version.
    pub version: String,
    /// Jobs that it works at once, over all stages.
    pub slots: i32,
    /// When it came.
    pub started_at: DateTime<Utc>,
    /// When it was seen last.
    pub seen_at: DateTime<Utc>,
}

/// Processes that were seen within a minute, the eldest first; 1000 at most. They work for every organization, and no
/// row of any is read.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn living_workers(
    connection: &mut PgConnection,
) -> Result<Vec<LivingWorker>, StoreError> {
    let rows = query!(
        "select id, version, slots, started_at, seen_at from worker
         where seen_at > now() - interval '1 minute'
         order by started_at, id limit $1",
        WORKERS,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LivingWorker {
            id: row.id.into(),
            version: row.version,
            slots: row.slots,
            started_at: row.started_at,
            seen_at: row.seen_at,
        })
        .collect())
}
