//! The clusters of a batch that is going, and what other batches have of the same clusters: why their members are
//! together, and what people decided about them.

use graphmill_jobs::{BatchId, ClusterId, EntityId, OrganizationId};
use sqlx::{PgConnection, query, query_scalar};
use uuid::Uuid;

use super::{Step, Tally};
use crate::store::{Joined, StoreError};

/// Keeps everybody from changing the organization's clusters for the rest of the transaction. A resolution that is at
/// work is not made to begin anew.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn lock_clusters(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), StoreError> {
    query_scalar!(
        "select version from resolution_turn where organization_id = $1 for update",
        organization.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(())
}

/// Every resolution of a batch that has rows.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn resolutions_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Vec<Uuid>, StoreError> {
    Ok(query_scalar!(
        "select id from resolution where organization_id = $1 and batch_id = $2 order by id",
        organization.uuid(),
        batch.uuid(),
    )
    .fetch_all(connection)
    .await?)
}

/// Clusters of a resolution after `after`, by id, `most` at most.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn clusters_of_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resolution: Uuid,
    after: Option<ClusterId>,
    most: i64,
) -> Result<Vec<ClusterId>, StoreError> {
    let ids = query_scalar!(
        "select id from cluster where organization_id = $1 and resolution_id = $2 and id > $3
         order by id limit $4",
        organization.uuid(),
        resolution,
        after.map_or_else(Uuid::nil, ClusterId::uuid),
        most,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

/// A member of a cluster that is there in several batches.
#[derive(Debug, Clone, PartialEq)]
pub struct TiedMember {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub entity: EntityId,
    /// The resolution whose row it is.
    pub resolution: Uuid,
    /// Its batch is there, and not going.
    pub stays: bool,
    /// Whom it was merged with, and why.
    pub joined: Option<Joined>,
}

/// The members, those that go too, of those of `clusters` that a batch which stays has published: by cluster and id.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn tied_members(
    connection: &mut PgConnection,
    organization: OrganizationId,
    clusters: &[ClusterId],
) -> Result<Vec<TiedMember>, StoreError> {
    let ids: Vec<Uuid> = clusters.iter().map(|id| id.uuid()).collect();
    let rows = query!(
        r#"select m.cluster_id, m.entity_id, m.resolution_id, b.pruning_since is null as "stays!",
                  m.with_entity_id, m.score, m.reason
           from cluster c
           join batch b on b.organization_id = c.organization_id and b.id = c.batch_id
           join cluster_member m on m.organization_id = c.organization_id and m.resolution_id = c.resolution_id
                                and m.cluster_id = c.id
           where c.organization_id = $1 and c.id = any($2)
             and (b.resolution_id = c.resolution_id or b.pruning_since is not null)
             and exists (select from cluster o
                         join batch ob on ob.organization_id = o.organization_id and ob.id = o.batch_id
                         where o.organization_id = $1 and o.id = c.id and ob.resolution_id = o.resolution_id)
           order by m.cluster_id, m.entity_id, m.resolution_id"#,
        organization.uuid(),
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TiedMember {
            cluster: row.cluster_id.into(),
            entity: row.entity_id.into(),
            resolution: row.resolution_id,
            stays: row.stays,
            joined: row.with_entity_id.zip(row.score).zip(row.reason).map(
                |((with, score), reason)| Joined {
                    with: with.into(),
                    score,
                    reason,
                },
            ),
        })
        .collect())
}

/// A member that is held by another one from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Mended {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub entity: EntityId,
    /// The resolution whose row it is.
    pub resolution: Uuid,
    /// By whom, and why; `None`: it is the first of its cluster.
    pub joined: Option<Joined>,
}

/// Writes down who is held by whom from now on.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn mend_members(
    connection: &mut PgConnection,
    organization: OrganizationId,
    mended: &[Mended],
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = mended.iter().map(|m| m.cluster.uuid()).collect();
    let entities: Vec<Uuid> = mended.iter().map(|m| m.entity.uuid()).collect();
    let resolutions: Vec<Uuid> = mended.iter().map(|m| m.resolution).collect();
    let joined = || mended.iter().map(|m| m.joined.as_ref());
    let with: Vec<Option<Uuid>> = joined().map(|j| Some(j?.with.uuid())).collect();
    let scores: Vec<Option<f32>> = joined().map(|j| Some(j?.score)).collect();
    let reasons: Vec<Option<String>> = joined().map(|j| Some(j?.reason.clone())).collect();
    query!(
        "update cluster_member m
         set with_entity_id = mended.with_entity_id, score = mended.score, reason = mended.reason
         from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::real[], $7::text[])
             as mended (resolution_id, cluster_id, entity_id, with_entity_id, score, reason)
         where m.organization_id = $1 and m.resolution_id = mended.resolution_id
           and m.cluster_id = mended.cluster_id and m.entity_id = mended.entity_id",
        organization.uuid(),
        &resolutions,
        &clusters,
        &entities,
        &with as &[Option<Uuid>],
        &scores as &[Option<f32>],
        &reasons as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What a step over the decisions about a batch has come to.
#[derive(Debug, Clone, Default)]
pub struct DecisionsPruned {
    /// Decisions that go, each with its bytes: one side of them has nobody left.
    pub gone: Vec<(Uuid, u64)>,
    /// Decisions that lose somebody, and stay.
    pub kept: Vec<Uuid>,
    /// There may be more.
    pub more: bool,
}

/// A step over what people decided about a batch's entities: those leave the decisions, and a decision goes once one
/// of its sides is empty. One that stays moves to a batch that stays. Batches in `going` count as going, besides those
/// that are marked.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
#[expect(
    clippy::too_many_lines,
    reason = "a handful of statements that belong together"
)]
pub async fn prune_decisions(
    connection: &mut PgConnection,
    organization: OrganizationId,
    batch: BatchId,
    going: &[BatchId],
    step: Step,
) -> Result<DecisionsPruned, StoreError> {
    let going: Vec<Uuid> = going.iter().map(|id| id.uuid()).collect();
    let links = query_scalar!(
        r#"select id as "id!" from (
               (select distinct same_as_id as id from same_as_member
                where organization_id = $1 and batch_id = $2 limit $3)
               union
               (select id from same_as
                where organization_id = $1 and batch_id = $2 and decision is not null limit $3)
           ) as links"#,
        organization.uuid(),
        batch.uuid(),
        step.most,
    )
    .fetch_all(&mut *connection)
    .await?;
    if links.is_empty() {
        return Ok(DecisionsPruned::default());
    }
    // Whoever is of a batch that is going counts as gone already: what two such batches share goes once, and whole.
    let lost = query!(
        r#"select s.id, pg_column_size(s.reason) + 150 as "bytes!",
                  exists (select from same_as_member m
                          join batch b on b.organization_id = m.organization_id and b.id = m.batch_id
                          where m.organization_id = $1 and m.same_as_id = s.id and m.side = 'left'
                            and b.pruning_since is null and b.id <> all($3))
                  and exists (select from same_as_member m
                              join batch b on b.organization_id = m.organization_id and b.id = m.batch_id
                              where m.organization_id = $1 and m.same_as_id = s.id and m.side = 'right'
                                and b.pruning_since is null and b.id <> all($3)) as "stays!"
           from same_as s
           where s.organization_id = $1 and s.id = any($2) and s.decision is not null"#,
        organization.uuid(),
        &links,
        &going,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut pruned = DecisionsPruned {
        more: step.delete,
        ..DecisionsPruned::default()
    };
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    for row in lost {
        if row.stays {
            stay.push(row.id);
        } else {
            let bytes = u64::from(row.bytes.unsigned_abs());
            pruned.gone.push((row.id, bytes));
            go.push(row.id);
        }
    }
    pruned.kept.clone_from(&stay);
    if !step.delete {
        return Ok(pruned);
    }
    query!(
        "delete from same_as_member
         where organization_id = $1 and (same_as_id = any($2) and batch_id = $3 or same_as_id = any($4))",
        organization.uuid(),
        &links,
        batch.uuid(),
        &go,
    )
    .execute(&mut *connection)
    .await?;
    query!(
        "delete from same_as where organization_id = $1 and id = any($2) and decision is not null",
        organization.uuid(),
        &go,
    )
    .execute(&mut *connection)
    .await?;
    // An end that went is another member of its side from now on.
    query!(
        "update same_as s
         set batch_id = l.batch_id,
             left_entity_id = case when exists (select from same_as_member m
                                                where m.organization_id = $1 and m.same_as_id = s.id
                                                  and m.entity_id = s.left_entity_id)
                                   then s.left_entity_id else l.entity_id end,
             right_entity_id = case when exists (select from same_as_member m
                                                 where m.organization_id = $1 and m.same_as_id = s.id
                                                   and m.entity_id = s.right_entity_id)
                                    then s.right_entity_id else r.entity_id end
         from (select distinct on (m.same_as_id) m.same_as_id, m.entity_id, m.batch_id from same_as_member m
               join batch b on b.organization_id = m.organization_id and b.id = m.batch_id
               where m.organization_id = $1 and m.same_as_id = any($2) and m.side = 'left'
                 and b.pruning_since is null
               order by m.same_as_id, m.entity_id) as l
         join (select distinct on (m.same_as_id) m.same_as_id, m.entity_id from same_as_member m
               join batch b on b.organization_id = m.organization_id and b.id = m.batch_id
               where m.organization_id = $1 and m.same_as_id = any($2) and m.side = 'right'
                 and b.pruning_since is null
               order by m.same_as_id, m.entity_id) as r on r.same_as_id = l.same_as_id
         where s.organization_id = $1 and s.id = l.same_as_id and s.decision is not null",
        organization.uuid(),
        &stay,
    )
    .execute(connection)
    .await?;
    Ok(pruned)
}

/// A step over a resolution that nobody sees: what it proposed, its members and their keys, then its clusters, then
/// itself. Returns what went (clusters with all that is theirs; links), and whether there may be more.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn prune_resolution(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resolution: Uuid,
    step: Step,
) -> Result<(Tally, Tally, bool), StoreError> {
    let row = query!(
        r#"with links as materialized (
               select ctid, pg_column_size(reason) + 150 as bytes from same_as
               where organization_id = $1 and resolution_id = $2 and decision is null limit $3
           ), links_gone as (
               delete from same_as where ctid = any(array(select ctid from links where $4))
           ), members as materialized (
               select ctid, coalesce(pg_column_size(reason), 0) + 120 as bytes from cluster_member
               where organization_id = $1 and resolution_id = $2 limit $3
           ), members_gone as (
               delete from cluster_member where ctid = any(array(select ctid from members where $4))
           ), keys as materialized (
               select ctid, 110 as bytes from cluster_key
               where organization_id = $1 and resolution_id = $2 limit $3
           ), keys_gone as (
               delete from cluster_key where ctid = any(array(select ctid from keys where $4))
           )
           select (select count(*) from links) as "links!",
                  (select coalesce(sum(bytes), 0)::bigint from links) as "link_bytes!",
                  (select count(*) from members) + (select count(*) from keys) as "rows!",
                  (select coalesce(sum(bytes), 0)::bigint from members)
                      + (select coalesce(sum(bytes), 0)::bigint from keys) as "bytes!""#,
        organization.uuid(),
        resolution,
        step.most,
        step.delete,
    )
    .fetch_one(&mut *connection)
    .await?;
    let links = Tally::of(row.links, row.link_bytes);
    let mut rows = Tally::of(row.rows, row.bytes);
    if step.delete && links.rows + rows.rows > 0 {
        return Ok((rows, links, true));
    }
    let row = query!(
        r#"with clusters as materialized (
               select ctid, pg_column_size(name) + pg_column_size(type) + 120 as bytes from cluster
               where organization_id = $1 and resolution_id = $2 limit $3
           ), gone as (
               delete from cluster where ctid = any(array(select ctid from clusters where $4))
           )
           select count(*) as "rows!", coalesce(sum(bytes), 0)::bigint as "bytes!" from clusters"#,
        organization.uuid(),
        resolution,
        step.most,
        step.delete,
    )
    .fetch_one(&mut *connection)
    .await?;
    rows.add(Tally::of(row.rows, row.bytes));
    if !step.delete || row.rows > 0 {
        return Ok((rows, links, step.delete));
    }
    query!(
        "delete from resolution where organization_id = $1 and id = $2",
        organization.uuid(),
        resolution,
    )
    .execute(connection)
    .await?;
    Ok((rows, links, false))
}

/// A step over what is proposed, after `after`: links one of whose ends is gone. Returns what went, and where the next
/// step goes on.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn drop_dangling_links(
    connection: &mut PgConnection,
    organization: OrganizationId,
    after: Option<(Uuid, Uuid)>,
    most: i64,
) -> Result<(Tally, Option<(Uuid, Uuid)>), StoreError> {
    let (id, resolution) = after.unwrap_or_default();
    let row = query!(
        r#"with page as materialized (
               select ctid, id, resolution_id, left_entity_id, right_entity_id,
                      pg_column_size(reason) + 150 as bytes
               from same_as
               where organization_id = $1 and decision is null and (id, resolution_id) > ($2, $3)
               order by id, resolution_id limit $4
           ), loose as materialized (
               select ctid, bytes from page
               where not exists (select from entity n where n.organization_id = $1 and n.id = left_entity_id)
                  or not exists (select from entity n where n.organization_id = $1 and n.id = right_entity_id)
           ), gone as (
               delete from same_as where ctid = any(array(select ctid from loose))
           ), last as (
               select id, resolution_id from page order by id desc, resolution_id desc limit 1
           )
           select (select count(*) from loose) as "rows!",
                  (select coalesce(sum(bytes), 0)::bigint from loose) as "bytes!",
                  last.id as "id?", last.resolution_id as "resolution?"
           from (select) as one left join last on true"#,
        organization.uuid(),
        id,
        resolution,
        most,
    )
    .fetch_one(connection)
    .await?;
    Ok((Tally::of(row.rows, row.bytes), row.id.zip(row.resolution)))
}
