//! The door to models: what happens around a call, in this order. The ledger is asked whether the question was
//! answered before; the fleet's limits and the breaker give a permit; the intent is written, with a reservation in
//! the batch's budget and the organization's, in one commit; the lease is looked at once more; the request is sent; the answer is committed,
//! whoever holds the lease by then; and only then somebody reads it.
//!
//! Knows the ledger (`store`), the limits (`queue`) and how to make a bare exchange (`extractors`). Must not know
//! what is asked or how an answer is read. Invariants: **an answer that was received is in the ledger before it is
//! used, and is never paid again**; a call that was sent is carried to its end although whoever asked is gone, unless
//! the work was cancelled; what was sent and has no committed answer is in doubt, and says so.

mod cap;
mod exchange;
mod span;
mod telling;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use graphmill_jobs::{BatchId, LlmCallId, OrganizationId, WorkflowExecutionId};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    extractors::{
        Answer, CallError, CallRequest, Calls, Dropped, ModelChoice, Operation, Provider, UnitName,
        WaitCause,
    },
    metrics,
    pipeline::Gate,
    queue::{Acquired, Breaker, CallEnd, LimitSettings, Limiter, Owner, Permit, Queue, WaitReason},
    store::{self, AppTransaction, CallRow, Claimed, Known, Patience, Spending, Store, StoreError},
    telemetry::TraceContext,
};

/// How long a call may wait for its turn before its document is put off, so that its worker can do something else.
/// **Source:** DESIGN §6.5.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the ledger is asked whether somebody else's identical call has its answer.
const LOOK: Duration = Duration::from_millis(100);
/// Models whose limiters are remembered; the memory of a worker stays flat.
const REMEMBERED: usize = 64;
/// How long a document is put off whose batch has reserved all of its budget for calls in work.
const RESERVED: Duration = Duration::from_secs(1);

/// A process' way to one provider.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    provider: Arc<dyn Provider>,
    store: Store,
    queue: Queue,
    limits: LimitSettings,
    /// One a model: what they share without Redis is this process' share.
    limiters: Mutex<HashMap<String, Limiter>>,
    /// What is known of models, by organization: it is asked for with every document and hardly ever changes.
    known: Mutex<HashMap<(OrganizationId, String), String>>,
    /// What was told of waits.
    told: telling::Told,
    /// How many processes there are to share with.
    workers: AtomicU32,
    /// How long a claim lives without being renewed.
    lease: Duration,
    /// The runtime whose connections are used.
    drivers: Handle,
    /// Exchanges that are being made.
    open: TaskTracker,
}

/// For whom calls are made.
pub struct Caller {
    /// Who owns the batch.
    pub organization: OrganizationId,
    /// Who pays.
    pub batch: BatchId,
    /// The document's pass.
    pub execution: WorkflowExecutionId,
    /// The batch's weight against others in the line for the model.
    pub weight: f64,
    /// What is called.
    pub model: ModelChoice,
    /// What takes the place of the extractor's own prompt, if anything does.
    pub prompt: Option<Arc<str>>,
    /// Whether work may still begin; asked right before a request is sent.
    pub gate: Arc<dyn Gate>,
    /// Once cancelled, calls in flight are dropped.
    pub hang_up: CancellationToken,
    /// What its calls hang below, in a trace.
    pub trace: Option<TraceContext>,
}

impl Access {
    /// The way to `provider`. To be made on the runtime whose connections `store` and `queue` are.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(
        provider: Arc<dyn Provider>,
        store: Store,
        queue: Queue,
        limits: LimitSettings,
        lease: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            provider,
            store,
            queue,
            limits,
            limiters: Mutex::default(),
            known: Mutex::default(),
            told: telling::Told::default(),
            workers: AtomicU32::new(1),
            lease,
            drivers: Handle::current(),
            open: TaskTracker::new(),
        }))
    }

    /// The door for the calls of one document.
    #[must_use]
    pub fn door(&self, caller: Caller) -> Arc<dyn Calls> {
        let provider = self.0.provider.name();
        Arc::new(Door {
            limiter: self.limiter(&caller.model.name),
            counted: metrics::get().models.model(provider, &caller.model.name),
            access: self.clone(),
            caller: Arc::new(caller),
        })
    }

    /// The limits of a model, which all its callers in this process share.
    fn limiter(&self, model: &str) -> Limiter {
        let inner = &*self.0;
        let mut limiters = inner
            .limiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if limiters.len() >= REMEMBERED && !limiters.contains_key(model) {
            limiters.clear();
        }
        let limiter = limiters.entry(model.to_owned()).or_insert_with(|| {
            let name = format!("{}/{model}", inner.provider.endpoint());
            Limiter::new(&inner.queue, &name, inner.limits)
        });
        limiter.set_workers(inner.workers.load(Ordering::Relaxed));
        limiter.clone()
    }

    /// How the limits of each model stand that this process calls, for metrics: of the fleet's, or of its own share
    /// while Redis is away.
    pub async fn limits(&self) -> Vec<(metrics::Model, metrics::Held)> {
        let inner = &*self.0;
        let limiters: Vec<(String, Limiter)> = {
            let limiters = inner
                .limiters
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let each = limiters
                .iter()
                .map(|(model, limiter)| (model.clone(), limiter.clone()));
            each.collect()
        };
        let (models, provider) = (&metrics::get().models, inner.provider.name());
        join_all(limiters.into_iter().map(async |(model, limiter)| {
            let status = limiter.status().await;
            let held = metrics::Held {
                in_flight: status.in_flight,
                most: status.limit,
                waiting: status.waiting,
                pause: status.paused,
                breaker: match status.breaker {
                    Breaker::Closed => "closed",
                    Breaker::Open { .. } => "open",
                    Breaker::HalfOpen => "half_open",
                },
            };
            (models.model(provider, &model), held)
        }))
        .await
    }

    /// How many processes work, as last seen: without Redis each takes its share of the limits.
    pub fn set_workers(&self, workers: u32) {
        let workers = workers.max(1);
        if self.0.workers.swap(workers, Ordering::Relaxed) != workers {
            let limiters = self
                .0
                .limiters
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for limiter in limiters.values() {
                limiter.set_workers(workers);
            }
        }
    }

    /// Waits for the calls that are being made, `longest` at most.
    pub async fn settle(&self, longest: Duration) {
        self.0.open.close();
        // Whatever is left will be found in doubt.
        let _ = tokio::time::timeout(longest, self.0.open.wait()).await;
    }
}

/// The calls of one document.
#[derive(Clone)]
struct Door {
    access: Access,
    limiter: Limiter,
    /// The model, as it is counted.
    counted: metrics::Model,
    caller: Arc<Caller>,
}

/// What a call in work needs.
struct Question {
    door: Door,
    request: CallRequest,
    stage: &'static str,
    unit: i32,
    hash: [u8; 32],
    /// Whoever asked is gone: what has not been sent need not be.
    gone: CancellationToken,
}

#[async_trait]
impl Calls for Door {
    fn model(&self) -> &str {
        &self.caller.model.name
    }

    fn prompt(&self) -> Option<&str> {
        self.caller.prompt.as_deref()
    }

    async fn call(&self, unit: &UnitName, request: &CallRequest) -> Result<Answer, CallError> {
        let gone = CancellationToken::new();
        let question = Question {
            hash: self.hash(request),
            door: self.clone(),
            request: request.clone(),
            stage: unit.stage,
            unit: unit.unit,
            gone: gone.clone(),
        };
        let _gone = gone.drop_guard();
        // On a task of its own: dropping the one who asks must not drop what is being paid for.
        let inner = &self.access.0;
        let asked = inner
            .open
            .spawn_on(question.ask().in_current_span(), &inner.drivers);
        asked
            .await
            .unwrap_or_else(|_| Err(CallError::Transient("the call was broken off".to_owned())))
    }

    async fn recall(&self) -> Result<Option<String>, CallError> {
        if let Some(known) = self.known().get(&self.subject()) {
            return Ok(Some(known.clone()));
        }
        let door = self.clone();
        let known = self
            .on_drivers(async move {
                let organization = door.caller.organization;
                let mut read = door.access.0.store.app(organization).await?;
                let (endpoint, model) =
                    (door.access.0.provider.endpoint(), &door.caller.model.name);
                store::known_of_endpoint(&mut read, organization, endpoint, model).await
            })
            .await?;
        if let Some(known) = &known {
            self.know(known);
        }
        Ok(known)
    }

    async fn remember(&self, what: &str) -> Result<(), CallError> {
        self.know(what);
        let (door, what) = (self.clone(), what.to_owned());
        self.on_drivers(async move {
            let organization = door.caller.organization;
            let mut write = door.access.0.store.app(organization).await?;
            let (endpoint, model) = (door.access.0.provider.endpoint(), &door.caller.model.name);
            store::know_endpoint(&mut write, organization, endpoint, model, &what).await?;
            Ok(write.commit().await?)
        })
        .await
    }

    async fn dropped(&self, unit: &UnitName, dropped: &Dropped) -> Result<(), CallError> {
        if dropped.is_empty() {
            return Ok(());
        }
        let (door, stage, unit) = (self.clone(), unit.stage, unit.unit);
        let dropped: Vec<(&'static str, u32)> = dropped
            .iter()
            .map(|(reason, count)| (reason.as_str(), count))
            .collect();
        self.on_drivers(async move {
            let (organization, execution) = (door.caller.organization, door.caller.execution);
            let mut write = door.access.0.store.app(organization).await?;
            store::note_dropped(&mut write, organization, execution, stage, unit, &dropped).await?;
            Ok(write.commit().await?)
        })
        .await
    }
}

impl Door {
    fn subject(&self) -> (OrganizationId, String) {
        (self.caller.organization, self.caller.model.name.clone())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(OrganizationId, String), String>> {
        self.access
            .0
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, what: &str) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(self.subject(), what.to_owned());
    }

    /// What tells the request from others. A batch that wants answers of its own asks questions of its own.
    fn hash(&self, request: &CallRequest) -> [u8; 32] {
        let endpoint = self.access.0.provider.endpoint();
        if self.caller.model.fresh {
            request.hash(&format!("{endpoint} {}", self.caller.batch))
        } else {
            request.hash(endpoint)
        }
    }

    async fn on_drivers<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, CallError> {
        let done = self.access.0.drivers.spawn(work).await;
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(no_ledger(&error)),
            Err(_) => Err(CallError::Transient("the call was broken off".to_owned())),
        }
    }
}

/// The ledger could not be read or written: nothing is sent without it.
fn no_ledger(error: &StoreError) -> CallError {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "the ledger could not be used"
    );
    CallError::Wait {
        reason: "the ledger of calls can't be reached".to_owned(),
        wait: PATIENCE,
        cause: WaitCause::Other,
    }
}

impl Question {
    /// The operation as the ledger has it.
    const fn operation(&self) -> &'static str {
        match self.request.operation {
            Operation::Chat => "chat",
            Operation::Embeddings => "embeddings",
        }
    }

    /// The question has come to an end.
    fn count(&self, outcome: &'static str) {
        let models = &metrics::get().models;
        models.call(&self.door.counted, self.operation(), outcome);
    }

    fn row(&self, id: LlmCallId) -> CallRow<'_> {
        let (inner, caller) = (&*self.door.access.0, &*self.door.caller);
        CallRow {
            id,
            batch: caller.batch,
            execution: caller.execution,
            stage: self.stage,
            unit: self.unit,
            operation: self.operation(),
            provider: inner.provider.name(),
            endpoint: inner.provider.endpoint(),
            model: &caller.model.name,
            prompt: &self.request.prompt,
            hash: &self.hash,
            sample: self.request.sample,
            reserved: self.reserved(),
            lasts: inner.lease,
        }
    }

    /// What it may take at most.
    fn reserved(&self) -> Spending {
        let tokens = self.request.prompt_tokens_at_most() + self.request.max_output_tokens;
        let price = self.door.caller.model.price;
        Spending {
            tokens: i64::try_from(tokens).unwrap_or(i64::MAX),
            cost: price.map(|price| price.at_most(&self.request)),
        }
    }

    async fn begin(&self) -> Result<AppTransaction, StoreError> {
        self.door
            .access
            .0
            .store
            .app(self.door.caller.organization)
            .await
    }

    async fn ask(self) -> Result<Answer, CallError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.gone.is_cancelled() || self.door.caller.hang_up.is_cancelled() {
                return Err(CallError::Transient(
                    "nobody waits for it any more".to_owned(),
                ));
            }
            match self.look_up().await.map_err(|error| no_ledger(&error))? {
                Known::Answered(_, body) => {
                    self.count("cached");
                    return Ok(Answer {
                        body,
                        replayed: true,
                    });
                }
                Known::Asked if Instant::now() < deadline => {
                    sleep(LOOK).await;
                    continue;
                }
                Known::Asked => {
                    return Err(CallError::Wait {
                        reason:
                            "another document asks the model the same, and waits for its answer"
                                .to_owned(),
                        wait: RESERVED,
                        cause: WaitCause::Other,
                    });
                }
                Known::Nothing => {}
            }
            let permit = self.permit(deadline).await?;
            let id = LlmCallId::generate();
            match self.claim(id).await {
                Ok(Claimed::Made) => return exchange::make(self, id, permit).await,
                Ok(Claimed::Taken) => {
                    permit.settle(CallEnd::Unsent).await;
                }
                Ok(Claimed::OverBudget {
                    organization,
                    in_flight,
                }) => {
                    permit.settle(CallEnd::Unsent).await;
                    return Err(cap::reached(&self, organization, in_flight).await);
                }
                Err(error) => {
                    permit.settle(CallEnd::Unsent).await;
                    return Err(no_ledger(&error));
                }
            }
        }
    }

    /// Whether the question was answered before; if so, that is noted.
    async fn look_up(&self) -> Result<Known, StoreError> {
        let organization = self.door.caller.organization;
        let mut patience = Patience::new();
        loop {
            let looked = async {
                let mut transaction = self.begin().await?;
                let known = store::known_answer(&mut transaction, organization, &self.hash).await?;
                if let Known::Answered(of, _) = &known {
                    let row = self.row(LlmCallId::generate());
                    store::note_replay(&mut transaction, organization, &row, *of).await?;
                    transaction.commit().await?;
                }
                Ok(known)
            };
            match looked.await {
                Err(error) if patience.again(&error).await => {}
                looked => return looked,
            }
        }
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, CallError> {
        // On the safe side, but not beyond all measure: what is not used is given back when the call has ended.
        let estimate = self.request.body.len() as u64 / 3 + self.request.max_output_tokens / 2;
        let ticket = format!(
            "{}/{}/{}",
            self.door.caller.execution, self.stage, self.unit
        );
        let patience = deadline.saturating_duration_since(Instant::now());
        let batch = self.door.caller.batch.to_string();
        let owner = Owner {
            name: &batch,
            weight: self.door.caller.weight,
        };
        let (limiter, counted) = (&self.door.limiter, &self.door.counted);
        let (models, asked) = (&metrics::get().models, Instant::now());
        let acquired = limiter
            .acquire_telling(owner, &ticket, estimate, patience, |waiting| {
                self.door.tell_waiting(waiting);
            })
            .await;
        models.waited(counted, asked.elapsed());
        match acquired {
            Acquired::Granted(permit) => {
                self.door.tell_granted(&permit);
                Ok(permit)
            }
            Acquired::Wait(waiting) => {
                models.put_off(counted, waiting.reason.as_str());
                Err(CallError::Wait {
                    reason: waiting.to_string(),
                    wait: waiting.wait,
                    cause: match waiting.reason {
                        WaitReason::BreakerOpen { .. } | WaitReason::Probing { .. } => {
                            WaitCause::Breaker
                        }
                        WaitReason::Requests
                        | WaitReason::Tokens
                        | WaitReason::Concurrency
                        | WaitReason::Paused
                        | WaitReason::Turn => WaitCause::RateLimit,
                    },
                })
            }
        }
    }

    /// Writes the intent and reserves its budget, in one commit.
    async fn claim(&self, id: LlmCallId) -> Result<Claimed, StoreError> {
        let organization = self.door.caller.organization;
        let mut patience = Patience::new();
        loop {
            let claimed = async {
                let mut transaction = self.begin().await?;
                let claimed =
                    store::claim_call(&mut transaction, organization, &self.row(id)).await?;
                if claimed == Claimed::Made {
                    transaction.commit().await?;
                }
                Ok(claimed)
            };
            match claimed.await {
                // Should it have been committed after all, the next try finds it taken, and waits it out.
                Err(error) if patience.again(&error).await => {}
                claimed => return claimed,
            }
        }
    }
}

/// Billionths of a dollar, as dollars.
#[must_use]
pub fn dollars(nanodollars: i64) -> String {
    let (whole, rest) = (nanodollars / 1_000_000_000, nanodollars % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    let trimmed = text.trim_end_matches('0');
    // At least cents.
    let cents = text.find('.').map_or(text.len(), |dot| dot + 3);
    text[..trimmed.len().max(cents)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_exactly() {
        assert_eq!(dollars(0), "0.00");
        assert_eq!(dollars(1_500_000_000), "1.50");
        assert_eq!(dollars(123), "0.000000123");
    }
}
