//! Turtle and JSON-LD, read back by parsers of others; both are the same graph.

use std::collections::BTreeSet;

use oxjsonld::JsonLdParser;
use oxrdf::{Quad, Term, Triple};
use oxttl::TurtleParser;
use proptest::prelude::*;

use super::{HOSTILE, entity, everything, export, file, hostile, ontology};
use crate::graph::export::{BaseIri, ExportFormat, ExportHead, ExportStyle, ExportWriter};

type Graph = BTreeSet<String>;

fn turtle(text: &str) -> Vec<Triple> {
    TurtleParser::new()
        .for_slice(text)
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Also checks that one pass is enough, which is what a reader of a large file has.
fn json_ld(text: &str) -> Vec<Triple> {
    JsonLdParser::new()
        .with_profile(oxjsonld::JsonLdProfile::Streaming)
        .for_slice(text)
        .map(|quad| {
            let quad: Quad = quad.unwrap_or_else(|error| panic!("{error}\n{text}"));
            Triple::new(quad.subject, quad.predicate, quad.object)
        })
        .collect()
}

fn graph(triples: &[Triple]) -> Graph {
    triples.iter().map(ToString::to_string).collect()
}

/// How many subjects have this class.
fn count(triples: &[Triple], class: &str) -> usize {
    let of = |triple: &&Triple| {
        triple.predicate.as_str().ends_with("#type")
            && matches!(&triple.object, Term::NamedNode(node) if node.as_str().ends_with(class))
    };
    triples.iter().filter(of).count()
}

/// Every literal of a property.
fn literals<'a>(triples: &'a [Triple], property: &'a str) -> Vec<&'a str> {
    let of = triples
        .iter()
        .filter(|triple| triple.predicate.as_str().ends_with(property));
    of.map(|triple| match &triple.object {
        Term::Literal(literal) => literal.value(),
        Term::NamedNode(_) | Term::BlankNode(_) => panic!("{triple}"),
    })
    .collect()
}

#[test]
fn both_are_the_same_graph_with_every_row_in_it() {
    let (turtle, json_ld) = (
        turtle(&file(ExportFormat::Turtle, everything)),
        json_ld(&file(ExportFormat::JsonLd, everything)),
    );
    assert_eq!(graph(&turtle), graph(&json_ld));
    for (class, wanted) in [
        ("vocabulary:Document", 1),
        ("vocabulary:Entity", 2),
        ("vocabulary:Mention", 4),
        ("#Statement", 1),
        ("vocabulary:Evidence", 1),
        ("oa#TextPositionSelector", 5),
        ("oa#TextQuoteSelector", 5),
        ("vocabulary:Cluster", 1),
        ("vocabulary:Link", 1),
        ("schema.org/Person", 3),
    ] {
        assert_eq!(count(&turtle, class), wanted, "{class}");
    }
    let graph = graph(&turtle);
    for wanted in [
        "<urn:graphmill:ent_1> <urn:graphmill:relation/knows> <urn:graphmill:ent_2>",
        "<urn:graphmill:rel_1> <http://www.w3.org/1999/02/22-rdf-syntax-ns#predicate> <urn:graphmill:relation/knows>",
        "<urn:graphmill:rel_1> <http://www.w3.org/ns/prov#wasDerivedFrom> <urn:graphmill:rel_1-evidence-1>",
        "<urn:graphmill:rel_1> <urn:graphmill:vocabulary:confidence> \"0.7\"^^<http://www.w3.org/2001/XMLSchema#decimal>",
        "<urn:graphmill:rel_1-evidence-1> <http://www.w3.org/ns/oa#hasSource> <urn:graphmill:doc_1>",
        "<urn:graphmill:rel_1-evidence-1-selector> <http://www.w3.org/ns/oa#end> \"18\"^^<http://www.w3.org/2001/XMLSchema#integer>",
        "<urn:graphmill:ent_2> <http://www.w3.org/ns/prov#specializationOf> <urn:graphmill:clu_1>",
        "<urn:graphmill:link_1> <urn:graphmill:vocabulary:between> <urn:graphmill:ent_1>",
        "<urn:graphmill:link_1> <urn:graphmill:vocabulary:between> <urn:graphmill:ent_2>",
        "<urn:graphmill:link_1> <urn:graphmill:vocabulary:score> \"0.8\"^^<http://www.w3.org/2001/XMLSchema#decimal>",
        "<urn:graphmill:link_1> <urn:graphmill:vocabulary:status> \"proposed\"",
        "<urn:graphmill:doc_1> <http://purl.org/dc/terms/identifier> \"a.txt\"",
        "<https://schema.org/Person> <http://www.w3.org/2000/01/rdf-schema#label> \"person\"",
    ] {
        assert!(graph.contains(wanted), "{wanted} is missing: {graph:#?}");
    }
}

#[test]
fn hostile_names_come_back() {
    let turtle = turtle(&file(ExportFormat::Turtle, hostile));
    let json_ld = json_ld(&file(ExportFormat::JsonLd, hostile));
    assert_eq!(graph(&turtle), graph(&json_ld));
    let [labels, quotes, documents] =
        ["#label", "oa#exact", "identifier"].map(|property| literals(&turtle, property));
    for name in HOSTILE {
        assert!(labels.contains(&name) && quotes.contains(&name) && documents.contains(&name));
    }
    // Names never become one IRI, nor leave theirs.
    let predicates: BTreeSet<&str> = turtle
        .iter()
        .filter(|triple| {
            triple
                .predicate
                .as_str()
                .starts_with("urn:graphmill:relation/")
        })
        .map(|triple| triple.predicate.as_str())
        .collect();
    assert_eq!(predicates.len(), HOSTILE.len(), "{predicates:#?}");
}

#[test]
fn names_of_an_ontology_become_iris() {
    let turtle = graph(&turtle(&file(ExportFormat::Turtle, |_| ())));
    assert_eq!(turtle, graph(&json_ld(&file(ExportFormat::JsonLd, |_| ()))));
    let text = turtle.into_iter().collect::<Vec<_>>().join("\n");
    for wanted in [
        "<urn:x:greater> ",
        "<urn:graphmill:class/a%2Fb%3Ac%25d%60%5Cu0060> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <https://schema.org/Person>",
        "<urn:graphmill:relation/knows> ",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing:\n{text}");
    }
}

#[test]
fn a_base_is_what_iris_begin_with() {
    let ontology = ontology();
    let exported = |base: &str, format| {
        let style = ExportStyle {
            format,
            base: base.parse().unwrap(),
        };
        let head = ExportHead {
            batch: "batch_1",
            ontology: &ontology,
        };
        let mut writer = ExportWriter::new(&style, head, |_| Ok(Vec::new())).unwrap();
        everything(&mut writer);
        String::from_utf8(writer.finish().unwrap().remove(0)).unwrap()
    };
    for base in [
        "https://example.org/kg/",
        "https://example.org/größe#",
        "urn:x:",
    ] {
        let turtle = graph(&turtle(&exported(base, ExportFormat::Turtle)));
        assert_eq!(
            turtle,
            graph(&json_ld(&exported(base, ExportFormat::JsonLd)))
        );
        let wanted = format!("<{base}ent_1> <{base}relation/knows> <{base}ent_2>");
        assert!(turtle.contains(&wanted), "{wanted} is missing: {turtle:#?}");
    }
    for (bad, why) in [
        ("graph/", "begins with"),
        // JSON-LD would take them for prefixes.
        ("class:", "begins with"),
        ("http://a b/", "begins with"),
        ("http://example.org/\"/", "begins with"),
        ("https://example.org", "does not end in"),
        ("", "begins with"),
    ] {
        let said = bad.parse::<BaseIri>().unwrap_err().to_string();
        assert!(said.contains(why), "{bad}: {said}");
    }
}

proptest! {
    #[test]
    fn any_name_comes_back(name in "(?s).{0,24}", class in "(?s).{0,12}", confidence in 0.0..=1.0_f32) {
        let mut row = entity("ent_1", &name);
        row.class = class;
        row.mentions[0].confidence = confidence;
        let write = |format| {
            let bytes = export(format, |writer| writer.entity(&row).unwrap()).remove(0);
            String::from_utf8(bytes).unwrap()
        };
        let turtle = turtle(&write(ExportFormat::Turtle));
        prop_assert_eq!(graph(&turtle), graph(&json_ld(&write(ExportFormat::JsonLd))));
        prop_assert!(literals(&turtle, "#label").contains(&&*name));
        let found = literals(&turtle, "vocabulary:confidence")[0].parse::<f32>().unwrap();
        prop_assert_eq!(found.to_bits(), confidence.to_bits());
    }
}
