//! One JSON object, a row on each line.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedLink, ExportedRelation, Rows,
    Section,
};

/// An object that is being written; one array is always open.
pub(super) struct JsonObject<W> {
    out: W,
    /// Whether the open array has no rows yet.
    empty: bool,
}

impl<W: Write> JsonObject<W> {
    /// Begins the object and its first section.
    pub(super) fn begin(mut out: W, batch_id: &str) -> io::Result<Self> {
        out.write_all(b"{\"batch_id\":")?;
        serde_json::to_writer(&mut out, batch_id)?;
        write!(out, ",\n\"{}\":[", Section::Documents.as_str())?;
        Ok(Self { out, empty: true })
    }

    fn row(&mut self, row: &impl Serialize) -> io::Result<()> {
        self.out
            .write_all(if self.empty { b"\n" } else { b",\n" })?;
        self.empty = false;
        serde_json::to_writer(&mut self.out, row)?;
        Ok(())
    }
}

impl<W: Write> Rows<W> for JsonObject<W> {
    fn section(&mut self, section: Section) -> io::Result<()> {
        self.empty = true;
        write!(self.out, "],\n\"{}\":[", section.as_str())
    }

    fn document(&mut self, row: &ExportedDocument) -> io::Result<()> {
        self.row(row)
    }

    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()> {
        self.row(row)
    }

    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()> {
        self.row(row)
    }

    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()> {
        self.row(row)
    }

    fn link(&mut self, row: &ExportedLink) -> io::Result<()> {
        self.row(row)
    }

    fn end(mut self: Box<Self>) -> io::Result<Vec<W>> {
        self.out.write_all(b"]}\n")?;
        self.out.flush()?;
        Ok(vec![self.out])
    }
}
