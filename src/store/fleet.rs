//! What `doctor` asks of a fleet at work: leases that nobody renews, events that nobody moves, statements that take too
//! long, tables that are full of dead rows. Reads only.

use graphmill_jobs::{BatchId, WorkflowExecutionId};
use sqlx::{Connection as _, Row as _, query, query_scalar};

use super::{Store, StoreError, schema::connect};

/// Events of the outbox that are counted at most.
const COUNTED: i64 = 100_000;
/// Rows of a list that are shown.
const LISTED: i64 = 5;

/// How leases and the outbox stand.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Leases that are held.
    pub leases: i64,
    /// Leases that ran out and that nobody has taken over.
    pub expired: i64,
    /// The one of them that ran out first, and how many seconds ago.
    pub longest_expired: Option<(WorkflowExecutionId, i64)>,
    /// Events that wait for their position; 100,000 at most.
    pub outbox: i64,
    /// Whose waits longest, and for how many seconds.
    pub oldest_event: Option<(BatchId, i64)>,
    /// Webhooks that are due and that nobody attempts, for a minute or longer.
    pub webhooks_idle: bool,
}

/// Looks at leases and the outbox.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn fleet(store: &Store) -> Result<Fleet, StoreError> {
    let mut connection = store.engine().await?;
    let row = query!(
        r#"with lease as materialized (
               select e.id, e.lease_until, extract(epoch from now() - e.lease_until)::bigint as seconds
               from batch b
               join workflow_execution e on e.organization_id = b.organization_id and e.batch_id = b.id
               where e.status = 'processing' and e.lease_until is not null
                 -- What is paused or put off need not be taken over.
                 and (e.lease_until > now() or e.due_at <= now() and e.paused_at is null and b.paused_at is null)
           )
           select (select count(*) from lease where lease_until > now()) as "leases!",
                  (select count(*) from lease where lease_until <= now()) as "expired!",
                  (select count(*) from (select from event_outbox limit $1) as o) as "outbox!",
                  expired.id as "execution?", expired.seconds as "seconds?",
                  oldest.batch_id as "batch?", oldest.seconds as "waits?"
           from (select) as one
           left join lateral (select id, seconds from lease where lease_until <= now()
                              order by lease_until limit 1) as expired on true
           left join lateral (select batch_id, extract(epoch from now() - created_at)::bigint as seconds
                              from event_outbox order by id limit 1) as oldest on true"#,
        COUNTED,
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Fleet {
        leases: row.leases,
        expired: row.expired,
        longest_expired: row.execution.map(Into::into).zip(row.seconds),
        outbox: row.outbox,
        oldest_event: row.batch.map(Into::into).zip(row.waits),
        webhooks_idle: super::webhooks_lie_idle(&mut connection).await?,
    })
}

/// A session of the database server that has been at one statement or transaction for long.
#[derive(Debug, Clone)]
pub struct SlowSession {
    /// Its process, for `pg_terminate_backend`.
    pub pid: i32,
    /// Who it is.
    pub application: String,
    /// `active`, or `idle in transaction`.
    pub state: String,
    /// For how long, in seconds.
    pub seconds: i64,
    /// What it waits for.
    pub waits_for: Option<String>,
}

/// A table with many rows that are dead and take room.
#[derive(Debug, Clone)]
pub struct Bloat {
    /// Its name.
    pub table: String,
    /// Dead rows, as the statistics have it.
    pub dead: i64,
    /// Rows that are not.
    pub live: i64,
    /// Bytes on the disk.
    pub bytes: i64,
}

/// A kind of statement, as `pg_stat_statements` has it.
#[derive(Debug, Clone)]
pub struct Statement {
    /// How often it was run.
    pub calls: i64,
    /// Milliseconds, on average.
    pub mean_ms: f64,
    /// How it begins.
    pub begins: String,
}

/// How the database server stands.
#[derive(Debug, Clone)]
pub struct ServerLoad {
    /// Connections that are in use, of whatever database.
    pub connections: i64,
    /// Sessions at one statement or transaction for long, the longest first.
    pub slow: Vec<SlowSession>,
    /// Tables, the most dead rows first.
    pub bloat: Vec<Bloat>,
    /// The slowest kinds of statements on average; `None`: `pg_stat_statements` is not there, or may not be read.
    pub statements: Option<Vec<Statement>>,
}

/// Looks at the server, as the login's own role: graphmill's roles see nothing of others' sessions. `slow` seconds are
/// long; a table counts from `dead` dead rows on.
///
/// # Errors
/// [`StoreError::Address`], [`StoreError::Connect`] or [`StoreError::Query`]; trying again may help.
pub async fn server_load(url: &str, slow: f64, dead: i64) -> Result<ServerLoad, StoreError> {
    let mut connection = connect(url).await?;
    let slow = query!(
        r#"select pid as "pid!", coalesce(application_name, '') as "application!", coalesce(state, '') as "state!",
                  extract(epoch from clock_timestamp() - since)::bigint as "seconds!",
                  case when wait_event_type <> 'Client' then wait_event_type || ' ' || wait_event end as waits_for
           from (select *, case when state = 'active' then query_start else xact_start end as since
                 from pg_stat_activity
                 where datname = current_database() and backend_type = 'client backend'
                   and pid <> pg_backend_pid()
                   and (state = 'active' or state like 'idle in transaction%')) as s
           where since < clock_timestamp() - make_interval(secs => $1)
           order by since limit $2"#,
        slow,
        LISTED,
    )
    .fetch_all(&mut connection)
    .await?;
    let connections = query_scalar!(
        r#"select count(*) as "used!" from pg_stat_activity where backend_type = 'client backend'"#
    )
    .fetch_one(&mut connection)
    .await?;
    let bloat = query!(
        r#"select relname::text as "table!", n_dead_tup as "dead!", n_live_tup as "live!",
                  pg_total_relation_size(relid) as "bytes!"
           from pg_stat_user_tables
           where schemaname = 'public' and n_dead_tup >= $1
           order by n_dead_tup desc limit $2"#,
        dead,
        LISTED,
    )
    .fetch_all(&mut connection)
    .await?;
    // An extension that need not be there: no query that could be checked.
    let statements = sqlx::raw_sql(
        "select calls, mean_exec_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 60)
         from pg_stat_statements s join pg_database d on d.oid = s.dbid
         where d.datname = current_database() order by mean_exec_time desc limit 3",
    )
    .fetch_all(&mut connection)
    .await
    .ok()
    .map(|rows| {
        rows.iter()
            .filter_map(|row| {
                Some(Statement {
                    calls: row.try_get(0).ok()?,
                    mean_ms: row.try_get(1).ok()?,
                    begins: row.try_get(2).ok()?,
                })
            })
            .collect()
    });
    connection.close().await?;
    Ok(ServerLoad {
        connections,
        slow: slow
            .into_iter()
            .map(|row| SlowSession {
                pid: row.pid,
                application: row.application,
                state: row.state,
                seconds: row.seconds,
                waits_for: row.waits_for,
            })
            .collect(),
        bloat: bloat
            .into_iter()
            .map(|row| Bloat {
                table: row.table,
                dead: row.dead,
                live: row.live,
                bytes: row.bytes,
            })
            .collect(),
        statements,
    })
}
