//! What a step does. Every decision is `flow`'s; a flaw is a deviation from it.

use graphmill::flow::{
    self, ActivityEvent, ActivityStatus, BatchStateName, ExecutionEvent, ExecutionStatus,
    LeaseState, NextStep, Stage, StageEnd, Stopping,
};

use super::{
    setup::{Flaw, Setup},
    state::{Attempt, Delivery, Job, Offence, Phase, State},
    step::Action,
};

impl Setup {
    /// Takes the step.
    pub(crate) fn take(&self, state: &mut State, action: Action) {
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
                if let Phase::Leased(delivery, _) | Phase::TakenUp(delivery, _) =
                    state.workers[id].phase
                {
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
            Action::SettleAndTakeUp(id) => {
                self.settle(state, id, StageEnd::Done);
                // It keeps what it knew.
                take_up(state, id, true);
            }
            Action::AdmitAndTakeUp(execution, id) => admit_and_take_up(state, execution, id),
            Action::HandOn(id) => hand_on(state, id),
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
            NextStep::Wait | NextStep::Move(_) | NextStep::StartResolution | NextStep::Seal => {}
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
        | Phase::TakenUp(delivery, _)
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

/// There is no job before it that would have to be acknowledged.
fn admit_and_take_up(state: &mut State, execution: usize, id: usize) {
    admit(state, execution);
    let job = state.rings_for(execution);
    let nothing = Delivery {
        job,
        incarnation: state.incarnation,
        acknowledged: true,
    };
    state.workers[id].phase = Phase::Committed(nothing, job);
    take_up(state, id, false);
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
        Phase::Idle | Phase::Leased(..) | Phase::Committed(..) | Phase::TakenUp(..) => {}
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

/// In the transaction that has just settled or admitted, the stage to come is leased to whoever did that, if it may be.
fn take_up(state: &mut State, id: usize, knows: bool) {
    let (Phase::Committed(delivery, job), batch) = (state.workers[id].phase, state.batch()) else {
        return;
    };
    let row = &mut state.rows[job.execution];
    if !row.view().may_lease(batch, job.stage, job.epoch) {
        return;
    }
    row.epoch += 1;
    row.grants += 1;
    row.lease = LeaseState::Live;
    let before = row.checkpoints[job.stage as usize];
    let attempt = Attempt {
        stage: job.stage,
        epoch: row.epoch,
        grant: row.grants,
        known: if knows { 0 } else { before },
        unwritten: 0,
        before,
        pushed: false,
    };
    close_and_begin(state, job.execution);
    state.workers[id].recent[job.execution] = None;
    state.workers[id].phase = Phase::TakenUp(delivery, attempt);
}

/// The successor's job is in flight in Redis, and its handler begins; the job before it is acknowledged.
fn hand_on(state: &mut State, id: usize) {
    let Phase::TakenUp(delivery, attempt) = state.workers[id].phase else {
        return;
    };
    if delivery.incarnation == state.incarnation && !delivery.acknowledged {
        state.waiting.remove(&delivery.job);
    }
    let job = Job {
        execution: delivery.job.execution,
        stage: attempt.stage,
        epoch: attempt.epoch - 1,
    };
    let handed = Delivery {
        job,
        incarnation: state.incarnation,
        acknowledged: false,
    };
    state.workers[id].phase = Phase::Leased(handed, attempt);
}

/// The lease goes back, and with it what is not written; the process starts anew.
fn drain(state: &mut State, id: usize) {
    let (Phase::Leased(delivery, attempt) | Phase::TakenUp(delivery, attempt)) =
        state.workers[id].phase
    else {
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
