//! Exports are read back by other parsers. Here is what holds for all formats, and JSON and CSV; each other format has
//! a file.

mod cypher;
mod graphml;
mod rdf;

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
        document_id: "doc_1".to_owned(),
        name: name.to_owned(),
        class: "person".to_owned(),
        mentions: vec![mention(4, 0.8), mention(9, 0.9)],
    }
}

fn relation() -> ExportedRelation {
    ExportedRelation {
        id: "rel_1".to_owned(),
        document: "a.txt".to_owned(),
        document_id: "doc_1".to_owned(),
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

fn link() -> ExportedLink {
    ExportedLink {
        id: "link_1".to_owned(),
        left: "ent_1".to_owned(),
        left_name: Some("Ada".to_owned()),
        left_cluster: Some("clu_1".to_owned()),
        right: "ent_2".to_owned(),
        right_name: Some("Bob".to_owned()),
        right_cluster: None,
        score: 0.8,
        reason: "spelling".to_owned(),
        status: "proposed".to_owned(),
        is_within: true,
    }
}

/// A clock-free little ontology, one class and one relation type of which have IRIs of their own.
fn ontology() -> Ontology {
    let toml = r#"
        name = "n"
        version = 1
        [[class]]
        id = "person"
        iri = "https://schema.org/Person"
        description = "Somebody"
        [[class]]
        id = "a/b:c%d`\\u0060"
        parent = "person"
        description = "Ill meant \"\"\" ]]> \\"
        [[relation]]
        id = "knows"
        domain = ["person"]
        range = ["person"]
        description = "The subject knows the object"
        [[relation]]
        id = "größer_als`]->()"
        iri = "urn:x:greater"
        domain = ["person"]
        range = ["person"]
        description = "d"
    "#;
    Ontology::from_toml(toml).unwrap()
}

/// Names that have broken exports somewhere.
const HOSTILE: [&str; 24] = [
    "'",
    "\"",
    "`",
    "\\",
    "\\'",
    "\\\\'",
    "\\u0027",
    "\\\\u0027 OR 1=1 //",
    "\\u0060",
    "a\nb\rc\r\nd\te",
    "]]>",
    "<!-- & -->",
    "</data></node>",
    "&lt;&#0;",
    "$name {x: 1}",
    "// comment",
    "/* comment */ ;",
    "\u{1}\u{8}\u{b}\u{1f}\u{7f}\u{85}",
    "\u{202e}txt.exe\u{2066}",
    "\u{2028}\u{2029}\u{feff}",
    "\u{fffe}\u{ffff}\u{fffd}",
    "\u{1f469}\u{200d}\u{1f52c} \u{10ffff}",
    "=cmd|'/c calc'!A1,\"x\"",
    "@id",
];

fn export(format: ExportFormat, write: impl FnOnce(&mut ExportWriter<Vec<u8>>)) -> Vec<Vec<u8>> {
    let ontology = ontology();
    let head = ExportHead {
        batch: "batch_1",
        ontology: &ontology,
    };
    let mut writer = ExportWriter::new(&format.into(), head, |_| Ok(Vec::new())).unwrap();
    write(&mut writer);
    writer.finish().unwrap()
}

/// An export that is one file.
fn file(format: ExportFormat, write: impl FnOnce(&mut ExportWriter<Vec<u8>>)) -> String {
    let mut outs = export(format, write);
    assert_eq!(outs.len(), 1);
    String::from_utf8(outs.remove(0)).unwrap()
}

/// A document, two entities, a relation, a cluster and a link.
fn everything(writer: &mut ExportWriter<Vec<u8>>) {
    writer.document(&document()).unwrap();
    everything_but_documents(writer);
}

/// Every text that a user, a document or an ontology gives is a hostile one.
fn hostile(writer: &mut ExportWriter<Vec<u8>>) {
    for (number, name) in HOSTILE.into_iter().enumerate() {
        let mut row = document();
        row.id = name.to_owned();
        row.document_id = format!("doc_{number}");
        writer.document(&row).unwrap();
    }
    for (number, name) in HOSTILE.into_iter().enumerate() {
        let mut row = entity(&format!("ent_{number}"), name);
        row.document_id = format!("doc_{number}");
        row.document = name.to_owned();
        row.class = name.to_owned();
        row.mentions[0].value = Some(name.to_owned());
        row.mentions[0].class = name.to_owned();
        writer.entity(&row).unwrap();
    }
    for (number, name) in HOSTILE.into_iter().enumerate() {
        let mut row = relation();
        row.id = format!("rel_{number}");
        row.document_id = format!("doc_{number}");
        row.subject = format!("ent_{number}");
        row.object = "ent_0".to_owned();
        row.predicate = name.to_owned();
        row.subject_name = name.to_owned();
        row.evidence[0].text = name.to_owned();
        writer.relation(&row).unwrap();
    }
    for (number, name) in HOSTILE.into_iter().enumerate() {
        writer
            .cluster(&ExportedCluster {
                id: format!("clu_{number}"),
                name: name.to_owned(),
                class: name.to_owned(),
                members: vec![format!("ent_{number}")],
            })
            .unwrap();
    }
}

/// The rows of a table of the folder.
fn table(outs: &[Vec<u8>], name: &str) -> Vec<HashMap<String, String>> {
    let at = CSV_FILES.iter().position(|(file, _)| *file == name);
    csv::Reader::from_reader(&*outs[at.unwrap()])
        .deserialize()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn json_is_one_object_with_the_documented_fields() {
    let text = file(ExportFormat::Json, everything);
    let mention = |start: u32, name: &str, confidence: f64| json!({ "start": start, "end": start + 3, "text": name, "type": "person", "confidence": confidence });
    let entity = |id: &str, name: &str| {
        json!({
            "id": id, "document": "a.txt", "name": name, "type": "person",
            "mentions": [mention(4, name, 0.8), mention(9, name, 0.9)],
        })
    };
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({
            "batch_id": "batch_1",
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
            "same_as": [{
                "id": "link_1", "left": "ent_1", "left_name": "Ada", "left_cluster": "clu_1", "right": "ent_2",
                "right_name": "Bob", "right_cluster": null, "score": 0.8, "reason": "spelling", "status": "proposed",
            }],
        })
    );
    assert_eq!(text.lines().count(), 12, "a row on each line:\n{text}");
}

#[test]
fn an_export_of_nothing_is_complete() {
    let text = file(ExportFormat::Json, |_| ());
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({ "batch_id": "batch_1", "documents": [], "entities": [], "relations": [], "clusters": [], "same_as": [] })
    );
    let outs = export(ExportFormat::Csv, |_| ());
    for (out, (name, columns)) in outs.iter().zip(CSV_FILES) {
        let wanted = columns.join(",") + "\n";
        assert_eq!(std::str::from_utf8(out).unwrap(), wanted, "{name}");
    }
    assert_eq!(outs.len(), CSV_FILES.len());
}

#[test]
fn csv_has_a_table_for_each_kind() {
    let outs = export(ExportFormat::Csv, |writer| {
        let mut row = entity("ent_0", "13 March 1963");
        row.mentions[0].value = Some("1963-03-13".to_owned());
        writer.document(&document()).unwrap();
        writer.entity(&row).unwrap();
        everything_but_documents(writer);
    });
    let column = |file: &str, column: &str| -> Vec<String> {
        table(&outs, file)
            .into_iter()
            .map(|mut row| row.remove(column).unwrap())
            .collect()
    };
    assert_eq!(column("documents.csv", "document_id"), ["doc_1"]);
    assert_eq!(column("documents.csv", "partial"), ["false"]);
    let names = ["13 March 1963", "Ada", "Bob"];
    assert_eq!(column("entities.csv", "name"), names);
    assert_eq!(
        column("mentions.csv", "entity"),
        ["ent_0", "ent_0", "ent_1", "ent_1", "ent_2", "ent_2"]
    );
    assert_eq!(
        column("mentions.csv", "text")[1..3],
        ["13 March 1963", "Ada"]
    );
    assert_eq!(column("mentions.csv", "value")[..2], ["1963-03-13", ""]);
    assert_eq!(column("mentions.csv", "confidence")[..2], ["0.8", "0.9"]);
    assert_eq!(column("relations.csv", "subject_name"), ["Ada"]);
    assert_eq!(column("relations.csv", "object"), ["ent_2"]);
    assert_eq!(column("evidence.csv", "relation"), ["rel_1"]);
    let text = "Ada knew \"Bob\",\nwell";
    assert_eq!(column("evidence.csv", "text"), [text]);
    assert_eq!(column("clusters.csv", "name"), ["Ada"]);
    assert_eq!(column("members.csv", "entity"), ["ent_1", "ent_2"]);
    assert_eq!(column("same_as.csv", "right_name"), ["Bob"]);
    assert_eq!(column("same_as.csv", "right_cluster"), [""]);
    assert_eq!(column("same_as.csv", "score"), ["0.8"]);
}

fn everything_but_documents(writer: &mut ExportWriter<Vec<u8>>) {
    writer.entity(&entity("ent_1", "Ada")).unwrap();
    writer.entity(&entity("ent_2", "Bob")).unwrap();
    writer.relation(&relation()).unwrap();
    writer.cluster(&cluster()).unwrap();
    writer.link(&link()).unwrap();
}

#[test]
fn hostile_names_come_back_from_json_and_csv() {
    let value: Value = serde_json::from_str(&file(ExportFormat::Json, hostile)).unwrap();
    let outs = export(ExportFormat::Csv, hostile);
    for (number, name) in HOSTILE.into_iter().enumerate() {
        assert_eq!(value["entities"][number]["name"], name);
        assert_eq!(value["relations"][number]["predicate"], name);
        assert_eq!(table(&outs, "entities.csv")[number]["name"], name);
        assert_eq!(table(&outs, "evidence.csv")[number]["text"], name);
        assert_eq!(table(&outs, "documents.csv")[number]["id"], name);
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    for format in ExportFormat::ALL {
        assert_eq!(export(format, hostile), export(format, hostile), "{format}");
    }
}

#[test]
fn a_section_that_has_ended_stays_closed() {
    for format in ExportFormat::ALL {
        let with_refused = export(format, |writer| {
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
        });
        let without = export(format, |writer| {
            writer.relation(&relation()).unwrap();
            writer.relation(&relation()).unwrap();
        });
        assert_eq!(with_refused, without, "{format}");
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
    let ontology = ontology();
    for format in ExportFormat::ALL {
        let head = ExportHead {
            batch: "b",
            ontology: &ontology,
        };
        let ended =
            ExportWriter::new(&format.into(), head, |_| Ok(Closed)).and_then(ExportWriter::finish);
        let Err(ExportError::Write(cause)) = ended.map(|_| ()) else {
            panic!("{format} was written")
        };
        // Through whatever a format's crate makes of it.
        assert_eq!(cause.kind(), io::ErrorKind::BrokenPipe, "{format}");
    }
}

#[test]
fn formats_are_known_by_name() {
    for format in ExportFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
        let unknown = "xml".parse::<ExportFormat>().unwrap_err().to_string();
        let listed = format!("`{format}`");
        assert!(unknown.contains("`xml`") && unknown.contains(&listed));
    }
}

proptest! {
    #[test]
    fn any_name_comes_back_from_json_and_csv(name in "(?s).{0,24}", confidence in 0.0..=1.0_f32) {
        let mut row = entity("ent_1", &name);
        row.mentions.truncate(1);
        row.mentions[0].confidence = confidence;
        let value: Value =
            serde_json::from_str(&file(ExportFormat::Json, |writer| writer.entity(&row).unwrap())).unwrap();
        let outs = export(ExportFormat::Csv, |writer| writer.entity(&row).unwrap());
        let (json, mention) = (&value["entities"][0], &table(&outs, "mentions.csv")[0]);
        prop_assert_eq!(json["name"].as_str().unwrap(), &name);
        prop_assert_eq!(&table(&outs, "entities.csv")[0]["name"], &name);
        for found in [json["mentions"][0]["confidence"].to_string(), mention["confidence"].clone()] {
            prop_assert_eq!(found.parse::<f32>().unwrap().to_bits(), confidence.to_bits());
        }
    }
}
