//! What can happen next, and what it does. Every decision is `flow`'s; a flaw is a deviation from it.

use graphmill::flow::{
    self, ActivityEvent, ActivityStatus, BatchStateName, ExecutionEvent, ExecutionStatus,
    LeaseState, NextStep, RingView, Stage, StageEnd, Stopping,
};
use stateright::{Model, Property};

use super::{
    setup::{Fault, Flaw, Setup},
    state::{Attempt, Delivery, Job, Offence, Phase, State},
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
    Stop(usize),
    Push(usize),
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
            | Self::Stop(id)
            | Self::Push(id)
            | Self::Thaw(id)
            | Self::Crash(id)
            | Self::Freeze(id)
            | Self::PushRefused(id)
            | Self::Drain(id)
            | Self::Postpone(id)
            | Self::Fail(id) => id,
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
            Phase::Leased(_, attempt) => {
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
            if let Phase::Leased(_, attempt) = worker.phase {
                if self.allows(Fault::Drain) {
                    actions.push(Action::Drain(id));
                }
                if self.allows(Fault::Trouble)
                    && attempt.unwritten == 0
                    && attempt.known != self.whole()
                {
                    actions.push(Action::Postpone(id));
                    actions.push(Action::Fail(id));
                }
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
        !self.has(Flaw::NoSweep) && row.view().must_ring(ring)
    }

    fn take(&self, state: &mut State, action: Action) {
        match action {
            Action::Admit(execution) => {
                admit(state, execution);
                let job = state.rings_for(execution);
                state.waiting.insert(job);
            }
            Action::AdmitAndDie(execution) => admit(state, execution),
            Action::BecomeDue(execution) => state.rows[execution].due = true,
            Action::Sweep(execution) => {
                state.rows[execution].rung = Some(state.seen);
                let job = state.rings_for(execution);
                state.waiting.insert(job);
            }
            Action::ApplyStop(execution) => cancel(state, execution),
            Action::Cancel(execution) => {
                if state.rows[execution].view().may_stop() {
                    cancel(state, execution);
                } else {
                    state.rows[execution].stop_requested = true;
                }
            }
            Action::Sequence => self.sequence(state),
            Action::LookAtRedis => state.seen = state.incarnation,
            Action::Expire(execution) => state.rows[execution].lease = LeaseState::Expired,
            Action::Redeliver(job) => {
                state.orphans.remove(&job);
                state.waiting.insert(job);
            }
            Action::Flush => {
                state.waiting.clear();
                state.incarnation += 1;
            }
            Action::Foreign(job) => {
                state.waiting.insert(job);
            }
            Action::Fetch(id, job) => {
                state.waiting.remove(&job);
                state.workers[id].phase = Phase::Fetched(Delivery {
                    job,
                    incarnation: state.incarnation,
                    acknowledged: false,
                });
            }
            Action::Acknowledge(id) => acknowledge(state, id),
            Action::Lease(id) => self.lease(state, id),
            Action::Renew(id) => {
                if let Phase::Leased(delivery, _) = state.workers[id].phase {
                    state.rows[delivery.job.execution].lease = LeaseState::Live;
                }
            }
            Action::Work(id) => self.work(state, id),
            Action::Checkpoint(id) => checkpoint(state, id),
            Action::PushFirst(id) => {
                if let Phase::Leased(delivery, attempt) = &mut state.workers[id].phase {
                    attempt.pushed = true;
                    state.waiting.extend(successor(*delivery, *attempt));
                }
            }
            Action::Settle(id) => self.settle(state, id, StageEnd::Done),
            Action::Stop(id) => self.settle(state, id, StageEnd::Stopped),
            Action::Postpone(id) => self.settle(state, id, StageEnd::Postponed),
            Action::Fail(id) => {
                if let Phase::Leased(delivery, _) = state.workers[id].phase {
                    let round = state.rows[delivery.job.execution].round;
                    let verdict = self.policy.on_failure(round, self.max_retries);
                    self.settle(state, id, StageEnd::Failed(verdict));
                }
            }
            Action::Push(id) => {
                if let Phase::Committed(delivery, job) = state.workers[id].phase {
                    state.waiting.insert(job);
                    state.workers[id].phase = Phase::Ended(delivery);
                }
            }
            Action::PushRefused(id) => {
                if let Phase::Committed(delivery, job) = state.workers[id].phase {
                    let row = &mut state.rows[job.execution];
                    if row.epoch == job.epoch && row.status == ExecutionStatus::Processing {
                        row.rung = None;
                    }
                    state.workers[id].phase = Phase::Ended(delivery);
                }
            }
            Action::Drain(id) => drain(state, id),
            Action::Crash(id) => self.crash(state, id),
            Action::Freeze(id) => state.workers[id].frozen = true,
            Action::Thaw(id) => state.workers[id].frozen = false,
        }
    }

    fn sequence(&self, state: &mut State) {
        let stopping = state.stopping.then_some(Stopping::Abort);
        let step = state
            .counts()
            .next_step(BatchStateName::Pending, self.policy, stopping);
        match step {
            NextStep::Abort => state.stopping = true,
            NextStep::Revive => {
                for row in &mut state.rows {
                    if let Ok(next) = row.status.on(ExecutionEvent::Revive) {
                        row.status = next;
                        row.round += 1;
                        row.due = true;
                    }
                }
            }
            NextStep::Wait | NextStep::Move(_) | NextStep::StartResolution => {}
        }
    }

    fn lease(&self, state: &mut State, id: usize) {
        let Phase::Fetched(delivery) = state.workers[id].phase else {
            return;
        };
        let Job {
            execution,
            stage,
            epoch,
        } = delivery.job;
        let (kept, batch) = (state.workers[id].recent[execution], state.batch());
        let row = &mut state.rows[execution];
        let mut view = row.view();
        let mut claim = (stage, epoch);
        if self.has(Flaw::LeaseOverLive) {
            view.lease = LeaseState::Free;
        }
        if self.has(Flaw::LeaseWithoutStage) {
            claim.0 = row.stage;
        }
        if self.has(Flaw::LeaseWithoutEpoch) {
            claim.1 = row.epoch;
        }
        if !view.may_lease(batch, claim.0, claim.1) {
            state.workers[id].phase = Phase::Ended(delivery);
            return;
        }
        // Whoever held it has lost it now, with the unit that he was at.
        state.excused += u8::from(row.lease == LeaseState::Expired);
        row.epoch += i64::from(!self.has(Flaw::LeaseKeepsEpoch));
        row.grants += 1;
        row.lease = LeaseState::Live;
        let (epoch, grant) = (row.epoch, row.grants);
        let before = row.checkpoints[stage as usize];
        // Somebody else's attempt that lost its lease is closed by the one who takes it.
        close_and_begin(state, execution);
        let fresh = kept.is_some_and(|settled| {
            flow::follows_directly(settled, epoch) || self.has(Flaw::RecentWithoutEpoch)
        });
        state.workers[id].recent[execution] = None;
        state.workers[id].phase = Phase::Leased(
            delivery,
            Attempt {
                stage,
                epoch,
                grant,
                known: if fresh { 0 } else { before },
                unwritten: 0,
                before,
                pushed: false,
            },
        );
    }

    fn work(&self, state: &mut State, id: usize) {
        let Phase::Leased(delivery, attempt) = &mut state.workers[id].phase else {
            return;
        };
        let row = &mut state.rows[delivery.job.execution];
        let of = attempt.stage as usize;
        let unit = 1 << attempt.known.trailing_ones();
        attempt.unwritten |= unit;
        if attempt.before & unit != 0 {
            state.offences.insert(Offence::Again);
        }
        if row.worked[of] & unit != 0 {
            match state.excused.checked_sub(1) {
                Some(left) => state.excused = left,
                None => {
                    state.offences.insert(Offence::Repeated);
                }
            }
        }
        row.worked[of] |= unit;
        let unsettled =
            |before: Stage| before.next() == Some(attempt.stage) && row.done[before as usize] == 0;
        if self.road().any(unsettled) {
            state.offences.insert(Offence::Early);
        }
    }

    fn settle(&self, state: &mut State, id: usize, end: StageEnd) {
        let Phase::Leased(delivery, attempt) = state.workers[id].phase else {
            return;
        };
        let execution = delivery.job.execution;
        let row = &mut state.rows[execution];
        let mut view = row.view();
        if self.has(Flaw::SettleWithoutEpoch) {
            view.epoch = attempt.epoch;
        }
        if self.has(Flaw::SettleWithoutOwner) {
            view.lease = LeaseState::Live;
        }
        state.workers[id].phase = Phase::Ended(delivery);
        if !view.may_write(attempt.epoch) {
            return;
        }
        if row.grants != attempt.grant {
            state.offences.insert(Offence::LateWrite);
        }
        if row.status.is_final() {
            state.offences.insert(Offence::Reopened);
        }
        let Ok(moved) = flow::settled(attempt.stage, end) else {
            state.offences.insert(Offence::Illegal);
            return;
        };
        row.status = moved.status;
        row.stage = moved.stage;
        row.attempt = moved.activity;
        row.lease = LeaseState::Free;
        row.checkpoints[attempt.stage as usize] |= attempt.unwritten;
        row.rung = (moved.status == ExecutionStatus::Processing).then_some(state.seen);
        row.due = moved.status != ExecutionStatus::Retry;
        if end != StageEnd::Done {
            return;
        }
        row.done[attempt.stage as usize] += 1;
        if let Some(next) = successor(delivery, attempt) {
            state.workers[id].recent[execution] = Some(attempt.epoch);
            if !attempt.pushed {
                state.workers[id].phase = Phase::Committed(delivery, next);
            }
        }
    }

    fn crash(&self, state: &mut State, id: usize) {
        let worker = &mut state.workers[id];
        let (Phase::Fetched(delivery)
        | Phase::Leased(delivery, _)
        | Phase::Committed(delivery, _)
        | Phase::Ended(delivery)) = worker.phase
        else {
            return;
        };
        worker.phase = Phase::Idle;
        worker.recent.fill(None);
        if self.has(Flaw::Redelivery) && !delivery.acknowledged {
            state.orphans.insert(delivery.job);
        }
    }
}

fn admit(state: &mut State, execution: usize) {
    let row = &mut state.rows[execution];
    match row.status.on(ExecutionEvent::Admit) {
        Ok(next) => row.status = next,
        Err(_) => {
            state.offences.insert(Offence::Illegal);
        }
    }
    row.rung = Some(state.seen);
}

fn cancel(state: &mut State, execution: usize) {
    let row = &mut state.rows[execution];
    match row.status.on(ExecutionEvent::Cancel) {
        Ok(next) => row.status = next,
        Err(_) => {
            state.offences.insert(Offence::Illegal);
        }
    }
    row.lease = LeaseState::Free;
    state.close_attempt(execution, ActivityEvent::Cancel);
}

/// The attempt that lost its lease is failed, and the next one runs.
fn close_and_begin(state: &mut State, execution: usize) {
    state.close_attempt(execution, ActivityEvent::Fail);
    match ActivityStatus::Pending.on(ActivityEvent::Start) {
        Ok(running) => state.rows[execution].attempt = running,
        Err(_) => {
            state.offences.insert(Offence::Illegal);
        }
    }
}

/// The job's id leaves Redis, and with it the meaning of a copy that waits, unless Redis has lost the mark that this
/// worker has it.
fn acknowledge(state: &mut State, id: usize) {
    match &mut state.workers[id].phase {
        Phase::Fetched(delivery) => delivery.acknowledged = true,
        Phase::Ended(delivery) => {
            let delivery = *delivery;
            if delivery.incarnation == state.incarnation && !delivery.acknowledged {
                state.waiting.remove(&delivery.job);
            }
            state.workers[id].phase = Phase::Idle;
        }
        Phase::Idle | Phase::Leased(..) | Phase::Committed(..) => {}
    }
}

fn checkpoint(state: &mut State, id: usize) {
    let Phase::Leased(delivery, attempt) = &mut state.workers[id].phase else {
        return;
    };
    let row = &mut state.rows[delivery.job.execution];
    if row.view().may_write(attempt.epoch) {
        row.checkpoints[attempt.stage as usize] |= attempt.unwritten;
        attempt.known |= attempt.unwritten;
        attempt.unwritten = 0;
    } else {
        state.workers[id].phase = Phase::Ended(*delivery);
    }
}

/// The lease goes back, and with it what is not written; the process starts anew.
fn drain(state: &mut State, id: usize) {
    let Phase::Leased(delivery, attempt) = state.workers[id].phase else {
        return;
    };
    let execution = delivery.job.execution;
    if state.rows[execution].view().may_write(attempt.epoch) {
        state.rows[execution].lease = LeaseState::Free;
        state.rows[execution].rung = None;
        state.close_attempt(execution, ActivityEvent::Fail);
        state.excused += 1;
    }
    state.workers[id].recent.fill(None);
    state.workers[id].phase = Phase::Ended(delivery);
}

/// The job that a settle of the attempt rings for: the next stage, at the epoch of the lease that settled.
fn successor(delivery: Delivery, attempt: Attempt) -> Option<Job> {
    attempt.stage.next().map(|stage| Job {
        stage,
        epoch: attempt.epoch,
        ..delivery.job
    })
}
