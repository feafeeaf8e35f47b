//! The table `batch`.

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, OntologyId, OrganizationId};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    Looked, StoreError,
    document::{intake_lock, try_intake_lock},
    from_json,
    organization_limit::check_open_batches,
    parsed, to_json,
};
use crate::flow::{
    BatchCounts, BatchState, FailurePolicy, FailureRules, Filling, Intake, Pace, Stopping,
    Tolerance,
};

/// What a batch is opened with.
#[derive(Debug, Clone)]
pub struct BatchSpec {
    /// Unique in the organization.
    pub name: String,
    /// What may be found.
    pub ontology: OntologyId,
    /// The extractor's name.
    pub extractor: String,
    /// What else the work depends on.
    pub config: Value,
    /// Documents in processing at once, over all replicas; 1 to 10,000.
    pub concurrency: u32,
    /// What to do about a document that fails.
    pub policy: FailurePolicy,
    /// Extra rounds for failed documents; 0 to 100.
    pub max_retries: u32,
    /// How many documents may be given up; none is any number.
    pub tolerance: Option<Tolerance>,
    /// Its share against other open batches of the organization; 1 to 1,000.
    pub weight: u32,
    /// W3C trace context of version 00 that its work hangs below, if any.
    pub traceparent: Option<String>,
}

/// A batch, as it is shown and worked.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Its name.
    pub name: String,
    /// What may be found.
    pub ontology: OntologyId,
    /// The extractor's name.
    pub extractor: String,
    /// What else the work depends on.
    pub config: Value,
    /// Which try of the batch this is.
    pub generation: i32,
    /// Where it stands.
    pub state: BatchState,
    /// What its events add up to.
    pub counts: BatchCounts,
    /// It takes no more documents.
    pub sealed: bool,
    /// Whether it takes documents, and until when.
    pub intake: Intake,
    /// Why it is being stopped.
    pub stopping: Option<Stopping>,
    /// The published resolution.
    pub resolution: Option<Uuid>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// Milliseconds from its opening to its end, or until now.
    pub duration_ms: i64,
    /// How fast it goes.
    pub pace: Option<Pace>,
    /// When this was read, in milliseconds since 1970.
    pub now_ms: i64,
}

/// Opens a batch.
///
/// # Errors
/// [`StoreError::NameTaken`], [`StoreError::Quota`], or [`StoreError::Query`] (trying again may help).
pub async fn add_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    spec: &BatchSpec,
) -> Result<BatchId, StoreError> {
    let id = BatchId::generate();
    let limited = query_scalar!(
        r#"insert into batch (id, organization_id, name, ontology_id, extractor, config, concurrency,
                              failure_policy, max_retries, counts, max_failures, weight, traceparent)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
           returning exists (select from organization_limit l where l.organization_id = $2) as "limited!""#,
        id.uuid(),
        organization.uuid(),
        spec.name,
        spec.ontology.uuid(),
        spec.extractor,
        spec.config,
        i32::try_from(spec.concurrency).unwrap_or(i32::MAX),
        spec.policy.as_str(),
        i32::try_from(spec.max_retries).unwrap_or(i32::MAX),
        to_json("counts", &BatchCounts::default())?,
        spec.tolerance.map(|tolerance| tolerance.to_string()),
        i32::try_from(spec.weight).unwrap_or(i32::MAX),
        spec.traceparent,
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(
        |error| match error.as_database_error().and_then(|e| e.constraint()) {
            Some("batch_name_organization_id_key") => StoreError::NameTaken(spec.name.clone()),
            Some(_) | None => error.into(),
        },
    )?;
    if limited {
        check_open_batches(connection, organization).await?;
    }
    Ok(id)
}

/// Says that no more documents will come; `false` if it was said before.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn seal_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<bool, StoreError> {
    intake_lock(&mut *connection, id).await?;
    let sealed = query!(
        "update batch set sealed_at = now(), updated_at = now()
         where organization_id = $1 and id = $2 and sealed_at is null",
        organization.uuid(),
        id.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(sealed.rows_affected() == 1)
}

/// Seals a batch that was kept open and is being stopped, unless somebody is adding to it at this moment; `false` if it
/// was not sealed now. Never waits: the sequencer asks again.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn seal_stopped_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<bool, StoreError> {
    if !try_intake_lock(&mut *connection, id).await? {
        return Ok(false);
    }
    let sealed = query!(
        "update batch set sealed_at = now(), updated_at = now()
         where organization_id = $1 and id = $2 and sealed_at is null and filling is null and stopping is not null",
        organization.uuid(),
        id.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(sealed.rows_affected() == 1)
}

/// Says that somebody will seal the batch by hand; `false` if that was said before, or it is sealed.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn keep_batch_open(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<bool, StoreError> {
    let kept = query!(
        "update batch set filling = null, updated_at = now()
         where organization_id = $1 and id = $2 and sealed_at is null and filling is not null",
        organization.uuid(),
        id.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Flags the batch: nothing of it is admitted or leased any more. `false` if it has ended or was flagged before.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn stop_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
    reason: Stopping,
) -> Result<bool, StoreError> {
    let stopped = query!(
        "update batch set stopping = $3, updated_at = now()
         where organization_id = $1 and id = $2 and stopping is null and ended_at is null",
        organization.uuid(),
        id.uuid(),
        reason.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(stopped.rows_affected() == 1)
}

/// Pauses a batch: nothing of it is admitted or leased any more, and what is in work is given back at its next unit
/// boundary. `false` if it has ended or is paused already.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn pause_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
    reason: &str,
) -> Result<bool, StoreError> {
    let paused = query!(
        "update batch set paused_at = now(), pause_reason = $3, updated_at = now()
         where organization_id = $1 and id = $2 and paused_at is null and ended_at is null and stopping is null",
        organization.uuid(),
        id.uuid(),
        reason,
    )
    .execute(connection)
    .await?;
    Ok(paused.rows_affected() == 1)
}

/// Lets a paused batch go on; `false` if it is not paused.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resume_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<bool, StoreError> {
    let resumed = query!(
        "update batch set paused_at = null, pause_reason = null, updated_at = now()
         where organization_id = $1 and id = $2 and paused_at is not null and ended_at is null and stopping is null",
        organization.uuid(),
        id.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(resumed.rows_affected() == 1)
}

/// A pace that this version can't read is none: it begins anew.
fn pace(json: Option<Value>) -> Option<Pace> {
    serde_json::from_value(json?).ok()
}

/// Whether a batch takes documents, from its columns.
pub(super) fn intake(sealed: bool, filling: Option<String>) -> Result<Intake, StoreError> {
    if sealed {
        return Ok(Intake::Sealed);
    }
    let filling: Option<Filling> = filling
        .map(|filling| from_json("who fills a batch", Value::String(filling)))
        .transpose()?;
    Ok(filling.map_or(Intake::Open, Intake::Filling))
}

/// Why a batch is being stopped, from its column.
pub(super) fn stopping(reason: Option<String>) -> Result<Option<Stopping>, StoreError> {
    reason
        .map(|reason| from_json("a reason to stop", Value::String(reason)))
        .transpose()
}

macro_rules! read_batch {
    ($row:expr) => {{
        let row = $row;
        Ok::<Batch, StoreError>(Batch {
            id: row.id.into(),
            name: row.name,
            ontology: row.ontology_id.into(),
            extractor: row.extractor,
            config: row.config,
            generation: row.generation,
            state: from_json("a batch state", row.state_data)?,
            counts: from_json("counts", row.counts)?,
            sealed: row.sealed_at.is_some(),
            intake: intake(row.sealed_at.is_some(), row.filling)?,
            stopping: stopping(row.stopping)?,
            resolution: row.resolution_id,
            paused: row.pause_reason,
            created_at: row.created_at,
            duration_ms: row.duration_ms,
            pace: pace(row.pace),
            now_ms: row.now_ms,
        })
    }};
}

/// Reads a batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn batch_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<Batch>, StoreError> {
    let row = query!(
        r#"select id, name, ontology_id, extractor, config, generation, state_data, counts, sealed_at, filling,
                  stopping, resolution_id, pause_reason, created_at, pace,
                  (extract(epoch from coalesce(ended_at, now()) - created_at) * 1000)::bigint as "duration_ms!",
                  (extract(epoch from now()) * 1000)::bigint as "now_ms!"
           from batch where organization_id = $1 and id = $2 and pruning_since is null"#,
        organization.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| read_batch!(row)).transpose()
}

/// What a batch's documents are worked with: the extractor's name, the ontology and the configuration. Not its state
/// or counts, which a newer version may have written.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batch_setup(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
) -> Result<Option<(String, OntologyId, Value)>, StoreError> {
    let row = query!(
        "select extractor, ontology_id, config from batch
         where organization_id = $1 and id = $2 and pruning_since is null",
        organization.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.extractor, row.ontology_id.into(), row.config)))
}

/// The id of the batch with that name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batch_by_name(
    connection: &mut PgConnection,
    organization: OrganizationId,
    name: &str,
) -> Result<Option<BatchId>, StoreError> {
    let id = query_scalar!(
        "select id from batch where organization_id = $1 and name = $2 and pruning_since is null",
        organization.uuid(),
        name,
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(Into::into))
}

/// The newest batch that has not ended.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn last_unfinished_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<BatchId>, StoreError> {
    let id = query_scalar!(
        "select id from batch where organization_id = $1 and ended_at is null
         order by created_at desc, id desc limit 1",
        organization.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(Into::into))
}

/// Batches, newest first, before `before`.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn batches(
    connection: &mut PgConnection,
    organization: OrganizationId,
    before: Option<BatchId>,
    most: i64,
) -> Result<Vec<Batch>, StoreError> {
    let rows = query!(
        r#"select id, name, ontology_id, extractor, config, generation, state_data, counts, sealed_at, filling,
                  stopping, resolution_id, pause_reason, created_at, pace,
                  (extract(epoch from coalesce(ended_at, now()) - created_at) * 1000)::bigint as "duration_ms!",
                  (extract(epoch from now()) * 1000)::bigint as "now_ms!"
           from batch where organization_id = $1 and ($2::uuid is null or id < $2) and pruning_since is null
           order by id desc limit $3"#,
        organization.uuid(),
        before.map(BatchId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| read_batch!(row)).collect()
}

/// Looks at batches, newest first, `most` of them before `before`; those of another state don't fit.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_looked_at(
    connection: &mut PgConnection,
    organization: OrganizationId,
    state: Option<&str>,
    before: Option<BatchId>,
    most: i64,
) -> Result<Vec<Looked<BatchId, BatchId>>, StoreError> {
    let rows = query!(
        r#"select id, ($3::text is null or state = $3) as "fits!"
           from batch where organization_id = $1 and ($2::uuid is null or id < $2)
           order by id desc limit $4"#,
        organization.uuid(),
        before.map(BatchId::uuid),
        state,
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Looked {
            key: row.id.into(),
            id: row.id.into(),
            fits: row.fits,
        })
        .collect())
}

/// A batch that may have documents to admit.
#[derive(Debug, Clone, Copy)]
pub struct BatchToAdmit {
    /// Whose.
    pub organization: OrganizationId,
    /// Which one.
    pub id: BatchId,
    /// It is being stopped: its documents are to be cancelled, not admitted.
    pub stopping: bool,
    /// Its weight against the other batches of its organization.
    pub weight: u32,
    /// Documents that it could have in processing, as far as its counts have come; one for its resolution.
    pub wants: u64,
}

/// The batches that have not ended, oldest first; of the paused ones only those that are being stopped.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn open_batches(connection: &mut PgConnection) -> Result<Vec<BatchToAdmit>, StoreError> {
    let rows = query!(
        r#"select organization_id, id, stopping is not null as "stopping!", weight,
                  least(concurrency, (counts ->> 'accepted')::bigint - (counts ->> 'completed')::bigint
                        - (counts ->> 'abandoned')::bigint - (counts ->> 'cancelled')::bigint
                        - (counts ->> 'failed')::bigint) as wants
           from batch
           where state not in ('Completed', 'Failed', 'Cancelled')
             and (paused_at is null or stopping is not null)
           order by created_at"#,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| BatchToAdmit {
            organization: row.organization_id.into(),
            id: row.id.into(),
            stopping: row.stopping,
            weight: row.weight.unsigned_abs(),
            wants: row.wants.map_or(1, |wants| wants.max(1).unsigned_abs()),
        })
        .collect())
}

/// A batch as the sequencer moves it.
#[derive(Debug, Clone)]
pub struct BatchToMove {
    /// Whose.
    pub organization: OrganizationId,
    /// Which one.
    pub id: BatchId,
    /// Which try of the batch this is.
    pub generation: i32,
    /// Where it stands.
    pub state: BatchState,
    /// What its events added up to before.
    pub counts: BatchCounts,
    /// What it does about failed documents.
    pub rules: FailureRules,
    /// Why it is being stopped.
    pub stopping: Option<Stopping>,
    /// How fast it goes.
    pub pace: Option<Pace>,
    /// When this was read, in milliseconds since 1970.
    pub now_ms: i64,
}

/// A batch's id, and the batch if this version can read it.
pub type ReadToMove = (BatchId, Result<BatchToMove, StoreError>);

macro_rules! read_to_move {
    ($row:expr) => {{
        let row = $row;
        let id = BatchId::from(row.id);
        let read = || {
            Ok(BatchToMove {
                organization: row.organization_id.into(),
                id,
                generation: row.generation,
                state: from_json("a batch state", row.state_data)?,
                counts: from_json("counts", row.counts)?,
                rules: FailureRules {
                    policy: parsed("a failure policy", &row.failure_policy)?,
                    tolerance: row
                        .max_failures
                        .map(|text| parsed("a tolerance", &text))
                        .transpose()?,
                },
                stopping: stopping(row.stopping)?,
                pace: pace(row.pace),
                now_ms: row.now_ms,
            })
        };
        (id, read())
    }};
}

/// Locks and reads these batches, without those that somebody else has locked.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batches_to_move(
    connection: &mut PgConnection,
    ids: &[BatchId],
) -> Result<Vec<ReadToMove>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        r#"select organization_id, id, generation, state_data, counts, failure_policy, max_failures, stopping, pace,
                  (extract(epoch from now()) * 1000)::bigint as "now_ms!"
           from batch where id = any($1)
           order by id for no key update skip locked"#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| read_to_move!(row)).collect())
}

/// Locks and reads the batches that have not ended, but for `except` and those that somebody else has locked.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn open_batches_to_move(
    connection: &mut PgConnection,
    except: &[BatchId],
) -> Result<Vec<ReadToMove>, StoreError> {
    let except: Vec<Uuid> = except.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        r#"select organization_id, id, generation, state_data, counts, failure_policy, max_failures, stopping, pace,
                  (extract(epoch from now()) * 1000)::bigint as "now_ms!"
           from batch
           where state not in ('Completed', 'Failed', 'Cancelled') and id <> all($1)
           order by id for no key update skip locked"#,
        &except,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| read_to_move!(row)).collect())
}

/// Which of these batches there are.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn existing_batches(
    connection: &mut PgConnection,
    ids: &[BatchId],
) -> Result<Vec<BatchId>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let there = query_scalar!("select id from batch where id = any($1)", &ids)
        .fetch_all(connection)
        .await?;
    Ok(there.into_iter().map(Into::into).collect())
}

/// What the sequencer writes about a batch.
#[derive(Debug, Clone)]
pub struct BatchMove<'a> {
    /// Whose.
    pub organization: OrganizationId,
    /// Which one.
    pub id: BatchId,
    /// Where it stands now.
    pub state: &'a BatchState,
    /// What its events add up to now.
    pub counts: &'a BatchCounts,
    /// How fast it goes.
    pub pace: Option<Pace>,
}

/// Writes a batch's state and counts. Its row must be locked.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn move_batch(
    connection: &mut PgConnection,
    to: &BatchMove<'_>,
) -> Result<(), StoreError> {
    let name = to.state.name();
    query!(
        "update batch
         set state = $3, state_data = $4, counts = $5, pace = $7, updated_at = now(),
             started_at = coalesce(started_at, case when $3 <> 'Pending' then now() end),
             ended_at = case when $6 then coalesce(ended_at, now()) end
         where organization_id = $1 and id = $2",
        to.organization.uuid(),
        to.id.uuid(),
        name.as_str(),
        to_json("a batch state", to.state)?,
        to_json("counts", to.counts)?,
        name.has_ended(),
        to.pace.map(|pace| to_json("a pace", &pace)).transpose()?,
    )
    .execute(connection)
    .await?;
    Ok(())
}
