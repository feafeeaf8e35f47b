//! The stage `resolve`: the same thing across a batch's documents. It writes under an id of its own in bounded
//! steps, invisible until the settle publishes that id.

use uuid::Uuid;

use super::{Engine, executor::ExecuteError};
use crate::{
    graph,
    pipeline::CheckpointError,
    store::{self, Lease, StoreError},
};

/// Rows of a step. **Source:** no transaction may last five seconds; this many take some tens of milliseconds.
const STEP: i64 = 2000;

/// Resolves the batch of `lease`; returns the resolution's id and how many clusters it has.
pub(super) async fn work(engine: &Engine, lease: &Lease) -> Result<(Uuid, usize), ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
    let mut entities: Vec<graph::ResolvableEntity<_>> = Vec::new();
    let mut after = None;
    loop {
        let mut transaction = engine.store.app(organization).await?;
        let document = entities.last().map_or(0, |entity| entity.document);
        let (page, last) =
            store::resolvable_page(&mut transaction, organization, batch, after, document, STEP)
                .await?;
        transaction.rollback().await.map_err(StoreError::from)?;
        entities.extend(page);
        if last.is_none() {
            break;
        }
        after = last;
    }
    let resolved =
        tokio::task::spawn_blocking(move || graph::resolve(entities, &graph::Decisions::default()));
    let clusters = resolved
        .await
        .map_err(|_| ExecuteError::Resolution)?
        .clusters;
    loop {
        let mut transaction = fenced(engine, lease).await?;
        let dropped =
            store::drop_unpublished_clusters(&mut transaction, organization, batch, STEP).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        if dropped == 0 {
            break;
        }
    }
    let resolution = Uuid::now_v7();
    let mut first = 0;
    for step in clusters.chunks(usize::try_from(STEP).unwrap_or(1)) {
        let mut transaction = fenced(engine, lease).await?;
        store::add_clusters(
            &mut transaction,
            organization,
            batch,
            resolution,
            first,
            step,
        )
        .await?;
        transaction.commit().await.map_err(StoreError::from)?;
        first += step.len();
    }
    Ok((resolution, clusters.len()))
}

/// A transaction in which the lease is held: whoever has lost it must not touch what its next holder writes.
async fn fenced(engine: &Engine, lease: &Lease) -> Result<store::AppTransaction, ExecuteError> {
    let mut transaction = engine.store.app(lease.fence.organization).await?;
    if !store::hold(&mut transaction, lease.fence).await? {
        return Err(CheckpointError::LeaseLost.into());
    }
    Ok(transaction)
}
