//! GraphML, read back by a parser of XML that knows nothing of ours.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quick_xml::{Reader, events::Event};

use super::{HOSTILE, entity, everything, file, hostile};
use crate::graph::export::ExportFormat;

/// A node or an edge: its attributes and its data, by name.
type Thing = BTreeMap<String, String>;

/// Nodes and edges. Fails if it isn't XML, holds a character that XML forbids, uses a key that isn't declared for it,
/// or has an edge before its nodes.
fn read(text: &str) -> (Vec<Thing>, Vec<Thing>) {
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    assert!(text.chars().all(is_allowed), "{text}");
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    let (mut nodes, mut edges): (Vec<Thing>, Vec<Thing>) = Default::default();
    let mut declared: BTreeMap<String, String> = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let (mut open, mut key): (Option<(String, Thing)>, Option<String>) = (None, None);
    loop {
        let event = reader.read_event().unwrap();
        match event {
            Event::Start(ref start) | Event::Empty(ref start) => {
                let attributes: Thing = start
                    .attributes()
                    .map(|attribute| {
                        let attribute = attribute.unwrap();
                        let name = String::from_utf8(attribute.key.0.to_vec()).unwrap();
                        (name, attribute.unescape_value().unwrap().into_owned())
                    })
                    .collect();
                match start.name().0 {
                    b"key" => {
                        declared.insert(attributes["id"].clone(), attributes["for"].clone());
                    }
                    b"node" => open = Some(("node".to_owned(), attributes)),
                    b"edge" => open = Some(("edge".to_owned(), attributes)),
                    b"data" => {
                        let of = &open.as_ref().unwrap().0;
                        let wanted = &declared[&attributes["key"]];
                        assert!(wanted == "all" || wanted == of, "{attributes:?} of {of}");
                        key = Some(attributes["key"].clone());
                    }
                    _ => {}
                }
            }
            Event::Text(part) => {
                if let (Some((_, thing)), Some(key)) = (&mut open, &key) {
                    thing.insert(key.clone(), part.unescape().unwrap().into_owned());
                }
            }
            Event::End(end) => match end.name().0 {
                b"data" => key = None,
                b"node" => {
                    let (_, node) = open.take().unwrap();
                    assert!(known.insert(node["id"].clone()), "{node:?} is there twice");
                    nodes.push(node);
                }
                b"edge" => {
                    let (_, edge) = open.take().unwrap();
                    assert!(known.contains(&edge["source"]) && known.contains(&edge["target"]));
                    edges.push(edge);
                }
                _ => {}
            },
            Event::Eof => return (nodes, edges),
            Event::Decl(_) => {}
            Event::CData(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {
                panic!("{event:?}")
            }
        }
    }
}

/// What XML 1.0 can say of a text.
fn sayable(text: &str) -> String {
    let instead = |c: char| match c {
        '\t' | '\n' | '\r' => c,
        '\0'..' ' | '\u{FFFE}' | '\u{FFFF}' => '\u{FFFD}',
        c => c,
    };
    text.chars().map(instead).collect()
}

#[test]
fn every_row_is_a_node_or_an_edge() {
    let (nodes, edges) = read(&file(ExportFormat::GraphMl, everything));
    let kinds = |things: &[Thing]| -> Vec<String> {
        things.iter().map(|thing| thing["kind"].clone()).collect()
    };
    assert_eq!(kinds(&nodes), ["document", "entity", "entity", "cluster"]);
    assert_eq!(
        kinds(&edges),
        [
            "in_document",
            "in_document",
            "relation",
            "member_of",
            "member_of",
            "same_as"
        ]
    );
    assert_eq!(nodes[1]["label"], "Ada");
    assert_eq!(nodes[1]["mention_count"], "2");
    let mentions: serde_json::Value = serde_json::from_str(&nodes[1]["mentions"]).unwrap();
    assert_eq!(mentions[1]["confidence"], 0.9);
    assert_eq!(
        (&*edges[2]["source"], &*edges[2]["target"]),
        ("ent_1", "ent_2")
    );
    assert_eq!(
        (&*edges[2]["label"], &*edges[2]["confidence"]),
        ("knows", "0.7")
    );
    let evidence: serde_json::Value = serde_json::from_str(&edges[2]["evidence"]).unwrap();
    assert_eq!(evidence[0]["text"], "Ada knew \"Bob\",\nwell");
    assert_eq!(nodes[3]["member_count"], "2");
    let said = ["source", "target", "score", "reason", "status"].map(|name| &*edges[5][name]);
    assert_eq!(said, ["ent_1", "ent_2", "0.8", "spelling", "proposed"]);
}

#[test]
fn a_link_to_another_batch_is_no_edge() {
    let (_, edges) = read(&file(ExportFormat::GraphMl, |writer| {
        let mut row = super::link();
        row.is_within = false;
        writer.link(&row).unwrap();
    }));
    assert_eq!(edges.len(), 0);
}

#[test]
fn hostile_names_come_back_as_far_as_xml_can_say_them() {
    let (nodes, edges) = read(&file(ExportFormat::GraphMl, hostile));
    assert_eq!(
        (nodes.len(), edges.len()),
        (HOSTILE.len() * 3, HOSTILE.len() * 3)
    );
    for (number, name) in HOSTILE.into_iter().enumerate() {
        let wanted = sayable(name);
        assert_eq!(nodes[number]["label"], wanted);
        let entity = &nodes[HOSTILE.len() + number];
        for key in ["label", "type", "document", "value"] {
            assert_eq!(entity[key], wanted, "{key}");
        }
        assert_eq!(edges[HOSTILE.len() + number]["label"], wanted);
        // JSON has escapes for what XML has not, up to U+FFFE.
        let mentions: serde_json::Value = serde_json::from_str(&entity["mentions"]).unwrap();
        let kept = name.replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}");
        assert_eq!(mentions[0]["text"], kept);
    }
}

proptest! {
    #[test]
    fn any_name_comes_back_as_far_as_xml_can_say_it(name in "(?s).{0,24}") {
        let row = entity("ent_1", &name);
        let text = file(ExportFormat::GraphMl, |writer| {
            writer.document(&super::document()).unwrap();
            writer.entity(&row).unwrap();
        });
        let (nodes, _) = read(&text);
        prop_assert_eq!(nodes[1].get("label").cloned().unwrap_or_default(), sayable(&name));
    }
}
