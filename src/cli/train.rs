//! `graphmill train` (feature `train`): the weights of the local extractor from corpora, or how good they would be.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{error::CliError, output};
use crate::extractors::train;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(super) struct TrainArgs {
    /// The folder with the corpora: ner/*.jsonl and gazetteers/*.tsv.
    #[arg(long, value_name = "DIR")]
    corpora: PathBuf,
    /// The folder that the files of weights are written to.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "src/extractors/local/weights"
    )]
    output: PathBuf,
    /// The same seed, the same weights.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave out each corpus in turn, print how good the others' weights are on it, and write nothing.
    #[arg(long)]
    cross_validate: bool,
}

pub(super) fn train(args: &TrainArgs) -> Result<ExitCode, CliError> {
    let written = if args.cross_validate {
        let held_out = train::cross_validate(&args.corpora, args.seed)?;
        held_out.iter().try_for_each(|held| {
            let [per, org, loc, misc] = held.score.by_kind();
            output::line(&format!(
                "{:<18} PER/ORG/LOC {:.2}   PER {per:.1} ORG {org:.1} LOC {loc:.1} MISC {misc:.1}",
                held.name,
                held.score.f1()
            ))
        })
    } else {
        let files = train::train(&args.corpora, &args.output, args.seed)?;
        files.iter().try_for_each(|(path, bytes)| {
            output::line(&format!("{}: {bytes} bytes", path.display()))
        })
    };
    output::written(written).map(|()| ExitCode::SUCCESS)
}
