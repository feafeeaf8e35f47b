//! Ringing: an idempotent "push if absent" into a stage's queue, and how many rings wait there.
//!
//! Knows the id of a job and the window. Must not know why someone rings. Invariant: the same execution and epoch
//! is the same id, so that two who ring for it leave one job; and no more than the window waits in a queue.

use std::sync::LazyLock;

use graphmill_jobs::{Ring, StageJob};
use redis::Script;

use super::{
    connection::{Queue, QueueError},
    keys::with_job,
};
use crate::flow::Stage;

/// The most rings in one call of the script, so that no call holds up the server.
const RINGS_A_CALL: usize = 500;

static RING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ring.lua")));
static SLOTS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("slots.lua")));

/// A worker that was silent for longer has no slots: three heartbeats of the usual length.
const SILENCE_SECONDS: u64 = 15;

/// What became of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// It waits in the queue now.
    Pushed,
    /// It waited there or was in flight already; nothing was written.
    Present,
    /// The queue's window is full; nothing was written.
    Full,
}

impl Queue {
    /// Rings `stage`'s queue for each of `rings`, unless it was rung for that execution and epoch already, or
    /// `window` rings wait there. The answers are in the order of the rings.
    ///
    /// Safe to be cancelled and to be repeated.
    ///
    /// # Errors
    ///
    /// [`QueueError::Ring`]: some rings may have been pushed; trying again is safe and helps once Redis is there.
    /// [`QueueError::Encode`]: trying again does not help.
    pub async fn ring(
        &self,
        stage: Stage,
        rings: &[Ring],
        window: usize,
    ) -> Result<Vec<Rung>, QueueError> {
        self.push(stage, rings, window, false, false).await
    }

    /// [`ring`](Self::ring), or with `again` [`ring_again`](Self::ring_again), for what is to be taken before all that
    /// waits. It has a window of its own, and never keeps the others waiting for good: of four jobs that are taken
    /// one is theirs.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring).
    pub async fn ring_first(
        &self,
        stage: Stage,
        rings: &[Ring],
        window: usize,
        again: bool,
    ) -> Result<Vec<Rung>, QueueError> {
        self.push(stage, rings, window, again, true).await
    }

    /// [`ring`](Self::ring) for those who got no answer: an id that is known but waits nowhere (its worker died,
    /// or is slow) is pushed once more. The second delivery is harmless, because the lease decides.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring).
    pub async fn ring_again(
        &self,
        stage: Stage,
        rings: &[Ring],
        window: usize,
    ) -> Result<Vec<Rung>, QueueError> {
        self.push(stage, rings, window, true, false).await
    }

    async fn push(
        &self,
        stage: Stage,
        rings: &[Ring],
        window: usize,
        again: bool,
        first: bool,
    ) -> Result<Vec<Rung>, QueueError> {
        let keys = self.keys(stage);
        let (list, other, channel) = if first {
            (&keys.first, &keys.active, &keys.first_channel)
        } else {
            (&keys.active, &keys.first, &keys.channel)
        };
        let mut outcome = Vec::with_capacity(rings.len());
        for some in rings.chunks(RINGS_A_CALL) {
            let mut call = RING.prepare_invoke();
            call.key(&keys.data).key(list).key(other);
            call.arg(window)
                .arg(u8::from(again))
                .arg(&keys.meta)
                .arg(channel);
            for ring in some {
                let payload =
                    payload(stage, ring).map_err(|source| QueueError::Encode { stage, source })?;
                call.arg(job_id(stage, ring)).arg(payload);
            }
            let answers: Vec<i64> = call
                .invoke_async(&mut self.redis.clone())
                .await
                .map_err(|source| QueueError::Ring { stage, source })?;
            outcome.extend(answers.into_iter().map(|answer| match answer {
                1 => Rung::Pushed,
                2 => Rung::Present,
                _ => Rung::Full,
            }));
        }
        Ok(outcome)
    }

    /// How many rings wait in `stage`'s queue; those in flight don't count.
    ///
    /// # Errors
    ///
    /// [`QueueError::Depth`]; trying again helps once Redis is there.
    pub async fn depth(&self, stage: Stage) -> Result<usize, QueueError> {
        let keys = self.keys(stage);
        let (active, first): (usize, usize) = redis::pipe()
            .llen(&keys.active)
            .llen(&keys.first)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Depth)?;
        Ok(active + first)
    }

    /// How many rings wait in each queue, in the order of [`Stage::ALL`]. One round trip.
    ///
    /// # Errors
    ///
    /// [`QueueError::Depth`]; trying again helps once Redis is there.
    pub async fn depths(&self) -> Result<[usize; 6], QueueError> {
        let mut pipe = redis::pipe();
        for stage in Stage::ALL {
            pipe.llen(&self.keys(stage).active);
        }
        for stage in Stage::ALL {
            pipe.llen(&self.keys(stage).first);
        }
        let both: [usize; 12] = pipe
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Depth)?;
        Ok(std::array::from_fn(|stage| both[stage] + both[stage + 6]))
    }

    /// How many slots the living workers of all processes have for each stage, in the order of [`Stage::ALL`]:
    /// what a window is measured by. One round trip.
    ///
    /// # Errors
    ///
    /// [`QueueError::Depth`]; trying again helps once Redis is there.
    pub async fn live_slots(&self) -> Result<[usize; 6], QueueError> {
        let mut call = SLOTS.prepare_invoke();
        for stage in Stage::ALL {
            call.key(&self.keys(stage).workers);
        }
        call.arg(SILENCE_SECONDS)
            .invoke_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::Depth)
    }
}

/// The job's id. The stage in front keeps it from being taken for a UUID, a ULID or a number, which apalis would
/// write in another way than they were given.
pub(super) fn job_id(stage: Stage, ring: &Ring) -> String {
    format!("{stage}:{}:{}", ring.execution.uuid().simple(), ring.epoch)
}

pub(super) fn payload(stage: Stage, ring: &Ring) -> Result<Vec<u8>, serde_json::Error> {
    with_job!(stage, Job => serde_json::to_vec(&Job::new(ring.clone())))
}

#[cfg(test)]
mod tests {
    use apalis_core::task::task_id::TaskId;
    use graphmill_jobs::{OrganizationId, WorkflowExecutionId};

    use super::*;

    #[test]
    fn an_id_survives_the_way_through_apalis_and_says_what_it_is() {
        for stage in Stage::ALL {
            for epoch in [0, 7, -1, i64::MAX] {
                let ring = Ring {
                    execution: WorkflowExecutionId::generate(),
                    organization: OrganizationId::DEFAULT,
                    epoch,
                    version: 1,
                    traceparent: None,
                };
                let id = job_id(stage, &ring);
                let parsed: TaskId = id.parse().unwrap();
                assert_eq!(parsed, TaskId::String(id.clone()));
                assert_eq!(parsed.to_string(), id);
            }
        }
    }
}
