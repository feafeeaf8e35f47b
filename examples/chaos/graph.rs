//! A graph without its ids, so that the graphs of two runs can be compared.

use std::collections::HashMap;

use serde_json::{Value, json};

/// An export with every id replaced by what it stands for, sorted.
pub(crate) fn without_ids(export: &Value) -> Value {
    let list = |name: &str| export[name].as_array().cloned().unwrap_or_default();
    let mut stands_for: HashMap<String, Value> = HashMap::new();
    let mut entities = Vec::new();
    for mut entity in list("entities") {
        let id = taken(&mut entity, "id");
        let first = &entity["mentions"][0]["start"];
        let stands = json!([entity["document"], entity["name"], first]);
        stands_for.insert(id, stands);
        entities.push(entity);
    }
    // An id that no entity has stands for itself, and is seen in the comparison.
    let named = |id: &Value| {
        let known = id.as_str().and_then(|id| stands_for.get(id));
        known.unwrap_or(id).clone()
    };
    let mut relations = Vec::new();
    for mut relation in list("relations") {
        relation["subject"] = named(&relation["subject"]);
        relation["object"] = named(&relation["object"]);
        taken(&mut relation, "id");
        relations.push(relation);
    }
    let mut clusters = Vec::new();
    for mut cluster in list("clusters") {
        let members = cluster["members"].as_array().cloned().unwrap_or_default();
        let mut members: Vec<Value> = members.iter().map(named).collect();
        members.sort_by_cached_key(Value::to_string);
        cluster["members"] = members.into();
        taken(&mut cluster, "id");
        clusters.push(cluster);
    }
    for list in [&mut entities, &mut relations, &mut clusters] {
        list.sort_by_cached_key(Value::to_string);
    }
    json!({ "entities": entities, "relations": relations, "clusters": clusters })
}

fn taken(value: &mut Value, key: &str) -> String {
    let taken = value
        .as_object_mut()
        .and_then(|object| object.remove(key))
        .unwrap_or_default();
    taken.as_str().unwrap_or_default().to_owned()
}
