//! The sweeper: finds what went silent (expired leases, rings that nobody answered, rings to a Redis that has lost
//! them) and rings for it again; gives back leases whose jobs never came; answers signals whose holder is gone; and
//! begins the months of budgets.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::{Engine, doorbell, succession};
use crate::{
    metrics,
    store::{self, StoreError},
    workflow,
};

/// Executions rung for in one step.
const STEP: usize = 1000;
/// How soon rings are repeated that did not fit their queue's window.
const REFILL: Duration = Duration::from_millis(50);

/// Sweeps every period, and when the doorbell asks for it.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut failing = false;
    loop {
        let full = engine.doorbell.take_full() && !engine.doorbell.is_away();
        let wait = if full {
            REFILL
        } else {
            engine.settings.sweeper
        };
        tokio::select! {
            () = engine.stop.cancelled() => return,
            () = engine.doorbell.again.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        match sweep(&engine).await {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                warn!(
                    error = &error as &dyn std::error::Error,
                    "silent work could not be found"
                );
            }
            Err(_) => {}
        }
    }
}

async fn sweep(engine: &Arc<Engine>) -> Result<(), StoreError> {
    // A process that stood still for a moment goes on with what is on its way to it.
    let settings = &engine.settings;
    succession::give_back(engine, settings.lease.max(settings.patience)).await;
    let mut connection = engine.store.driver().await?;
    let orphans = store::orphaned_signals(&mut connection).await?;
    let over = store::months_over(&mut connection).await?;
    drop(connection);
    for organization in over {
        if let Err(error) = workflow::begin_month(&engine.store, organization).await {
            warn!(
                error = &error as &dyn std::error::Error,
                organization.id = %organization,
                "the month of a budget could not be begun"
            );
        }
    }
    for (organization, execution) in orphans {
        let answered = async {
            let mut transaction = engine.store.app(organization).await?;
            store::answer_signals(&mut transaction, organization, execution, None).await?;
            Ok::<_, StoreError>(transaction.commit().await?)
        };
        match answered.await {
            Ok(()) => {
                metrics::get().work.swept(0, 0, 1);
                engine.sequencer.ring();
            }
            // One that can't be answered must not keep the others from being rung for.
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                execution.id = %execution,
                "a signal could not be answered"
            ),
        }
    }
    if engine.doorbell.is_away() {
        return Ok(());
    }
    let mut connection = engine.store.driver().await?;
    let silent = store::to_ring(
        &mut connection,
        engine.doorbell.incarnation(),
        engine.settings.patience,
        STEP,
    )
    .await?;
    drop(connection);
    let store::Silent { rings, expired } = silent;
    metrics::get().work.swept(expired, rings.len() - expired, 0);
    if !rings.is_empty() {
        debug!(executions = rings.len(), expired, "ringing again");
        doorbell::ring(engine, rings, true).await;
    }
    Ok(())
}
