//! JSON-LD, compacted by a context of its own, a node on each line.
//!
//! Written with the JSON crate and not with a serializer of RDF, as those write the expanded form, which has every
//! IRI in full and is several times as large. The tests read it back with `oxjsonld`.

use std::io::{self, Write};

use serde_json::{Map, json};

use super::{BaseIri, Coercion, Fact, Iri, Notation, PROPERTIES, RdfRows, Space, Value};
use crate::graph::export::{ExportHead, Rows};

/// Begins a JSON-LD file.
pub(in crate::graph::export) fn json_ld<W: Write>(
    mut out: W,
    base: &BaseIri,
    head: ExportHead<'_>,
) -> io::Result<impl Rows<W> + use<W>> {
    out.write_all(b"{\"@context\":")?;
    serde_json::to_writer(&mut out, &context(base))?;
    out.write_all(b",\n\"@graph\":[")?;
    RdfRows::begin(JsonLd { out, empty: true }, head)
}

/// Prefixes and properties.
fn context(base: &BaseIri) -> Map<String, serde_json::Value> {
    let prefixes = Space::PREFIXED
        .into_iter()
        .map(|space| (space.prefix().to_owned(), json!(space.namespace(base))));
    let properties = PROPERTIES.iter().map(|(iri, coercion)| {
        let id = format!("{}:{}", iri.space.prefix(), iri.name);
        let definition = match coercion {
            Coercion::None => json!(id),
            Coercion::Node => json!({ "@id": id, "@type": "@id" }),
            Coercion::Decimal => json!({ "@id": id, "@type": "xsd:decimal" }),
        };
        (iri.name.to_owned(), definition)
    });
    prefixes.chain(properties).collect()
}

struct JsonLd<W> {
    out: W,
    /// Whether there is no node yet.
    empty: bool,
}

impl<W: Write> JsonLd<W> {
    fn iri(&mut self, iri: Iri<'_>) -> io::Result<()> {
        if iri.space == Space::Elsewhere {
            return Ok(serde_json::to_writer(&mut self.out, iri.name)?);
        }
        // What is fit for an IRI needs no escapes.
        write!(self.out, "\"{}:{}\"", iri.space.prefix(), iri.name)
    }

    /// Values of one property: one, or a list.
    fn values<T>(
        &mut self,
        values: &[T],
        mut write: impl FnMut(&mut Self, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        if values.len() > 1 {
            self.out.write_all(b"[")?;
        }
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.write_all(b",")?;
            }
            write(self, value)?;
        }
        if values.len() > 1 {
            self.out.write_all(b"]")?;
        }
        Ok(())
    }

    fn value(&mut self, value: Value<'_>, is_known: bool) -> io::Result<()> {
        match value {
            Value::Node(node) if is_known => self.iri(node),
            Value::Node(node) => {
                self.out.write_all(b"{\"@id\":")?;
                self.iri(node)?;
                self.out.write_all(b"}")
            }
            Value::Text(text) => Ok(serde_json::to_writer(&mut self.out, text)?),
            Value::Integer(number) => write!(self.out, "{number}"),
            Value::Decimal(number) => write!(self.out, "\"{}\"", super::decimal(number)),
            Value::Boolean(truth) => write!(self.out, "{truth}"),
        }
    }
}

impl<W: Write> Notation<W> for JsonLd<W> {
    fn node(&mut self, node: Iri<'_>, types: &[Iri<'_>], facts: &[Fact<'_>]) -> io::Result<()> {
        self.out
            .write_all(if self.empty { b"\n{" } else { b",\n{" })?;
        self.empty = false;
        // Types come first, and then the id, so that a reader needs one pass (W3C Streaming JSON-LD).
        if !types.is_empty() {
            self.out.write_all(b"\"@type\":")?;
            self.values(types, |this, &class| this.iri(class))?;
            self.out.write_all(b",")?;
        }
        self.out.write_all(b"\"@id\":")?;
        self.iri(node)?;
        for facts in facts.chunk_by(|(one, _), (next, _)| one == next) {
            let property = facts[0].0;
            let is_known = !matches!(property.space, Space::Relation | Space::Elsewhere);
            self.out.write_all(b",")?;
            if is_known {
                write!(self.out, "\"{}\"", property.name)?;
            } else {
                self.iri(property)?;
            }
            self.out.write_all(b":")?;
            self.values(facts, |this, &(_, value)| this.value(value, is_known))?;
        }
        self.out.write_all(b"}")
    }

    fn end(mut self) -> io::Result<W> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}
