//! How good findings are, against what somebody marked: mentions, entities and relations.
//!
//! Counts over all documents (micro averages). What was marked nowhere in the corpus is not scored: a corpus without
//! relations says nothing against those that were found.

mod clusters;
mod mentions;
mod names;
mod pairs;
mod relations;
mod tally;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{DocumentGraph, GoldAnswers, GoldMention, NameLabel, Span, Text};
use clusters::Clusters;
pub use clusters::EntityScores;
pub use mentions::MentionScores;
use mentions::Mentions;
pub use pairs::PairScores;
pub use relations::RelationScores;
use relations::Relations;
pub use tally::Scores;

/// What was found in one document: a line of output, or a graph.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Predicted {
    mentions: Vec<PredictedMention>,
    #[serde(default)]
    entities: Vec<PredictedEntity>,
    #[serde(default)]
    relations: Vec<PredictedRelation>,
}

#[derive(Debug, Clone, Deserialize)]
struct PredictedMention {
    #[serde(flatten)]
    span: Span,
    #[serde(rename = "type", default)]
    class: String,
    #[serde(default)]
    label: Option<NameLabel>,
    #[serde(default)]
    gold: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
struct PredictedEntity {
    id: String,
    mentions: Vec<usize>,
}

#[derive(Debug, Clone, Deserialize)]
struct PredictedRelation {
    subject: String,
    predicate: String,
    object: String,
}

impl Predicted {
    /// The findings in `graph`; `gold` says for each mention which of the given ones it is, if mentions were given.
    #[must_use]
    pub fn of(graph: &DocumentGraph, gold: Option<&[usize]>) -> Self {
        let mentions = graph.mentions.iter().enumerate();
        let entities = graph.entities.iter().enumerate();
        Self {
            mentions: mentions
                .map(|(index, mention)| PredictedMention {
                    span: mention.span,
                    class: mention.class.as_str().to_owned(),
                    label: mention.label,
                    gold: gold.and_then(|gold| gold.get(index).copied()),
                })
                .collect(),
            entities: entities
                .map(|(index, entity)| PredictedEntity {
                    id: index.to_string(),
                    mentions: entity.mentions.clone(),
                })
                .collect(),
            relations: graph
                .relations
                .iter()
                .map(|relation| PredictedRelation {
                    subject: relation.subject.to_string(),
                    predicate: relation.predicate.as_str().to_owned(),
                    object: relation.object.to_string(),
                })
                .collect(),
        }
    }

    /// The entity of each mention: its number, or one of its own past the last.
    fn entity_of(&self) -> Vec<usize> {
        let mut of: Vec<usize> = (0..self.mentions.len())
            .map(|mention| self.entities.len() + mention)
            .collect();
        for (number, entity) in self.entities.iter().enumerate() {
            for &mention in &entity.mentions {
                if let Some(of) = of.get_mut(mention) {
                    *of = number;
                }
            }
        }
        of
    }

    /// The relations between numbers of entities.
    fn relations(&self) -> impl Iterator<Item = (usize, &str, usize)> {
        let numbers: HashMap<&str, usize> = self
            .entities
            .iter()
            .enumerate()
            .map(|(number, entity)| (entity.id.as_str(), number))
            .collect();
        self.relations.iter().filter_map(move |relation| {
            let subject = *numbers.get(relation.subject.as_str())?;
            let object = *numbers.get(relation.object.as_str())?;
            Some((subject, relation.predicate.as_str(), object))
        })
    }
}

/// The entity that each marked mention was found as.
struct Alignment {
    /// By the mention's whole span (or its number, where mentions were given).
    strict: Vec<Option<usize>>,
    /// Else by a mention that shares a character with it.
    partial: Vec<Option<usize>>,
}

impl Alignment {
    fn of(text: &Text, gold: &[GoldMention], predicted: &Predicted) -> Self {
        let entity_of = predicted.entity_of();
        let mut of_number: HashMap<usize, usize> = HashMap::new();
        let mut of_span: HashMap<Span, usize> = HashMap::new();
        for (mention, &entity) in predicted.mentions.iter().zip(&entity_of) {
            if let Some(gold) = mention.gold {
                of_number.insert(gold, entity);
            }
            of_span
                .entry(mentions::trimmed(text, mention.span))
                .or_insert(entity);
        }
        let strict: Vec<Option<usize>> = gold
            .iter()
            .enumerate()
            .map(|(number, marked)| {
                of_number
                    .get(&number)
                    .or_else(|| of_span.get(&mentions::trimmed(text, marked.span)))
                    .copied()
            })
            .collect();
        let partial = strict
            .iter()
            .zip(gold)
            .map(|(strict, marked)| {
                strict.or_else(|| {
                    predicted
                        .mentions
                        .iter()
                        .zip(&entity_of)
                        .find(|(mention, _)| mention.span.overlaps(marked.span))
                        .map(|(_, &entity)| entity)
                })
            })
            .collect();
        Self { strict, partial }
    }
}

/// The counts of all documents so far.
#[derive(Debug, Default)]
pub struct Score {
    documents: u64,
    missing: u64,
    mentions: Mentions,
    clusters: Option<Clusters>,
    strict: Option<Relations>,
    partial: Option<Relations>,
    document: Option<Relations>,
}

impl Score {
    /// Counts one document; `None` for one that could not be extracted, whose marks count as missed.
    pub fn add(
        &mut self,
        text: &Text,
        gold: &[GoldMention],
        answers: &GoldAnswers,
        predicted: Option<&Predicted>,
    ) {
        self.documents += 1;
        self.missing += u64::from(predicted.is_none());
        let nothing = Predicted::default();
        let predicted = predicted.unwrap_or(&nothing);
        self.mentions.add(text, gold, predicted);
        let aligned = Alignment::of(text, gold, predicted);
        if let Some(clusters) = &answers.clusters {
            let counts = self.clusters.get_or_insert_default();
            counts.add(gold, clusters, &aligned.strict);
            if let Some(drels) = &answers.drels {
                let counts = self.document.get_or_insert_default();
                counts.add_of_clusters(gold, clusters, drels, &aligned.partial, predicted);
            }
        }
        if let Some(rels) = &answers.rels {
            let counts = self.strict.get_or_insert_default();
            counts.add(rels, &aligned.strict, predicted);
            let counts = self.partial.get_or_insert_default();
            counts.add(rels, &aligned.partial, predicted);
        }
    }

    /// The scores.
    #[must_use]
    pub fn report(&self) -> ScoreReport {
        ScoreReport {
            documents: self.documents,
            missing: self.missing,
            mentions: self.mentions.scores(),
            entities: self.clusters.as_ref().map(Clusters::scores),
            relations: RelationScores::of(self.strict.as_ref(), self.partial.as_ref()),
            document_relations: RelationScores::of(self.document.as_ref(), None),
        }
    }
}

/// The scores of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreReport {
    /// Documents that were scored.
    pub documents: u64,
    /// Those among them for which nothing was found out; all that is marked in them was missed.
    pub missing: u64,
    /// Names and values, by type.
    pub mentions: Vec<MentionScores>,
    /// Clusters, where the corpus has them.
    pub entities: Option<EntityScores>,
    /// Relations between mentions, by type, all of them first; empty where the corpus has none.
    pub relations: Vec<RelationScores>,
    /// Relations between clusters, likewise.
    pub document_relations: Vec<RelationScores>,
}

#[cfg(test)]
mod tests;
