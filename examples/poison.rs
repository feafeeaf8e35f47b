//! graphmill with an extractor that some documents poison: what a fault in one's own extractor, or in a library below
//! it, does to the rest.
//!
//! The extractor is `poison`: the local one, but a chunk that contains
//!
//! - `POISON-ABORT` takes the process down;
//! - `POISON-MEMORY` takes memory, and then the process down;
//! - `POISON-LOOP` never returns and never yields;
//! - `POISON-PANIC` panics.
//!
//! Before each unit it appends a line `document/stage/unit process-id milliseconds` to the file of `WITNESS_FILE`, and
//! waits for `WITNESS_MS` milliseconds.
//!
//! ```text
//! cargo run --example poison -- worker
//! ```

use std::{
    fs::OpenOptions,
    io::Write,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use graphmill::{
    extractors::{ChunkText, ExtractError, Extractor, Extractors, Local, UnitName},
    graph::{FoundRelation, Mention, MentionType, Ontology, Text, TypedMention},
};

/// Bytes that are taken before the process ends. **Source:** enough to be seen, little enough to be had anywhere.
const MEMORY: usize = 256 << 20;

struct Poison {
    local: Local,
    file: Option<String>,
    wait: Duration,
}

impl Poison {
    /// Says that a unit is about to be worked, takes its time, and swallows what is in the text.
    async fn about_to(&self, unit: &UnitName, text: &str) -> Result<(), ExtractError> {
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
        if text.contains("POISON-ABORT") {
            std::process::abort();
        }
        if text.contains("POISON-MEMORY") {
            let taken: Vec<Vec<u8>> = (0..MEMORY >> 24).map(|_| vec![1; 1 << 24]).collect();
            std::hint::black_box(taken);
            std::process::abort();
        }
        if text.contains("POISON-LOOP") {
            loop {
                std::hint::spin_loop();
            }
        }
        assert!(
            !text.contains("POISON-PANIC"),
            "the poison of this document"
        );
        tokio::time::sleep(self.wait).await;
        Ok(())
    }
}

#[async_trait]
impl Extractor for Poison {
    fn name(&self) -> &'static str {
        "poison"
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
        self.about_to(unit, chunk.as_str()).await?;
        self.local.mentions(unit, chunk, ontology).await
    }

    async fn classify(
        &self,
        unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        self.about_to(unit, "").await?;
        self.local.classify(unit, text, group, ontology).await
    }

    async fn relations(
        &self,
        unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        self.about_to(unit, chunk.as_str()).await?;
        self.local.relations(unit, chunk, mentions, ontology).await
    }
}

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "an example has no config room")]
    let setting = |name| std::env::var(name).ok();
    let wait = setting("WITNESS_MS")
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(0);
    let poison = Poison {
        local: Local::new(),
        file: setting("WITNESS_FILE"),
        wait: Duration::from_millis(wait),
    };
    graphmill::cli::main(Extractors::builtin().with(poison))
}
