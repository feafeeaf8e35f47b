//! Exports are read back by other parsers.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn entity(id: &str, name: &str) -> ExportedEntity {
    let mention = |start, confidence| ExportedMention {
        start,
        end: start + 3,
        text: name.to_owned(),
        class: "person".to_owned(),
        value: None,
        confidence,
    };
    ExportedEntity {
        id: id.to_owned(),
        document: "a.txt".to_owned(),
        name: name.to_owned(),
        class: "person".to_owned(),
        mentions: vec![mention(4, 0.8), mention(9, 0.9)],
    }
}

fn relation() -> ExportedRelation {
    ExportedRelation {
        id: "rel_1".to_owned(),
        document: "a.txt".to_owned(),
        subject: "ent_1".to_owned(),
        subject_name: "Ada".to_owned(),
        predicate: "knows".to_owned(),
        object: "ent_2".to_owned(),
        object_name: "Bob".to_owned(),
        confidence: 0.7,
        evidence: vec![ExportedEvidence {
            start: 0,
            end: 18,
            text: "Ada knew \"Bob\",\nwell".to_owned(),
        }],
    }
}

fn document() -> ExportedDocument {
    ExportedDocument {
        id: "a.txt".to_owned(),
        document_id: "doc_1".to_owned(),
        state: "completed".to_owned(),
        partial: false,
        text_sha256: Some("00".repeat(32)),
    }
}

fn cluster() -> ExportedCluster {
    ExportedCluster {
        id: "clu_1".to_owned(),
        name: "Ada".to_owned(),
        class: "person".to_owned(),
        members: vec!["ent_1".to_owned(), "ent_2".to_owned()],
    }
}

fn whole(format: ExportFormat) -> Vec<u8> {
    let mut writer = ExportWriter::new(format, Vec::new(), "bat_\"1").unwrap();
    writer.document(&document()).unwrap();
    writer.entity(&entity("ent_1", "Ada")).unwrap();
    writer.entity(&entity("ent_2", "Bob")).unwrap();
    writer.relation(&relation()).unwrap();
    writer.cluster(&cluster()).unwrap();
    writer.finish().unwrap()
}

fn table(bytes: &[u8]) -> Vec<HashMap<String, String>> {
    csv::Reader::from_reader(bytes)
        .deserialize()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn json_is_one_object_with_the_documented_fields() {
    let bytes = whole(ExportFormat::Json);
    let mention = |start: u32, name: &str, confidence: f64| json!({ "start": start, "end": start + 3, "text": name, "type": "person", "confidence": confidence });
    let entity = |id: &str, name: &str| {
        json!({
            "id": id, "document": "a.txt", "name": name, "type": "person",
            "mentions": [mention(4, name, 0.8), mention(9, name, 0.9)],
        })
    };
    assert_eq!(
        serde_json::from_slice::<Value>(&bytes).unwrap(),
        json!({
            "batch_id": "bat_\"1",
            "documents": [{
                "id": "a.txt", "document_id": "doc_1", "state": "completed", "partial": false,
                "text_sha256": "00".repeat(32),
            }],
            "entities": [entity("ent_1", "Ada"), entity("ent_2", "Bob")],
            "relations": [{
                "id": "rel_1", "document": "a.txt", "subject": "ent_1", "predicate": "knows", "object": "ent_2",
                "confidence": 0.7,
                "evidence": [{ "start": 0, "end": 18, "text": "Ada knew \"Bob\",\nwell" }],
            }],
            "clusters": [{ "id": "clu_1", "name": "Ada", "type": "person", "members": ["ent_1", "ent_2"] }],
            "same_as": [],
        })
    );
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 11, "a row on each line:\n{text}");
}

#[test]
fn an_export_of_nothing_is_complete() {
    let json = ExportWriter::new(ExportFormat::Json, Vec::new(), "b").unwrap();
    let value: Value = serde_json::from_slice(&json.finish().unwrap()).unwrap();
    assert_eq!(
        value,
        json!({ "batch_id": "b", "documents": [], "entities": [], "relations": [], "clusters": [], "same_as": [] })
    );
    let csv = ExportWriter::new(ExportFormat::Csv, Vec::new(), "b").unwrap();
    let text = String::from_utf8(csv.finish().unwrap()).unwrap();
    assert_eq!(text, CSV_COLUMNS.join(",") + "\n");
}

#[test]
fn a_value_is_in_both_formats() {
    let mut row = entity("ent_1", "13 March 1963");
    row.mentions[0].value = Some("1963-03-13".to_owned());
    for format in [ExportFormat::Json, ExportFormat::Csv] {
        let mut writer = ExportWriter::new(format, Vec::new(), "b").unwrap();
        writer.entity(&row).unwrap();
        let bytes = writer.finish().unwrap();
        match format {
            ExportFormat::Json => {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                let mentions = &value["entities"][0]["mentions"];
                assert_eq!(mentions[0]["value"], "1963-03-13");
                assert!(mentions[1].get("value").is_none());
            }
            ExportFormat::Csv => assert_eq!(table(&bytes)[0]["value"], "1963-03-13"),
        }
    }
}

#[test]
fn csv_has_a_row_for_each_fact() {
    let rows = table(&whole(ExportFormat::Csv));
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["entity", "entity", "relation", "cluster", "cluster"]
    );
    let cells = |row: usize, columns: &[&str]| -> Vec<&str> {
        columns
            .iter()
            .map(|&column| rows[row][column].as_str())
            .collect()
    };
    assert_eq!(
        cells(
            0,
            &[
                "id",
                "name",
                "start",
                "end",
                "confidence",
                "count",
                "subject"
            ]
        ),
        ["ent_1", "Ada", "4", "7", "0.9", "2", ""]
    );
    assert_eq!(
        cells(
            2,
            &[
                "subject",
                "subject_name",
                "predicate",
                "object",
                "object_name",
                "text",
                "confidence",
                "count"
            ]
        ),
        [
            "ent_1",
            "Ada",
            "knows",
            "ent_2",
            "Bob",
            "Ada knew \"Bob\",\nwell",
            "0.7",
            "1"
        ]
    );
    assert_eq!(
        cells(4, &["id", "name", "type", "member", "count"]),
        ["clu_1", "Ada", "person", "ent_2", "2"]
    );
}

#[test]
fn a_section_that_has_ended_stays_closed() {
    for format in [ExportFormat::Json, ExportFormat::Csv] {
        let mut writer = ExportWriter::new(format, Vec::new(), "b").unwrap();
        writer.relation(&relation()).unwrap();
        let refused = writer.entity(&entity("ent_1", "Ada")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a row of `entities` came after rows of `relations`"
        );
        assert!(matches!(
            writer.document(&document()),
            Err(ExportError::OutOfOrder {
                wanted: Section::Documents,
                current: Section::Relations
            })
        ));
        writer.relation(&relation()).unwrap();
        let bytes = writer.finish().unwrap();
        match format {
            ExportFormat::Json => {
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(value["relations"].as_array().unwrap().len(), 2);
            }
            ExportFormat::Csv => assert_eq!(table(&bytes).len(), 2),
        }
    }
}

#[test]
fn a_closed_output_is_an_error_with_its_cause() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for format in [ExportFormat::Json, ExportFormat::Csv] {
        let ended = ExportWriter::new(format, Closed, "b").and_then(ExportWriter::finish);
        let Err(ExportError::Write(cause)) = ended.map(|_| ()) else {
            panic!("{format} was written")
        };
        assert_eq!(cause.kind(), io::ErrorKind::BrokenPipe, "{format}");
    }
}

#[test]
fn formats_are_known_by_name() {
    for format in [ExportFormat::Json, ExportFormat::Csv] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    let unknown = "xml".parse::<ExportFormat>().unwrap_err().to_string();
    assert!(
        unknown.contains("xml") && unknown.contains("csv"),
        "{unknown}"
    );
}

proptest! {
    #[test]
    fn any_name_comes_back_from_both_formats(name in any::<String>(), confidence in 0.0..=1.0_f32) {
        let mut row = entity("ent_1", &name);
        row.mentions.truncate(1);
        row.mentions[0].confidence = confidence;
        for format in [ExportFormat::Json, ExportFormat::Csv] {
            let mut writer = ExportWriter::new(format, Vec::new(), &name).unwrap();
            writer.entity(&row).unwrap();
            let bytes = writer.finish().unwrap();
            let (found, found_confidence) = match format {
                ExportFormat::Json => {
                    let value: Value = serde_json::from_slice(&bytes).unwrap();
                    let entity = &value["entities"][0];
                    (
                        entity["name"].as_str().unwrap().to_owned(),
                        entity["mentions"][0]["confidence"].to_string(),
                    )
                }
                ExportFormat::Csv => {
                    let row = &table(&bytes)[0];
                    (row["name"].clone(), row["confidence"].clone())
                }
            };
            prop_assert_eq!(&found, &name);
            prop_assert_eq!(found_confidence.parse::<f32>().unwrap().to_bits(), confidence.to_bits());
        }
    }
}
