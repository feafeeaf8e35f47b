//! A submission that was sent whole, perhaps under a key: it is written down to its seal, and sent again it does nothing
//! twice. What comes over HTTP and what comes through Redis goes this one way.

use std::sync::OnceLock;

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    intake::{Checked, Entry},
    once::{Once, Opened, go_on, open_once},
    submit::{Submission, SubmitError},
};
use crate::store::{KnownKey, Store, Written};

/// A body that was sent whole, under a key.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The key, and what was asked but the body.
    pub once: Once,
    bytes: u64,
    hash: [u8; 32],
}

impl Sent {
    /// `body`, sent under `key`, to what `request` stands for.
    #[must_use]
    pub fn new(key: String, request: &str, body: &[u8]) -> Self {
        Self {
            once: Once {
                key,
                request_hash: Sha256::digest(request).into(),
            },
            bytes: body.len() as u64,
            hash: Sha256::digest(body).into(),
        }
    }

    /// All of it is written down.
    #[must_use]
    pub const fn written(&self) -> Written<'_> {
        Written {
            bytes: self.bytes,
            hash: &self.hash,
            whole: true,
        }
    }

    /// Whether it is what the key was sent with first.
    #[must_use]
    pub fn is(&self, known: &KnownKey) -> bool {
        known.request_hash == self.once.request_hash
            && known.body_bytes == self.bytes
            && known.body_hash.as_deref() == Some(self.hash.as_slice())
    }
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub struct HandedIn {
    /// Its batch.
    pub batch: BatchId,
    /// It is that of an earlier request.
    pub again: bool,
    /// What was answered then, if anything was.
    pub answer: Option<Value>,
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

/// Writes a submission down. Says which batch it is as soon as there is one.
///
/// # Errors
/// [`HandInError`]. What was begun under a key is gone on with when it is sent again.
pub async fn hand_in(
    store: &Store,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    sent: Option<&Sent>,
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
        Some(Opened::New(submission)) => submission,
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
                    });
                }
            }
        }
    };
    let batch = submission.batch();
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
