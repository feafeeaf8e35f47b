//! A cluster after some of its members have gone: who is held by whom from then on.
//!
//! Why members are one thing is a tree: each was merged with another one, the first with nobody. Somebody who was merged
//! with one that goes is held by the next on the way to the first that stays; those for whom none stays, by the first of
//! them. A merge over several is as sure as the least sure of them.

use std::collections::{BTreeMap, BTreeSet};

use graphmill_jobs::EntityId;

use crate::store::{Joined, Mended, TiedMember};

/// What has to change in the rows of those members of one cluster that stay.
pub(super) fn mended(members: &[TiedMember]) -> Vec<Mended> {
    let rows: BTreeMap<EntityId, Option<&Joined>> = members
        .iter()
        // Somebody's row in a batch that stays is the one that counts.
        .filter(|member| !member.stays)
        .chain(members.iter().filter(|member| member.stays))
        .map(|member| (member.entity, member.joined.as_ref()))
        .collect();
    let stay: BTreeSet<EntityId> = members
        .iter()
        .filter(|member| member.stays)
        .map(|member| member.entity)
        .collect();
    let mut first = members
        .iter()
        .filter(|member| member.stays && member.joined.is_none())
        .map(|member| member.entity)
        .min();
    let mut held_by: BTreeMap<EntityId, EntityId> = members
        .iter()
        .filter(|member| member.stays)
        .filter_map(|member| Some((member.entity, member.joined.as_ref()?.with)))
        .filter(|(_, with)| stay.contains(with))
        .collect();
    let mut mended = Vec::new();
    for member in members.iter().filter(|member| member.stays) {
        let Some(joined) = &member.joined else {
            continue;
        };
        if stay.contains(&joined.with) {
            continue;
        }
        let mut held = up(joined, &rows, &stay);
        // Rows of resolutions that nobody sees may say otherwise than those that were published: no circle comes of it.
        if !stay.contains(&held.with) || leads_to(&held_by, held.with, member.entity) {
            held.with = *first.get_or_insert(member.entity);
        }
        let is_first = held.with == member.entity;
        if !is_first {
            held_by.insert(member.entity, held.with);
        }
        mended.push(Mended {
            cluster: member.cluster,
            entity: member.entity,
            resolution: member.resolution,
            joined: (!is_first).then_some(held),
        });
    }
    mended
}

/// Whether `from`, or somebody who holds it, is `to`.
fn leads_to(held_by: &BTreeMap<EntityId, EntityId>, from: EntityId, to: EntityId) -> bool {
    let way = std::iter::successors(Some(from), |at| held_by.get(at).copied());
    // Longer than this it goes in a circle.
    way.take(held_by.len() + 1).any(|at| at == to)
}

/// The way up from a merge, to the first member that stays or to the last that is known: whom it leads to, and its
/// least sure merge.
fn up(
    from: &Joined,
    rows: &BTreeMap<EntityId, Option<&Joined>>,
    stay: &BTreeSet<EntityId>,
) -> Joined {
    let mut held = from.clone();
    let mut seen = BTreeSet::new();
    while !stay.contains(&held.with)
        && seen.insert(held.with)
        && let Some(next) = rows.get(&held.with).copied().flatten()
    {
        if next.score < held.score {
            held.score = next.score;
            held.reason.clone_from(&next.reason);
        }
        held.with = next.with;
    }
    held
}

#[cfg(test)]
mod tests {
    use graphmill_jobs::ClusterId;
    use uuid::Uuid;

    use super::*;

    fn entity(number: u128) -> EntityId {
        Uuid::from_u128(number).into()
    }

    /// A member that goes (`false`) or stays, merged with another one with this sureness.
    fn member(number: u128, stays: bool, joined: Option<(u128, f32)>) -> TiedMember {
        TiedMember {
            cluster: ClusterId::from(Uuid::nil()),
            entity: entity(number),
            resolution: Uuid::nil(),
            stays,
            joined: joined.map(|(with, score)| Joined {
                with: entity(with),
                score,
                reason: format!("by {score}"),
            }),
        }
    }

    /// A member, and why it is one.
    type Told = (u128, Option<(u128, f32, String)>);

    fn told(members: &[TiedMember]) -> Vec<Told> {
        mended(members)
            .into_iter()
            .map(|mended| {
                let joined = mended
                    .joined
                    .map(|j| (j.with.uuid().as_u128(), j.score, j.reason));
                (mended.entity.uuid().as_u128(), joined)
            })
            .collect()
    }

    #[test]
    fn what_was_held_by_one_that_goes_is_held_by_the_next_on_the_way() {
        let members = [
            member(1, true, None),
            member(2, false, Some((1, 0.7))),
            member(3, true, Some((2, 0.9))),
            member(4, true, Some((3, 0.8))),
        ];
        let by = "by 0.7".to_owned();
        assert_eq!(told(&members), [(3, Some((1, 0.7, by)))]);
    }

    #[test]
    fn without_the_first_another_one_is_the_first() {
        let members = [
            member(1, false, None),
            member(2, true, Some((1, 0.7))),
            member(3, true, Some((1, 0.9))),
            member(4, true, Some((3, 0.8))),
        ];
        let by = "by 0.9".to_owned();
        assert_eq!(told(&members), [(2, None), (3, Some((2, 0.9, by)))]);
    }

    #[test]
    fn one_whose_way_is_lost_is_held_by_the_first() {
        let members = [member(1, true, None), member(3, true, Some((9, 0.9)))];
        let by = "by 0.9".to_owned();
        assert_eq!(told(&members), [(3, Some((1, 0.9, by)))]);
    }

    #[test]
    fn a_cluster_that_loses_nobody_stays_as_it_is() {
        let members = [member(1, true, None), member(2, true, Some((1, 0.9)))];
        assert_eq!(told(&members), []);
    }

    #[test]
    fn merges_in_a_circle_end() {
        let members = [
            member(1, false, Some((2, 0.5))),
            member(2, false, Some((1, 0.5))),
            member(3, true, Some((1, 0.9))),
        ];
        assert_eq!(told(&members), [(3, None)]);
        let members = [
            member(1, false, Some((4, 0.5))),
            member(2, false, Some((3, 0.5))),
            member(3, true, Some((1, 0.9))),
            member(4, true, Some((2, 0.9))),
        ];
        let by = "by 0.5".to_owned();
        assert_eq!(told(&members), [(3, Some((4, 0.5, by))), (4, None)]);
    }
}
