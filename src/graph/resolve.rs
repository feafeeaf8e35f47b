//! The same thing across documents: entities with one value, or else one normalized name, and one class are one
//! cluster.

use std::{collections::BTreeMap, hash::Hash};

use super::{ClassId, name_key};

/// An entity as the resolution sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvableEntity<Id> {
    /// Whose.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The normal form of its value, if it is one.
    pub value: Option<String>,
    /// Its class.
    pub class: ClassId,
}

/// One real-world thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster<Id> {
    /// The spelling that most of its members use; the first in order among equals.
    pub name: String,
    /// Its class.
    pub class: ClassId,
    /// Its members, in order; never empty.
    pub members: Vec<Id>,
}

/// Clusters `entities`. The order of the input does not matter; clusters come in the order of their class and key.
#[must_use]
pub fn resolve<Id: Ord + Hash + Clone>(entities: Vec<ResolvableEntity<Id>>) -> Vec<Cluster<Id>> {
    let mut by_key: BTreeMap<(ClassId, bool, String), Vec<(Id, String)>> = BTreeMap::new();
    for entity in entities {
        let is_value = entity.value.is_some();
        let said = entity.value.unwrap_or_else(|| name_key(&entity.name));
        let key = (entity.class, is_value, said);
        by_key
            .entry(key)
            .or_default()
            .push((entity.id, entity.name));
    }
    by_key
        .into_iter()
        .map(|((class, ..), mut members)| {
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
            Cluster {
                name,
                class,
                members: members.into_iter().map(|(id, _)| id).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(id: u32, name: &str, class: &str) -> ResolvableEntity<u32> {
        ResolvableEntity {
            id,
            name: name.to_owned(),
            value: None,
            class: ClassId::new(class),
        }
    }

    #[test]
    fn one_name_and_class_is_one_thing_whatever_the_order() {
        let mut entities = vec![
            entity(3, "the Royal Society", "organization"),
            entity(1, "Royal Society", "organization"),
            entity(2, "Royal Society", "organization"),
            entity(4, "Royal Society", "location"),
        ];
        let clusters = resolve(entities.clone());
        assert_eq!(clusters.len(), 2);
        assert_eq!(clusters[1].members, [1, 2, 3]);
        assert_eq!(clusters[1].name, "Royal Society");
        entities.reverse();
        assert_eq!(resolve(entities), clusters);
    }

    #[test]
    fn one_value_is_one_thing_however_it_is_written() {
        let date = |id, name, value: &str| ResolvableEntity {
            value: Some(value.to_owned()),
            ..entity(id, name, "date")
        };
        let clusters = resolve(vec![
            date(1, "13 March 1963", "1963-03-13"),
            date(2, "March 13, 1963", "1963-03-13"),
            date(3, "3/13/63", "1863-03-13"),
            entity(4, "1963-03-13", "date"),
        ]);
        let members: Vec<&[u32]> = clusters.iter().map(|cluster| &*cluster.members).collect();
        assert_eq!(members, [&[4][..], &[3], &[1, 2]]);
    }

    #[test]
    fn paris_is_not_paris_hilton() {
        let clusters = resolve(vec![
            entity(1, "Paris", "person"),
            entity(2, "Paris Hilton", "person"),
        ]);
        assert_eq!(clusters.len(), 2);
    }
}
