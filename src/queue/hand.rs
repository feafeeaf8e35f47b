//! Handing on: the job that follows one in work, or a document that has ended, is pushed and taken in one step, by the
//! worker of its stage in the same process.
//!
//! Knows slots and what a feeder is given. Must not know Redis, or why somebody goes on with a job himself.
//! Invariants: whoever hands a job on holds a slot of its stage before; and nobody who waits in that stage's queue for
//! a slot is overtaken.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use graphmill_jobs::Ring;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::flow::Stage;

/// For so many slots there is one more for jobs from the front alone.
pub(super) const FRONT: usize = 4;

/// A job that is handed on.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) ring: Ring,
    pub(super) slot: OwnedSemaphorePermit,
    /// Told when the worker of its stage has it.
    pub(super) told: oneshot::Sender<()>,
}

/// What one stage is handed.
#[derive(Debug)]
pub(super) struct Desk {
    /// Free slots; every job in flight holds one, whichever worker took it.
    pub(super) slots: Arc<Semaphore>,
    /// Free slots beyond those, for jobs from the front of the queue alone: a newcomer's need not wait until one of
    /// the others has ended, which are held back for its sake.
    pub(super) front: Arc<Semaphore>,
    /// Somebody may wait in the queue, and at its front.
    crowded: AtomicBool,
    crowded_front: AtomicBool,
    inbox: Mutex<VecDeque<Handed>>,
    /// Told when something is handed in.
    pub(super) handed: Notify,
}

impl Desk {
    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            front: Arc::new(Semaphore::new(slots / FRONT)),
            crowded: AtomicBool::new(false),
            crowded_front: AtomicBool::new(false),
            inbox: Mutex::default(),
            handed: Notify::new(),
        }
    }

    /// Says whether somebody may wait in the queue, and whether at its front.
    pub(super) fn say(&self, crowded: bool, crowded_front: bool) {
        self.crowded.store(crowded, Ordering::Relaxed);
        self.crowded_front.store(crowded_front, Ordering::Relaxed);
    }

    /// A slot that nobody in the queue waits for; `first`: of a job that would be rung for at the front.
    fn free_slot(&self, first: bool) -> Option<OwnedSemaphorePermit> {
        let any = (&self.crowded, &self.slots);
        let ahead = (&self.crowded_front, &self.front);
        let kinds = if first { &[any, ahead][..] } else { &[any] };
        kinds
            .iter()
            .filter(|(crowded, _)| !crowded.load(Ordering::Relaxed))
            .find_map(|(_, slots)| Arc::clone(slots).try_acquire_owned().ok())
    }

    /// Takes what was handed in, `most` at most.
    pub(super) fn take(&self, most: usize) -> Vec<Handed> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inbox.len().min(most);
        inbox.drain(..count).collect()
    }

    fn put(&self, handed: Handed) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(handed);
        self.handed.notify_one();
    }
}

/// The desks of a process, by stage.
#[derive(Debug)]
pub(super) struct Desks {
    desks: [Desk; 6],
    stop: CancellationToken,
}

impl Desks {
    /// `slots` of each stage.
    pub(super) fn new(slots: [usize; 6], stop: CancellationToken) -> Self {
        let desks = slots.map(|slots| Desk::new(slots.min(Semaphore::MAX_PERMITS)));
        Self { desks, stop }
    }

    pub(super) const fn of(&self, stage: Stage) -> &Desk {
        &self.desks[stage as usize]
    }
}

/// How a handler, or whoever admits, hands the next job on.
#[derive(Clone)]
pub struct Onward(Arc<Desks>);

impl Onward {
    pub(super) const fn new(desks: Arc<Desks>) -> Self {
        Self(desks)
    }

    /// A slot of `stage` in this process, if one is free that nobody in the queue waits for, and work is still taken.
    /// `first`: the job would be rung for at the front, and may have one of the slots that are kept for that.
    #[must_use]
    pub fn reserve(&self, stage: Stage, first: bool) -> Option<Reserved> {
        if self.0.stop.is_cancelled() {
            return None;
        }
        let slot = self.0.of(stage).free_slot(first)?;
        Some(Reserved {
            desks: Arc::clone(&self.0),
            stage,
            slot,
        })
    }
}

impl fmt::Debug for Onward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onward")
    }
}

/// A slot that is kept for the job that follows. Dropping it gives it back.
#[derive(Debug)]
pub struct Reserved {
    desks: Arc<Desks>,
    stage: Stage,
    slot: OwnedSemaphorePermit,
}

impl Reserved {
    /// Whose slot it is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Hands the job on to the worker of its stage here: in Redis it is pushed and in flight from then on, as if it had
    /// waited and been taken. Without Redis the worker gets it all the same. Returns whether it has certainly got it;
    /// when the process stops it may not.
    pub async fn hand(self, ring: Ring) -> bool {
        let (told, heard) = oneshot::channel();
        let slot = self.slot;
        self.desks.of(self.stage).put(Handed { ring, slot, told });
        tokio::select! {
            biased;
            heard = heard => heard.is_ok(),
            // Perhaps nobody looks at that desk any more.
            () = self.desks.stop.cancelled() => false,
        }
    }
}
