//! What an extractor was told and does not pass on, counted by reason. Holds no text: counts and reasons may be
//! logged, stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why something that a model said is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// It has not the form that was asked for, or was cut off.
    Malformed,
    /// Its quote is nowhere in the text.
    Ungrounded,
    /// Its quote is only found within other, longer mentions.
    Nested,
    /// It names a class that was not offered.
    UnknownClass,
    /// No class of the ontology was found for a mention.
    NoClass,
    /// It names a relation type that was not offered.
    UnknownRelation,
    /// It refers to a mention or an entity that was not listed, or to the same one twice.
    UnknownEnd,
    /// The ontology does not allow this relation between those classes.
    DomainOrRange,
    /// Its quote mentions neither end of the relation.
    NoEvidence,
    /// The answer broke off at the cap of its tokens, and its text could not be split any more.
    CutOff,
}

impl DropReason {
    /// Its name in tables and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ungrounded => "ungrounded",
            Self::Nested => "nested",
            Self::UnknownClass => "unknown_class",
            Self::NoClass => "no_class",
            Self::UnknownRelation => "unknown_relation",
            Self::UnknownEnd => "unknown_end",
            Self::DomainOrRange => "domain_or_range",
            Self::NoEvidence => "no_evidence",
            Self::CutOff => "cut_off",
        }
    }
}

/// How many of what was said are not passed on, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dropped(BTreeMap<DropReason, u32>);

impl Dropped {
    /// Counts one more.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `more`.
    pub fn add(&mut self, reason: DropReason, more: u32) {
        if more > 0 {
            let count = self.0.entry(reason).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// How many there are for that reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u32 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Whether nothing was dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The counts, by reason; none is 0.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u32)> {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_name_everywhere() {
        let mut dropped = Dropped::default();
        dropped.add(DropReason::Nested, 0);
        assert!(dropped.is_empty());
        dropped.count(DropReason::DomainOrRange);
        dropped.add(DropReason::DomainOrRange, 2);
        assert_eq!(dropped.of(DropReason::DomainOrRange), 3);
        let json = serde_json::to_string(&dropped).unwrap();
        assert_eq!(json, r#"{"domain_or_range":3}"#);
        for (reason, _) in dropped.iter() {
            assert!(json.contains(reason.as_str()));
        }
    }
}
