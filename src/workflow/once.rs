//! Submissions that may be sent again: a key that the caller made up stands for one batch.
//!
//! Invariants: a key's row commits with its batch, so that no key has two; a body of which something was written down
//! can only be gone on with by the same body; what was answered once is answered again.

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::submit::{NewBatch, Submission, SubmitError, open, traced};
use crate::store::{self, KnownKey, Store, StoreError, Written};

/// The most characters of a key that a caller makes up. **Source:** what the header `Idempotency-Key` took first.
pub const KEY_CHARACTERS: usize = 255;

/// Whether a caller's key is one: 1 to [`KEY_CHARACTERS`] visible characters.
#[must_use]
pub fn is_key(text: &str) -> bool {
    (1..=KEY_CHARACTERS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A request that may be sent again.
#[derive(Debug, Clone)]
pub struct Once {
    /// What the caller made up.
    pub key: String,
    /// SHA-256 of everything that is asked but the body.
    pub request_hash: [u8; 32],
}

/// A request that may be sent again, whose body came whole.
#[derive(Debug, Clone)]
pub struct WholeRequest {
    /// Its key.
    pub once: Once,
    /// How long its body is.
    pub bytes: u64,
    /// SHA-256 of the body.
    pub hash: [u8; 32],
}

impl WholeRequest {
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

    /// All of it, as it is noted.
    #[must_use]
    pub const fn written(&self) -> Written<'_> {
        Written {
            bytes: self.bytes,
            hash: &self.hash,
            whole: true,
        }
    }

    /// Whether it is what was sent before.
    #[must_use]
    pub fn is(&self, known: &KnownKey) -> bool {
        known.request_hash == self.once.request_hash
            && known.body_bytes == self.bytes
            && known.body_hash.as_deref() == Some(self.hash.as_slice())
    }
}

/// How a request with a key stands.
pub enum Opened {
    /// It is the first one.
    New(Box<Submission>),
    /// It was sent before.
    Known(KnownKey),
}

/// What is known of a key.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn known_key(
    store: &Store,
    organization: OrganizationId,
    key: &str,
) -> Result<Option<KnownKey>, StoreError> {
    let mut read = store.app(organization).await?;
    store::known_key(&mut read, organization, key).await
}

/// Opens a batch for a key, unless it has one. `written` is all of the body, if it is known already.
///
/// # Errors
/// As [`Submission::open`].
pub async fn open_once(
    store: &Store,
    organization: OrganizationId,
    batch: &NewBatch,
    once: &Once,
    written: Option<Written<'_>>,
) -> Result<Opened, SubmitError> {
    let mut transaction = store.app(organization).await?;
    if let Some(known) = store::known_key(&mut transaction, organization, &once.key).await? {
        return Ok(Opened::Known(known));
    }
    let span = traced(batch);
    let opened = async {
        let id = BatchId::generate();
        open(&mut transaction, organization, id, batch, &span).await?;
        let (key, hash) = (&once.key, &once.request_hash);
        let taken = store::take_key(&mut transaction, organization, id, key, hash, written).await?;
        Ok::<_, SubmitError>((id, taken))
    };
    let opened = match opened.await {
        Ok((id, true)) => {
            transaction.commit().await.map_err(StoreError::from)?;
            let submission = Submission::opened(store, organization, id, span);
            return Ok(Opened::New(Box::new(submission)));
        }
        Ok((_, false)) => None,
        // The other one may have the name because it has the key.
        Err(SubmitError::Store(StoreError::NameTaken(name))) => {
            Some(SubmitError::Store(StoreError::NameTaken(name)))
        }
        Err(error) => return Err(error),
    };
    transaction.rollback().await.map_err(StoreError::from)?;
    match (known_key(store, organization, &once.key).await?, opened) {
        (Some(known), _) => Ok(Opened::Known(known)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(SubmitError::Store(StoreError::Overtaken)),
    }
}

/// Says how much of the body is written down.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn note_written(
    store: &Store,
    organization: OrganizationId,
    key: &str,
    written: Written<'_>,
) -> Result<(), StoreError> {
    let mut transaction = store.app(organization).await?;
    store::note_written(&mut transaction, organization, key, written).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps the answer for repeats. Returns what is to be answered: the first one.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn keep_answer(
    store: &Store,
    organization: OrganizationId,
    key: &str,
    answer: Value,
) -> Result<Value, StoreError> {
    let mut transaction = store.app(organization).await?;
    let kept = store::keep_answer(&mut transaction, organization, key, &answer).await?;
    transaction.commit().await?;
    Ok(kept.unwrap_or(answer))
}

/// The batch of a key that was cut off goes on; `None`: it has all its documents.
///
/// # Errors
/// What the store says.
pub async fn go_on(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Option<Submission>, SubmitError> {
    match Submission::reopen(store, organization, batch).await {
        Ok(submission) if submission.must_go_on() => Ok(Some(submission)),
        Ok(_) | Err(SubmitError::Sealed) => Ok(None),
        Err(error) => Err(error),
    }
}
