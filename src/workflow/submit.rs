//! Submitting: the batch first, then its documents in bounded steps, then the seal. Every step is durable when it
//! returns, and repeating a submission that was cut off adds nothing twice. Adding to a batch that is open, or has
//! ended, goes the same way; what a step of it means is `change`'s.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use graphmill_jobs::{BatchId, OntologyId, OrganizationId};
use uuid::Uuid;

use super::change;
use crate::{
    flow::{Event, EventKind, Failure, FailurePolicy, Filling, IllegalMove, Intake, Tolerance},
    graph::Ontology,
    notify::Address,
    pipeline::{BatchConfig, ModelChoice, NewDocument, Settings, content_hash},
    store::{self, BatchSpec, Caps, Changed, DocumentRow, Refused, Store, StoreError},
    telemetry::{Does, Span, TraceContext},
};

/// Documents of a step.
const STEP_DOCUMENTS: usize = 500;
/// Bytes of text of a step. **Source:** no transaction may last five seconds.
const STEP_BYTES: usize = 8 << 20;

/// What a batch is opened with.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Unique in the organization.
    pub name: String,
    /// The extractor's name; every worker that is to work the batch must have it.
    pub extractor: String,
    /// What may be found.
    pub ontology: Arc<Ontology>,
    /// How its documents are worked.
    pub settings: Settings,
    /// The model that its extractor calls, if it calls one, and what that may cost.
    pub model: Option<(ModelChoice, Caps)>,
    /// Documents in processing at once, over all replicas; 1 to 10,000.
    pub concurrency: u32,
    /// What to do about a document that fails.
    pub policy: FailurePolicy,
    /// Extra rounds that `retry-failed` gives.
    pub max_retries: u32,
    /// How many documents may be given up before the rest is cancelled; none is any number.
    pub tolerance: Option<Tolerance>,
    /// Its share of the fleet against other open batches of its organization; 1 to 1,000.
    pub weight: u32,
    /// W3C trace context of whoever asks for it; one that is not valid counts as none.
    pub traceparent: Option<String>,
}

/// Characters of a name at most.
const NAME_CHARACTERS: usize = 200;
/// How long Postgres may be away during a submission: the owner of private servers may end at any time, and another
/// process takes them over within seconds.
const AWAY: Duration = Duration::from_secs(30);
/// The pause before a step is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a submission failed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The store did not do its part; it says whether trying again can help.
    #[error(transparent)]
    Store(StoreError),
    /// The settings have no JSON form; a bug.
    #[error("the batch's settings can't be written down")]
    Settings(#[source] serde_json::Error),
    /// The batch takes no more documents.
    #[error("the batch is sealed: it takes no more documents")]
    Sealed,
    /// The batch can't take what is asked of it as it stands.
    #[error(transparent)]
    Illegal(#[from] IllegalMove),
    /// The document was refused: it is in the batch's report with its reason. Trying again does not help.
    #[error("the document was refused: its batch says why")]
    Refused,
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Sealed) {
            return Self::Sealed;
        }
        Self::Store(error)
    }
}

/// A submission in progress: documents that wait to be written in one step.
pub struct Submission {
    store: Store,
    organization: OrganizationId,
    batch: BatchId,
    /// What the batch was when it began.
    intake: Intake,
    changed: Changed,
    documents: Vec<NewDocument>,
    refused: Vec<Refused>,
    bytes: usize,
    /// From its opening to its end.
    span: Span,
}

impl Submission {
    /// Opens a batch.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] within [`SubmitError::Store`], or what the store says.
    pub async fn open(
        store: &Store,
        organization: OrganizationId,
        batch: &NewBatch,
    ) -> Result<Self, SubmitError> {
        let mut span = traced(batch);
        let opened = async {
            let mut transaction = store.app(organization).await?;
            let id = open(&mut transaction, organization, batch, &span).await?;
            transaction.commit().await.map_err(StoreError::from)?;
            Ok(id)
        };
        match opened.await {
            Ok(id) => Ok(Self::opened(store, organization, id, span)),
            Err(error) => {
                span.fail("refused");
                Err(error)
            }
        }
    }

    /// Goes on with a submission that was cut off before the seal; adds to a batch that is kept open.
    ///
    /// # Errors
    /// [`SubmitError::Sealed`], or what the store says.
    pub async fn reopen(
        store: &Store,
        organization: OrganizationId,
        batch: BatchId,
    ) -> Result<Self, SubmitError> {
        let mut transaction = store.app(organization).await?;
        let found = store::batch_by_id(&mut transaction, organization, batch).await?;
        match found.map(|found| found.intake) {
            None | Some(Intake::Sealed) => Err(SubmitError::Sealed),
            // One that is being retried or re-run has all its documents.
            Some(Intake::Filling(filling)) if filling.is_of_its_own() => Err(SubmitError::Sealed),
            Some(intake) => Ok(Self::of(store, organization, batch, intake)),
        }
    }

    /// Adds documents to a batch that takes them, now or in its next generation; those that it has are replaced if
    /// their text is another one.
    ///
    /// # Errors
    /// [`SubmitError::Illegal`] if it does not, or what the store says.
    pub async fn to(
        store: &Store,
        organization: OrganizationId,
        batch: BatchId,
    ) -> Result<Self, SubmitError> {
        change::check(store, organization, batch).await?;
        Ok(Self::of(store, organization, batch, Intake::Open))
    }

    /// One whose batch was opened just now.
    pub(super) fn opened(
        store: &Store,
        organization: OrganizationId,
        batch: BatchId,
        mut span: Span,
    ) -> Self {
        span.set("graphmill.batch.id", batch.to_string());
        let intake = Intake::Filling(Filling::Submission);
        Self {
            span,
            ..Self::of(store, organization, batch, intake)
        }
    }

    pub(super) fn of(
        store: &Store,
        organization: OrganizationId,
        batch: BatchId,
        intake: Intake,
    ) -> Self {
        Self {
            store: store.clone(),
            organization,
            batch,
            intake,
            changed: Changed::default(),
            documents: Vec::new(),
            refused: Vec::new(),
            bytes: 0,
            span: Span::none(),
        }
    }

    /// Has the end of the batch told to `address`. Before the seal, so that no end can come before it.
    ///
    /// # Errors
    /// [`SubmitError::Store`]; trying again may help.
    pub async fn notify(&self, address: &Address) -> Result<(), SubmitError> {
        Ok(notify(&self.store, self.organization, self.batch, address)
            .await
            .map(drop)?)
    }

    /// The batch's id.
    #[must_use]
    pub const fn batch(&self) -> BatchId {
        self.batch
    }

    /// Whose batch it is.
    #[must_use]
    pub const fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Its place in a trace, if one is made of it.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.span.context()
    }

    /// Adds a document, which has passed the intake.
    ///
    /// # Errors
    /// [`SubmitError::Store`], when this fills a step.
    pub async fn add(&mut self, document: NewDocument) -> Result<(), SubmitError> {
        self.bytes += document.text.len();
        self.documents.push(document);
        if self.documents.len() >= STEP_DOCUMENTS || self.bytes >= STEP_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes down that a document was refused.
    ///
    /// # Errors
    /// [`SubmitError::Store`], when this fills a step.
    pub async fn refuse(&mut self, id: String, failure: Failure) -> Result<(), SubmitError> {
        self.refused.push(Refused {
            external_id: id,
            failure,
        });
        if self.refused.len() >= STEP_DOCUMENTS {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether all that was added is written down.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.documents.is_empty() && self.refused.is_empty()
    }

    /// Writes down what was added.
    ///
    /// # Errors
    /// [`SubmitError::Store`].
    pub async fn write(&mut self) -> Result<(), SubmitError> {
        self.flush().await
    }

    /// Whether the batch waits for the rest of its documents, and for its seal.
    #[must_use]
    pub const fn must_go_on(&self) -> bool {
        matches!(self.intake, Intake::Filling(_))
    }

    /// Writes the last step and seals the batch, if it was not kept open before.
    ///
    /// # Errors
    /// [`SubmitError::Store`]; the batch stays open.
    pub async fn seal(self) -> Result<BatchId, SubmitError> {
        let batch = self.batch;
        self.finish(false).await?;
        Ok(batch)
    }

    /// Writes the last step, and seals the batch or keeps it open for more; one that was kept open before stays so.
    /// Returns what became of the documents of an addition.
    ///
    /// # Errors
    /// [`SubmitError::Store`]; the batch stays open.
    pub async fn finish(mut self, keep_open: bool) -> Result<Changed, SubmitError> {
        self.flush().await?;
        let begun = Instant::now();
        while let Err(error) = self.end_filling(keep_open).await {
            wait_out(error, begun).await?;
        }
        Ok(self.changed)
    }

    async fn end_filling(&self, keep_open: bool) -> Result<(), SubmitError> {
        let (organization, batch) = (self.organization, self.batch);
        if self.intake != Intake::Filling(Filling::Submission) {
            return change::finish(&self.store, organization, batch, keep_open).await;
        }
        let mut transaction = self.store.app(organization).await?;
        change::end_filling(&mut transaction, organization, batch, keep_open).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SubmitError> {
        let begun = Instant::now();
        let changed = loop {
            match self.write_step().await {
                Ok(changed) => break changed,
                Err(error) => wait_out(error, begun).await?,
            }
        };
        self.changed.added += changed.added;
        self.changed.replaced += changed.replaced;
        self.changed.unchanged += changed.unchanged;
        self.changed.refused.extend(changed.refused);
        self.documents.clear();
        self.refused.clear();
        self.bytes = 0;
        Ok(())
    }

    /// May be repeated after a commit of unknown outcome: what is there already is not added twice.
    async fn write_step(&self) -> Result<Changed, SubmitError> {
        let rows: Vec<DocumentRow<'_>> = self.documents.iter().map(row).collect();
        let (organization, batch) = (self.organization, self.batch);
        if self.intake != Intake::Filling(Filling::Submission) {
            return change::write(&self.store, organization, batch, &rows, &self.refused).await;
        }
        let mut transaction = self.store.app(organization).await?;
        if !rows.is_empty() {
            store::add_documents(&mut transaction, organization, batch, &rows).await?;
        }
        if !self.refused.is_empty() {
            store::add_refusals(&mut transaction, organization, batch, &self.refused).await?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Changed::default())
    }
}

/// What is written down of a batch that is opened.
pub(super) fn spec(batch: &NewBatch, ontology: OntologyId) -> Result<BatchSpec, SubmitError> {
    let config = BatchConfig {
        settings: batch.settings,
        model: batch.model.as_ref().map(|(choice, _)| choice.clone()),
    };
    Ok(BatchSpec {
        name: batch.name.clone(),
        ontology,
        extractor: batch.extractor.clone(),
        config: serde_json::to_value(&config).map_err(SubmitError::Settings)?,
        concurrency: batch.concurrency,
        policy: batch.policy,
        max_retries: batch.max_retries,
        tolerance: batch.tolerance,
        weight: batch.weight,
        traceparent: batch
            .traceparent
            .as_deref()
            .and_then(TraceContext::parse)
            .map(|context| context.to_string()),
    })
}

/// What is written down of a document.
pub(super) fn row(document: &NewDocument) -> DocumentRow<'_> {
    DocumentRow {
        external_id: &document.id,
        title: document.title.as_deref(),
        source_uri: document.source_uri.as_deref(),
        text: &document.text,
        content_hash: content_hash(&document.text),
        metadata: &document.metadata,
    }
}

/// Begins the span of a submission, below whoever asks for it.
pub(super) fn traced(batch: &NewBatch) -> Span {
    let given = batch.traceparent.as_deref().and_then(TraceContext::parse);
    let span = Span::begin("submit", Does::Submit, given);
    if let Some(context) = span.context() {
        tracing::Span::current().record("trace_id", context.trace_id());
    }
    span
}

/// Opens a batch in a transaction, and tells of it. Its work hangs below `span`, if that is made.
pub(super) async fn open(
    transaction: &mut store::AppTransaction,
    organization: OrganizationId,
    batch: &NewBatch,
    span: &Span,
) -> Result<BatchId, SubmitError> {
    let ontology = store::ensure_ontology(transaction, organization, &batch.ontology).await?;
    let mut spec = spec(batch, ontology)?;
    if let Some(context) = span.context() {
        spec.traceparent = Some(context.to_string());
    }
    let id = store::add_batch(transaction, organization, &spec).await?;
    if let Some((_, caps)) = batch.model {
        store::set_budget(transaction, organization, id, caps).await?;
    }
    let kind = EventKind::BatchCreated { name: spec.name };
    let event = Event::of_batch(organization, id, kind);
    store::append_event(transaction, &event).await?;
    Ok(id)
}

/// Has the end of a batch, and of its later generations, told to `address`; `false`: it has ended already.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn notify(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    address: &Address,
) -> Result<bool, StoreError> {
    let mut transaction = store.app(organization).await?;
    let set = store::set_notify(&mut transaction, organization, batch, address.as_str()).await?;
    transaction.commit().await?;
    Ok(set)
}

/// Waits a while after a transient error, unless it has lasted too long.
async fn wait_out(error: SubmitError, begun: Instant) -> Result<(), SubmitError> {
    let passes = matches!(&error, SubmitError::Store(error) if error.is_transient());
    if !passes || begun.elapsed() > AWAY {
        return Err(error);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// Says that no more documents will come, and tells of it, the first time.
pub(super) async fn seal(
    connection: &mut store::Connection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<(), StoreError> {
    if store::seal_batch(&mut *connection, organization, batch).await? {
        let event = Event::of_batch(organization, batch, EventKind::BatchSealed);
        store::append_event(connection, &event).await?;
    }
    Ok(())
}

/// Whether people may call something of theirs that: 1 to 200 characters, none of them a control character.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_CHARACTERS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// A name for a batch that was given none: `hint` and eight hex digits.
#[must_use]
pub fn fresh_name(hint: &str) -> String {
    let hint: String = hint.chars().filter(|c| !c.is_control()).take(100).collect();
    let random = Uuid::new_v4().simple().to_string();
    format!("{hint}-{}", &random[..8])
}
