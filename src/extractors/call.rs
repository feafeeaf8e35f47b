//! What a call of a model is, before and after it is made.
//!
//! An extractor that uses a model says what it wants to send ([`CallRequest`]) and reads what came back
//! ([`Answer`]); everything in between (the ledger, limits, the breaker, budgets) is somebody else's, behind
//! [`Calls`]. A [`Provider`] makes the bare exchange. Invariant: a request has one canonical form, so that the same
//! question has the same hash, today and after a restart.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::info;

use super::{Dropped, UnitName};

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST {base}/chat/completions`.
    Chat,
    /// `POST {base}/embeddings`.
    Embeddings,
}

impl Operation {
    /// The path below the provider's base address.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "chat/completions",
            Self::Embeddings => "embeddings",
        }
    }
}

/// A call, ready to be sent.
#[derive(Clone)]
pub struct CallRequest {
    /// What is asked.
    pub operation: Operation,
    /// The JSON that is sent, in its canonical form: the same question is the same bytes. Holds the model's name.
    pub body: Vec<u8>,
    /// The prompt's name and version, for example `mentions@1`.
    pub prompt: String,
    /// 0 for the first time that this is asked; more when an answer was unusable and another one is wanted.
    pub sample: u32,
    /// The answer has no more tokens than this: the cap that the body asks for.
    pub max_output_tokens: u64,
}

impl CallRequest {
    /// What tells this request from every other: SHA-256 of the endpoint, the prompt's version, the body and the
    /// sample.
    #[must_use]
    pub fn hash(&self, endpoint: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [
            endpoint.as_bytes(),
            self.operation.path().as_bytes(),
            self.prompt.as_bytes(),
            &self.sample.to_be_bytes(),
            &self.body,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Tokens that the prompt can't exceed: no token is shorter than a byte, and chat templates add a few.
    #[must_use]
    pub fn prompt_tokens_at_most(&self) -> u64 {
        self.body.len() as u64 + 256
    }
}

/// A prompt is nobody's business but the provider's.
impl fmt::Debug for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRequest")
            .field("operation", &self.operation)
            .field("prompt", &self.prompt)
            .field("sample", &self.sample)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A complete answer: the body of a 2xx response, as it was received.
#[derive(Clone)]
pub struct Answer {
    /// The raw JSON.
    pub body: Vec<u8>,
    /// It was in the ledger: nothing was sent and nothing paid.
    pub replayed: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("bytes", &self.body.len())
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// A limit of ours, or of the server.
    RateLimit,
    /// The circuit breaker.
    Breaker,
    /// What is left of a budget is reserved by calls in work.
    Budget,
    /// Something of our own: an identical call, the ledger.
    Other,
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Its turn has not come: a limit, the breaker, somebody else's identical call, a rate limit of the server. Not a
    /// try; ask again after the wait.
    #[error("{reason}")]
    Wait {
        /// What it waits for, for people.
        reason: String,
        /// How long that lasts, as far as is known.
        wait: Duration,
        /// The same, for programs.
        cause: WaitCause,
    },
    /// Nothing can be called until somebody does something about it: the account, the key, the budget. Not a try.
    #[error("{reason}")]
    Pause {
        /// What is to be done, for people.
        reason: String,
    },
    /// The call failed; the same call may succeed later.
    #[error("{0}")]
    Transient(String),
    /// The server refuses this request for what it is; sending it again does not help.
    #[error("{message}")]
    Refused {
        /// Why.
        why: Refusal,
        /// For people; nothing of the prompt or the answer is in it.
        message: String,
    },
}

/// Why a server refuses a request for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is longer than the model's context.
    ContextOverflow,
    /// The form of structured output that it asks for is not known there.
    Unsupported,
    /// The cap of the answer's tokens goes by another name there.
    OutputCap,
    /// It may not set a temperature.
    Temperature,
    /// There is nothing at this address.
    NotFound,
    /// Anything else of the request.
    Request,
}

/// The way to a model that an extractor is given: every call through it is remembered, limited and paid once.
#[async_trait]
pub trait Calls: Send + Sync {
    /// The model's name, as the body is to have it.
    fn model(&self) -> &str;

    /// What takes the place of the built-in prompt in the stage that is worked, if anything does.
    fn prompt(&self) -> Option<&str> {
        None
    }

    /// Asks, or finds the answer that was given before. May be dropped at any await.
    ///
    /// # Errors
    /// [`CallError`] says what to do.
    async fn call(&self, unit: &UnitName, request: &CallRequest) -> Result<Answer, CallError>;

    /// What is known of the endpoint and model, by [`Calls::remember`]; `None` if nothing is.
    ///
    /// # Errors
    /// [`CallError::Transient`].
    async fn recall(&self) -> Result<Option<String>, CallError>;

    /// Remembers something of the endpoint and model: which form of structured output works there.
    ///
    /// # Errors
    /// [`CallError::Transient`].
    async fn remember(&self, what: &str) -> Result<(), CallError>;

    /// Takes note of what was said for a unit and is not passed on. A unit that is worked again says the same again:
    /// what was noted before is replaced. Without a place to keep it, it is logged.
    ///
    /// # Errors
    /// [`CallError::Transient`].
    async fn dropped(&self, unit: &UnitName, dropped: &Dropped) -> Result<(), CallError> {
        for (reason, count) in dropped.iter() {
            let reason = reason.as_str();
            info!(unit = %unit, reason, count, "left out what a model said");
        }
        Ok(())
    }
}

/// What a server answered, whatever it was.
#[derive(Clone)]
pub struct Exchange {
    /// The HTTP status.
    pub status: u16,
    /// How long the server asks to be left alone, by whichever header says so.
    pub retry_after: Option<Duration>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection came about: the request was surely not received.
    #[error("the model's server can't be reached")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was sent, and no complete response came: whether it was billed is in doubt.
    #[error("the connection to the model's server broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was sent, and no complete response came in time: whether it was billed is in doubt.
    #[error("the model's server did not answer within {0:?}")]
    TimedOut(Duration),
}

/// Makes bare exchanges with one endpoint.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name in the ledger, for example `openai`.
    fn name(&self) -> &'static str;

    /// The endpoint's base address, without anything secret.
    fn endpoint(&self) -> &str;

    /// Sends `request` once, with `X-Graphmill-Call: id`, and reads the whole response. Never retries. Dropping it
    /// drops the connection.
    ///
    /// # Errors
    /// [`TransportError`] when no complete response came.
    async fn exchange(&self, id: &str, request: &CallRequest) -> Result<Exchange, TransportError>;

    /// What a response to such a request means.
    fn verdict(&self, operation: Operation, exchange: &Exchange) -> Verdict;
}

/// What a response means for the one who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A complete 2xx answer.
    Answered(Usage),
    /// The server asks for fewer calls. Not a try.
    Throttled,
    /// The account or the key: nothing will work until somebody does something.
    Blocked {
        /// What is to be done.
        reason: String,
    },
    /// May work later; counts for the breaker.
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// Will never work.
    Refused {
        /// Why.
        why: Refusal,
        /// For people.
        message: String,
    },
}

/// What a server says that a call took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included; `None` if the server does not say.
    pub prompt_tokens: Option<u64>,
    /// Of those, read from a cache.
    pub cached_tokens: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub completion_tokens: Option<u64>,
}
