//! Filling a batch piece by piece, each piece under a key: whoever comes first opens the batch, and a seal may wait until
//! it has all its documents.
//!
//! Invariant: a piece is one transaction, with its key and what is answered: it is there whole, or not at all, and a
//! repeat, however late, changes nothing and gets the first answer.

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::Value;

use super::{
    change,
    intake::{Checked, Entry},
    once::WholeRequest,
    submit::{SubmitError, open, row, seal, traced},
    whole::{HandInError, HandedIn},
};
use crate::{
    flow::{BatchChange, Intake},
    store::{self, AppTransaction, Changed, DocumentRow, Refused, Store, StoreError},
};

/// What a piece may have: documents, and bytes of their texts.
///
/// **Source:** no transaction may last five seconds; a step of a large submission is as large.
pub const MOST_ADDED: (usize, usize) = (500, 16 << 20);
/// How often two who open the same batch may miss one another.
const TRIES: usize = 5;

/// What came of a piece.
#[derive(Debug, Clone)]
pub struct Added {
    /// Its batch.
    pub batch: BatchId,
    /// What became of its documents.
    pub changed: Changed,
    /// The batch was opened for it.
    pub is_new: bool,
}

/// What came of a seal.
#[derive(Debug)]
pub enum SealedOnce {
    /// The batch is sealed.
    Done(HandedIn),
    /// It has so many documents yet, and is not sealed.
    Waits(u64),
    /// There is no such batch yet.
    Unknown,
}

/// Adds documents to the batch that `checked` names, which is opened and kept open if there is none: then its options
/// count. `answer` makes what is answered, now and to every repeat.
///
/// # Errors
/// [`HandInError`]; nothing was written.
pub async fn add_once(
    store: &Store,
    organization: OrganizationId,
    checked: Checked,
    sent: &WholeRequest,
    answer: impl Fn(&Added) -> Value,
) -> Result<HandedIn, HandInError> {
    let mut documents = Vec::new();
    let mut refused = Vec::new();
    for entry in checked.entries {
        match entry {
            Entry::Document(document) => documents.push(document),
            Entry::Refused { name, failure } => refused.push(Refused {
                external_id: name,
                failure,
            }),
        }
    }
    let rows: Vec<DocumentRow<'_>> = documents.iter().map(row).collect();
    let mut span = traced(&checked.batch);
    let mut tries = 0;
    loop {
        let mut transaction = store.app(organization).await?;
        if let Some(again) = known(&mut transaction, organization, sent).await? {
            span.set("graphmill.outcome", "known");
            return Ok(again);
        }
        let name = &checked.batch.name;
        let found = store::batch_by_name(&mut transaction, organization, name).await?;
        let written = async {
            let batch = if let Some(batch) = found {
                batch
            } else {
                let batch = BatchId::generate();
                open(&mut transaction, organization, batch, &checked.batch, &span).await?;
                if let Some(address) = &checked.notify {
                    let address = address.as_str();
                    store::set_notify(&mut transaction, organization, batch, address).await?;
                }
                change::end_filling(&mut transaction, organization, batch, true).await?;
                batch
            };
            if !take(&mut transaction, organization, batch, sent).await? {
                return Ok(None);
            }
            let changed =
                change::write_in(&mut transaction, organization, batch, &rows, &refused).await?;
            change::finish_in(&mut transaction, organization, batch, false).await?;
            let added = Added {
                batch,
                changed: changed.0,
                is_new: found.is_none(),
            };
            let answer = answer(&added);
            let key = &sent.once.key;
            store::keep_answer(&mut transaction, organization, key, &answer).await?;
            Ok::<_, SubmitError>(Some((added, answer)))
        };
        let missed = match written.await {
            Ok(Some((added, answer))) => {
                transaction.commit().await.map_err(StoreError::from)?;
                span.set("graphmill.batch.id", added.batch.to_string());
                return Ok(HandedIn {
                    batch: added.batch,
                    again: false,
                    answer: Some(answer),
                    trace: span.context(),
                });
            }
            // Somebody else has just opened it, or is writing the very same.
            Err(SubmitError::Store(StoreError::NameTaken(_))) if found.is_none() => {
                SubmitError::Store(StoreError::NameTaken(name.clone()))
            }
            Ok(None) => SubmitError::Store(StoreError::Overtaken),
            Err(error) => {
                span.fail("refused");
                return Err(error.into());
            }
        };
        tries += 1;
        if tries == TRIES {
            return Err(missed.into());
        }
    }
}

/// Seals the batch of that name once it has `documents`, or at once. One that is sealed already stays so.
///
/// # Errors
/// [`HandInError`]; nothing was written.
pub async fn seal_once(
    store: &Store,
    organization: OrganizationId,
    name: &str,
    documents: Option<u64>,
    sent: &WholeRequest,
    answer: impl Fn(BatchId) -> Value,
) -> Result<SealedOnce, HandInError> {
    let mut transaction = store.app(organization).await?;
    let connection = &mut transaction;
    if let Some(again) = known(connection, organization, sent).await? {
        return Ok(SealedOnce::Done(again));
    }
    let Some(batch) = store::batch_by_name(connection, organization, name).await? else {
        return Ok(SealedOnce::Unknown);
    };
    // Before the lock of the batch, as with a piece: two who wait for one another in turn would wait for ever.
    if !take(connection, organization, batch, sent).await? {
        return Err(StoreError::Overtaken.into());
    }
    store::intake_lock(connection, batch).await?;
    let found = store::batch_by_id(connection, organization, batch)
        .await?
        .ok_or(SubmitError::Sealed)?;
    if found.intake != Intake::Sealed {
        // They follow the batch's events: what is missing here comes within moments.
        let has = found.counts.submitted();
        if documents.is_some_and(|wanted| has < wanted) {
            transaction.rollback().await.map_err(StoreError::from)?;
            return Ok(SealedOnce::Waits(has));
        }
        change::asked(connection, organization, batch, BatchChange::Seal).await?;
        seal(connection, organization, batch).await?;
    }
    let answer = answer(batch);
    store::keep_answer(connection, organization, &sent.once.key, &answer).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(SealedOnce::Done(HandedIn {
        batch,
        again: false,
        answer: Some(answer),
        trace: None,
    }))
}

/// What was answered to the same before.
async fn known(
    transaction: &mut AppTransaction,
    organization: OrganizationId,
    sent: &WholeRequest,
) -> Result<Option<HandedIn>, HandInError> {
    let known = store::known_key(transaction, organization, &sent.once.key).await?;
    match known {
        None => Ok(None),
        Some(known) if sent.is(&known) => Ok(Some(HandedIn {
            batch: known.batch,
            again: true,
            answer: known.answer,
            trace: None,
        })),
        Some(_) => Err(HandInError::AnotherBody),
    }
}

/// Takes the key; `false`: somebody else has just taken it.
async fn take(
    transaction: &mut AppTransaction,
    organization: OrganizationId,
    batch: BatchId,
    sent: &WholeRequest,
) -> Result<bool, SubmitError> {
    let (key, hash) = (&sent.once.key, &sent.once.request_hash);
    let written = Some(sent.written());
    Ok(store::take_key(transaction, organization, batch, key, hash, written).await?)
}
