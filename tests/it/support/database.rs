//! The shared Postgres, and a database of its own for every test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use graphmill::servers::{Servers, Settings};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

/// The database that the tests' databases are cloned from.
const TEMPLATE: &str = "tpl";

/// A database that lives as long as this value.
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    /// An empty database.
    pub(crate) async fn create() -> Self {
        Self::clone_of("template1").await
    }

    /// A clone of another database, such as what [`template`] returns.
    pub(crate) async fn clone_of(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t_{}_{next}", std::process::id());
        administer(format!("create database {name} template {template}")).await;
        Self {
            url: url_of(&name),
            name,
        }
    }

    /// Where to reach it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    /// On a thread with a runtime of its own, since a test's runtime can't wait in a drop.
    fn drop(&mut self) {
        let drop = administer(format!("drop database {} with (force)", self.name));
        let done = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(drop);
        });
        let _ = done.join();
    }
}

/// Prepares the template, which has the schema, once per process, and names it.
pub(crate) async fn template() -> &'static str {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    PREPARED
        .get_or_init(async || {
            administer(format!("create database {TEMPLATE}")).await;
            graphmill::store::migrate(&url_of(TEMPLATE)).await.unwrap();
            let close = "is_template true allow_connections false";
            administer(format!("alter database {TEMPLATE} {close}")).await;
        })
        .await;
    TEMPLATE
}

/// Runs one statement on the shared server.
async fn administer(statement: String) {
    let mut connection = PgConnection::connect(&url_of("graphmill")).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

fn url_of(database: &str) -> String {
    server().replace("/graphmill?", &format!("/{database}?"))
}

/// Connections that the shared Postgres has: some tests have ten workers at once, and more that were just killed.
pub(crate) const MAX_CONNECTIONS: u32 = 500;

/// The URL of the shared Postgres. Starts it once; it ends with the process.
fn server() -> &'static str {
    static SERVER: OnceLock<Servers> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let settings = Settings {
            redis: false,
            max_connections: MAX_CONNECTIONS,
            ..super::settings("shared")
        };
        Servers::start(settings).unwrap()
    });
    server.database_url().unwrap()
}
