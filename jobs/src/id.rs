//! Ids: `UUIDv7` newtypes that print with a prefix (`batch_0190…`), so that one kind can't pass for another.
//!
//! The prefixed string is what every output prints and every command and route accepts; it is the prefix, an
//! underscore and the 32 lower-case hex digits of the UUID, which a double click selects whole.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A string that is not an id of the wanted kind. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a {kind} id: expected `{prefix}_` and 32 hex digits")]
pub struct IdError {
    /// What was wanted, for example `batch`.
    pub kind: &'static str,
    /// The prefix that such an id has.
    pub prefix: &'static str,
    /// What was given instead.
    pub given: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What the printed id begins with, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id; ids made later sort later (`UUIDv7`).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The bare UUID, as the database stores it.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(given: &str) -> Result<Self, IdError> {
                given
                    .strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| IdError {
                        kind: $kind,
                        prefix: $prefix,
                        given: given.chars().take(80).collect(),
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

ids! {
    /// Who owns a row; no request crosses it.
    OrganizationId, "organization", "org";
    /// A set of documents that are extracted under one policy and resolved together.
    BatchId, "batch", "batch";
    /// One submitted document.
    DocumentId, "document", "doc";
    /// A version of the classes and relation types that an extraction may use.
    OntologyId, "ontology", "onto";
    /// One document's pass through the stages, or a batch's resolution.
    WorkflowExecutionId, "execution", "exec";
    /// One attempt at one stage.
    WorkflowActivityId, "activity", "act";
    /// A cancel, pause, resume or retry on its way to an execution.
    WorkflowSignalId, "signal", "sig";
    /// A thing that a document speaks of.
    EntityId, "entity", "entity";
    /// A typed statement about two entities of a document.
    RelationId, "relation", "rel";
    /// One real-world thing across documents.
    ClusterId, "cluster", "cluster";
    /// Two clusters that may be one thing, for people to decide.
    LinkId, "link", "link";
    /// A call of a model; the row of the ledger, and what a server is told in `X-Graphmill-Call`.
    LlmCallId, "call", "call";
    /// A process that works stages; the owner of its leases.
    WorkerId, "worker", "worker";
    /// The news that a batch has ended, however often it is sent; the header `webhook-id`.
    WebhookDeliveryId, "delivery", "delivery";
}

impl OrganizationId {
    /// The organization that a database starts with; commands use it when none is named.
    pub const DEFAULT: Self = Self(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_kind_is_refused_by_name() {
        let document = DocumentId::generate().to_string();
        let refused = document.parse::<BatchId>().unwrap_err();
        assert_eq!(refused.given, document);
        assert!(
            refused.to_string().contains("is not a batch id"),
            "{refused}"
        );
    }

    #[test]
    fn ids_travel_as_prefixed_strings() {
        let id = WorkflowExecutionId::generate();
        let text = id.to_string();
        assert!(text.starts_with("exec_") && text.len() == 37, "{text}");
        assert_eq!(text.parse::<WorkflowExecutionId>().unwrap(), id);
    }

    #[test]
    fn hyphens_braces_and_short_ids_are_refused() {
        for given in [
            "batch_",
            "batch_0190",
            "batch_{0190f0c2-0000-7000-8000-000000000001}",
            "",
            "batch",
        ] {
            assert!(given.parse::<BatchId>().is_err(), "{given}");
        }
    }
}
