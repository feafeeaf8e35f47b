//! The flags of `run` for asking about names that may be of one thing.

use clap::Args;

use super::error::CliError;
use crate::{extractors::Extractors, pipeline::Adjudicate};

/// Whether somebody is to be asked, and how much.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Models")]
pub(super) struct AdjudicationArgs {
    /// Ask the model about names that may be of one thing: what it says is one thing is merged, as far as nothing
    /// contradicts it. Goes with any extractor.
    #[arg(long)]
    adjudicate: bool,
    /// Questions that a resolution may ask about names, each about up to 12 pairs (1 to 10,000) [default: 50].
    #[arg(
        long,
        value_name = "N",
        requires = "adjudicate",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    adjudicate_most: Option<u32>,
}

impl AdjudicationArgs {
    /// How a batch is to be opened with them; `None` if nobody is to be asked.
    pub(super) fn settings(self) -> Option<Adjudicate> {
        let otherwise = Adjudicate::default();
        self.adjudicate.then(|| Adjudicate {
            most: self.adjudicate_most.unwrap_or(otherwise.most),
            ..otherwise
        })
    }

    /// Whether a model is called for it, in a batch of the extractor of that name.
    ///
    /// # Errors
    /// Wrong usage: nobody is there to be asked.
    pub(super) fn calls_models(
        self,
        extractors: &Extractors,
        name: &str,
    ) -> Result<bool, CliError> {
        if !self.adjudicate {
            return Ok(false);
        }
        let wrong = |message: &str| Err(CliError::Usage(message.to_owned()));
        let Some(asked) = extractors.adjudicator(name) else {
            return wrong(
                "--adjudicate: no extractor of this program says which names are of one thing",
            );
        };
        if asked.calls_models() && extractors.provider().is_none() {
            return wrong(
                "--adjudicate needs somebody to ask: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own, \
                 or both, and name the model with --model or GRAPHMILL_MODEL",
            );
        }
        Ok(asked.calls_models())
    }
}
