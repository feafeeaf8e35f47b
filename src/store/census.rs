//! What metrics ask of the fleet with every scrape: reads only, and nothing that grows with what is stored. Batches are
//! counted by those that are open, documents by the batches' folded counts, and executions by those in work.

use sqlx::query;

use super::{Store, StoreError};

/// Events of the outbox that are counted at most.
const COUNTED: i64 = 10_000;
/// A worker counts as there if it was seen so many seconds ago. **Source:** as readiness has it.
const SEEN_SECONDS: f64 = 30.0;

/// How a fleet stands.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Open batches by their state, those that are not paused.
    pub batches: Vec<(String, i64)>,
    /// Open batches that are paused.
    pub paused_batches: i64,
    /// Documents of open batches that wait for a slot of their batch.
    pub waiting: i64,
    /// Documents that have their slot.
    pub processing: i64,
    /// Documents of batches that are paused or being stopped.
    pub paused: i64,
    /// Documents that wait for another round.
    pub failed: i64,
    /// Leases that are held.
    pub leases: i64,
    /// Leases that ran out and that somebody should take over.
    pub expired: i64,
    /// How long ago the first of them ran out, in seconds; 0 without one.
    pub expired_seconds: f64,
    /// For how long something that could be worked has waited for a worker, in seconds; 0 without anything.
    pub idle_seconds: f64,
    /// Events that wait for their position; 10,000 at most.
    pub outbox: i64,
    /// For how long the oldest of them has waited, in seconds; 0 without one.
    pub outbox_seconds: f64,
    /// Processes that work stages.
    pub workers: i64,
}

/// How a pool of this process stands.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    /// Its name.
    pub name: &'static str,
    /// Connections that somebody uses.
    pub used: u32,
    /// Connections that are open and free.
    pub idle: u32,
    /// Connections that it may open.
    pub most: u32,
}

impl Store {
    /// How the pools of this process stand.
    #[must_use]
    pub fn pools(&self) -> [PoolUse; 3] {
        [
            ("app", &self.app),
            ("engine", &self.engine),
            ("drivers", &self.drivers),
        ]
        .map(|(name, pool)| {
            let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
            PoolUse {
                name,
                used: pool.size().saturating_sub(idle),
                idle,
                most: pool.options().get_max_connections(),
            }
        })
    }
}

/// Looks at the fleet.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn census(store: &Store) -> Result<Census, StoreError> {
    let mut connection = store.engine().await?;
    let row = query!(
        r#"with open as materialized (
               select id, paused_at is not null or stopping is not null as held,
                      (counts ->> 'accepted')::bigint - (counts ->> 'completed')::bigint
                          - (counts ->> 'abandoned')::bigint - (counts ->> 'cancelled')::bigint
                          - (counts ->> 'failed')::bigint as "left",
                      (counts ->> 'failed')::bigint as failed
               from batch where state not in ('Completed', 'Failed', 'Cancelled')
           ), at_work as materialized (
               -- By its own partial index, whose rows are those in work.
               select batch_id, document_id is not null as is_document, lease_until, paused_at, due_at,
                      extract(epoch from now() - lease_until)::float8 as expired_for,
                      extract(epoch from now() - greatest(updated_at, due_at, lease_until))::float8 as idle_for
               from workflow_execution where status = 'processing'
           ), known as materialized (
               select a.*, a.lease_until > now() is true as leased,
                      o.held or a.paused_at is not null or a.due_at > now() as put_off
               from at_work a join open o on o.id = a.batch_id
           )
           select (select count(*) from known where leased) as "leases!",
                  (select count(*) from known where lease_until <= now() and not put_off) as "expired!",
                  (select coalesce(max(expired_for), 0) from known
                   where lease_until <= now() and not put_off) as "expired_seconds!",
                  (select coalesce(max(idle_for), 0) from known where not leased and not put_off) as "idle_seconds!",
                  (select coalesce(sum("left"), 0)::bigint from open where not held) as "left!",
                  (select coalesce(sum("left"), 0)::bigint from open where held) as "paused!",
                  (select coalesce(sum(failed), 0)::bigint from open) as "failed!",
                  (select count(*) from known k join open o on o.id = k.batch_id
                   where k.is_document and not o.held) as "processing!",
                  (select count(*) from (select from event_outbox limit $1) as o) as "outbox!",
                  coalesce((select extract(epoch from now() - created_at)::float8
                            from event_outbox order by id limit 1), 0) as "outbox_seconds!",
                  (select count(*) from worker where seen_at > now() - make_interval(secs => $2)) as "workers!""#,
        COUNTED,
        SEEN_SECONDS,
    )
    .fetch_one(&mut *connection)
    .await?;
    let batches = query!(
        r#"select state, paused_at is not null as "paused!", count(*) as "batches!"
           from batch where state not in ('Completed', 'Failed', 'Cancelled')
           group by 1, 2 order by 1"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let (paused, running): (Vec<_>, Vec<_>) = batches.into_iter().partition(|row| row.paused);
    Ok(Census {
        batches: running
            .into_iter()
            .map(|row| (row.state, row.batches))
            .collect(),
        paused_batches: paused.iter().map(|row| row.batches).sum(),
        // What has just been admitted or has just ended is not folded yet.
        waiting: (row.left - row.processing).max(0),
        processing: row.processing,
        paused: row.paused,
        failed: row.failed,
        leases: row.leases,
        expired: row.expired,
        expired_seconds: row.expired_seconds,
        idle_seconds: row.idle_seconds,
        outbox: row.outbox,
        outbox_seconds: row.outbox_seconds,
        workers: row.workers,
    })
}
