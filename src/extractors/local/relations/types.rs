//! Which relations of the ontology at hand have rules, and which classes their ends may have: read once a chunk, so
//! that no rule asks the ontology again.

use super::{rules::Rules, vocabulary::Bits};
use crate::graph::{ClassId, Ontology, RelationTypeId, TypedMention};

/// The classes of a chunk's mentions, and what may lead from which to which.
pub(super) struct Types<'a> {
    classes: Vec<(&'a ClassId, Bits)>,
    /// By the rules' relation: the id, and for each class whether it may be subject and object.
    relations: Vec<Option<Ends>>,
}

struct Ends {
    id: RelationTypeId,
    subject: Vec<bool>,
    object: Vec<bool>,
}

impl<'a> Types<'a> {
    pub(super) fn read(
        mentions: impl Iterator<Item = &'a TypedMention>,
        ontology: &Ontology,
        rules: &Rules<'_>,
    ) -> Self {
        let mut classes: Vec<(&ClassId, Bits)> = Vec::new();
        for mention in mentions {
            if !classes.iter().any(|(class, _)| *class == &mention.class) {
                classes.push((&mention.class, kind(&mention.class, ontology)));
            }
        }
        let ancestors: Vec<Vec<&ClassId>> = classes
            .iter()
            .map(|(class, _)| {
                let mut above = Vec::new();
                let mut current = ontology.class(class);
                // A parent stands before its child, so the way up ends.
                while let Some(class) = current {
                    above.push(&class.id);
                    current = class.parent.as_ref().and_then(|id| ontology.class(id));
                }
                above
            })
            .collect();
        let fitting = |wanted: &[ClassId]| -> Vec<bool> {
            ancestors
                .iter()
                .map(|above| wanted.iter().any(|class| above.contains(&class)))
                .collect()
        };
        let mut relations: Vec<Option<Ends>> = rules.relations.iter().map(|_| None).collect();
        for kind in &ontology.relations {
            let known = rules
                .relations
                .iter()
                .position(|name| *name == kind.id.as_str());
            if let Some(place) = known.and_then(|known| relations.get_mut(known)) {
                *place = Some(Ends {
                    id: kind.id.clone(),
                    subject: fitting(&kind.domain),
                    object: fitting(&kind.range),
                });
            }
        }
        Self { classes, relations }
    }

    /// The number and the kind of a class.
    pub(super) fn class(&self, id: &ClassId) -> Option<(usize, Bits)> {
        self.classes
            .iter()
            .enumerate()
            .find(|(_, (class, _))| *class == id)
            .map(|(at, (_, bits))| (at, *bits))
    }

    /// The relation's id, if the ontology has it.
    pub(super) fn id(&self, relation: usize) -> Option<&RelationTypeId> {
        self.relations[relation].as_ref().map(|ends| &ends.id)
    }

    pub(super) fn is_subject(&self, relation: usize, class: usize) -> bool {
        self.relations[relation]
            .as_ref()
            .is_some_and(|ends| ends.subject[class])
    }

    pub(super) fn is_object(&self, relation: usize, class: usize) -> bool {
        self.relations[relation]
            .as_ref()
            .is_some_and(|ends| ends.object[class])
    }
}

/// What rules call a class.
fn kind(class: &ClassId, ontology: &Ontology) -> Bits {
    match (class.as_str(), ontology.label_of(class)) {
        ("date", None) => Bits::DATE,
        (_, None) => Bits::VALUE,
        (_, Some(label)) => Bits::of_label(label),
    }
}
