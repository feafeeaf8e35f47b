//! IRIs: what they begin with, and names made fit for them.
//!
//! Invariant: two names never become one IRI, and whatever a name holds, the IRI is valid.

use std::{borrow::Cow, fmt, fmt::Write as _, str::FromStr};

use crate::graph::ontology::is_exportable;

/// Where a name comes from, which is what its IRI begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    Rdf,
    Rdfs,
    Xsd,
    Dcterms,
    Prov,
    Oa,
    /// Our own vocabulary, the same whatever the base is.
    Graphmill,
    /// Classes of the ontology.
    Class,
    /// Relation types of the ontology.
    Relation,
    /// What has an id of ours.
    Id,
    /// The name is the whole IRI.
    Elsewhere,
}

impl Space {
    /// Those with a prefix. What begins like another one stands before it, for prefixes are tried in order.
    pub(super) const PREFIXED: [Self; 10] = [
        Self::Rdf,
        Self::Rdfs,
        Self::Xsd,
        Self::Dcterms,
        Self::Prov,
        Self::Oa,
        Self::Graphmill,
        Self::Class,
        Self::Relation,
        Self::Id,
    ];

    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Rdf => "rdf",
            Self::Rdfs => "rdfs",
            Self::Xsd => "xsd",
            Self::Dcterms => "dcterms",
            Self::Prov => "prov",
            Self::Oa => "oa",
            Self::Graphmill => "gm",
            Self::Class => "class",
            Self::Relation => "relation",
            Self::Id => "id",
            Self::Elsewhere => "",
        }
    }

    /// What its IRIs begin with.
    pub(super) fn namespace(self, base: &BaseIri) -> String {
        match self {
            Self::Rdf => "http://www.w3.org/1999/02/22-rdf-syntax-ns#".to_owned(),
            Self::Rdfs => "http://www.w3.org/2000/01/rdf-schema#".to_owned(),
            Self::Xsd => "http://www.w3.org/2001/XMLSchema#".to_owned(),
            Self::Dcterms => "http://purl.org/dc/terms/".to_owned(),
            Self::Prov => "http://www.w3.org/ns/prov#".to_owned(),
            Self::Oa => "http://www.w3.org/ns/oa#".to_owned(),
            Self::Graphmill => "urn:graphmill:vocabulary:".to_owned(),
            Self::Class => format!("{base}class/"),
            Self::Relation => format!("{base}relation/"),
            Self::Id => base.to_string(),
            Self::Elsewhere => String::new(),
        }
    }
}

/// An IRI in two parts. The name is fit for an IRI as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Iri<'a> {
    pub(super) space: Space,
    pub(super) name: &'a str,
}

impl<'a> Iri<'a> {
    pub(super) const fn new(space: Space, name: &'a str) -> Self {
        Self { space, name }
    }
}

/// A name with everything percent-encoded that isn't a letter, a digit or one of `-._~`, in whichever script.
pub(super) fn encoded(name: &str) -> Cow<'_, str> {
    let is_fit = |c: char| c.is_alphanumeric() || "-._~".contains(c);
    if name.chars().all(is_fit) {
        return Cow::Borrowed(name);
    }
    let mut encoded = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if is_fit(c) {
            encoded.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    Cow::Owned(encoded)
}

/// What the IRIs of an export begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseIri(String);

impl Default for BaseIri {
    fn default() -> Self {
        Self("urn:graphmill:".to_owned())
    }
}

impl fmt::Display for BaseIri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseIri {
    type Err = BadBaseIri;

    fn from_str(iri: &str) -> Result<Self, BadBaseIri> {
        let bad = |why| BadBaseIri {
            iri: iri.to_owned(),
            why,
        };
        if !is_exportable(iri) {
            return Err(bad("is no IRI that begins with http://, https:// or urn:"));
        }
        if !iri.ends_with(['/', '#', ':']) {
            return Err(bad("does not end in `/`, `#` or `:`"));
        }
        Ok(Self(iri.to_owned()))
    }
}

/// What can't be the beginning of IRIs. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{iri}` {why}: give one like https://example.org/graph/")]
pub struct BadBaseIri {
    iri: String,
    why: &'static str,
}
