//! graphmill with an extractor of one's own: the same binary with one more name for `--extractor`.
//!
//! The extractor here is `witness`: the local one, but before it works on a unit it appends a line
//! `document/stage/unit process-id milliseconds` to the file of `WITNESS_FILE`, and waits for `WITNESS_MS`
//! milliseconds. While the file of `WITNESS_FAILS` exists, units of the document that it names fail. The crash tests use it to see from outside which units were worked, by whom, how often.
//!
//! ```text
//! WITNESS_FILE=units.txt WITNESS_MS=100 cargo run --example own_extractor -- run PATH --extractor witness
//! ```

use std::{
    fs::{self, OpenOptions},
    io::Write,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use graphmill::{
    extractors::{ChunkText, ExtractError, Extractor, Extractors, Local, UnitName},
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
};

struct Witness {
    local: Local,
    file: Option<String>,
    fails: Option<String>,
    wait: Duration,
}

impl Witness {
    /// Says that a unit is about to be worked, and takes its time.
    async fn about_to(&self, unit: &UnitName) -> Result<(), ExtractError> {
        if let Some(file) = &self.file {
            #[expect(clippy::disallowed_methods, reason = "a witness' own clock will do")]
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let line = format!("{unit} {} {}\n", std::process::id(), now.as_millis());
            // One write: lines of several processes don't mix.
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| file.write_all(line.as_bytes()))
                .map_err(|error| ExtractError::Terminal(format!("no witness: {error}")))?;
        }
        tokio::time::sleep(self.wait).await;
        let failing = self
            .fails
            .as_ref()
            .and_then(|file| fs::read_to_string(file).ok());
        if failing.is_some_and(|name| name.trim() == &*unit.document) {
            let message = "the model is out of reach".to_owned();
            return Err(ExtractError::Transient(message));
        }
        Ok(())
    }
}

#[async_trait]
impl Extractor for Witness {
    fn name(&self) -> &'static str {
        "witness"
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

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "an example has no config room")]
    let setting = |name| std::env::var(name).ok();
    let wait = setting("WITNESS_MS")
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(0);
    let witness = Witness {
        local: Local::new(),
        file: setting("WITNESS_FILE"),
        fails: setting("WITNESS_FAILS"),
        wait: Duration::from_millis(wait),
    };
    graphmill::cli::main(Extractors::builtin().with(witness))
}
