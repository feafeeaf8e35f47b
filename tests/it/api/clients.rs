//! What runs in browsers, against a real server: the TypeScript client, compiled as it is published, in Node and with
//! React in headless Chromium; and the docs page.

use std::{fs, path::Path, process::Command};

use super::Server;
use crate::support::folder;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; `./do test` installs what is missing")
    });
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}\n{said}\n{complained}");
}

/// The client, compiled with the types of React that its users have.
fn compiled() -> std::path::PathBuf {
    let dist = folder("client-typescript");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/typescript/test");
    run(Command::new("tsc")
        .arg("-p")
        .arg(project)
        .arg("--outDir")
        .arg(&dist));
    // Node asks what kind of modules they are.
    fs::write(dist.join("package.json"), r#"{"type":"module"}"#).unwrap();
    dist
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_holds_in_node_and_in_a_browser() {
    let dist = compiled();
    let server = Server::start().await;
    let _worker = server.worker();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/typescript/test");
    let mut files: Vec<_> = fs::read_dir(&tests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 3);
    run(Command::new("node")
        .arg("--test")
        .args(files)
        .env("GRAPHMILL_CLIENT_DIST", &dist)
        .env("GRAPHMILL_URL", &server.address)
        .env("GRAPHMILL_API_KEY", &server.key));
}

/// The docs page, as a person sees it.
#[tokio::test(flavor = "multi_thread")]
async fn the_docs_page_shows_every_route_in_a_browser() {
    let server = Server::start().await;
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/docs.test.mjs");
    run(Command::new("node")
        .arg("--test")
        .arg(test)
        .env("GRAPHMILL_URL", &server.address));
    server.stop();
}

/// What the client's types call the events is what the log calls them.
#[test]
fn the_typescript_client_knows_every_event() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let types = fs::read_to_string(root.join("clients/typescript/src/types.ts")).unwrap();
    let events = fs::read_to_string(root.join("src/flow/event.rs")).unwrap();
    let names: Vec<&str> = events
        .lines()
        .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(
            types.contains(&format!("{{ type: \"{name}\"")),
            "types.ts lacks {name}"
        );
    }
}
