//! A folder of tables, one for each kind of row; ids join them.
//!
//! Fields are quoted as in RFC 4180, lines end in LF, and values are written as they are: a text that begins with
//! `=` is not disarmed for spreadsheets.

use std::io::{self, Write};

use super::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedLink, ExportedRelation, Rows,
};

/// The files of the folder, each with its columns.
pub const FILES: [(&str, &[&str]); 8] = [
    (
        "documents.csv",
        &["id", "document_id", "state", "partial", "text_sha256"],
    ),
    ("entities.csv", &["id", "document", "name", "type"]),
    (
        "mentions.csv",
        &[
            "entity",
            "start",
            "end",
            "text",
            "type",
            "value",
            "confidence",
        ],
    ),
    (
        "relations.csv",
        &[
            "id",
            "document",
            "subject",
            "subject_name",
            "predicate",
            "object",
            "object_name",
            "confidence",
        ],
    ),
    ("evidence.csv", &["relation", "start", "end", "text"]),
    ("clusters.csv", &["id", "name", "type"]),
    ("members.csv", &["cluster", "entity"]),
    (
        "same_as.csv",
        &[
            "id",
            "left",
            "left_name",
            "left_cluster",
            "right",
            "right_name",
            "right_cluster",
            "score",
            "reason",
            "status",
        ],
    ),
];

/// A folder that is being written.
pub(super) struct CsvFolder<W: Write> {
    documents: csv::Writer<W>,
    entities: csv::Writer<W>,
    mentions: csv::Writer<W>,
    relations: csv::Writer<W>,
    evidence: csv::Writer<W>,
    clusters: csv::Writer<W>,
    members: csv::Writer<W>,
    same_as: csv::Writer<W>,
}

impl<W: Write> CsvFolder<W> {
    /// Opens the files and writes their headers.
    pub(super) fn begin(mut open: impl FnMut(&'static str) -> io::Result<W>) -> io::Result<Self> {
        let mut begin = |at: usize| -> io::Result<csv::Writer<W>> {
            let (name, columns) = FILES[at];
            let mut table = csv::Writer::from_writer(open(name)?);
            table.write_record(columns)?;
            Ok(table)
        };
        Ok(Self {
            documents: begin(0)?,
            entities: begin(1)?,
            mentions: begin(2)?,
            relations: begin(3)?,
            evidence: begin(4)?,
            clusters: begin(5)?,
            members: begin(6)?,
            same_as: begin(7)?,
        })
    }
}

impl<W: Write> Rows<W> for CsvFolder<W> {
    fn document(&mut self, row: &ExportedDocument) -> io::Result<()> {
        let partial = if row.partial { "true" } else { "false" };
        let hash = row.text_sha256.as_deref().unwrap_or_default();
        let cells = [&row.id, &row.document_id, &row.state, partial, hash];
        Ok(self.documents.write_record(cells)?)
    }

    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        self.entities
            .write_record([&row.id, &row.document, &row.name, &row.class])?;
        for mention in &row.mentions {
            self.mentions.write_record([
                &*row.id,
                &mention.start.to_string(),
                &mention.end.to_string(),
                &mention.text,
                &mention.class,
                mention.value.as_deref().unwrap_or_default(),
                &mention.confidence.to_string(),
            ])?;
        }
        Ok(())
    }

    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        self.relations.write_record([
            &row.id,
            &row.document,
            &row.subject,
            &row.subject_name,
            &row.predicate,
            &row.object,
            &row.object_name,
            &row.confidence.to_string(),
        ])?;
        for evidence in &row.evidence {
            self.evidence.write_record([
                &*row.id,
                &evidence.start.to_string(),
                &evidence.end.to_string(),
                &evidence.text,
            ])?;
        }
        Ok(())
    }

    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        self.clusters
            .write_record([&row.id, &row.name, &row.class])?;
        for member in &row.members {
            self.members.write_record([&row.id, member])?;
        }
        Ok(())
    }

    fn link(&mut self, row: &ExportedLink) -> io::Result<()> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        Ok(self.same_as.write_record([
            &*row.id,
            &row.left,
            &or_empty(&row.left_name),
            &or_empty(&row.left_cluster),
            &row.right,
            &or_empty(&row.right_name),
            &or_empty(&row.right_cluster),
            &row.score.to_string(),
            &row.reason,
            &row.status,
        ])?)
    }

    fn end(self: Box<Self>) -> io::Result<Vec<W>> {
        [
            self.documents,
            self.entities,
            self.mentions,
            self.relations,
            self.evidence,
            self.clusters,
            self.members,
            self.same_as,
        ]
        .into_iter()
        .map(|table| {
            let mut out = table
                .into_inner()
                .map_err(csv::IntoInnerError::into_error)?;
            out.flush()?;
            Ok(out)
        })
        .collect()
    }
}
