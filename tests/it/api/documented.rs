//! The API and what it says of itself, against one another: every documented route is asked on a running server, and
//! answers with a status and a body that the document knows.

use std::collections::BTreeSet;

use super::*;

/// Whether `value` is what `schema` says; the part of JSON Schema that the document uses.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {value} is not {schema}"));
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#'));
        return fits(document, target.ok_or_else(|| format!("no {name}"))?, value);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(document, part, value)?;
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array()
            && !choices
                .iter()
                .any(|choice| fits(document, choice, value).is_ok())
        {
            return wrong(choice);
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_kind = kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number");
    if !kinds.is_empty() && !is_kind {
        return wrong("type");
    }
    if let Value::Object(object) = value {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(required.as_str().unwrap()) {
                return wrong(&format!("{required} is missing"));
            }
        }
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = object.get(name) {
                fits(document, of, value).map_err(|why| format!("{name}: {why}"))?;
            }
        }
    }
    if let Value::Array(items) = value
        && schema["items"].is_object()
    {
        for item in items {
            fits(document, &schema["items"], item)?;
        }
    }
    Ok(())
}

/// Names that an object may have by its schema.
fn documented_names(document: &Value, schema: &Value, known: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.trim_start_matches('#')).unwrap();
        return documented_names(document, target, known);
    }
    for part in ["allOf", "oneOf", "anyOf"] {
        for part in schema[part].as_array().into_iter().flatten() {
            documented_names(document, part, known);
        }
    }
    let properties = schema["properties"].as_object().into_iter().flatten();
    known.extend(properties.map(|(name, _)| name.clone()));
}

/// Every method of every path.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
        })
        .collect()
}

/// An answer is one that the document knows.
async fn check(document: &Value, operation: &Value, response: Response, what: &str) -> u16 {
    let status = response.status().as_u16();
    let told = &operation["responses"][status.to_string()];
    assert!(told.is_object(), "{what}: {status} is not documented");
    let kind = response.headers().get("content-type");
    let kind = kind.map(|kind| kind.to_str().unwrap().split(';').next().unwrap().to_owned());
    let text = response.text().await.unwrap();
    let Some(kind) = kind else {
        assert!(text.is_empty(), "{what}: {status}");
        return status;
    };
    let content = &told["content"][&kind];
    assert!(content.is_object(), "{what}: {status} with {kind}");
    if kind.ends_with("json") {
        let value: Value = serde_json::from_str(&text).unwrap();
        let schema = &content["schema"];
        fits(document, schema, &value).unwrap_or_else(|why| panic!("{what}: {status}: {why}"));
        let mut known = BTreeSet::new();
        documented_names(document, schema, &mut known);
        if kind == "application/json" && !known.is_empty() {
            for name in value.as_object().unwrap().keys() {
                assert!(known.contains(name), "{what}: `{name}` is not documented");
            }
        }
    }
    status
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one look at everything, with a list of what there must be"
)]
async fn every_documented_route_answers_as_documented() {
    let server = Server::with(&["--with-worker"]).await;
    let document = object(server.get("/openapi.json").await, 200).await;
    assert_eq!(document["openapi"], "3.1.0");
    let texts = [
        ("a/1", DOCUMENT),
        ("b", "Grace Hopper worked at Harvard University in 1944."),
    ];
    for name in ["one", "steered"] {
        let body = with(&documents(&texts), "name", json!(name));
        object(server.submit(&body).await, 201).await;
        server.ended(name).await;
    }
    let open = with(&documents(&[]), "open", json!(true));
    let open = object(
        server.submit(&with(&open, "name", json!("open"))).await,
        201,
    )
    .await;
    let entities = object(server.get("/api/entities?batch=one").await, 200).await;
    let entity = entities["entities"][0]["entity_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cluster = entities["entities"][0]["cluster_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let executions = object(server.get("/api/batches/one/executions").await, 200).await;
    let execution = executions["executions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut asked = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|told| told.len() > 5),
            "{method} {path}"
        );
        let verb: Method = method.parse().unwrap();
        let batch = match (&*method, &*path) {
            ("GET", _) => "one".to_owned(),
            (_, path)
                if path.ends_with("/seal")
                    || path.ends_with("/pause")
                    || path.ends_with("/resume") =>
            {
                open["batch_id"].as_str().unwrap().to_owned()
            }
            _ => "steered".to_owned(),
        };
        let filled = |batch: &str, execution: &str, entity: &str, cluster: &str| {
            path.replace("{batch}", batch)
                .replace("{document}", "b")
                .replace("{execution}", execution)
                .replace("{entity}", entity)
                .replace("{cluster}", cluster)
        };
        let good = filled(&batch, &execution, &entity, &cluster);
        let query = if path == "/api/subgraph" {
            format!("?around={entity}")
        } else {
            String::new()
        };
        let body = match (&*method, &*path) {
            ("POST", "/api/batches" | "/api/batches/{batch}/documents") => {
                Some(documents(&[("new", "Alan Turing was born in London.")]))
            }
            ("POST", "/api/stream-tokens") => Some(json!({ "path": "/api/batches/one/events" })),
            ("POST", "/api/batches/{batch}/rerun") => Some(json!({ "from": "resolve" })),
            _ => None,
        };
        let what = format!("{method} {path}");
        let mut request = server.request(verb.clone(), &format!("{good}{query}"));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let status = check(&document, &operation, request.send().await.unwrap(), &what).await;
        // What it is for does happen; the execution that is signalled has ended.
        let refused = path.starts_with("/api/executions") && method == "POST"
            || path == "/api/batches/{batch}/cancel"
            || path == "/api/batches/{batch}/retry";
        assert_eq!(status >= 400, refused, "{what}: {status}");
        // Nobody's, nonsense, and another method.
        let nobody = filled("nobody", "nobody", "nobody", "nobody");
        for (verb, path, body) in [
            (verb.clone(), nobody.clone(), "{}"),
            (
                verb.clone(),
                format!("{good}?zanzibar=1&around=1"),
                "{\"zanzibar\"",
            ),
            (verb.clone(), format!("{good}?limit=0&around=1"), "[]"),
        ] {
            let request = server
                .request(verb, &path)
                .header("content-type", "application/json");
            let response = request.body(body).send().await.unwrap();
            check(
                &document,
                &operation,
                response,
                &format!("{what} as {path}"),
            )
            .await;
        }
        let response = server.request(Method::PATCH, &good).send().await.unwrap();
        assert_eq!(check(&document, &operation, response, &what).await, 405);
        asked.insert(what);
        for name in ["one", "steered"] {
            server.ended(name).await;
        }
    }
    // What the issue names is there, so that a route that fell off the router is noticed.
    for what in [
        "POST /api/batches",
        "GET /api/batches",
        "GET /api/batches/{batch}",
        "GET /api/batches/{batch}/executions",
        "GET /api/batches/{batch}/calls",
        "GET /api/batches/{batch}/cost",
        "GET /api/batches/{batch}/export",
        "POST /api/batches/{batch}/cancel",
        "POST /api/batches/{batch}/pause",
        "POST /api/batches/{batch}/resume",
        "POST /api/batches/{batch}/retry",
        "POST /api/batches/{batch}/seal",
        "POST /api/batches/{batch}/documents",
        "DELETE /api/batches/{batch}/documents/{document}",
        "GET /api/executions/{execution}",
        "POST /api/executions/{execution}/cancel",
        "GET /api/entities",
        "GET /api/entities/{entity}",
        "GET /api/relations",
        "GET /api/clusters/{cluster}",
        "GET /api/subgraph",
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
        "GET /docs",
    ] {
        assert!(asked.contains(what), "{what} is not served");
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let told = std::fs::read_to_string(folder.join("docs/HTTP.md")).unwrap();
    for what in &asked {
        assert!(
            told.contains(&format!("| `{what}` |")),
            "docs/HTTP.md leaves out {what}"
        );
    }
    assert_eq!(
        told.matches("\n| `").count(),
        asked.len(),
        "docs/HTTP.md tells of more"
    );
    let page = server.get("/docs").await;
    assert!(
        page.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let page = page.text().await.unwrap();
    for (path, ..) in operations(&document) {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
    }
    for outside in ["<script", "src=", "//cdn", "@import"] {
        assert!(
            !page.contains(outside),
            "the page needs nothing from outside: {outside}"
        );
    }
    server.stop();
}

#[test]
fn a_body_of_another_shape_is_found_out() {
    let document = json!({ "components": { "schemas": { "A": {
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": "array", "items": { "type": ["string", "null"] } } } } } } });
    let schema = json!({ "allOf": [{ "$ref": "#/components/schemas/A" }] });
    assert!(fits(&document, &schema, &json!({ "a": ["x", null] })).is_ok());
    for wrong in [
        json!([]),
        json!({}),
        json!({ "a": "x" }),
        json!({ "a": [1] }),
    ] {
        assert!(fits(&document, &schema, &wrong).is_err(), "{wrong}");
    }
}
