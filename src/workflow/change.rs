//! Changing what a batch holds: documents that are added or sent again, documents that are taken away, and the seal
//! by hand. A batch that is open takes them as they come; one that has ended is opened again, in its next generation,
//! by the first step that changes anything.
//!
//! Every step is a transaction under the batch's intake lock, and may be repeated: what was done is not done again.

use graphmill_jobs::{BatchId, DocumentId, OrganizationId};

use super::submit::{SubmitError, seal};
use crate::{
    flow::{Admission, BatchChange, BatchEvent, Event, EventKind, Filling, Intake},
    store::{self, Batch, Changed, Connection, DocumentRow, Refused, Store, StoreError},
};

/// Documents that are taken away in one step. **Source:** no transaction may last five seconds, and each takes its
/// graph along.
const REMOVE_STEP: usize = 100;

/// What came of taking documents away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Documents that were taken away now.
    pub removed: u64,
    /// Ids of documents that had been taken away before.
    pub gone: Vec<String>,
}

/// Why documents could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// As with a submission.
    #[error(transparent)]
    Change(#[from] SubmitError),
    /// The batch has no such documents; nothing was taken away.
    #[error("the batch has no document {}", .0.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", "))]
    Unknown(Vec<String>),
}

impl From<StoreError> for RemoveError {
    fn from(error: StoreError) -> Self {
        Self::Change(error.into())
    }
}

/// Writes one step of documents, and of what was refused before it had a text.
pub(super) async fn write(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    documents: &[DocumentRow<'_>],
    refused: &[Refused],
) -> Result<Changed, SubmitError> {
    let mut transaction = store.app(organization).await?;
    let (changed, wrote) =
        write_in(&mut transaction, organization, batch, documents, refused).await?;
    if wrote {
        transaction.commit().await.map_err(StoreError::from)?;
    }
    Ok(changed)
}

/// The same in a transaction of the caller's; and whether there was anything to write.
pub(super) async fn write_in(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    documents: &[DocumentRow<'_>],
    refused: &[Refused],
) -> Result<(Changed, bool), SubmitError> {
    let (found, admission) = asked(connection, organization, batch, BatchChange::Add).await?;
    let plan = store::plan_changes(connection, organization, batch, documents, refused).await?;
    if plan.is_empty() {
        let unchanged = plan.unchanged();
        return Ok((
            Changed {
                unchanged,
                ..Changed::default()
            },
            false,
        ));
    }
    let change = BatchChange::Add;
    let generation = opened(connection, organization, &found, admission, change).await?;
    let changed = store::apply_changes(connection, organization, batch, generation, plan).await?;
    Ok((changed, true))
}

/// Whether a batch takes documents, before any is read.
pub(super) async fn check(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<(), SubmitError> {
    let mut read = store.app(organization).await?;
    asked(&mut read, organization, batch, BatchChange::Add).await?;
    Ok(())
}

/// Takes documents away, by the caller's ids or graphmill's. What was refused under an id goes with it.
///
/// # Errors
/// [`RemoveError`]; trying again may help, and takes nothing away twice.
pub async fn remove_documents(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    wanted: &[String],
) -> Result<Removed, RemoveError> {
    let mut unknown = Vec::new();
    let mut done = Removed::default();
    for step in wanted.chunks(REMOVE_STEP) {
        let mut read = store.app(organization).await?;
        let there = find(&mut read, organization, batch, step).await?;
        for id in step {
            let mut named = there.iter().filter(|one| is_named(one, id)).peekable();
            if named.peek().is_none() {
                unknown.push(id.clone());
            } else if named.all(|one| one.withdrawn) {
                done.gone.push(id.clone());
            }
        }
    }
    if !unknown.is_empty() {
        return Err(RemoveError::Unknown(unknown));
    }
    for step in wanted.chunks(REMOVE_STEP) {
        done.removed += remove_step(store, organization, batch, step).await?;
    }
    finish(store, organization, batch, false).await?;
    Ok(done)
}

fn is_named(document: &store::StoredDocument, wanted: &str) -> bool {
    document.external_id == wanted || wanted.parse::<DocumentId>() == Ok(document.id)
}

async fn find(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    wanted: &[String],
) -> Result<Vec<store::StoredDocument>, StoreError> {
    let ids: Vec<DocumentId> = wanted.iter().filter_map(|id| id.parse().ok()).collect();
    store::find_documents(connection, organization, batch, wanted, &ids).await
}

async fn remove_step(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    wanted: &[String],
) -> Result<u64, SubmitError> {
    let mut transaction = store.app(organization).await?;
    let (found, admission) =
        asked(&mut transaction, organization, batch, BatchChange::Remove).await?;
    let there = find(&mut transaction, organization, batch, wanted).await?;
    let leaving: Vec<DocumentId> = there
        .iter()
        .filter(|one| !one.withdrawn)
        .map(|one| one.id)
        .collect();
    if leaving.is_empty() {
        return Ok(0);
    }
    let generation = opened(
        &mut transaction,
        organization,
        &found,
        admission,
        BatchChange::Remove,
    )
    .await?;
    store::remove_documents(&mut transaction, organization, batch, generation, &leaving).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(leaving.len() as u64)
}

/// Says that no more documents will come to a batch that was kept open, or whose submission was cut off.
///
/// # Errors
/// [`SubmitError`]; trying again may help, unless it is an illegal move.
pub async fn seal_batch(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<(), SubmitError> {
    let mut transaction = store.app(organization).await?;
    asked(&mut transaction, organization, batch, BatchChange::Seal).await?;
    seal(&mut transaction, organization, batch).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Ends what filled the batch: with the seal, or kept open for more. One that was open before stays open, and so
/// does one that somebody else fills.
pub(super) async fn finish(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    keep_open: bool,
) -> Result<(), SubmitError> {
    let mut transaction = store.app(organization).await?;
    if finish_in(&mut transaction, organization, batch, keep_open).await? {
        transaction.commit().await.map_err(StoreError::from)?;
    }
    Ok(())
}

/// The same in a transaction of the caller's; and whether there was anything to end.
pub(super) async fn finish_in(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    keep_open: bool,
) -> Result<bool, SubmitError> {
    store::intake_lock(connection, batch).await?;
    let found = store::batch_by_id(connection, organization, batch).await?;
    let fills = found.is_some_and(|found| found.intake == Intake::Filling(Filling::Addition));
    if fills {
        end_filling(connection, organization, batch, keep_open).await?;
    }
    Ok(fills)
}

/// Seals a batch, or says that it is kept open.
pub(super) async fn end_filling(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    keep_open: bool,
) -> Result<(), StoreError> {
    if !keep_open {
        return seal(connection, organization, batch).await;
    }
    store::intake_lock(connection, batch).await?;
    if store::keep_batch_open(connection, organization, batch).await? {
        let kind = EventKind::BatchKeptOpen;
        store::append_event(connection, &Event::of_batch(organization, batch, kind)).await?;
    }
    Ok(())
}

/// Nothing that a batch of this organization has waits or is worked at this moment, and its counts say so: one that
/// is kept open comes to rest.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn is_at_rest(
    store: &Store,
    organization: OrganizationId,
    batch: &Batch,
) -> Result<bool, StoreError> {
    let counts = &batch.counts;
    if batch.intake != Intake::Open || counts.ended() + counts.failed != counts.accepted {
        return Ok(false);
    }
    let mut read = store.app(organization).await?;
    let at_rest = store::documents_at_rest(&mut read, organization, batch.id).await?;
    Ok(at_rest == Some(counts.accepted))
}

/// How a batch takes a change. Its intake lock is taken: an unsealed batch is not sealed, and so does not end, before
/// the transaction does.
pub(super) async fn asked(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: BatchId,
    change: BatchChange,
) -> Result<(Batch, Admission), SubmitError> {
    store::intake_lock(connection, batch).await?;
    let found = store::batch_by_id(connection, organization, batch)
        .await?
        .ok_or(SubmitError::Sealed)?;
    let admission = found
        .intake
        .take(found.state.name(), found.stopping, change)?;
    Ok((found, admission))
}

/// The generation that takes a change; the next one is opened for it if need be.
async fn opened(
    connection: &mut Connection,
    organization: OrganizationId,
    batch: &Batch,
    admission: Admission,
    change: BatchChange,
) -> Result<i32, SubmitError> {
    if admission == Admission::Now {
        return Ok(batch.generation);
    }
    let id = batch.id;
    let mut found = store::batch_to_reopen(connection, organization, id)
        .await?
        .ok_or(SubmitError::Sealed)?;
    // With its row locked: a retry may have come first.
    if found
        .intake
        .take(found.state.name(), found.stopping, change)?
        == Admission::Now
    {
        return Ok(found.generation);
    }
    let generation = found.generation + 1;
    let kind = EventKind::BatchReopened { generation };
    found.generation = generation;
    found.state = found.state.on(BatchEvent::Reopen)?;
    found.counts.fold(&kind);
    store::open_generation(connection, organization, id, &found, Filling::Addition).await?;
    store::append_event(connection, &Event::of_batch(organization, id, kind)).await?;
    Ok(generation)
}
