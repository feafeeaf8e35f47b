//! The table `api_key`: who may ask, and for which organization. The hash of a secret only, never the secret.
//!
//! Must not know what a key looks like, nor compare one: it gives the row, and `keys` decides.

use chrono::{DateTime, Utc};
use graphmill_jobs::OrganizationId;
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{StoreError, parsed};
use crate::flow::RequestRate;

/// What a key may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look at everything that the organization has.
    Read,
    /// Change it.
    Write,
    /// Say who may do either.
    Admin,
}

impl Scope {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// With those that it holds, as they are stored.
    fn all_in(self) -> Vec<String> {
        let held = Self::ALL.into_iter().filter(|scope| *scope <= self);
        held.map(|scope| scope.as_str().to_owned()).collect()
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is no scope"))
    }
}

/// The highest of stored scopes.
fn highest(scopes: &[String]) -> Result<Scope, StoreError> {
    let mut highest = Scope::Read;
    for scope in scopes {
        highest = highest.max(parsed("a scope", scope)?);
    }
    Ok(highest)
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey<'a> {
    /// What people know it by.
    pub name: &'a str,
    /// What it is looked up by; unique.
    pub prefix: &'a str,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// What it may do.
    pub scope: Scope,
    /// Seconds until it ends; `None`: never.
    pub expires_in: Option<f64>,
}

/// A key, as it is listed.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// What people know it by.
    pub name: String,
    /// What it is looked up by.
    pub prefix: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// It has ended, by the database's clock.
    pub expired: bool,
    /// When it was taken back.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to within some minutes.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// What is known of a key by its prefix, before it is known whether whoever shows the prefix has the key.
#[derive(Debug, Clone)]
pub struct FoundApiKey {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub organization: OrganizationId,
    /// SHA-256 of its secret.
    pub hash: Vec<u8>,
    /// What it may do.
    pub scope: Scope,
    /// It was taken back.
    pub revoked: bool,
    /// Seconds until it ends, negative when it has; `None`: never.
    pub expires_in: Option<f64>,
    /// It was not used in the last minutes.
    pub idle: bool,
    /// The database's clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// What its organization may ask for.
    pub rate: Option<RequestRate>,
}

/// Stores a key. Returns when it ends.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_api_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    key: &NewApiKey<'_>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(query_scalar!(
        "insert into api_key (id, organization_id, name, prefix, hash, scopes, expires_at)
         values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
         returning expires_at",
        Uuid::now_v7(),
        organization.uuid(),
        key.name,
        key.prefix,
        &key.hash[..],
        &key.scope.all_in(),
        key.expires_in,
    )
    .fetch_one(connection)
    .await?)
}

/// The key with this prefix, whoever's it is: the one look that is not within an organization.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn api_key_by_prefix(
    connection: &mut PgConnection,
    prefix: &str,
) -> Result<Option<FoundApiKey>, StoreError> {
    let row = query!(
        r#"select id as "id!", organization_id as "organization_id!", hash as "hash!", scopes as "scopes!",
                  revoked as "revoked!", expires_in, idle as "idle!", now_ms as "now_ms!",
                  requests_per_second, burst
           from api_key_by_prefix($1)"#,
        prefix,
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let rate = row.requests_per_second.map(|per_second| RequestRate {
            per_second: per_second.unsigned_abs(),
            burst: row.burst.unwrap_or(per_second).unsigned_abs(),
        });
        Ok(FoundApiKey {
            id: row.id,
            organization: row.organization_id.into(),
            scope: highest(&row.scopes)?,
            hash: row.hash,
            revoked: row.revoked,
            expires_in: row.expires_in,
            idle: row.idle,
            now_ms: row.now_ms,
            rate,
        })
    })
    .transpose()
}

/// Whether any organization has a key that may be used.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn api_key_exists(connection: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(query_scalar!(r#"select api_key_exists() as "exists!""#)
        .fetch_one(connection)
        .await?)
}

/// Lets one process at a time look whether there is a key, and make the first one.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn first_key_lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    query!("select pg_advisory_xact_lock(hashtextextended('api_key', 20))")
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that a key is in use.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn touch_api_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: Uuid,
) -> Result<(), StoreError> {
    query!(
        "update api_key set last_used_at = now()
         where organization_id = $1 and id = $2
           and (last_used_at is null or last_used_at < now() - interval '5 minutes')",
        organization.uuid(),
        id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The organization's keys, newest first, those that have ended too.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn api_keys(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<ApiKey>, StoreError> {
    let rows = query!(
        r#"select name, prefix, scopes, created_at, expires_at,
                  coalesce(expires_at <= now(), false) as "expired!", revoked_at, last_used_at
           from api_key where organization_id = $1 order by created_at desc, id desc"#,
        organization.uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ApiKey {
                scope: highest(&row.scopes)?,
                name: row.name,
                prefix: row.prefix,
                created_at: row.created_at,
                expires_at: row.expires_at,
                expired: row.expired,
                revoked_at: row.revoked_at,
                last_used_at: row.last_used_at,
            })
        })
        .collect()
}

/// Takes a key back, once; `false` if the organization has none with this prefix.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn revoke_api_key(
    connection: &mut PgConnection,
    organization: OrganizationId,
    prefix: &str,
) -> Result<bool, StoreError> {
    let revoked = query!(
        "update api_key set revoked_at = coalesce(revoked_at, now())
         where organization_id = $1 and prefix = $2",
        organization.uuid(),
        prefix,
    )
    .execute(connection)
    .await?;
    Ok(revoked.rows_affected() == 1)
}
