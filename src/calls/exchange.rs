//! From a committed intent to a committed end: the one stretch in which money is spent.
//!
//! Whoever asked may go: the call is carried to its end and its answer filed. Only a cancellation drops it, and then
//! it is filed as in doubt. While it lasts its claim is renewed, so that nobody takes it for dead.

use std::{convert::Infallible, time::Duration};

use futures_util::future::BoxFuture;
use graphmill_jobs::LlmCallId;
use tokio::time::{Instant, interval_at, sleep};
use tracing::{error, info, warn};

use super::{Question, span};
use crate::{
    extractors::{Answer, CallError, Exchange, TransportError, Usage, Verdict, WaitCause},
    metrics,
    queue::{CallEnd, Permit},
    store::{self, Paid, StoreError, Unanswered},
};

/// How long the end of a call is tried to be filed while the ledger can't be reached: an answer is held in memory
/// meanwhile. **Source:** longer than a database takes to fail over.
const HOLD: Duration = Duration::from_secs(600);

/// Makes the call whose intent is written under `id`.
pub(super) async fn make(
    question: Question,
    id: LlmCallId,
    permit: Permit,
) -> Result<Answer, CallError> {
    // The last moment at which it costs nothing not to call. A permit that has become old would make a minute too
    // full at the server.
    if permit.is_late() {
        file_unanswered(&question, id, Unanswered::Rejected, None, "not sent").await;
        question.count("unsent");
        permit.settle(CallEnd::Unsent).await;
        return Err(CallError::Wait {
            reason: "its turn had passed before it was sent".to_owned(),
            wait: Duration::ZERO,
            cause: WaitCause::RateLimit,
        });
    }
    if question.gone.is_cancelled() || question.door.caller.gate.may_begin().await.is_err() {
        file_unanswered(&question, id, Unanswered::Rejected, None, "not sent").await;
        question.count("unsent");
        permit.settle(CallEnd::Unsent).await;
        return Err(CallError::Transient(
            "nobody waits for it any more".to_owned(),
        ));
    }
    let begun = Instant::now();
    let mut span = span::of(&question, id);
    let sent = tokio::select! {
        sent = send(&question, id) => sent,
        never = renewing(&question, id) => match never {},
        () = question.door.caller.hang_up.cancelled() => {
            span.fail("cancelled");
            file_unanswered(&question, id, Unanswered::InDoubt, None, "cancelled while it was made").await;
            question.count("cancelled");
            // It says nothing of the server.
            drop(permit);
            return Err(CallError::Transient("the call was cancelled".to_owned()));
        }
    };
    let latency = begun.elapsed();
    metrics::get().models.took(&question.door.counted, latency);
    let exchange = match sent {
        Ok(exchange) => exchange,
        Err(error) => {
            span::broke_off(span, &error);
            return Err(broken(&question, id, permit, &error).await);
        }
    };
    let provider = &question.door.access.0.provider;
    let verdict = provider.verdict(question.request.operation, &exchange);
    span::came(span, exchange.status, &verdict);
    if let Verdict::Answered(usage) = verdict {
        return answered(&question, id, permit, exchange, usage, latency).await;
    }
    let status = exchange.status;
    question.count(match &verdict {
        Verdict::Throttled => "throttled",
        Verdict::Blocked { .. } => "blocked",
        Verdict::Refused { .. } => "refused",
        Verdict::Failed { .. } => "failed",
        // It has returned.
        Verdict::Answered(_) => "answered",
    });
    let (told, end, error) = match verdict {
        Verdict::Throttled => {
            let wait = exchange.retry_after.unwrap_or(Duration::from_secs(1));
            let reason = format!("{} asks for fewer calls (HTTP {status})", provider.name());
            let end = CallEnd::Throttled {
                retry_after: exchange.retry_after,
            };
            let cause = WaitCause::RateLimit;
            let error = CallError::Wait {
                reason: reason.clone(),
                wait,
                cause,
            };
            (reason, end, error)
        }
        Verdict::Blocked { reason } => (
            reason.clone(),
            CallEnd::Refused,
            CallError::Pause { reason },
        ),
        Verdict::Refused { why, message } => (
            message.clone(),
            CallEnd::Refused,
            CallError::Refused { why, message },
        ),
        Verdict::Failed { reason } => (
            reason.clone(),
            CallEnd::Failed,
            CallError::Transient(reason),
        ),
        Verdict::Answered(_) => (
            String::new(),
            CallEnd::Refused,
            CallError::Transient(String::new()),
        ),
    };
    file_unanswered(&question, id, Unanswered::Rejected, Some(status), &told).await;
    info!(call.id = %id, status, duration_ms = latency.as_millis(), reason = told, "a model's server did not answer the question");
    let throttled = matches!(end, CallEnd::Throttled { .. });
    let settled = permit.settle(end).await;
    question.door.tell_settled(&settled, throttled);
    Err(error)
}

async fn send(question: &Question, id: LlmCallId) -> Result<Exchange, TransportError> {
    let provider = &question.door.access.0.provider;
    provider.exchange(&id.to_string(), &question.request).await
}

/// Renews the claim for as long as it is polled. A renewal that fails is made up for by the next one.
async fn renewing(question: &Question, id: LlmCallId) -> Infallible {
    let inner = &question.door.access.0;
    let (organization, lasts) = (question.door.caller.organization, inner.lease);
    let mut ticks = interval_at(Instant::now() + lasts / 3, lasts / 3);
    loop {
        ticks.tick().await;
        let renewed = async {
            let mut transaction = question.begin().await?;
            store::renew_claim(&mut transaction, organization, id, lasts).await?;
            Ok::<_, StoreError>(transaction.commit().await?)
        };
        if let Err(error) = renewed.await {
            warn!(call.id = %id, error = &error as &dyn std::error::Error, "a call's claim could not be renewed");
        }
    }
}

async fn answered(
    question: &Question,
    id: LlmCallId,
    permit: Permit,
    exchange: Exchange,
    usage: Usage,
    latency: Duration,
) -> Result<Answer, CallError> {
    let (request, caller) = (&question.request, &question.door.caller);
    let tokens =
        |said: Option<u64>, most: u64| i64::try_from(said.unwrap_or(most)).unwrap_or(i64::MAX);
    let paid = Paid {
        prompt_tokens: tokens(usage.prompt_tokens, request.prompt_tokens_at_most()),
        cached_tokens: tokens(usage.cached_tokens, 0),
        completion_tokens: tokens(usage.completion_tokens, request.max_output_tokens),
        cost: caller.model.price.map(|price| price.of(&usage, request)),
    };
    info!(
        call.id = %id,
        model = caller.model.name,
        prompt = request.prompt,
        tokens_in = paid.prompt_tokens,
        tokens_out = paid.completion_tokens,
        duration_ms = latency.as_millis(),
        "a model answered"
    );
    let body = &exchange.body;
    let status = exchange.status;
    let organization = caller.organization;
    let filed = filing(id, || {
        Box::pin(async move {
            let mut transaction = question.begin().await?;
            store::file_answer(&mut transaction, organization, id, status, body, paid).await?;
            Ok(transaction.commit().await?)
        })
    });
    let filed = filed.await;
    let total =
        u64::try_from(paid.prompt_tokens.saturating_add(paid.completion_tokens)).unwrap_or(0);
    let end = CallEnd::Answered {
        tokens: total,
        latency,
    };
    let door = question.door.clone();
    // Nobody needs to wait until Redis knows.
    tokio::spawn(async move {
        let settled = permit.settle(end).await;
        door.tell_settled(&settled, false);
    });
    if filed {
        count_paid(question, paid);
        Ok(Answer {
            body: exchange.body,
            replayed: false,
        })
    } else {
        // Received is what is committed; this one is in doubt.
        question.count("broken");
        Err(CallError::Transient(
            "the model's answer could not be written down".to_owned(),
        ))
    }
}

/// Counts what is in the ledger now.
fn count_paid(question: &Question, paid: Paid) {
    question.count("answered");
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    metrics::get().models.used(
        &question.door.counted,
        count(paid.prompt_tokens),
        count(paid.cached_tokens),
        count(paid.completion_tokens),
        paid.cost.map(count),
    );
}

/// No complete response came.
async fn broken(
    question: &Question,
    id: LlmCallId,
    permit: Permit,
    error: &TransportError,
) -> CallError {
    let (end, outcome) = match error {
        TransportError::Connect(_) => (Unanswered::Rejected, "unreachable"),
        TransportError::Broken(_) | TransportError::TimedOut(_) => (Unanswered::InDoubt, "broken"),
    };
    question.count(outcome);
    info!(call.id = %id, error = error as &dyn std::error::Error, "a call broke off");
    file_unanswered(question, id, end, None, &error.to_string()).await;
    let settled = permit.settle(CallEnd::Failed).await;
    question.door.tell_settled(&settled, false);
    CallError::Transient(error.to_string())
}

async fn file_unanswered(
    question: &Question,
    id: LlmCallId,
    end: Unanswered,
    status: Option<u16>,
    told: &str,
) {
    let organization = question.door.caller.organization;
    filing(id, || {
        Box::pin(async move {
            let mut transaction = question.begin().await?;
            store::file_unanswered(&mut transaction, organization, id, end, status, told).await?;
            Ok(transaction.commit().await?)
        })
    })
    .await;
}

/// Writes the end of a call, again and again while the ledger can't be reached; `false` if it had to give up.
async fn filing<'a>(
    id: LlmCallId,
    write: impl Fn() -> BoxFuture<'a, Result<(), StoreError>> + Send,
) -> bool {
    let begun = Instant::now();
    loop {
        match write().await {
            Ok(()) => return true,
            Err(error) if error.is_transient() && begun.elapsed() < HOLD => {
                sleep(Duration::from_millis(250)).await;
            }
            Err(error) => {
                error!(
                    call.id = %id,
                    error = &error as &dyn std::error::Error,
                    "the end of a call could not be written down: it is in doubt"
                );
                return false;
            }
        }
    }
}
