//! What the README claims: its commands, flags and variables are the binary's, its files are there, and its JSON has
//! the shape of what is printed. Its Rust is compiled as a doctest of the library.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{binary, support};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The fenced blocks, each with its language.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, text))) => open = Some((language, text + line + "\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Every piece of code: the lines of shell and text blocks, and what stands between backticks.
fn code(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for (language, block) in blocks(text) {
        assert!(
            ["sh", "text", "json", "rust,no_run", "sql"].contains(&&*language),
            "a block has no language"
        );
        if language == "sh" || language == "text" {
            pieces.extend(block.lines().map(str::to_owned));
        }
    }
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if !fenced && !line.starts_with("```") {
            pieces.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    pieces
}

fn flags_in(code: &str) -> Vec<String> {
    code.split(|c: char| c.is_whitespace() || "[](),`".contains(c))
        .filter_map(|word| word.split('=').next())
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_and_flag_is_the_binarys() {
    let commands = binary::every_command();
    let every_flag: BTreeSet<&String> = commands.iter().flat_map(|(_, flags)| flags).collect();
    let mut seen = 0;
    for piece in code(&readme()) {
        // Other programs have flags of their own.
        let foreign = ["docker ", "cargo ", "git ", "redis-server "];
        let Some(at) = piece
            .find("graphmill ")
            .filter(|_| !foreign.iter().any(|name| piece.contains(name)))
        else {
            if !foreign.iter().any(|name| piece.contains(name)) {
                for flag in flags_in(&piece) {
                    assert!(every_flag.contains(&flag), "`{piece}`: nothing has {flag}");
                }
            }
            continue;
        };
        let line = piece[at..]
            .split(" # ")
            .next()
            .unwrap()
            .split(" -- ")
            .next()
            .unwrap();
        let words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        if !words
            .first()
            .is_some_and(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        {
            continue;
        }
        let (found, flags) = commands
            .iter()
            .filter(|(command, _)| !command.is_empty() && words.starts_with(command))
            .max_by_key(|(command, _)| command.len())
            .unwrap_or_else(|| panic!("`{piece}`: no such command"));
        for flag in flags_in(line) {
            assert!(
                flags.contains(&flag),
                "`{piece}`: `graphmill {}` has no {flag}",
                found.join(" ")
            );
        }
        seen += 1;
    }
    assert!(
        seen > 10,
        "only {seen} commands were found: is the README still read?"
    );
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = readme();
    for (words, _) in binary::every_command() {
        let command = format!("graphmill {}", words.join(" "));
        assert!(
            readme.contains(command.trim_end()),
            "`{command}` is missing"
        );
    }
}

#[test]
fn every_variable_is_the_binarys() {
    let known: BTreeSet<String> = ["run", "extract", "worker", "serve"]
        .into_iter()
        .flat_map(|command| binary::variables(&binary::help(&[command]).unwrap()))
        .collect();
    for piece in code(&readme()) {
        for word in piece.split(|c: char| !c.is_ascii_uppercase() && c != '_') {
            if word.starts_with("GRAPHMILL_") || word.ends_with("_URL") {
                assert!(known.contains(word), "`{piece}`: nothing reads {word}");
            }
        }
    }
}

#[test]
fn every_do_is_in_do() {
    let known = fs::read_to_string(root().join("do")).unwrap();
    let mut seen = 0;
    for piece in code(&readme()) {
        for rest in piece.split("./do ").skip(1) {
            let name = rest.split_whitespace().next().unwrap();
            assert!(
                known.contains(&format!("\n    {name}) ")),
                "./do has no {name}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn every_path_is_there() {
    for piece in code(&readme()) {
        let path = piece.trim_end_matches('/');
        let ours = [
            "src/",
            "tests/",
            "migrations/",
            "jobs/",
            "examples/",
            "benches/",
            ".ci/",
        ];
        if ours.iter().any(|folder| piece.starts_with(folder)) && !piece.contains([' ', '*']) {
            assert!(root().join(path).exists(), "`{piece}` is not there");
        }
    }
}

/// The README's JSON block whose object has these keys.
fn shown(keys: &[&str]) -> Value {
    let values: Vec<Value> = blocks(&readme())
        .iter()
        .filter(|(language, _)| language == "json")
        .map(|(_, text)| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
        })
        .filter(|value: &Value| keys.iter().all(|key| value.get(key).is_some()))
        .collect();
    assert_eq!(values.len(), 1, "{keys:?}");
    values[0].clone()
}

/// Fails unless both have the same keys and types, as far down as either shows elements.
#[track_caller]
fn same_shape(shown: &Value, real: &Value, at: &str) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let keys =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(shown), keys(real), "at {at}");
            for (key, value) in shown {
                same_shape(value, &real[key], &format!("{at}.{key}"));
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            if let (Some(shown), Some(real)) = (shown.first(), real.first()) {
                same_shape(shown, real, &format!("{at}[0]"));
            }
        }
        (shown, real) => assert_eq!(
            std::mem::discriminant(shown),
            std::mem::discriminant(real),
            "at {at}: {shown} and {real}"
        ),
    }
}

fn json(command: &mut Command) -> Value {
    let output = command.current_dir(root()).output().unwrap();
    assert!(
        output.status.code() < Some(2),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn extract_prints_what_is_shown() {
    let real = json(binary::graphmill().args(["extract", "--json", "examples/broken/good.txt"]));
    same_shape(&shown(&["id", "mentions"]), &real, "extract");
    let real = json(binary::graphmill().args(["extract", "--json", "examples/broken/empty.txt"]));
    same_shape(&shown(&["id", "error"]), &real, "extract");
}

#[test]
fn run_and_export_print_what_is_shown() {
    let data = support::folder("readme");
    let file = data.join("graph.json");
    let real = json(
        binary::graphmill()
            .env("GRAPHMILL_DATA_DIR", data.join("servers"))
            .args(["run", "--json", "examples/broken", "--export"])
            .arg(format!("json:{}", file.display())),
    );
    same_shape(&shown(&["batch_id", "calls"]), &real, "run");
    let real = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    same_shape(
        &shown(&["batch_id", "clusters", "same_as"]),
        &real,
        "export",
    );
}
