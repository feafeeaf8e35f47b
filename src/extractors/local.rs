//! The local extractor: names by a trained tagger, classes by cues, relations by typed patterns. No model server, no
//! network.
//!
//! It reads English. It keeps nothing between calls; the same input gives the same output. It looks at a chunk and a
//! bounded window around it, so that the time is linear in the document. Every span is found by its own tokens, so
//! that none needs to be trusted.

mod classes;
mod lists;
mod relations;
mod tagger;
mod token;
#[cfg(feature = "train")]
pub mod train;
mod values;

use std::{collections::HashMap, ops::Range};

use async_trait::async_trait;

pub use self::relations::RelationScorer;
use self::token::Token;
use super::{ChunkText, ExtractError, Extractor, UnitName};
use crate::graph::{
    ClassId, FoundRelation, Mention, MentionType, Ontology, Span, Text, TypedMention,
    sentence_ranges,
};

/// The extractor named `local`.
#[derive(Debug, Default)]
pub struct Local {
    scorer: RelationScorer,
}

impl Local {
    /// The extractor.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scorer: RelationScorer::Lr,
        }
    }

    /// The same, with that scorer. It has a name of its own, and not an option beside it: a batch keeps its
    /// extractor's name, and so every worker, and every process that works a unit alone, scores as the batch wants.
    #[must_use]
    pub const fn scored_by(scorer: RelationScorer) -> Self {
        Self { scorer }
    }
}

#[async_trait]
impl Extractor for Local {
    fn name(&self) -> &'static str {
        match self.scorer {
            RelationScorer::Lr => "local",
            RelationScorer::None => "local-rules",
        }
    }

    fn is_paid(&self) -> bool {
        false
    }

    async fn mentions(
        &self,
        _unit: &UnitName,
        chunk: ChunkText<'_>,
        _ontology: &Ontology,
    ) -> Result<Vec<Mention>, ExtractError> {
        Ok(found(chunk.text, chunk.span))
    }

    async fn classify(
        &self,
        _unit: &UnitName,
        text: &Text,
        group: &[Mention],
        ontology: &Ontology,
    ) -> Result<Vec<MentionType>, ExtractError> {
        Ok(classes::classify(text, group, ontology))
    }

    async fn relations(
        &self,
        _unit: &UnitName,
        chunk: ChunkText<'_>,
        mentions: &[TypedMention],
        ontology: &Ontology,
    ) -> Result<Vec<FoundRelation>, ExtractError> {
        Ok(relations::relations(chunk, mentions, ontology, self.scorer))
    }
}

/// What a stretch of `text` speaks of, as far as can be told without asking anybody: for estimates.
pub(super) fn guessed(text: &Text, span: Span, ontology: &Ontology) -> Vec<TypedMention> {
    let mentions: Vec<Mention> = found(text, span);
    let types = classes::classify(text, &mentions, ontology);
    let classes: HashMap<Span, ClassId> = types
        .into_iter()
        .map(|given| (given.span, given.class))
        .collect();
    mentions
        .into_iter()
        .filter_map(|mention| {
            Some(TypedMention {
                span: mention.span,
                label: mention.label,
                value: mention.value,
                class: classes.get(&mention.span)?.clone(),
                confidence: mention.confidence,
            })
        })
        .collect()
}

fn found(text: &Text, span: Span) -> Vec<Mention> {
    let names = tagger::names(text.as_str(), text.bytes(span))
        .into_iter()
        .map(|name| Mention {
            span: text.span(name.at),
            label: Some(name.label),
            value: None,
            confidence: name.confidence,
        })
        .collect();
    values::join(text, span, names)
}

/// The sentences of a stretch of `text`, as tokens whose bytes are the text's.
fn sentences(text: &str, bytes: Range<usize>) -> Vec<Vec<Token<'_>>> {
    sentence_ranges(&text[bytes.clone()])
        .into_iter()
        .map(|sentence| {
            token::tokens(
                text,
                bytes.start + sentence.start..bytes.start + sentence.end,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::Arc,
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::graph::{Span, assemble};

    /// The extractor never waits, so one poll is enough.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the local extractor waits for nothing"),
        }
    }

    fn extract(text: &Text) -> (Vec<TypedMention>, Vec<FoundRelation>) {
        let ontology = Ontology::builtin().unwrap();
        let unit = UnitName {
            document: Arc::from("test"),
            stage: "test",
            unit: 0,
        };
        let chunk = ChunkText {
            text,
            span: Span::new(0, text.chars()),
        };
        let mentions = now(Local::new().mentions(&unit, chunk, &ontology)).unwrap();
        let classes = now(Local::new().classify(&unit, text, &mentions, &ontology)).unwrap();
        let typed: Vec<TypedMention> = mentions
            .iter()
            .zip(classes)
            .map(|(mention, class)| TypedMention {
                span: mention.span,
                label: mention.label,
                value: mention.value.clone(),
                class: class.class,
                confidence: class.confidence,
            })
            .collect();
        let relations = now(Local::new().relations(&unit, chunk, &typed, &ontology)).unwrap();
        (typed, relations)
    }

    /// The names and classes of a text, and what it states.
    fn found(text: &str) -> (Vec<String>, Vec<String>) {
        let text = Text::new(text);
        let (mentions, relations) = extract(&text);
        let graph = assemble(&text, &Ontology::builtin().unwrap(), mentions, &relations);
        let name = |index: usize| graph.entities[index].name.as_str();
        (
            graph
                .entities
                .iter()
                .map(|e| format!("{}: {}", e.name, e.class.as_str()))
                .collect(),
            graph
                .relations
                .iter()
                .map(|r| {
                    format!(
                        "{} {} {}",
                        name(r.subject),
                        r.predicate.as_str(),
                        name(r.object)
                    )
                })
                .collect(),
        )
    }

    #[test]
    fn names_are_whole_and_have_their_class() {
        let (entities, _) = found(
            "In March 1950 President John F. Kennedy's brother met Ludwig van Beethoven and Dr. Smith at the \
             University of Cambridge. The German company Marks & Co, Ltd. was bought by IBM during World War II.",
        );
        assert_eq!(
            entities,
            [
                "March 1950: date",
                "John F. Kennedy: person",
                "Ludwig van Beethoven: person",
                "Smith: person",
                "University of Cambridge: organization",
                "German: group",
                "Marks & Co, Ltd.: organization",
                "IBM: organization",
                "World War II: event",
            ]
        );
    }

    #[test]
    fn what_sentences_state_is_found_with_its_pronouns() {
        let (_, relations) = found(
            "Ada Brown (born 3 May 1950 in Paris, France) is an engineer. She studied at Yale University and married \
             Tom Gray. Acme Corporation, based in Boston, was founded by Brown. She never worked for Intel.",
        );
        assert_eq!(
            relations,
            [
                "Ada Brown born_in Paris",
                "Ada Brown born_in France",
                "Ada Brown born_on 3 May 1950",
                "Ada Brown educated_at Yale University",
                "Ada Brown founded Acme Corporation",
                "Ada Brown lives_in Paris",
                "Ada Brown lives_in France",
                "Ada Brown married_to Tom Gray",
                "Paris located_in France",
                "Acme Corporation based_in Boston",
            ]
        );
    }

    #[test]
    fn a_pronoun_that_does_not_fit_stands_for_nobody() {
        let (_, relations) = found("Ada Brown was a poet. She left Paris. He died in Rome.");
        assert!(relations.is_empty(), "{relations:?}");
    }

    #[test]
    fn a_class_that_the_ontology_lacks_is_left_out() {
        let ontology = Ontology::from_toml(
            "name = \"x\"\nversion = 1\nrelation = []\n[[class]]\nid = \"person\"\ndescription = \"people\"\n",
        )
        .unwrap();
        let text = Text::new("Ada Brown lives in Paris.");
        let unit = UnitName {
            document: Arc::from("test"),
            stage: "test",
            unit: 0,
        };
        let chunk = ChunkText {
            text: &text,
            span: Span::new(0, text.chars()),
        };
        let mentions = now(Local::new().mentions(&unit, chunk, &ontology)).unwrap();
        let classes = now(Local::new().classify(&unit, &text, &mentions, &ontology)).unwrap();
        assert_eq!((mentions.len(), classes.len()), (2, 1));
    }

    /// What must be true of what is found in any text.
    fn assert_exact(text: &Text) {
        let (mentions, relations) = extract(text);
        let mut end = 0;
        for mention in &mentions {
            assert!(mention.span.start >= end && !mention.span.is_empty());
            end = mention.span.end;
            assert!(end <= text.chars());
            let name = text.slice(mention.span);
            assert_eq!(name.trim(), name);
            assert!((0.0..=1.0).contains(&mention.confidence));
        }
        let is_mention = |span| mentions.iter().any(|mention| mention.span == span);
        for relation in &relations {
            assert!(relation.evidence.contains(relation.object));
            assert!(relation.evidence.end <= text.chars());
            assert!(is_mention(relation.subject) && is_mention(relation.object));
        }
    }

    #[test]
    fn a_megabyte_without_a_full_stop_is_read_exactly() {
        for unit in [
            "ABC DEF ",
            "Ada Brown of Paris ",
            "on 3 May 1950 for $5 million ",
            "\0A",
            "\n",
        ] {
            assert_exact(&Text::new(unit.repeat(1_000_000 / unit.len())));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_exactly(
            text in "([A-Za-eé漢😀שİǅ\0\u{301}\u{200f}.,;:!?()\"“”'’&$%0-9 \n-]|[A-Z][a-z]{1,5} |of |was born in |founded |, |the |John |Paris|She |He |3 May 1950|[$]5 million |20 percent|1990s){0,80}"
        ) {
            let text = Text::new(text);
            prop_assert_eq!(extract(&text), extract(&text));
            assert_exact(&text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = extract(&Text::new(text));
        }
    }

    #[test]
    fn the_time_is_linear() {
        for unit in [
            "A",
            "Ab ",
            "“A ",
            "(",
            "He was born in (",
            "John founded Acme and ",
            "A, ",
            "a-",
            "A.",
            "é",
            "漢",
            "Ab of ",
            "\0",
            "A\u{301}",
            "O'",
            "9A",
            "J. ",
            "$5 ",
            "3 May 1950 ",
        ] {
            let time = |bytes: usize| {
                let text = Text::new(unit.repeat(bytes / unit.len()));
                let begun = std::time::Instant::now();
                let _ = extract(&text);
                begun.elapsed()
            };
            // Eight times the text; in quadratic time it would take 64 times as long. Others may use the machine too.
            let linear = || time(100_000) < 24 * time(12_500).max(Duration::from_millis(10));
            assert!((0..3).any(|_| linear()), "{unit:?}");
        }
    }
}
