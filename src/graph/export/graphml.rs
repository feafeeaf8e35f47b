//! GraphML: documents, entities and clusters are nodes; relations, links, and which entity is in which document and
//! cluster, are edges.
//!
//! Invariants: an edge comes after both of its nodes, and every attribute is a plain value, which is what the programs
//! that read GraphML know; lists are JSON in a string. XML 1.0 has no place for most control characters, nor for
//! U+FFFE and U+FFFF, however they are written: U+FFFD stands for them.

use std::{
    fmt::Display,
    io::{self, Write},
};

use super::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedLink, ExportedRelation, Rows,
};

/// The attributes: name, what has it, and its type.
const KEYS: [(&str, &str, &str); 16] = [
    ("kind", "all", "string"),
    ("label", "all", "string"),
    ("type", "node", "string"),
    ("document", "node", "string"),
    ("state", "node", "string"),
    ("partial", "node", "boolean"),
    ("text_sha256", "node", "string"),
    ("value", "node", "string"),
    ("mention_count", "node", "int"),
    ("mentions", "node", "string"),
    ("member_count", "node", "int"),
    ("confidence", "edge", "double"),
    ("evidence", "edge", "string"),
    ("score", "edge", "double"),
    ("reason", "edge", "string"),
    ("status", "edge", "string"),
];

/// A file that is being written.
pub(super) struct GraphMl<W> {
    out: W,
}

impl<W: Write> GraphMl<W> {
    /// Writes what comes before the first node.
    pub(super) fn begin(mut out: W, batch_id: &str) -> io::Result<Self> {
        out.write_all(
            b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
              <graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\" \
              xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
              xsi:schemaLocation=\"http://graphml.graphdrawing.org/xmlns \
              http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd\">\n",
        )?;
        for (name, of, kind) in KEYS {
            writeln!(
                out,
                "<key id=\"{name}\" for=\"{of}\" attr.name=\"{name}\" attr.type=\"{kind}\"/>"
            )?;
        }
        let mut graphml = Self { out };
        graphml.open("graph", &[("id", batch_id), ("edgedefault", "directed")])?;
        graphml.out.write_all(b"\n")?;
        Ok(graphml)
    }

    fn open(&mut self, element: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
        write!(self.out, "<{element}")?;
        for (name, value) in attributes {
            write!(self.out, " {name}=\"")?;
            self.text(value)?;
            self.out.write_all(b"\"")?;
        }
        self.out.write_all(b">")
    }

    fn node(&mut self, id: &str, kind: &str, label: &str) -> io::Result<()> {
        self.open("node", &[("id", id)])?;
        self.data("kind", kind)?;
        self.data("label", label)
    }

    fn edge(&mut self, ends: [&str; 2], id: &[(&str, &str)], names: [&str; 2]) -> io::Result<()> {
        let mut attributes = id.to_vec();
        attributes.extend([("source", ends[0]), ("target", ends[1])]);
        self.open("edge", &attributes)?;
        self.data("kind", names[0])?;
        self.data("label", names[1])
    }

    fn data(&mut self, key: &str, value: &str) -> io::Result<()> {
        write!(self.out, "<data key=\"{key}\">")?;
        self.text(value)?;
        self.out.write_all(b"</data>")
    }

    /// A value without markup.
    fn plain(&mut self, key: &str, value: impl Display) -> io::Result<()> {
        write!(self.out, "<data key=\"{key}\">{value}</data>")
    }

    fn close(&mut self, element: &str) -> io::Result<()> {
        writeln!(self.out, "</{element}>")
    }

    /// Text, in an element or in an attribute. Line ends are written as references, for a parser makes LF of CR, and
    /// blanks of both in attributes.
    fn text(&mut self, text: &str) -> io::Result<()> {
        let mut done = 0;
        for (at, c) in text.char_indices() {
            let instead = match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\t' => "&#9;",
                '\n' => "&#10;",
                '\r' => "&#13;",
                '\0'..' ' | '\u{FFFE}' | '\u{FFFF}' => "\u{FFFD}",
                _ => continue,
            };
            self.out.write_all(&text.as_bytes()[done..at])?;
            self.out.write_all(instead.as_bytes())?;
            done = at + c.len_utf8();
        }
        self.out.write_all(&text.as_bytes()[done..])
    }
}

impl<W: Write> Rows<W> for GraphMl<W> {
    fn document(&mut self, row: &ExportedDocument) -> io::Result<()> {
        self.node(&row.document_id, "document", &row.id)?;
        self.data("state", &row.state)?;
        self.plain("partial", row.partial)?;
        if let Some(hash) = &row.text_sha256 {
            self.data("text_sha256", hash)?;
        }
        self.close("node")
    }

    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        self.node(&row.id, "entity", &row.name)?;
        self.data("type", &row.class)?;
        self.data("document", &row.document)?;
        if let Some(value) = row.value() {
            self.data("value", value)?;
        }
        self.plain("mention_count", row.mentions.len())?;
        self.data("mentions", &serde_json::to_string(&row.mentions)?)?;
        self.close("node")?;
        self.edge([&row.id, &row.document_id], &[], ["in_document"; 2])?;
        self.close("edge")
    }

    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        let ends = [&*row.subject, &*row.object];
        self.edge(ends, &[("id", &row.id)], ["relation", &row.predicate])?;
        self.plain("confidence", row.confidence)?;
        self.data("evidence", &serde_json::to_string(&row.evidence)?)?;
        self.close("edge")
    }

    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        self.node(&row.id, "cluster", &row.name)?;
        self.data("type", &row.class)?;
        self.plain("member_count", row.members.len())?;
        self.close("node")?;
        for member in &row.members {
            self.edge([member, &row.id], &[], ["member_of"; 2])?;
            self.close("edge")?;
        }
        Ok(())
    }

    fn link(&mut self, row: &ExportedLink) -> io::Result<()> {
        if !row.is_within {
            return Ok(());
        }
        let ends = [&*row.left, &*row.right];
        self.edge(ends, &[("id", &row.id)], ["same_as"; 2])?;
        self.plain("score", row.score)?;
        self.data("reason", &row.reason)?;
        self.data("status", &row.status)?;
        self.close("edge")
    }

    fn end(mut self: Box<Self>) -> io::Result<Vec<W>> {
        self.out.write_all(b"</graph>\n</graphml>\n")?;
        self.out.flush()?;
        Ok(vec![self.out])
    }
}
