//! What a strict schema must keep to, by the rules of the service that invented it.
//!
//! **Source:** `OpenAI`'s guide to structured outputs: every property required, no additional ones, and bounds on size.

use serde_json::Value;

/// Properties that a schema may have in all.
const PROPERTIES: usize = 5_000;
/// Values that its enums may have in all.
const ENUM_VALUES: usize = 1_000;
/// Objects and arrays in one another.
const DEPTH: usize = 10;

/// What is wrong with a schema that is to be kept to strictly.
pub(super) fn complaint(schema: &Value) -> Option<String> {
    let mut count = Count::default();
    look(schema, "", 0, &mut count)
        .or_else(|| {
            (count.properties > PROPERTIES)
                .then(|| format!("{} properties, at most {PROPERTIES}", count.properties))
        })
        .or_else(|| {
            (count.enum_values > ENUM_VALUES)
                .then(|| format!("{} enum values, at most {ENUM_VALUES}", count.enum_values))
        })
}

#[derive(Default)]
struct Count {
    properties: usize,
    enum_values: usize,
}

fn look(schema: &Value, place: &str, depth: usize, count: &mut Count) -> Option<String> {
    if depth > DEPTH {
        return Some(format!("In context=({place}), nested too deeply."));
    }
    count.enum_values += schema["enum"].as_array().map_or(0, Vec::len);
    if let Some(properties) = schema["properties"].as_object() {
        count.properties += properties.len();
        if schema["additionalProperties"] != Value::Bool(false) {
            return Some(format!(
                "In context=({place}), 'additionalProperties' is required to be supplied and to be false."
            ));
        }
        let required = schema["required"].as_array();
        let is_required =
            |name: &str| required.is_some_and(|names| names.iter().any(|known| known == name));
        if let Some(name) = properties.keys().find(|name| !is_required(name)) {
            return Some(format!(
                "In context=({place}), 'required' is required to be supplied and to be an array including every key \
                 in properties. Missing '{name}'."
            ));
        }
        for (name, inner) in properties {
            let found = look(inner, &format!("{place}/{name}"), depth + 1, count);
            if found.is_some() {
                return found;
            }
        }
    }
    let items = schema.get("items").into_iter();
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let definitions = schema["$defs"]
        .as_object()
        .into_iter()
        .flat_map(|defs| defs.values());
    items
        .chain(choices)
        .chain(definitions)
        .find_map(|inner| look(inner, place, depth + 1, count))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_strict_schema_is_held_to_its_rules() {
        let item = json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {}}});
        let list = |item: &Value| {
            json!({"type": "object", "additionalProperties": false, "required": ["list"],
                "properties": {"list": {"type": "array", "items": item}}})
        };
        assert_eq!(complaint(&list(&item)), None);
        let mut open = item.clone();
        open["additionalProperties"] = json!(true);
        assert!(
            complaint(&list(&open))
                .unwrap()
                .contains("additionalProperties")
        );
        let mut optional = item.clone();
        optional["required"] = json!([]);
        assert!(complaint(&list(&optional)).unwrap().contains("Missing 'a'"));
        let many: Vec<u32> = (0..1001).collect();
        assert!(
            complaint(&json!({"enum": many}))
                .unwrap()
                .contains("enum values")
        );
    }
}
