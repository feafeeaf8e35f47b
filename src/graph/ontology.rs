//! The classes and relation types that an extraction may use.

mod check;
mod file;
mod rdf;

use std::fmt;

pub(super) use check::is_exportable;
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
    /// What others call it, for exports as RDF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iri: Option<String>,
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
    /// What others call it, for exports as RDF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iri: Option<String>,
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

/// What an ontology can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OntologyFormat {
    /// The form that [`Ontology::to_toml`] gives.
    Toml,
    /// RDF in Turtle: RDFS or OWL classes and properties.
    Turtle,
    /// The same in RDF/XML.
    RdfXml,
}

/// Something about a file that is wrong or was left out, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Line and column from 1; the column is 0 where only the line is known.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Flaw {
    fn new(place: Option<(usize, usize)>, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, 0)) => write!(f, "line {line}: ")?,
            Some((line, column)) => write!(f, "line {line}, column {column}: ")?,
            None => {}
        }
        f.write_str(&self.message)
    }
}

/// An ontology that can't be used: everything that is wrong with it. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[error("{}", .flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct OntologyError {
    /// In the order of the file; never empty.
    pub flaws: Vec<Flaw>,
}

impl Ontology {
    /// Reads an ontology, checks that it holds together, and says what of it was left out.
    ///
    /// # Errors
    /// [`OntologyError`] has all flaws with their places; trying again does not help.
    pub fn read(text: &str, format: OntologyFormat) -> Result<(Self, Vec<Flaw>), OntologyError> {
        match format {
            OntologyFormat::Toml => Ok((Self::from_toml(text)?, Vec::new())),
            OntologyFormat::Turtle => rdf::read(rdf::turtle(text)),
            OntologyFormat::RdfXml => rdf::read(rdf::xml(text)),
        }
    }

    /// Reads an ontology from TOML and checks that it holds together.
    ///
    /// # Errors
    /// [`OntologyError`] has all flaws with their places; trying again does not help.
    pub fn from_toml(text: &str) -> Result<Self, OntologyError> {
        let (draft, flaws) = file::read(text)?;
        check::checked(draft, flaws)
    }

    /// The ontology as TOML that [`Ontology::from_toml`] reads back; `None` never happens to one that was read.
    #[must_use]
    pub fn to_toml(&self) -> Option<String> {
        toml::to_string(self).ok()
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
    fn what_is_written_is_read_back() {
        let ontology = Ontology::builtin().unwrap();
        let toml = ontology.to_toml().unwrap();
        assert_eq!(Ontology::from_toml(&toml).unwrap(), ontology);
    }
}
