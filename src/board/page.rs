//! The board's files, which are in the binary, and what every answer says to browsers.
//!
//! Invariant: a page loads nothing from anywhere else, runs no script but the board's own, and is shown in no frame.

use std::sync::LazyLock;

use apalis_board::axum::ui::ServeUI;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// The one script of our own: it mends the table of queues.
const QUEUES: &str = "graphmill-queues.js";

/// The page, whatever its address: the program on it looks at that.
static INDEX: LazyLock<String> = LazyLock::new(|| {
    let file = ServeUI::get_file("index.html");
    let html = file
        .and_then(|file| file.contents_utf8())
        .unwrap_or_default();
    let mended = format!("<script src=\"/{QUEUES}\" defer></script></head>");
    html.replace(
        "<title>Apalis Board</title>",
        "<title>graphmill board</title>",
    )
    .replacen("</head>", &mended, 1)
});

/// What the page may load and run.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let scripts: Vec<String> = inline_scripts(&INDEX)
        .map(|script| format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(script))))
        .collect();
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{}; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
        scripts.concat()
    );
    HeaderValue::from_str(&policy).ok()
});

/// A file of the board, or its page.
pub(super) fn file(path: &str) -> Response {
    let name = path.trim_start_matches('/');
    if name == QUEUES {
        let kind = [
            (header::CONTENT_TYPE, ServeUI::content_type(name)),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        return (kind, include_str!("queues.js")).into_response();
    }
    match ServeUI::get_file(name).filter(|_| !matches!(name, "" | "index.html")) {
        Some(file) if file.path().to_str() == Some(name) => {
            let kept = ServeUI::cache_control(name).unwrap_or("no-cache");
            let kind = ServeUI::content_type(name);
            (
                [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)],
                // A file of the binary, whose lifetime its crate does not tell.
                file.contents().to_vec(),
            )
                .into_response()
        }
        Some(_) | None if name.contains('.') => {
            (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
        }
        Some(_) | None => {
            ([(header::CACHE_CONTROL, "no-cache")], Html(INDEX.as_str())).into_response()
        }
    }
}

/// Says what holds of every answer.
pub(super) async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(policy) = POLICY.as_ref() {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    // What was shown to one key must not be shown to whoever comes next.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The scripts that stand in a page.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let script = rest.split_once("</script>")?.0;
        (!attributes.contains("src=")).then_some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_boards_and_mends_its_table() {
        assert!(INDEX.contains("graphmill board"), "{}", *INDEX);
        let scripts: Vec<&str> = inline_scripts(&INDEX).collect();
        assert_eq!(scripts.len(), 1, "{scripts:?}");
        assert!(scripts[0].contains("_bg.wasm"), "{scripts:?}");
        assert_eq!(INDEX.matches(QUEUES).count(), 1, "{}", *INDEX);
        let policy = POLICY.as_ref().unwrap().to_str().unwrap();
        assert!(policy.contains("'sha256-"), "{policy}");
    }
}
