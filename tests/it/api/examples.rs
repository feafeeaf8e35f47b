//! What the pages about HTTP show on a command line, run as it stands there, but for the server's address, the key and
//! ids, against a real server.

use std::{fs, path::Path, process::Command};

use super::*;
use crate::support::{bare, folder};

/// The commands of a page: those of its blocks for a shell, and those behind a prompt.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for (at, block) in page.split("```").enumerate() {
        let (kind, block) = block.split_once('\n').unwrap_or_default();
        if at.is_multiple_of(2) || !["sh", "console"].contains(&kind) {
            continue;
        }
        // A command goes on over lines that are indented.
        for line in block.lines() {
            let begun = line
                .strip_prefix("$ ")
                .or_else(|| (kind == "sh").then_some(line));
            match begun {
                Some(line) if line.starts_with(' ') => {
                    let last = commands.last_mut().unwrap();
                    last.push('\n');
                    last.push_str(line);
                }
                Some("") | None => {}
                Some(line) => commands.push(line.to_owned()),
            }
        }
    }
    commands
}

#[test]
fn commands_are_cut_out_of_a_page() {
    let page = "a\n```sh\ncurl a \\\n  -d 'b\n c'\n\ngraphmill d\n```\n```console\n$ curl e\nf\n```\n```json\n{}\n```\n";
    assert_eq!(
        commands(page),
        ["curl a \\\n  -d 'b\n c'", "graphmill d", "curl e"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_pages_show_on_a_command_line_works() {
    let server = Server::with(&["--with-worker"]).await;
    let mine = with(&documents(&[("a", DOCUMENT)]), "name", json!("mine"));
    let mine = object(server.submit(&mine).await, 201).await;
    server.ended("mine").await;
    let found = object(server.get("/api/entities?batch=mine").await, 200).await;
    let cluster = found["entities"][0]["cluster_id"].as_str().unwrap();
    let here = folder("api-examples");
    for (name, content) in [
        (
            "documents.jsonl",
            "{\"id\": \"a\", \"text\": \"Grace Hopper worked at Harvard University.\"}\n",
        ),
        ("one.txt", "Alan Turing was born in London."),
        ("two.txt", "Alan Turing worked at Bletchley Park."),
        (
            ".curlrc",
            "silent\nshow-error\nfail-with-body\nmax-time = 60\nnoproxy = \"*\"\n",
        ),
    ] {
        fs::write(here.join(name), content).unwrap();
    }
    let binary = bare().get_program().to_owned();
    let binaries = Path::new(&binary).parent().unwrap().to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut asked = 0;
    for page in ["HTTP", "EVENTS", "KEYS"] {
        let text = fs::read_to_string(root.join(format!("docs/{page}.md"))).unwrap();
        let commands = commands(&text);
        let shown = commands
            .iter()
            .filter(|command| command.contains("curl"))
            .count();
        assert!(shown > 1, "docs/{page}.md shows nothing");
        for command in commands {
            let mut line = command
                .replace("http://127.0.0.1:8080", &server.address)
                .replace("localhost:8080", &server.address)
                .replace("batch_…", mine["batch_id"].as_str().unwrap())
                .replace("cluster_0190…", cluster);
            assert!(!line.contains('…'), "docs/{page}.md: what is {line}?");
            if line.starts_with("curl") {
                asked += 1;
                // What every request shows is said once, above them all.
                if !line.contains("Authorization") {
                    line = line.replacen("curl", "curl -H \"Authorization: Bearer $KEY\"", 1);
                }
            }
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).current_dir(&here);
            shell.env(
                "PATH",
                format!("{}:/usr/local/bin:/usr/bin:/bin", binaries.display()),
            );
            shell.env("CURL_HOME", &here).env("KEY", &server.key);
            shell.env("DATABASE_URL", server.database.url());
            shell.env("REDIS_URL", server.redis.as_ref().unwrap().url());
            let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
            let output = output.await.unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            let at = format!("docs/{page}.md: {command}\n{said}\n{complained}");
            assert!(output.status.success(), "{at}");
            if command.starts_with("curl -N") {
                assert!(
                    said.starts_with("retry: 1000") && said.contains("event: Snapshot"),
                    "{at}"
                );
            } else if command.contains("?poll'") {
                assert!(said.starts_with("{\"snapshot\":{\"version\":1"), "{at}");
            }
        }
    }
    assert!(asked >= 12, "only {asked} requests are shown");
    let turtle = fs::read_to_string(here.join("notes.ttl")).unwrap();
    assert!(turtle.contains("@prefix"), "{turtle}");
    server.stop();
}
