//! Making keys. Must not know where they are shown.

use std::time::Duration;

use chrono::{DateTime, Utc};
use graphmill_jobs::OrganizationId;

use super::Key;
use crate::store::{self, Connection, NewApiKey, Scope, StoreError};

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey<'a> {
    /// What people know it by.
    pub name: &'a str,
    /// What it may do.
    pub scope: Scope,
    /// How long it may do so; `None`: until it is taken back.
    pub expires: Option<Duration>,
}

/// A key that was made: the one time that it can be shown.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The key.
    pub key: Key,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The store did not do its part; it says whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Trying again may help.
    #[error("the system has no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Makes a key; it counts from the caller's commit on.
///
/// # Errors
/// [`IssueError`]; trying again may help.
pub async fn issue(
    connection: &mut Connection,
    organization: OrganizationId,
    new: &NewKey<'_>,
) -> Result<Issued, IssueError> {
    let key = Key::generate().map_err(IssueError::Random)?;
    let row = NewApiKey {
        name: new.name,
        prefix: key.prefix(),
        hash: key.hash(),
        scope: new.scope,
        expires_in: new.expires.map(|time| time.as_secs_f64()),
    };
    let expires_at = store::add_api_key(connection, organization, &row).await?;
    Ok(Issued { key, expires_at })
}

/// Makes a key if no organization has one that may be used. Of several processes that begin at once, one does.
///
/// # Errors
/// [`IssueError`]; trying again may help.
pub async fn first(
    connection: &mut Connection,
    organization: OrganizationId,
    new: &NewKey<'_>,
) -> Result<Option<Issued>, IssueError> {
    store::first_key_lock(&mut *connection).await?;
    if store::api_key_exists(&mut *connection).await? {
        return Ok(None);
    }
    issue(connection, organization, new).await.map(Some)
}
