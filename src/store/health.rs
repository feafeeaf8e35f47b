//! What `doctor` looks at.

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
