//! The gate of the durable path: a unit begins while its lease is held, or with a head start the one before it, and not
//! after; and in its batch's turn.
//!
//! It is asked on the unit's own thread, as late as can be; what it must ask the database it asks on the runtime of the
//! drivers, whose connections those are.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::{Engine, head_start::Grant, keeper, turns::Place};
use crate::{
    pipeline::{CheckpointError, Gate},
    store::{Fence, Patience, StoreError},
};

pub(super) struct LeaseGate {
    engine: Arc<Engine>,
    fence: Fence,
    drivers: Handle,
    /// None for units that wait for a model rather than that they compute.
    place: Option<Arc<Place>>,
    /// Until the lease is granted, the one before it holds.
    grant: Option<Grant>,
}

impl LeaseGate {
    /// The gate of a lease; it must be made on the runtime of the drivers.
    pub(super) fn new(
        engine: Arc<Engine>,
        fence: Fence,
        place: Option<Arc<Place>>,
        grant: Option<Grant>,
    ) -> Self {
        Self {
            engine,
            fence,
            drivers: Handle::current(),
            place,
            grant,
        }
    }
}

#[async_trait]
impl Gate for LeaseGate {
    async fn turn(&self) {
        if let Some(place) = &self.place {
            place.border().await;
        }
    }

    async fn may_begin(&self) -> Result<(), CheckpointError> {
        if keeper::is_fresh(&self.engine, self.fence) {
            return Ok(());
        }
        if let Some(grant) = &self.grant {
            if keeper::is_fresh(&self.engine, grant.before) {
                return Ok(());
            }
            if !grant.is_given().await {
                return Err(CheckpointError::LeaseLost);
            }
        }
        let asked = self
            .drivers
            .spawn(ask(Arc::clone(&self.engine), self.fence));
        match asked.await {
            Ok(Ok(true)) => Ok(()),
            // The drivers end only with the process.
            Ok(Ok(false)) | Err(_) => Err(CheckpointError::LeaseLost),
            Ok(Err(error)) => Err(CheckpointError::Write(error.into())),
        }
    }
}

async fn ask(engine: Arc<Engine>, fence: Fence) -> Result<bool, StoreError> {
    let mut patience = Patience::new();
    loop {
        match keeper::is_held(&engine, fence).await {
            Err(error) if patience.again(&error).await => {}
            result => return result,
        }
    }
}
