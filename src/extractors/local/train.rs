//! The trainer (feature `train`): from labelled texts to the files of weights that are part of the binary.
//!
//! Deterministic from its seed. Each part of the local extractor that learns has one file of weights in the output
//! folder: the tagger's and that of the relations' scorer. Texts are cut by the sentences and tokens that run in the
//! product. No corpus becomes part of the project: `ATTRIBUTION` beside the weights names them.

mod corpus;
mod lists;
mod perceptron;
mod score;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use self::{
    corpus::{Corpus, Stretch},
    perceptron::Settings,
};
use super::{
    relations,
    tagger::{
        known::Known,
        weights::{self, Weights, WeightsError},
    },
};

pub use score::Score;

/// Why training ended early. Trying again does not help before the files are mended.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A corpus or a list can't be read.
    #[error("can't read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The weights can't be written.
    #[error("can't write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The relations' scorer can't be trained.
    #[error("the relations can't be trained")]
    Relations(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was packed can't be unpacked: a fault of the trainer.
    #[error("the weights that were made can't be read")]
    Packed(#[source] Unreadable),
}

/// Why weights can't be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreadable(#[from] WeightsError);

/// A corpus, how often each of its texts counts, and what is left out with it to see what the weights are worth.
struct Source {
    file: &'static str,
    times: u32,
    group: &'static str,
}

const fn source(file: &'static str, times: u32, group: &'static str) -> Source {
    Source { file, times, group }
}

/// What is trained on.
///
/// **Source:** the times were chosen by leaving corpora out: edited text about the world counts double.
const SOURCES: [Source; 11] = [
    source("redocred_dev", 2, "redocred"),
    source("wikigold", 1, "wikigold"),
    source("wnut_train", 1, "wnut"),
    source("wnut_dev", 1, "wnut"),
    source("btc", 1, "btc"),
    source("uner", 1, "uner"),
    source("sec_train", 1, "sec"),
    source("crossner_literature_traindev", 1, "literature"),
    source("crossner_music_traindev", 1, "music"),
    source("crossner_politics_traindev", 1, "politics"),
    source("crossner_science_traindev", 1, "science"),
];

/// Looked at, never trained on.
const LOOKED_AT: &str = "conll04_dev";

/// How the tagger learns. **Source:** leaving corpora out, over the sizes on either side.
const SETTINGS: Settings = Settings {
    seed: 0,
    epochs: 8,
    dropout: 0.2,
    spelling_dropout: 0.2,
    margin: 100.0,
    models: 3,
    least_count: 3,
};

/// The file of the tagger's weights in the output folder.
const TAGGER: &str = "tagger.bin";
/// The file of the weights of the relations' scorer.
const RELATIONS: &str = "relations.bin";

/// Trains every part from the corpora below `corpora` (`ner/*.jsonl`, `gazetteers/*.tsv`) and writes its file below
/// `output`.
///
/// # Errors
/// [`TrainError`] names the file.
pub fn train(
    corpora: &Path,
    output: &Path,
    seed: u64,
) -> Result<Vec<(PathBuf, usize)>, TrainError> {
    let parts = [
        (TAGGER, tagger(corpora, seed)?),
        (
            RELATIONS,
            relations::train(&corpora.join("ner"), seed)
                .map_err(|error| TrainError::Relations(error.into()))?,
        ),
    ];
    let mut files = Vec::with_capacity(parts.len());
    for (name, packed) in parts {
        let path = output.join(name);
        std::fs::write(&path, &packed).map_err(|cause| TrainError::Write {
            path: path.clone(),
            cause,
        })?;
        files.push((path, packed.len()));
    }
    Ok(files)
}

fn tagger(corpora: &Path, seed: u64) -> Result<Vec<u8>, TrainError> {
    let (known, read) = read(corpora)?;
    let settings = Settings { seed, ..SETTINGS };
    // Half the texts tell how sure the other half's weights may be.
    let half = fit(&known, &read, &settings, (0.0, 1.0), |_, document| {
        document % 2 == 0
    });
    let calibration = score::calibrate(
        &unpack(&half)?,
        read.iter()
            .flat_map(|corpus| corpus.documents.iter().skip(1).step_by(2)),
    );
    Ok(fit(&known, &read, &settings, calibration, |_, _| true))
}

/// What one group of corpora was worth to weights that never saw it.
#[derive(Debug, Clone)]
pub struct HeldOut {
    /// Its name.
    pub name: String,
    /// The score.
    pub score: Score,
}

/// Trains without each group of corpora in turn and scores the weights on it; and once without every other text of
/// `redocred_dev`, for weights that know their kind of text.
///
/// # Errors
/// [`TrainError`] names the file.
pub fn cross_validate(corpora: &Path, seed: u64) -> Result<Vec<HeldOut>, TrainError> {
    let (known, read) = read(corpora)?;
    let settings = Settings { seed, ..SETTINGS };
    let mut groups: Vec<&str> = SOURCES.iter().map(|source| source.group).collect();
    groups.dedup();
    let mut held = Vec::new();
    for group in groups {
        let packed = fit(&known, &read, &settings, (0.0, 1.0), |source, _| {
            source.group != group
        });
        let out = SOURCES
            .iter()
            .zip(&read)
            .filter(|(source, _)| source.group == group);
        held.push(HeldOut {
            name: group.to_owned(),
            score: score::score(
                &unpack(&packed)?,
                out.flat_map(|(_, corpus)| &corpus.documents),
            ),
        });
    }
    let packed = fit(&known, &read, &settings, (0.0, 1.0), |source, document| {
        source.group != "redocred" || document % 2 == 1
    });
    held.push(HeldOut {
        name: "half of redocred".to_owned(),
        score: score::score(&unpack(&packed)?, read[0].documents.iter().step_by(2)),
    });
    let path = corpora.join("ner").join(LOOKED_AT).with_extension("jsonl");
    if path.exists() {
        let looked_at =
            Corpus::read(&path, &known).map_err(|cause| TrainError::Read { path, cause })?;
        let packed = fit(&known, &read, &settings, (0.0, 1.0), |_, _| true);
        held.push(HeldOut {
            name: LOOKED_AT.to_owned(),
            score: score::score(&unpack(&packed)?, looked_at.documents.iter()),
        });
    }
    Ok(held)
}

fn read(corpora: &Path) -> Result<(Known, Vec<Corpus>), TrainError> {
    let lists = corpora.join("gazetteers");
    let known = lists::read(&lists).map_err(|cause| TrainError::Read { path: lists, cause })?;
    let read = SOURCES
        .iter()
        .map(|source| {
            let path = corpora
                .join("ner")
                .join(source.file)
                .with_extension("jsonl");
            Corpus::read(&path, &known).map_err(|cause| TrainError::Read { path, cause })
        })
        .collect::<Result<_, _>>()?;
    Ok((known, read))
}

fn unpack(packed: &[u8]) -> Result<Weights, TrainError> {
    Weights::unpack(packed).map_err(|error| TrainError::Packed(error.into()))
}

/// Trains on the documents that `take` takes, by source and number.
fn fit(
    known: &Known,
    corpora: &[Corpus],
    settings: &Settings,
    calibration: (f32, f32),
    take: impl Fn(&Source, usize) -> bool,
) -> Vec<u8> {
    let mut examples: Vec<(&Stretch, u32)> = Vec::new();
    for (source, corpus) in SOURCES.iter().zip(corpora) {
        for (number, document) in corpus.documents.iter().enumerate() {
            if take(source, number) {
                examples.extend(
                    document
                        .stretches
                        .iter()
                        .map(|stretch| (stretch, source.times)),
                );
            }
        }
    }
    let model = perceptron::train(&examples, settings);
    pack(known, &model, calibration)
}

/// Weights below this share of the largest kept one are dropped. **Source:** the score stands still up to here.
const LEAST: f32 = 0.02;

/// Of a thousand weights in order of size, the one that is the largest to be kept; larger ones are cut to it.
const LARGEST: usize = 999;

fn pack(known: &Known, model: &perceptron::Model, calibration: (f32, f32)) -> Vec<u8> {
    let mut sizes: Vec<f32> = model
        .rows
        .iter()
        .flatten()
        .map(|weight| weight.abs())
        .filter(|&size| size > 0.0)
        .collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let top = sizes
        .get(sizes.len() / 1000 * LARGEST)
        .copied()
        .unwrap_or(1.0);
    let scale = top / 127.0;
    let rows: Vec<(u32, [f32; 9])> = (0_u32..)
        .zip(&model.index)
        .filter(|&(_, &row)| row != 0)
        .map(|(number, &row)| (number, model.rows[row as usize]))
        .collect();
    weights::pack(
        known,
        &rows,
        &model.transitions,
        calibration,
        (scale, top * LEAST),
    )
}
