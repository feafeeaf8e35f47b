//! What the resolution is told and what it answers.
//!
//! Plain data: knows no rule. A reason's words are part of the output; they are kept where they are stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::{ClassId, NameLabel};

/// An entity as the resolution sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvableEntity<Id> {
    /// Whose.
    pub id: Id,
    /// The number of its document; the entities of one document share it. Numbers are dense: from 0, without big gaps.
    pub document: u32,
    /// Its name.
    pub name: String,
    /// Other names of it that its document proves.
    pub aliases: Vec<String>,
    /// The normal form of its value, if it is one.
    pub value: Option<String>,
    /// Its class; `None` if nobody knows.
    pub class: Option<ClassId>,
    /// What a tagger calls the names of its class, where the ontology says so. `None` reads it off the class' id.
    pub label: Option<NameLabel>,
    /// Words around it, in any form.
    pub context: Option<String>,
}

/// What users decided about pairs of entities. Ids that are not among the entities say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decisions<Id> {
    /// One thing, whatever the rules say.
    pub same: Vec<(Id, Id)>,
    /// Two things, whatever the rules say; stronger than `same`, where the two contradict each other.
    pub different: Vec<(Id, Id)>,
}

impl<Id> Default for Decisions<Id> {
    fn default() -> Self {
        Self {
            same: Vec::new(),
            different: Vec::new(),
        }
    }
}

/// One real-world thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster<Id> {
    /// The fullest name that its members use, as most of them spell it; the first in order among equals.
    pub name: String,
    /// The class that most of its members have; `None` if none has one.
    pub class: Option<ClassId>,
    /// Its members, in order; never empty.
    pub members: Vec<Id>,
}

/// Why two members of one cluster are one thing. The merges of a cluster join all of its members, without a circle.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge<Id> {
    /// The one.
    pub left: Id,
    /// The other.
    pub right: Id,
    /// How sure, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: Reason,
}

/// Two clusters that may be one thing, for a user to decide: a `same_as` link between a member of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal<Id> {
    /// A member of the one.
    pub left: Id,
    /// A member of the other.
    pub right: Id,
    /// How likely, 0 to 1.
    pub score: f32,
    /// Why.
    pub reason: Reason,
}

/// What [`resolve`](super::resolve) found.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution<Id> {
    /// Every entity is a member of exactly one.
    pub clusters: Vec<Cluster<Id>>,
    /// Why members are together.
    pub merges: Vec<Merge<Id>>,
    /// What is likely and not merged; the surest first.
    pub proposals: Vec<Proposal<Id>>,
}

/// A kind of evidence that two entities are one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A user said so.
    Decided,
    /// One value, however it is written.
    SameValue,
    /// One name, but for case, marks and articles.
    SameName,
    /// A document proves both names of one thing.
    Alias,
    /// One name, written in another way: accents, hyphens, word order, titles, legal forms.
    Variant,
    /// Two well-known names of one thing: "USA" and "United States".
    Known,
    /// Letters and the words that begin with them: "IBM" and "International Business Machines".
    Acronym,
    /// Initials or a short form for the same first names: "J. K. Rowling" and "Joanne Rowling".
    Initials,
    /// A part of a longer name: "Merkel" and "Angela Merkel".
    Part,
    /// Spellings that differ in few letters.
    Spelling,
}

impl Reason {
    /// Its word, as it is stored and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::SameValue => "same_value",
            Self::SameName => "same_name",
            Self::Alias => "alias",
            Self::Variant => "variant",
            Self::Known => "known",
            Self::Acronym => "acronym",
            Self::Initials => "initials",
            Self::Part => "part",
            Self::Spelling => "spelling",
        }
    }

    /// How soon evidence of this kind is looked at; the surest first.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Decided => 0,
            Self::SameValue => 1,
            Self::SameName => 2,
            Self::Known => 3,
            Self::Variant => 4,
            Self::Alias => 5,
            Self::Spelling => 6,
            Self::Initials => 7,
            Self::Acronym => 8,
            Self::Part => 9,
        }
    }

    /// Whether a document that has both names and keeps them apart speaks against it.
    pub(super) fn is_weak(self) -> bool {
        matches!(
            self,
            Self::Initials | Self::Acronym | Self::Part | Self::Spelling
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
