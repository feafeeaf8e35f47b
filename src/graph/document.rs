//! What one document holds.

use serde::{Deserialize, Serialize};

use super::{ClassId, RelationTypeId, Span, Text};

/// The coarse label of a name, as taggers give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NameLabel {
    /// A person.
    Per,
    /// An organization.
    Org,
    /// A place.
    Loc,
    /// Any other name.
    Misc,
}

/// What a value is a value of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// A point or a span of time on the calendar.
    Date,
    /// An amount of a currency.
    Money,
    /// A share of a hundred.
    Percentage,
    /// A measured amount with its unit.
    Quantity,
}

/// What a mention says beyond its words: two spellings of one date have one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Value {
    /// Of what.
    pub kind: ValueKind,
    /// Its normal form: `1963-03-13`, `USD 5000000`, `5.2%`, `12 km`. `docs/ONTOLOGY.md` has the rules.
    pub normal: String,
}

/// A name or a value in the text, before it has a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// Where it is.
    #[serde(flatten)]
    pub span: Span,
    /// What kind of name it looks like, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<NameLabel>,
    /// The value that was read off it. A name has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// 0 to 1.
    pub confidence: f32,
}

/// The class that a mention was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MentionType {
    /// Where the mention is.
    #[serde(flatten)]
    pub span: Span,
    /// Its class.
    #[serde(rename = "type")]
    pub class: ClassId,
    /// 0 to 1.
    pub confidence: f32,
}

/// A mention with its class.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedMention {
    /// Where it is.
    pub span: Span,
    /// The tagger's label.
    pub label: Option<NameLabel>,
    /// The value that was read off it.
    pub value: Option<Value>,
    /// Its class in the ontology.
    pub class: ClassId,
    /// 0 to 1: that it is a name of that class.
    pub confidence: f32,
}

/// A thing that the document speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// Its fullest name.
    pub name: String,
    /// Its class.
    pub class: ClassId,
    /// Indices into [`DocumentGraph::mentions`], ascending; never empty.
    pub mentions: Vec<usize>,
}

/// A typed statement about two entities.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// Index into [`DocumentGraph::entities`].
    pub subject: usize,
    /// What is said.
    pub predicate: RelationTypeId,
    /// Index into [`DocumentGraph::entities`].
    pub object: usize,
    /// 0 to 1; that of its best evidence.
    pub confidence: f32,
    /// Where the text says so, in order; never empty.
    pub evidence: Vec<Span>,
}

/// Everything that was found in one document, in a canonical order: the same findings give the same graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DocumentGraph {
    /// By span.
    pub mentions: Vec<TypedMention>,
    /// By first mention.
    pub entities: Vec<Entity>,
    /// By subject, predicate and object.
    pub relations: Vec<Relation>,
}

impl DocumentGraph {
    /// Whether every span lies in `text` and every index leads somewhere.
    #[must_use]
    pub fn is_grounded_in(&self, text: &Text) -> bool {
        let grounded = |span: Span| !span.is_empty() && span.end <= text.chars();
        self.mentions.iter().all(|mention| grounded(mention.span))
            && self.entities.iter().all(|entity| {
                !entity.mentions.is_empty()
                    && entity
                        .mentions
                        .iter()
                        .all(|&index| index < self.mentions.len())
            })
            && self.relations.iter().all(|relation| {
                relation.subject < self.entities.len()
                    && relation.object < self.entities.len()
                    && !relation.evidence.is_empty()
                    && relation.evidence.iter().all(|&span| grounded(span))
            })
    }
}
