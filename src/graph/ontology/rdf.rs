//! An ontology in RDF: RDFS and OWL classes and properties, in Turtle or RDF/XML.
//!
//! What RDF says and an ontology of ours has no place for (restrictions, imports, second parents) is left out with a
//! word about it; what would change what can be found is refused. Ids are local names in snake case. A class has the
//! label that its own name or a well-known superclass suggests, or the one that `<urn:graphmill:label>` gives.

use std::collections::{BTreeMap, HashMap, HashSet};

use oxrdf::{NamedOrBlankNode, Term, Triple};
use oxrdfxml::RdfXmlParser;
use oxttl::TurtleParser;

use super::{
    Flaw, NameLabel, Ontology, OntologyError,
    check::{self, Draft, DraftClass, DraftRelation, Place, Placed, is_exportable},
    file::place,
};

const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const RDFS: &str = "http://www.w3.org/2000/01/rdf-schema#";
const OWL: &str = "http://www.w3.org/2002/07/owl#";
const XSD: &str = "http://www.w3.org/2001/XMLSchema#";
const SKOS: &str = "http://www.w3.org/2004/02/skos/core#";
const LABEL: &str = "urn:graphmill:label";

type Read = Result<Vec<(Triple, Place)>, OntologyError>;

/// The statements of a Turtle file, each with the line that it ends in.
pub(super) fn turtle(text: &str) -> Read {
    let mut parser = TurtleParser::new().low_level();
    let mut triples = Vec::new();
    let mut lines = text.split_inclusive('\n').enumerate();
    let mut line = 0;
    while !parser.is_end() {
        // Line by line, for the parser tells the places of errors alone.
        match lines.next() {
            Some((number, bytes)) => {
                line = number + 1;
                parser.extend_from_slice(bytes.as_bytes());
            }
            None => parser.end(),
        }
        while let Some(triple) = parser.parse_next() {
            let triple = triple.map_err(|error| {
                let start = error.location().start;
                let number = |n: u64| usize::try_from(n).unwrap_or(0) + 1;
                let place = Some((number(start.line), number(start.column)));
                refused(place, format!("this is not Turtle: {}", error.message()))
            })?;
            triples.push((triple, Some((line, 0))));
        }
    }
    Ok(triples)
}

/// The statements of an RDF/XML file, each with the line that it ends in.
pub(super) fn xml(text: &str) -> Read {
    let mut parser = RdfXmlParser::new().for_slice(text.as_bytes());
    let mut triples = Vec::new();
    loop {
        let next = parser.next();
        let byte = usize::try_from(parser.buffer_position()).unwrap_or(text.len());
        let (line, column) = place(text, byte);
        match next {
            None => return Ok(triples),
            Some(Ok(triple)) => triples.push((triple, Some((line, 0)))),
            Some(Err(error)) => {
                let message = format!("this is not RDF/XML: {error}");
                return Err(refused(Some((line, column)), message));
            }
        }
    }
}

fn refused(place: Place, message: String) -> OntologyError {
    OntologyError {
        flaws: vec![Flaw::new(place, message)],
    }
}

/// What is said about one subject, in the file's order.
#[derive(Default)]
struct Node {
    place: Place,
    said: Vec<(String, Term)>,
}

impl Node {
    fn objects<'a>(&'a self, predicate: &'a str) -> impl Iterator<Item = &'a Term> {
        self.said
            .iter()
            .filter(move |(said, _)| said == predicate)
            .map(|(_, object)| object)
    }

    fn is(&self, types: &[String]) -> bool {
        self.objects(&format!("{RDF}type"))
            .any(|object| matches!(object, Term::NamedNode(node) if types.iter().any(|wanted| wanted == node.as_str())))
    }

    /// What one of these predicates says: in English, or in no language, or in whichever is first.
    fn words(&self, predicates: &[String]) -> Option<String> {
        predicates.iter().find_map(|predicate| {
            let literals = self.objects(predicate).filter_map(|object| match object {
                Term::Literal(literal) => Some(literal),
                Term::NamedNode(_) | Term::BlankNode(_) => None,
            });
            literals
                .min_by_key(|literal| match literal.language() {
                    Some("en") => 0,
                    Some(language) if language.starts_with("en-") => 1,
                    None => 2,
                    Some(_) => 3,
                })
                .map(|literal| {
                    literal
                        .value()
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .filter(|words| !words.is_empty())
        })
    }
}

struct Graph {
    nodes: HashMap<String, Node>,
    /// The subjects in the file's order.
    order: Vec<String>,
}

/// Builds the ontology, and says what was left out.
pub(super) fn read(triples: Read) -> Result<(Ontology, Vec<Flaw>), OntologyError> {
    let mut graph = Graph {
        nodes: HashMap::new(),
        order: Vec::new(),
    };
    for (triple, place) in triples? {
        let subject = subject(&triple.subject);
        let node = graph.nodes.entry(subject.clone()).or_insert_with(|| {
            graph.order.push(subject);
            Node {
                place,
                said: Vec::new(),
            }
        });
        node.said
            .push((triple.predicate.into_string(), triple.object));
    }
    let (mut flaws, mut left_out) = (Vec::new(), Vec::new());
    let kinds = |names: &[&str]| -> Vec<String> { names.iter().map(|name| full(name)).collect() };
    let classes = graph.ids("class", &kinds(&["owl:Class", "rdfs:Class"]), &mut flaws);
    let relations = graph.ids(
        "relation",
        &kinds(&[
            "owl:ObjectProperty",
            "owl:DatatypeProperty",
            "owl:SymmetricProperty",
            "owl:TransitiveProperty",
            "owl:FunctionalProperty",
            "rdf:Property",
        ]),
        &mut flaws,
    );
    let mut draft = Draft {
        version: 1,
        ..graph.head()
    };
    draft.classes = classes
        .iter()
        .map(|(iri, id)| graph.class(iri, id, &classes, &mut flaws, &mut left_out))
        .collect();
    let roots: Vec<String> = draft
        .classes
        .iter()
        .filter(|class| class.parent.is_none())
        .map(|class| class.id.value.clone())
        .collect();
    for (iri, id) in &relations {
        if let Some(relation) = graph.relation(iri, id, &classes, &roots, &mut flaws, &mut left_out)
        {
            draft.relations.push(relation);
        }
    }
    Ok((check::checked(draft, flaws)?, left_out))
}

impl Graph {
    fn place(&self, iri: &str) -> Place {
        self.nodes.get(iri).and_then(|node| node.place)
    }

    /// The named subjects of these types with their ids, in the file's order.
    fn ids(&self, kind: &str, types: &[String], flaws: &mut Vec<Flaw>) -> Vec<(String, String)> {
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        let mut found = Vec::new();
        for iri in self.order.iter().filter(|iri| !iri.starts_with("_:")) {
            let is_theirs = iri.starts_with(OWL) || iri.starts_with(RDFS) || iri.starts_with(RDF);
            if is_theirs || !self.nodes.get(iri).is_some_and(|node| node.is(types)) {
                continue;
            }
            let id = snake(local(iri));
            if let Some(other) = taken.get(&id) {
                let message = format!(
                    "<{iri}> and <{other}> would both be the {kind} `{id}`: rename one of them, for ids are local names"
                );
                flaws.push(Flaw::new(self.place(iri), message));
                continue;
            }
            taken.insert(id.clone(), iri);
            found.push((iri.clone(), id));
        }
        found
    }

    /// Name and version, off the ontology's own node.
    fn head(&self) -> Draft {
        let own = self
            .order
            .iter()
            .filter_map(|iri| Some((iri, self.nodes.get(iri)?)))
            .find(|(_, node)| node.is(&[full("owl:Ontology")]));
        let titles = [
            full("rdfs:label"),
            "http://purl.org/dc/terms/title".to_owned(),
            "http://purl.org/dc/elements/1.1/title".to_owned(),
        ];
        let name = own.and_then(|(iri, node)| {
            let named =
                Some(snake(local(iri.trim_end_matches(['/', '#'])))).filter(|id| !id.is_empty());
            node.words(&titles).or(named)
        });
        Draft {
            name: name.unwrap_or_else(|| "ontology".to_owned()),
            ..Draft::default()
        }
    }

    fn class(
        &self,
        iri: &str,
        id: &str,
        classes: &[(String, String)],
        flaws: &mut Vec<Flaw>,
        left_out: &mut Vec<Flaw>,
    ) -> DraftClass {
        let place = self.place(iri);
        let (mut parents, mut label) = (Vec::new(), well_known(id));
        let node = self.nodes.get(iri);
        let above = [full("rdfs:subClassOf"), full("owl:equivalentClass")];
        for (predicate, object) in node.into_iter().flat_map(|node| &node.said) {
            // A superclass without a name is a restriction, which nothing here could check.
            let Term::NamedNode(object) = object else {
                continue;
            };
            if !above.contains(predicate) || object.as_str() == full("owl:Thing") {
                continue;
            }
            if let Some((_, parent)) = classes.iter().find(|(iri, _)| iri == object.as_str()) {
                if *predicate == above[0] {
                    parents.push(parent.clone());
                }
            } else if let Some(known) = well_known(&snake(local(object.as_str()))) {
                label = label.or(Some(known));
            } else {
                let message = format!(
                    "class `{id}`: its superclass <{}> is not defined in this file and was left out",
                    object.as_str()
                );
                left_out.push(Flaw::new(place, message));
            }
        }
        if parents.len() > 1 {
            let message = format!(
                "class `{id}` has several superclasses, and a class has one parent: `{}` was taken, {} left out",
                parents[0],
                parents[1..]
                    .iter()
                    .map(|id| format!("`{id}`"))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            left_out.push(Flaw::new(place, message));
        }
        if let Some(given) = node.and_then(|node| node.words(&[LABEL.to_owned()])) {
            label = match given.as_str() {
                "PER" => Some(NameLabel::Per),
                "ORG" => Some(NameLabel::Org),
                "LOC" => Some(NameLabel::Loc),
                "MISC" => Some(NameLabel::Misc),
                _ => {
                    let message =
                        format!("<{iri}>: `{given}` is no label: it is PER, ORG, LOC or MISC");
                    flaws.push(Flaw::new(place, message));
                    None
                }
            };
        }
        DraftClass {
            id: Placed {
                value: id.to_owned(),
                place,
            },
            parent: parents
                .into_iter()
                .next()
                .map(|value| Placed { value, place }),
            label,
            description: self.description(iri, id),
            iri: Some(iri.to_owned()).filter(|iri| is_exportable(iri)),
        }
    }

    fn relation(
        &self,
        iri: &str,
        id: &str,
        classes: &[(String, String)],
        roots: &[String],
        flaws: &mut Vec<Flaw>,
        left_out: &mut Vec<Flaw>,
    ) -> Option<DraftRelation> {
        let place = self.place(iri);
        let mut ends = Vec::new();
        for (end, predicates) in [
            (
                "domain",
                [full("rdfs:domain"), full("schema:domainIncludes")],
            ),
            ("range", [full("rdfs:range"), full("schema:rangeIncludes")]),
        ] {
            let mut named = Vec::new();
            let node = self.nodes.get(iri)?;
            for predicate in &predicates {
                for object in node.objects(predicate) {
                    self.members(object, &mut named, &mut HashSet::new());
                }
            }
            let mut ids: Vec<String> = Vec::new();
            let open = named.is_empty() || named.contains(&full("owl:Thing"));
            for class in named.iter().filter(|class| **class != full("owl:Thing")) {
                if let Some((_, id)) = classes.iter().find(|(iri, _)| iri == class) {
                    ids.push(id.clone());
                } else if class.starts_with(XSD) || *class == format!("{RDFS}Literal") {
                    // A value is a thing of its own here, if the ontology has a class for it.
                    let value = value_class(local(class));
                    if let Some(id) =
                        value.filter(|id| classes.iter().any(|(_, known)| known == id))
                    {
                        ids.push(id.to_owned());
                    }
                } else {
                    let message = format!(
                        "<{iri}> has in its {end} <{class}>, which is no class of this file: define it"
                    );
                    flaws.push(Flaw::new(place, message));
                }
            }
            if open {
                ids.clone_from(&roots.to_vec());
            } else if ids.is_empty() && flaws.is_empty() {
                let message = format!(
                    "relation `{id}` was left out: its {end} is a datatype, and there is no class `date` or `quantity` for it"
                );
                left_out.push(Flaw::new(place, message));
                return None;
            }
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(id.clone()));
            let value = ids
                .into_iter()
                .map(|value| Placed { value, place })
                .collect();
            ends.push(Placed { value, place });
        }
        let (range, domain) = (ends.pop()?, ends.pop()?);
        Some(DraftRelation {
            id: Placed {
                value: id.to_owned(),
                place,
            },
            domain,
            range,
            description: self.description(iri, id),
            iri: Some(iri.to_owned()).filter(|iri| is_exportable(iri)),
        })
    }

    /// The classes that a domain or range names, out of unions too.
    fn members(&self, object: &Term, named: &mut Vec<String>, passed: &mut HashSet<String>) {
        match object {
            Term::NamedNode(node) => named.push(node.as_str().to_owned()),
            Term::BlankNode(blank) => {
                // A list may be a ring, in a file that means ill.
                let mut open = vec![format!("_:{}", blank.as_str())];
                while let Some(key) = open.pop() {
                    let Some(node) = self.nodes.get(&key).filter(|_| passed.insert(key)) else {
                        continue;
                    };
                    for (predicate, object) in node.said.iter().rev() {
                        let within = [full("owl:unionOf"), full("rdf:first"), full("rdf:rest")];
                        match object {
                            Term::BlankNode(next) if within.contains(predicate) => {
                                open.push(format!("_:{}", next.as_str()));
                            }
                            Term::NamedNode(class) if *predicate == within[1] => {
                                named.push(class.as_str().to_owned());
                            }
                            Term::NamedNode(_) | Term::BlankNode(_) | Term::Literal(_) => {}
                        }
                    }
                }
            }
            Term::Literal(_) => {}
        }
    }

    fn description(&self, iri: &str, id: &str) -> String {
        let predicates = [
            format!("{SKOS}definition"),
            full("rdfs:comment"),
            "http://purl.org/dc/terms/description".to_owned(),
            full("rdfs:label"),
        ];
        self.nodes
            .get(iri)
            .and_then(|node| node.words(&predicates))
            .unwrap_or_else(|| id.replace('_', " "))
    }
}

fn subject(subject: &NamedOrBlankNode) -> String {
    match subject {
        NamedOrBlankNode::NamedNode(node) => node.as_str().to_owned(),
        NamedOrBlankNode::BlankNode(blank) => format!("_:{}", blank.as_str()),
    }
}

fn full(name: &str) -> String {
    let (prefix, rest) = name.split_once(':').unwrap_or(("", name));
    let space = match prefix {
        "rdf" => RDF,
        "rdfs" => RDFS,
        "owl" => OWL,
        "schema" => "https://schema.org/",
        _ => "",
    };
    format!("{space}{rest}")
}

/// What an IRI ends in.
fn local(iri: &str) -> &str {
    iri.rsplit(['#', '/', ':']).next().unwrap_or(iri)
}

/// `worksFor`, `WorksFor` and `works-for` are `works_for`; `HTTPServer` is `http_server`.
fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut id = String::with_capacity(name.len() + 4);
    for (index, &letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| letters[index]);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || before.is_uppercase()
                        && letters
                            .get(index + 1)
                            .is_some_and(|next| next.is_lowercase())
            });
        let parts = !letter.is_alphanumeric() || begins;
        if parts && !id.ends_with('_') && !id.is_empty() {
            id.push('_');
        }
        if letter.is_alphanumeric() {
            id.extend(letter.to_lowercase());
        }
    }
    id.trim_end_matches('_').to_owned()
}

/// The label of classes that are called so in any vocabulary (FOAF, schema.org, `DBpedia` …).
fn well_known(id: &str) -> Option<NameLabel> {
    match id {
        "person" | "human" | "human_being" => Some(NameLabel::Per),
        "organization" | "organisation" | "company" | "corporation" => Some(NameLabel::Org),
        "place" | "location" | "spatial_thing" | "populated_place" => Some(NameLabel::Loc),
        _ => None,
    }
}

fn value_class(datatype: &str) -> Option<&'static str> {
    match datatype {
        "date" | "dateTime" | "gYear" | "gYearMonth" | "dateTimeStamp" => Some("date"),
        "decimal" | "integer" | "int" | "long" | "float" | "double" | "nonNegativeInteger"
        | "positiveInteger" | "duration" => Some("quantity"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
