//! Trains the scorer's weights on the relations of Re-DocRED: a rule's relation is right if the document has it.
//!
//! Deterministic: one pass order, drawn from the seed; the weights are the same bytes on every machine.

use std::{collections::HashSet, fs, path::Path};

use serde::Deserialize;

use super::{
    Reading,
    scorer::{RelationScorer, SCALE, SIZE},
};
use crate::{
    extractors::ChunkText,
    graph::{ClassId, NameLabel, Ontology, OntologyError, Span, Text, TypedMention},
};

/// Passes over the examples. **Source:** the log loss of held-out documents no longer falls.
const PASSES: u32 = 12;
/// How far a step goes.
const RATE: f32 = 0.08;
/// How much of a weight a step takes back.
const DECAY: f32 = 1e-3;

/// Which properties say the same as a relation, from its subject to its object and the other way round.
/// **Source:** the properties' descriptions at Wikidata.
const SAME: &[(&str, &[&str], &[&str])] = &[
    ("born_in", &["P19"], &[]),
    ("born_on", &["P569"], &[]),
    ("died_in", &["P20"], &[]),
    ("died_on", &["P570"], &[]),
    ("lives_in", &["P551", "P27", "P19", "P937"], &[]),
    ("citizen_of", &["P27"], &[]),
    (
        "works_for",
        &["P108", "P54", "P463", "P102", "P241", "P488", "P937"],
        &[],
    ),
    ("leads", &["P488", "P35", "P6"], &["P488", "P35", "P6"]),
    (
        "member_of",
        &["P463", "P54", "P102", "P241", "P118", "P361"],
        &[],
    ),
    ("educated_at", &["P69"], &[]),
    ("married_to", &["P26"], &["P26"]),
    ("parent_of", &["P40"], &["P22", "P25"]),
    ("sibling_of", &["P3373"], &["P3373"]),
    ("founded", &[], &["P112"]),
    ("founded_on", &["P571"], &[]),
    ("based_in", &["P159", "P740", "P131", "P17", "P276"], &[]),
    (
        "located_in",
        &["P131", "P17", "P276", "P706", "P206", "P30"],
        &["P150"],
    ),
    ("capital_of", &["P1376"], &["P36"]),
    ("owns", &[], &["P127", "P749", "P137"]),
];

/// Corpora that no weights come from. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub(in crate::extractors::local) enum TrainError {
    /// The corpus can't be read.
    #[error("`{0}` can't be read")]
    Read(String, #[source] std::io::Error),
    /// A line of it has another form.
    #[error("line {0} of the corpus has another form")]
    Line(usize, #[source] serde_json::Error),
    /// The ontology that is built in does not hold together.
    #[error("the ontology can't be read")]
    Ontology(#[from] OntologyError),
}

#[derive(Deserialize)]
struct Line {
    text: String,
    ents: Vec<(u32, u32, String, String, usize)>,
    #[serde(default)]
    drels: HashSet<(usize, usize, String)>,
}

/// An example: where its weights are, and whether the document has the relation.
type Example = (Vec<u16>, bool);

/// Trains on `redocred_dev.jsonl` in the folder `corpora`; returns the file that is compiled in.
///
/// # Errors
/// [`TrainError`] names what can't be read.
pub(in crate::extractors::local) fn train(
    corpora: &Path,
    seed: u64,
) -> Result<Vec<u8>, TrainError> {
    let path = corpora.join("redocred_dev.jsonl");
    let read = fs::read_to_string(&path)
        .map_err(|error| TrainError::Read(path.display().to_string(), error))?;
    let ontology = Ontology::builtin()?;
    let mut examples = Vec::new();
    for (number, line) in read.lines().enumerate() {
        let line =
            serde_json::from_str(line).map_err(|error| TrainError::Line(number + 1, error))?;
        examples.extend(of(&line, &ontology));
    }
    Ok(fit(examples, seed))
}

fn of(line: &Line, ontology: &Ontology) -> Vec<Example> {
    let text = Text::new(line.text.as_str());
    let mentions: Vec<TypedMention> = line
        .ents
        .iter()
        .map(|(start, end, kind, ..)| {
            let (label, class) = match kind.as_str() {
                "PER" => (Some(NameLabel::Per), "person"),
                "ORG" => (Some(NameLabel::Org), "organization"),
                "LOC" => (Some(NameLabel::Loc), "location"),
                "TIME" => (None, "date"),
                "NUM" => (None, "quantity"),
                _ => (Some(NameLabel::Misc), "thing"),
            };
            TypedMention {
                value: None,
                span: Span::new(*start, *end),
                label,
                class: ClassId::new(class),
                confidence: 1.0,
            }
        })
        .collect();
    let cluster = |span: Span| {
        let of = |mention: &TypedMention| mention.span == span;
        mentions.iter().position(of).map_or(0, |at| line.ents[at].4)
    };
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, text.chars()),
    };
    let reading = Reading {
        rules: super::rules::rules(),
        scorer: RelationScorer::None,
    };
    let mut examples = Vec::new();
    for (relation, features) in reading.with_features(chunk, &mentions, ontology) {
        let Some((_, same, inverse)) = SAME
            .iter()
            .find(|(id, ..)| *id == relation.predicate.as_str())
        else {
            continue;
        };
        let (from, to) = (cluster(relation.subject), cluster(relation.object));
        let says = |from, to, properties: &[&str]| {
            properties
                .iter()
                .any(|property| line.drels.contains(&(from, to, (*property).to_owned())))
        };
        let right = says(from, to, same) || says(to, from, inverse);
        examples.push((features.places().to_vec(), right));
    }
    examples
}

/// Stochastic gradient descent in an order drawn from the seed.
fn fit(mut examples: Vec<Example>, seed: u64) -> Vec<u8> {
    let mut weights = vec![0.0_f32; SIZE];
    let mut state = seed | 1;
    for _ in 0..PASSES {
        for at in (1..examples.len()).rev() {
            // Xorshift: good enough to shuffle, and the same everywhere.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = usize::try_from(state % (at as u64 + 1)).unwrap_or(at);
            examples.swap(at, other);
        }
        for (places, right) in &examples {
            let sum: f32 = places
                .iter()
                .map(|&place| weights[usize::from(place)])
                .sum();
            let error = f32::from(u8::from(*right)) - 1.0 / (1.0 + (-sum).exp());
            for &place in places {
                let weight = &mut weights[usize::from(place)];
                *weight += RATE * (error - DECAY * *weight);
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "clamped before")]
    let quantized =
        |weight: &f32| ((weight * SCALE).round().clamp(-127.0, 127.0) as i8).cast_unsigned();
    weights.iter().map(quantized).collect()
}
