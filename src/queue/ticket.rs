//! A delivery on its way from the queue through a handler and back.
//!
//! Knows a job's id, its slot and how it ended. Must not know Redis or apalis. Invariant: every ticket reports
//! exactly once, when it is dropped, whatever happened to whoever held it: *done* if its handler was begun
//! (returned, panicked or aborted), *back* if not.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};

/// An id as Redis holds it; those of strangers need not be UTF-8.
pub(super) type JobId = Arc<[u8]>;

/// What the queue is to do with a job that its worker holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slip {
    /// Forget it: its handler has ended.
    Done(JobId),
    /// Put it back to the front: no handler has seen it.
    Back(JobId),
    /// Set it aside, for the reason given: nobody can read it.
    Bad(JobId, String),
}

impl Slip {
    /// Whose it is.
    pub(super) const fn id(&self) -> &JobId {
        match self {
            Self::Done(id) | Self::Back(id) | Self::Bad(id, _) => id,
        }
    }

    /// As the script reads it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Back(_) => "back",
            Self::Bad(..) => "bad",
        }
    }

    /// Why, if it is set aside.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Done(_) | Self::Back(_) => "",
            Self::Bad(_, reason) => reason,
        }
    }
}

/// The right to work on one job: it holds one of the stage's slots.
#[derive(Debug)]
pub(super) struct Ticket {
    id: JobId,
    slot: Option<OwnedSemaphorePermit>,
    begun: bool,
    slips: UnboundedSender<Slip>,
}

impl Ticket {
    /// A ticket for `id`, which reports to `slips`.
    pub(super) const fn new(
        id: JobId,
        slot: OwnedSemaphorePermit,
        slips: UnboundedSender<Slip>,
    ) -> Self {
        Self {
            id,
            slot: Some(slot),
            begun: false,
            slips,
        }
    }

    /// The job's id.
    pub(super) const fn id(&self) -> &JobId {
        &self.id
    }

    /// From now on the job counts as handled, however its handler ends.
    pub(super) const fn begin(&mut self) {
        self.begun = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // the slot first, so that whoever reads the slip finds it free and takes the next job in the same turn
        drop(self.slot.take());
        let id = self.id.clone();
        // a feeder that is gone has no use for it: the next heartbeat of another worker clears up
        let _ = self.slips.send(if self.begun {
            Slip::Done(id)
        } else {
            Slip::Back(id)
        });
    }
}

/// A readable job with its ticket.
#[derive(Debug)]
pub(super) struct Delivery<J> {
    /// The typed job.
    pub(super) job: J,
    /// The right to work on it.
    pub(super) ticket: Ticket,
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    #[test]
    fn a_ticket_reports_once_and_frees_its_slot_first() {
        let slots = Arc::new(Semaphore::new(2));
        let (sender, mut slips) = mpsc::unbounded_channel();
        let ticket = |id: &str| {
            let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
            Ticket::new(id.as_bytes().into(), slot, sender.clone())
        };
        let (unseen, mut begun) = (ticket("unseen"), ticket("begun"));
        assert_eq!(slots.available_permits(), 0);
        begun.begin();
        drop((unseen, begun));
        assert_eq!(
            slips.try_recv(),
            Ok(Slip::Back(b"unseen".as_slice().into()))
        );
        assert_eq!(slips.try_recv(), Ok(Slip::Done(b"begun".as_slice().into())));
        assert_eq!(slots.available_permits(), 2);
        assert!(slips.try_recv().is_err());
    }
}
