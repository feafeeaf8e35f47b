//! The corpora: texts with their names, cut by our own sentence splitter and tokenizer, as training sees them.

use std::{collections::BTreeMap, ops::Range, path::Path};

use super::super::{
    tagger::{
        decode,
        document::{Document, Words},
        feature,
        known::Known,
        sentence::Sentence,
    },
    token,
};
use crate::graph::{NameLabel, Text, sentence_ranges};

/// A stretch of words that may be names, with its features and labels.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Where each word's features end.
    pub(super) ends: Vec<u32>,
    pub(super) features: Vec<u32>,
    /// The template of each feature.
    pub(super) templates: Vec<u8>,
    pub(super) gold: Vec<u8>,
    /// The labels that each word may have, as bits: one, unless the corpus does not say.
    pub(super) allowed: Vec<u16>,
    /// The words' bytes in the document.
    pub(super) at: Vec<Range<usize>>,
}

impl Stretch {
    pub(super) fn word(&self, at: usize) -> Range<usize> {
        let start = if at == 0 {
            0
        } else {
            self.ends[at - 1] as usize
        };
        start..self.ends[at] as usize
    }
}

/// A name: its bytes and its kind.
pub(super) type Name = (Range<usize>, NameLabel);

pub(super) struct Labelled {
    pub(super) text: String,
    pub(super) names: Vec<Name>,
    pub(super) stretches: Vec<Stretch>,
}

pub(super) struct Corpus {
    /// Whether a word without a label may be of kind MISC.
    pub(super) partial: bool,
    pub(super) documents: Vec<Labelled>,
}

#[derive(serde::Deserialize)]
struct Line {
    text: String,
    ents: Vec<Vec<serde_json::Value>>,
}

impl Corpus {
    pub(super) fn read(path: &Path, known: &Known) -> Result<Self, std::io::Error> {
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let partial = ["btc", "uner", "sec_train"].contains(&name.as_str());
        let mut corpus = Self {
            partial,
            documents: Vec::new(),
        };
        for line in std::fs::read_to_string(path)?.lines() {
            let line: Line = serde_json::from_str(line)?;
            corpus.add(line, known);
        }
        Ok(corpus)
    }

    fn add(&mut self, line: Line, known: &Known) {
        let text = Text::new(line.text.as_str());
        let mut names: Vec<Name> = line
            .ents
            .iter()
            .filter_map(|ent| name(&text, ent))
            .collect();
        names.sort_by_key(|(at, _)| (at.start, std::cmp::Reverse(at.end)));
        names.dedup_by(|b, a| b.0.start < a.0.end);
        let tokens: Vec<_> = sentence_ranges(&line.text)
            .into_iter()
            .map(|range| token::tokens(&line.text, range))
            .collect();
        let sentences: Vec<_> = tokens
            .iter()
            .map(|tokens| Sentence::new(tokens, known))
            .collect();
        let document = Document::new(sentences.iter(), &Words::new());
        let mut labels: BTreeMap<usize, u8> = BTreeMap::new();
        let all: Vec<_> = tokens.iter().flatten().collect();
        for (at, kind) in &names {
            let inside: Vec<_> = all
                .iter()
                .filter(|token| token.at.start < at.end && token.at.end > at.start)
                .collect();
            let begin = u8::try_from(decode::label_of(*kind)).unwrap_or(0);
            for (place, token) in inside.iter().enumerate() {
                labels
                    .entry(token.at.start)
                    .or_insert(begin + u8::from(place > 0));
            }
        }
        let mut stretches = Vec::new();
        for (tokens, sentence) in tokens.iter().zip(&sentences) {
            let mut stretch = Stretch::default();
            let mut inside = false;
            for (at, token) in tokens.iter().enumerate() {
                let mut gold = labels.get(&token.at.start).copied().unwrap_or(0);
                if !sentence.open[at] {
                    inside = false;
                    if !stretch.gold.is_empty() {
                        stretches.push(std::mem::take(&mut stretch));
                    }
                    continue;
                }
                if gold != 0 && !decode::begins(gold.into()) && !inside {
                    gold -= 1;
                }
                inside = gold != 0;
                feature::features(sentence, at, &document, |template, feature| {
                    stretch.features.push(feature);
                    stretch
                        .templates
                        .push(u8::try_from(template).unwrap_or(u8::MAX));
                });
                stretch
                    .ends
                    .push(u32::try_from(stretch.features.len()).unwrap_or(u32::MAX));
                stretch.gold.push(gold);
                let misc = if gold == 0 && self.partial {
                    0b1_1000_0001
                } else {
                    1 << gold
                };
                stretch.allowed.push(misc);
                stretch.at.push(token.at.clone());
            }
            if !stretch.gold.is_empty() {
                stretches.push(stretch);
            }
        }
        self.documents.push(Labelled {
            text: line.text,
            names,
            stretches,
        });
    }
}

fn name(text: &Text, ent: &[serde_json::Value]) -> Option<Name> {
    let at = |index: usize| u32::try_from(ent.get(index)?.as_u64()?).ok();
    let kind = match ent.get(2)?.as_str()? {
        "PER" => NameLabel::Per,
        "ORG" => NameLabel::Org,
        "LOC" => NameLabel::Loc,
        "MISC" => NameLabel::Misc,
        _ => return None,
    };
    let bytes = text.byte_of(at(0)?)..text.byte_of(at(1)?);
    let stripped = stripped(text.as_str(), bytes);
    (!stripped.is_empty()).then_some((stripped, kind))
}

/// A name without a leading article, a final 's and a final full stop: where corpora differ.
pub(super) fn stripped(text: &str, at: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (at.start, at.end);
    let lower = text[at.clone()].to_ascii_lowercase();
    for article in ["the ", "a ", "an "] {
        if lower.starts_with(article) {
            start += article.len();
            break;
        }
    }
    for tail in ["'s", "’s", "."] {
        if text[start..end].ends_with(tail) {
            end -= tail.len();
        }
    }
    while text[start..end].ends_with(char::is_whitespace) {
        end -= text[start..end]
            .chars()
            .next_back()
            .map_or(1, char::len_utf8);
    }
    start..end
}
