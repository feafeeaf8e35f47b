//! What tables take on the disk, and making the room of deleted rows usable again.

use sqlx::{Connection as _, PgConnection, query, query_scalar};

use crate::store::{StoreError, schema::connect};

/// What a table takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Its name; the whole database's is `None`.
    pub table: Option<String>,
    /// Bytes on the disk, with indexes and large values.
    pub bytes: i64,
}

/// What the database takes, and after it each table that pruning deletes from, by name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn space(connection: &mut PgConnection) -> Result<Vec<Space>, StoreError> {
    let whole = query_scalar!(r#"select pg_database_size(current_database()) as "bytes!""#)
        .fetch_one(&mut *connection)
        .await?;
    let tables: Vec<String> = PRUNED.iter().map(|&name| name.to_owned()).collect();
    let rows = query!(
        r#"select relname::text as "table!", pg_total_relation_size(oid) as "bytes!" from pg_class
           where relnamespace = 'public'::regnamespace and relkind = 'r' and relname = any($1)
           order by relname"#,
        &tables,
    )
    .fetch_all(connection)
    .await?;
    let mut space = vec![Space {
        table: None,
        bytes: whole,
    }];
    space.extend(rows.into_iter().map(|row| Space {
        table: Some(row.table),
        bytes: row.bytes,
    }));
    Ok(space)
}

/// What came of vacuuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacuumed {
    /// It was done.
    Done,
    /// The login does not own the tables: autovacuum will do it.
    NotOwner,
}

macro_rules! tables {
    ($($name:literal => $vacuum:literal),+ $(,)?) => {
        /// The tables that pruning deletes from.
        const PRUNED: &[&str] = &[$($name),+];

        async fn vacuum_each(
            connection: &mut PgConnection,
            wanted: &[String],
        ) -> Result<(), StoreError> {
            $(if wanted.iter().any(|table| table == $name) {
                query!($vacuum).execute(&mut *connection).await?;
            })+
            Ok(())
        }
    };
}

tables! {
    "batch" => "vacuum (analyze) batch",
    "budget" => "vacuum (analyze) budget",
    "checkpoint" => "vacuum (analyze) checkpoint",
    "chunk" => "vacuum (analyze) chunk",
    "cluster" => "vacuum (analyze) cluster",
    "cluster_key" => "vacuum (analyze) cluster_key",
    "cluster_member" => "vacuum (analyze) cluster_member",
    "document" => "vacuum (analyze) document",
    "dropped_item" => "vacuum (analyze) dropped_item",
    "entity" => "vacuum (analyze) entity",
    "event" => "vacuum (analyze) event",
    "evidence" => "vacuum (analyze) evidence",
    "llm_call" => "vacuum (analyze) llm_call",
    "mention" => "vacuum (analyze) mention",
    "relation" => "vacuum (analyze) relation",
    "resolution" => "vacuum (analyze) resolution",
    "same_as" => "vacuum (analyze) same_as",
    "same_as_member" => "vacuum (analyze) same_as_member",
    "webhook_delivery" => "vacuum (analyze) webhook_delivery",
    "workflow_activity" => "vacuum (analyze) workflow_activity",
    "workflow_execution" => "vacuum (analyze) workflow_execution",
    "workflow_signal" => "vacuum (analyze) workflow_signal",
}

/// Vacuums and analyzes these tables as the login's own role, at autovacuum's pace: a fleet may be at work.
///
/// # Errors
/// [`StoreError::Address`], [`StoreError::Connect`] or [`StoreError::Query`]; trying again may help.
pub async fn vacuum(url: &str, tables: &[String]) -> Result<Vacuumed, StoreError> {
    let mut connection = connect(url).await?;
    // Postgres only warns, and skips what is somebody else's.
    let owns = query_scalar!(
        r#"select bool_and(pg_has_role(relowner, 'usage')) as "owns!" from pg_class
           where relnamespace = 'public'::regnamespace and relkind = 'r' and relname = any($1)"#,
        tables,
    )
    .fetch_one(&mut connection)
    .await?;
    if !owns {
        return Ok(Vacuumed::NotOwner);
    }
    query!("set vacuum_cost_delay = '2ms'")
        .execute(&mut connection)
        .await?;
    vacuum_each(&mut connection, tables).await?;
    connection.close().await?;
    Ok(Vacuumed::Done)
}
