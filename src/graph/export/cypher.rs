//! A Cypher script for Neo4j: constraints, then statements that each merge a list of rows.
//!
//! The same nodes and edges as in GraphML: `Document`, `Entity` and `Cluster` with the class as a second label, the
//! relation types, `IN_DOCUMENT`, `MEMBER_OF` and `SAME_AS`. Labels can't be data, so a statement has rows of one class or one
//! relation type. Everything is merged by id: a script that broke off may be loaded again.
//!
//! Invariant: no text can leave its quotes. Cypher reads `\uXXXX` *before* it looks for quotes and anywhere in a
//! script, so a backslash of a text is never followed by a `u`, and no quote or backslash is ever written that way.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
};

use super::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedLink, ExportedRelation, Rows,
    Section,
};

/// Rows that are collected before statements are written. **Source:** Neo4j's manual has batches of 1,000 to 10,000
/// rows for parameters; these rows are literals, which it has to parse.
const ROWS: usize = 1000;
/// Bytes of such rows, for rows may be long.
const BYTES: usize = 1 << 20;

/// Labels and types that are not the ontology's.
const RESERVED: [&str; 6] = [
    "Document",
    "Entity",
    "Cluster",
    "IN_DOCUMENT",
    "MEMBER_OF",
    "SAME_AS",
];

/// What a statement does with its rows; in the order in which they must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Document,
    Entity,
    Relation,
    Cluster,
    Member,
    Link,
}

impl Action {
    /// What follows the list of rows, for rows with this label or type.
    fn statement(self, name: &str) -> String {
        match self {
            Self::Document => "MERGE (d:Document {id: row.id}) SET d += row.data".to_owned(),
            Self::Entity => format!(
                "MATCH (d:Document {{id: row.document}}) MERGE (e:Entity {{id: row.id}}) SET e:{name}, e += row.data \
                 MERGE (e)-[:IN_DOCUMENT]->(d)"
            ),
            Self::Relation => format!(
                "MATCH (s:Entity {{id: row.subject}}) MATCH (o:Entity {{id: row.object}}) \
                 MERGE (s)-[r:{name} {{id: row.id}}]->(o) SET r += row.data"
            ),
            Self::Cluster => {
                format!("MERGE (c:Cluster {{id: row.id}}) SET c:{name}, c += row.data")
            }
            Self::Member => {
                "MATCH (c:Cluster {id: row.cluster}) MATCH (e:Entity {id: row.entity}) \
                             MERGE (e)-[:MEMBER_OF]->(c)"
                    .to_owned()
            }
            Self::Link => "MATCH (l:Entity {id: row.left}) MATCH (r:Entity {id: row.right}) \
                           MERGE (l)-[s:SAME_AS {id: row.id}]->(r) SET s += row.data"
                .to_owned(),
        }
    }
}

/// A script that is being written.
pub(super) struct Cypher<W> {
    out: W,
    /// Rows by what is to be done with them and their label or type.
    waiting: BTreeMap<(Action, String), Vec<String>>,
    rows: usize,
    bytes: usize,
}

impl<W: Write> Cypher<W> {
    /// Writes the constraints, which are the indexes that merging needs too.
    pub(super) fn begin(mut out: W, batch_id: &str) -> io::Result<Self> {
        // In quotes, so that no id could end the comment's line.
        writeln!(out, "// graphmill export of {}", quoted(batch_id))?;
        for label in ["Document", "Entity", "Cluster"] {
            writeln!(
                out,
                "CREATE CONSTRAINT graphmill_{}_id IF NOT EXISTS FOR (n:{label}) REQUIRE n.id IS UNIQUE;",
                label.to_lowercase()
            )?;
        }
        Ok(Self {
            out,
            waiting: BTreeMap::new(),
            rows: 0,
            bytes: 0,
        })
    }

    fn add(&mut self, action: Action, name: String, row: String) -> io::Result<()> {
        self.rows += 1;
        self.bytes += row.len();
        self.waiting.entry((action, name)).or_default().push(row);
        if self.rows >= ROWS || self.bytes >= BYTES {
            self.write_waiting()?;
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        for ((action, name), rows) in std::mem::take(&mut self.waiting) {
            self.out.write_all(b"UNWIND [\n")?;
            for (at, row) in rows.iter().enumerate() {
                let end = if at + 1 < rows.len() { ",\n" } else { "\n" };
                self.out.write_all(row.as_bytes())?;
                self.out.write_all(end.as_bytes())?;
            }
            writeln!(self.out, "] AS row {};", action.statement(&name))?;
        }
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<W: Write> Rows<W> for Cypher<W> {
    fn section(&mut self, _: Section) -> io::Result<()> {
        // What comes next matches what was written here.
        self.write_waiting()
    }

    fn document(&mut self, row: &ExportedDocument) -> io::Result<()> {
        let hash = row.text_sha256.as_deref();
        let line = format!(
            "{{id: {}, data: {{name: {}, state: {}, partial: {}, text_sha256: {}}}}}",
            quoted(&row.document_id),
            quoted(&row.id),
            quoted(&row.state),
            row.partial,
            hash.map_or_else(|| "null".to_owned(), quoted),
        );
        self.add(Action::Document, String::new(), line)
    }

    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        let line = format!(
            "{{id: {}, document: {}, data: {{name: {}, type: {}, value: {}, mention_starts: {}, mention_ends: {}, \
             mention_texts: {}, mention_types: {}, mention_confidences: {}}}}}",
            quoted(&row.id),
            quoted(&row.document_id),
            quoted(&row.name),
            quoted(&row.class),
            row.value().map_or_else(|| "null".to_owned(), quoted),
            list(row.mentions.iter().map(|mention| mention.start.to_string())),
            list(row.mentions.iter().map(|mention| mention.end.to_string())),
            list(row.mentions.iter().map(|mention| quoted(&mention.text))),
            list(row.mentions.iter().map(|mention| quoted(&mention.class))),
            list(row.mentions.iter().map(|mention| float(mention.confidence))),
        );
        self.add(Action::Entity, name(&row.class), line)
    }

    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        let line = format!(
            "{{id: {}, subject: {}, object: {}, data: {{confidence: {}, document: {}, evidence_starts: {}, \
             evidence_ends: {}, evidence_texts: {}}}}}",
            quoted(&row.id),
            quoted(&row.subject),
            quoted(&row.object),
            float(row.confidence),
            quoted(&row.document_id),
            list(row.evidence.iter().map(|place| place.start.to_string())),
            list(row.evidence.iter().map(|place| place.end.to_string())),
            list(row.evidence.iter().map(|place| quoted(&place.text))),
        );
        self.add(Action::Relation, name(&row.predicate), line)
    }

    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        let id = quoted(&row.id);
        let line = format!(
            "{{id: {id}, data: {{name: {}, type: {}}}}}",
            quoted(&row.name),
            quoted(&row.class)
        );
        self.add(Action::Cluster, name(&row.class), line)?;
        for member in &row.members {
            let line = format!("{{cluster: {id}, entity: {}}}", quoted(member));
            self.add(Action::Member, String::new(), line)?;
        }
        Ok(())
    }

    fn link(&mut self, row: &ExportedLink) -> io::Result<()> {
        let line = format!(
            "{{id: {}, left: {}, right: {}, data: {{score: {}, reason: {}, status: {}}}}}",
            quoted(&row.id),
            quoted(&row.left),
            quoted(&row.right),
            float(row.score),
            quoted(&row.reason),
            quoted(&row.status),
        );
        self.add(Action::Link, String::new(), line)
    }

    fn end(mut self: Box<Self>) -> io::Result<Vec<W>> {
        self.write_waiting()?;
        self.out.flush()?;
        Ok(vec![self.out])
    }
}

/// A text as a string literal, on one line and with nothing in it that can't be seen.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    let mut after_backslash = false;
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // `\\u0027` is a quote to a reader that looks for `\u` alone.
            'u' if after_backslash => quoted.push_str("\\u0075"),
            c if is_unseen(c) => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
        after_backslash = c == '\\';
    }
    quoted.push('\'');
    quoted
}

/// Control characters, line separators, and what turns the direction of text around. None is above U+FFFF.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// A label or type: the name as it is, in backticks. There is no escape for a backslash in there, so that `_` stands
/// for it and for what can't be seen; a name of ours gets a `_` behind it. `type` has the name unchanged.
fn name(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for c in name.chars() {
        match c {
            '`' => quoted.push_str("``"),
            '\\' => quoted.push('_'),
            c if is_unseen(c) => quoted.push('_'),
            c => quoted.push(c),
        }
    }
    if name.is_empty() || RESERVED.contains(&name) {
        quoted.push('_');
    }
    quoted.push('`');
    quoted
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A number that Cypher reads as a float: with a point or an exponent.
fn float(number: f32) -> String {
    format!("{number:?}")
}
