//! The graph as RDF: rows become nodes, and a notation writes them. Turtle and JSON-LD differ in nothing else.
//!
//! Facts are plain triples between entities, and each is stated once more as an `rdf:Statement` with its confidence
//! and, by `prov:wasDerivedFrom` (PROV-O), the passages that say so. A passage is an `oa:SpecificResource` of its
//! document with a selector (W3C Web Annotation) that gives both position and quotation. An entity is
//! `prov:wasDerivedFrom` its mentions, which are passages too, and a `prov:specializationOf` its cluster: not
//! `owl:sameAs`, for a cluster is a judgement, and its members differ in what they were derived from. A link is a node
//! of its own between two entities, for it may be no more than likely, or refused.
//!
//! Invariant: every node has an IRI and none is blank, so that graphs can be compared and merged line by line.

mod iri;
mod json_ld;
mod turtle;

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
};

pub use iri::{BadBaseIri, BaseIri};
use iri::{Iri, Space, encoded};
pub(super) use json_ld::json_ld;
pub(super) use turtle::turtle;

use super::{
    ExportHead, ExportedCluster, ExportedDocument, ExportedEntity, ExportedLink, ExportedRelation,
    Rows,
};
use crate::graph::ontology::is_exportable;

/// What a property says.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Node(Iri<'a>),
    Text(&'a str),
    Integer(u32),
    /// A fraction of 1, to be written as a decimal.
    Decimal(f32),
    Boolean(bool),
}

type Fact<'a> = (Iri<'a>, Value<'a>);

/// A way to write nodes.
trait Notation<W> {
    /// Writes a node with what is said about it. Facts with the same property follow each other.
    fn node(&mut self, node: Iri<'_>, types: &[Iri<'_>], facts: &[Fact<'_>]) -> io::Result<()>;
    /// Completes and flushes the output and gives it back.
    fn end(self) -> io::Result<W>;
}

/// How JSON-LD is to read the values of a property that isn't plain text, a number or a boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coercion {
    None,
    Node,
    Decimal,
}

/// Every fixed property, for the context of JSON-LD. Their local names differ.
const PROPERTIES: [(Iri<'static>, Coercion); 25] = [
    (BATCH, Coercion::Node),
    (BETWEEN, Coercion::Node),
    (CATEGORY, Coercion::Node),
    (COMMENT, Coercion::None),
    (CONFIDENCE, Coercion::Decimal),
    (END, Coercion::None),
    (EXACT, Coercion::None),
    (IDENTIFIER, Coercion::None),
    (LABEL, Coercion::None),
    (NORMAL, Coercion::None),
    (OBJECT, Coercion::Node),
    (PARTIAL, Coercion::None),
    (PREDICATE, Coercion::Node),
    (REASON, Coercion::None),
    (SCORE, Coercion::Decimal),
    (SELECTOR, Coercion::Node),
    (SHA256, Coercion::None),
    (SOURCE, Coercion::Node),
    (SPECIALIZES, Coercion::Node),
    (START, Coercion::None),
    (STATE, Coercion::None),
    (STATUS, Coercion::None),
    (SUBCLASS, Coercion::Node),
    (SUBJECT, Coercion::Node),
    (DERIVED, Coercion::Node),
];

const BATCH: Iri<'static> = Iri::new(Space::Dcterms, "isPartOf");
const BETWEEN: Iri<'static> = Iri::new(Space::Graphmill, "between");
const CATEGORY: Iri<'static> = Iri::new(Space::Graphmill, "category");
const COMMENT: Iri<'static> = Iri::new(Space::Rdfs, "comment");
const CONFIDENCE: Iri<'static> = Iri::new(Space::Graphmill, "confidence");
const DERIVED: Iri<'static> = Iri::new(Space::Prov, "wasDerivedFrom");
const END: Iri<'static> = Iri::new(Space::Oa, "end");
const EXACT: Iri<'static> = Iri::new(Space::Oa, "exact");
const IDENTIFIER: Iri<'static> = Iri::new(Space::Dcterms, "identifier");
const LABEL: Iri<'static> = Iri::new(Space::Rdfs, "label");
const NORMAL: Iri<'static> = Iri::new(Space::Rdf, "value");
const OBJECT: Iri<'static> = Iri::new(Space::Rdf, "object");
const PARTIAL: Iri<'static> = Iri::new(Space::Graphmill, "partial");
const PREDICATE: Iri<'static> = Iri::new(Space::Rdf, "predicate");
const REASON: Iri<'static> = Iri::new(Space::Graphmill, "reason");
const SCORE: Iri<'static> = Iri::new(Space::Graphmill, "score");
const SELECTOR: Iri<'static> = Iri::new(Space::Oa, "hasSelector");
const SHA256: Iri<'static> = Iri::new(Space::Graphmill, "textSha256");
const SOURCE: Iri<'static> = Iri::new(Space::Oa, "hasSource");
const SPECIALIZES: Iri<'static> = Iri::new(Space::Prov, "specializationOf");
const START: Iri<'static> = Iri::new(Space::Oa, "start");
const STATE: Iri<'static> = Iri::new(Space::Graphmill, "state");
const STATUS: Iri<'static> = Iri::new(Space::Graphmill, "status");
const SUBCLASS: Iri<'static> = Iri::new(Space::Rdfs, "subClassOf");
const SUBJECT: Iri<'static> = Iri::new(Space::Rdf, "subject");

const fn kind(name: &'static str) -> Iri<'static> {
    Iri::new(Space::Graphmill, name)
}

const SELECTS: [Iri<'static>; 2] = [
    Iri::new(Space::Oa, "TextPositionSelector"),
    Iri::new(Space::Oa, "TextQuoteSelector"),
];

/// The IRIs of classes and relation types: the ontology's own where it has them.
struct Terms {
    own: HashMap<(Space, String), String>,
}

impl Terms {
    /// Of a class, or of a relation type.
    fn iri<'a>(&'a self, space: Space, id: &'a str, name: &'a mut Cow<'a, str>) -> Iri<'a> {
        if let Some(iri) = self.own.get(&(space, id.to_owned())) {
            return Iri::new(Space::Elsewhere, iri);
        }
        *name = encoded(id);
        Iri::new(space, name)
    }
}

/// Rows as nodes.
struct RdfRows<N> {
    notation: N,
    batch: String,
    terms: Terms,
}

impl<N> RdfRows<N> {
    /// Begins with the batch and its ontology.
    fn begin<W>(notation: N, head: ExportHead<'_>) -> io::Result<Self>
    where
        N: Notation<W>,
    {
        let mut own = HashMap::new();
        let classes = head.ontology.classes.iter();
        let classes = classes.map(|class| (Space::Class, class.id.as_str(), class.iri.as_deref()));
        let relations = head.ontology.relations.iter();
        let relations = relations.map(|one| (Space::Relation, one.id.as_str(), one.iri.as_deref()));
        for (space, id, iri) in classes.chain(relations) {
            // What was stored may be older than this rule.
            if let Some(iri) = iri.filter(|iri| is_exportable(iri)) {
                own.insert((space, id.to_owned()), iri.to_owned());
            }
        }
        let mut rows = Self {
            notation,
            batch: head.batch.to_owned(),
            terms: Terms { own },
        };
        rows.head(head)?;
        Ok(rows)
    }

    fn head<W>(&mut self, head: ExportHead<'_>) -> io::Result<()>
    where
        N: Notation<W>,
    {
        let batch = Iri::new(Space::Id, head.batch);
        self.notation.node(batch, &[kind("Batch")], &[])?;
        for class in &head.ontology.classes {
            let (mut name, mut above) = (Cow::default(), Cow::default());
            let node = self.terms.iri(Space::Class, class.id.as_str(), &mut name);
            let mut facts = vec![
                (LABEL, Value::Text(class.id.as_str())),
                (COMMENT, Value::Text(&class.description)),
            ];
            if let Some(parent) = &class.parent {
                let parent = self.terms.iri(Space::Class, parent.as_str(), &mut above);
                facts.push((SUBCLASS, Value::Node(parent)));
            }
            self.notation
                .node(node, &[Iri::new(Space::Rdfs, "Class")], &facts)?;
        }
        for relation in &head.ontology.relations {
            let mut name = Cow::default();
            let node = self
                .terms
                .iri(Space::Relation, relation.id.as_str(), &mut name);
            let facts = [
                (LABEL, Value::Text(relation.id.as_str())),
                (COMMENT, Value::Text(&relation.description)),
            ];
            self.notation
                .node(node, &[Iri::new(Space::Rdf, "Property")], &facts)?;
        }
        Ok(())
    }

    /// A place in a document, and what else is to be said about it.
    fn passage<W>(
        notation: &mut N,
        id: &str,
        (kind, document): (Iri<'_>, &str),
        (start, end, text): (u32, u32, &str),
        more: &[Fact<'_>],
    ) -> io::Result<()>
    where
        N: Notation<W>,
    {
        let selector = format!("{id}-selector");
        let selector = Iri::new(Space::Id, &selector);
        let mut facts = vec![
            (SOURCE, Value::Node(Iri::new(Space::Id, document))),
            (SELECTOR, Value::Node(selector)),
        ];
        facts.extend_from_slice(more);
        let types = [kind, Iri::new(Space::Oa, "SpecificResource")];
        notation.node(Iri::new(Space::Id, id), &types, &facts)?;
        let facts = [
            (START, Value::Integer(start)),
            (END, Value::Integer(end)),
            (EXACT, Value::Text(text)),
        ];
        notation.node(selector, &SELECTS, &facts)
    }
}

/// The ids of an entity's or a relation's passages.
fn passages(id: &str, kind: &str, count: usize) -> Vec<String> {
    (1..=count)
        .map(|number| format!("{id}-{kind}-{number}"))
        .collect()
}

/// That something was derived from these.
fn derived(ids: &[String]) -> impl Iterator<Item = Fact<'_>> {
    ids.iter()
        .map(|id| (DERIVED, Value::Node(Iri::new(Space::Id, id))))
}

impl<W: Write, N: Notation<W>> Rows<W> for RdfRows<N> {
    fn document(&mut self, row: &ExportedDocument) -> io::Result<()> {
        let mut facts = vec![
            (IDENTIFIER, Value::Text(&row.id)),
            (BATCH, Value::Node(Iri::new(Space::Id, &self.batch))),
            (STATE, Value::Text(&row.state)),
            (PARTIAL, Value::Boolean(row.partial)),
        ];
        if let Some(hash) = &row.text_sha256 {
            facts.push((SHA256, Value::Text(hash)));
        }
        let node = Iri::new(Space::Id, &row.document_id);
        self.notation.node(node, &[kind("Document")], &facts)
    }

    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        let mut name = Cow::default();
        let class = self.terms.iri(Space::Class, &row.class, &mut name);
        let ids = passages(&row.id, "mention", row.mentions.len());
        let mut facts = vec![(LABEL, Value::Text(&row.name))];
        facts.extend(derived(&ids));
        let node = Iri::new(Space::Id, &row.id);
        self.notation.node(node, &[kind("Entity"), class], &facts)?;
        for (mention, id) in row.mentions.iter().zip(&ids) {
            let mut name = Cow::default();
            let class = self.terms.iri(Space::Class, &mention.class, &mut name);
            let mut more = vec![
                (CATEGORY, Value::Node(class)),
                (CONFIDENCE, Value::Decimal(mention.confidence)),
            ];
            if let Some(value) = &mention.value {
                more.push((NORMAL, Value::Text(value)));
            }
            let place = (mention.start, mention.end, &*mention.text);
            let of = (kind("Mention"), &*row.document_id);
            Self::passage(&mut self.notation, id, of, place, &more)?;
        }
        Ok(())
    }

    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        let mut name = Cow::default();
        let predicate = self.terms.iri(Space::Relation, &row.predicate, &mut name);
        let subject = Iri::new(Space::Id, &row.subject);
        let object = Value::Node(Iri::new(Space::Id, &row.object));
        self.notation.node(subject, &[], &[(predicate, object)])?;
        let ids = passages(&row.id, "evidence", row.evidence.len());
        let mut facts = vec![
            (SUBJECT, Value::Node(subject)),
            (PREDICATE, Value::Node(predicate)),
            (OBJECT, object),
            (CONFIDENCE, Value::Decimal(row.confidence)),
        ];
        facts.extend(derived(&ids));
        let node = Iri::new(Space::Id, &row.id);
        self.notation
            .node(node, &[Iri::new(Space::Rdf, "Statement")], &facts)?;
        for (evidence, id) in row.evidence.iter().zip(&ids) {
            let place = (evidence.start, evidence.end, &*evidence.text);
            let of = (kind("Evidence"), &*row.document_id);
            Self::passage(&mut self.notation, id, of, place, &[])?;
        }
        Ok(())
    }

    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        let mut name = Cow::default();
        let class = self.terms.iri(Space::Class, &row.class, &mut name);
        let node = Iri::new(Space::Id, &row.id);
        let facts = [(LABEL, Value::Text(&row.name))];
        self.notation
            .node(node, &[kind("Cluster"), class], &facts)?;
        for member in &row.members {
            let member = Iri::new(Space::Id, member);
            self.notation
                .node(member, &[], &[(SPECIALIZES, Value::Node(node))])?;
        }
        Ok(())
    }

    fn link(&mut self, row: &ExportedLink) -> io::Result<()> {
        let end = |id| (BETWEEN, Value::Node(Iri::new(Space::Id, id)));
        let facts = [
            end(&row.left),
            end(&row.right),
            (SCORE, Value::Decimal(row.score)),
            (REASON, Value::Text(&row.reason)),
            (STATUS, Value::Text(&row.status)),
        ];
        let node = Iri::new(Space::Id, &row.id);
        self.notation.node(node, &[kind("Link")], &facts)
    }

    fn end(self: Box<Self>) -> io::Result<Vec<W>> {
        Ok(vec![self.notation.end()?])
    }
}

/// The shortest decimal that means the same, with a point in it.
fn decimal(number: f32) -> String {
    let mut decimal = number.to_string();
    if !decimal.contains('.') {
        decimal.push_str(".0");
    }
    decimal
}
