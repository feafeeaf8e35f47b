//! One table for the three kinds of rows; a column that a kind has no use for is empty.

use std::io::{self, Write};

use super::{ExportedCluster, ExportedEntity, ExportedRelation};

const WIDTH: usize = 17;

/// The columns of the CSV.
///
/// | column | `entity` | `relation` | `cluster` (a row for each member) |
/// | --- | --- | --- | --- |
/// | `kind` | `entity` | `relation` | `cluster` |
/// | `id` | entity id | relation id | cluster id |
/// | `document` | the caller's document id | the same | – |
/// | `name`, `type` | name and class | – | name and class |
/// | `subject`, `object` | – | entity ids | – |
/// | `subject_name`, `object_name` | – | their names | – |
/// | `predicate` | – | relation type | – |
/// | `member` | – | – | entity id |
/// | `start`, `end`, `text` | first mention | first evidence | – |
/// | `confidence` | its best mention's | its own | – |
/// | `count` | mentions | pieces of evidence | members |
/// | `value` | the normal form of what is a value: a date, an amount | – | – |
pub const COLUMNS: [&str; WIDTH] = [
    "kind",
    "id",
    "document",
    "name",
    "type",
    "subject",
    "subject_name",
    "predicate",
    "object",
    "object_name",
    "member",
    "start",
    "end",
    "text",
    "confidence",
    "count",
    "value",
];

/// A table that is being written.
#[derive(Debug)]
pub(super) struct CsvTable<W: Write> {
    out: csv::Writer<W>,
}

/// The cells of a row, by the names of their columns.
#[derive(Default)]
struct Cells<'a> {
    kind: &'a str,
    id: &'a str,
    document: &'a str,
    name: &'a str,
    class: &'a str,
    subject: &'a str,
    subject_name: &'a str,
    predicate: &'a str,
    object: &'a str,
    object_name: &'a str,
    member: &'a str,
    /// Start, end and text.
    place: Option<(u32, u32, &'a str)>,
    confidence: Option<f32>,
    count: usize,
    value: &'a str,
}

impl<W: Write> CsvTable<W> {
    /// Writes the header.
    pub(super) fn begin(out: W) -> io::Result<Self> {
        let mut table = Self {
            out: csv::Writer::from_writer(out),
        };
        table.out.write_record(COLUMNS)?;
        Ok(table)
    }

    pub(super) fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        self.write(&Cells {
            kind: "entity",
            id: &row.id,
            document: &row.document,
            name: &row.name,
            class: &row.class,
            place: row
                .mentions
                .first()
                .map(|mention| (mention.start, mention.end, &*mention.text)),
            confidence: row
                .mentions
                .iter()
                .map(|mention| mention.confidence)
                .reduce(f32::max),
            count: row.mentions.len(),
            value: row
                .mentions
                .first()
                .and_then(|mention| mention.value.as_deref())
                .unwrap_or_default(),
            ..Cells::default()
        })
    }

    pub(super) fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        self.write(&Cells {
            kind: "relation",
            id: &row.id,
            document: &row.document,
            subject: &row.subject,
            subject_name: &row.subject_name,
            predicate: &row.predicate,
            object: &row.object,
            object_name: &row.object_name,
            place: row
                .evidence
                .first()
                .map(|evidence| (evidence.start, evidence.end, &*evidence.text)),
            confidence: Some(row.confidence),
            count: row.evidence.len(),
            ..Cells::default()
        })
    }

    pub(super) fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        for member in &row.members {
            self.write(&Cells {
                kind: "cluster",
                id: &row.id,
                name: &row.name,
                class: &row.class,
                member,
                count: row.members.len(),
                ..Cells::default()
            })?;
        }
        Ok(())
    }

    pub(super) fn end(self) -> io::Result<W> {
        self.out
            .into_inner()
            .map_err(csv::IntoInnerError::into_error)
    }

    fn write(&mut self, cells: &Cells<'_>) -> io::Result<()> {
        let (start, end, text) = cells.place.map_or_else(
            || (String::new(), String::new(), ""),
            |(start, end, text)| (start.to_string(), end.to_string(), text),
        );
        let confidence = cells.confidence.map(|value| value.to_string());
        let count = cells.count.to_string();
        let row: [&str; WIDTH] = [
            cells.kind,
            cells.id,
            cells.document,
            cells.name,
            cells.class,
            cells.subject,
            cells.subject_name,
            cells.predicate,
            cells.object,
            cells.object_name,
            cells.member,
            &start,
            &end,
            text,
            confidence.as_deref().unwrap_or_default(),
            &count,
            cells.value,
        ];
        Ok(self.out.write_record(row)?)
    }
}
