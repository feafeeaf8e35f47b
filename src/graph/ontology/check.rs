//! From a draft, as a file has it, to an ontology that holds together; or everything that is wrong with it.
//!
//! Knows no file format. Invariant: in an ontology that comes out of here every class and relation type has one
//! meaning, every parent stands before its children, and what is named is there.

use std::collections::{HashMap, HashSet};

use oxrdf::NamedNode;

use super::{
    Class, ClassId, Flaw, NameLabel, Ontology, OntologyError, RelationType, RelationTypeId,
};

/// Line and column from 1, if the format tells.
pub(super) type Place = Option<(usize, usize)>;

/// Something with its place in the file.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct DraftClass {
    pub(super) id: Placed<String>,
    pub(super) parent: Option<Placed<String>>,
    pub(super) label: Option<NameLabel>,
    pub(super) description: String,
    pub(super) iri: Option<String>,
}

#[derive(Debug)]
pub(super) struct DraftRelation {
    pub(super) id: Placed<String>,
    pub(super) domain: Placed<Vec<Placed<String>>>,
    pub(super) range: Placed<Vec<Placed<String>>>,
    pub(super) description: String,
    pub(super) iri: Option<String>,
}

/// An ontology before it is known to hold together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) classes: Vec<DraftClass>,
    pub(super) relations: Vec<DraftRelation>,
}

/// Characters of an id, at most: it is printed in every row.
const ID: usize = 100;

/// Checks a draft in which `flaws` were found already.
pub(super) fn checked(draft: Draft, mut flaws: Vec<Flaw>) -> Result<Ontology, OntologyError> {
    if draft.classes.is_empty() && flaws.is_empty() {
        flaws.push(Flaw::new(
            None,
            "there is no class: an ontology has at least one",
        ));
    }
    unique(
        "class",
        draft.classes.iter().map(|class| &class.id),
        &mut flaws,
    );
    unique(
        "relation",
        draft.relations.iter().map(|relation| &relation.id),
        &mut flaws,
    );
    let known: HashSet<&str> = draft
        .classes
        .iter()
        .map(|class| class.id.value.as_str())
        .collect();
    for class in &draft.classes {
        if let Some(parent) = &class.parent {
            let place = format!("class `{}` has the parent", class.id.value);
            named(&place, parent, &known, &mut flaws);
        }
    }
    for relation in &draft.relations {
        for (end, classes) in [("domain", &relation.domain), ("range", &relation.range)] {
            let id = &relation.id.value;
            if classes.value.is_empty() {
                let message = format!(
                    "the {end} of relation `{id}` is empty, so that nothing could be said with it: list the classes that \
                     it may have there"
                );
                flaws.push(Flaw::new(classes.place, message));
            }
            for class in &classes.value {
                let place = format!("relation `{id}` has in its {end} the class");
                named(&place, class, &known, &mut flaws);
            }
        }
    }
    cycles(&draft.classes, &mut flaws);
    if !flaws.is_empty() {
        flaws.sort_by_key(|flaw| flaw.place);
        return Err(OntologyError { flaws });
    }
    let ids = |classes: Placed<Vec<Placed<String>>>| {
        classes
            .value
            .into_iter()
            .map(|class| ClassId(class.value))
            .collect()
    };
    Ok(Ontology {
        name: draft.name,
        version: draft.version,
        classes: parents_first(draft.classes),
        relations: draft
            .relations
            .into_iter()
            .map(|relation| RelationType {
                id: RelationTypeId(relation.id.value),
                domain: ids(relation.domain),
                range: ids(relation.range),
                description: relation.description,
                iri: relation.iri,
            })
            .collect(),
    })
}

/// Whether an IRI can be written as it is in every notation: it is valid, and its scheme can't be taken for a prefix.
pub(in crate::graph) fn is_exportable(iri: &str) -> bool {
    let known = ["http://", "https://", "urn:"];
    known.iter().any(|scheme| iri.starts_with(scheme)) && NamedNode::new(iri).is_ok()
}

/// The ids of one kind: fit, and each there once.
fn unique<'a>(kind: &str, ids: impl Iterator<Item = &'a Placed<String>>, flaws: &mut Vec<Flaw>) {
    let mut first: HashMap<&str, Place> = HashMap::new();
    for id in ids {
        let value = id.value.as_str();
        if value.is_empty() || value.chars().count() > ID {
            let message = format!("the id of a {kind} has 1 to {ID} characters");
            flaws.push(Flaw::new(id.place, message));
        } else if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!(
                "the id `{}` of a {kind} has white space in it: write `{}`",
                value.escape_debug(),
                value.split_whitespace().collect::<Vec<_>>().join("_")
            );
            flaws.push(Flaw::new(id.place, message));
        }
        if let Some(earlier) = first.get(value) {
            let where_ =
                earlier.map_or(String::new(), |(line, _)| format!(", first in line {line}"));
            let message =
                format!("{kind} `{value}` is defined twice{where_}: take one of them away");
            flaws.push(Flaw::new(id.place, message));
        } else {
            first.insert(value, id.place);
        }
    }
}

/// A class that is named must be there.
fn named(place: &str, class: &Placed<String>, known: &HashSet<&str>, flaws: &mut Vec<Flaw>) {
    if known.contains(class.value.as_str()) {
        return;
    }
    let remedy = nearest(&class.value, known.iter().copied()).map_or_else(
        || "define it, or name one that is".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let message = format!("{place} `{}`, which is not defined: {remedy}", class.value);
    flaws.push(Flaw::new(class.place, message));
}

/// Says of each circle of parents once that it is one.
fn cycles(classes: &[DraftClass], flaws: &mut Vec<Flaw>) {
    let by_id: HashMap<&str, &DraftClass> = classes
        .iter()
        .map(|class| (class.id.value.as_str(), class))
        .collect();
    let mut done: HashSet<&str> = HashSet::new();
    for class in classes {
        let mut way: Vec<&str> = Vec::new();
        let mut on_way: HashSet<&str> = HashSet::new();
        let mut current = Some(class);
        while let Some(class) = current {
            let id = class.id.value.as_str();
            if on_way.contains(id) {
                let from = way.iter().position(|passed| *passed == id).unwrap_or(0);
                let circle: Vec<String> = way[from..]
                    .iter()
                    .chain([&id])
                    .map(|id| format!("`{id}`"))
                    .collect();
                let place = class
                    .parent
                    .as_ref()
                    .map_or(class.id.place, |parent| parent.place);
                let message = format!(
                    "classes can't descend from themselves: {}; take one of these parents away",
                    circle.join(" → ")
                );
                flaws.push(Flaw::new(place, message));
                break;
            }
            if done.contains(id) {
                break;
            }
            on_way.insert(id);
            way.push(id);
            current = class
                .parent
                .as_ref()
                .and_then(|parent| by_id.get(parent.value.as_str()).copied());
        }
        done.extend(way);
    }
}

/// The classes in the order of the file, but each behind its parent.
fn parents_first(classes: Vec<DraftClass>) -> Vec<Class> {
    let place: HashMap<String, usize> = classes
        .iter()
        .enumerate()
        .map(|(index, class)| (class.id.value.clone(), index))
        .collect();
    let parent = |index: usize| {
        let parent = classes[index].parent.as_ref()?;
        place.get(&parent.value).copied()
    };
    let mut order: Vec<usize> = Vec::with_capacity(classes.len());
    let mut placed = vec![false; classes.len()];
    for index in 0..classes.len() {
        let mut way = Vec::new();
        let mut current = Some(index).filter(|&index| !placed[index]);
        while let Some(index) = current {
            // There are no circles any more.
            placed[index] = true;
            way.push(index);
            current = parent(index).filter(|&parent| !placed[parent]);
        }
        order.extend(way.into_iter().rev());
    }
    let mut classes: Vec<Option<DraftClass>> = classes.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|index| classes[index].take())
        .map(|class| Class {
            id: ClassId(class.id.value),
            parent: class.parent.map(|parent| ClassId(parent.value)),
            label: class.label,
            description: class.description,
            iri: class.iri,
        })
        .collect()
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (edits(&word.to_lowercase(), &known.to_lowercase()), known))
        .filter(|&(edits, _)| edits <= most)
        .min()
        .map(|(_, known)| known)
}

/// Characters to insert, drop or change to get from `a` to `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(ID).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(ID).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
