//! The stage `resolve`: the same thing across a batch's documents and in the organization's other batches. It writes
//! under an id of its own in bounded steps, invisible until the settle publishes that id.
//!
//! Of an organization's resolutions one is at work at a time. Where somebody is to be asked about what the rules leave in
//! doubt, that is done before. After a crash the same result is found again, and what is
//! written of it stays.

mod ask;
mod draft;
mod judge;
mod place;
mod read;
mod rows;
mod rules;

use std::{collections::HashSet, sync::Arc, time::Duration};

use graphmill_jobs::OrganizationId;
use tokio::time::{Instant, sleep};
use tracing::info;
use uuid::Uuid;

use self::{
    ask::{Asked, Asker},
    judge::Judgement,
    place::{Placed, Ruling},
    read::STEP,
    rows::Rows,
};
use super::{
    Engine,
    executor::{ExecuteError, Reins, in_turns},
    keeper::Stops,
};
use crate::{
    flow::Stage,
    graph::Ontology,
    pipeline::{CheckpointError, Outcome},
    store::{self, Lease, Publishable, StoreError},
};

/// How long it waits for its turn with the lease in hand. **Source:** DESIGN §6.5: a longer wait gives it back.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it asks whether it is its turn.
const ASK: Duration = Duration::from_millis(50);

/// What a resolution came to.
pub(super) enum Resolved {
    /// It is written, with so many clusters, and can be published.
    Written(Publishable, usize),
    /// Another batch of the organization is being resolved.
    NotItsTurn,
    /// Somebody is to be asked, and can't be yet.
    Hindered(Outcome),
}

/// Resolves the batch of `lease`.
pub(super) async fn work(
    engine: &Arc<Engine>,
    lease: &Lease,
    reins: Reins,
) -> Result<Resolved, ExecuteError> {
    let Reins {
        stops: Stops { pause, hang_up },
        place,
        trace,
    } = reins;
    let context = engine
        .batches
        .get(
            engine,
            lease.fence.organization,
            (lease.batch, lease.generation),
        )
        .await?
        .ok_or(ExecuteError::Gone)?;
    let ontology = Arc::clone(&context.recipes.of(Stage::Resolve).ontology);
    let asker = match Asker::of(engine, lease, &context, pause, (hang_up, trace)) {
        Ok(asker) => asker,
        Err(outcome) => return Ok(Resolved::Hindered(outcome)),
    };
    if let Some(asker) = &asker
        && !asker.has_asked().await?
    {
        // Before its turn: others of the organization need not wait while a model thinks.
        let ruling = rule(engine, lease, &ontology).await?;
        let (ruling, doubts) = ask::doubted(ruling, &ontology, asker.most()).await?;
        if let Asked::Hindered(outcome) = asker.ask(&ruling, doubts).await? {
            return Ok(Resolved::Hindered(outcome));
        }
    }
    let Some(version) = turn(engine, lease).await? else {
        return Ok(Resolved::NotItsTurn);
    };
    place.enter().await;
    let written = written(engine, lease, version, &ontology, asker.as_ref());
    in_turns(&place, written).await
}

/// Finds the clusters and writes them down, with the organization's turn in hand.
async fn written(
    engine: &Engine,
    lease: &Lease,
    version: i64,
    ontology: &Arc<Ontology>,
    asker: Option<&Asker<'_>>,
) -> Result<Resolved, ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
    let mut laps = Laps::begin();
    let mut ruling = rule(engine, lease, ontology).await?;
    let read_ms = laps.ms();
    let mut judgement = Judgement::default();
    if let Some(asker) = asker {
        let (same, doubts) = ask::doubted(ruling, ontology, asker.most()).await?;
        ruling = same;
        // Little is asked here: what a crash has left, and what is new since other batches have published.
        judgement = match asker.ask(&ruling, doubts).await? {
            Asked::Said(said) => ruling.judge(&said, ontology, asker.name()),
            Asked::Hindered(outcome) => return Ok(Resolved::Hindered(outcome)),
        };
    }
    let placed = tokio::task::spawn_blocking(move || ruling.place(&judgement))
        .await
        .map_err(|_| ExecuteError::Resolution)?;
    let place_ms = laps.ms();
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
    let name_ms = laps.ms();
    let (resolution, written) = begin(engine, lease, &digest).await?;
    sweep(engine, lease, organization, resolution).await?;
    let sweep_ms = laps.ms();
    write(engine, lease, &rows, resolution, written).await?;
    let write_ms = laps.ms();
    info!(
        batch.id = %batch, clusters = rows.clusters.len(), read_ms, place_ms, name_ms, sweep_ms, write_ms,
        "a batch's resolution is written"
    );
    let publishable = Publishable {
        resolution,
        version,
    };
    Ok(Resolved::Written(publishable, rows.clusters.len()))
}

/// What the rules and people's decisions make of the batch as it stands.
async fn rule(
    engine: &Engine,
    lease: &Lease,
    ontology: &Arc<Ontology>,
) -> Result<Ruling, ExecuteError> {
    let given = read::read(&engine.store, lease.fence.organization, lease.batch).await?;
    let ontology = Arc::clone(ontology);
    tokio::task::spawn_blocking(move || place::rule(given, &ontology))
        .await
        .map_err(|_| ExecuteError::Resolution)
}

/// Waits for the organization's turn; returns the version that its clusters are at.
async fn turn(engine: &Engine, lease: &Lease) -> Result<Option<i64>, ExecuteError> {
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
    for &repointed in &placed.repointed {
        store::repoint_member(&mut transaction, organization, repointed).await?;
    }
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}

/// Goes on with this result if it has been begun, or begins: the resolution's id, and how many steps are written.
async fn begin(
    engine: &Engine,
    lease: &Lease,
    digest: &[u8; 32],
) -> Result<(Uuid, usize), ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
    let execution = lease.fence.execution;
    let mut transaction = fenced(engine, lease).await?;
    let begun =
        store::begin_resolution(&mut transaction, organization, batch, execution, digest).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(begun)
}

/// Writes what is not written yet.
async fn write(
    engine: &Engine,
    lease: &Lease,
    rows: &Rows,
    resolution: Uuid,
    written: usize,
) -> Result<(), ExecuteError> {
    let (organization, batch) = (lease.fence.organization, lease.batch);
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
            Step::Keys(rows) => {
                store::add_keys(on, organization, batch, resolution, rows).await?;
            }
            Step::Links(rows) => {
                store::add_proposals(on, organization, batch, resolution, rows).await?;
            }
        }
        store::resolution_written(on, organization, resolution, number).await?;
        transaction.commit().await.map_err(StoreError::from)?;
    }
    Ok(())
}

/// How long each step took.
struct Laps(Instant);

impl Laps {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last one.
    fn ms(&mut self) -> u64 {
        let took = self.0.elapsed();
        self.0 += took;
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
    }
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
