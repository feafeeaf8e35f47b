//! The stage `resolve`: the same thing across a batch's documents and in the organization's other batches. It writes
//! under an id of its own in bounded steps, invisible until the settle publishes that id.
//!
//! Of an organization's resolutions one is at work at a time. After a crash the same result is found again, and what is
//! written of it stays.

mod draft;
mod place;
mod read;
mod rows;
mod rules;

use std::{collections::HashSet, sync::Arc, time::Duration};

use graphmill_jobs::OrganizationId;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::{place::Placed, read::STEP, rows::Rows};
use super::{Engine, executor::ExecuteError};
use crate::{
    flow::Stage,
    pipeline::CheckpointError,
    store::{self, Lease, Publishable, StoreError},
};

/// How long it waits for its turn with the lease in hand. **Source:** DESIGN §6.5: a longer wait gives it back.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it asks whether it is its turn.
const ASK: Duration = Duration::from_millis(50);

/// Resolves the batch of `lease`, for which the organization's clusters are at `version`; returns what can be published,
/// with how many clusters.
pub(super) async fn work(
    engine: &Engine,
    lease: &Lease,
    version: i64,
) -> Result<(Publishable, usize), ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
    let context = engine
        .batches
        .get(engine, organization, (batch, lease.generation))
        .await?
        .ok_or(ExecuteError::Gone)?;
    let given = read::read(&engine.store, organization, batch).await?;
    let ontology = Arc::clone(&context.recipes.of(Stage::Resolve).ontology);
    let placed = tokio::task::spawn_blocking(move || place::place(given, &ontology))
        .await
        .map_err(|_| ExecuteError::Resolution)?;
    repoint(engine, lease, &placed).await?;
    let mut taken = HashSet::new();
    let ids = loop {
        let (ids, new) = placed.found(&taken);
        let others = read::taken(&engine.store, organization, batch, &new).await?;
        if others.is_empty() {
            break ids;
        }
        taken.extend(others);
    };
    let (rows, digest) = tokio::task::spawn_blocking(move || {
        let rows = placed.rows(&ids);
        let digest = rows.digest();
        (rows, digest)
    })
    .await
    .map_err(|_| ExecuteError::Resolution)?;
    let resolution = write(engine, lease, &rows, &digest).await?;
    let publishable = Publishable {
        resolution,
        version,
    };
    Ok((publishable, rows.clusters.len()))
}

/// Waits for the organization's turn; returns the version that its clusters are at, or nothing if another batch is being
/// resolved for longer.
pub(super) async fn turn(engine: &Engine, lease: &Lease) -> Result<Option<i64>, ExecuteError> {
    let begun = Instant::now();
    loop {
        let mut transaction = fenced(engine, lease).await?;
        let (organization, execution) = (lease.fence.organization, lease.fence.execution);
        let version = store::take_turn(&mut transaction, organization, execution).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        if version.is_some() || begun.elapsed() >= PATIENCE {
            return Ok(version);
        }
        sleep(ASK).await;
    }
}

/// Decisions are kept with the entities that there are now.
async fn repoint(engine: &Engine, lease: &Lease, placed: &Placed) -> Result<(), ExecuteError> {
    if placed.repointed.is_empty() {
        return Ok(());
    }
    let mut transaction = fenced(engine, lease).await?;
    let organization = lease.fence.organization;
    for &(link, from, to) in &placed.repointed {
        store::repoint_member(&mut transaction, organization, link, from, to).await?;
    }
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Writes what is not written yet, after sweeping what others left; returns the resolution's id.
async fn write(
    engine: &Engine,
    lease: &Lease,
    rows: &Rows,
    digest: &[u8; 32],
) -> Result<Uuid, ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
    let execution = lease.fence.execution;
    let mut transaction = fenced(engine, lease).await?;
    let (resolution, written) =
        store::begin_resolution(&mut transaction, organization, batch, execution, digest).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    sweep(engine, lease, organization, resolution).await?;
    let size = usize::try_from(STEP).unwrap_or(1);
    let steps = (rows.clusters.chunks(size).map(Step::Clusters))
        .chain(rows.members.chunks(size).map(Step::Members))
        .chain(rows.keys.chunks(size).map(Step::Keys))
        .chain(rows.links.chunks(size).map(Step::Links));
    for (number, step) in (1..).zip(steps).skip(written) {
        let mut transaction = fenced(engine, lease).await?;
        let on = &mut *transaction;
        match step {
            Step::Clusters(rows) => {
                store::add_clusters(on, organization, batch, resolution, rows).await?;
            }
            Step::Members(rows) => {
                store::add_members(on, organization, resolution, rows).await?;
            }
            Step::Keys(rows) => store::add_keys(on, organization, resolution, rows).await?,
            Step::Links(rows) => {
                store::add_proposals(on, organization, batch, resolution, rows).await?;
            }
        }
        store::resolution_written(on, organization, resolution, number).await?;
        transaction.commit().await.map_err(StoreError::from)?;
    }
    Ok(resolution)
}

/// Rows of one table.
enum Step<'r> {
    Clusters(&'r [store::NewCluster]),
    Members(&'r [store::NewMember]),
    Keys(&'r [store::NewKey]),
    Links(&'r [store::NewLink]),
}

/// Removes what the organization's earlier resolutions have left and nobody sees.
async fn sweep(
    engine: &Engine,
    lease: &Lease,
    organization: OrganizationId,
    current: Uuid,
) -> Result<(), ExecuteError> {
    let mut transaction = fenced(engine, lease).await?;
    let abandoned = store::abandoned_resolutions(&mut transaction, organization, current).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    for resolution in abandoned {
        loop {
            let mut transaction = fenced(engine, lease).await?;
            let more =
                store::sweep_resolution(&mut transaction, organization, resolution, STEP).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// A transaction in which the lease is held: whoever has lost it must not touch what its next holder writes.
async fn fenced(engine: &Engine, lease: &Lease) -> Result<store::AppTransaction, ExecuteError> {
    let mut transaction = engine.store.app(lease.fence.organization).await?;
    if !store::hold(&mut transaction, lease.fence).await? {
        return Err(CheckpointError::LeaseLost.into());
    }
    Ok(transaction)
}
