//! What is read out of RDF, and what is refused.

use crate::graph::{ClassId, NameLabel, Ontology, OntologyFormat};

const HEAD: &str = "@prefix : <http://x.org/o#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix foaf: <http://xmlns.com/foaf/0.1/> .
";

fn read(body: &str) -> (Ontology, String) {
    let (ontology, left_out) =
        Ontology::read(&format!("{HEAD}{body}"), OntologyFormat::Turtle).unwrap();
    let left_out: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    (ontology, left_out.join("\n"))
}

#[track_caller]
fn refused(body: &str, place: &str, wanted: &str) {
    let error = Ontology::read(&format!("{HEAD}{body}"), OntologyFormat::Turtle)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(place) && error.contains(wanted),
        "{error}"
    );
}

#[test]
fn classes_and_properties_become_an_ontology() {
    let (ontology, left_out) = read(
        "<http://x.org/o> a owl:Ontology ; rdfs:label \"Films\"@en .
:FilmDirector a owl:Class ; rdfs:subClassOf :Artist ; rdfs:comment \"Regie\"@de , \"Directs  films\"@en .
:Artist a owl:Class ; rdfs:subClassOf foaf:Person , [ a owl:Restriction ] .
:Film a rdfs:Class ; <urn:graphmill:label> \"MISC\" .
:Date a owl:Class .
:madeBy a owl:ObjectProperty ; rdfs:domain :Film ; rdfs:range [ owl:unionOf ( :Artist :FilmDirector ) ] .
:shownOn a owl:DatatypeProperty ; rdfs:domain :Film ; rdfs:range xsd:date .
:title a owl:DatatypeProperty ; rdfs:domain :Film ; rdfs:range xsd:string .
:relatedTo a owl:ObjectProperty .
",
    );
    assert_eq!((ontology.name.as_str(), ontology.version), ("Films", 1));
    let classes: Vec<&str> = ontology
        .classes
        .iter()
        .map(|class| class.id.as_str())
        .collect();
    assert_eq!(classes, ["artist", "film_director", "film", "date"]);
    assert_eq!(ontology.classes[1].description, "Directs films");
    assert_eq!(
        ontology.label_of(&ClassId::new("film_director")),
        Some(NameLabel::Per)
    );
    let relations: Vec<String> = ontology
        .relations
        .iter()
        .map(|relation| {
            let ids = |ids: &[ClassId]| {
                ids.iter()
                    .map(ClassId::as_str)
                    .collect::<Vec<_>>()
                    .join("|")
            };
            format!(
                "{}: {} -> {}",
                relation.id.as_str(),
                ids(&relation.domain),
                ids(&relation.range)
            )
        })
        .collect();
    assert_eq!(
        relations,
        [
            "made_by: film -> artist|film_director",
            "shown_on: film -> date",
            "related_to: artist|film|date -> artist|film|date",
        ]
    );
    assert!(
        left_out.contains("line 13: relation `title` was left out"),
        "{left_out}"
    );
    assert_eq!(left_out.lines().count(), 1, "{left_out}");
}

#[test]
fn a_second_parent_and_a_missing_one_are_left_out_with_a_word() {
    let (ontology, left_out) = read(
        ":A a owl:Class . :B a owl:Class .\n:C a owl:Class ; rdfs:subClassOf :B , :A , <http://y.org/D> .\n",
    );
    assert_eq!(ontology.classes[2].parent, Some(ClassId::new("b")));
    assert!(
        left_out.contains("line 7: class `c` has several superclasses"),
        "{left_out}"
    );
    assert!(left_out.contains("<http://y.org/D>"), "{left_out}");
}

#[test]
fn what_is_wrong_has_its_line() {
    refused(
        ":A a owl:Class ;;; x .\n",
        "line 6, column ",
        "this is not Turtle",
    );
    refused(
        ":A a owl:Class .\n:B a nope:Class .\n",
        "line 7, column ",
        "nope",
    );
    refused(
        ":A a owl:Class .\n<http://y.org/a> a owl:Class .\n",
        "line 7",
        "both be the class `a`",
    );
    refused(
        ":A a owl:Class .\n:r a owl:ObjectProperty ; rdfs:domain :A ; rdfs:range foaf:Agent .\n",
        "line 7",
        "<http://xmlns.com/foaf/0.1/Agent>, which is no class",
    );
    refused(
        ":A a owl:Class ; rdfs:subClassOf :B .\n:B a owl:Class ; rdfs:subClassOf :A .\n",
        "line 6",
        "`a` → `b` → `a`",
    );
    refused(
        ":A a owl:Class ; <urn:graphmill:label> \"X\" .\n",
        "line 6",
        "is no label",
    );
    refused("", "", "there is no class");
}

#[test]
fn xml_says_the_same() {
    let xml = "<?xml version=\"1.0\"?>
<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\" xmlns:owl=\"http://www.w3.org/2002/07/owl#\"
  xmlns:rdfs=\"http://www.w3.org/2000/01/rdf-schema#\">
  <owl:Class rdf:about=\"http://x.org/o#Person\"><rdfs:label>A person</rdfs:label></owl:Class>
  <owl:ObjectProperty rdf:about=\"http://x.org/o#knows\"/>
</rdf:RDF>";
    let (ontology, left_out) = Ontology::read(xml, OntologyFormat::RdfXml).unwrap();
    assert_eq!(ontology.classes[0].description, "A person");
    assert_eq!(ontology.classes[0].label, Some(NameLabel::Per));
    assert_eq!(ontology.relations[0].id.as_str(), "knows");
    assert!(left_out.is_empty());
    let broken = xml.replace("</owl:Class>", "</owl:Klass>");
    let error = Ontology::read(&broken, OntologyFormat::RdfXml)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("line 4, column "), "{error}");
}

#[test]
fn local_names_become_ids() {
    for (name, id) in [
        ("worksFor", "works_for"),
        ("WorksFor", "works_for"),
        ("works-for", "works_for"),
        ("HTTPServer", "http_server"),
        ("P19", "p19"),
        ("A_b", "a_b"),
    ] {
        assert_eq!(super::snake(name), id);
    }
}
