//! Checkpoints of the durable path. Those of paid units are written at once; those of unpaid units may share a write
//! for up to 50 ms. The last one of a stage goes with the settle, which follows at once: one commit, not two.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Engine,
    steps::{Step, reached},
};
use crate::{
    flow::Stage,
    pipeline::{CheckpointError, Checkpoints, UnitOutcome, UnitRecord},
    store::{self, CheckpointRow, Fence, Patience, StoreError, UnitEnd},
};

/// How long the checkpoint of an unpaid unit may wait. **Source:** DESIGN §2.6.
const WAIT: Duration = Duration::from_millis(50);

pub(super) struct Sink<'a> {
    engine: &'a Engine,
    stage: Stage,
    fence: Fence,
    paid: bool,
    waiting: Vec<CheckpointRow>,
    since: Option<Instant>,
}

impl<'a> Sink<'a> {
    pub(super) const fn new(engine: &'a Engine, stage: Stage, fence: Fence, paid: bool) -> Self {
        Self {
            engine,
            stage,
            fence,
            paid,
            waiting: Vec::new(),
            since: None,
        }
    }

    /// The checkpoints that are to go with the settle.
    pub(super) fn rest(self) -> Vec<CheckpointRow> {
        self.waiting
    }

    async fn write(&self) -> Result<bool, StoreError> {
        let mut transaction = self.engine.store.app(self.fence.organization).await?;
        let held = store::record_units(&mut transaction, self.fence, &self.waiting).await?;
        transaction.commit().await?;
        Ok(held)
    }

    async fn flush(&mut self) -> Result<(), CheckpointError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut patience = Patience::new();
        let held = loop {
            match self.write().await {
                Err(error) if patience.again(&error).await => {}
                result => break result.map_err(|error| CheckpointError::Write(error.into()))?,
            }
        };
        self.waiting.clear();
        self.since = None;
        if held {
            reached(self.stage, Step::UnitDone, self.fence.execution);
            Ok(())
        } else {
            Err(CheckpointError::LeaseLost)
        }
    }
}

#[async_trait]
impl Checkpoints for Sink<'_> {
    async fn record(&mut self, record: UnitRecord, last: bool) -> Result<(), CheckpointError> {
        self.waiting.push(to_row(record)?);
        self.since.get_or_insert_with(Instant::now);
        match (last, self.paid) {
            (true, _) => Ok(()),
            (false, true) => self.flush().await,
            (false, false) => self.tick().await,
        }
    }

    async fn tick(&mut self) -> Result<(), CheckpointError> {
        match self.since {
            Some(since) if since.elapsed() >= WAIT => self.flush().await,
            Some(_) | None => Ok(()),
        }
    }
}

fn to_row(record: UnitRecord) -> Result<CheckpointRow, CheckpointError> {
    let end = match record.outcome {
        UnitOutcome::Done(output) => UnitEnd::Done(
            output
                .to_json()
                .map_err(|error| CheckpointError::Write(error.into()))?,
        ),
        UnitOutcome::Retry(failure) => UnitEnd::Retry(failure),
        UnitOutcome::Failed(failure) => UnitEnd::Failed(failure),
    };
    Ok(CheckpointRow {
        stage: record.stage,
        unit: record.unit,
        round: record.round,
        tries: i32::try_from(record.tries).unwrap_or(i32::MAX),
        deaths: i32::try_from(record.deaths).unwrap_or(i32::MAX),
        input_hash: record.input_hash,
        end,
    })
}
