//! The table `document`, and the executions that come with documents.
//!
//! A document that was withdrawn, removed or replaced by a newer version, is in the table and in nothing that reads
//! it: every look here says `withdrawn_at is null`.

mod change;
mod withdraw;

use std::collections::{HashMap, HashSet};

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

pub use change::{
    Changed, Plan, StoredDocument, apply_changes, documents_at_rest, find_documents, plan_changes,
    remove_documents,
};

use super::{
    StoreError, event::append_event, from_json, organization_limit::count_documents, to_json,
};
use crate::flow::{Event, EventKind, Failure, FailureCode, WORKFLOW_VERSION, WorkflowType};

/// A document that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The caller's id, or the place that it was found at.
    pub external_id: String,
    /// Why.
    pub failure: Failure,
}

impl Refused {
    /// Its text is another document's, so that nothing is missing.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.failure.code == FailureCode::Duplicate
    }
}

/// What became of documents that were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// Documents that will be worked.
    pub accepted: u64,
    /// Documents refused now, duplicates too.
    pub refused: Vec<Refused>,
    /// Documents that were there already, from a submission that was cut off.
    pub known: u64,
}

/// A document to add. The text has passed the intake.
#[derive(Debug, Clone)]
pub struct DocumentRow<'a> {
    /// The caller's id.
    pub external_id: &'a str,
    /// Its title.
    pub title: Option<&'a str>,
    /// Where it came from.
    pub source_uri: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
    /// SHA-256 of the text.
    pub content_hash: [u8; 32],
    /// An object of the caller's.
    pub metadata: &'a Value,
}

/// Adds documents and their executions to an unsealed batch. A text that the batch already has is refused as a
/// duplicate; a document that was added before, with the same id and text, is left as it is.
///
/// # Errors
/// [`StoreError::Sealed`], [`StoreError::Quota`], or [`StoreError::Query`] (trying again may help, and adds nothing
/// twice).
pub async fn add_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    documents: &[DocumentRow<'_>],
) -> Result<Added, StoreError> {
    let limited = lock_open(&mut *connection, organization, batch).await?;
    let ids: Vec<String> = documents
        .iter()
        .map(|row| row.external_id.to_owned())
        .collect();
    let hashes: Vec<Vec<u8>> = documents
        .iter()
        .map(|row| row.content_hash.to_vec())
        .collect();
    // Row by row, each look by an index of its own: with `or` every step would read the whole batch, and with a bare
    // `any` so would a plan that was made while the table was empty. A text's hash is there unless it was refused.
    let there = query!(
        r#"select d.external_id as "external_id!", d.content_hash
           from unnest($3::text[]) as wanted (id) cross join lateral (
               select external_id, content_hash from document
               where organization_id = $1 and batch_id = $2 and refusal is null and withdrawn_at is null and external_id = wanted.id
               limit 1) as d
           union all
           select d.external_id, d.content_hash
           from unnest($4::bytea[]) as wanted (hash) cross join lateral (
               select external_id, content_hash from document
               where organization_id = $1 and batch_id = $2 and content_hash = wanted.hash and withdrawn_at is null
               limit 1) as d
           union all
           select d.external_id, null
           from unnest($3::text[]) as wanted (id) cross join lateral (
               select external_id from document
               where organization_id = $1 and batch_id = $2 and refusal is not null and withdrawn_at is null and external_id = wanted.id
               limit 1) as d"#,
        organization.uuid(),
        batch.uuid(),
        &ids,
        &hashes,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut known_ids = HashSet::new();
    let mut known_pairs = HashSet::new();
    let mut known_hashes: Vec<(Vec<u8>, String)> = Vec::new();
    let mut refused_before = HashSet::new();
    for row in there {
        if let Some(hash) = row.content_hash {
            known_pairs.insert((row.external_id.clone(), hash.clone()));
            known_hashes.push((hash, row.external_id.clone()));
            known_ids.insert(row.external_id);
        } else {
            refused_before.insert(row.external_id);
        }
    }
    let mut first_of: HashMap<Vec<u8>, String> = known_hashes.into_iter().collect();
    let mut added = Added::default();
    let mut fresh: Vec<&DocumentRow<'_>> = Vec::new();
    for row in documents {
        let hash = row.content_hash.to_vec();
        if known_pairs.contains(&(row.external_id.to_owned(), hash.clone()))
            || refused_before.contains(row.external_id)
        {
            added.known += 1;
        } else if known_ids.contains(row.external_id) {
            added.refused.push(Refused {
                external_id: row.external_id.to_owned(),
                failure: Failure::terminal(
                    FailureCode::DuplicateId,
                    format!(
                        "another document of the batch has the id `{}`",
                        row.external_id
                    ),
                ),
            });
        } else if let Some(first) = first_of.get(&hash) {
            added.refused.push(Refused {
                external_id: row.external_id.to_owned(),
                failure: duplicate(first),
            });
        } else {
            first_of.insert(hash.clone(), row.external_id.to_owned());
            known_ids.insert(row.external_id.to_owned());
            known_pairs.insert((row.external_id.to_owned(), hash));
            fresh.push(row);
        }
    }
    let ids: Vec<Uuid> = fresh
        .iter()
        .map(|_| DocumentId::generate().uuid())
        .collect();
    insert(connection, organization, batch, &ids, &fresh).await?;
    added.accepted = fresh.len() as u64;
    insert_refusals(connection, organization, batch, &added.refused).await?;
    tell(
        connection,
        organization,
        batch,
        added.accepted,
        &added.refused,
    )
    .await?;
    if limited {
        count_documents(connection, organization, added.accepted.cast_signed()).await?;
    }
    Ok(added)
}

/// Writes down documents that were refused before they had a text; those that were written down before are left.
///
/// # Errors
/// [`StoreError::Sealed`], or [`StoreError::Query`] (trying again may help, and adds nothing twice).
pub async fn add_refusals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    refused: &[Refused],
) -> Result<(), StoreError> {
    lock_open(&mut *connection, organization, batch).await?;
    let ids: Vec<String> = refused
        .iter()
        .map(|refused| refused.external_id.clone())
        .collect();
    let there: HashSet<String> = query_scalar!(
        "select external_id from document
         where organization_id = $1 and batch_id = $2 and refusal is not null and withdrawn_at is null and external_id = any($3)",
        organization.uuid(),
        batch.uuid(),
        &ids,
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .collect();
    let fresh: Vec<Refused> = refused
        .iter()
        .filter(|refused| !there.contains(&refused.external_id))
        .cloned()
        .collect();
    insert_refusals(connection, organization, batch, &fresh).await?;
    tell(connection, organization, batch, 0, &fresh).await
}

/// Lets one writer a batch at a time in: what is there can't change between the look and the insert, nor can the
/// batch be sealed and end in between, with documents in it that nobody will ever work. Returns whether the
/// organization has a limit of anything.
async fn lock_open(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<bool, StoreError> {
    intake_lock(&mut *connection, batch).await?;
    let row = query!(
        r#"select sealed_at is not null as "sealed!",
                  exists (select from organization_limit l where l.organization_id = $1) as "limited!"
           from batch where organization_id = $1 and id = $2"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    if row.sealed {
        return Err(StoreError::Sealed);
    }
    Ok(row.limited)
}

/// Takes the lock of those who add documents to a batch or seal it, for the rest of the transaction. Not the batch's
/// row: the sequencer would wait for it, and with it every other batch. It must be a statement of its own, before any
/// that locks the row: one that locks sees what was there before the lock.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn intake_lock(connection: &mut PgConnection, batch: BatchId) -> Result<(), StoreError> {
    query!(
        "select pg_advisory_xact_lock(hashtextextended($1::uuid::text, 2))",
        batch.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the same lock unless somebody has it; `false` then.
pub(super) async fn try_intake_lock(
    connection: &mut PgConnection,
    batch: BatchId,
) -> Result<bool, StoreError> {
    Ok(query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1::uuid::text, 2)) as "taken!""#,
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?)
}

/// Why a text is refused that another document of the batch has.
fn duplicate(first: &str) -> Failure {
    let mut failure = Failure::terminal(
        FailureCode::Duplicate,
        format!("the same text as `{first}`"),
    );
    failure.details = serde_json::json!({ "of": first });
    failure
}

async fn insert(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    ids: &[Uuid],
    documents: &[&DocumentRow<'_>],
) -> Result<(), StoreError> {
    if documents.is_empty() {
        return Ok(());
    }
    let executions: Vec<Uuid> = documents
        .iter()
        .map(|_| WorkflowExecutionId::generate().uuid())
        .collect();
    let external: Vec<String> = documents
        .iter()
        .map(|row| row.external_id.to_owned())
        .collect();
    let titles: Vec<Option<String>> = documents
        .iter()
        .map(|row| row.title.map(str::to_owned))
        .collect();
    let uris: Vec<Option<String>> = documents
        .iter()
        .map(|row| row.source_uri.map(str::to_owned))
        .collect();
    let texts: Vec<String> = documents.iter().map(|row| row.text.to_owned()).collect();
    let hashes: Vec<Vec<u8>> = documents
        .iter()
        .map(|row| row.content_hash.to_vec())
        .collect();
    let metadata: Vec<Value> = documents.iter().map(|row| row.metadata.clone()).collect();
    query!(
        r#"with added as (
               insert into document (id, organization_id, batch_id, external_id, title, source_uri, text,
                                     text_chars, content_hash, metadata)
               select d.id, $1, $2, d.external_id, d.title, d.source_uri, d.text, length(d.text), d.hash,
                      d.metadata
               from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                           $9::jsonb[]) as d (id, external_id, title, source_uri, text, hash, metadata)
           )
           insert into workflow_execution (id, organization_id, batch_id, generation, document_id,
                                           workflow_type, workflow_version, current_activity, input)
           select e.id, $1, $2, b.generation, e.document_id, $11, $12, $13, null
           from unnest($10::uuid[], $3::uuid[]) as e (id, document_id)
           join batch b on b.organization_id = $1 and b.id = $2"#,
        organization.uuid(),
        batch.uuid(),
        ids,
        &external,
        &titles as &[Option<String>],
        &uris as &[Option<String>],
        &texts,
        &hashes,
        &metadata,
        &executions,
        WorkflowType::Extraction.as_str(),
        WORKFLOW_VERSION,
        WorkflowType::Extraction.first_stage().activity_name(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_refusals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    refused: &[Refused],
) -> Result<(), StoreError> {
    if refused.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = refused
        .iter()
        .map(|_| DocumentId::generate().uuid())
        .collect();
    let external: Vec<String> = refused.iter().map(|row| row.external_id.clone()).collect();
    let reasons = refused
        .iter()
        .map(|row| to_json("a refusal", &row.failure))
        .collect::<Result<Vec<_>, _>>()?;
    query!(
        "insert into document (id, organization_id, batch_id, external_id, refusal)
         select r.id, $1, $2, r.external_id, r.refusal
         from unnest($3::uuid[], $4::text[], $5::jsonb[]) as r (id, external_id, refusal)",
        organization.uuid(),
        batch.uuid(),
        &ids,
        &external,
        &reasons,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn tell(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    accepted: u64,
    refused: &[Refused],
) -> Result<(), StoreError> {
    if accepted == 0 && refused.is_empty() {
        return Ok(());
    }
    let duplicate = refused.iter().filter(|row| row.is_duplicate()).count() as u64;
    let kind = EventKind::DocumentsAdded {
        accepted,
        refused: refused.len() as u64 - duplicate,
        duplicate,
    };
    append_event(connection, &Event::of_batch(organization, batch, kind)).await
}

/// A document's caller's id and its text.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn document_text(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: DocumentId,
) -> Result<Option<(String, String)>, StoreError> {
    let row = query!(
        r#"select external_id, text as "text!" from document
           where organization_id = $1 and id = $2 and refusal is null"#,
        organization.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.external_id, row.text)))
}

/// A document of a batch, as it is exported.
#[derive(Debug, Clone)]
pub struct DocumentState {
    /// Its id.
    pub id: DocumentId,
    /// The caller's id.
    pub external_id: String,
    /// Where it stands: its execution's status, `refused` or `duplicate`.
    pub state: String,
    /// Completed with failed units.
    pub partial: bool,
    /// SHA-256 of the text, if it has one.
    pub content_hash: Option<Vec<u8>>,
}

/// A page of a batch's documents, by id, after `after`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn document_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<DocumentId>,
    most: i64,
) -> Result<Vec<DocumentState>, StoreError> {
    let rows = query!(
        r#"select d.id, d.external_id, d.content_hash, coalesce(e.partial, false) as "partial!",
                  coalesce(e.status, case d.refusal ->> 'code' when 'duplicate' then 'duplicate'
                                     else 'refused' end) as "state!"
           from document d
           left join lateral (
               select status, partial from workflow_execution e
               where e.organization_id = d.organization_id and e.document_id = d.id
                 and e.workflow_type = 'extraction'
               order by generation desc limit 1
           ) e on true
           where d.organization_id = $1 and d.batch_id = $2 and d.id > $3 and d.withdrawn_at is null
           order by d.id limit $4"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or(Uuid::nil(), DocumentId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DocumentState {
            id: row.id.into(),
            external_id: row.external_id,
            state: row.state,
            partial: row.partial,
            content_hash: row.content_hash,
        })
        .collect())
}

/// Documents of the batch that were refused, or whose execution failed or was given up, `most` at most: the caller's
/// id and the reason. Cancelled ones are not among them: nothing is wrong with them.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn failures(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<Vec<Refused>, StoreError> {
    let rows = query!(
        r#"select external_id as "external_id!", failure as "failure!" from (
               select d.id, d.external_id, d.refusal as failure from document d
               where d.organization_id = $1 and d.batch_id = $2 and d.refusal is not null and d.withdrawn_at is null
               union all
               -- Each status by its own index: `in` would read every execution of the batch.
               select d.id, d.external_id, e.error from workflow_execution e
               join document d on d.organization_id = e.organization_id and d.id = e.document_id
               where e.organization_id = $1 and e.batch_id = $2 and e.status = 'failed' and e.withdrawn_at is null
               union all
               select d.id, d.external_id, e.error from workflow_execution e
               join document d on d.organization_id = e.organization_id and d.id = e.document_id
               where e.organization_id = $1 and e.batch_id = $2 and e.status = 'abandoned' and e.withdrawn_at is null
                 and not exists (select from workflow_execution later
                                 where later.document_id = e.document_id and later.generation > e.generation
                                   and later.workflow_type = 'extraction')
           ) as failed
           order by id limit $3"#,
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Refused {
                external_id: row.external_id,
                failure: from_json("a failure", row.failure)?,
            })
        })
        .collect()
}
