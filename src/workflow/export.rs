//! Exporting a batch's graph: pages by key, each in a transaction of its own, written as they come, so that memory
//! stays flat and no snapshot is held.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use graphmill_jobs::{BatchId, ClusterId, DocumentId, OrganizationId};

use crate::{
    graph::{
        ExportError, ExportFormat, ExportHead, ExportStyle, ExportWriter, ExportedCluster,
        ExportedDocument, ExportedEntity, ExportedEvidence, ExportedMention, ExportedRelation,
    },
    store::{self, Place, Store, StoreError},
};

/// Rows of a page.
const PAGE: i64 = 1000;

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailure {
    /// The rows could not be read; trying again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such batch. Trying again does not help.
    #[error("there is no batch `{0}`")]
    NoBatch(BatchId),
    /// The output could not be written.
    #[error(transparent)]
    Write(#[from] ExportError),
}

/// Writes the graph of a batch to `out`, in a format that is one file and no folder.
///
/// # Errors
/// As [`export_with`].
pub async fn export<W: Write + Send + 'static>(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    format: ExportFormat,
    out: W,
) -> Result<W, ExportFailure> {
    let mut out = Some(out);
    let open = |_| out.take().ok_or(io::ErrorKind::NotADirectory.into());
    let mut outs = export_with(store, organization, batch, &format.into(), open).await?;
    let closed = || ExportError::Write(io::ErrorKind::NotADirectory.into());
    Ok(outs.pop().ok_or_else(closed)?)
}

/// Writes the graph of a batch to what `open` opens for each file of the format, which should be buffered: documents,
/// entities, relations, clusters. Gives the files back in the order in which they were opened.
///
/// # Errors
/// [`ExportFailure`]; what was written until then is incomplete.
pub async fn export_with<W: Write + Send + 'static>(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    style: &ExportStyle,
    open: impl FnMut(&'static str) -> io::Result<W>,
) -> Result<Vec<W>, ExportFailure> {
    export_paced(store, organization, batch, style, open, &mut AtOnce).await
}

/// Whoever takes an export away while it is written.
pub trait Reader: Send {
    /// Waits until what was written has been taken. Called before every page, outside of any transaction.
    ///
    /// # Errors
    /// Nobody reads on: the export ends.
    fn ready(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// A reader that nobody has to wait for.
struct AtOnce;

impl Reader for AtOnce {
    async fn ready(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same, no faster than `reader` reads: no more than a page waits for it.
///
/// # Errors
/// As [`export_with`].
pub async fn export_paced<W: Write + Send + 'static>(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    style: &ExportStyle,
    open: impl FnMut(&'static str) -> io::Result<W>,
    reader: &mut impl Reader,
) -> Result<Vec<W>, ExportFailure> {
    let mut read = store.app(organization).await?;
    let setup = store::batch_setup(&mut read, organization, batch).await?;
    let (_, ontology, _) = setup.ok_or(ExportFailure::NoBatch(batch))?;
    let ontology = store::ontology_by_id(&mut read, organization, ontology).await?;
    drop(read);
    let head = ExportHead {
        batch: &batch.to_string(),
        ontology: &ontology,
    };
    let mut writer = ExportWriter::new(style, head, open)?;
    let mut after: Option<DocumentId> = None;
    loop {
        reader.ready().await.map_err(ExportError::Write)?;
        let mut read = store.app(organization).await?;
        let page = store::document_page(&mut read, organization, batch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for row in page {
            writer.document(&ExportedDocument {
                id: row.external_id,
                document_id: row.id.to_string(),
                state: row.state,
                partial: row.partial,
                text_sha256: row.content_hash.map(|hash| hex(&hash)),
            })?;
        }
    }
    let mut after: Option<Place> = None;
    loop {
        reader.ready().await.map_err(ExportError::Write)?;
        let mut read = store.app(organization).await?;
        let page = store::entity_page(&mut read, organization, batch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        for row in page {
            writer.entity(&exported_entity(row))?;
        }
    }
    let mut after: Option<Place> = None;
    loop {
        reader.ready().await.map_err(ExportError::Write)?;
        let mut read = store.app(organization).await?;
        let page = store::relation_page(&mut read, organization, batch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        for row in page {
            writer.relation(&exported_relation(row))?;
        }
    }
    let mut after: Option<ClusterId> = None;
    loop {
        reader.ready().await.map_err(ExportError::Write)?;
        let mut read = store.app(organization).await?;
        let page = store::cluster_page(&mut read, organization, batch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for row in page {
            writer.cluster(&ExportedCluster {
                id: row.id.to_string(),
                name: row.name,
                class: row.class,
                members: row.members.iter().map(ToString::to_string).collect(),
            })?;
        }
    }
    Ok(writer.finish()?)
}

/// What an export of an ended batch depends on, in a string that changes with it; `None` while the batch runs, or if
/// there is none.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn export_version(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<String>, StoreError> {
    let mut read = store.app(organization).await?;
    let found = store::batch_by_id(&mut read, organization, batch).await?;
    let Some(found) = found.filter(|found| found.state.name().has_ended()) else {
        return Ok(None);
    };
    // Decisions about clusters change published ones.
    let clusters = store::clusters_version(&mut read, organization).await?;
    Ok(Some(format!(
        "{batch} {} {:?} {clusters}",
        found.generation, found.resolution
    )))
}

fn exported_entity(row: store::EntityRow) -> ExportedEntity {
    ExportedEntity {
        id: row.id.to_string(),
        document: row.document,
        document_id: row.document_id.to_string(),
        name: row.name,
        class: row.class,
        mentions: row
            .mentions
            .into_iter()
            .map(|mention| ExportedMention {
                start: mention.span.start,
                end: mention.span.end,
                text: mention.text,
                class: mention.class,
                value: mention.value,
                confidence: mention.confidence,
            })
            .collect(),
    }
}

fn exported_relation(row: store::RelationRow) -> ExportedRelation {
    ExportedRelation {
        id: row.id.to_string(),
        document: row.document,
        document_id: row.document_id.to_string(),
        subject: row.subject.to_string(),
        subject_name: row.subject_name,
        predicate: row.predicate,
        object: row.object.to_string(),
        object_name: row.object_name,
        confidence: row.confidence,
        evidence: row
            .evidence
            .into_iter()
            .map(|evidence| ExportedEvidence {
                start: evidence.span.start,
                end: evidence.span.end,
                text: evidence.text,
            })
            .collect(),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
