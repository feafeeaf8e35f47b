//! The formats by name.

use std::{fmt, str::FromStr};

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object.
    Json,
    /// A folder of CSV files.
    Csv,
    /// RDF in Turtle.
    Turtle,
    /// RDF in JSON-LD.
    JsonLd,
    /// GraphML, for programs that draw and measure graphs.
    GraphMl,
    /// A script that Neo4j loads.
    Cypher,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Json,
        Self::Csv,
        Self::Turtle,
        Self::JsonLd,
        Self::GraphMl,
        Self::Cypher,
    ];

    /// The format's name, as `--format` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Turtle => "turtle",
            Self::JsonLd => "json-ld",
            Self::GraphMl => "graphml",
            Self::Cypher => "cypher",
        }
    }

    /// Whether it is a folder and not one file.
    #[must_use]
    pub const fn is_folder(self) -> bool {
        matches!(self, Self::Csv)
    }

    /// Whether its things have IRIs.
    #[must_use]
    pub const fn has_iris(self) -> bool {
        matches!(self, Self::Turtle | Self::JsonLd)
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
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// A name that is no format's. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an export format: use `json`, `csv`, `turtle`, `json-ld`, `graphml` or `cypher`"
)]
pub struct UnknownFormat(String);
