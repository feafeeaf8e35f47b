//! What a batch's traces need to know of it.

use graphmill_jobs::{BatchId, DocumentId, OrganizationId};
use sqlx::{PgConnection, query};

use super::StoreError;

/// Where in a trace a batch's work hangs.
#[derive(Debug, Clone)]
pub struct BatchTrace {
    /// W3C trace context of its submission, if it has one.
    pub traceparent: Option<String>,
    /// The last of its first documents; none if it has fewer.
    pub last: Option<DocumentId>,
    /// It gets no more documents: what is said here stays.
    pub sealed: bool,
}

/// Where a batch's work hangs. Its first documents are `first` in number, in the order of their ids, which is that of
/// their submission: whoever comes later changes nothing of it.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn batch_trace(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: BatchId,
    first: u32,
) -> Result<Option<BatchTrace>, StoreError> {
    let row = query!(
        r#"select b.traceparent, b.sealed_at is not null as "sealed!",
                  (select d.id from document d where d.batch_id = b.id order by d.id offset $3 limit 1) as last
           from batch b where b.organization_id = $1 and b.id = $2"#,
        organization.uuid(),
        id.uuid(),
        i64::from(first).saturating_sub(1),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| BatchTrace {
        traceparent: row.traceparent,
        last: row.last.map(Into::into),
        sealed: row.sealed,
    }))
}
