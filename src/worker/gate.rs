//! The gate of the durable path: a unit begins while its lease is held, and not after.
//!
//! It is asked on the unit's own thread, as late as can be; what it must ask the database it asks on the runtime of the
//! drivers, whose connections those are.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::{Engine, keeper};
use crate::{
    pipeline::{CheckpointError, Gate},
    store::{Fence, Patience, StoreError},
};

pub(super) struct LeaseGate {
    engine: Arc<Engine>,
    fence: Fence,
    drivers: Handle,
}

impl LeaseGate {
    /// The gate of a lease; it must be made on the runtime of the drivers.
    pub(super) fn new(engine: Arc<Engine>, fence: Fence) -> Self {
        Self {
            engine,
            fence,
            drivers: Handle::current(),
        }
    }
}

#[async_trait]
impl Gate for LeaseGate {
    async fn may_begin(&self) -> Result<(), CheckpointError> {
        if keeper::is_fresh(&self.engine, self.fence) {
            return Ok(());
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
