//! The servers of a command: one's own where addresses are given, private ones where not.

use std::time::{Duration, Instant};

use graphmill_jobs::OrganizationId;

use crate::{
    config::{DEFAULT_ORGANIZATION, ServerArgs},
    queue::Queue,
    servers::Servers,
    store::{self, Schema, Store, StoreError},
};

use super::{error::CliError, organization, output};

/// Connections to both servers. Private ones stop when it is closed.
pub(super) struct Session {
    pub(super) store: Store,
    /// Whose batches the command is about.
    pub(super) organization: OrganizationId,
    /// For what neither requests nor workers may do.
    pub(super) database_url: String,
    servers: Option<Servers>,
    redis_url: String,
}

/// The addresses of both servers; private ones run for as long as this lives.
pub(super) struct Addresses {
    pub(super) database_url: String,
    pub(super) redis_url: String,
    pub(super) servers: Option<Servers>,
}

/// Finds the servers, and starts private ones where no address is given. `quiet` leaves out the line that says so.
pub(super) async fn addresses(args: &ServerArgs, quiet: bool) -> Result<Addresses, CliError> {
    let private = args.private();
    if args.no_embedded
        && let Some(private) = &private
    {
        let variable = if private.postgres {
            "DATABASE_URL"
        } else {
            "REDIS_URL"
        };
        return Err(CliError::NoEmbedded { variable });
    }
    let servers = match private {
        None => None,
        Some(settings) => {
            let started = tokio::task::spawn_blocking(|| Servers::start(settings)).await;
            Some(started.map_err(|error| CliError::Runtime(std::io::Error::other(error)))??)
        }
    };
    if let Some(servers) = servers.as_ref().filter(|_| !quiet) {
        output::note(&format!(
            "using {} (set DATABASE_URL / REDIS_URL to use your own)",
            what_runs(servers)
        ));
    }
    let address = |given: Option<&str>, private: Option<&str>| {
        given.or(private).unwrap_or_default().to_owned()
    };
    Ok(Addresses {
        database_url: address(
            args.database_url(),
            servers.as_ref().and_then(Servers::database_url),
        ),
        redis_url: address(
            args.redis_url(),
            servers.as_ref().and_then(Servers::redis_url),
        ),
        servers,
    })
}

/// What runs privately, and where.
pub(super) fn what_runs(servers: &Servers) -> String {
    let versions = servers.versions();
    let names: Vec<String> = [("Postgres", &versions.postgres), ("Redis", &versions.redis)]
        .into_iter()
        .filter_map(|(name, version)| version.as_ref().map(|version| format!("{name} {version}")))
        .collect();
    format!(
        "private {} in {}",
        names.join(" and "),
        servers.dir().display()
    )
}

impl Session {
    /// Connects to both servers. A private database is migrated by itself; one's own must be up to date.
    pub(super) async fn open(args: &ServerArgs, quiet: bool) -> Result<Self, CliError> {
        // One's own first: a wrong address is to be said before anything is started.
        if let Some(own) = args.database_url()
            && let Schema::Behind { applied, known } = store::check_schema(own).await?
        {
            return Err(CliError::SchemaBehind { applied, known });
        }
        let Addresses {
            database_url,
            redis_url,
            servers,
        } = addresses(args, quiet).await?;
        let store = if args.database_url().is_none() {
            steadily(async || {
                store::migrate(&database_url).await?;
                Store::connect(&database_url, &args.pools()).await
            })
            .await?
        } else {
            Store::connect(&database_url, &args.pools()).await?
        };
        let organization = named(&store, &args.organization).await?;
        Ok(Self {
            store,
            organization,
            database_url,
            servers,
            redis_url,
        })
    }

    /// Connects to Redis, which not every command needs.
    pub(super) async fn queue(&self) -> Result<Queue, CliError> {
        Ok(Queue::connect(&self.redis_url).await?)
    }

    /// Closes the connections and stops private servers.
    pub(super) async fn close(self) {
        self.store.close().await;
        if let Some(servers) = self.servers {
            // It waits for processes to end; the result says nothing that could still be acted upon.
            let _ = tokio::task::spawn_blocking(move || servers.stop()).await;
        }
    }
}

/// The organization with this name.
async fn named(store: &Store, name: &str) -> Result<OrganizationId, CliError> {
    if name == DEFAULT_ORGANIZATION {
        return Ok(OrganizationId::DEFAULT);
    }
    let found = steadily(async || {
        let mut connection = store.engine().await?;
        store::organization_by_name(&mut connection, name).await
    });
    found.await?.ok_or_else(|| organization::unknown(name))
}

/// How long a server may be away in the middle of a command. The owner of private servers may end at any time, and
/// another process takes them over within seconds.
const AWAY: Duration = Duration::from_secs(30);
/// The pause before trying again.
const PAUSE: Duration = Duration::from_millis(100);

/// Repeats what may be repeated, for as long as its error is transient, within reason.
pub(super) async fn steadily<T>(
    mut read: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let begun = Instant::now();
    loop {
        match read().await {
            Err(error) if error.is_transient() && begun.elapsed() < AWAY => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}
