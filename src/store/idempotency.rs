//! The table `idempotency_key`: submissions that may be sent again. A key's row is written in the transaction that
//! opens its batch, says how much of the body is written down for sure, and keeps the answer.

use std::collections::HashSet;

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::StoreError;

/// A key that is known.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// The batch that was opened with it.
    pub batch: BatchId,
    /// SHA-256 of everything that was asked but the body.
    pub request_hash: Vec<u8>,
    /// How much of the body is written down for sure.
    pub body_bytes: u64,
    /// SHA-256 of so much of it; none if that is nothing.
    pub body_hash: Option<Vec<u8>>,
    /// That is all of it.
    pub whole: bool,
    /// What was answered, if it came to that.
    pub answer: Option<Value>,
}

/// How much of a body is written down.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Bytes from its beginning.
    pub bytes: u64,
    /// SHA-256 of them.
    pub hash: &'a [u8],
    /// That is all of it.
    pub whole: bool,
}

/// What is known of a key; those of more than a day ago are forgotten.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn known_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    key: &str,
) -> Result<Option<KnownKey>, StoreError> {
    let row = query!(
        "select batch_id, request_hash, body_bytes, body_hash, whole, answer from idempotency_key
         where organization_id = $1 and key = $2 and created_at > now() - interval '1 day'",
        organization.uuid(),
        key,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| KnownKey {
        batch: row.batch_id.into(),
        request_hash: row.request_hash,
        body_bytes: row.body_bytes.unsigned_abs(),
        body_hash: row.body_hash,
        whole: row.whole,
        answer: row.answer,
    }))
}

/// Which of these keys are known, as [`known_key`] has it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn known_keys(
    connection: &mut PgConnection,
    organization: OrganizationId,
    keys: &[String],
) -> Result<HashSet<String>, StoreError> {
    let known = query_scalar!(
        "select key from idempotency_key
         where organization_id = $1 and key = any($2) and created_at > now() - interval '1 day'",
        organization.uuid(),
        keys,
    )
    .fetch_all(connection)
    .await?;
    Ok(known.into_iter().collect())
}

/// A key of a batch that came whole, with what is answered.
#[derive(Debug)]
pub struct AnsweredKey<'a> {
    /// What the caller made up.
    pub key: &'a str,
    /// Its batch.
    pub batch: BatchId,
    /// SHA-256 of everything that was asked but the body.
    pub request_hash: &'a [u8],
    /// The body, all of it.
    pub written: Written<'a>,
    /// What is answered.
    pub answer: Value,
}

/// Takes keys for batches that are written in the same transaction; `false`: somebody else has one of them by now, and
/// the caller must drop the transaction.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn take_keys(
    connection: &mut PgConnection,
    organization: OrganizationId,
    taken: &[AnsweredKey<'_>],
) -> Result<bool, StoreError> {
    let keys: Vec<String> = taken.iter().map(|one| one.key.to_owned()).collect();
    let batches: Vec<Uuid> = taken.iter().map(|one| one.batch.uuid()).collect();
    let requests: Vec<Vec<u8>> = taken.iter().map(|one| one.request_hash.to_vec()).collect();
    let bytes: Vec<i64> = taken.iter().map(|one| signed(one.written.bytes)).collect();
    let hashes: Vec<Vec<u8>> = taken.iter().map(|one| one.written.hash.to_vec()).collect();
    let answers: Vec<Value> = taken.iter().map(|one| one.answer.clone()).collect();
    forget(connection, organization, &keys).await?;
    // In the order of the keys: two replicas that want some of the same wait for one another in one direction.
    let written = query!(
        "insert into idempotency_key (key, organization_id, batch_id, request_hash, body_bytes, body_hash, whole, answer)
         select k.key, $1, k.batch, k.request, k.bytes, k.hash, true, k.answer
         from unnest($2::text[], $3::uuid[], $4::bytea[], $5::bigint[], $6::bytea[], $7::jsonb[])
             as k (key, batch, request, bytes, hash, answer)
         order by k.key on conflict do nothing",
        organization.uuid(),
        &keys,
        &batches,
        &requests,
        &bytes,
        &hashes,
        &answers,
    )
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == taken.len() as u64)
}

/// Sweeps these keys if they are old, and a few others that are.
async fn forget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    keys: &[String],
) -> Result<(), StoreError> {
    query!(
        "delete from idempotency_key where organization_id = $1 and (key = any($2) or key = any(array(
             select key from idempotency_key where organization_id = $1 and created_at <= now() - interval '1 day'
             order by created_at limit 100 for update skip locked)))
           and created_at <= now() - interval '1 day'",
        organization.uuid(),
        keys,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a key for a batch that is opened in the same transaction; `false`: somebody else has it. Sweeps a few that
/// are forgotten.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn take_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    key: &str,
    request_hash: &[u8],
    written: Option<Written<'_>>,
) -> Result<bool, StoreError> {
    forget(connection, organization, &[key.to_owned()]).await?;
    let taken = query!(
        "insert into idempotency_key (key, organization_id, batch_id, request_hash, body_bytes, body_hash, whole)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        key,
        organization.uuid(),
        batch.uuid(),
        request_hash,
        signed(written.map_or(0, |written| written.bytes)),
        written.map(|written| written.hash),
        written.is_some_and(|written| written.whole),
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Says how much of a key's body is written down; never less than before.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn note_written(
    connection: &mut PgConnection,
    organization: OrganizationId,
    key: &str,
    written: Written<'_>,
) -> Result<(), StoreError> {
    query!(
        "update idempotency_key set body_bytes = $3, body_hash = $4, whole = $5
         where organization_id = $1 and key = $2 and not whole and body_bytes <= $3",
        organization.uuid(),
        key,
        signed(written.bytes),
        written.hash,
        written.whole,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what was answered to a key, and gives what is to be answered: the first answer stays.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn keep_answer(
    connection: &mut PgConnection,
    organization: OrganizationId,
    key: &str,
    answer: &Value,
) -> Result<Option<Value>, StoreError> {
    let row = query!(
        "update idempotency_key set answer = coalesce(answer, $3)
         where organization_id = $1 and key = $2 and whole returning answer",
        organization.uuid(),
        key,
        answer,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.and_then(|row| row.answer))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
