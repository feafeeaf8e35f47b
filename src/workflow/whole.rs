//! A submission that was sent whole, perhaps under a key: it is written down to its seal, and sent again it does nothing
//! twice. What comes over HTTP and what comes through Redis goes this one way.

use std::sync::OnceLock;

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;

use super::{
    intake::{Checked, Entry},
    once::{Opened, WholeRequest, go_on, open_once},
    submit::{Submission, SubmitError},
};
use crate::{
    store::{Store, StoreError},
    telemetry::TraceContext,
};

/// What became of a submission.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// Its batch.
    pub batch: BatchId,
    /// It is that of an earlier request.
    pub again: bool,
    /// What was answered then, if anything was.
    pub answer: Option<Value>,
    /// Its place in a trace, if one is made of it.
    pub trace: Option<TraceContext>,
}

/// Why a submission failed.
#[derive(Debug, thiserror::Error)]
pub enum HandInError {
    /// It could not be written down; the cause says whether trying again can help.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The key was sent with something else before. Trying again does not help.
    #[error("this key was sent with another request: a new request needs a new key")]
    AnotherBody,
}

impl From<StoreError> for HandInError {
    fn from(error: StoreError) -> Self {
        Self::Submit(error.into())
    }
}

/// Writes a submission down. Says which batch it is as soon as there is one.
///
/// # Errors
/// [`HandInError`]. What was begun under a key is gone on with when it is sent again.
pub async fn hand_in(
    store: &Store,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    sent: Option<&WholeRequest>,
    opened: &OnceLock<BatchId>,
) -> Result<HandedIn, HandInError> {
    let known = match sent {
        None => None,
        Some(sent) => {
            let written = Some(sent.written());
            Some(open_once(store, organization, &checked.batch, &sent.once, written).await?)
        }
    };
    let mut again = false;
    let submission = match known {
        None => Submission::open(store, organization, &checked.batch).await?,
        Some(Opened::New(submission)) => *submission,
        Some(Opened::Known(known)) => {
            if !sent.is_some_and(|sent| sent.is(&known)) {
                return Err(HandInError::AnotherBody);
            }
            let _ = opened.set(known.batch);
            again = true;
            let cut_off = if known.answer.is_none() {
                go_on(store, organization, known.batch).await?
            } else {
                None
            };
            match cut_off {
                Some(submission) => submission,
                None => {
                    return Ok(HandedIn {
                        batch: known.batch,
                        again,
                        answer: known.answer,
                        trace: None,
                    });
                }
            }
        }
    };
    let (batch, trace) = (submission.batch(), submission.trace());
    let _ = opened.set(batch);
    match fill(submission, checked, open).await {
        Ok(()) => tracing::info!(batch.id = %batch, "a batch was submitted"),
        // The other request with this key was faster.
        Err(SubmitError::Sealed) if again => {}
        Err(error) => return Err(error.into()),
    }
    Ok(HandedIn {
        batch,
        again,
        answer: None,
        trace,
    })
}

async fn fill(mut submission: Submission, checked: Checked, open: bool) -> Result<(), SubmitError> {
    if let Some(address) = &checked.notify {
        submission.notify(address).await?;
    }
    for entry in checked.entries {
        submission.take(entry).await?;
    }
    submission.finish(open).await.map(drop)
}

impl Submission {
    /// Adds a document, or writes down that it was refused.
    ///
    /// # Errors
    /// [`SubmitError::Store`], when this fills a step.
    pub async fn take(&mut self, entry: Entry) -> Result<(), SubmitError> {
        match entry {
            Entry::Document(document) => self.add(document).await,
            Entry::Refused { name, failure } => self.refuse(name, failure).await,
        }
    }
}
