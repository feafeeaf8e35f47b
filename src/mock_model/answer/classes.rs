//! Classes of mentions: the one whose name goes without saying for a label, else the first that is allowed.

use serde_json::{Value, json};

use super::block;

/// For each label the names that a class of that kind usually has.
const OBVIOUS: [(&str, &[&str]); 4] = [
    ("PER", &["person", "per", "human", "people"]),
    ("ORG", &["organization", "organisation", "org", "company"]),
    ("LOC", &["location", "loc", "place", "country", "city"]),
    ("MISC", &["thing", "misc", "miscellaneous", "other"]),
];

/// The answer to a prompt with `<mentions>`; the classes are there or in the system message.
pub(super) fn answer(prompt: &str, system: &str) -> Value {
    let classes = block::find(prompt, "classes").or_else(|| block::find(system, "classes"));
    let classes: Vec<&str> = classes.unwrap_or_default().lines().filter_map(id).collect();
    let mentions = block::find(prompt, "mentions").unwrap_or_default();
    let classes: Vec<Value> = mentions
        .lines()
        .filter_map(|line| {
            let (number, rest) = block::numbered(line)?;
            let class = class(label(rest), &classes)?;
            Some(json!({"mention": number, "class": class}))
        })
        .collect();
    json!({"classes": classes})
}

/// The id in `- id: description`.
fn id(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("- ")?;
    let end = rest.find([':', ' ', '(']).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|id| !id.is_empty())
}

/// The label in `"Angela Merkel" [PER] in: …`.
fn label(rest: &str) -> &str {
    let inside = rest.split_once("\" [").map(|(_, after)| after);
    inside
        .and_then(|after| after.split_once(']'))
        .map_or("", |(label, _)| label)
}

fn class<'a>(label: &str, classes: &[&'a str]) -> Option<&'a str> {
    let names = OBVIOUS.iter().find(|(known, _)| *known == label);
    let obvious = names
        .into_iter()
        .flat_map(|(_, names)| *names)
        .find_map(|name| classes.iter().find(|class| *class == name));
    obvious.or_else(|| classes.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_its_obvious_class() {
        let answer = answer(
            "<mentions>\n1. \"Angela Merkel\" [PER] in: Angela Merkel met\n2. \"EU\" [ORG] in: the EU\n</mentions>\n\
             <classes>\n- location: a place\n- person: a human\n</classes>",
            "",
        );
        let wanted = json!({"classes": [{"mention": 1, "class": "person"}, {"mention": 2, "class": "location"}]});
        assert_eq!(answer, wanted);
    }
}
