//! What a model's world looks like at one instant: rows in Postgres, jobs in Redis, what each worker has in its
//! memory, and what a witness outside has seen.

use std::collections::BTreeSet;

use graphmill::flow::{
    ActivityEvent, ActivityStatus, BatchCounts, BatchView, EventKind, ExecutionStatus,
    ExecutionView, Failure, FailureCode, LeaseState, Replaced, RingView, Stage, WORKFLOW_VERSION,
};

use super::setup::Setup;

/// Executions in a model at most.
const MOST: usize = 2;

/// A job: what a ring says. It is its own id, so a queue holds each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Job {
    pub(crate) execution: usize,
    pub(crate) stage: Stage,
    pub(crate) epoch: i64,
}

/// An execution's row, its checkpoints and its latest attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) status: ExecutionStatus,
    pub(crate) stage: Stage,
    pub(crate) epoch: i64,
    pub(crate) lease: LeaseState,
    pub(crate) due: bool,
    pub(crate) stop_requested: bool,
    pub(crate) round: i32,
    /// At which incarnation of Redis it was rung last.
    pub(crate) rung: Option<u8>,
    pub(crate) attempt: ActivityStatus,
    /// Units done, by stage.
    pub(crate) checkpoints: [u8; 6],
    /// Seen from outside: leases granted, which is also who holds the lease.
    pub(crate) grants: u8,
    /// Seen from outside: how often each stage was settled as done.
    pub(crate) done: [u8; 6],
    /// Seen from outside: units that somebody has worked to the end, by stage.
    pub(crate) worked: [u8; 6],
}

impl Row {
    fn new(first: Stage) -> Self {
        Self {
            status: ExecutionStatus::Queued,
            stage: first,
            epoch: 0,
            lease: LeaseState::Free,
            due: true,
            stop_requested: false,
            round: 0,
            rung: None,
            attempt: ActivityStatus::Pending,
            checkpoints: [0; 6],
            grants: 0,
            done: [0; 6],
            worked: [0; 6],
        }
    }

    pub(crate) const fn view(&self) -> ExecutionView {
        ExecutionView {
            status: self.status,
            stage: self.stage,
            epoch: self.epoch,
            lease: self.lease,
            due: self.due,
            paused: false,
            stop_requested: self.stop_requested,
            version: WORKFLOW_VERSION,
        }
    }

    pub(crate) fn ring(&self, incarnation: u8, overdue: bool) -> RingView {
        RingView {
            rung: self.rung.is_some(),
            overdue,
            here: self.rung == Some(incarnation),
        }
    }

    /// What the sequencer has heard of it, as far as the batch's counts go.
    fn tell(&self, counts: &mut BatchCounts) {
        let failure = || Failure::terminal(FailureCode::Extractor, "no");
        match self.status {
            ExecutionStatus::Queued | ExecutionStatus::Processing | ExecutionStatus::Retry => {}
            ExecutionStatus::Failed => {
                counts.fold(&EventKind::DocumentFailed {
                    failure: failure(),
                    stage: None,
                    reached: None,
                });
            }
            ExecutionStatus::Completed => counts.fold(&EventKind::DocumentCompleted {
                partial: false,
                entities: 0,
                relations: 0,
                replaced: Replaced::default(),
            }),
            ExecutionStatus::Abandoned => {
                counts.fold(&EventKind::DocumentAbandoned {
                    failure: failure(),
                    stage: None,
                    reached: None,
                });
            }
            ExecutionStatus::Cancelled => {
                counts.fold(&EventKind::DocumentCancelled {
                    was_failed: false,
                    stage: None,
                });
            }
        }
    }
}

/// A job on its way through a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Delivery {
    pub(crate) job: Job,
    /// Which Redis it came from, and holds the mark that it is in flight.
    pub(crate) incarnation: u8,
    pub(crate) acknowledged: bool,
}

/// What a worker has in its memory while it holds a lease, or believes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) stage: Stage,
    pub(crate) epoch: i64,
    /// Which of the grants it is, seen from outside.
    pub(crate) grant: u8,
    /// Units that it knows to be checkpointed.
    pub(crate) known: u8,
    /// Units that it has worked and not written yet.
    pub(crate) unwritten: u8,
    /// Units that were checkpointed when it began, seen from outside.
    pub(crate) before: u8,
    /// Its successor's job is pushed already: [`super::setup::Flaw::PushFirst`].
    pub(crate) pushed: bool,
}

/// How far a worker is with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    Idle,
    Fetched(Delivery),
    Leased(Delivery, Attempt),
    /// Settled; the successor's job is not pushed yet.
    Committed(Delivery, Job),
    /// Settled or admitted, and the stage to come leased with it; its job is not handed on yet.
    TakenUp(Delivery, Attempt),
    /// Its handler has returned; the job is not acknowledged yet.
    Ended(Delivery),
}

/// A worker process with one slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) frozen: bool,
    /// The epoch at which it settled each execution last, if it kept what it knew.
    pub(crate) recent: [Option<i64>; MOST],
}

/// What must never be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Offence {
    /// A write was taken from somebody after another one was given the lease.
    LateWrite,
    /// A stage was worked before the one before it was settled.
    Early,
    /// A unit was worked by an attempt that began after its checkpoint.
    Again,
    /// A unit was worked a second time although no lease was lost.
    Repeated,
    /// A final execution was moved.
    Reopened,
    /// A machine was asked for a move that it does not have.
    Illegal,
}

/// The world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: Vec<Row>,
    /// The batch is being aborted.
    pub(crate) stopping: bool,
    /// Jobs that wait in Redis, of all queues. They are delivered in any order.
    pub(crate) waiting: BTreeSet<Job>,
    /// Jobs of dead workers, which a queue with redelivery would still have.
    pub(crate) orphans: BTreeSet<Job>,
    pub(crate) incarnation: u8,
    /// Which Redis the doorbell has seen last.
    pub(crate) seen: u8,
    /// In order, since one is like the other: half the states.
    pub(crate) workers: Vec<Worker>,
    /// Faults left.
    pub(crate) budget: u8,
    /// Leases lost (taken over or handed back), less the units that were worked again.
    pub(crate) excused: u8,
    pub(crate) offences: BTreeSet<Offence>,
}

impl State {
    pub(crate) fn new(setup: &Setup) -> Self {
        let worker = Worker {
            phase: Phase::Idle,
            frozen: false,
            recent: [None; MOST],
        };
        Self {
            rows: vec![Row::new(setup.first); setup.executions],
            stopping: false,
            waiting: BTreeSet::new(),
            orphans: BTreeSet::new(),
            incarnation: 0,
            seen: 0,
            workers: vec![worker; setup.workers],
            budget: setup.budget,
            excused: 0,
            offences: BTreeSet::new(),
        }
    }

    pub(crate) fn all_final(&self) -> bool {
        self.rows.iter().all(|row| row.status.is_final())
    }

    pub(crate) const fn batch(&self) -> BatchView {
        BatchView {
            stopping: self.stopping,
            paused: false,
            ended: false,
        }
    }

    /// What the events of the sealed batch add up to.
    pub(crate) fn counts(&self) -> BatchCounts {
        let mut counts = BatchCounts::default();
        counts.fold(&EventKind::DocumentsAdded {
            accepted: self.rows.len() as u64,
            refused: 0,
            duplicate: 0,
        });
        counts.fold(&EventKind::BatchSealed);
        for row in &self.rows {
            row.tell(&mut counts);
        }
        counts
    }

    /// The job that is pushed for it.
    pub(crate) fn rings_for(&self, execution: usize) -> Job {
        let row = &self.rows[execution];
        Job {
            execution,
            stage: row.stage,
            epoch: row.epoch,
        }
    }

    /// Whether somebody renews the execution's lease.
    pub(crate) fn is_renewed(&self, execution: usize) -> bool {
        self.workers.iter().any(|worker| {
            matches!(worker.phase, Phase::Leased(delivery, attempt) | Phase::TakenUp(delivery, attempt)
                if !worker.frozen
                    && delivery.job.execution == execution
                    && attempt.grant == self.rows[execution].grants)
        })
    }

    /// Ends the execution's running attempt.
    pub(crate) fn close_attempt(&mut self, execution: usize, event: ActivityEvent) {
        let row = &mut self.rows[execution];
        if row.attempt != ActivityStatus::Running {
            return;
        }
        match row.attempt.on(event) {
            Ok(next) => row.attempt = next,
            Err(_) => {
                self.offences.insert(Offence::Illegal);
            }
        }
    }
}
