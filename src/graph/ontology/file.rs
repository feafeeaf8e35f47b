//! An ontology's TOML, read key by key, so that each flaw has its line and none hides the next.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Flaw, NameLabel, OntologyError,
    check::{Draft, DraftClass, DraftRelation, Placed, is_exportable, nearest},
};

const TOP: &[&str] = &["name", "version", "class", "relation"];
const CLASS: &[&str] = &["id", "parent", "label", "description", "iri"];
const RELATION: &[&str] = &["id", "domain", "range", "description", "iri"];
const LABELS: &str = "PER, ORG, LOC or MISC";

/// Reads a draft and the flaws that it has in itself. What is not TOML at all is an error at once.
pub(super) fn read(text: &str) -> Result<(Draft, Vec<Flaw>), OntologyError> {
    let table = DeTable::parse(text).map_err(|error| OntologyError {
        flaws: vec![Flaw::new(
            error.span().map(|span| place(text, span.start)),
            format!("this is not TOML: {}", error.message()),
        )],
    })?;
    let mut reader = Reader {
        text,
        flaws: Vec::new(),
    };
    let top = reader.table("the ontology", table.get_ref(), 0, TOP);
    let mut draft = Draft {
        name: top
            .text(&mut reader, "name")
            .map_or_else(String::new, |name| name.value),
        version: top.version(&mut reader),
        ..Draft::default()
    };
    for (at, class) in top.tables(&mut reader, "class") {
        let class = reader.table("a [[class]]", class, at, CLASS);
        let id = class.text(&mut reader, "id");
        let parent = class.optional(&mut reader, "parent");
        let label = class
            .optional(&mut reader, "label")
            .and_then(|label| reader.label(&label));
        let description = class.text(&mut reader, "description");
        let iri = class.optional(&mut reader, "iri");
        let iri = iri.and_then(|iri| reader.iri(iri));
        if let (Some(id), Some(description)) = (id, description) {
            draft.classes.push(DraftClass {
                id,
                parent,
                label,
                description: description.value,
                iri,
            });
        }
    }
    for (at, relation) in top.tables(&mut reader, "relation") {
        let relation = reader.table("a [[relation]]", relation, at, RELATION);
        let id = relation.text(&mut reader, "id");
        let domain = relation.list(&mut reader, "domain");
        let range = relation.list(&mut reader, "range");
        let description = relation.text(&mut reader, "description");
        let iri = relation.optional(&mut reader, "iri");
        let iri = iri.and_then(|iri| reader.iri(iri));
        if let (Some(id), Some(domain), Some(range), Some(description)) =
            (id, domain, range, description)
        {
            draft.relations.push(DraftRelation {
                id,
                domain,
                range,
                description: description.value,
                iri,
            });
        }
    }
    Ok((draft, reader.flaws))
}

/// Line and column, from 1, of a byte.
pub(super) fn place(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &text[..byte];
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    (line, column)
}

struct Reader<'t> {
    text: &'t str,
    flaws: Vec<Flaw>,
}

/// A table whose fields are known.
struct Fields<'a, 't> {
    /// What it is, for people.
    what: &'static str,
    table: &'a DeTable<'t>,
    at: usize,
}

impl<'t> Reader<'t> {
    fn flaw(&mut self, at: usize, message: String) {
        let flaw = Flaw::new(Some(place(self.text, at)), message);
        self.flaws.push(flaw);
    }

    fn table<'a>(
        &mut self,
        what: &'static str,
        table: &'a DeTable<'t>,
        at: usize,
        known: &[&str],
    ) -> Fields<'a, 't> {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let remedy = nearest(name, known.iter().copied()).map_or_else(
                    || format!("known are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!("{what} has no field `{name}`: {remedy}");
                self.flaw(key.span().start, message);
            }
        }
        Fields { what, table, at }
    }

    fn label(&mut self, label: &Placed<String>) -> Option<NameLabel> {
        let found = match label.value.as_str() {
            "PER" => Some(NameLabel::Per),
            "ORG" => Some(NameLabel::Org),
            "LOC" => Some(NameLabel::Loc),
            "MISC" => Some(NameLabel::Misc),
            _ => None,
        };
        if found.is_none() {
            let message = format!("`{}` is no label: it is {LABELS}", label.value);
            self.flaws.push(Flaw::new(label.place, message));
        }
        found
    }

    fn iri(&mut self, iri: Placed<String>) -> Option<String> {
        if is_exportable(&iri.value) {
            return Some(iri.value);
        }
        let message = format!(
            "`{}` is no IRI that can be exported: it begins with http://, https:// or urn:",
            iri.value.escape_debug()
        );
        self.flaws.push(Flaw::new(iri.place, message));
        None
    }
}

impl<'a, 't> Fields<'a, 't> {
    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.table.get(name)
    }

    fn missing(&self, reader: &mut Reader<'t>, name: &str, remedy: &str) {
        let message = format!("{} has no `{name}`: {remedy}", self.what);
        reader.flaw(self.at, message);
    }

    /// A text that must be there and say something.
    fn text(&self, reader: &mut Reader<'t>, name: &str) -> Option<Placed<String>> {
        let Some(value) = self.get(name) else {
            self.missing(reader, name, &format!("add {name} = \"…\""));
            return None;
        };
        let text = text_of(reader, name, value)?;
        if text.value.trim().is_empty() {
            let message = format!("the `{name}` of {} is empty", self.what);
            reader.flaw(value.span().start, message);
            return None;
        }
        Some(text)
    }

    fn optional(&self, reader: &mut Reader<'t>, name: &str) -> Option<Placed<String>> {
        text_of(reader, name, self.get(name)?)
    }

    fn version(&self, reader: &mut Reader<'t>) -> u32 {
        let Some(value) = self.get("version") else {
            self.missing(reader, "version", "add version = 1");
            return 0;
        };
        let number = if let DeValue::Integer(number) = value.get_ref() {
            u32::from_str_radix(number.as_str(), number.radix()).ok()
        } else {
            None
        };
        let version = number.filter(|version| (1..=i32::MAX.unsigned_abs()).contains(version));
        if version.is_none() {
            let message = "`version` is a whole number from 1".to_owned();
            reader.flaw(value.span().start, message);
        }
        version.unwrap_or(0)
    }

    /// A list of texts that must be there.
    fn list(&self, reader: &mut Reader<'t>, name: &str) -> Option<Placed<Vec<Placed<String>>>> {
        let Some(value) = self.get(name) else {
            let remedy = format!("add {name} = [\"…\"] with the classes that it may have there");
            self.missing(reader, name, &remedy);
            return None;
        };
        let DeValue::Array(array) = value.get_ref() else {
            let message = format!("`{name}` is a list: write {name} = [\"…\"]");
            reader.flaw(value.span().start, message);
            return None;
        };
        let items = array
            .iter()
            .filter_map(|item| text_of(reader, name, item))
            .collect();
        Some(Placed {
            value: items,
            place: Some(place(reader.text, value.span().start)),
        })
    }

    /// The tables of an array of them, each with its place.
    fn tables(&self, reader: &mut Reader<'t>, name: &str) -> Vec<(usize, &'a DeTable<'t>)> {
        let Some(value) = self.get(name) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        if let DeValue::Array(array) = value.get_ref() {
            for item in array {
                if let DeValue::Table(table) = item.get_ref() {
                    tables.push((item.span().start, table));
                } else {
                    reader.flaw(
                        item.span().start,
                        format!("each {name} is a table: [[{name}]]"),
                    );
                }
            }
        } else {
            let message = format!("`{name}` is a list of tables: write [[{name}]] above each");
            reader.flaw(value.span().start, message);
        }
        tables
    }
}

fn text_of(
    reader: &mut Reader<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<Placed<String>> {
    let DeValue::String(text) = value.get_ref() else {
        let message = format!("`{name}` is a text: put it into quotation marks");
        reader.flaw(value.span().start, message);
        return None;
    };
    Some(Placed {
        value: text.to_string(),
        place: Some(place(reader.text, value.span().start)),
    })
}

#[cfg(test)]
mod tests {
    use crate::graph::Ontology;

    const HEAD: &str = "name = \"x\"\nversion = 1\n";
    const PERSON: &str = "[[class]]\nid = \"person\"\ndescription = \"people\"\n";

    #[track_caller]
    fn refused(text: &str, wanted: &[&str]) {
        let error = Ontology::from_toml(text).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), wanted.len(), "{error}");
        for (line, wanted) in lines.iter().zip(wanted) {
            let (place, words) = wanted.split_once(": ").unwrap();
            assert!(
                line.starts_with(place) && line.contains(words),
                "{line}\nis not\n{wanted}"
            );
        }
    }

    #[test]
    fn each_flaw_has_its_place_and_its_remedy() {
        let with = |more: &str| format!("{HEAD}{PERSON}{more}");
        refused(
            "name = \"x\"\nversion = = 1\n",
            &["line 2, column 11: this is not TOML"],
        );
        refused(
            &with("[[class]]\nid = \"a\"\ndescrption = \"x\"\n"),
            &[
                "line 6, column 1: has no `description`",
                "line 8, column 1: did you mean `description`?",
            ],
        );
        refused(
            &format!("{HEAD}colour = 2\n{PERSON}"),
            &["line 3, column 1: known are name, version, class, relation"],
        );
        refused(
            &with("[[class]]\nid = \"a b\"\ndescription = \"x\"\n"),
            &["line 7, column 6: write `a_b`"],
        );
        refused(
            &with(&format!(
                "[[class]]\nid = \"{}\"\ndescription = \"x\"\n",
                "a".repeat(101)
            )),
            &["line 7, column 6: 1 to 100 characters"],
        );
        refused(
            &with("[[class]]\nid = \"a\"\nparent = \"persn\"\ndescription = \"x\"\n"),
            &["line 8, column 10: did you mean `person`?"],
        );
        refused(
            &with(
                "[[relation]]\nid = \"r\"\ndomain = [\"person\"]\nrange = [\"robot\"]\ndescription = \"x\"\n",
            ),
            &["line 9, column 10: the class `robot`, which is not defined: define it"],
        );
        refused(
            &with(
                "[[relation]]\nid = \"r\"\ndomain = []\nrange = \"person\"\ndescription = \"x\"\n",
            ),
            &["line 9, column 9: `range` is a list"],
        );
        refused(
            &with(
                "[[relation]]\nid = \"r\"\ndomain = []\nrange = [\"person\"]\ndescription = \"x\"\n",
            ),
            &["line 8, column 10: the domain of relation `r` is empty"],
        );
        refused(
            &with(PERSON),
            &["line 7, column 6: defined twice, first in line 4"],
        );
        refused(
            &with("[[class]]\nid = \"a\"\nlabel = \"PERSON\"\ndescription = \"x\"\n"),
            &["line 8, column 9: it is PER, ORG, LOC or MISC"],
        );
        refused(
            &with(
                "[[class]]\nid = \"a\"\nparent = \"b\"\ndescription = \"x\"\n[[class]]\nid = \"b\"\nparent = \"a\"\ndescription = \"x\"\n",
            ),
            &["line 8, column 10: `a` → `b` → `a`"],
        );
        refused(HEAD, &["there: is no class"]);
        refused(
            &format!("name = 5\nversion = 0\n{PERSON}"),
            &["line 1, column 8: put it into", "line 2, column 11: from 1"],
        );
    }

    #[test]
    fn a_parent_may_come_after_its_child() {
        let text = format!(
            "{HEAD}[[class]]\nid = \"poet\"\nparent = \"artist\"\ndescription = \"x\"\n[[class]]\nid = \"artist\"\n\
             parent = \"person\"\ndescription = \"x\"\n{PERSON}"
        );
        let ontology = Ontology::from_toml(&text).unwrap();
        let order: Vec<&str> = ontology
            .classes
            .iter()
            .map(|class| class.id.as_str())
            .collect();
        assert_eq!(order, ["person", "artist", "poet"]);
    }
}
