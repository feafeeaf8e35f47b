//! Real workers in the test's own process, with extractors that do what a test tells them.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use graphmill::{
    extractors::{ChunkText, ExtractError, Extractor, Extractors, Local, UnitName},
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
    notify::Messenger,
    queue::Queue,
    store::{Batch, Store},
    worker::{Worker, WorkerSettings},
};
use graphmill_jobs::BatchId;

use super::{Ground, Redis, poll};

type Told = Pin<Box<dyn Future<Output = Result<(), ExtractError>> + Send>>;

/// The local extractor under the name `test`, with something that happens before each unit.
pub(crate) struct Scripted(Box<dyn Fn(UnitName) -> Told + Send + Sync>);

impl Scripted {
    pub(crate) fn new<F, R>(before: F) -> Self
    where
        F: Fn(UnitName) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), ExtractError>> + Send + 'static,
    {
        Self(Box::new(move |unit| Box::pin(before(unit))))
    }

    /// One that just works.
    pub(crate) fn plain() -> Self {
        Self::new(async |_| Ok(()))
    }
}

#[async_trait]
impl Extractor for Scripted {
    fn name(&self) -> &'static str {
        "test"
    }

    fn is_paid(&self) -> bool {
        true
    }

    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        (self.0)(unit.clone()).await?;
        Local::new().mentions(unit, chunk, ontology).await
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        (self.0)(unit.clone()).await?;
        Local::new().classify(unit, text, group, ontology).await
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        (self.0)(unit.clone()).await?;
        Local::new()
            .relations(unit, chunk, mentions, ontology)
            .await
    }
}

/// Settings under which retries are admitted at once.
pub(crate) fn quick() -> WorkerSettings {
    WorkerSettings {
        slots: 8,
        stager: Duration::from_millis(20),
        sweeper: Duration::from_millis(100),
        ..WorkerSettings::default()
    }
}

/// A database, a Redis and workers over them.
pub(crate) struct Drill {
    pub(crate) ground: Arc<Ground>,
    pub(crate) redis: Redis,
    workers: Vec<Worker>,
}

impl Drill {
    /// Without a worker yet.
    pub(crate) async fn new() -> Self {
        Self::over(Ground::new().await)
    }

    /// On ground that was prepared, without a worker yet.
    pub(crate) fn over(ground: Ground) -> Self {
        Self {
            ground: Arc::new(ground),
            redis: Redis::start(),
            workers: Vec::new(),
        }
    }

    /// With one worker.
    pub(crate) async fn with(extractor: impl Extractor) -> Self {
        let mut drill = Self::new().await;
        drill
            .start(Extractors::default().with(extractor), quick())
            .await;
        drill
    }

    /// Starts a worker whose extractor just works.
    pub(crate) async fn start_plain(&mut self) {
        let extractors = Extractors::default().with(Scripted::plain());
        self.start(extractors, quick()).await;
    }

    /// Starts a worker.
    pub(crate) async fn start(&mut self, extractors: Extractors, settings: WorkerSettings) {
        let store = self.ground.store.clone();
        self.start_on(store, extractors, settings).await;
    }

    /// Starts a worker with connections of its own.
    pub(crate) async fn start_on(
        &mut self,
        store: Store,
        extractors: Extractors,
        settings: WorkerSettings,
    ) {
        let queue = Queue::connect(self.redis.url()).await.unwrap();
        let worker = Worker::start(store, queue, extractors, settings).await;
        self.workers.push(worker.unwrap());
    }

    /// Starts a worker whose extractor just works, and which delivers webhooks.
    pub(crate) async fn start_notifying(&mut self, messenger: Messenger) {
        let store = self.ground.store.clone();
        let queue = Queue::connect(self.redis.url()).await.unwrap();
        let extractors = Extractors::default().with(Scripted::plain());
        let worker =
            Worker::start_notifying(store, queue, extractors, quick(), Some(messenger)).await;
        self.workers.push(worker.unwrap());
    }

    /// The first worker.
    pub(crate) fn worker(&self) -> &Worker {
        &self.workers[0]
    }

    /// Drains every worker.
    pub(crate) async fn stop(&mut self) {
        self.stop_within(Duration::from_secs(10)).await;
    }

    /// Drains every worker, with that much time for what is in work.
    pub(crate) async fn stop_within(&mut self, deadline: Duration) {
        for worker in self.workers.drain(..) {
            worker.drain(deadline).await;
        }
    }

    /// Waits for the end of the batch, checks all that must hold then, and stops.
    pub(crate) async fn ends(&mut self, batch: BatchId) -> Batch {
        let ended = self.ground.ended(batch).await;
        self.no_job_is_left().await;
        self.stop().await;
        ended
    }

    /// Acknowledgements follow the settles within a moment.
    pub(crate) async fn no_job_is_left(&self) {
        let mut redis = self.connection().await;
        poll("Redis holds no job", async || {
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg("*")
                .query_async(&mut redis)
                .await
                .unwrap();
            keys.iter()
                .all(|key| {
                    key.contains(":workers")
                        || key == "core:apalis:queues:list"
                        || key == "graphmill:sentinel"
                })
                .then_some(())
        })
        .await;
    }

    /// A connection to Redis.
    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}
