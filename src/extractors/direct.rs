//! Calls of models with no servers: what was answered is remembered in this process and nowhere else.
//!
//! For `graphmill extract`, examples and tests. It bounds how many calls are under way and leaves a server alone that
//! asks for it; there is no ledger, no budget and no breaker.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use super::{
    Answer, CallError, CallRequest, Calls, Dropped, Provider, UnitName, Verdict, WaitCause,
};

/// The pause after a 429 that names none; it doubles with each in a row.
///
/// **Source:** limits are per minute as a rule, and the shortest pauses that servers name are about a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that is made up here.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Answers that are remembered at most; a whole document's are far fewer.
const REMEMBERED: usize = 1024;

type Remembered = Arc<OnceCell<Vec<u8>>>;

/// A way to a model within one process.
pub struct DirectCalls {
    provider: Arc<dyn Provider>,
    model: String,
    permits: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: HashMap<[u8; 32], Remembered>,
    paused_until: Option<Instant>,
    /// 429s in a row.
    throttled: u32,
    known: Option<String>,
    /// By unit, as the last work on it said.
    dropped: HashMap<String, Dropped>,
}

impl DirectCalls {
    /// Calls `model` at `provider`, at most `at_once` at a time.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, model: impl Into<String>, at_once: usize) -> Self {
        Self {
            provider,
            model: model.into(),
            permits: Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)),
            state: Mutex::default(),
        }
    }

    /// What was said and left out so far, of all units.
    #[must_use]
    pub fn all_dropped(&self) -> Dropped {
        let mut all = Dropped::default();
        for (reason, count) in self.state().dropped.values().flat_map(Dropped::iter) {
            all.add(reason, count);
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in there is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: [u8; 32]) -> Remembered {
        let mut state = self.state();
        if state.answers.len() >= REMEMBERED {
            state
                .answers
                .retain(|_, answer| Arc::strong_count(answer) > 1);
        }
        Arc::clone(state.answers.entry(hash).or_default())
    }

    /// Waits until the server may be asked again.
    async fn pause_ends(&self) {
        loop {
            let until = self.state().paused_until;
            match until.filter(|&until| until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Makes everybody leave the server alone for as long as it asks.
    fn pause(&self, retry_after: Option<Duration>) -> Duration {
        let mut state = self.state();
        let own = PAUSE
            .saturating_mul(1 << state.throttled.min(6))
            .min(LONGEST_PAUSE);
        let wait = retry_after.unwrap_or(own);
        state.throttled = state.throttled.saturating_add(1);
        let until = Instant::now() + wait;
        state.paused_until = state.paused_until.max(Some(until));
        wait
    }

    async fn exchange(&self, request: &CallRequest) -> Result<Vec<u8>, CallError> {
        self.pause_ends().await;
        let permit = self.permits.acquire().await;
        // While it waited for its turn, another call may have been told to stop.
        self.pause_ends().await;
        let id = Uuid::new_v4().to_string();
        let exchange = self.provider.exchange(&id, request).await;
        drop(permit);
        let exchange = exchange.map_err(|error| CallError::Transient(error.to_string()))?;
        let verdict = self.provider.verdict(request.operation, &exchange);
        if verdict != Verdict::Throttled {
            self.state().throttled = 0;
        }
        match verdict {
            Verdict::Answered(_) => Ok(exchange.body),
            Verdict::Throttled => Err(CallError::Wait {
                reason: "the model's server asks for fewer calls".to_owned(),
                wait: self.pause(exchange.retry_after),
                cause: WaitCause::RateLimit,
            }),
            Verdict::Blocked { reason } => Err(CallError::Pause { reason }),
            Verdict::Failed { reason } => Err(CallError::Transient(reason)),
            Verdict::Refused { why, message } => Err(CallError::Refused { why, message }),
        }
    }
}

#[async_trait]
impl Calls for DirectCalls {
    fn model(&self) -> &str {
        &self.model
    }

    async fn call(&self, _unit: &UnitName, request: &CallRequest) -> Result<Answer, CallError> {
        let answer = self.remembered(request.hash(self.provider.endpoint()));
        let replayed = answer.initialized();
        // Who asks the same at the same time waits for the one answer.
        let body = answer.get_or_try_init(|| self.exchange(request)).await?;
        Ok(Answer {
            body: body.clone(),
            replayed,
        })
    }

    async fn recall(&self) -> Result<Option<String>, CallError> {
        Ok(self.state().known.clone())
    }

    async fn remember(&self, what: &str) -> Result<(), CallError> {
        self.state().known = Some(what.to_owned());
        Ok(())
    }

    async fn dropped(&self, unit: &UnitName, dropped: &Dropped) -> Result<(), CallError> {
        self.state()
            .dropped
            .insert(unit.to_string(), dropped.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
