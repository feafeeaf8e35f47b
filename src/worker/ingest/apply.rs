//! What becomes of an envelope: who sent it, what it asks for, and what its producer is told.
//!
//! Must not know queues or scripts. Invariant: what may go better another time is put back, and everything else is
//! answered; nothing that an organization may not do over HTTP can be done here.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use graphmill_jobs::{BatchId, OrganizationId};
use serde_json::{Value, json};
use tracing::info;

use super::{
    Desk, RECEIPT,
    envelope::{self, Read, What},
};
use crate::{
    keys::Refusal,
    queue::Envelope,
    store::{self, Scope, StoreError},
    workflow::{
        self, Added, Checked, FailureReport, HandInError, HandedIn, SealedOnce, SubmitError,
        WholeRequest,
    },
};

/// Refused documents that a receipt lists.
const LISTED: usize = 100;
/// How long a seal waits for the documents of its batch.
const SEAL_WAITS: Duration = Duration::from_secs(3600);

/// What becomes of an envelope.
pub(super) enum Verdict {
    /// Its rows are durable.
    Accepted {
        /// What its producer is told.
        answer: Value,
        /// For how long.
        kept: Duration,
    },
    /// It can't be taken in, now or ever.
    Refused(Refused),
    /// Perhaps after a while.
    Later(Duration),
}

/// Why an envelope can't be taken in.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) place: Option<String>,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: &'static str, message: String) -> Self {
        Self {
            code,
            place: None,
            message,
        }
    }

    pub(super) fn at(code: &'static str, place: &str, message: String) -> Self {
        Self {
            code,
            place: Some(place.to_owned()),
            message,
        }
    }

    /// What its producer is told.
    pub(super) fn answer(&self) -> Value {
        let mut answer = json!({"status": "refused", "code": self.code, "message": self.message});
        if let Some(place) = &self.place {
            answer["place"] = place.as_str().into();
        }
        answer
    }
}

impl From<Refused> for Verdict {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Takes an envelope in.
pub(super) async fn apply(desk: &Arc<Desk>, envelope: &Envelope) -> Verdict {
    match tried(desk, envelope).await {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

async fn tried(desk: &Arc<Desk>, envelope: &Envelope) -> Result<Verdict, Verdict> {
    let organization = admitted(desk, envelope).await?;
    let payload = envelope.payload.clone();
    let settings = Arc::clone(desk);
    // Checking many megabytes would keep a thread from others.
    let reading = tokio::task::spawn_blocking(move || envelope::read(&payload, &settings.settings));
    let read = reading.await.map_err(|panic| {
        tracing::error!(error = %panic, "an envelope could not be read, which is a bug");
        Verdict::Refused(Refused::new("internal", "it could not be read".to_owned()))
    })?;
    let Read {
        what,
        sent,
        receipt_seconds,
    } = read?;
    let (mut answer, again) = match what {
        What::Submit { checked, open } => submit(desk, organization, checked, open, &sent).await,
        What::Add(checked) => add(desk, organization, checked, &sent).await,
        What::Seal { name, documents } => {
            seal(desk, organization, &name, documents, &sent, envelope.age).await
        }
    }
    .map_err(|failed| failed.verdict(envelope.age))?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("again".to_owned(), again.into());
    }
    let kept = receipt_seconds.map_or(RECEIPT, |seconds| Duration::from_secs(seconds.into()));
    Ok(Verdict::Accepted { answer, kept })
}

/// For whom an envelope is, if its key may write, and not too often.
async fn admitted(desk: &Desk, envelope: &Envelope) -> Result<OrganizationId, Verdict> {
    let shown = envelope::api_key(&envelope.payload)?;
    let holder = match desk.keyring.admit(&shown).await {
        Ok(holder) => holder,
        Err(Refusal::Store(error)) => return Err(Failed::from(error).verdict(envelope.age)),
        Err(refusal) => {
            let (code, place) = ("unauthorized", "api_key");
            return Err(Refused::at(code, place, refusal.to_string()).into());
        }
    };
    if holder.scope < Scope::Write {
        let message = format!("this API key lacks the scope `{}`", Scope::Write.as_str());
        return Err(Refused::at("forbidden", "api_key", message).into());
    }
    if let Some(rate) = holder.rate {
        let taken = desk.rates.take(holder.organization, rate).await;
        if !taken.allowed {
            // Over HTTP it would be asked to come again; a queue can wait by itself. All those that wait can't have the
            // same next turn, so the longer one has waited the longer it is left alone.
            return Err(Verdict::Later(taken.wait.max(envelope.age / 4).min(LATEST)));
        }
    }
    Ok(holder.organization)
}

/// The longest that an envelope is put back for.
const LATEST: Duration = Duration::from_secs(30);

/// Why something that was asked for did not come about.
enum Failed {
    HandIn(HandInError),
    Refused(Refused),
    /// The seal waits.
    NotYet,
}

impl From<HandInError> for Failed {
    fn from(error: HandInError) -> Self {
        Self::HandIn(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::HandIn(error.into())
    }
}

impl Failed {
    fn verdict(self, age: Duration) -> Verdict {
        let error = match self {
            Self::Refused(refused) => return refused.into(),
            Self::NotYet => {
                let wait = (age / 4).clamp(Duration::from_millis(250), Duration::from_secs(10));
                return Verdict::Later(wait);
            }
            Self::HandIn(HandInError::AnotherBody) => {
                let message = HandInError::AnotherBody.to_string();
                return Refused::at("another_request", "key", message).into();
            }
            Self::HandIn(HandInError::Submit(error)) => error,
        };
        match &error {
            SubmitError::Store(StoreError::Quota { quota, limit }) => Refused::new(
                "quota",
                format!("the quota is used up: the organization may have {limit} {quota} at most"),
            )
            .into(),
            SubmitError::Store(StoreError::NameTaken(name)) => Refused::new(
                "conflict",
                format!("the name `{name}` is taken by another batch: give another one, or none"),
            )
            .into(),
            SubmitError::Store(failed)
                if failed.is_transient() || matches!(failed, StoreError::Overtaken) =>
            {
                tracing::debug!(%error, "a submission waits for Postgres");
                Verdict::Later((age / 4).clamp(Duration::from_secs(1), LATEST))
            }
            SubmitError::Store(StoreError::Sealed)
            | SubmitError::Sealed
            | SubmitError::Illegal(_)
            | SubmitError::Refused => Refused::new("conflict", error.to_string()).into(),
            SubmitError::Store(_) | SubmitError::Settings(_) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a submission failed at Postgres"
                );
                let message = "the server failed, and its log says why".to_owned();
                Refused::new("internal", message).into()
            }
        }
    }
}

/// A batch with all its documents.
async fn submit(
    desk: &Desk,
    organization: OrganizationId,
    checked: Checked,
    open: bool,
    sent: &WholeRequest,
) -> Result<(Value, bool), Failed> {
    let submitted = checked.entries.len() as u64;
    let opened = OnceLock::new();
    let HandedIn {
        batch,
        again,
        answer,
        trace: _,
    } = workflow::hand_in(
        &desk.store,
        organization,
        checked,
        open,
        Some(sent),
        &opened,
    )
    .await?;
    if let Some(answer) = answer {
        return Ok((answer, again));
    }
    let mut read = desk.store.app(organization).await?;
    let most = i64::try_from(submitted).unwrap_or(i64::MAX);
    let refused = store::failures(&mut read, organization, batch, most).await?;
    let found = store::batch_by_id(&mut read, organization, batch).await?;
    drop(read);
    let name = found.map(|found| found.name).unwrap_or_default();
    let mut answer = accepted(
        batch,
        &name,
        refused.iter().cloned().map(Into::into).collect(),
    );
    answer["sealed"] = (!open).into();
    answer["documents"]["added"] = submitted.saturating_sub(refused.len() as u64).into();
    let key = &sent.once.key;
    let answer = workflow::keep_answer(&desk.store, organization, key, answer).await?;
    Ok((answer, again))
}

/// Documents for a batch that is kept open.
async fn add(
    desk: &Desk,
    organization: OrganizationId,
    checked: Checked,
    sent: &WholeRequest,
) -> Result<(Value, bool), Failed> {
    let name = checked.batch.name.clone();
    let answer = |added: &Added| {
        let Added { batch, changed, .. } = added;
        let refused = changed.refused.iter().cloned().map(Into::into).collect();
        let mut answer = accepted(*batch, &name, refused);
        let documents = &mut answer["documents"];
        documents["added"] = changed.added.into();
        documents["replaced"] = changed.replaced.into();
        documents["unchanged"] = changed.unchanged.into();
        answer
    };
    let handed_in = workflow::add_once(&desk.store, organization, checked, sent, answer).await?;
    if !handed_in.again {
        info!(batch.id = %handed_in.batch, "documents were added");
    }
    Ok(told(handed_in))
}

/// The seal of a batch.
async fn seal(
    desk: &Desk,
    organization: OrganizationId,
    name: &str,
    documents: Option<u64>,
    sent: &WholeRequest,
    age: Duration,
) -> Result<(Value, bool), Failed> {
    let answer = |batch: BatchId| {
        json!({
            "status": "accepted", "batch_id": batch.to_string(), "batch": name, "sealed": true,
        })
    };
    let sealed =
        workflow::seal_once(&desk.store, organization, name, documents, sent, answer).await?;
    match (sealed, documents) {
        (SealedOnce::Done(handed_in), _) => {
            if !handed_in.again {
                info!(batch.id = %handed_in.batch, "a batch was sealed");
            }
            Ok(told(handed_in))
        }
        (SealedOnce::Unknown | SealedOnce::Waits(_), Some(_)) if age < SEAL_WAITS => {
            Err(Failed::NotYet)
        }
        (SealedOnce::Waits(has), wanted) => Err(Failed::Refused(Refused::at(
            "incomplete",
            "seal.documents",
            format!(
                "the batch has {has} of {} documents after an hour, and is kept open",
                wanted.unwrap_or_default()
            ),
        ))),
        (SealedOnce::Unknown, _) => Err(Failed::Refused(Refused::at(
            "not_found",
            "seal.name",
            "there is no batch of this name".to_owned(),
        ))),
    }
}

/// What was answered, now or the first time.
fn told(handed_in: HandedIn) -> (Value, bool) {
    let otherwise = || json!({"status": "accepted", "batch_id": handed_in.batch.to_string()});
    let answer = handed_in.answer.unwrap_or_else(otherwise);
    (answer, handed_in.again)
}

fn accepted(batch: BatchId, name: &str, mut refused: Vec<FailureReport>) -> Value {
    let count = refused.len();
    refused.truncate(LISTED);
    json!({
        "status": "accepted",
        "batch_id": batch.to_string(),
        "batch": name,
        "sealed": false,
        "documents": {"added": 0, "replaced": 0, "unchanged": 0, "refused": count},
        "refused": refused,
    })
}
