//! Mentions that somebody marked by hand: what a corpus says of a text, and how a graph that was built on such
//! mentions keeps all of them.
//!
//! Knows the labels of corpora, nothing of files. Invariant: every marked mention comes out once, whatever others it
//! equals or overlaps.

use std::collections::HashMap;

use super::{ClassId, DocumentGraph, Entity, NameLabel, Ontology, Span, Text, TypedMention};

/// What a corpus calls a mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoldKind {
    /// A name.
    Name(NameLabel),
    /// A date or a time.
    Time,
    /// A number or an amount.
    Number,
}

impl GoldKind {
    /// The kind that a corpus means by `label`; the spellings of `CoNLL`, `CoNLL04` and Re-DocRED.
    #[must_use]
    pub fn of(label: &str) -> Option<Self> {
        Some(match label.to_ascii_uppercase().as_str() {
            "PER" | "PEOP" | "PERSON" => Self::Name(NameLabel::Per),
            "ORG" => Self::Name(NameLabel::Org),
            "LOC" => Self::Name(NameLabel::Loc),
            "MISC" | "OTHER" => Self::Name(NameLabel::Misc),
            "TIME" => Self::Time,
            "NUM" => Self::Number,
            _ => return None,
        })
    }

    /// Its label as a tagger gives it; dates and numbers have none.
    #[must_use]
    pub const fn label(self) -> Option<NameLabel> {
        match self {
            Self::Name(label) => Some(label),
            Self::Time | Self::Number => None,
        }
    }

    /// The widest class that `ontology` has for it.
    #[must_use]
    pub fn class(self, ontology: &Ontology) -> Option<ClassId> {
        let named = |id: &str| {
            let id = ClassId::new(id);
            ontology.class(&id).is_some().then_some(id)
        };
        match self {
            // Parents stand before their children.
            Self::Name(label) => ontology
                .classes
                .iter()
                .find(|class| ontology.label_of(&class.id) == Some(label))
                .map(|class| class.id.clone()),
            Self::Time => named("date"),
            Self::Number => named("quantity"),
        }
    }
}

/// A mention that somebody marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoldMention {
    /// Where it is.
    pub span: Span,
    /// What it is.
    pub kind: GoldKind,
}

/// Gives `graph`, which was built on the spans of `gold`, each of these mentions, and says for each mention of the
/// result which of `gold` it is.
///
/// A graph has a span once. A second mark on the same span joins the entity of the first if both are of one kind,
/// and else is an entity of its own, after the others.
#[must_use]
pub fn with_gold(
    text: &Text,
    graph: DocumentGraph,
    gold: &[GoldMention],
    ontology: &Ontology,
) -> (DocumentGraph, Vec<usize>) {
    let DocumentGraph {
        mentions,
        mut entities,
        relations,
    } = graph;
    let mut entity_of = vec![None; mentions.len()];
    for (number, entity) in entities.iter_mut().enumerate() {
        for index in entity.mentions.drain(..) {
            if let Some(of) = entity_of.get_mut(index) {
                *of = Some(number);
            }
        }
    }
    let of_span: HashMap<Span, (&TypedMention, Option<usize>)> = mentions
        .iter()
        .zip(entity_of)
        .map(|(mention, entity)| (mention.span, (mention, entity)))
        .collect();
    let mut own: HashMap<(Span, GoldKind), usize> = HashMap::new();
    let mut first: HashMap<Span, GoldKind> = HashMap::new();
    let mut all: Vec<(TypedMention, usize, usize)> = Vec::with_capacity(gold.len());
    for (index, marked) in gold.iter().enumerate() {
        let found = of_span.get(&marked.span);
        let is_first = *first.entry(marked.span).or_insert(marked.kind) == marked.kind;
        let mention = match found {
            Some((mention, _)) if is_first => (*mention).clone(),
            Some(_) | None => TypedMention {
                value: None,
                span: marked.span,
                label: marked.kind.label(),
                // An ontology that lacks it has refused the document before.
                class: marked
                    .kind
                    .class(ontology)
                    .unwrap_or_else(|| ClassId::new("thing")),
                confidence: 1.0,
            },
        };
        let entity = match found {
            Some((_, Some(entity))) if is_first => *entity,
            Some(_) | None => *own.entry((marked.span, marked.kind)).or_insert_with(|| {
                entities.push(Entity {
                    name: text.slice(marked.span).to_owned(),
                    class: mention.class.clone(),
                    mentions: Vec::new(),
                });
                entities.len() - 1
            }),
        };
        all.push((mention, index, entity));
    }
    all.sort_by_key(|(mention, index, _)| (mention.span, *index));
    let mut given = Vec::with_capacity(all.len());
    let mut mentions = Vec::with_capacity(all.len());
    for (place, (mention, index, entity)) in all.into_iter().enumerate() {
        if let Some(entity) = entities.get_mut(entity) {
            entity.mentions.push(place);
        }
        given.push(index);
        mentions.push(mention);
    }
    let graph = DocumentGraph {
        mentions,
        entities,
        relations,
    };
    (graph, given)
}

/// What somebody marked besides mentions; each is absent where nobody looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GoldAnswers {
    /// Which mentions are of one thing: indices of mentions, each in one cluster at most.
    pub clusters: Option<Vec<Vec<usize>>>,
    /// Relations between mentions.
    pub rels: Option<Vec<GoldRelation>>,
    /// Relations between clusters, anywhere in the document.
    pub drels: Option<Vec<GoldRelation>>,
}

/// A relation that somebody marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldRelation {
    /// Index of the subject.
    pub head: usize,
    /// Index of the object.
    pub tail: usize,
    /// What the corpus calls it.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::assemble;

    #[test]
    fn every_mark_comes_out_once_whatever_it_equals() {
        let ontology = Ontology::builtin().unwrap();
        let text = Text::new("Paris Hilton left Paris.");
        let mark = |start, end, label| GoldMention {
            span: Span::new(start, end),
            kind: GoldKind::of(label).unwrap(),
        };
        let gold = [
            mark(18, 23, "LOC"),
            mark(0, 12, "PER"),
            mark(0, 5, "LOC"),
            mark(18, 23, "LOC"),
            mark(18, 23, "ORG"),
            mark(13, 17, "MISC"),
        ];
        // The last one got lost on the way.
        let found = [gold[0], gold[1], gold[2]].map(|mark| TypedMention {
            value: None,
            span: mark.span,
            label: mark.kind.label(),
            class: mark.kind.class(&ontology).unwrap(),
            confidence: 0.5,
        });
        let graph = assemble(&text, &ontology, found.to_vec(), &[]);
        let (graph, given) = with_gold(&text, graph, &gold, &ontology);
        assert!(graph.is_grounded_in(&text));
        assert_eq!(given, [2, 1, 5, 0, 3, 4]);
        let of = |gold: usize| {
            let place = given.iter().position(|&one| one == gold).unwrap();
            let entity = |entity: &Entity| entity.mentions.contains(&place);
            graph.entities.iter().position(entity).unwrap()
        };
        assert_eq!((of(0), of(0)), (of(2), of(3)));
        assert_ne!(of(0), of(4));
        assert_ne!(of(0), of(1));
        assert_eq!(graph.entities[of(4)].class.as_str(), "organization");
        assert_eq!(graph.entities[of(5)].name, "left");
    }

    #[test]
    fn kinds_have_the_widest_class_of_their_label() {
        let ontology = Ontology::builtin().unwrap();
        for (label, class) in [
            ("Peop", "person"),
            ("LOC", "location"),
            ("Other", "thing"),
            ("TIME", "date"),
            ("NUM", "quantity"),
        ] {
            let kind = GoldKind::of(label).unwrap();
            assert_eq!(kind.class(&ontology).unwrap().as_str(), class);
        }
        assert_eq!(GoldKind::of("COLOUR"), None);
    }
}
