//! A batch's graph as files: rows go in section by section, and out as they come, so that a million of them take
//! no more memory than one.
//!
//! Knows no tables and opens no files: it writes to what it is given. Invariants: whatever the caller does, the
//! output is valid or an error says that it isn't; sections out of order are a typed error; the same rows give the
//! same bytes. `docs/EXPORTS.md` shows each format and says what becomes of which character.
//!
//! - **JSON** holds everything, a row on each line.
//! - **CSV** is a folder with a file for each kind of row.
//! - **Turtle** and **JSON-LD** are one and the same RDF graph.
//! - **GraphML** and **Cypher** are one and the same property graph.
//!
//! A new format is a variant of [`ExportFormat`] and an implementation of `Rows`.

mod csv_folder;
mod cypher;
mod format;
mod graphml;
mod json_object;
mod rdf;
mod row;

use std::io;

pub use csv_folder::FILES as CSV_FILES;
pub use format::{ExportFormat, UnknownFormat};
pub use rdf::{BadBaseIri, BaseIri};
pub use row::{
    ExportedCluster, ExportedDocument, ExportedEntity, ExportedEvidence, ExportedLink,
    ExportedMention, ExportedRelation,
};

use super::Ontology;

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
    /// The links between members that may be one thing.
    SameAs,
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
            Self::SameAs => "same_as",
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Documents => Some(Self::Entities),
            Self::Entities => Some(Self::Relations),
            Self::Relations => Some(Self::Clusters),
            Self::Clusters => Some(Self::SameAs),
            Self::SameAs => None,
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

/// How an export is written.
#[derive(Debug, Clone)]
pub struct ExportStyle {
    /// The form.
    pub format: ExportFormat,
    /// What the IRIs of RDF begin with; other formats have none.
    pub base: BaseIri,
}

impl From<ExportFormat> for ExportStyle {
    fn from(format: ExportFormat) -> Self {
        Self {
            format,
            base: BaseIri::default(),
        }
    }
}

/// What is known before the first row.
#[derive(Debug, Clone, Copy)]
pub struct ExportHead<'a> {
    /// The batch's id, with its prefix.
    pub batch: &'a str,
    /// What the batch's documents were searched for.
    pub ontology: &'a Ontology,
}

/// A format's writer. Rows come in the order of the sections, each of which is entered once.
trait Rows<W> {
    /// A section begins; the first one has begun already.
    fn section(&mut self, _: Section) -> io::Result<()> {
        Ok(())
    }
    fn document(&mut self, row: &ExportedDocument) -> io::Result<()>;
    fn entity(&mut self, row: &ExportedEntity) -> io::Result<()>;
    fn relation(&mut self, row: &ExportedRelation) -> io::Result<()>;
    fn cluster(&mut self, row: &ExportedCluster) -> io::Result<()>;
    fn link(&mut self, row: &ExportedLink) -> io::Result<()>;
    /// Completes and flushes the outputs and gives them back.
    fn end(self: Box<Self>) -> io::Result<Vec<W>>;
}

/// An export that is being written.
pub struct ExportWriter<W> {
    rows: Box<dyn Rows<W> + Send>,
    section: Section,
}

impl<W: io::Write + Send + 'static> ExportWriter<W> {
    /// Begins an export. `open` is asked for each file that the format has: once, or once for each of
    /// [`CSV_FILES`]. Output comes in many small pieces: give it something buffered.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn new(
        style: &ExportStyle,
        head: ExportHead<'_>,
        mut open: impl FnMut(&'static str) -> io::Result<W>,
    ) -> Result<Self, ExportError> {
        let begin = || -> io::Result<Box<dyn Rows<W> + Send>> {
            Ok(match style.format {
                ExportFormat::Csv => Box::new(csv_folder::CsvFolder::begin(open)?),
                ExportFormat::Json => Box::new(json_object::JsonObject::begin(
                    open("graph.json")?,
                    head.batch,
                )?),
                ExportFormat::Turtle => {
                    Box::new(rdf::turtle(open("graph.ttl")?, &style.base, head)?)
                }
                ExportFormat::JsonLd => {
                    Box::new(rdf::json_ld(open("graph.jsonld")?, &style.base, head)?)
                }
                ExportFormat::GraphMl => {
                    Box::new(graphml::GraphMl::begin(open("graph.graphml")?, head.batch)?)
                }
                ExportFormat::Cypher => {
                    Box::new(cypher::Cypher::begin(open("graph.cypher")?, head.batch)?)
                }
            })
        };
        Ok(Self {
            rows: begin().map_err(ExportError::Write)?,
            section: Section::Documents,
        })
    }

    /// Writes a document.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn document(&mut self, row: &ExportedDocument) -> Result<(), ExportError> {
        self.enter(Section::Documents)?;
        self.rows.document(row).map_err(ExportError::Write)
    }

    /// Writes an entity.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn entity(&mut self, row: &ExportedEntity) -> Result<(), ExportError> {
        self.enter(Section::Entities)?;
        self.rows.entity(row).map_err(ExportError::Write)
    }

    /// Writes a relation.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn relation(&mut self, row: &ExportedRelation) -> Result<(), ExportError> {
        self.enter(Section::Relations)?;
        self.rows.relation(row).map_err(ExportError::Write)
    }

    /// Writes a cluster.
    ///
    /// # Errors
    /// [`ExportError::OutOfOrder`] after a later section has begun; [`ExportError::Write`].
    pub fn cluster(&mut self, row: &ExportedCluster) -> Result<(), ExportError> {
        self.enter(Section::Clusters)?;
        self.rows.cluster(row).map_err(ExportError::Write)
    }

    /// Writes a link.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn link(&mut self, row: &ExportedLink) -> Result<(), ExportError> {
        self.enter(Section::SameAs)?;
        self.rows.link(row).map_err(ExportError::Write)
    }

    /// Ends the export, flushes it and gives the outputs back, in the order in which they were asked for. Without
    /// this the export is not complete.
    ///
    /// # Errors
    /// [`ExportError::Write`].
    pub fn finish(mut self) -> Result<Vec<W>, ExportError> {
        self.enter(Section::SameAs)?;
        self.rows.end().map_err(ExportError::Write)
    }

    fn enter(&mut self, wanted: Section) -> Result<(), ExportError> {
        if wanted < self.section {
            return Err(ExportError::OutOfOrder {
                wanted,
                current: self.section,
            });
        }
        while let Some(next) = self.section.next().filter(|&next| next <= wanted) {
            self.rows.section(next).map_err(ExportError::Write)?;
            self.section = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
