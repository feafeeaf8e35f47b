//! The desk where small submissions come in: those that come at the same time are written in one transaction, and each
//! is answered when that is durable.
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
    report::{self, BatchReport},
    submit::{NewBatch, SubmitError, row, spec, traced},
};
use crate::{
    graph::Ontology,
    notify::Address,
    pipeline::NewDocument,
    store::{self, BatchSpec, SealedBatch, Store, StoreError},
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

/// What is answered. One error may concern many.
type Answer = Result<BatchReport, Arc<SubmitError>>;
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
    /// [`StoreError::NameTaken`] within [`SubmitError::Store`], or what the store says.
    pub async fn submit(
        &self,
        organization: OrganizationId,
        mut parcel: Parcel,
    ) -> Option<(Answer, Option<TraceContext>)> {
        let (reply, answer) = oneshot::channel();
        let mut span = traced(&parcel.batch);
        if let Some(context) = span.context() {
            parcel.batch.traceparent = Some(context.to_string());
        }
        self.0.send((organization, parcel, reply)).await.ok()?;
        let answer = answer.await.ok()?;
        match &answer {
            Ok(report) => span.set("graphmill.batch.id", report.batch_id.to_string()),
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
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever has left needs no answer.
                let _ = reply.send(answer);
            }
        }
    }
}

/// Writes submissions of an organization, and says what came of each.
async fn answers(store: &Store, organization: OrganizationId, parcels: &[Parcel]) -> Vec<Answer> {
    match write(store, organization, parcels).await {
        Ok(answers) => answers,
        // One of them may be at fault, or too many: nobody else is to suffer for it.
        Err(SubmitError::Store(error))
            if parcels.len() > 1
                && (error.is_about_data() || matches!(error, StoreError::Quota { .. })) =>
        {
            let mut answers = Vec::with_capacity(parcels.len());
            for parcel in parcels {
                let one = std::slice::from_ref(parcel);
                match write(store, organization, one).await {
                    Ok(written) => answers.extend(written),
                    Err(error) => answers.push(Err(Arc::new(error))),
                }
            }
            answers
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
) -> Result<Vec<Answer>, SubmitError> {
    let mut transaction = store.app(organization).await?;
    let mut known: Vec<(&Arc<Ontology>, OntologyId)> = Vec::new();
    let mut specs: Vec<BatchSpec> = Vec::with_capacity(parcels.len());
    for parcel in parcels {
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
    let batches: Vec<SealedBatch<'_>> = parcels
        .iter()
        .zip(&specs)
        .map(|(parcel, spec)| SealedBatch {
            id: BatchId::generate(),
            spec,
            notify: parcel.notify.as_ref().map(Address::as_str),
            documents: parcel.documents.iter().map(row).collect(),
        })
        .collect();
    let written = store::add_sealed(&mut transaction, organization, &batches).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    let written: HashSet<BatchId> = written.into_iter().collect();
    let answers = batches.iter().map(|batch| {
        let name = batch.spec.name.clone();
        if written.contains(&batch.id) {
            Ok(report::fresh(batch.id, name, batch.documents.len() as u64))
        } else {
            Err(Arc::new(SubmitError::Store(StoreError::NameTaken(name))))
        }
    });
    Ok(answers.collect())
}
