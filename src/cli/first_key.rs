//! The key that `serve` needs before it lets anybody in: where one must be there, and where one is made.
//!
//! Invariant: a key that was made is in a file of its owner's alone before it counts, so that it can't be lost, and is
//! shown on stderr once, not by the log.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{error::CliError, output, session::Session};
use crate::{
    config::ServerArgs,
    keys::{self, NewKey},
    store::{self, Scope, StoreError},
};

/// Where the first key is kept, in the folder of the private servers.
const FILE: &str = "api-key";

/// Sees to it that there is a key: makes the first one on a loopback address with a private database, refuses any other
/// address without one.
pub(super) async fn have_key(
    session: &Session,
    servers: &ServerArgs,
    flag: &str,
    listen: SocketAddr,
) -> Result<(), CliError> {
    let is_local = listen.ip().is_loopback();
    if is_local && servers.database_url().is_none() {
        return make(session, &servers.data_dir.join(FILE)).await;
    }
    let mut connection = session.store.outside().await?;
    if store::api_key_exists(&mut connection).await? {
        return Ok(());
    }
    if is_local {
        output::note("there is no API key yet: `graphmill keys create NAME` makes one");
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--{flag} {listen}: there is no API key yet, so nobody could be told from anybody; make one first: \
         `graphmill keys create NAME`"
    )))
}

async fn make(session: &Session, path: &Path) -> Result<(), CliError> {
    let mut transaction = session.store.app(session.organization).await?;
    let new = NewKey {
        name: "first key of serve",
        scope: Scope::Admin,
        expires: None,
    };
    let Some(issued) = keys::first(&mut transaction, session.organization, &new).await? else {
        return Ok(());
    };
    let key = issued.key.reveal();
    keep(path, &key).map_err(|source| CliError::Write {
        path: path.display().to_string(),
        source,
    })?;
    transaction.commit().await.map_err(StoreError::from)?;
    output::note(&format!(
        "the first API key, shown this once and kept in {}:\n{key}",
        path.display()
    ));
    Ok(())
}

/// Writes the key where nobody else may read it, whole or not at all.
fn keep(path: &Path, key: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}
