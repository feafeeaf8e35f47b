//! Relations between entities that follow one another in a sentence, where a relation type allows their classes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::block;

/// The answer to a prompt with `<text>` and `<entities>`; the relation types are there or in the system message.
pub(super) fn answer(prompt: &str, system: &str) -> Value {
    let text = block::find(prompt, "text").unwrap_or_default();
    let entities: Vec<Entity<'_>> = block::find(prompt, "entities")
        .unwrap_or_default()
        .lines()
        .filter_map(entity)
        .collect();
    let types = block::find(prompt, "relations").or_else(|| block::find(system, "relations"));
    let types: Vec<Type<'_>> = types
        .unwrap_or_default()
        .lines()
        .filter_map(relation_type)
        .collect();
    let places = places(text, &entities);
    let mut said = BTreeSet::new();
    let mut relations = Vec::new();
    for pair in places.windows(2) {
        let ((start, one), (next, other)) = (pair[0], pair[1]);
        let quote = &text[start..next + other.name.len()];
        if one.number == other.number || quote.contains(['.', '!', '?', '\n']) {
            continue;
        }
        let fitting = types.iter().find_map(|known| {
            [(one, other), (other, one)]
                .into_iter()
                .find(|(subject, object)| known.allows(subject.class, object.class))
                .map(|(subject, object)| (subject.number, known.id, object.number))
        });
        let Some((subject, predicate, object)) = fitting else {
            continue;
        };
        if said.insert((subject, predicate, object)) {
            relations.push(
                json!({"subject": subject, "predicate": predicate, "object": object, "quote": quote}),
            );
        }
    }
    json!({"relations": relations})
}

#[derive(Debug, Clone, Copy)]
struct Entity<'a> {
    number: u64,
    name: &'a str,
    class: &'a str,
}

/// `1. Angela Merkel (person)`
fn entity(line: &str) -> Option<Entity<'_>> {
    let (number, rest) = block::numbered(line)?;
    let (name, class) = rest.trim_end().strip_suffix(')')?.rsplit_once(" (")?;
    (!name.is_empty()).then_some(Entity {
        number,
        name,
        class,
    })
}

#[derive(Debug)]
struct Type<'a> {
    id: &'a str,
    domain: &'a str,
    range: &'a str,
}

/// `- works_for(person -> organization): …`; a side may name several classes.
fn relation_type(line: &str) -> Option<Type<'_>> {
    let (id, rest) = line.trim_start().strip_prefix("- ")?.split_once('(')?;
    let (domain, range) = rest.split_once(')')?.0.split_once("->")?;
    let id = id.trim();
    Some(Type { id, domain, range })
}

impl Type<'_> {
    fn allows(&self, subject: &str, object: &str) -> bool {
        let has = |side: &str, class: &str| {
            side.split([',', '|', '/', ' '])
                .any(|allowed| allowed == class || allowed == "*" || allowed == "any")
        };
        has(self.domain, subject) && has(self.range, object)
    }
}

/// Where the entities stand, in order; a longer name goes before one that is in it.
fn places<'a>(text: &str, entities: &[Entity<'a>]) -> Vec<(usize, Entity<'a>)> {
    let mut found: Vec<(usize, Entity<'a>)> = entities
        .iter()
        .flat_map(|entity| text.match_indices(entity.name).map(|(at, _)| (at, *entity)))
        .collect();
    found.sort_by_key(|(at, entity)| (*at, usize::MAX - entity.name.len(), entity.number));
    let mut end = 0;
    found.retain(|(at, entity)| {
        let free = *at >= end;
        if free {
            end = at + entity.name.len();
        }
        free
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_whose_classes_fit_are_related() {
        let answer = answer(
            "<text>\nIn Rome the Acme Corp hired Ann Lee. Ann Lee lives in Paris.\n</text>\n<entities>\n\
             1. Ann Lee (person)\n2. Acme Corp (organization)\n3. Paris (location)\n4. Rome (location)\n</entities>",
            "<relations>\n- works_for(person -> organization|group): \n- lives_in(person -> location): \n</relations>",
        );
        let wanted = json!({"relations": [
            {"subject": 1, "predicate": "works_for", "object": 2, "quote": "Acme Corp hired Ann Lee"},
            {"subject": 1, "predicate": "lives_in", "object": 3, "quote": "Ann Lee lives in Paris"},
        ]});
        assert_eq!(answer, wanted);
    }
}
