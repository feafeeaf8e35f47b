//! The classes and relation types that an extraction may use.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::NameLabel;

/// The id of a class, for example `person`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassId(pub String);

/// The id of a relation type, for example `works_for`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelationTypeId(pub String);

impl ClassId {
    /// The id `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RelationTypeId {
    /// The id `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its id.
    pub id: ClassId,
    /// The class that it specializes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ClassId>,
    /// What a tagger calls its names; without it, that of its nearest ancestor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<NameLabel>,
    /// What belongs to it, for people and models.
    pub description: String,
}

/// A kind of statement about two things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationType {
    /// Its id.
    pub id: RelationTypeId,
    /// Classes that its subject may have (their descendants too).
    pub domain: Vec<ClassId>,
    /// Classes that its object may have (their descendants too).
    pub range: Vec<ClassId>,
    /// What it says, for people and models.
    pub description: String,
}

/// Classes and relation types, by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ontology {
    /// Its name.
    pub name: String,
    /// Its version; a changed ontology is a new version.
    pub version: u32,
    /// Its classes, parents before their children.
    #[serde(rename = "class")]
    pub classes: Vec<Class>,
    /// Its relation types.
    #[serde(rename = "relation")]
    pub relations: Vec<RelationType>,
}

/// An ontology that can't be used. Trying again does not help; the message names the place.
#[derive(Debug, thiserror::Error)]
pub enum OntologyError {
    /// It is not the TOML that is wanted.
    #[error("the ontology can't be read: {0}")]
    Parse(#[from] toml::de::Error),
    /// Something in it names a class that it has not.
    #[error("{place} names the class `{class}`, which is not defined before it")]
    UnknownClass {
        /// Which class or relation type.
        place: String,
        /// The missing class.
        class: String,
    },
    /// Two classes or two relation types have one id.
    #[error("`{0}` is defined twice")]
    Twice(String),
}

impl Ontology {
    /// Reads an ontology from TOML and checks that it holds together.
    ///
    /// # Errors
    /// [`OntologyError`] names the line or the class; trying again does not help.
    pub fn from_toml(text: &str) -> Result<Self, OntologyError> {
        let ontology: Self = toml::from_str(text)?;
        ontology.check()?;
        Ok(ontology)
    }

    /// The ontology that is built in.
    ///
    /// # Errors
    /// None in a build whose tests passed.
    pub fn builtin() -> Result<Self, OntologyError> {
        Self::from_toml(include_str!("ontology.toml"))
    }

    /// Whether `class` is `ancestor` or descends from it.
    #[must_use]
    pub fn is_a(&self, class: &ClassId, ancestor: &ClassId) -> bool {
        let mut current = Some(class);
        // A parent stands before its child, so the way up ends.
        while let Some(id) = current {
            if id == ancestor {
                return true;
            }
            current = self.class(id).and_then(|class| class.parent.as_ref());
        }
        false
    }

    /// What a tagger calls the names of `class`: its own label, or that of its nearest ancestor.
    #[must_use]
    pub fn label_of(&self, class: &ClassId) -> Option<NameLabel> {
        let mut current = self.class(class);
        while let Some(class) = current {
            if class.label.is_some() {
                return class.label;
            }
            current = class.parent.as_ref().and_then(|parent| self.class(parent));
        }
        None
    }

    /// The class with that id.
    #[must_use]
    pub fn class(&self, id: &ClassId) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == *id)
    }

    /// The relation type with that id.
    #[must_use]
    pub fn relation(&self, id: &RelationTypeId) -> Option<&RelationType> {
        self.relations.iter().find(|relation| relation.id == *id)
    }

    /// Whether a relation of this type may lead from a `subject` to an `object`.
    #[must_use]
    pub fn allows(&self, relation: &RelationTypeId, subject: &ClassId, object: &ClassId) -> bool {
        self.relation(relation).is_some_and(|relation| {
            relation
                .domain
                .iter()
                .any(|class| self.is_a(subject, class))
                && relation.range.iter().any(|class| self.is_a(object, class))
        })
    }

    fn check(&self) -> Result<(), OntologyError> {
        let mut classes = HashSet::new();
        for class in &self.classes {
            if let Some(parent) = class
                .parent
                .as_ref()
                .filter(|parent| !classes.contains(*parent))
            {
                return Err(OntologyError::UnknownClass {
                    place: format!("class `{}`", class.id.as_str()),
                    class: parent.0.clone(),
                });
            }
            if !classes.insert(&class.id) {
                return Err(OntologyError::Twice(class.id.0.clone()));
            }
        }
        let mut relations = HashSet::new();
        for relation in &self.relations {
            for class in relation.domain.iter().chain(&relation.range) {
                if !classes.contains(class) {
                    return Err(OntologyError::UnknownClass {
                        place: format!("relation `{}`", relation.id.as_str()),
                        class: class.0.clone(),
                    });
                }
            }
            if !relations.insert(&relation.id) {
                return Err(OntologyError::Twice(relation.id.0.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_ontology_holds_together() {
        let ontology = Ontology::builtin().unwrap();
        assert!(ontology.is_a(&ClassId::new("person"), &ClassId::new("thing")));
        let label = |class| ontology.label_of(&ClassId::new(class));
        assert_eq!(label("country"), Some(NameLabel::Loc));
        assert_eq!(label("work"), Some(NameLabel::Misc));
        assert_eq!(label("date"), None);
        assert!(ontology.allows(
            &RelationTypeId::new("born_in"),
            &ClassId::new("person"),
            &ClassId::new("location")
        ));
        assert!(!ontology.allows(
            &RelationTypeId::new("born_in"),
            &ClassId::new("location"),
            &ClassId::new("person")
        ));
    }

    #[test]
    fn an_unknown_class_is_named_with_its_place() {
        let text = r#"
            name = "x"
            version = 1
            [[class]]
            id = "person"
            description = "people"
            [[relation]]
            id = "knows"
            domain = ["person"]
            range = ["robot"]
            description = "knows"
        "#;
        let refused = Ontology::from_toml(text).unwrap_err().to_string();
        assert!(
            refused.contains("`knows`") && refused.contains("`robot`"),
            "{refused}"
        );
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let refused = Ontology::from_toml("name = \"x\"\nversion = 1\ncolour = 2\n")
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("colour") && refused.contains("line 3"),
            "{refused}"
        );
    }
}
