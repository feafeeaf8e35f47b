//! What can happen next, and what must always hold. `effect.rs` says what a step does.

use graphmill::flow::{ActivityStatus, ExecutionEvent, ExecutionStatus, LeaseState, RingView};
use stateright::{Model, Property};

use super::{
    setup::{Fault, Flaw, Setup},
    state::{Job, Offence, Phase, State},
};

/// One step of somebody, taken at once: a statement, a transaction, a Redis script, a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    // The stager, the sweeper, the sequencer, the doorbell, and time.
    Admit(usize),
    BecomeDue(usize),
    Sweep(usize),
    ApplyStop(usize),
    Sequence,
    LookAtRedis,
    Expire(usize),
    Redeliver(Job),
    // A worker.
    Fetch(usize, Job),
    Acknowledge(usize),
    Lease(usize),
    Renew(usize),
    Work(usize),
    Checkpoint(usize),
    PushFirst(usize),
    Settle(usize),
    SettleAndTakeUp(usize),
    /// Of an execution by a worker, for whom it is leased in the same transaction.
    AdmitAndTakeUp(usize, usize),
    Stop(usize),
    Push(usize),
    HandOn(usize),
    Thaw(usize),
    // Faults.
    Crash(usize),
    Freeze(usize),
    Flush,
    Foreign(Job),
    AdmitAndDie(usize),
    PushRefused(usize),
    Drain(usize),
    Postpone(usize),
    Fail(usize),
    Cancel(usize),
}

impl Action {
    pub(crate) const fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Crash(_)
                | Self::Freeze(_)
                | Self::Flush
                | Self::Foreign(_)
                | Self::AdmitAndDie(_)
                | Self::PushRefused(_)
                | Self::Drain(_)
                | Self::Postpone(_)
                | Self::Fail(_)
                | Self::Cancel(_)
        )
    }
}

impl Action {
    /// The step and, of a worker, which one: by the job that it has and the epoch that it works under. The numbers of
    /// workers say nothing, since they are sorted after each step.
    pub(crate) fn tell(&self, state: &State) -> String {
        let id = match *self {
            Self::Acknowledge(id)
            | Self::Lease(id)
            | Self::Renew(id)
            | Self::Work(id)
            | Self::Checkpoint(id)
            | Self::PushFirst(id)
            | Self::Settle(id)
            | Self::SettleAndTakeUp(id)
            | Self::Stop(id)
            | Self::Push(id)
            | Self::HandOn(id)
            | Self::Thaw(id)
            | Self::Crash(id)
            | Self::Freeze(id)
            | Self::PushRefused(id)
            | Self::Drain(id)
            | Self::Postpone(id)
            | Self::Fail(id) => id,
            Self::AdmitAndTakeUp(execution, _) => return format!("AdmitAndTakeUp({execution})"),
            Self::Fetch(_, job) => return format!("Fetch {} of epoch {}", job.stage, job.epoch),
            Self::Foreign(job) => return format!("Foreign {} of epoch {}", job.stage, job.epoch),
            Self::Redeliver(job) => {
                return format!("Redeliver {} of epoch {}", job.stage, job.epoch);
            }
            Self::Admit(_)
            | Self::BecomeDue(_)
            | Self::Sweep(_)
            | Self::ApplyStop(_)
            | Self::Sequence
            | Self::LookAtRedis
            | Self::Expire(_)
            | Self::Flush
            | Self::AdmitAndDie(_)
            | Self::Cancel(_) => return format!("{self:?}"),
        };
        let name = format!("{self:?}");
        let name = name.split('(').next().unwrap_or_default();
        match state.workers[id].phase {
            Phase::Idle => name.to_owned(),
            Phase::Leased(_, attempt) | Phase::TakenUp(_, attempt) => {
                format!("{name} {} under epoch {}", attempt.stage, attempt.epoch)
            }
            Phase::Fetched(delivery) | Phase::Committed(delivery, _) | Phase::Ended(delivery) => {
                format!(
                    "{name} {} of epoch {}",
                    delivery.job.stage, delivery.job.epoch
                )
            }
        }
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.actions_of_the_house(state, actions);
        for worker in 0..self.workers {
            self.actions_of_a_worker(state, worker, actions);
        }
        if state.budget > 0 {
            self.faults(state, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if action.is_fault() {
            state.budget -= 1;
        }
        self.take(&mut state, action);
        state.workers.sort();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn none(state: &State, offence: Offence) -> bool {
            !state.offences.contains(&offence)
        }
        vec![
            Property::always("a stage settles once", |_, state: &State| {
                state
                    .rows
                    .iter()
                    .all(|row| row.done.iter().all(|&times| times <= 1))
            }),
            Property::always("a late write is refused", |_, state| {
                none(state, Offence::LateWrite)
            }),
            Property::always("what is final stays so", |_, state| {
                none(state, Offence::Reopened)
            }),
            Property::always(
                "what is completed went all the way",
                |setup: &Self, state: &State| {
                    state.rows.iter().all(|row| {
                        row.status != ExecutionStatus::Completed
                            || setup.road().all(|stage| row.done[stage as usize] == 1)
                    })
                },
            ),
            Property::always("no stage before its turn", |_, state| {
                none(state, Offence::Early)
            }),
            Property::always("no unit after its checkpoint", |_, state| {
                none(state, Offence::Again)
            }),
            Property::always("a unit again only for a lost lease", |_, state| {
                none(state, Offence::Repeated)
            }),
            Property::always("only moves of the machines", |_, state| {
                none(state, Offence::Illegal)
            }),
            Property::always("who is leased is being processed", |_, state: &State| {
                state.rows.iter().all(|row| {
                    let leased = row.lease != LeaseState::Free;
                    (!leased || row.status == ExecutionStatus::Processing)
                        && leased == (row.attempt == ActivityStatus::Running)
                })
            }),
        ]
    }
}

impl Setup {
    fn actions_of_the_house(&self, state: &State, actions: &mut Vec<Action>) {
        for (execution, row) in state.rows.iter().enumerate() {
            let view = row.view();
            if view.may_admit(state.batch()) {
                actions.push(Action::Admit(execution));
            }
            if !row.due {
                actions.push(Action::BecomeDue(execution));
            }
            if self.must_ring(state, execution) {
                actions.push(Action::Sweep(execution));
            }
            let orphaned = row.stop_requested && !self.has(Flaw::NoOrphanedStops);
            if (state.stopping || orphaned) && view.may_stop() {
                actions.push(Action::ApplyStop(execution));
            }
            if row.lease == LeaseState::Live && !state.is_renewed(execution) {
                actions.push(Action::Expire(execution));
            }
        }
        actions.push(Action::Sequence);
        if state.seen != state.incarnation {
            actions.push(Action::LookAtRedis);
        }
        // The queue waits longer for an acknowledgement than a lease lasts.
        actions.extend(
            state
                .orphans
                .iter()
                .filter(|job| state.rows[job.execution].lease != LeaseState::Live)
                .map(|&job| Action::Redeliver(job)),
        );
    }

    fn actions_of_a_worker(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        let worker = &state.workers[id];
        if worker.frozen {
            actions.push(Action::Thaw(id));
            return;
        }
        match worker.phase {
            Phase::Idle => {
                actions.extend(state.waiting.iter().map(|&job| Action::Fetch(id, job)));
                let begins = (0..state.rows.len()).filter(|&execution| {
                    let row = &state.rows[execution];
                    row.stage == self.first
                        && row.view().may_admit(state.batch())
                        && !row.stop_requested
                });
                actions.extend(begins.map(|execution| Action::AdmitAndTakeUp(execution, id)));
            }
            Phase::Fetched(delivery) => {
                if self.has(Flaw::AckFirst) && !delivery.acknowledged {
                    actions.push(Action::Acknowledge(id));
                } else {
                    actions.push(Action::Lease(id));
                }
            }
            Phase::Leased(delivery, attempt) => {
                let row = &state.rows[delivery.job.execution];
                let done = attempt.known | attempt.unwritten;
                if attempt.unwritten == 0 && done != self.whole() {
                    actions.push(Action::Work(id));
                }
                // The last one goes with the settle.
                if attempt.unwritten != 0 && done != self.whole() {
                    actions.push(Action::Checkpoint(id));
                }
                if done == self.whole() {
                    let successor = attempt.stage.next().is_some();
                    if self.has(Flaw::PushFirst) && successor && !attempt.pushed {
                        actions.push(Action::PushFirst(id));
                    } else {
                        actions.push(Action::Settle(id));
                        if successor && !attempt.pushed {
                            actions.push(Action::SettleAndTakeUp(id));
                        }
                    }
                }
                if row.stop_requested || state.stopping {
                    actions.push(Action::Stop(id));
                }
                let mine = row.grants == attempt.grant && row.view().may_write(attempt.epoch);
                if mine && row.lease == LeaseState::Expired {
                    actions.push(Action::Renew(id));
                }
            }
            Phase::Committed(..) => actions.push(Action::Push(id)),
            Phase::TakenUp(delivery, attempt) => {
                actions.push(Action::HandOn(id));
                let row = &state.rows[delivery.job.execution];
                let mine = row.grants == attempt.grant && row.view().may_write(attempt.epoch);
                if mine && row.lease == LeaseState::Expired {
                    actions.push(Action::Renew(id));
                }
            }
            Phase::Ended(_) => actions.push(Action::Acknowledge(id)),
        }
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        for (execution, row) in state.rows.iter().enumerate() {
            if self.allows(Fault::Cancel)
                && !row.stop_requested
                && row.status.on(ExecutionEvent::Cancel).is_ok()
            {
                actions.push(Action::Cancel(execution));
            }
            if self.allows(Fault::LostRing) && row.view().may_admit(state.batch()) {
                actions.push(Action::AdmitAndDie(execution));
            }
            if self.allows(Fault::Foreign) && !row.status.is_final() {
                // A duplicate, a stale one, one that is to come, and the successor's.
                let next = row.stage.next().unwrap_or(row.stage);
                let foreign = [
                    (row.stage, row.epoch),
                    (row.stage, row.epoch - 1),
                    (row.stage, row.epoch + 1),
                    (next, row.epoch),
                ];
                actions.extend(foreign.map(|(stage, epoch)| {
                    Action::Foreign(Job {
                        execution,
                        stage,
                        epoch,
                    })
                }));
            }
        }
        if self.allows(Fault::Flush) {
            actions.push(Action::Flush);
        }
        for (id, worker) in state.workers.iter().enumerate() {
            if worker.frozen || worker.phase == Phase::Idle {
                continue;
            }
            let settled = !matches!(worker.phase, Phase::Fetched(_) | Phase::Leased(..));
            if self.allows(Fault::Crash) || (self.allows(Fault::EarlyCrash) && !settled) {
                actions.push(Action::Crash(id));
            }
            if self.allows(Fault::Freeze) {
                actions.push(Action::Freeze(id));
            }
            if self.allows(Fault::LostRing) && matches!(worker.phase, Phase::Committed(..)) {
                actions.push(Action::PushRefused(id));
            }
            if let Phase::Leased(..) | Phase::TakenUp(..) = worker.phase
                && self.allows(Fault::Drain)
            {
                actions.push(Action::Drain(id));
            }
            if let Phase::Leased(_, attempt) = worker.phase
                && self.allows(Fault::Trouble)
                && attempt.unwritten == 0
                && attempt.known != self.whole()
            {
                actions.push(Action::Postpone(id));
                actions.push(Action::Fail(id));
            }
        }
    }

    /// Whether the sweeper finds it. That a ring is overdue is a matter of time, and time passes.
    fn must_ring(&self, state: &State, execution: usize) -> bool {
        let row = &state.rows[execution];
        let mut ring = row.ring(state.seen, !self.has(Flaw::SweepWithoutPatience));
        if self.has(Flaw::SweepWithoutIncarnation) {
            ring = RingView { here: true, ..ring };
        }
        !self.has(Flaw::NoSweep) && row.view().must_ring(state.batch(), ring)
    }
}
