//! The table `organization`: who owns rows.
//!
//! Commands name organizations; requests never do, a key says whose they are. Making one is the business of the role
//! that owns the schema ([`super::as_owner`]), which neither requests nor workers run as.

use chrono::{DateTime, Utc};
use graphmill_jobs::OrganizationId;
use sqlx::{PgConnection, query, query_scalar};

use super::{OrganizationLimits, StoreError};
use crate::flow::RequestRate;

/// An organization, with what it may ask for and have.
#[derive(Debug, Clone)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What it may ask for and have.
    pub limits: OrganizationLimits,
}

/// The organization with this name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn organization_by_name(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<OrganizationId>, StoreError> {
    let id = query_scalar!("select id from organization where name = $1", name)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(Into::into))
}

/// All organizations by name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn organizations(connection: &mut PgConnection) -> Result<Vec<Organization>, StoreError> {
    let rows = query!(
        r#"select o.id, o.name, o.created_at, l.requests_per_second as "requests_per_second?", l.burst as "burst?",
                  l.max_open_batches as "max_open_batches?", l.max_documents as "max_documents?"
           from organization o left join organization_limit l on l.organization_id = o.id
           order by o.name"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Organization {
            id: row.id.into(),
            name: row.name,
            created_at: row.created_at,
            limits: OrganizationLimits {
                rate: row.requests_per_second.map(|per_second| RequestRate {
                    per_second: per_second.unsigned_abs(),
                    burst: row.burst.unwrap_or(per_second).unsigned_abs(),
                }),
                open_batches: row.max_open_batches.map(i32::unsigned_abs),
                documents: row.max_documents.map(i64::unsigned_abs),
            },
        })
        .collect())
}

/// Makes an organization; `None` if there is one with this name.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help, unless the role may not.
pub async fn add_organization(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Option<OrganizationId>, StoreError> {
    let id = OrganizationId::generate();
    let added = query!(
        "insert into organization (id, name) values ($1, $2) on conflict (name) do nothing",
        id.uuid(),
        name,
    )
    .execute(connection)
    .await?;
    Ok((added.rows_affected() == 1).then_some(id))
}
