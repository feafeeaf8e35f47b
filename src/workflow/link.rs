//! What people decide about clusters: that two are one thing, that they are not, or that members of one are another
//! thing. Each takes effect at once, in every batch that speaks of the clusters, and binds every later resolution.
//!
//! A command is one transaction, bounded by how many members it may concern. Invariants: decisions never contradict one
//! another; a decision that is given again changes nothing.

mod edit;
mod report;

use std::collections::{BTreeSet, HashMap};

use graphmill_jobs::{BatchId, ClusterId, EntityId, LinkId, OrganizationId};

use self::edit::Concerned;
pub use self::report::{ClusterMemberReport, ClusterReport, LinkChange, LinkEndReport, LinkReport};
use super::identity::split_id;
use crate::{
    graph::Reason,
    store::{
        self, Connection, Decided, Decision, LinkEnd, LinkMember, LinkRow, NewLink, Side, Store,
        StoreError,
    },
};

/// Members that a decision may concern. **Source:** no transaction may last five seconds; so many are written in about
/// one.
const MOST: i64 = 20_000;

/// Why a decision was not taken. Trying again helps only where the store says so.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The store did not do its part; it says whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("there is no link {0}: `graphmill link list BATCH` shows them")]
    UnknownLink(LinkId),
    /// There is none.
    #[error("there is no published cluster {0}: an export shows them")]
    UnknownCluster(ClusterId),
    /// An entity is not in the cluster.
    #[error("{entity} is no member of {cluster}: `graphmill link show {cluster}` lists them")]
    NotAMember {
        /// The entity.
        entity: EntityId,
        /// The cluster.
        cluster: ClusterId,
    },
    /// Nothing would be left.
    #[error("these are all members of {0}: there is nothing to split them from")]
    WholeCluster(ClusterId),
    /// An end of the link is in no published cluster any more.
    #[error("{0} is about something that is gone: its document was extracted anew, or withdrawn")]
    Gone(LinkId),
    /// Another decision says otherwise.
    #[error("another decision says otherwise: {}", listed(.0))]
    Contradicts(Vec<(LinkId, Decision)>),
    /// Too much would change at once.
    #[error("it concerns more than {MOST} members, which is more than one step can change")]
    TooLarge,
}

fn listed(links: &[(LinkId, Decision)]) -> String {
    let links: Vec<String> = links
        .iter()
        .map(|(link, decision)| match decision {
            Decision::Accepted => {
                format!("{link} is accepted (`graphmill link reject {link}` takes it back)")
            }
            Decision::Rejected => {
                format!("{link} is rejected (`graphmill link accept {link}` takes it back)")
            }
        })
        .collect();
    links.join(", ")
}

/// The links of a batch: proposed ones first, the surest first, then those that are decided.
///
/// # Errors
/// [`StoreError`]; trying again may help.
pub async fn links(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    most: i64,
) -> Result<Vec<LinkReport>, StoreError> {
    let mut read = store.app(organization).await?;
    let rows = store::links_of_batch(&mut read, organization, batch, most).await?;
    Ok(rows.into_iter().map(LinkReport::of).collect())
}

/// A published cluster with its members in all batches, and why each is one; `None` if there is none of that id.
///
/// # Errors
/// [`LinkError`].
pub async fn cluster(
    store: &Store,
    organization: OrganizationId,
    id: ClusterId,
) -> Result<Option<ClusterReport>, LinkError> {
    let mut read = store.app(organization).await?;
    let concerned = Concerned::read(&mut read, organization, &[id]).await?;
    Ok(concerned.report(id))
}

/// Says that the two ends of a link are one thing, or that they are not.
///
/// # Errors
/// [`LinkError`]; nothing has changed then.
pub async fn decide(
    store: &Store,
    organization: OrganizationId,
    link: LinkId,
    decision: Decision,
) -> Result<LinkChange, LinkError> {
    let mut transaction = store.app(organization).await?;
    // Before anything is read: what is decided upon must not change meanwhile.
    store::change_clusters(&mut transaction, organization).await?;
    let row = store::link_by_id(&mut transaction, organization, link)
        .await?
        .ok_or(LinkError::UnknownLink(link))?;
    if row.decision == Some(decision) {
        return Ok(LinkChange::nothing(row));
    }
    let members = store::decided_of_link(&mut transaction, organization, link).await?;
    let (left, right) = ends(&mut transaction, organization, &row, members.as_ref()).await?;
    let (Some(one), Some(other)) = (left.cluster, right.cluster) else {
        return Err(LinkError::Gone(link));
    };
    let mut concerned = Concerned::read(&mut transaction, organization, &[one, other]).await?;
    let decided = concerned.decided(&mut transaction, link).await?;
    let before = concerned.clusters();
    match decision {
        Decision::Accepted => {
            concerned.check_union(&decided, one, other)?;
            concerned.unite(one, other, left.entity, right.entity);
        }
        Decision::Rejected if one == other => {
            concerned.part(&decided, one, left.entity, right.entity)?;
        }
        Decision::Rejected => {}
    }
    let about = if members.is_some() {
        Vec::new()
    } else {
        [(Side::Left, left), (Side::Right, right)]
            .into_iter()
            .filter_map(|(side, end)| about(side, end))
            .collect()
    };
    let new = NewLink {
        id: link,
        left: row.left.entity,
        right: row.right.entity,
        score: row.score,
        reason: row.reason.clone(),
    };
    store::decide_link(
        &mut transaction,
        organization,
        row.batch,
        &new,
        decision,
        &about,
    )
    .await?;
    finish(transaction, organization, concerned, link, before).await
}

/// Takes members out of a cluster: together they are another thing, whatever later resolutions find.
///
/// # Errors
/// [`LinkError`]; nothing has changed then.
pub async fn split(
    store: &Store,
    organization: OrganizationId,
    cluster: ClusterId,
    out: &[EntityId],
) -> Result<LinkChange, LinkError> {
    let mut transaction = store.app(organization).await?;
    store::change_clusters(&mut transaction, organization).await?;
    let mut wanted: Vec<EntityId> = out.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let going = store::resolvable_by_id(&mut transaction, organization, &wanted).await?;
    let link = split_id(organization, cluster, &going);
    let mut concerned = Concerned::read(&mut transaction, organization, &[cluster]).await?;
    let stranger = wanted.iter().find(|&&entity| !concerned.has(entity));
    if let Some(&entity) = stranger {
        let done = store::link_by_id(&mut transaction, organization, link).await?;
        return match done.filter(|done| done.decision == Some(Decision::Rejected)) {
            Some(done) => Ok(LinkChange::nothing(done)),
            None if concerned.is_empty() => Err(LinkError::UnknownCluster(cluster)),
            None => Err(LinkError::NotAMember { entity, cluster }),
        };
    }
    let (going, staying) = concerned.sides(&wanted);
    let (Some(first), Some(rest)) = (going.first(), staying.first()) else {
        return Err(LinkError::WholeCluster(cluster));
    };
    let new = NewLink {
        id: link,
        left: first.id,
        right: rest.id,
        score: 1.0,
        reason: "split".to_owned(),
    };
    let batch = first.batch;
    let about: Vec<LinkMember> = (going.iter().map(|&entity| (Side::Left, entity)))
        .chain(staying.iter().map(|&entity| (Side::Right, entity)))
        .map(|(side, entity)| LinkMember {
            side,
            entity: entity.id,
            batch: entity.batch,
            document: entity.document,
            external: entity.external.clone(),
            name: entity.name.clone(),
            class: entity.class.clone(),
        })
        .collect();
    let decided = concerned.decided(&mut transaction, link).await?;
    let before = concerned.clusters();
    concerned.check_split(&decided, &wanted)?;
    concerned.take_out(&wanted);
    let decision = Decision::Rejected;
    store::decide_link(
        &mut transaction,
        organization,
        batch,
        &new,
        decision,
        &about,
    )
    .await?;
    finish(transaction, organization, concerned, link, before).await
}

/// Writes what has changed, and says what it is now.
async fn finish(
    mut transaction: store::AppTransaction,
    organization: OrganizationId,
    mut concerned: Concerned,
    link: LinkId,
    before: BTreeSet<ClusterId>,
) -> Result<LinkChange, LinkError> {
    concerned.write(&mut transaction).await?;
    let row = store::link_by_id(&mut transaction, organization, link)
        .await?
        .ok_or(LinkError::UnknownLink(link))?;
    transaction.commit().await.map_err(StoreError::from)?;
    let after = concerned.clusters();
    Ok(LinkChange {
        link: LinkReport::of(row),
        changed: true,
        gone: before.difference(&after).copied().collect(),
        clusters: after
            .iter()
            .filter_map(|&id| concerned.report(id))
            .collect(),
    })
}

/// The ends of a link as they are now: of a decision, the first on each side that is still there.
async fn ends(
    connection: &mut Connection,
    organization: OrganizationId,
    row: &LinkRow,
    decided: Option<&Decided>,
) -> Result<(LinkEnd, LinkEnd), StoreError> {
    let (mut left, mut right) = (row.left.clone(), row.right.clone());
    if let Some(decided) = decided {
        let all: Vec<EntityId> = decided.members.iter().map(|member| member.entity).collect();
        let ends: HashMap<EntityId, LinkEnd> =
            store::link_ends(connection, organization, &all).await?;
        for (side, end) in [(Side::Left, &mut left), (Side::Right, &mut right)] {
            let there = decided.members.iter().filter(|member| member.side == side);
            let mut there = there.filter_map(|member| ends.get(&member.entity));
            if end.cluster.is_none()
                && let Some(found) = there.find(|found| found.cluster.is_some())
            {
                *end = found.clone();
            }
        }
    }
    Ok((left, right))
}

fn about(side: Side, end: LinkEnd) -> Option<LinkMember> {
    Some(LinkMember {
        side,
        entity: end.entity,
        batch: end.batch?,
        document: end.document?,
        external: end.external?,
        name: end.name?,
        class: end.class?,
    })
}
