//! What a question about two clusters is made of, and what was answered to such questions: read from `document`,
//! `entity`, `mention` and `checkpoint`.

use graphmill_jobs::{BatchId, EntityId, OrganizationId};
use serde_json::Value;
use sqlx::{PgConnection, query};

use super::{StoreError, from_json};
use crate::flow::Failure;

/// What stands around the first mention of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The entity.
    pub entity: EntityId,
    /// A stretch of its document's text.
    pub window: String,
    /// Where in it the name begins, in characters.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

/// What stands around the first mention of each of these entities: so many characters on either side.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn surroundings(
    connection: &mut PgConnection,
    organization: OrganizationId,
    ids: &[EntityId],
    around: i32,
) -> Result<Vec<Surroundings>, StoreError> {
    let rows = query!(
        r#"select n.id, m.start_char, m.end_char,
                  substring(d.text from greatest(m.start_char - $3, 0) + 1
                                   for m.end_char + $3 - greatest(m.start_char - $3, 0)) as "window!"
           from entity n
           join workflow_execution e on e.organization_id = n.organization_id and e.id = n.workflow_execution_id
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           cross join lateral (
               select m.start_char, m.end_char from mention m
               where m.organization_id = n.organization_id and m.workflow_execution_id = n.workflow_execution_id
                 and m.ordinal = any(n.mentions)
               order by m.start_char, m.ordinal limit 1
           ) as m
           where n.organization_id = $1 and n.id = any($2) and d.text is not null"#,
        organization.uuid(),
        &ids.iter().map(|id| id.uuid()).collect::<Vec<_>>(),
        around,
    )
    .fetch_all(connection)
    .await?;
    let count = |place: i32| u32::try_from(place).unwrap_or(0);
    Ok(rows
        .into_iter()
        .map(|row| {
            let from = (row.start_char - around).max(0);
            Surroundings {
                entity: row.id.into(),
                window: row.window,
                start: count(row.start_char - from),
                end: count(row.end_char - from),
            }
        })
        .collect())
}

/// A question of a resolution, as its checkpoint has it.
#[derive(Debug, Clone, PartialEq)]
pub enum AskedUnit {
    /// It was answered, with this output.
    Done(Value),
    /// It will be asked again.
    Retry,
    /// It failed for good.
    Failed(Failure),
}

/// What became of the questions of a batch's resolutions, of whatever generation, by generation and unit.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn asked_units(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Vec<AskedUnit>, StoreError> {
    let rows = query!(
        "select c.outcome, c.output, c.failure
         from workflow_execution e
         join checkpoint c on c.organization_id = e.organization_id and c.workflow_execution_id = e.id
         where e.organization_id = $1 and e.batch_id = $2 and e.workflow_type = 'resolution' and c.stage = 'resolve'
         order by e.generation, c.unit",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(match (row.outcome.as_str(), row.failure) {
                ("retry", _) => AskedUnit::Retry,
                (_, Some(failure)) => AskedUnit::Failed(from_json("a failure", failure)?),
                (_, None) => AskedUnit::Done(row.output.unwrap_or(Value::Null)),
            })
        })
        .collect()
}
