//! The desk where small submissions come in: those that come at the same time are written in one transaction, and each
//! is answered when that is durable.
//!
//! One with a key is written with the others, and its answer with it. What was sent with the key before is not the
//! desk's: it is given back.
//!
//! A submission that is written alone takes a dozen round trips and a flush of the log of its own. While one group is
//! written the next one gathers, so a lone submission waits for nobody.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use graphmill_jobs::{BatchId, OntologyId, OrganizationId};
use tokio::sync::{mpsc, oneshot};

use super::{
    once::WholeRequest,
    report::{self, BatchReport},
    submit::{NewBatch, SubmitError, row, spec, traced},
};
use crate::{
    graph::Ontology,
    notify::Address,
    pipeline::NewDocument,
    store::{self, AnsweredKey, BatchSpec, SealedBatch, Store, StoreError},
    telemetry::TraceContext,
};

/// Submissions of a group, and how many wait at most.
const GROUP: usize = 128;
const WAITING: usize = 1024;
/// Documents of a small submission, and bytes of their texts. **Source:** a group of them is written in well under a
/// second.
const DOCUMENTS: usize = 16;
const BYTES: usize = 128 << 10;

/// A submission that is complete, with documents that have passed the intake.
#[derive(Debug)]
pub struct Parcel {
    /// What the batch is opened with.
    pub batch: NewBatch,
    /// Who is told of its end.
    pub notify: Option<Address>,
    /// Its documents.
    pub documents: Vec<NewDocument>,
    /// Its key, if it may be sent again.
    pub sent: Option<WholeRequest>,
}

impl Parcel {
    /// Whether the desk takes it: it is small, it calls no model, and no two of its documents say the same.
    #[must_use]
    pub fn is_small(&self) -> bool {
        let bytes: usize = self
            .documents
            .iter()
            .map(|document| document.text.len())
            .sum();
        let distinct = |of: fn(&NewDocument) -> &str| {
            let all: HashSet<&str> = self.documents.iter().map(of).collect();
            all.len() == self.documents.len()
        };
        (1..=DOCUMENTS).contains(&self.documents.len())
            && bytes <= BYTES
            && self.batch.model.is_none()
            && distinct(|document| &document.id)
            && distinct(|document| &document.text)
    }
}

/// What became of a submission.
#[derive(Debug)]
pub enum Filed {
    /// It is written.
    Written(Box<BatchReport>),
    /// Its key was sent before, or just now: whoever handed it in finds out what became of that.
    KeyIsKnown(Box<Parcel>),
}

/// What is answered. One error may concern many.
type Answer = Result<Filed, Arc<SubmitError>>;
/// … before a parcel is given back with it; `None`: its key is known.
type Outcome = Result<Option<BatchReport>, Arc<SubmitError>>;
type Reply = oneshot::Sender<Answer>;

/// Where submissions are handed in.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<(OrganizationId, Parcel, Reply)>);

impl Desk {
    /// Opens a desk, which works until the last of its clones is gone.
    #[must_use]
    pub fn open(store: Store) -> Self {
        let (inbox, parcels) = mpsc::channel(WAITING);
        tokio::spawn(work(store, parcels));
        Self(inbox)
    }

    /// Hands a submission in; it is written whoever waits for the answer, which comes with its place in a trace, if one
    /// is made of it. `None`: the desk is closed.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] (of one without a key) within [`SubmitError::Store`], or what the store says.
    pub async fn submit(
        &self,
        organization: OrganizationId,
        mut parcel: Parcel,
    ) -> Option<(Answer, Option<TraceContext>)> {
        let given = parcel.batch.traceparent.clone();
        let (reply, answer) = oneshot::channel();
        let mut span = traced(&parcel.batch);
        if let Some(context) = span.context() {
            parcel.batch.traceparent = Some(context.to_string());
        }
        self.0.send((organization, parcel, reply)).await.ok()?;
        let mut answer = answer.await.ok()?;
        match &mut answer {
            Ok(Filed::Written(report)) => {
                span.set("graphmill.batch.id", report.batch_id.to_string());
            }
            Ok(Filed::KeyIsKnown(parcel)) => {
                parcel.batch.traceparent = given;
                span.set("graphmill.outcome", "known");
            }
            Err(_) => span.fail("refused"),
        }
        Some((answer, span.context()))
    }
}

async fn work(store: Store, mut parcels: mpsc::Receiver<(OrganizationId, Parcel, Reply)>) {
    let mut group = Vec::with_capacity(GROUP);
    while parcels.recv_many(&mut group, GROUP).await > 0 {
        let mut of_each: BTreeMap<OrganizationId, (Vec<Parcel>, Vec<Reply>)> = BTreeMap::new();
        for (organization, parcel, reply) in group.drain(..) {
            let (parcels, replies) = of_each.entry(organization).or_default();
            parcels.push(parcel);
            replies.push(reply);
        }
        for (organization, (parcels, replies)) in of_each {
            let answers = answers(&store, organization, &parcels).await;
            for ((reply, answer), parcel) in replies.into_iter().zip(answers).zip(parcels) {
                let filed = answer.map(|written| match written {
                    Some(report) => Filed::Written(Box::new(report)),
                    None => Filed::KeyIsKnown(Box::new(parcel)),
                });
                // Whoever has left needs no answer.
                let _ = reply.send(filed);
            }
        }
    }
}

/// Writes submissions of an organization, and says what came of each.
async fn answers(store: &Store, organization: OrganizationId, parcels: &[Parcel]) -> Vec<Outcome> {
    match write(store, organization, parcels).await {
        Ok(answers) => answers,
        // One of them may be at fault, or too many: nobody else is to suffer for it.
        Err(SubmitError::Store(error))
            if parcels.len() > 1
                && (error.is_about_data()
                    || matches!(error, StoreError::Quota { .. } | StoreError::Overtaken)) =>
        {
            let mut answers = Vec::with_capacity(parcels.len());
            for parcel in parcels {
                let one = std::slice::from_ref(parcel);
                match write(store, organization, one).await {
                    Ok(written) => answers.extend(written),
                    Err(SubmitError::Store(StoreError::Overtaken)) => answers.push(Ok(None)),
                    Err(error) => answers.push(Err(Arc::new(error))),
                }
            }
            answers
        }
        // Another replica took its key meanwhile.
        Err(SubmitError::Store(StoreError::Overtaken)) => {
            parcels.iter().map(|_| Ok(None)).collect()
        }
        Err(error) => {
            let error = Arc::new(error);
            parcels.iter().map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}

async fn write(
    store: &Store,
    organization: OrganizationId,
    parcels: &[Parcel],
) -> Result<Vec<Outcome>, SubmitError> {
    let mut transaction = store.app(organization).await?;
    let fresh = fresh(&mut transaction, organization, parcels).await?;
    let mut known: Vec<(&Arc<Ontology>, OntologyId)> = Vec::new();
    let mut specs: Vec<BatchSpec> = Vec::with_capacity(parcels.len());
    for &(_, parcel) in &fresh {
        let wanted = &parcel.batch.ontology;
        let ontology =
            if let Some(&(_, id)) = known.iter().find(|(known, _)| Arc::ptr_eq(known, wanted)) {
                id
            } else {
                let id = store::ensure_ontology(&mut transaction, organization, wanted).await?;
                known.push((wanted, id));
                id
            };
        specs.push(spec(&parcel.batch, ontology)?);
    }
    let batches: Vec<SealedBatch<'_>> = fresh
        .iter()
        .zip(&specs)
        .map(|(&(_, parcel), spec)| SealedBatch {
            id: BatchId::generate(),
            spec,
            notify: parcel.notify.as_ref().map(Address::as_str),
            documents: parcel.documents.iter().map(row).collect(),
        })
        .collect();
    let written = store::add_sealed(&mut transaction, organization, &batches).await?;
    let written: HashSet<BatchId> = written.into_iter().collect();
    let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
    let mut keys = Vec::new();
    for (&(at, parcel), batch) in fresh.iter().zip(&batches) {
        let name = batch.spec.name.clone();
        let outcome = match (&parcel.sent, written.contains(&batch.id)) {
            (sent, true) => {
                let report = report::fresh(batch.id, name, batch.documents.len() as u64);
                if let Some(sent) = sent {
                    keys.push(AnsweredKey {
                        key: &sent.once.key,
                        batch: batch.id,
                        request_hash: &sent.once.request_hash,
                        written: sent.written(),
                        answer: serde_json::to_value(&report).map_err(SubmitError::Settings)?,
                    });
                }
                Ok(Some(report))
            }
            // The name may be taken because the key is, by a replica that was faster.
            (Some(_), false) => Ok(None),
            (None, false) => Err(Arc::new(SubmitError::Store(StoreError::NameTaken(name)))),
        };
        outcomes.insert(at, outcome);
    }
    if !keys.is_empty() && !store::take_keys(&mut transaction, organization, &keys).await? {
        return Err(SubmitError::Store(StoreError::Overtaken));
    }
    transaction.commit().await.map_err(StoreError::from)?;
    let outcome = |at: usize| outcomes.remove(&at).unwrap_or(Ok(None));
    Ok((0..parcels.len()).map(outcome).collect())
}

/// The parcels that nobody has sent before: those without a key, and the first one of each key that is not known.
async fn fresh<'a>(
    transaction: &mut store::AppTransaction,
    organization: OrganizationId,
    parcels: &'a [Parcel],
) -> Result<Vec<(usize, &'a Parcel)>, SubmitError> {
    let key = |parcel: &'a Parcel| parcel.sent.as_ref().map(|sent| sent.once.key.as_str());
    let keys: Vec<String> = parcels.iter().filter_map(key).map(str::to_owned).collect();
    if keys.is_empty() {
        return Ok(parcels.iter().enumerate().collect());
    }
    let mut known = store::known_keys(transaction, organization, &keys).await?;
    let fresh = parcels
        .iter()
        .enumerate()
        .filter(|(_, parcel)| key(parcel).is_none_or(|key| known.insert(key.to_owned())));
    Ok(fresh.collect())
}
