//! What `doctor` looks at.

use graphmill_jobs::WorkflowExecutionId;
use sqlx::query;

use super::{Store, StoreError};

/// The state of the database server.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// As a number: 150018 is 15.18.
    pub version: i32,
    /// Connections that the server allows.
    pub max_connections: i64,
    /// Those of them that nobody uses.
    pub free_connections: i64,
    /// Whether writes are forced to the disk.
    pub fsync: bool,
    /// Whether a commit waits for that.
    pub synchronous_commit: bool,
    /// Neither of graphmill's roles is a superuser or may bypass row security.
    pub roles_are_safe: bool,
    /// Workers seen in the last minute.
    pub workers: i64,
}

/// Looks at the server.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn health(store: &Store) -> Result<Health, StoreError> {
    let mut connection = store.engine().await?;
    let row = query!(
        r#"select current_setting('server_version_num')::integer as "version!",
                  current_setting('max_connections')::bigint as "max_connections!",
                  current_setting('max_connections')::bigint
                      - (select count(*) from pg_stat_activity where backend_type = 'client backend')
                      as "free_connections!",
                  current_setting('fsync')::boolean as "fsync!",
                  current_setting('synchronous_commit') <> 'off' as "synchronous_commit!",
                  (select count(*) = 2 from pg_roles
                   where rolname in ('graphmill_app', 'graphmill_engine')
                     and not rolsuper and not rolbypassrls) as "roles_are_safe!",
                  (select count(*) from worker where seen_at > now() - interval '1 minute') as "workers!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Health {
        version: row.version,
        max_connections: row.max_connections,
        free_connections: row.free_connections,
        fsync: row.fsync,
        synchronous_commit: row.synchronous_commit,
        roles_are_safe: row.roles_are_safe,
        workers: row.workers,
    })
}

/// How the work of all batches stands.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Executions that somebody works on.
    pub in_work: i64,
    /// Executions that could be worked now, and that nobody works on.
    pub idle: i64,
    /// The one of them that has been so longest, and for how many seconds.
    pub longest_idle: Option<(WorkflowExecutionId, i64)>,
    /// Executions that wait for a slot of their batch and are due; a thousand at most.
    pub waiting: i64,
    /// Batches that are paused.
    pub paused_batches: i64,
}

/// Looks at the work of all batches.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn work(store: &Store) -> Result<Work, StoreError> {
    let mut connection = store.engine().await?;
    let row = query!(
        r#"with at_work as (
               select e.id, e.lease_until > now() is true as leased,
                      extract(epoch from now() - greatest(e.updated_at, e.due_at, e.lease_until))::bigint as seconds
               from workflow_execution e
               join batch b on b.organization_id = e.organization_id and b.id = e.batch_id
               where e.status = 'processing' and e.due_at <= now() and e.paused_at is null
                 and b.paused_at is null
           )
           select (select count(*) from at_work where leased) as "in_work!",
                  (select count(*) from at_work where not leased) as "idle!",
                  (select count(*) from (
                      select from batch b
                      join workflow_execution e on e.organization_id = b.organization_id and e.batch_id = b.id
                      where b.paused_at is null and b.state not in ('Completed', 'Failed', 'Cancelled')
                        and e.status in ('queued', 'retry') and e.due_at <= now() and e.paused_at is null
                      limit 1000) as due) as "waiting!",
                  (select count(*) from batch where paused_at is not null
                      and state not in ('Completed', 'Failed', 'Cancelled')) as "paused_batches!",
                  longest.id as "longest?", longest.seconds as "seconds?"
           from (select) as one
           left join lateral (select id, seconds from at_work where not leased
                              order by seconds desc limit 1) as longest on true"#
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Work {
        in_work: row.in_work,
        idle: row.idle,
        waiting: row.waiting,
        longest_idle: row.longest.map(Into::into).zip(row.seconds),
        paused_batches: row.paused_batches,
    })
}

/// Whether requests and work can be taken.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// The last migration that was applied.
    pub applied: i64,
    /// The last one that this binary knows.
    pub known: i64,
    /// Workers that were seen in the last half minute.
    pub workers: i64,
}

/// Looks at the schema and at who works.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn readiness(store: &Store) -> Result<Readiness, StoreError> {
    let mut connection = store.engine().await?;
    let row = query!(
        r#"select (select coalesce(max(version), 0) from _sqlx_migrations where success) as "applied!",
                  (select count(*) from worker where seen_at > now() - interval '30 seconds') as "workers!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Readiness {
        applied: row.applied,
        known: super::schema::known(),
        workers: row.workers,
    })
}
