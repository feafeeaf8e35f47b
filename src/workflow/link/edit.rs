//! The clusters that a decision concerns, whole and in all batches, and what it makes of them. Read once, changed in
//! memory, written back.
//!
//! Members stand in the order of their documents and places there: who is first does not depend on ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use graphmill_jobs::{BatchId, ClusterId, EntityId, LinkId, OrganizationId};
use uuid::Uuid;

use super::{ClusterMemberReport, ClusterReport, LinkError, MOST, Reason};
use crate::{
    flow::{Event, EventKind},
    graph::{self, ClassId, Decisions, ResolvableEntity, block_keys},
    store::{
        self, Connection, Decided, Decision, Joined, NewCluster, NewKey, NewMember, Resolvable,
        Side, StoreError,
    },
    workflow::{Edge, cluster_id, joined, parted},
};

/// Ids that are tried for a new cluster. **Source:** the first is free unless something of the same name in a document
/// of the same id is another thing.
const TRIED: u32 = 64;

/// What a decision concerns.
pub(super) struct Concerned {
    organization: OrganizationId,
    members: Vec<Member>,
    named: BTreeMap<ClusterId, NewCluster>,
    edges: Vec<Edge>,
    /// Whom a member was merged with who is not among them.
    outside: HashMap<EntityId, Joined>,
    /// As they were read.
    before: BTreeSet<ClusterId>,
    /// A cluster that has no id of its own yet.
    fresh: Option<ClusterId>,
    changed: bool,
}

struct Member {
    entity: Resolvable,
    resolution: Uuid,
    cluster: ClusterId,
}

impl Concerned {
    pub(super) async fn read(
        connection: &mut Connection,
        organization: OrganizationId,
        clusters: &[ClusterId],
    ) -> Result<Self, LinkError> {
        let rows = store::published_members(connection, organization, clusters, MOST + 1).await?;
        if i64::try_from(rows.len()).is_ok_and(|rows| rows > MOST) {
            return Err(LinkError::TooLarge);
        }
        let ids: Vec<EntityId> = rows.iter().map(|row| row.entity).collect();
        let there = store::resolvable_by_id(connection, organization, &ids).await?;
        let mut there: HashMap<EntityId, Resolvable> = there
            .into_iter()
            .map(|entity| (entity.id, entity))
            .collect();
        let (mut members, mut named, mut why) = (Vec::new(), BTreeMap::new(), Vec::new());
        for row in rows {
            // One that is gone waits for its batch to be resolved anew.
            let Some(entity) = there.remove(&row.entity) else {
                continue;
            };
            if let Some(joined) = row.joined {
                why.push((row.entity, joined));
            }
            members.push(Member {
                entity,
                resolution: row.resolution,
                cluster: row.cluster.id,
            });
            named.entry(row.cluster.id).or_insert(row.cluster);
        }
        members.sort_by(|a, b| {
            let key = |member: &Member| (member.entity.document, member.entity.ordinal);
            a.entity
                .external
                .cmp(&b.entity.external)
                .then_with(|| key(a).cmp(&key(b)))
        });
        let places: HashMap<EntityId, usize> = members
            .iter()
            .map(|member| member.entity.id)
            .zip(0..)
            .collect();
        let (mut edges, mut outside) = (Vec::new(), HashMap::new());
        for (entity, joined) in why {
            match places.get(&joined.with) {
                Some(&right) => edges.push(Edge {
                    left: places[&entity],
                    right,
                    score: joined.score,
                    reason: joined.reason,
                }),
                None => _ = outside.insert(entity, joined),
            }
        }
        Ok(Self {
            organization,
            members,
            before: named.keys().copied().collect(),
            named,
            edges,
            outside,
            fresh: None,
            changed: false,
        })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn has(&self, entity: EntityId) -> bool {
        self.place(entity).is_some()
    }

    fn place(&self, entity: EntityId) -> Option<usize> {
        self.members
            .iter()
            .position(|member| member.entity.id == entity)
    }

    /// The clusters that there are.
    pub(super) fn clusters(&self) -> BTreeSet<ClusterId> {
        self.members.iter().map(|member| member.cluster).collect()
    }

    /// Those that are wanted, and the others.
    pub(super) fn sides(&self, wanted: &[EntityId]) -> (Vec<&Resolvable>, Vec<&Resolvable>) {
        let entities = self.members.iter().map(|member| &member.entity);
        entities.partition(|entity| wanted.contains(&entity.id))
    }

    /// What else was decided about them.
    pub(super) async fn decided(
        &self,
        connection: &mut Connection,
        but: LinkId,
    ) -> Result<Vec<Decided>, StoreError> {
        let ids: Vec<EntityId> = self.members.iter().map(|member| member.entity.id).collect();
        let mut decided = store::decided_of_entities(connection, self.organization, &ids).await?;
        decided.retain(|decided| decided.link != but);
        Ok(decided)
    }

    /// Nobody may have said that something of the one is not something of the other.
    pub(super) fn check_union(
        &self,
        decided: &[Decided],
        one: ClusterId,
        other: ClusterId,
    ) -> Result<(), LinkError> {
        let of = self.cluster_of();
        check(decided, Decision::Rejected, |left, right| {
            let (left, right) = (of.get(&left), of.get(&right));
            one != other
                && (left == Some(&one) && right == Some(&other)
                    || left == Some(&other) && right == Some(&one))
        })
    }

    /// Nobody may have said that something that goes is something that stays.
    pub(super) fn check_split(
        &self,
        decided: &[Decided],
        going: &[EntityId],
    ) -> Result<(), LinkError> {
        let of = self.cluster_of();
        check(decided, Decision::Accepted, |left, right| {
            of.contains_key(&left)
                && of.contains_key(&right)
                && going.contains(&left) != going.contains(&right)
        })
    }

    fn cluster_of(&self) -> HashMap<EntityId, ClusterId> {
        self.members
            .iter()
            .map(|member| (member.entity.id, member.cluster))
            .collect()
    }

    /// Makes two clusters one: the bigger one stays, with its name.
    pub(super) fn unite(
        &mut self,
        one: ClusterId,
        other: ClusterId,
        left: EntityId,
        right: EntityId,
    ) {
        if one == other {
            return;
        }
        let size = |id| {
            self.members
                .iter()
                .filter(|member| member.cluster == id)
                .count()
        };
        let (stays, goes) = match (size(one), size(other)) {
            (a, b) if a > b || a == b && one < other => (one, other),
            _ => (other, one),
        };
        for member in &mut self.members {
            if member.cluster == goes {
                member.cluster = stays;
            }
        }
        if let (Some(left), Some(right)) = (self.place(left), self.place(right)) {
            self.edges.push(Edge {
                left,
                right,
                score: 1.0,
                reason: Reason::Decided.to_string(),
            });
        }
        self.changed = true;
    }

    /// Parts a cluster between two of its members, where what holds them together is weakest.
    pub(super) fn part(
        &mut self,
        decided: &[Decided],
        cluster: ClusterId,
        left: EntityId,
        right: EntityId,
    ) -> Result<(), LinkError> {
        let (Some(one), Some(other)) = (self.place(left), self.place(right)) else {
            return Ok(());
        };
        let decisions: Vec<BTreeSet<usize>> =
            decided.iter().map(|decided| self.kept(decided)).collect();
        let word = Reason::Decided.to_string();
        let kept = |edge: &Edge| {
            edge.reason == word
                && (edge.left.min(edge.right), edge.left.max(edge.right))
                    != (one.min(other), one.max(other))
                && decisions
                    .iter()
                    .any(|kept| kept.contains(&edge.left) && kept.contains(&edge.right))
        };
        let goes = parted(self.edges.clone(), one, other, kept).map_err(|way| {
            let on_the_way = decided
                .iter()
                .zip(&decisions)
                .filter(|(_, kept)| way.iter().filter(|at| kept.contains(at)).count() > 1);
            LinkError::Contradicts(
                on_the_way
                    .map(|(decided, _)| (decided.link, decided.decision))
                    .collect(),
            )
        })?;
        self.go(cluster, &goes);
        Ok(())
    }

    /// Whom a decision holds together.
    fn kept(&self, decided: &Decided) -> BTreeSet<usize> {
        let together = decided
            .members
            .iter()
            .filter(|member| decided.decision == Decision::Accepted || member.side == Side::Left);
        together
            .filter_map(|member| self.place(member.entity))
            .collect()
    }

    /// Makes some members another thing.
    pub(super) fn take_out(&mut self, wanted: &[EntityId]) {
        let goes: BTreeSet<usize> = wanted
            .iter()
            .filter_map(|&entity| self.place(entity))
            .collect();
        let Some(cluster) = goes.first().map(|&at| self.members[at].cluster) else {
            return;
        };
        // The user says who goes: the rest keeps the id, however small it is.
        let fresh = ClusterId::generate();
        self.move_to(fresh, &goes);
        self.name_anew(cluster);
    }

    /// Parts a cluster: the side that began it keeps the id, or else the bigger one.
    fn go(&mut self, cluster: ClusterId, goes: &BTreeSet<usize>) {
        let (away, rest): (Vec<usize>, Vec<usize>) = (0..self.members.len())
            .filter(|&at| self.members[at].cluster == cluster)
            .partition(|at| goes.contains(at));
        let began = |side: &[usize]| {
            let founder = side.first().map(|&at| &self.members[at].entity);
            founder.is_some_and(|founder| {
                (0..TRIED).any(|nth| cluster_id(self.organization, founder, nth) == cluster)
            })
        };
        let away_stays = match (began(&away), began(&rest)) {
            (true, false) => true,
            (false, true) => false,
            _ => away.len() > rest.len(),
        };
        let moved = if away_stays { rest } else { away };
        let fresh = ClusterId::generate();
        self.move_to(fresh, &moved.into_iter().collect());
        self.name_anew(cluster);
    }

    fn move_to(&mut self, fresh: ClusterId, goes: &BTreeSet<usize>) {
        for &at in goes {
            self.members[at].cluster = fresh;
        }
        self.fresh = Some(fresh);
        self.named.insert(fresh, self.named_by_members(fresh));
        self.changed = true;
    }

    /// A name stays for as long as a member bears it.
    fn name_anew(&mut self, cluster: ClusterId) {
        let is_borne = self.named.get(&cluster).is_some_and(|named| {
            let mut members = self
                .members
                .iter()
                .filter(|member| member.cluster == cluster);
            members.any(|member| {
                member.entity.name == named.name || member.entity.aliases.contains(&named.name)
            })
        });
        if !is_borne {
            self.named.insert(cluster, self.named_by_members(cluster));
        }
    }

    /// What the resolution calls these members if they are one thing.
    fn named_by_members(&self, cluster: ClusterId) -> NewCluster {
        let of = || {
            self.members
                .iter()
                .filter(|member| member.cluster == cluster)
        };
        let entities: Vec<ResolvableEntity<usize>> = of()
            .zip(0..)
            .map(|(member, id)| ResolvableEntity {
                id,
                document: u32::try_from(id).unwrap_or(u32::MAX),
                name: member.entity.name.clone(),
                aliases: Vec::new(),
                value: member.entity.value.clone(),
                class: Some(ClassId::new(member.entity.class.clone())),
                label: None,
                context: None,
            })
            .collect();
        let decisions = Decisions {
            same: (1..entities.len()).map(|other| (0, other)).collect(),
            different: Vec::new(),
        };
        let named = graph::resolve(entities, &decisions)
            .clusters
            .into_iter()
            .next();
        let first = of().next().map(|member| &member.entity);
        NewCluster {
            id: cluster,
            class: named
                .as_ref()
                .and_then(|named| Some(named.class.as_ref()?.as_str().to_owned()))
                .or_else(|| Some(first?.class.clone()))
                .unwrap_or_default(),
            name: named.map(|named| named.name).unwrap_or_default(),
        }
    }

    /// Writes the clusters back as they are now, in every batch that speaks of them, and tells the batches.
    pub(super) async fn write(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        if !self.changed {
            return Ok(());
        }
        self.settle_fresh(connection).await?;
        let organization = self.organization;
        let before: Vec<ClusterId> = self.before.iter().copied().collect();
        store::take_published(connection, organization, &before).await?;
        let places: BTreeSet<usize> = (0..self.members.len()).collect();
        let why = {
            // Merges between what are two clusters now say nothing any more.
            let of = |at: usize| self.members[at].cluster;
            let edges: Vec<Edge> = self
                .edges
                .iter()
                .filter(|edge| of(edge.left) == of(edge.right))
                .cloned()
                .collect();
            let tree: HashMap<usize, Joined> = joined(&places, &edges)
                .into_iter()
                .map(|(at, (with, edge))| {
                    let joined = Joined {
                        with: self.members[with].entity.id,
                        score: edge.score,
                        reason: edge.reason.clone(),
                    };
                    (at, joined)
                })
                .collect();
            tree
        };
        self.edges
            .retain(|edge| self.members[edge.left].cluster == self.members[edge.right].cluster);
        let mut batches: BTreeMap<BatchId, Uuid> = BTreeMap::new();
        batches.extend(
            self.members
                .iter()
                .map(|member| (member.entity.batch, member.resolution)),
        );
        for (batch, resolution) in batches {
            let mine = || {
                self.members
                    .iter()
                    .zip(0..)
                    .filter(|(member, _)| member.entity.batch == batch)
            };
            let clusters: BTreeSet<ClusterId> = mine().map(|(member, _)| member.cluster).collect();
            let clusters: Vec<NewCluster> = clusters
                .iter()
                .filter_map(|id| self.named.get(id).cloned())
                .collect();
            let members: Vec<NewMember> = mine()
                .map(|(member, at)| NewMember {
                    cluster: member.cluster,
                    entity: member.entity.id,
                    joined: why
                        .get(&at)
                        .or_else(|| self.outside.get(&member.entity.id))
                        .cloned(),
                })
                .collect();
            let mut keys: BTreeMap<(ClusterId, i64), EntityId> = BTreeMap::new();
            for (member, _) in mine() {
                let entity = &member.entity;
                let names = std::iter::once(&entity.name).chain(&entity.aliases);
                for key in block_keys(names.map(String::as_str), entity.value.as_deref()) {
                    keys.entry((member.cluster, key)).or_insert(entity.id);
                }
            }
            let keys: Vec<NewKey> = keys
                .into_iter()
                .map(|((cluster, key), entity)| NewKey {
                    key,
                    cluster,
                    entity,
                })
                .collect();
            store::add_clusters(connection, organization, batch, resolution, &clusters).await?;
            store::add_members(connection, organization, resolution, &members).await?;
            store::add_keys(connection, organization, batch, resolution, &keys).await?;
            let kind = EventKind::ClustersChanged {
                clusters: store::published_count(connection, organization, batch).await?,
            };
            let event = Event::of_batch(organization, batch, kind);
            store::append_event(connection, &event).await?;
        }
        Ok(())
    }

    /// A new cluster's id follows from its first member, as everywhere.
    async fn settle_fresh(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let Some(fresh) = self.fresh.take() else {
            return Ok(());
        };
        let Some(founder) = self.members.iter().find(|member| member.cluster == fresh) else {
            return Ok(());
        };
        let tried: Vec<ClusterId> = (0..TRIED)
            .map(|nth| cluster_id(self.organization, &founder.entity, nth))
            .collect();
        let no_batch = BatchId::from(Uuid::nil());
        let taken =
            store::clusters_elsewhere(connection, self.organization, no_batch, &tried).await?;
        let taken: BTreeSet<ClusterId> = taken.into_iter().map(|cluster| cluster.id).collect();
        let id = tried
            .into_iter()
            .find(|id| !taken.contains(id))
            .unwrap_or(fresh);
        for member in &mut self.members {
            if member.cluster == fresh {
                member.cluster = id;
            }
        }
        if let Some(named) = self.named.remove(&fresh) {
            self.named.insert(id, NewCluster { id, ..named });
        }
        Ok(())
    }

    /// A cluster for people.
    pub(super) fn report(&self, id: ClusterId) -> Option<ClusterReport> {
        let named = self.named.get(&id)?;
        let places: BTreeSet<usize> = (0..self.members.len())
            .filter(|&at| self.members[at].cluster == id)
            .collect();
        let tree = joined(&places, &self.edges);
        let members = places.iter().map(|&at| {
            let entity = &self.members[at].entity;
            let why = tree.get(&at);
            ClusterMemberReport {
                entity_id: entity.id,
                name: entity.name.clone(),
                class: entity.class.clone(),
                batch_id: entity.batch,
                document: entity.external.clone(),
                with: why.map(|(with, _)| self.members[*with].entity.id),
                score: why.map(|(_, edge)| edge.score),
                reason: why.map(|(_, edge)| edge.reason.clone()),
            }
        });
        Some(ClusterReport {
            cluster_id: id,
            name: named.name.clone(),
            class: named.class.clone(),
            members: members.collect(),
        })
    }
}

/// Nothing of `decision` may speak against a pair of members.
fn check(
    decided: &[Decided],
    decision: Decision,
    speaks_against: impl Fn(EntityId, EntityId) -> bool,
) -> Result<(), LinkError> {
    let on = |decided: &Decided, side| -> Vec<EntityId> {
        let members = decided.members.iter().filter(|member| member.side == side);
        members.map(|member| member.entity).collect()
    };
    let against: Vec<(LinkId, Decision)> = decided
        .iter()
        .filter(|decided| decided.decision == decision)
        .filter(|decided| {
            let (left, right) = (on(decided, Side::Left), on(decided, Side::Right));
            left.iter()
                .any(|&left| right.iter().any(|&right| speaks_against(left, right)))
        })
        .map(|decided| (decided.link, decided.decision))
        .collect();
    if against.is_empty() {
        return Ok(());
    }
    Err(LinkError::Contradicts(against))
}
