//! What one document holds, as one line of JSON: the output of the direct path, which stores nothing.

use serde::Serialize;

use super::{DocumentGraph, NameLabel, Text, decimal};

/// One line of output. Entity ids are `e0`, `e1` … and hold within the line.
#[derive(Debug, Serialize)]
pub struct ExtractedLine<'a> {
    id: &'a str,
    mentions: Vec<MentionOut<'a>>,
    entities: Vec<EntityOut<'a>>,
    relations: Vec<RelationOut<'a>>,
}

#[derive(Debug, Serialize)]
struct MentionOut<'a> {
    start: u32,
    end: u32,
    text: &'a str,
    #[serde(rename = "type")]
    class: &'a str,
    label: Option<NameLabel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(with = "decimal")]
    confidence: f32,
}

#[derive(Debug, Serialize)]
struct EntityOut<'a> {
    id: String,
    name: &'a str,
    #[serde(rename = "type")]
    class: &'a str,
    /// Indices into `mentions`.
    mentions: &'a [usize],
}

#[derive(Debug, Serialize)]
struct RelationOut<'a> {
    subject: String,
    predicate: &'a str,
    object: String,
    /// Of its first evidence.
    start: Option<u32>,
    end: Option<u32>,
    #[serde(with = "decimal")]
    confidence: f32,
}

/// The line of the document `id`: one entry for each mention, entity and relation, in the graph's order.
///
/// A relation has the place of its first evidence.
#[must_use]
pub fn extracted_line<'a>(
    id: &'a str,
    text: &'a Text,
    graph: &'a DocumentGraph,
) -> ExtractedLine<'a> {
    let entity_id = |index: usize| format!("e{index}");
    ExtractedLine {
        id,
        mentions: graph
            .mentions
            .iter()
            .map(|mention| MentionOut {
                start: mention.span.start,
                end: mention.span.end,
                text: text.slice(mention.span),
                class: mention.class.as_str(),
                label: mention.label,
                value: mention.value.as_ref().map(|value| value.normal.as_str()),
                confidence: mention.confidence,
            })
            .collect(),
        entities: graph
            .entities
            .iter()
            .enumerate()
            .map(|(index, entity)| EntityOut {
                id: entity_id(index),
                name: &entity.name,
                class: entity.class.as_str(),
                mentions: &entity.mentions,
            })
            .collect(),
        relations: graph
            .relations
            .iter()
            .map(|relation| {
                let first = relation.evidence.first();
                RelationOut {
                    subject: entity_id(relation.subject),
                    predicate: relation.predicate.as_str(),
                    object: entity_id(relation.object),
                    start: first.map(|span| span.start),
                    end: first.map(|span| span.end),
                    confidence: relation.confidence,
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::graph::{
        ClassId, FoundRelation, RelationTypeId, Span, TypedMention, Value, ValueKind, assemble,
    };

    #[test]
    fn a_line_has_the_documented_form() {
        let text = Text::new("Zoë joined Acme in 1990.");
        let mention = |start, end, label, class: &str| TypedMention {
            span: Span::new(start, end),
            label,
            value: None,
            class: ClassId::new(class),
            confidence: 0.9,
        };
        let mentions = vec![
            mention(0, 3, Some(NameLabel::Per), "person"),
            mention(11, 15, None, "organization"),
            TypedMention {
                value: Some(Value {
                    kind: ValueKind::Date,
                    normal: "1990".to_owned(),
                }),
                ..mention(19, 23, None, "date")
            },
        ];
        let found = FoundRelation {
            subject: Span::new(0, 3),
            predicate: RelationTypeId::new("works_for"),
            object: Span::new(11, 15),
            evidence: Span::new(0, 16),
            confidence: 0.7,
        };
        let graph = assemble(&text, mentions, &[found]);
        let line = extracted_line("doc", &text, &graph);
        let expected = json!({
            "id": "doc",
            "mentions": [
                { "start": 0, "end": 3, "text": "Zoë", "type": "person", "label": "PER", "confidence": 0.9 },
                { "start": 11, "end": 15, "text": "Acme", "type": "organization", "label": null, "confidence": 0.9 },
                { "start": 19, "end": 23, "text": "1990", "type": "date", "label": null, "value": "1990", "confidence": 0.9 },
            ],
            "entities": [
                { "id": "e0", "name": "Zoë", "type": "person", "mentions": [0] },
                { "id": "e1", "name": "Acme", "type": "organization", "mentions": [1] },
                { "id": "e2", "name": "1990", "type": "date", "mentions": [2] },
            ],
            "relations": [
                { "subject": "e0", "predicate": "works_for", "object": "e1", "start": 0, "end": 16, "confidence": 0.7 },
            ],
        });
        assert_eq!(serde_json::to_value(&line).unwrap(), expected);
        assert!(!serde_json::to_string(&line).unwrap().contains('\n'));
    }
}
