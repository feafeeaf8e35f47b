//! Checkpoints of the durable path. Those of paid units are written at once; those of unpaid units may share a write
//! for up to 50 ms. Those of a head start wait for its lease. The last ones of a stage go with the settle, which follows at once: one commit, not two.
//!
//! A stage that takes a while says how far it is, in the transactions that make that so: what is told was counted off
//! the checkpoints, and one that settles at once is told by its settle alone.

use std::time::Duration;

use async_trait::async_trait;
use graphmill_jobs::BatchId;
use tokio::time::Instant;

use super::{
    Engine,
    head_start::Grant,
    steps::{Step, reached},
};
use crate::{
    flow::{Event, EventKind, Reached, Stage},
    metrics,
    pipeline::{CheckpointError, Checkpoints, UnitOutcome, UnitRecord},
    store::{self, CheckpointRow, Fence, Lease, Patience, StoreError, UnitEnd},
};

/// How long the checkpoint of an unpaid unit may wait. **Source:** DESIGN §2.6.
const WAIT: Duration = Duration::from_millis(50);

/// How long a stage is in work before it says how far it is, and how long it says nothing more then. **Source:** ours:
/// a document that nobody has time to look at costs no event, and one that takes minutes costs one a second.
const SAY: Duration = Duration::from_millis(500);
const SAY_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Sink<'a> {
    engine: &'a Engine,
    stage: Stage,
    batch: BatchId,
    fence: Fence,
    paid: bool,
    /// The lease is still to be granted, and nothing is written before.
    grant: Option<Grant>,
    waiting: Vec<CheckpointRow>,
    since: Option<Instant>,
    /// Units that are through; none while they are not counted.
    reached: Option<Reached>,
    /// What was told last.
    told: Option<Reached>,
    /// When there is something to tell.
    tell_at: Instant,
}

impl<'a> Sink<'a> {
    /// `grant`: the lease is still to be granted.
    pub(super) fn new(
        engine: &'a Engine,
        stage: Stage,
        lease: &Lease,
        paid: bool,
        grant: Option<Grant>,
    ) -> Self {
        Self {
            engine,
            stage,
            batch: lease.batch,
            fence: lease.fence,
            paid,
            grant,
            waiting: Vec::new(),
            since: None,
            reached: None,
            told: None,
            tell_at: Instant::now() + SAY,
        }
    }

    /// How far the stage is, where its units are counted.
    pub(super) const fn reached(&self) -> Option<Reached> {
        self.reached
    }

    /// What is to be told now, if anything is.
    fn news(&self) -> Option<Reached> {
        let due = Instant::now() >= self.tell_at;
        self.reached.filter(|_| due && self.reached != self.told)
    }

    /// The checkpoints that are to go with the settle.
    pub(super) fn rest(self) -> Vec<CheckpointRow> {
        self.waiting
    }

    async fn write(&self, news: Option<Reached>) -> Result<bool, StoreError> {
        let organization = self.fence.organization;
        let mut transaction = self.engine.store.app(organization).await?;
        let held = store::record_units(&mut transaction, self.fence, &self.waiting).await?;
        if let (true, Some(Reached { current, total })) = (held, news) {
            let event = Event {
                organization,
                batch: self.batch,
                execution: Some(self.fence.execution),
                kind: EventKind::StageProgress {
                    stage: self.stage,
                    current,
                    total,
                },
            };
            store::append_event(&mut transaction, &event).await?;
        }
        transaction.commit().await?;
        Ok(held)
    }

    async fn flush(&mut self) -> Result<(), CheckpointError> {
        let news = self.news();
        if self.waiting.is_empty() && news.is_none() {
            return Ok(());
        }
        if let Some(grant) = &self.grant {
            if !grant.is_given().await {
                return Err(CheckpointError::LeaseLost);
            }
            self.grant = None;
        }
        let mut patience = Patience::new();
        let held = loop {
            match self.write(news).await {
                Err(error) if patience.again(&error).await => {}
                result => break result.map_err(|error| CheckpointError::Write(error.into()))?,
            }
        };
        if news.is_some() {
            self.told = news;
            self.tell_at = Instant::now() + SAY_AGAIN;
            self.engine.sequencer.ring();
        }
        let written = !std::mem::take(&mut self.waiting).is_empty();
        self.since = None;
        if !held {
            return Err(CheckpointError::LeaseLost);
        }
        if written {
            reached(self.stage, Step::UnitDone, self.fence.execution);
        }
        Ok(())
    }
}

#[async_trait]
impl Checkpoints for Sink<'_> {
    fn planned(&mut self, through: usize, units: usize) {
        self.reached = Some(Reached {
            current: through as u64,
            total: units as u64,
        });
    }

    async fn record(
        &mut self,
        records: Vec<UnitRecord>,
        last: bool,
    ) -> Result<(), CheckpointError> {
        for record in records {
            if let (Some(reached), UnitOutcome::Done(_) | UnitOutcome::Failed(_)) =
                (&mut self.reached, &record.outcome)
            {
                reached.current = (reached.current + 1).min(reached.total);
            }
            let outcome = match &record.outcome {
                UnitOutcome::Done(_) => "done",
                UnitOutcome::Retry(_) => "retry",
                UnitOutcome::Failed(_) => "failed",
            };
            metrics::get().work.unit(self.stage.as_str(), outcome);
            self.waiting.push(to_row(record)?);
        }
        self.since.get_or_insert_with(Instant::now);
        match (last, self.paid) {
            (true, _) => Ok(()),
            (false, true) => self.flush().await,
            (false, false) => self.tick().await,
        }
    }

    async fn tick(&mut self) -> Result<(), CheckpointError> {
        let waited = self.since.is_some_and(|since| since.elapsed() >= WAIT);
        if waited || self.news().is_some() {
            self.flush().await?;
        }
        Ok(())
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
