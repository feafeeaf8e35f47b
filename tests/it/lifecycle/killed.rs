//! A worker is killed and Redis is emptied while the batch is in each of its ten states; another worker goes on. The
//! counts and the graph are those of an undisturbed batch each time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use futures_util::stream::{self, StreamExt};
use graphmill::flow::{BatchStateName, FailurePolicy, Signal};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::*;
use crate::support::{Redis, folder, poll};

/// Cells at a time: each has a Redis and two processes.
const PARALLEL: usize = 5;

pub(super) struct Worker(pub(super) Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database, a Redis, and worker processes with the extractor that waits before each unit.
pub(super) struct Cell {
    pub(super) ground: Ground,
    pub(super) redis: Redis,
    pub(super) fails: PathBuf,
}

impl Cell {
    pub(super) fn worker(&self, milliseconds: u32) -> Worker {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().and_then(Path::parent).unwrap();
        let program = program.join("examples/own_extractor");
        assert!(
            program.exists(),
            "not built: cargo build --example own_extractor"
        );
        let child = Command::new(program)
            .args(["worker", "--lease", "3s", "--log", "error"])
            .env("DATABASE_URL", self.ground.url())
            .env("REDIS_URL", self.redis.url())
            .env("WITNESS_MS", milliseconds.to_string())
            .env("WITNESS_FAILS", &self.fails)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Worker(child)
    }

    pub(super) async fn submit(&self, policy: FailurePolicy) -> BatchId {
        let batch = NewBatch {
            extractor: "witness".to_owned(),
            policy,
            ..new_batch("killed")
        };
        self.ground.submit(&batch, documents()).await
    }

    /// Waits until the batch is in that state.
    async fn until(&self, batch: BatchId, state: BatchStateName) {
        poll(&format!("the batch is {state}"), async || {
            (self.ground.batch(batch).await.state.name() == state).then_some(())
        })
        .await;
    }

    async fn flush(&self) {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .unwrap();
    }

    /// Keeps everybody from a table until the value is dropped.
    async fn lock(&self, table: &str) -> PgConnection {
        let mut connection = PgConnection::connect(self.ground.url()).await.unwrap();
        let sql = format!("begin; lock table {table} in access exclusive mode");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }
}

fn documents() -> Vec<NewDocument> {
    (0..3).map(|n| version(n, 0)).collect()
}

/// What must not be reachable so that the batch stays in a state that it would leave within milliseconds.
fn barred(state: BatchStateName) -> Option<&'static str> {
    match state {
        // The sequencer moves nothing, and the documents are worked.
        BatchStateName::Pending => Some("event_cursor"),
        BatchStateName::Chunking => Some("chunk"),
        BatchStateName::Assembling => Some("entity"),
        BatchStateName::Resolving => Some("cluster"),
        BatchStateName::ExtractingMentions
        | BatchStateName::ExtractingEntities
        | BatchStateName::ExtractingRelations
        | BatchStateName::Completed
        | BatchStateName::Failed
        | BatchStateName::Cancelled => None,
    }
}

/// What the batch holds at last, after a kill and a flush in `state`.
async fn killed_in(state: BatchStateName) -> ([u64; 6], Value) {
    let cell = Cell {
        ground: Ground::new().await,
        redis: Redis::start(),
        fails: folder(&format!("killed-{state}")).join("fails"),
    };
    let ground = &cell.ground;
    let policy = if state == BatchStateName::Failed {
        fs::write(&cell.fails, "d1").unwrap();
        FailurePolicy::AbortAll
    } else {
        FailurePolicy::ContinueOnFailure
    };
    let batch = cell.submit(policy).await;
    let bar = match barred(state) {
        Some(table) => Some(cell.lock(table).await),
        None => None,
    };
    let mut worker = cell.worker(if state.has_ended() { 0 } else { 150 });
    let leased = "select least(count(*), 1) from workflow_execution where lease_until > now()";
    match state {
        BatchStateName::Pending => ground.until("something is in work", leased, 1).await,
        BatchStateName::Cancelled => {
            ground.until("something is in work", leased, 1).await;
            workflow::signal_batch(&ground.store, OURS, batch, Signal::Cancel)
                .await
                .unwrap();
        }
        BatchStateName::Chunking
        | BatchStateName::ExtractingMentions
        | BatchStateName::ExtractingEntities
        | BatchStateName::ExtractingRelations
        | BatchStateName::Assembling
        | BatchStateName::Resolving
        | BatchStateName::Completed
        | BatchStateName::Failed => {}
    }
    cell.until(batch, state).await;
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    cell.flush().await;
    assert_eq!(
        ground.batch(batch).await.state.name(),
        state,
        "it was hit there"
    );
    if let Some(bar) = bar {
        bar.close().await.unwrap();
    }
    let _ = fs::remove_file(&cell.fails);
    let _worker = cell.worker(0);
    match state {
        BatchStateName::Completed => {
            remove(ground, batch, &["d0"]).await;
            ground.ended(batch).await;
            add(ground, batch, vec![version(0, 0)]).await.unwrap();
        }
        BatchStateName::Failed | BatchStateName::Cancelled => {
            workflow::signal_batch(&ground.store, OURS, batch, Signal::Retry)
                .await
                .unwrap();
        }
        BatchStateName::Pending
        | BatchStateName::Chunking
        | BatchStateName::ExtractingMentions
        | BatchStateName::ExtractingEntities
        | BatchStateName::ExtractingRelations
        | BatchStateName::Assembling
        | BatchStateName::Resolving => {}
    }
    let ended = ground.ended(batch).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed, "{state}");
    (holds(&ended.counts), graph(ground, batch).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_and_a_flush_in_any_state_of_the_batch_change_nothing() {
    let (mut drill, ground) = drill(&Begun::default()).await;
    let batch = ground.submit(&new_batch("undisturbed"), documents()).await;
    let wanted = ground.ended(batch).await.counts;
    let wanted = (holds(&wanted), graph(&ground, batch).await);
    drill.stop().await;

    let cells = stream::iter(BatchStateName::ALL)
        .map(async |state| (state, killed_in(state).await))
        .buffer_unordered(PARALLEL);
    let found: Vec<_> = cells.collect().await;
    assert_eq!(found.len(), BatchStateName::ALL.len());
    for (state, found) in found {
        assert_eq!(found, wanted, "{state}");
    }
}
