//! Changing what a batch holds: documents that are added, newer versions of them, and documents that are taken away.
//!
//! First a plan is made, which reads alone, so that whoever changes a batch that has ended knows whether there is
//! anything to open its next generation for. Who changes a batch has its intake lock, from the plan to the commit.

use std::collections::{HashMap, HashSet};

use graphmill_jobs::{BatchId, DocumentId, OrganizationId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{
    DocumentRow, Refused, duplicate, insert, insert_refusals, tell,
    withdraw::{Leaving, withdraw},
};
use crate::{
    flow::{Failure, FailureCode},
    store::{StoreError, from_json, organization_limit::count_documents},
};

/// What is to be changed.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    fresh: Vec<(DocumentId, &'a DocumentRow<'a>)>,
    refused: Vec<Refused>,
    leaving: Vec<Leaving>,
    replaced: u64,
    unchanged: u64,
}

/// What became of documents that were sent to a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Documents that the batch did not have.
    pub added: u64,
    /// Documents whose new version took the place of the old one.
    pub replaced: u64,
    /// Documents that the batch has as they are.
    pub unchanged: u64,
    /// Documents that were refused, duplicates too.
    pub refused: Vec<Refused>,
}

impl Plan<'_> {
    /// Whether the batch stays as it is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.refused.is_empty() && self.leaving.is_empty()
    }

    /// Documents that the batch has as they are.
    #[must_use]
    pub const fn unchanged(&self) -> u64 {
        self.unchanged
    }
}

/// What a batch has of the documents that are sent.
#[derive(Default)]
struct There {
    /// The current version of an id: which document, and the hash of its text.
    current: HashMap<String, (DocumentId, Vec<u8>)>,
    /// Whose a text is.
    owners: HashMap<Vec<u8>, String>,
    /// What was refused under an id.
    refusals: HashMap<String, Vec<(DocumentId, Failure)>>,
}

/// Compares documents, and what was refused of them before they had a text, with what the batch has. A document with
/// a known id and another text replaces the one that is there, whatever became of it; a text that another document
/// of the batch has is refused; what was refused under an id is forgotten once something better comes.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn plan_changes<'a>(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    documents: &'a [DocumentRow<'a>],
    refused: &[Refused],
) -> Result<Plan<'a>, StoreError> {
    let mut there = there(connection, organization, batch, documents, refused).await?;
    // Texts that their documents give up in this very step are free for others.
    let mut seen = HashSet::new();
    for row in documents.iter().filter(|row| seen.insert(row.external_id)) {
        if let Some((_, hash)) = there.current.get(row.external_id)
            && *hash != row.content_hash
        {
            there.owners.remove(hash);
        }
    }
    let mut plan = Plan::default();
    seen.clear();
    for row in documents {
        if seen.insert(row.external_id) {
            plan.document(&mut there, row);
        } else {
            let message = format!(
                "another document of the batch has the id `{}`",
                row.external_id
            );
            plan.refused.push(Refused {
                external_id: row.external_id.to_owned(),
                failure: Failure::terminal(FailureCode::DuplicateId, message),
            });
        }
    }
    for refused in refused {
        plan.refusal(&mut there, refused.clone());
    }
    Ok(plan)
}

impl<'a> Plan<'a> {
    fn document(&mut self, there: &mut There, row: &'a DocumentRow<'a>) {
        let id = row.external_id;
        let hash = row.content_hash.to_vec();
        let old = match there.current.get(id) {
            Some((_, current)) if *current == hash => {
                self.unchanged += 1;
                return;
            }
            Some((old, _)) => Some(*old),
            None => None,
        };
        if let Some(first) = there.owners.get(&hash) {
            let failure = duplicate(first);
            if old.is_none() && there.has_refused(id, &failure) {
                self.unchanged += 1;
                return;
            }
            self.leave(there, id, old, None);
            self.refused.push(Refused {
                external_id: id.to_owned(),
                failure,
            });
            return;
        }
        let fresh = DocumentId::generate();
        self.replaced += u64::from(old.is_some());
        self.leave(there, id, old, Some(fresh));
        there.owners.insert(hash, id.to_owned());
        self.fresh.push((fresh, row));
    }

    /// A version that could not be read says nothing against the one that is there.
    fn refusal(&mut self, there: &mut There, refused: Refused) {
        if there.has_refused(&refused.external_id, &refused.failure) {
            self.unchanged += 1;
            return;
        }
        self.leave(there, &refused.external_id, None, None);
        self.refused.push(refused);
    }

    fn leave(
        &mut self,
        there: &mut There,
        id: &str,
        old: Option<DocumentId>,
        by: Option<DocumentId>,
    ) {
        let refusals = there.refusals.remove(id).unwrap_or_default();
        let refusals = refusals.into_iter().map(|(document, _)| document);
        self.leaving
            .extend(old.into_iter().chain(refusals).map(|document| Leaving {
                document,
                by,
                replaced: true,
            }));
    }
}

impl There {
    fn has_refused(&self, id: &str, failure: &Failure) -> bool {
        let refusals = self.refusals.get(id);
        refusals.is_some_and(|refusals| refusals.iter().any(|(_, old)| old == failure))
    }
}

async fn there(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    documents: &[DocumentRow<'_>],
    refused: &[Refused],
) -> Result<There, StoreError> {
    let ids: Vec<String> = documents
        .iter()
        .map(|row| row.external_id.to_owned())
        .collect();
    let named: Vec<String> = (ids.iter().cloned())
        .chain(refused.iter().map(|refused| refused.external_id.clone()))
        .collect();
    let hashes: Vec<Vec<u8>> = documents
        .iter()
        .map(|row| row.content_hash.to_vec())
        .collect();
    // Row by row, each look by an index of its own; see `add_documents`.
    let rows = query!(
        r#"select d.id as "id!", d.external_id as "external_id!", d.content_hash, d.refusal
           from unnest($3::text[]) as wanted (id) cross join lateral (
               select id, external_id, content_hash, refusal from document
               where organization_id = $1 and batch_id = $2 and refusal is null and withdrawn_at is null
                 and external_id = wanted.id
               limit 1) as d
           union all
           select d.id, d.external_id, d.content_hash, d.refusal
           from unnest($4::bytea[]) as wanted (hash) cross join lateral (
               select id, external_id, content_hash, refusal from document
               where organization_id = $1 and batch_id = $2 and content_hash = wanted.hash
                 and withdrawn_at is null
               limit 1) as d
           union all
           select d.id, d.external_id, d.content_hash, d.refusal
           from unnest($5::text[]) as wanted (id) cross join lateral (
               select id, external_id, content_hash, refusal from document
               where organization_id = $1 and batch_id = $2 and refusal is not null and withdrawn_at is null
                 and external_id = wanted.id) as d"#,
        organization.uuid(),
        batch.uuid(),
        &ids,
        &hashes,
        &named,
    )
    .fetch_all(connection)
    .await?;
    let mut there = There::default();
    for row in rows {
        if let Some(refusal) = row.refusal {
            let refusals = there.refusals.entry(row.external_id).or_default();
            let id = DocumentId::from(row.id);
            // An id that was sent twice is looked up twice.
            if refusals.iter().all(|(known, _)| *known != id) {
                refusals.push((id, from_json("a refusal", refusal)?));
            }
        } else if let Some(hash) = row.content_hash {
            there.owners.insert(hash.clone(), row.external_id.clone());
            there.current.insert(row.external_id, (row.id.into(), hash));
        }
    }
    Ok(there)
}

/// Does what was planned, in the batch's `generation`, and tells of it.
///
/// # Errors
/// [`StoreError::Quota`]; [`StoreError::Query`], and trying again may help, and changes nothing twice.
pub async fn apply_changes(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    plan: Plan<'_>,
) -> Result<Changed, StoreError> {
    // First, so that ids and texts are free.
    let gone = withdraw(
        &mut *connection,
        organization,
        batch,
        generation,
        &plan.leaving,
    )
    .await?;
    let (ids, rows): (Vec<Uuid>, Vec<&DocumentRow<'_>>) =
        plan.fresh.iter().map(|(id, row)| (id.uuid(), *row)).unzip();
    insert(&mut *connection, organization, batch, &ids, &rows).await?;
    inherit(&mut *connection, organization, batch, &ids).await?;
    insert_refusals(&mut *connection, organization, batch, &plan.refused).await?;
    let accepted = rows.len() as u64;
    tell(
        &mut *connection,
        organization,
        batch,
        accepted,
        &plan.refused,
    )
    .await?;
    count_documents(connection, organization, accepted.cast_signed() - gone).await?;
    Ok(Changed {
        added: accepted - plan.replaced,
        replaced: plan.replaced,
        unchanged: plan.unchanged,
        refused: plan.refused,
    })
}

/// Gives these new documents the checkpoints of a withdrawn one with their id and text: what was worked once is not
/// worked again.
async fn inherit(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    documents: &[Uuid],
) -> Result<(), StoreError> {
    if documents.is_empty() {
        return Ok(());
    }
    query!(
        "insert into checkpoint (workflow_execution_id, organization_id, stage, unit, input_hash, outcome, round,
                                 tries, deaths, output, failure, lease_epoch)
         -- Under epoch 0, as those that a retry inherits.
         select fresh.id, c.organization_id, c.stage, c.unit, c.input_hash,
                case when c.outcome = 'done' then 'done' else 'retry' end, 0, 1, least(c.deaths, 1), c.output,
                c.failure, 0
         from unnest($3::uuid[]) as added (id)
         join document d on d.organization_id = $1 and d.id = added.id
         join workflow_execution fresh on fresh.organization_id = $1 and fresh.document_id = d.id
                                      and fresh.workflow_type = 'extraction'
         cross join lateral (
             select e.id from document w
             join workflow_execution e on e.organization_id = w.organization_id and e.document_id = w.id
                                      and e.workflow_type = 'extraction'
             where w.organization_id = $1 and w.batch_id = $2 and w.withdrawn_at is not null
               and w.external_id = d.external_id and w.content_hash = d.content_hash
             -- Not by id: the planner would walk all of the batch in that order (2.4 s for a step of 500 documents).
             order by w.withdrawn_at desc, e.generation desc limit 1) as old
         join checkpoint c on c.organization_id = $1 and c.workflow_execution_id = old.id
         where c.outcome = 'done' or c.deaths > 0",
        organization.uuid(),
        batch.uuid(),
        documents,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A document that somebody named.
#[derive(Debug, Clone)]
pub struct StoredDocument {
    /// Which one.
    pub id: DocumentId,
    /// The caller's id.
    pub external_id: String,
    /// It was removed, or replaced.
    pub withdrawn: bool,
}

/// The batch's documents with these ids, the caller's or graphmill's, withdrawn ones too. One of the caller's ids may
/// belong to several: what was refused under it, and older versions.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn find_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    external: &[String],
    ids: &[DocumentId],
) -> Result<Vec<StoredDocument>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    // Each look by an index of its own.
    let rows = query!(
        r#"select id as "id!", external_id as "external_id!", withdrawn_at is not null as "withdrawn!"
           from document
           where organization_id = $1 and batch_id = $2 and refusal is null and withdrawn_at is null
             and external_id = any($3)
           union
           select id, external_id, true from document
           where organization_id = $1 and batch_id = $2 and withdrawn_at is not null and external_id = any($3)
           union
           select id, external_id, false from document
           where organization_id = $1 and batch_id = $2 and refusal is not null and withdrawn_at is null
             and external_id = any($3)
           union
           select id, external_id, withdrawn_at is not null from document
           where organization_id = $1 and batch_id = $2 and id = any($4)"#,
        organization.uuid(),
        batch.uuid(),
        external,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredDocument {
            id: row.id.into(),
            external_id: row.external_id,
            withdrawn: row.withdrawn,
        })
        .collect())
}

/// Takes documents out of a batch that is in `generation`, and tells of it. None of them may be withdrawn.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn remove_documents(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    generation: i32,
    documents: &[DocumentId],
) -> Result<(), StoreError> {
    let leaving: Vec<Leaving> = documents
        .iter()
        .map(|&document| Leaving {
            document,
            by: None,
            replaced: false,
        })
        .collect();
    let gone = withdraw(&mut *connection, organization, batch, generation, &leaving).await?;
    count_documents(connection, organization, -gone).await
}

/// How many documents the batch has to work, if it works on none at this moment; else `None`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn documents_at_rest(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<u64>, StoreError> {
    // Each status by its own index.
    let at_work = query_scalar!(
        r#"select exists (select from workflow_execution
                          where organization_id = $1 and batch_id = $2 and status in ('queued', 'retry'))
               or exists (select from workflow_execution
                          where organization_id = $1 and batch_id = $2 and status = 'processing') as "at_work!""#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(&mut *connection)
    .await?;
    if at_work {
        return Ok(None);
    }
    let count = query_scalar!(
        r#"select count(*) as "count!" from document
           where organization_id = $1 and batch_id = $2 and refusal is null and withdrawn_at is null"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(Some(count.unsigned_abs()))
}
