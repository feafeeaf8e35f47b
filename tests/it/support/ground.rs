//! A migrated database with the program's own pools, and a look at its rows as their owner, whom no policy binds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graphmill::{
    flow::{BatchCounts, FailurePolicy, Intake, RetryPolicy, Stage},
    graph::Ontology,
    pipeline::{NewDocument, Settings},
    store::{self, AppTransaction, Batch, PoolSettings, Store},
    workflow::{self, NewBatch, Submission},
};
use graphmill_jobs::{BatchId, OrganizationId, WorkflowExecutionId};
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions};

use super::{Database, template};

/// A database with the schema, and connections to it.
pub(crate) struct Ground {
    pub(crate) store: Store,
    owner: PgPool,
    database: Database,
}

/// Whose rows most tests write.
pub(crate) const OURS: OrganizationId = OrganizationId::DEFAULT;

/// Budgets of batches that are not the sum of their calls, with both.
pub(crate) const BUDGETS_THAT_ARE_WRONG: &str = "
    with s as (
        select b.batch_id, b.reserved_cost, b.reserved_tokens, b.spent_cost, b.spent_tokens, b.calls,
               coalesce(sum(c.reserved_cost) filter (where c.outcome = 'intent' or c.outcome = 'in_doubt' and not c.late),
                        0) as ledger_reserved_cost,
               coalesce(sum(c.reserved_tokens) filter (where c.outcome = 'intent' or c.outcome = 'in_doubt' and not c.late),
                        0) as ledger_reserved_tokens,
               coalesce(sum(c.cost), 0) as ledger_cost,
               coalesce(sum(c.prompt_tokens + c.completion_tokens), 0) as ledger_tokens,
               count(*) filter (where c.outcome = 'answered' or c.late) as ledger_calls
        from budget b left join llm_call c on c.batch_id = b.batch_id and c.organization_id = b.organization_id
        group by b.batch_id, b.organization_id)
    select s::text from s
    where (reserved_cost, reserved_tokens, spent_cost, spent_tokens, calls)
          is distinct from (ledger_reserved_cost, ledger_reserved_tokens, ledger_cost, ledger_tokens, ledger_calls)";

impl Ground {
    pub(crate) async fn new() -> Self {
        let database = Database::clone_of(template().await).await;
        let store = Store::connect(database.url(), &PoolSettings::default())
            .await
            .unwrap();
        let owner = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(database.url())
            .unwrap();
        Self {
            store,
            owner,
            database,
        }
    }

    /// Pools of their own, as another process has them.
    pub(crate) async fn another_store(&self) -> Store {
        Store::connect(self.database.url(), &PoolSettings::default())
            .await
            .unwrap()
    }

    /// Where the database is.
    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }

    pub(crate) async fn app(&self) -> AppTransaction {
        self.store.app(OURS).await.unwrap()
    }

    /// Runs statements as the owner; what the database refuses is the constraint's name, or the message.
    pub(crate) async fn execute(&self, sql: impl Into<String>) -> Result<u64, String> {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(&self.owner)
            .await
            .map(|done| done.rows_affected())
            .map_err(|error| refusal(&error))
    }

    /// The first column of every row, as text.
    pub(crate) async fn texts(&self, sql: impl Into<String>) -> Vec<String> {
        texts(&self.owner, sql).await
    }

    /// The only value, as text.
    pub(crate) async fn text(&self, sql: impl Into<String>) -> String {
        self.texts(sql).await.pop().expect("a row")
    }

    /// The only value, a number.
    pub(crate) async fn number(&self, sql: impl Into<String>) -> i64 {
        self.text(sql).await.parse().unwrap()
    }

    /// Opens a batch, adds the documents and seals it.
    pub(crate) async fn submit(&self, batch: &NewBatch, documents: Vec<NewDocument>) -> BatchId {
        let mut submission = Submission::open(&self.store, OURS, batch).await.unwrap();
        for document in documents {
            submission.add(document).await.unwrap();
        }
        submission.seal().await.unwrap()
    }

    pub(crate) async fn batch(&self, id: BatchId) -> Batch {
        let mut transaction = self.app().await;
        store::batch_by_id(&mut transaction, OURS, id)
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until `sql`, which counts, gives `wanted`.
    pub(crate) async fn until(&self, what: &str, sql: &str, wanted: i64) {
        poll(what, async || {
            (self.number(sql).await == wanted).then_some(())
        })
        .await;
    }

    /// Waits for the batch's end and checks everything that must hold then.
    pub(crate) async fn ended(&self, id: BatchId) -> Batch {
        let begun = Instant::now();
        loop {
            let batch = self.batch(id).await;
            if batch.state.name().has_ended() {
                self.assert_counts_equal_rows(id).await;
                return batch;
            }
            if begun.elapsed() > PATIENCE {
                let rows = self
                    .texts(format!(
                        "select concat_ws(' ', status, current_activity, lease_epoch, lease_until, due_at, rung_at,
                                          error) from workflow_execution where batch_id = '{}'",
                        id.uuid()
                    ))
                    .await;
                panic!("the batch did not end: {batch:?}\n{}", rows.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a batch that is kept open has worked what it has, and checks everything that must hold then.
    pub(crate) async fn at_rest(&self, id: BatchId) -> Batch {
        poll("the batch is at rest", async || {
            let batch = self.batch(id).await;
            let rests = workflow::is_at_rest(&self.store, OURS, &batch).await;
            rests.unwrap().then_some(())
        })
        .await;
        // What has changed since may leave as many documents as there were before, and be worked before it is folded.
        let of = id.uuid();
        let unfolded = format!("select count(*) from event_outbox where batch_id = '{of}'");
        self.until("its events are folded", &unfolded, 0).await;
        let batch = self.batch(id).await;
        self.assert_counts_equal_rows(id).await;
        batch
    }

    /// The folded counts are what the rows say, what the log says, and they add up; nothing is held or left over.
    pub(crate) async fn assert_counts_equal_rows(&self, id: BatchId) {
        let batch = self.batch(id).await;
        let counts = batch.counts;
        let of = id.uuid();
        let documents = |what: &str| {
            format!(
                "select count(*) from document where batch_id = '{of}' and withdrawn_at is null and {what}"
            )
        };
        let executions = |what: &str| {
            format!(
                "select count(*) from workflow_execution e
                 where batch_id = '{of}' and workflow_type = 'extraction' and withdrawn_at is null and {what}
                   and not exists (select from workflow_execution later where later.document_id = e.document_id
                                   and later.generation > e.generation)"
            )
        };
        let found = |table: &str| {
            format!(
                "select count(*) from {table} f join workflow_execution e on e.id = f.workflow_execution_id
                 where e.batch_id = '{of}'"
            )
        };
        let resolution = batch.resolution.unwrap_or_default();
        for (what, folded, sql) in [
            ("accepted", counts.accepted, documents("refusal is null")),
            ("accepted", counts.accepted, executions("true")),
            (
                "refused",
                counts.refused,
                documents("refusal ->> 'code' <> 'duplicate'"),
            ),
            (
                "duplicate",
                counts.duplicate,
                documents("refusal ->> 'code' = 'duplicate'"),
            ),
            (
                "completed",
                counts.completed,
                executions("status = 'completed'"),
            ),
            (
                "partial",
                counts.partial,
                executions("status = 'completed' and partial"),
            ),
            ("failed", counts.failed, executions("status = 'failed'")),
            (
                "abandoned",
                counts.abandoned,
                executions("status = 'abandoned'"),
            ),
            (
                "cancelled",
                counts.cancelled,
                executions("status = 'cancelled'"),
            ),
            ("entities", counts.entities, found("entity")),
            ("relations", counts.relations, found("relation")),
            (
                "clusters",
                counts.clusters,
                format!("select count(*) from cluster where resolution_id = '{resolution}'"),
            ),
        ] {
            assert_eq!(
                i64::try_from(folded).unwrap(),
                self.number(sql).await,
                "{what}"
            );
        }
        self.assert_stages_equal_rows(&batch).await;
        self.assert_nothing_left_of_withdrawn(id).await;
        let failed = if batch.intake == Intake::Open {
            counts.failed
        } else {
            0
        };
        assert_eq!(counts.accepted, counts.ended() + failed);
        assert_eq!(counts.failed, failed);
        assert_eq!(
            counts.submitted(),
            counts.accepted + counts.refused + counts.duplicate
        );

        let mut refolded = BatchCounts::default();
        for event in self.events(id).await {
            refolded.fold(&event.kind);
        }
        assert_eq!(refolded, counts, "the log adds up to the counts");
        self.assert_quiet().await;
    }

    /// As many documents are through each stage as are at a later one or completed; and each generation's end was told
    /// once.
    async fn assert_stages_equal_rows(&self, batch: &Batch) {
        let executions = |what: &str| {
            format!(
                "select count(*) from workflow_execution e
                 where batch_id = '{}' and workflow_type = 'extraction' and withdrawn_at is null and {what}
                   and not exists (select from workflow_execution later where later.document_id = e.document_id
                                   and later.generation > e.generation)",
                batch.id.uuid()
            )
        };
        for stage in Stage::of_a_document() {
            let later: Vec<String> = Stage::of_a_document()
                .filter(|later| *later > stage)
                .map(|later| format!("'{}'", later.activity_name()))
                .collect();
            let through = if later.is_empty() {
                "status = 'completed'".to_owned()
            } else {
                format!(
                    "(status = 'completed' or current_activity in ({}))",
                    later.join(", ")
                )
            };
            assert_eq!(
                i64::try_from(batch.counts.through(stage)).unwrap(),
                self.number(executions(&through)).await,
                "through {stage}"
            );
        }
        let ends = ["BatchCompleted", "BatchFailed", "BatchCancelled"];
        let told = self.events(batch.id).await;
        let told = told
            .iter()
            .filter(|event| ends.contains(&event.kind.name()));
        let ended = batch.generation - i32::from(!batch.state.name().has_ended());
        assert_eq!(
            told.count(),
            usize::try_from(ended).unwrap(),
            "the end of each generation is told once"
        );
    }

    /// Nothing that was found in a withdrawn document is there any more.
    async fn assert_nothing_left_of_withdrawn(&self, id: BatchId) {
        let of_withdrawn = format!(
            "select count(*) from workflow_execution e
             where e.batch_id = '{}' and e.withdrawn_at is not null
               and (exists (select from entity f where f.workflow_execution_id = e.id)
                    or exists (select from mention f where f.workflow_execution_id = e.id)
                    or exists (select from relation f where f.workflow_execution_id = e.id)
                    or exists (select from evidence f where f.workflow_execution_id = e.id)
                    or not exists (select from document d where d.id = e.document_id and d.withdrawn_at is not null))",
            id.uuid()
        );
        assert_eq!(
            self.number(of_withdrawn).await,
            0,
            "what was withdrawn has left nothing"
        );
    }

    /// The log is whole, budgets are what the ledger says, and nothing is held or left over.
    async fn assert_quiet(&self) {
        self.until(
            "the outbox is empty",
            "select count(*) from event_outbox",
            0,
        )
        .await;
        let gaps = "select count(*) from (select position - lag(position, 1, 0::bigint) over (order by position) as step
                    from event) steps where step <> 1";
        assert_eq!(self.number(gaps).await, 0, "the positions have no gaps");
        let wrong = self.texts(BUDGETS_THAT_ARE_WRONG).await;
        assert!(wrong.is_empty(), "budgets and their calls: {wrong:#?}");
        for (what, sql) in [
            (
                "leases held of an ended batch",
                "from workflow_execution e join batch b on b.id = e.batch_id
                 where e.lease_owner is not null and b.ended_at is not null",
            ),
            (
                "attempts running of an ended batch",
                "from workflow_activity a join workflow_execution e on e.id = a.workflow_execution_id
                 join batch b on b.id = e.batch_id
                 where a.status in ('pending', 'running') and b.ended_at is not null",
            ),
            (
                "executions of an ended batch that are not final",
                "from workflow_execution e join batch b on b.id = e.batch_id
                 where b.ended_at is not null and e.completed_at is null",
            ),
            (
                "signals undelivered",
                "from workflow_signal where delivered_at is null",
            ),
        ] {
            assert_eq!(
                self.number(format!("select count(*) {sql}")).await,
                0,
                "{what}"
            );
        }
    }

    /// The batch's whole log.
    pub(crate) async fn events(&self, id: BatchId) -> Vec<store::LoggedEvent> {
        let mut events: Vec<store::LoggedEvent> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.position);
            let mut transaction = self.app().await;
            let page = store::events_after(&mut transaction, OURS, id, after, 50)
                .await
                .unwrap();
            if page.is_empty() {
                return events;
            }
            events.extend(page);
        }
    }

    /// The names of the batch's events, in order.
    pub(crate) async fn told(&self, id: BatchId, name: &str) -> usize {
        let events = self.events(id).await;
        events
            .iter()
            .filter(|event| event.kind.name() == name)
            .count()
    }

    /// The execution of the document with the caller's id.
    pub(crate) async fn execution(&self, id: BatchId, document: &str) -> WorkflowExecutionId {
        let sql = format!(
            "select e.id from workflow_execution e join document d on d.id = e.document_id
             where e.batch_id = '{}' and d.external_id = '{document}' and d.withdrawn_at is null",
            id.uuid()
        );
        let id: uuid::Uuid = self.text(sql).await.parse().unwrap();
        id.into()
    }

    /// One column of that execution.
    pub(crate) async fn column(&self, id: WorkflowExecutionId, column: &str) -> String {
        let sql = format!(
            "select {column}::text from workflow_execution where id = '{}'",
            id.uuid()
        );
        self.text(sql).await
    }
}

/// How long a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something to see; a test that waits in vain fails with `what`.
pub(crate) async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first column of every row, as text.
pub(crate) async fn texts<'c>(
    on: impl sqlx::Executor<'c, Database = sqlx::Postgres>,
    sql: impl Into<String>,
) -> Vec<String> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .fetch_all(on)
        .await
        .unwrap()
        .iter()
        .map(|row| {
            row.try_get_raw(0)
                .ok()
                .and_then(|value| value.as_str().ok().map(str::to_owned))
                .unwrap_or_default()
        })
        .collect()
}

/// What the database refused with: the constraint's name, or its message.
pub(crate) fn refusal(error: &sqlx::Error) -> String {
    let Some(refused) = error.as_database_error() else {
        panic!("not a refusal of the database: {error}");
    };
    refused
        .constraint()
        .unwrap_or_else(|| refused.message())
        .to_owned()
}

/// A batch of the extractor `test`, five documents at once, whose retries come at once.
pub(crate) fn new_batch(name: &str) -> NewBatch {
    let mut settings = Settings::default();
    settings.units.retry = RetryPolicy {
        retries: 2,
        first: Duration::from_millis(10),
        longest: Duration::from_millis(50),
    };
    NewBatch {
        name: name.to_owned(),
        extractor: "test".to_owned(),
        ontology: Arc::new(Ontology::builtin().unwrap()),
        settings,
        model: None,
        concurrency: 5,
        policy: FailurePolicy::ContinueOnFailure,
        max_retries: 0,
        tolerance: None,
        weight: 1,
        traceparent: None,
    }
}

/// So many short documents, `d0`, `d1` …, each with two people and a place.
pub(crate) fn documents(count: usize) -> Vec<NewDocument> {
    (0..count).map(document).collect()
}

/// One of them.
fn document(number: usize) -> NewDocument {
    const FIRST: [&str; 5] = ["Maria", "Jonas", "Helen", "Peter", "Alice"];
    const LAST: [&str; 4] = ["Keller", "Novak", "Turner", "Lindgren"];
    const PLACE: [&str; 3] = ["Vienna", "Oslo", "Lisbon"];
    let name = |at: usize| format!("{} {}", FIRST[at % 5], LAST[at % 4]);
    let text = format!(
        "{one} was born in {place}. She worked for Acme Corporation in {place}.\n\n\
         Document {number} says that {one} married {other} in 1972. {other} lives in {place}.",
        one = name(number),
        other = name(number + 7),
        place = PLACE[number % 3],
    );
    NewDocument::new(format!("d{number}"), text)
}
