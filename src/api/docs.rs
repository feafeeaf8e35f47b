//! What the API says of itself: the `OpenAPI` document, and the same as a page for people.
//!
//! Both are made from the routes themselves, so that neither can say anything else than what is served. The page is
//! plain HTML that needs nothing from anywhere, not even a script.

use std::{fmt::Write, sync::LazyLock};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        Content, Ref, RefOr, Response as Told,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::State;

/// The routes of this file, which everybody may ask.
pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(openapi))
        .routes(routes!(page))
}

/// What stands above the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "graphmill",
        description = "Turns documents into a knowledge graph, durably. Ids are strings with a prefix that says of \
                       what (`batch_…`, `exec_…`, `entity_…`, `cluster_…`); where a batch is named in a path or a \
                       query, its name will do. Lists come in pages: `next` of one is `after` of the following. Every \
                       error is an RFC 9457 problem, and every answer has an `x-request-id`.",
    ),
    components(schemas(ProblemBody)),
    modifiers(&Keys),
    tags(
        (name = "batches", description = "Documents in, and how far they are"),
        (name = "executions", description = "One document's pass"),
        (name = "graph", description = "What was found"),
        (name = "live", description = "What happens, as it happens"),
        (name = "service", description = "The service itself")
    )
)]
pub(super) struct Above;

/// How a caller shows who it is.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key (`graphmill keys create`). Streams also take a short-lived token, as `?token=`.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
        let needed = SecurityRequirement::new("key", Vec::<String>::new());
        document.security = Some(vec![needed]);
    }
}

/// What went wrong, as RFC 9457 has it. Some problems have members of their own, for example `place`.
#[derive(Serialize, ToSchema)]
struct ProblemBody {
    /// `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The status.
    status: u16,
    /// What went wrong with this request, and what helps.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// The request's id, as in `x-request-id` and in the server's log.
    request_id: String,
}

/// Problems that any route may answer with.
const ANYWHERE: [(&str, &str); 6] = [
    ("401", "No key was shown, or one that is good no more"),
    ("403", "The key may not do this, or a quota is used up"),
    (
        "429",
        "The organization asks too often: `Retry-After` says when it may again",
    ),
    (
        "500",
        "The server failed; its log says why under the request's id",
    ),
    (
        "503",
        "Postgres or Redis does not answer, or there are too many requests: trying again helps",
    ),
    ("405", "The route exists, but not with this method"),
];

struct Pages {
    json: String,
    html: String,
}

static PAGES: LazyLock<Pages> = LazyLock::new(|| {
    let mut document = super::documented().into_openapi();
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        for operation in operations.into_iter().flatten() {
            finish(operation);
        }
    }
    let mut value = serde_json::to_value(&document).unwrap_or_default();
    loosen(&mut value);
    Pages {
        json: value.to_string(),
        html: html(&value),
    }
});

/// Every error is a problem, whatever the route says of it.
fn finish(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, description) in ANYWHERE {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(Told::new(description)));
    }
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(told) = response
            && status.as_str() >= "400"
        {
            let schema = Ref::from_schema_name("ProblemBody");
            told.content.insert(
                "application/problem+json".to_owned(),
                Content::new(Some(schema)),
            );
        }
    }
}

/// Members of a part that may be missing stand in the object itself, and none of them must be there: the document would
/// have the object be null or all of them.
fn loosen(document: &mut Value) {
    let shapes = document["components"]["schemas"].take();
    let mut loosened = shapes.clone();
    for shape in loosened
        .as_object_mut()
        .into_iter()
        .flat_map(|all| all.values_mut())
    {
        let parts = shape.get_mut("allOf").and_then(Value::as_array_mut);
        for part in parts.into_iter().flatten() {
            if part["oneOf"][0]["type"] == "null"
                && let Some(name) = part["oneOf"][1]["$ref"].as_str()
            {
                let name = name.rsplit('/').next().unwrap_or_default();
                let properties = shapes[name]["properties"].clone();
                *part = json!({ "type": "object", "properties": properties });
            }
        }
    }
    document["components"]["schemas"] = loosened;
}

/// This document: `OpenAPI` 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses(
    (status = 200, description = "The document", body = Object),
))]
async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], PAGES.json.as_str()).into_response()
}

/// The routes, for people.
#[utoipa::path(get, path = "/docs", tag = "service", responses(
    (status = 200, description = "A page", body = String, content_type = "text/html"),
))]
async fn page() -> Response {
    let policy = (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    ([policy], Html(PAGES.html.as_str())).into_response()
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>graphmill: HTTP API</title>\
<meta name=\"viewport\" content=\"width=device-width\"><style>\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f4f5f7;padding:.7rem;overflow:auto}\
details{border:1px solid #d8dce1;border-radius:6px;margin:.4rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem}\
td,th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}\
.get{color:#0a6}.post{color:#06c}.delete{color:#b00}</style></head><body>";

/// The document as a page.
fn html(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let text = |value: &Value| marked(value.as_str().unwrap_or_default());
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "<h1>{} {}</h1><p>{}</p><p><a href=\"/openapi.json\">openapi.json</a></p>",
        text(&document["info"]["title"]),
        text(&document["info"]["version"]),
        text(&document["info"]["description"])
    );
    let tags = document["tags"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for tag in tags {
        let _ = write!(
            page,
            "<h2>{}</h2><p>{}</p>",
            text(&tag["name"]),
            text(&tag["description"])
        );
        let paths = document["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if operation["tags"][0] == tag["name"] {
                    page.push_str(&described(path, method, operation));
                }
            }
        }
    }
    page.push_str("<h2>Shapes</h2>");
    let shapes = document["components"]["schemas"].as_object();
    for (name, shape) in shapes.into_iter().flatten() {
        let _ = write!(
            page,
            "<details id=\"{name}\"><summary><code>{name}</code> {}</summary><pre>{}</pre></details>",
            text(&shape["description"]),
            escaped(&serde_json::to_string_pretty(shape).unwrap_or_default())
        );
    }
    page.push_str("</body></html>");
    page
}

/// A route.
fn described(path: &str, method: &str, operation: &Value) -> String {
    let text = |value: &Value| marked(value.as_str().unwrap_or_default());
    let mut told = format!(
        "<details><summary><b class=\"{method}\">{}</b> <code>{}</code> {}</summary><p>{}</p>",
        method.to_uppercase(),
        escaped(path),
        text(&operation["summary"]),
        text(&operation["description"])
    );
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
        told.push_str("<table>");
        for parameter in parameters {
            let _ = write!(
                told,
                "<tr><td><code>{}</code><td>{}<td>{}",
                text(&parameter["name"]),
                text(&parameter["in"]),
                text(&parameter["description"])
            );
        }
        told.push_str("</table>");
    }
    let bodies = operation["requestBody"]["content"].as_object();
    for (kind, content) in bodies.into_iter().flatten() {
        let _ = write!(told, "<p>Body: <code>{kind}</code> {}</p>", shape(content));
    }
    told.push_str("<table>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let contents = response["content"].as_object().into_iter().flatten();
        let shapes: Vec<String> = contents
            .map(|(kind, content)| format!("<code>{}</code> {}", escaped(kind), shape(content)))
            .collect();
        let _ = write!(
            told,
            "<tr><td><code>{status}</code><td>{}<td>{}",
            text(&response["description"]),
            shapes.join("<br>")
        );
    }
    told.push_str("</table></details>");
    told
}

/// The name of a shape, with a link to it.
fn shape(content: &Value) -> String {
    let name = content["schema"]["$ref"]
        .as_str()
        .and_then(|of| of.rsplit('/').next());
    name.map_or_else(String::new, |name| {
        format!("<a href=\"#{name}\">{name}</a>")
    })
}

/// A text for people: what stands in backticks is code.
fn marked(text: &str) -> String {
    let text = escaped(text);
    let parts: Vec<&str> = text.split('`').collect();
    // One without its other is a backtick.
    if parts.len().is_multiple_of(2) {
        return text;
    }
    let mut marked = String::with_capacity(text.len());
    for (at, part) in parts.into_iter().enumerate() {
        let code = !at.is_multiple_of(2);
        marked.push_str(if code { "<code>" } else { "" });
        marked.push_str(part);
        marked.push_str(if code { "</code>" } else { "" });
    }
    marked
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_are_code_and_nothing_is_markup() {
        assert_eq!(
            marked("a `<b>` c `d`"),
            "a <code>&lt;b&gt;</code> c <code>d</code>"
        );
        assert_eq!(marked("one ` alone"), "one ` alone");
        assert_eq!(marked(""), "");
    }
}
