//! What is pushed: an envelope with a key to be let in with, a key to be known again by, and what is asked for.
//!
//! Knows the JSON, of which `tests/golden/` has a copy. Must not know Redis. Invariant: what is not said is not written,
//! so that the same envelope is the same text in every version of this crate that can write it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options::Options;

/// The version of envelopes that this crate writes.
const VERSION: u32 = 1;

/// An envelope.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    v: u32,
    /// An API key with the scope `write`.
    pub api_key: String,
    /// Made up by the producer, 1 to 255 visible characters: the same key is the same request.
    pub key: String,
    /// The trace that the batch belongs to, as W3C's Trace Context writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// How long the receipt is kept: 15 minutes if nothing is said, a day at most; with 0 there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_seconds: Option<u32>,
    /// What is asked for.
    #[serde(flatten)]
    pub ask: Ask,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Envelope {
    /// An envelope that is let in with `api_key`, and known again by `key`.
    #[must_use]
    pub fn new(api_key: impl Into<String>, key: impl Into<String>, ask: Ask) -> Self {
        Self {
            v: VERSION,
            api_key: api_key.into(),
            key: key.into(),
            traceparent: None,
            receipt_seconds: None,
            ask,
        }
    }
}

/// What an envelope asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A batch with all its documents.
    Submit(Submission),
    /// Documents for a batch that is kept open.
    Add(Addition),
    /// The seal of a batch.
    Seal(Seal),
}

/// A batch with all its documents, as over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// Unique in the organization; one is made up without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The documents.
    pub documents: Vec<Document>,
    /// How it is worked.
    #[serde(flatten)]
    pub options: Options,
    /// Keep it open for more documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

impl Submission {
    /// A batch of these documents.
    #[must_use]
    pub fn new(documents: impl IntoIterator<Item = Document>) -> Self {
        Self {
            documents: documents.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same under a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same, kept open for more documents, until it is sealed.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = Some(true);
        self
    }
}

/// Documents for a batch that is kept open. If there is none of that name it is opened, with the options here; those of
/// later additions count for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    /// The batch.
    pub name: String,
    /// The documents: 500 and 16 MiB of text at most.
    pub documents: Vec<Document>,
    /// How it is worked.
    #[serde(flatten)]
    pub options: Options,
}

impl Addition {
    /// These documents, for the batch of that name.
    #[must_use]
    pub fn new(name: impl Into<String>, documents: impl IntoIterator<Item = Document>) -> Self {
        Self {
            name: name.into(),
            documents: documents.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// The seal of a batch that is kept open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The batch.
    pub name: String,
    /// How many documents it is to have before it is sealed, those that are refused too. Without it, it is sealed at
    /// once: for those who have waited for the receipts of their documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
}

impl Seal {
    /// Seals the batch of that name at once.
    #[must_use]
    pub fn now(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            documents: None,
        }
    }

    /// Seals the batch of that name as soon as it has so many documents.
    #[must_use]
    pub fn after(name: impl Into<String>, documents: u64) -> Self {
        Self {
            name: name.into(),
            documents: Some(documents),
        }
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Your own name for it, 1 to 512 characters, unique in its batch.
    pub id: String,
    /// The whole text.
    pub text: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_uri: Option<String>,
    /// Whatever is to be kept with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

impl Document {
    /// A document that is a text and no more.
    #[must_use]
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            title: None,
            source_uri: None,
            metadata: None,
        }
    }

    /// The same with a title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The same with where it came from.
    #[must_use]
    pub fn source_uri(mut self, uri: impl Into<String>) -> Self {
        self.source_uri = Some(uri.into());
        self
    }

    /// The same with something that is kept with it.
    #[must_use]
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata
            .get_or_insert_default()
            .insert(name.into(), value.into());
        self
    }
}
