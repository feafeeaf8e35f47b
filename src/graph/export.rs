//! A batch's graph as a file: rows go in section by section, and out as they come, so that a million of them take
//! no more memory than one.
//!
//! Knows no tables and opens no files: it writes to what it is given. Invariant: whatever the caller does, the
//! output is a valid file or an error says that it isn't; sections out of order are a typed error.
//!
//! - **JSON**: one object, a row on each line. It holds everything.
//! - **CSV**: one table (see [`CSV_COLUMNS`]), one row for each entity, each relation and each entity's place in a
//!   cluster, with the place of its *first* mention or piece of evidence and their number. Documents have no rows
//!   of their own. Fields are quoted as in RFC 4180, lines end in LF, and values are written as they are: a text
//!   that begins with `=` is not disarmed for spreadsheets.

mod csv_table;
mod json_object;
mod row;

use std::{fmt, io, str::FromStr};

pub use csv_table::COLUMNS as CSV_COLUMNS;
use csv_table::CsvTable;
use json_object::JsonObject;
pub use row::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedEvidence, ExportedMention,
    ExportedRelation,
};

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object.
    Json,
    /// One CSV table.
    Csv,
}

impl ExportFormat {
    /// The format's name, as `--format` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ExportFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// A name that is no format's. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an export format: use `json` or `csv`")]
pub struct UnknownFormat(String);

/// The parts of an export, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The documents.
    Documents,
    /// The entities with their mentions.
    Entities,
    /// The relations with their evidence.
    Relations,
    /// The clusters with their members.
    Clusters,
}

impl Section {
    /// Its name in the output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Entities => "entities",
            Self::Relations => "relations",
            Self::Clusters => "clusters",
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Documents => Some(Self::Entities),
            Self::Entities => Some(Self::Relations),
            Self::Relations => Some(Self::Clusters),
            Self::Clusters => None,
        }
    }
}

/// An export that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output is full or closed. Trying again can help, with a new output.
    #[error("the export can't be written")]
    Write(#[source] io::Error),
    /// A row came after its section had ended: a bug of the caller. Nothing was written for it.
    #[error("a row of `{}` came after rows of `{}`", wanted.as_str(), current.as_str())]
    OutOfOrder {
        /// Where the row belongs.
        wanted: Section,
        /// Where the export is.
        current: Section,
    },
}

/// An export that is being written.
#[derive(Debug)]
pub struct ExportWriter<W: io::Write> {
    form: Form<W>,
    section: Section,
}

#[derive(Debug)]
enum Form<W: io::Write> {
    Json(JsonObject<W>),
    Csv(Box<CsvTable<W>>),
}

impl<W: io::Write> ExportWriter<W> {
    /// Begins the export of a batch. JSON is written in many small pieces: give it a buffered `out`.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn new(format: ExportFormat, out: W, batch_id: &str) -> Result<Self, ExportError> {
        let form = match format {
            ExportFormat::Json => JsonObject::begin(out, batch_id).map(Form::Json),
            ExportFormat::Csv => CsvTable::begin(out).map(|table| Form::Csv(Box::new(table))),
        };
        Ok(Self {
            form: form.map_err(ExportError::Write)?,
            section: Section::Documents,
        })
    }

    /// Writes a document.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn document(&mut self, row: &ExportedDocument) -> Result<(), ExportError> {
        self.enter(Section::Documents)?;
        match &mut self.form {
            Form::Json(json) => json.row(row),
            Form::Csv(_) => Ok(()),
        }
        .map_err(ExportError::Write)
    }

    /// Writes an entity.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn entity(&mut self, row: &ExportedEntity) -> Result<(), ExportError> {
        self.enter(Section::Entities)?;
        match &mut self.form {
            Form::Json(json) => json.row(row),
            Form::Csv(csv) => csv.entity(row),
        }
        .map_err(ExportError::Write)
    }

    /// Writes a relation.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn relation(&mut self, row: &ExportedRelation) -> Result<(), ExportError> {
        self.enter(Section::Relations)?;
        match &mut self.form {
            Form::Json(json) => json.row(row),
            Form::Csv(csv) => csv.relation(row),
        }
        .map_err(ExportError::Write)
    }

    /// Writes a cluster.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn cluster(&mut self, row: &ExportedCluster) -> Result<(), ExportError> {
        self.enter(Section::Clusters)?;
        match &mut self.form {
            Form::Json(json) => json.row(row),
            Form::Csv(csv) => csv.cluster(row),
        }
        .map_err(ExportError::Write)
    }

    /// Ends the export, flushes it and gives the output back. Without this the file is not complete.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn finish(mut self) -> Result<W, ExportError> {
        self.enter(Section::Clusters)?;
        match self.form {
            Form::Json(json) => json.end(),
            Form::Csv(csv) => csv.end(),
        }
        .map_err(ExportError::Write)
    }

    fn enter(&mut self, wanted: Section) -> Result<(), ExportError> {
        if wanted < self.section {
            return Err(ExportError::OutOfOrder {
                wanted,
                current: self.section,
            });
        }
        while let Some(next) = self.section.next().filter(|&next| next <= wanted) {
            if let Form::Json(json) = &mut self.form {
                json.section(next).map_err(ExportError::Write)?;
            }
            self.section = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
