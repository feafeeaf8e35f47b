//! The stages and their order. A new stage is a variant here with its place in [`Stage::next`]; the compiler then
//! asks for the rest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The version of the workflow that this binary runs. Every execution records the version that it was started
/// under, and a worker leaves versions that it doesn't know.
pub const WORKFLOW_VERSION: i32 = 1;

/// One step of a workflow, with a queue and a worker of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Cut the text into chunks.
    Chunk,
    /// Find the names in each chunk.
    Mentions,
    /// Give each mention its class.
    Entities,
    /// Find typed relations in each chunk.
    Relations,
    /// Merge the findings into the document's graph.
    Assemble,
    /// Merge the same thing across the batch's documents.
    Resolve,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] = [
        Self::Chunk,
        Self::Mentions,
        Self::Entities,
        Self::Relations,
        Self::Assemble,
        Self::Resolve,
    ];

    /// How many stages a document goes through.
    pub const OF_A_DOCUMENT: usize = 5;

    /// The stages that a document goes through, in order.
    #[must_use]
    pub fn of_a_document() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        Self::ALL.into_iter().take(Self::OF_A_DOCUMENT)
    }

    /// The stage's place in [`Stage::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }

    /// The stage that follows within one execution; `None` ends it. `Resolve` is an execution of its own, which
    /// the sequencer starts once every document of the batch is final.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Chunk => Some(Self::Mentions),
            Self::Mentions => Some(Self::Entities),
            Self::Entities => Some(Self::Relations),
            Self::Relations => Some(Self::Assemble),
            Self::Assemble | Self::Resolve => None,
        }
    }

    /// The activity that works this stage, as `workflow_activity` and `workflow_execution` name it.
    #[must_use]
    pub const fn activity_name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk-text",
            Self::Mentions => "extract-mentions",
            Self::Entities => "classify-entities",
            Self::Relations => "extract-relations",
            Self::Assemble => "assemble-graph",
            Self::Resolve => "resolve",
        }
    }

    /// The stage that an activity name stands for.
    #[must_use]
    pub fn of_activity(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.activity_name() == name)
    }

    /// The stage's name in tables, events and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Mentions => "mentions",
            Self::Entities => "entities",
            Self::Relations => "relations",
            Self::Assemble => "assemble",
            Self::Resolve => "resolve",
        }
    }

    /// Which workflow the stage belongs to.
    #[must_use]
    pub const fn workflow(self) -> WorkflowType {
        match self {
            Self::Chunk | Self::Mentions | Self::Entities | Self::Relations | Self::Assemble => {
                WorkflowType::Extraction
            }
            Self::Resolve => WorkflowType::Resolution,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == name)
            .ok_or_else(|| format!("`{name}` is not a stage"))
    }
}

/// What an execution is: one document's pass, or a batch's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkflowType {
    /// `chunk` to `assemble` over one document.
    Extraction,
    /// `resolve` over one batch.
    Resolution,
}

impl WorkflowType {
    /// The workflow's name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Extraction => "extraction",
            Self::Resolution => "resolution",
        }
    }

    /// Where an execution of this type begins.
    #[must_use]
    pub const fn first_stage(self) -> Stage {
        match self {
            Self::Extraction => Stage::Chunk,
            Self::Resolution => Stage::Resolve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_a_document_follow_one_another_in_order() {
        let mut passed = vec![WorkflowType::Extraction.first_stage()];
        while let Some(next) = passed.last().and_then(|stage| stage.next()) {
            passed.push(next);
        }
        assert_eq!(passed, Stage::ALL[..5]);
    }

    #[test]
    fn names_lead_back_to_their_stage() {
        for stage in Stage::ALL {
            assert_eq!(stage.as_str().parse(), Ok(stage));
            assert_eq!(Stage::of_activity(stage.activity_name()), Some(stage));
        }
    }
}
