//! Batches that come whole: opened, filled and sealed by one statement, many at a time.
//!
//! What it writes is what opening, adding and sealing write one after the other; `tests/it/api/submitting.rs` holds the
//! two against one another.

use std::collections::HashSet;

use graphmill_jobs::{BatchId, DocumentId, OrganizationId, WorkflowExecutionId};
use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{
    BatchSpec, DocumentRow, StoreError,
    organization_limit::{check_open_batches, count_documents},
    to_json,
};
use crate::flow::{BatchCounts, EventKind, WORKFLOW_VERSION, WorkflowType};

/// A batch with all its documents, no two of which have one id or one text.
#[derive(Debug)]
pub struct SealedBatch<'a> {
    /// Its id.
    pub id: BatchId,
    /// What it is opened with.
    pub spec: &'a BatchSpec,
    /// Where to tell of its end.
    pub notify: Option<&'a str>,
    /// Its documents.
    pub documents: Vec<DocumentRow<'a>>,
}

/// Writes batches with their documents, sealed. Returns those that were written: of the others the name is taken.
///
/// # Errors
/// [`StoreError::Quota`] if they are too many together; [`StoreError::Query`], and trying again may help. The caller must
/// drop the transaction then.
#[expect(
    clippy::too_many_lines,
    reason = "one statement, and a line for each of its columns"
)]
pub async fn add_sealed(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batches: &[SealedBatch<'_>],
) -> Result<Vec<BatchId>, StoreError> {
    let counts = to_json("counts", &BatchCounts::default())?;
    let sealed = to_json("an event", &EventKind::BatchSealed)?;
    let column =
        |of: &dyn Fn(&SealedBatch<'_>) -> String| batches.iter().map(of).collect::<Vec<_>>();
    let number = |of: &dyn Fn(&BatchSpec) -> u32| {
        let numbers = batches
            .iter()
            .map(|batch| i32::try_from(of(batch.spec)).unwrap_or(i32::MAX));
        numbers.collect::<Vec<i32>>()
    };
    let ids: Vec<Uuid> = batches.iter().map(|batch| batch.id.uuid()).collect();
    let ontologies: Vec<Uuid> = batches
        .iter()
        .map(|batch| batch.spec.ontology.uuid())
        .collect();
    let names = column(&|batch| batch.spec.name.clone());
    let extractors = column(&|batch| batch.spec.extractor.clone());
    let policies = column(&|batch| batch.spec.policy.as_str().to_owned());
    let configs: Vec<Value> = batches
        .iter()
        .map(|batch| batch.spec.config.clone())
        .collect();
    let concurrencies = number(&|spec| spec.concurrency);
    let retries = number(&|spec| spec.max_retries);
    let weights = number(&|spec| spec.weight);
    let tolerances: Vec<Option<String>> = batches
        .iter()
        .map(|batch| batch.spec.tolerance.map(|tolerance| tolerance.to_string()))
        .collect();
    let notify: Vec<Option<String>> = batches
        .iter()
        .map(|batch| batch.notify.map(str::to_owned))
        .collect();
    let traces: Vec<Option<String>> = batches
        .iter()
        .map(|batch| batch.spec.traceparent.clone())
        .collect();
    let mut created: Vec<Value> = Vec::new();
    let mut added: Vec<Value> = Vec::new();
    for batch in batches {
        let name = batch.spec.name.clone();
        created.push(to_json("an event", &EventKind::BatchCreated { name })?);
        let kind = EventKind::DocumentsAdded {
            accepted: batch.documents.len() as u64,
            refused: 0,
            duplicate: 0,
        };
        added.push(to_json("an event", &kind)?);
    }
    let rows = || {
        batches
            .iter()
            .flat_map(|batch| batch.documents.iter().map(|row| (batch.id, row)))
    };
    let of: Vec<Uuid> = rows().map(|(batch, _)| batch.uuid()).collect();
    let documents: Vec<Uuid> = rows().map(|_| DocumentId::generate().uuid()).collect();
    let executions: Vec<Uuid> = rows()
        .map(|_| WorkflowExecutionId::generate().uuid())
        .collect();
    let external: Vec<String> = rows().map(|(_, row)| row.external_id.to_owned()).collect();
    let titles: Vec<Option<String>> = rows()
        .map(|(_, row)| row.title.map(str::to_owned))
        .collect();
    let uris: Vec<Option<String>> = rows()
        .map(|(_, row)| row.source_uri.map(str::to_owned))
        .collect();
    let texts: Vec<String> = rows().map(|(_, row)| row.text.to_owned()).collect();
    let hashes: Vec<Vec<u8>> = rows().map(|(_, row)| row.content_hash.to_vec()).collect();
    let metadata: Vec<Value> = rows().map(|(_, row)| row.metadata.clone()).collect();
    let written = query!(
        r#"with opened as (
               insert into batch (id, organization_id, name, ontology_id, extractor, config, concurrency,
                                  failure_policy, max_retries, counts, max_failures, weight, notify_url, traceparent,
                                  sealed_at)
               select b.id, $1, b.name, b.ontology, b.extractor, b.config, b.concurrency, b.policy, b.retries, $3,
                      b.tolerance, b.weight, b.notify, b.trace, now()
               from unnest($4::uuid[], $2::uuid[], $5::text[], $6::text[], $7::jsonb[], $8::integer[], $9::text[],
                           $10::integer[], $11::text[], $12::integer[], $13::text[], $29::text[])
                   as b (id, ontology, name, extractor, config, concurrency, policy, retries, tolerance, weight, notify,
                         trace)
               on conflict (name, organization_id) do nothing
               returning id
           ), filled as (
               insert into document (id, organization_id, batch_id, external_id, title, source_uri, text, text_chars,
                                     content_hash, metadata)
               select d.id, $1, d.batch_id, d.external_id, d.title, d.source_uri, d.text, length(d.text), d.hash,
                      d.metadata
               from unnest($14::uuid[], $15::uuid[], $16::text[], $17::text[], $18::text[], $19::text[],
                           $20::bytea[], $21::jsonb[])
                   as d (id, batch_id, external_id, title, source_uri, text, hash, metadata)
               join opened on opened.id = d.batch_id
           ), queued as (
               insert into workflow_execution (id, organization_id, batch_id, generation, document_id, workflow_type,
                                               workflow_version, current_activity)
               select e.id, $1, e.batch_id, 1, e.document_id, $23, $24, $25
               from unnest($22::uuid[], $14::uuid[], $15::uuid[]) as e (id, document_id, batch_id)
               join opened on opened.id = e.batch_id
           ), told as (
               insert into event_outbox (organization_id, batch_id, type, payload)
               select $1, t.id, t.payload ->> 'type', t.payload
               from (
                   select b.id, b.number, p.step, p.payload
                   from unnest($4::uuid[], $26::jsonb[], $27::jsonb[]) with ordinality
                       as b (id, created, added, number)
                   cross join lateral (values (1, b.created), (2, b.added), (3, $28::jsonb)) as p (step, payload)
               ) as t
               join opened on opened.id = t.id
               order by t.number, t.step
           )
           select id, exists (select from organization_limit l where l.organization_id = $1) as "limited!"
           from opened"#,
        organization.uuid(),
        &ontologies,
        counts,
        &ids,
        &names,
        &extractors,
        &configs,
        &concurrencies,
        &policies,
        &retries,
        &tolerances as &[Option<String>],
        &weights,
        &notify as &[Option<String>],
        &documents,
        &of,
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
        &created,
        &added,
        sealed,
        &traces as &[Option<String>],
    )
    .fetch_all(&mut *connection)
    .await?;
    if written.iter().any(|row| row.limited) {
        let ids: HashSet<Uuid> = written.iter().map(|row| row.id).collect();
        let taken = batches
            .iter()
            .filter(|batch| ids.contains(&batch.id.uuid()));
        let documents: usize = taken.map(|batch| batch.documents.len()).sum();
        check_open_batches(connection, organization).await?;
        let documents = i64::try_from(documents).unwrap_or(i64::MAX);
        count_documents(connection, organization, documents).await?;
    }
    Ok(written.into_iter().map(|row| row.id.into()).collect())
}
