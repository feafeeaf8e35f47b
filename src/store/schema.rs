//! The schema's version, and applying it.

use std::{path::Path, str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
    query_scalar,
};

use super::StoreError;

/// How long the first connection may take: a server that swallows packets must not look like a slow start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How the database's schema relates to this binary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// It is the one that this binary knows.
    Current,
    /// Migrations are missing: `graphmill migrate` applies them.
    Behind {
        /// The last one that was applied; 0 for none.
        applied: i64,
        /// The last one that this binary knows.
        known: i64,
    },
    /// A newer binary has migrated it. Work goes on if the newer schema allows it; this binary does not migrate.
    Ahead {
        /// The last one that was applied.
        applied: i64,
        /// The last one that this binary knows.
        known: i64,
    },
}

/// Applies the migrations of a folder. For developers: a changed query must see a changed schema before a binary with
/// both can be built.
///
/// # Errors
/// [`StoreError::Connect`] (trying again may help) or [`StoreError::Migrate`], which names the migration.
pub async fn migrate_from(url: &str, folder: &Path) -> Result<(), StoreError> {
    run(
        url,
        &Migrator::new(folder).await.map_err(StoreError::Migrate)?,
    )
    .await
}

/// Applies the migrations that are missing, as the login's own role. Safe to run from several places at once.
///
/// # Errors
/// [`StoreError::Address`], [`StoreError::Connect`] (trying again may help) or [`StoreError::Migrate`], which names the migration.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    run(url, &MIGRATIONS).await
}

async fn run(url: &str, migrations: &Migrator) -> Result<(), StoreError> {
    let mut connection = connect(url).await?;
    migrations
        .run(&mut connection)
        .await
        .map_err(StoreError::Migrate)?;
    connection.close().await?;
    Ok(())
}

/// Compares the database's schema with this binary's.
///
/// # Errors
/// [`StoreError::Address`], or [`StoreError::Connect`] (trying again may help).
pub async fn check_schema(url: &str) -> Result<Schema, StoreError> {
    let mut connection = connect(url).await?;
    let known = known();
    let exists =
        query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
            .fetch_one(&mut connection)
            .await?;
    let applied = if exists {
        query_scalar!(
            r#"select coalesce(max(version), 0) as "version!" from _sqlx_migrations where success"#
        )
        .fetch_one(&mut connection)
        .await?
    } else {
        0
    };
    connection.close().await?;
    Ok(match applied.cmp(&known) {
        std::cmp::Ordering::Less => Schema::Behind { applied, known },
        std::cmp::Ordering::Equal => Schema::Current,
        std::cmp::Ordering::Greater => Schema::Ahead { applied, known },
    })
}

/// The last migration that this binary knows.
pub(super) fn known() -> i64 {
    let versions = MIGRATIONS.iter().map(|migration| migration.version);
    versions.max().unwrap_or(0)
}

async fn connect(url: &str) -> Result<PgConnection, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(StoreError::Address)?;
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(connected) => connected.map_err(StoreError::Connect),
        Err(_) => Err(StoreError::Connect(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        )))),
    }
}
