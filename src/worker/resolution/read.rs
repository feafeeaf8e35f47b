//! What a resolution is given: the batch's entities and what its last resolution said of them, the published clusters of
//! other batches that may be the same things, and what people decided. Read in bounded steps, by key; never the whole
//! organization.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use graphmill_jobs::{BatchId, ClusterId, EntityId, OrganizationId};

use super::place::{Anchor, Given, keys_of};
use crate::store::{self, Resolvable, Store, StoreError};

/// Rows of a step. **Source:** no transaction may last five seconds; this many take some tens of milliseconds.
pub(super) const STEP: i64 = 2000;
/// Keys, or ids, that are looked up in a step.
const LOOKED_UP: usize = 1000;
/// Members of a cluster that are compared with the batch's entities, besides those that must be. **Source:** the ones
/// that share the most keys; further ones are spelled alike.
const COMPARED: usize = 8;

/// Reads all that `batch` is resolved with.
pub(super) async fn read(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Given, StoreError> {
    let own = entities(store, organization, batch).await?;
    let known: HashSet<EntityId> = own.iter().map(|entity| entity.id).collect();
    let (mut before, mut named_before) = (HashMap::new(), HashMap::new());
    // Members elsewhere that have a say, and how many keys others share with the batch.
    let mut asked: HashSet<EntityId> = HashSet::new();
    let mut after = None;
    loop {
        let mut read = store.app_planned(organization).await?;
        let page = store::published_page(&mut read, organization, batch, after, STEP).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.cluster.id, last.entity));
        for member in page {
            if let Some(joined) = member.joined.filter(|joined| !known.contains(&joined.with)) {
                asked.insert(joined.with);
            }
            if known.contains(&member.entity) {
                before.insert(member.entity, member.cluster.id);
                named_before
                    .entry(member.cluster.id)
                    .or_insert(member.cluster);
            }
        }
    }
    let mut read = store.app_planned(organization).await?;
    let decided = store::decided_of_batch(&mut read, organization, batch).await?;
    drop(read);
    let members = decided.iter().flat_map(|decided| &decided.members);
    asked.extend(
        members
            .filter(|member| member.batch != batch)
            .map(|member| member.entity),
    );
    let anchors = anchors(store, organization, batch, &own, asked).await?;
    Ok(Given {
        organization,
        own,
        anchors,
        before,
        named_before,
        decided,
    })
}

async fn entities(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
) -> Result<Vec<Resolvable>, StoreError> {
    let mut entities = Vec::new();
    let mut after = None;
    loop {
        let mut read = store.app_planned(organization).await?;
        let (page, last) =
            store::resolvable_page(&mut read, organization, batch, after, STEP).await?;
        if last.is_none() {
            return Ok(entities);
        }
        entities.extend(page);
        after = last;
    }
}

/// The clusters of other batches that share a key with the batch's entities, or have one of the `asked`.
async fn anchors(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    own: &[Resolvable],
    asked: HashSet<EntityId>,
) -> Result<Vec<Anchor>, StoreError> {
    let keys: BTreeSet<i64> = own.iter().flat_map(keys_of).collect();
    let keys: Vec<i64> = keys.into_iter().collect();
    let mut sharing: BTreeMap<ClusterId, HashMap<EntityId, usize>> = BTreeMap::new();
    for keys in keys.chunks(LOOKED_UP) {
        let mut read = store.app_planned(organization).await?;
        for (cluster, entity) in
            store::clusters_by_key(&mut read, organization, batch, keys).await?
        {
            *sharing
                .entry(cluster)
                .or_default()
                .entry(entity)
                .or_default() += 1;
        }
    }
    let mut chosen: BTreeMap<EntityId, ClusterId> = BTreeMap::new();
    for (cluster, members) in sharing {
        let mut members: Vec<(EntityId, usize)> = members.into_iter().collect();
        members.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        chosen.extend(
            members
                .into_iter()
                .take(COMPARED)
                .map(|(entity, _)| (entity, cluster)),
        );
    }
    let asked: Vec<EntityId> = asked.into_iter().collect();
    for asked in asked.chunks(LOOKED_UP) {
        let mut read = store.app_planned(organization).await?;
        chosen.extend(store::clusters_of_entities(&mut read, organization, asked).await?);
    }
    let of: BTreeSet<ClusterId> = chosen.values().copied().collect();
    let of: Vec<ClusterId> = of.into_iter().collect();
    let mut anchors: BTreeMap<ClusterId, Anchor> = BTreeMap::new();
    for ids in of.chunks(LOOKED_UP) {
        let mut read = store.app_planned(organization).await?;
        let clusters = store::clusters_elsewhere(&mut read, organization, batch, ids).await?;
        let empty = clusters.into_iter().map(|cluster| Anchor {
            cluster,
            members: Vec::new(),
        });
        anchors.extend(empty.map(|anchor| (anchor.cluster.id, anchor)));
    }
    let members: Vec<EntityId> = chosen.keys().copied().collect();
    for ids in members.chunks(LOOKED_UP) {
        let mut read = store.app_planned(organization).await?;
        for member in store::resolvable_by_id(&mut read, organization, ids).await? {
            // Not of this batch: what it says of its own entities is what is found out now.
            if member.batch != batch
                && let Some(anchor) = anchors.get_mut(&chosen[&member.id])
            {
                anchor.members.push(member);
            }
        }
    }
    Ok(anchors
        .into_values()
        .filter(|anchor| !anchor.members.is_empty())
        .collect())
}

/// Which of these ids are clusters of other batches, of all that is published.
pub(super) async fn taken(
    store: &Store,
    organization: OrganizationId,
    batch: BatchId,
    ids: &[ClusterId],
) -> Result<Vec<ClusterId>, StoreError> {
    let mut taken = Vec::new();
    for ids in ids.chunks(LOOKED_UP) {
        let mut read = store.app_planned(organization).await?;
        let there = store::clusters_elsewhere(&mut read, organization, batch, ids).await?;
        taken.extend(there.into_iter().map(|cluster| cluster.id));
    }
    Ok(taken)
}
