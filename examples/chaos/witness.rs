//! The witness: the local extractor, but before it works on a unit it appends a line `document/stage/unit process-id
//! milliseconds` to a file, and takes its time.
//!
//! The file is what the verdict reads: it stands outside of the rows and of their unique keys.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use graphmill::{
    extractors::{ChunkText, ExtractError, Extractor, Local, UnitName},
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
};

use crate::{
    chance::{Chance, number_of},
    documents::LONG,
};

/// Its name for `--extractor` and in batches.
pub(crate) const NAME: &str = "witness";

/// The local extractor, watched and slowed.
pub(crate) struct Witness {
    pub(crate) local: Local,
    /// Where it writes; nowhere without one.
    pub(crate) file: Option<PathBuf>,
    /// How long a unit of a short document takes, give or take a quarter.
    pub(crate) short: Duration,
    /// How long a unit of the long document takes.
    pub(crate) long: Duration,
    pub(crate) seed: u64,
}

/// Milliseconds since 1970, by the clock that Postgres on this machine has too.
pub(crate) fn now() -> u128 {
    #[expect(clippy::disallowed_methods, reason = "a witness' own clock will do")]
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis()
}

impl Witness {
    /// Says that a unit is about to be worked, and takes its time.
    async fn about_to(&self, unit: &UnitName) -> Result<(), ExtractError> {
        if let Some(file) = &self.file {
            let line = format!("{unit} {} {}\n", std::process::id(), now());
            // One write: lines of several processes don't mix.
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(line.as_bytes()))
                .map_err(|error| ExtractError::Terminal(format!("no witness: {error}")))?;
        }
        let time = if &*unit.document == LONG {
            self.long
        } else {
            self.short
        };
        let mut chance = Chance::new(self.seed ^ number_of(&unit.to_string()));
        let percent = u32::try_from(75 + chance.below(51)).unwrap_or(100);
        tokio::time::sleep(time * percent / 100).await;
        Ok(())
    }
}

#[async_trait]
impl Extractor for Witness {
    fn name(&self) -> &'static str {
        NAME
    }

    /// As if it were paid: each unit's checkpoint is durable before the next one begins.
    fn is_paid(&self) -> bool {
        true
    }

    async fn mentions(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        self.about_to(unit).await?;
        self.local.mentions(unit, chunk, ontology).await
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        self.about_to(unit).await?;
        self.local.classify(unit, text, group, ontology).await
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        self.about_to(unit).await?;
        self.local.relations(unit, chunk, mentions, ontology).await
    }
}
