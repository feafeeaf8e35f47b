//! The tables `same_as` and `same_as_member`: what a resolution proposes, and what people have decided. Proposals are
//! shown and swept with their resolution; decisions belong to none and stay.

use std::{collections::HashMap, str::FromStr};

use chrono::{DateTime, Utc};
use graphmill_jobs::{BatchId, ClusterId, DocumentId, EntityId, LinkId, OrganizationId};
use sqlx::{PgConnection, query};
use uuid::Uuid;

use super::{StoreError, cluster::uuids, parsed};

/// What people say of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// One thing.
    Accepted,
    /// Two things.
    Rejected,
}

impl Decision {
    /// The decision as tables and output spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// Not a decision.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a decision")]
pub struct UnknownDecision(String);

impl FromStr for Decision {
    type Err = UnknownDecision;

    fn from_str(text: &str) -> Result<Self, UnknownDecision> {
        match text {
            "accepted" => Ok(Self::Accepted),
            "rejected" => Ok(Self::Rejected),
            other => Err(UnknownDecision(other.to_owned())),
        }
    }
}

/// A link to be proposed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLink {
    /// Its id.
    pub id: LinkId,
    /// A member of the one cluster.
    pub left: EntityId,
    /// A member of the other.
    pub right: EntityId,
    /// How likely, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: String,
}

/// Writes what a resolution proposes; what is decided already is not proposed again.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn add_proposals(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    resolution: Uuid,
    links: &[NewLink],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = links.iter().map(|link| link.id.uuid()).collect();
    let lefts: Vec<Uuid> = links.iter().map(|link| link.left.uuid()).collect();
    let rights: Vec<Uuid> = links.iter().map(|link| link.right.uuid()).collect();
    let scores: Vec<f32> = links.iter().map(|link| link.score).collect();
    let reasons: Vec<String> = links.iter().map(|link| link.reason.clone()).collect();
    query!(
        "insert into same_as (organization_id, batch_id, resolution_id, id, left_entity_id, right_entity_id, score,
                              reason)
         select $1, $2, $3, l.id, l.left_entity_id, l.right_entity_id, l.score, l.reason
         from unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::real[], $8::text[])
             as l (id, left_entity_id, right_entity_id, score, reason)
         where not exists (select from same_as d
                           where d.organization_id = $1 and d.id = l.id and d.decision is not null)",
        organization.uuid(),
        batch.uuid(),
        resolution,
        &ids,
        &lefts,
        &rights,
        &scores,
        &reasons,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEnd {
    /// A member of the cluster.
    pub entity: EntityId,
    /// Its name; `None` if it is gone.
    pub name: Option<String>,
    /// Its class.
    pub class: Option<String>,
    /// Its batch.
    pub batch: Option<BatchId>,
    /// Its document.
    pub document: Option<DocumentId>,
    /// The caller's id of its document.
    pub external: Option<String>,
    /// Its published cluster.
    pub cluster: Option<ClusterId>,
}

impl LinkEnd {
    const fn gone(entity: EntityId) -> Self {
        Self {
            entity,
            name: None,
            class: None,
            batch: None,
            document: None,
            external: None,
            cluster: None,
        }
    }
}

/// A link, as it is listed.
#[derive(Debug, Clone)]
pub struct LinkRow {
    /// Its id.
    pub id: LinkId,
    /// In whose resolution it was proposed.
    pub batch: BatchId,
    /// The one end.
    pub left: LinkEnd,
    /// The other.
    pub right: LinkEnd,
    /// How likely it was held, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: String,
    /// What people say.
    pub decision: Option<Decision>,
    /// Since when.
    pub decided_at: Option<DateTime<Utc>>,
}

macro_rules! link_rows {
    ($connection:expr, $organization:expr, $rows:expr) => {{
        let rows = $rows;
        let ends: Vec<EntityId> = rows
            .iter()
            .flat_map(|row| [row.left_entity_id.into(), row.right_entity_id.into()])
            .collect();
        let ends = link_ends($connection, $organization, &ends).await?;
        let end = |entity: Uuid| {
            let entity = EntityId::from(entity);
            ends.get(&entity).cloned().unwrap_or(LinkEnd::gone(entity))
        };
        rows.into_iter()
            .map(|row| {
                Ok(LinkRow {
                    id: row.id.into(),
                    batch: row.batch_id.into(),
                    left: end(row.left_entity_id),
                    right: end(row.right_entity_id),
                    score: row.score,
                    reason: row.reason,
                    decision: row
                        .decision
                        .map(|text: String| parsed("a decision", &text))
                        .transpose()?,
                    decided_at: row.decided_at,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()
    }};
}

/// The links that a batch's published resolution proposes and those that were decided about its entities: what waits
/// for a decision first, the surest first.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn links_of_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<Vec<LinkRow>, StoreError> {
    let rows = query!(
        r#"select s.id as "id!", s.batch_id as "batch_id!", s.left_entity_id as "left_entity_id!",
                  s.right_entity_id as "right_entity_id!", s.score as "score!", s.reason as "reason!",
                  s.decision, s.decided_at
           from (
               select s.* from batch b
               join same_as s on s.organization_id = b.organization_id and s.resolution_id = b.resolution_id
               where b.organization_id = $1 and b.id = $2 and s.decision is null
               union all
               select s.* from (
                   select distinct same_as_id from same_as_member where organization_id = $1 and batch_id = $2
               ) m
               join same_as s on s.organization_id = $1 and s.id = m.same_as_id and s.decision is not null
           ) as s
           order by s.decision is not null, s.score desc, s.id limit $3"#,
        organization.uuid(),
        batch.uuid(),
        most,
    )
    .fetch_all(&mut *connection)
    .await?;
    link_rows!(connection, organization, rows)
}

/// A page of the same links, by id, after `after`.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn link_page(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    after: Option<LinkId>,
    most: i64,
) -> Result<Vec<LinkRow>, StoreError> {
    let rows = query!(
        r#"select s.id as "id!", s.batch_id as "batch_id!", s.left_entity_id as "left_entity_id!",
                  s.right_entity_id as "right_entity_id!", s.score as "score!", s.reason as "reason!",
                  s.decision, s.decided_at
           from (
               (select s.* from same_as s
                where s.organization_id = $1 and s.decision is null and s.id > $3
                  and s.resolution_id = (select b.resolution_id from batch b where b.organization_id = $1 and b.id = $2)
                order by s.id limit $4)
               union all
               (select s.* from (
                    select distinct same_as_id from same_as_member
                    where organization_id = $1 and batch_id = $2 and same_as_id > $3
                    order by same_as_id limit $4
                ) m
                join same_as s on s.organization_id = $1 and s.id = m.same_as_id and s.decision is not null)
           ) as s
           order by s.id limit $4"#,
        organization.uuid(),
        batch.uuid(),
        after.map_or(Uuid::nil(), LinkId::uuid),
        most,
    )
    .fetch_all(&mut *connection)
    .await?;
    link_rows!(connection, organization, rows)
}

/// The link with that id: decided, or proposed by a published resolution.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn link_by_id(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: LinkId,
) -> Result<Option<LinkRow>, StoreError> {
    let rows = query!(
        "select s.id, s.batch_id, s.left_entity_id, s.right_entity_id, s.score, s.reason, s.decision, s.decided_at
         from same_as s
         join batch b on b.organization_id = s.organization_id and b.id = s.batch_id
         where s.organization_id = $1 and s.id = $2
           and (s.decision is not null or s.resolution_id = b.resolution_id)
         order by s.decision is null, s.batch_id limit 1",
        organization.uuid(),
        id.uuid(),
    )
    .fetch_all(&mut *connection)
    .await?;
    let found: Vec<LinkRow> = link_rows!(connection, organization, rows)?;
    Ok(found.into_iter().next())
}

/// What these entities are as ends of links; those that are gone are left out.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn link_ends(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entities: &[EntityId],
) -> Result<HashMap<EntityId, LinkEnd>, StoreError> {
    let rows = query!(
        r#"select n.id, n.name, n.type as class, d.batch_id, d.id as document, d.external_id,
                  c.cluster_id as "cluster?"
           from entity n
           join workflow_execution e on e.organization_id = n.organization_id and e.id = n.workflow_execution_id
           join document d on d.organization_id = e.organization_id and d.id = e.document_id
           join batch b on b.organization_id = d.organization_id and b.id = d.batch_id
           left join cluster_member c on c.organization_id = n.organization_id and c.entity_id = n.id
                                     and c.resolution_id = b.resolution_id
           where n.organization_id = $1 and n.id = any($2)"#,
        organization.uuid(),
        &uuids(entities),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let entity = EntityId::from(row.id);
            let end = LinkEnd {
                entity,
                name: Some(row.name),
                class: Some(row.class),
                batch: Some(row.batch_id.into()),
                document: Some(row.document.into()),
                external: Some(row.external_id),
                cluster: row.cluster.map(Into::into),
            };
            (entity, end)
        })
        .collect())
}

/// A side of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Those that are one thing.
    Left,
    /// Those that the left is compared with.
    Right,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// Somebody whom a decision is about, in a form that outlives a new extraction of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkMember {
    /// On which side.
    pub side: Side,
    /// Who.
    pub entity: EntityId,
    /// Its batch.
    pub batch: BatchId,
    /// Its document.
    pub document: DocumentId,
    /// The caller's id of its document, by which it is found again once another version has taken its place.
    pub external: String,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
}

/// Writes a decision over what was proposed or decided before under the same id. Whom it is about stays what it was if
/// `members` is empty.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn decide_link(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    link: &NewLink,
    decision: Decision,
    members: &[LinkMember],
) -> Result<(), StoreError> {
    query!(
        "delete from same_as where organization_id = $1 and id = $2 and decision is null",
        organization.uuid(),
        link.id.uuid(),
    )
    .execute(&mut *connection)
    .await?;
    query!(
        "insert into same_as (organization_id, batch_id, id, left_entity_id, right_entity_id, score, reason,
                              decision, decided_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, now())
         on conflict (id, organization_id) where decision is not null
         do update set decision = excluded.decision, decided_at = excluded.decided_at",
        organization.uuid(),
        batch.uuid(),
        link.id.uuid(),
        link.left.uuid(),
        link.right.uuid(),
        link.score,
        link.reason,
        decision.as_str(),
    )
    .execute(&mut *connection)
    .await?;
    if members.is_empty() {
        return Ok(());
    }
    query!(
        "delete from same_as_member where organization_id = $1 and same_as_id = $2",
        organization.uuid(),
        link.id.uuid(),
    )
    .execute(&mut *connection)
    .await?;
    let sides: Vec<String> = members
        .iter()
        .map(|member| member.side.as_str().to_owned())
        .collect();
    let entities: Vec<Uuid> = members.iter().map(|member| member.entity.uuid()).collect();
    let batches: Vec<Uuid> = members.iter().map(|member| member.batch.uuid()).collect();
    let documents: Vec<Uuid> = members
        .iter()
        .map(|member| member.document.uuid())
        .collect();
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let types: Vec<String> = members.iter().map(|member| member.class.clone()).collect();
    query!(
        "insert into same_as_member (organization_id, same_as_id, side, entity_id, batch_id, document_id, name, type)
         select $1, $2, m.side, m.entity_id, m.batch_id, m.document_id, m.name, m.type
         from unnest($3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::text[])
             as m (side, entity_id, batch_id, document_id, name, type)",
        organization.uuid(),
        link.id.uuid(),
        &sides,
        &entities,
        &batches,
        &documents,
        &names,
        &types,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What was decided about a link, and about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Its id.
    pub link: LinkId,
    /// What.
    pub decision: Decision,
    /// About whom: the left side first, each by id.
    pub members: Vec<LinkMember>,
}

macro_rules! decided {
    ($rows:expr) => {{
        let mut decided: Vec<Decided> = Vec::new();
        for row in $rows {
            let link = LinkId::from(row.same_as_id);
            if decided.last().is_none_or(|last| last.link != link) {
                decided.push(Decided {
                    link,
                    decision: parsed("a decision", &row.decision)?,
                    members: Vec::new(),
                });
            }
            if let Some(last) = decided.last_mut() {
                last.members.push(LinkMember {
                    side: if row.side == "left" {
                        Side::Left
                    } else {
                        Side::Right
                    },
                    entity: row.entity_id.into(),
                    batch: row.batch_id.into(),
                    document: row.document_id.into(),
                    external: row.external_id,
                    name: row.name,
                    class: row.class,
                });
            }
        }
        Ok(decided)
    }};
}

/// Every decision about an entity of the batch.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn decided_of_batch(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Vec<Decided>, StoreError> {
    let rows = query!(
        r#"select m.same_as_id, s.decision as "decision!", m.side, m.entity_id, m.batch_id, m.document_id,
                  d.external_id, m.name, m.type as class
           from (select distinct same_as_id from same_as_member
                 where organization_id = $1 and batch_id = $2) mine
           join same_as s on s.organization_id = $1 and s.id = mine.same_as_id and s.decision is not null
           join same_as_member m on m.organization_id = $1 and m.same_as_id = s.id
           join document d on d.organization_id = m.organization_id and d.id = m.document_id
           order by m.same_as_id, m.side, m.entity_id"#,
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_all(connection)
    .await?;
    decided!(rows)
}

/// What was decided about a link; `None` while nothing is.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn decided_of_link(
    connection: &mut PgConnection,
    organization: OrganizationId,
    link: LinkId,
) -> Result<Option<Decided>, StoreError> {
    let rows = query!(
        r#"select m.same_as_id, s.decision as "decision!", m.side, m.entity_id, m.batch_id, m.document_id,
                  d.external_id, m.name, m.type as class
           from same_as s
           join same_as_member m on m.organization_id = s.organization_id and m.same_as_id = s.id
           join document d on d.organization_id = m.organization_id and d.id = m.document_id
           where s.organization_id = $1 and s.id = $2 and s.decision is not null
           order by m.same_as_id, m.side, m.entity_id"#,
        organization.uuid(),
        link.uuid(),
    )
    .fetch_all(connection)
    .await?;
    let decided: Result<Vec<Decided>, StoreError> = decided!(rows);
    Ok(decided?.into_iter().next())
}

/// Every decision about one of these entities.
///
/// # Errors
/// [`StoreError::Query`] (trying again may help), or [`StoreError::Decode`].
pub async fn decided_of_entities(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entities: &[EntityId],
) -> Result<Vec<Decided>, StoreError> {
    let rows = query!(
        r#"select m.same_as_id, s.decision as "decision!", m.side, m.entity_id, m.batch_id, m.document_id,
                  d.external_id, m.name, m.type as class
           from (select distinct same_as_id from same_as_member
                 where organization_id = $1 and entity_id = any($2)) mine
           join same_as s on s.organization_id = $1 and s.id = mine.same_as_id and s.decision is not null
           join same_as_member m on m.organization_id = $1 and m.same_as_id = s.id
           join document d on d.organization_id = m.organization_id and d.id = m.document_id
           order by m.same_as_id, m.side, m.entity_id"#,
        organization.uuid(),
        &uuids(entities),
    )
    .fetch_all(connection)
    .await?;
    decided!(rows)
}

/// Somebody whom a decision is about, and who that is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repointed {
    /// The decision.
    pub link: LinkId,
    /// Who it was.
    pub from: EntityId,
    /// Who it is.
    pub to: EntityId,
    /// In which document.
    pub document: DocumentId,
}

/// Says that whom a decision is about has got another id: its document was extracted anew, or replaced.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn repoint_member(
    connection: &mut PgConnection,
    organization: OrganizationId,
    repointed: Repointed,
) -> Result<(), StoreError> {
    query!(
        "with moved as (
             update same_as_member set entity_id = $4, document_id = $5
             where organization_id = $1 and same_as_id = $2 and entity_id = $3
         )
         update same_as set left_entity_id = case when left_entity_id = $3 then $4 else left_entity_id end,
                            right_entity_id = case when right_entity_id = $3 then $4 else right_entity_id end
         where organization_id = $1 and id = $2 and decision is not null and $3 in (left_entity_id, right_entity_id)",
        organization.uuid(),
        repointed.link.uuid(),
        repointed.from.uuid(),
        repointed.to.uuid(),
        repointed.document.uuid(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
