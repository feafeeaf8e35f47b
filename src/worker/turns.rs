//! Turns at this process' processors and connections: while several batches have work, only so many stages compute or
//! write at a time, and whose turn is next is decided by what each batch has had so far.
//!
//! Each batch has an account of the time for which it had a turn, divided by its weight; the next turn is the batch's
//! with the least on it. So batches share by what their work takes, whatever a document of theirs is like, and nothing
//! is kept free for anybody who does not want it. Whoever comes anew, or has wanted nothing for a while, is put
//! [`CREDIT`] behind the others and so goes ahead of them until that is used up: a small batch is through before it
//! shares with a large one. A batch alone has no more turns than several: the processors are kept busy by them, and
//! whatever else it had begun would stand before a newcomer. Knows no stage, row or queue. Invariants: no more than
//! [`State::most`] turns are held, but for those that were held for [`Turns::longest`], or [`WRITING`]; a turn that
//! nobody waits for any more is given to the next.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use graphmill_jobs::BatchId;
use tokio::sync::oneshot;

/// How far behind the others a newcomer is put, in seconds of turns. **Source:** measured: ten short documents take
/// half of it on a busy machine of two cores.
const CREDIT: f64 = 2.0;
/// After that a turn counts as given back, though its work goes on: whoever works so long for one stage waits for
/// something rather than that it computes, or is stuck. The first while a batch is alone: then nobody suffers of it.
const LONGEST: [Duration; 2] = [Duration::from_millis(25), Duration::from_millis(100)];
/// The same for what came of it being written: whoever takes longer waits for the disk.
pub(super) const WRITING: Duration = Duration::from_millis(5);
/// After that it is given back at the next border of units, and another one waited for: a long document holds up nobody
/// for longer than that and a unit. **Source:** some units of the local extractor.
const SLICE: Duration = Duration::from_millis(20);
/// What a turn is taken to last before it is known. **Source:** a bare stage of a short document takes 2 to 10 ms.
const GUESS: f64 = 0.005;
/// For so long after a newcomer's last turn the others leave it room: between two of its steps lies a way through
/// Redis. **Source:** a hop takes 2 to 20 ms.
const LINGER: Duration = Duration::from_millis(50);
/// Accounts that are kept at most; those of batches that are level with a newcomer go first.
const ACCOUNTS: usize = 1024;

/// The turns of a process; clones are the same.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<State>>);

struct State {
    /// Turns that may be held at a time. **Source:** measured on two cores: beside a batch of 1,000 in parallel with 8 and
    /// 6 of them ten documents took 270 and 210 ms, with any number 430; that batch alone worked 160 and 167 a second.
    most: usize,
    /// So many of them the others keep while a newcomer is ahead: what it leaves idle between its steps. At least one,
    /// whose end hands out the others when the newcomer is gone. **Source:** measured on two cores: with 4, 2 and 1 ten
    /// short documents took 2.4, 2.0 and 1.2 times as long beside a large batch as alone.
    beside: usize,
    /// Whether several batches have work.
    shared: bool,
    /// Turns held by batches that are ahead, and by the others.
    held: [usize; 2],
    /// When one that is ahead had a turn for the last time.
    ahead: Option<Instant>,
    /// Where the accounts of those at work stand.
    level: f64,
    accounts: HashMap<BatchId, Account>,
}

struct Account {
    /// Seconds of turns by weight.
    had: f64,
    weight: f64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A turn. Dropping it gives it to the next.
pub(super) struct Turn {
    turns: Turns,
    batch: BatchId,
    since: Instant,
    ahead: bool,
}

impl Turns {
    /// Enough turns that `processors` are kept busy while some wait for Postgres, and no more.
    pub(super) fn new(processors: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            most: 3 * processors,
            beside: (processors / 2).max(1),
            shared: false,
            held: [0, 0],
            ahead: None,
            level: 0.0,
            accounts: HashMap::new(),
        })))
    }

    /// Says whether several batches have work.
    pub(super) fn share(&self, shared: bool) {
        let was = std::mem::replace(&mut self.lock().shared, shared);
        if was && !shared {
            self.hand_out();
        }
    }

    /// How long a turn may last before it counts as given back.
    fn longest(&self) -> Duration {
        LONGEST[usize::from(self.lock().shared)]
    }

    /// Waits for a turn of `batch`. Safe to be cancelled.
    pub(super) async fn take(&self, batch: BatchId, weight: f64) -> Turn {
        let (sender, turn) = oneshot::channel();
        {
            let mut state = self.lock();
            state.open(batch, weight).waiting.push_back(sender);
        }
        self.hand_out();
        match turn.await {
            Ok(turn) => turn,
            // The sender is kept until it is used; were it lost, work would still go on.
            Err(_) => Turn {
                turns: self.clone(),
                batch,
                since: Instant::now(),
                ahead: false,
            },
        }
    }

    /// Gives free turns to those that wait.
    fn hand_out(&self) {
        loop {
            let (turn, sender) = {
                let mut state = self.lock();
                let Some((batch, ahead)) = state.next() else {
                    return;
                };
                let Some(sender) = state.begin(batch, ahead) else {
                    return;
                };
                let turn = Turn {
                    turns: self.clone(),
                    batch,
                    since: Instant::now(),
                    ahead,
                };
                (turn, sender)
            };
            // Outside of the lock: a turn that nobody waits for any more is dropped here, and goes back.
            drop(sender.send(turn));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&mut self, batch: BatchId, weight: f64) -> &mut Account {
        let behind = self.level - CREDIT;
        if self.accounts.len() >= ACCOUNTS {
            self.accounts
                .retain(|_, account| !account.waiting.is_empty() || account.had > behind);
        }
        let account = self.accounts.entry(batch).or_insert_with(|| Account {
            had: behind,
            weight,
            waiting: VecDeque::new(),
        });
        account.weight = weight.max(1e-6);
        account.had = account.had.max(behind);
        account
    }

    /// Whose turn is next, and whether it is ahead of the others; none if nobody may have one now.
    fn next(&self) -> Option<(BatchId, bool)> {
        if self.held[0] + self.held[1] >= self.most {
            return None;
        }
        let (batch, account) = self
            .accounts
            .iter()
            .filter(|(_, account)| account.waiting.iter().any(|waiter| !waiter.is_closed()))
            .min_by(|(_, a), (_, b)| a.had.total_cmp(&b.had))?;
        let ahead = account.had < self.level - CREDIT / 8.0;
        // The processors stay busy, but those who are behind are not to crowd out a newcomer. Whoever ends a turn then
        // hands out the next, so nobody needs to be woken when that time is over.
        let lately = self.held[0] > 0 || self.ahead.is_some_and(|at| at.elapsed() < LINGER);
        let crowded = self.shared && !ahead && lately && self.held[1] >= self.beside;
        (!crowded).then_some((*batch, ahead))
    }

    fn begin(&mut self, batch: BatchId, ahead: bool) -> Option<oneshot::Sender<Turn>> {
        let account = self.accounts.get_mut(&batch)?;
        let sender = loop {
            let sender = account.waiting.pop_front()?;
            if !sender.is_closed() {
                break sender;
            }
        };
        self.level = self.level.max(account.had);
        account.had += GUESS / account.weight;
        self.held[usize::from(!ahead)] += 1;
        Some(sender)
    }

    fn end(&mut self, batch: BatchId, ahead: bool, lasted: f64) {
        self.held[usize::from(!ahead)] -= 1;
        if ahead {
            self.ahead = Some(Instant::now());
        }
        if let Some(account) = self.accounts.get_mut(&batch) {
            account.had += (lasted - GUESS) / account.weight;
        }
    }
}

/// Where the turns of one stage of a document stand: it has one, or none at the moment. Dropping it, or
/// [`Place::leave`], gives the turn back.
pub(super) struct Place {
    turns: Turns,
    batch: BatchId,
    weight: f64,
    turn: Mutex<Option<Turn>>,
    /// Held while a turn is waited for, so that units in parallel wait for one and not for one each.
    waits: tokio::sync::Mutex<()>,
}

impl Place {
    pub(super) fn new(turns: Turns, batch: BatchId, weight: f64) -> Self {
        Self {
            turns,
            batch,
            weight,
            turn: Mutex::default(),
            waits: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for a turn, if there is none.
    pub(super) async fn enter(&self) {
        let _waits = self.waits.lock().await;
        if self.lock().is_none() {
            let turn = self.turns.take(self.batch, self.weight).await;
            *self.lock() = Some(turn);
        }
    }

    /// How long a turn may last before it counts as given back.
    pub(super) fn longest(&self) -> Duration {
        self.turns.longest()
    }

    /// At the border of a unit: a turn that has lasted for long is exchanged for a new one.
    pub(super) async fn border(&self) {
        self.leave_after(SLICE);
        self.enter().await;
    }

    /// Gives the turn back if it has lasted for so long.
    pub(super) fn leave_after(&self, longest: Duration) {
        let mut turn = self.lock();
        if turn
            .as_ref()
            .is_some_and(|turn| turn.since.elapsed() >= longest)
        {
            drop(turn.take());
        }
    }

    /// Gives the turn back.
    pub(super) fn leave(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let lasted = self.since.elapsed().as_secs_f64();
        self.turns.lock().end(self.batch, self.ahead, lasted);
        self.turns.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::task::JoinSet;

    use super::*;

    type Order = Arc<Mutex<Vec<BatchId>>>;

    /// Lines up `count` of `batch`, each of which notes when its turn has come, and ends it at once.
    async fn line_up(
        turns: &Turns,
        batch: BatchId,
        weight: f64,
        count: usize,
        order: &Order,
    ) -> JoinSet<()> {
        let mut waiters = JoinSet::new();
        for _ in 0..count {
            let (turns, order) = (turns.clone(), Arc::clone(order));
            waiters.spawn(async move {
                let _turn = turns.take(batch, weight).await;
                order.lock().unwrap().push(batch);
            });
        }
        tokio::task::yield_now().await;
        waiters
    }

    async fn take_all(turns: &Turns, batch: BatchId) -> Vec<Turn> {
        let mut held = Vec::new();
        turns.share(true);
        let most = turns.lock().most;
        for _ in 0..most {
            held.push(turns.take(batch, 1.0).await);
        }
        held
    }

    #[tokio::test]
    async fn there_are_only_so_many_turns() {
        let turns = Turns::new(2);
        let batch = BatchId::generate();
        let mut held = take_all(&turns, batch).await;
        assert_eq!(held.len(), 6);
        for shared in [true, false] {
            turns.share(shared);
            let order = Order::default();
            let mut waiters = line_up(&turns, batch, 1.0, 3, &order).await;
            assert!(order.lock().unwrap().is_empty());
            held.pop();
            while waiters.join_next().await.is_some() {}
            assert_eq!(order.lock().unwrap().len(), 3);
            held.push(turns.take(batch, 1.0).await);
        }
    }

    #[tokio::test]
    async fn a_newcomer_goes_ahead_of_all_that_wait() {
        let turns = Turns::new(1);
        let (large, small, order) = (BatchId::generate(), BatchId::generate(), Order::default());
        let held = take_all(&turns, large).await;
        // It has been at work for a while.
        for account in turns.lock().accounts.values_mut() {
            account.had = 10.0;
        }
        turns.lock().level = 10.0;
        let mut waiters = line_up(&turns, large, 1.0, 50, &order).await;
        let mut others = line_up(&turns, small, 1.0, 10, &order).await;
        drop(held);
        while waiters.join_next().await.is_some() {}
        while others.join_next().await.is_some() {}
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 60);
        assert!(order[..10].iter().all(|batch| *batch == small));
    }

    #[test]
    fn who_has_had_as_much_shares_by_weight() {
        let turns = Turns::new(1);
        let mut state = turns.lock();
        let (heavy, light) = (BatchId::generate(), BatchId::generate());
        let mut waiting = Vec::new();
        for (batch, weight) in [(heavy, 3.0), (light, 1.0)] {
            for _ in 0..100 {
                let (sender, receiver) = oneshot::channel();
                state.open(batch, weight).waiting.push_back(sender);
                waiting.push(receiver);
            }
        }
        let mut of_heavy = 0;
        for _ in 0..100 {
            let (batch, ahead) = state.next().unwrap();
            drop(state.begin(batch, ahead).unwrap());
            of_heavy += usize::from(batch == heavy);
            state.end(batch, ahead, 0.01);
        }
        assert!((74..=76).contains(&of_heavy), "{of_heavy}");
    }

    #[test]
    fn who_had_longer_turns_has_fewer_of_them() {
        let turns = Turns::new(1);
        let mut state = turns.lock();
        let (long, short) = (BatchId::generate(), BatchId::generate());
        let mut waiting = Vec::new();
        for batch in [long, short] {
            for _ in 0..200 {
                let (sender, receiver) = oneshot::channel();
                state.open(batch, 1.0).waiting.push_back(sender);
                waiting.push(receiver);
            }
        }
        let mut of_long = 0;
        for _ in 0..150 {
            let (batch, ahead) = state.next().unwrap();
            drop(state.begin(batch, ahead).unwrap());
            of_long += usize::from(batch == long);
            state.end(batch, ahead, if batch == long { 0.04 } else { 0.01 });
        }
        assert!(
            (28..=32).contains(&of_long),
            "a fifth of the turns, half of the time: {of_long}"
        );
    }

    #[tokio::test]
    async fn a_long_document_goes_on_after_whoever_is_ahead_and_a_short_one_is_not_held_up() {
        let turns = Turns::new(1);
        turns.share(true);
        turns.lock().most = 1;
        let (long, small, order) = (BatchId::generate(), BatchId::generate(), Order::default());
        let place = Place::new(turns.clone(), long, 1.0);
        place.enter().await;
        // It has been at work for a while.
        turns.lock().accounts.get_mut(&long).unwrap().had = 10.0;
        turns.lock().level = 10.0;
        let mut others = line_up(&turns, small, 1.0, 3, &order).await;
        place.border().await;
        assert!(order.lock().unwrap().is_empty(), "its time is not over");
        let begun = Instant::now().checked_sub(SLICE).unwrap();
        place.lock().as_mut().unwrap().since = begun;
        place.border().await;
        assert_eq!(order.lock().unwrap()[..], [small; 3]);
        while others.join_next().await.is_some() {}
        assert!(place.lock().is_some());
        place.leave();
        assert_eq!(turns.lock().held, [0, 0], "none is lost");
    }

    #[tokio::test]
    async fn units_in_parallel_share_the_turn_of_their_stage() {
        let turns = Turns::new(1);
        turns.share(true);
        let batch = BatchId::generate();
        let place = Arc::new(Place::new(turns.clone(), batch, 1.0));
        let mut units = JoinSet::new();
        for _ in 0..20 {
            let place = Arc::clone(&place);
            units.spawn(async move { place.border().await });
        }
        while units.join_next().await.is_some() {}
        assert_eq!(turns.lock().held, [1, 0]);
        drop(place);
        assert_eq!(turns.lock().held, [0, 0]);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_to_the_next() {
        let turns = Turns::new(1);
        let (gone, next, order) = (BatchId::generate(), BatchId::generate(), Order::default());
        let held = take_all(&turns, BatchId::generate()).await;
        let mut waiters = line_up(&turns, gone, 1.0, 20, &order).await;
        waiters.abort_all();
        while waiters.join_next().await.is_some() {}
        let mut others = line_up(&turns, next, 1.0, 3, &order).await;
        drop(held);
        while others.join_next().await.is_some() {}
        assert_eq!(order.lock().unwrap()[..], [next; 3]);
        assert_eq!(turns.lock().held, [0, 0], "none is lost");
    }
}
