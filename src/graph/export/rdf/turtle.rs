//! Turtle, by the serializer of `oxttl`.

use std::io::{self, Write};

use oxrdf::{LiteralRef, NamedNodeRef, TermRef, TripleRef, vocab::xsd};
use oxttl::{TurtleSerializer, turtle::WriterTurtleSerializer};

use super::{BaseIri, Fact, Iri, Notation, RdfRows, Space, Value};
use crate::graph::export::{ExportHead, Rows};

/// Begins a Turtle file.
pub(in crate::graph::export) fn turtle<W: Write>(
    out: W,
    base: &BaseIri,
    head: ExportHead<'_>,
) -> io::Result<impl Rows<W> + use<W>> {
    let mut serializer = TurtleSerializer::new();
    let mut namespaces = Vec::new();
    for space in Space::PREFIXED {
        let namespace = space.namespace(base);
        serializer = serializer
            .with_prefix(space.prefix(), namespace.clone())
            .map_err(io::Error::other)?;
        namespaces.push((space, namespace));
    }
    let turtle = Turtle {
        out: serializer.for_writer(out),
        namespaces,
    };
    RdfRows::begin(turtle, head)
}

struct Turtle<W: Write> {
    out: WriterTurtleSerializer<W>,
    namespaces: Vec<(Space, String)>,
}

impl<W: Write> Turtle<W> {
    fn full(&self, iri: Iri<'_>) -> String {
        let known = self
            .namespaces
            .iter()
            .find(|(space, _)| *space == iri.space);
        let namespace = known.map_or("", |(_, namespace)| namespace);
        [namespace, iri.name].concat()
    }
}

impl<W: Write> Notation<W> for Turtle<W> {
    fn node(&mut self, node: Iri<'_>, types: &[Iri<'_>], facts: &[Fact<'_>]) -> io::Result<()> {
        let subject = self.full(node);
        let subject = NamedNodeRef::new_unchecked(&subject);
        let a = Iri::new(Space::Rdf, "type");
        let types = types.iter().map(|&class| (a, Value::Node(class)));
        for (property, value) in types.chain(facts.iter().copied()) {
            let property = self.full(property);
            let property = NamedNodeRef::new_unchecked(&property);
            let text;
            let object: TermRef<'_> = match value {
                Value::Node(node) => {
                    text = self.full(node);
                    NamedNodeRef::new_unchecked(&text).into()
                }
                Value::Text(text) => LiteralRef::new_simple_literal(text).into(),
                Value::Integer(number) => {
                    text = number.to_string();
                    LiteralRef::new_typed_literal(&text, xsd::INTEGER).into()
                }
                Value::Decimal(number) => {
                    text = super::decimal(number);
                    LiteralRef::new_typed_literal(&text, xsd::DECIMAL).into()
                }
                Value::Boolean(truth) => {
                    let truth = if truth { "true" } else { "false" };
                    LiteralRef::new_typed_literal(truth, xsd::BOOLEAN).into()
                }
            };
            self.out
                .serialize_triple(TripleRef::new(subject, property, object))?;
        }
        Ok(())
    }

    fn end(self) -> io::Result<W> {
        let mut out = self.out.finish()?;
        out.flush()?;
        Ok(out)
    }
}
