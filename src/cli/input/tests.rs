//! What the PATHs of a command give, in one piece.

use std::{fs, os::unix::fs::symlink};

use super::*;

const SMALL: Limits = Limits { document_bytes: 64 };

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (file, bytes) in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn inputs(paths: &[PathBuf]) -> Vec<Input> {
    let inputs: Vec<Input> = read(paths, SMALL).unwrap().collect();
    let mut ids: Vec<&str> = inputs.iter().map(id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), inputs.len(), "every input has an id of its own");
    inputs
}

fn id(input: &Input) -> &str {
    match input {
        Input::Document(document) => &document.id,
        Input::Refused { id, .. } => id,
    }
}

fn failure(input: &Input) -> &Failure {
    match input {
        Input::Document(document) => panic!("{document:?} was not refused"),
        Input::Refused { failure, .. } => failure,
    }
}

/// `id` for a document, `id: code` for a refusal.
fn outline(inputs: &[Input]) -> Vec<String> {
    inputs
        .iter()
        .map(|input| match input {
            Input::Document(document) => document.id.clone(),
            Input::Refused { id, failure } => format!("{id}: {}", failure.code.as_str()),
        })
        .collect()
}

fn refused(paths: &[PathBuf]) -> String {
    match read(paths, SMALL) {
        Ok(_) => panic!("{paths:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn bad_files_are_refused_by_name_and_the_others_go_on() {
    let root = folder(&[
        ("a.txt", b"Ada"),
        ("b.txt", b""),
        ("c.md", b"\xFF"),
        ("d.txt", &[b'x'; 65]),
        ("e.txt", b"\0"),
        ("sub/bell\x07.txt", b"x"),
        ("z.txt", b"\xEF\xBB\xBFZuse"),
    ]);
    symlink("nowhere", root.path().join("y.txt")).unwrap();
    let found = inputs(&[root.path().to_owned()]);
    let place = root.path().join("sub/bell\u{FFFD}.txt: unreadable");
    assert_eq!(
        outline(&found),
        [
            "a.txt",
            "b.txt: empty",
            "c.md: not_utf8",
            "d.txt: too_large",
            "e.txt: binary",
            place.to_str().unwrap(),
            "y.txt: unreadable",
            "z.txt"
        ]
    );
    let Input::Document(last) = &found[7] else {
        panic!("z.txt is good")
    };
    assert_eq!(last.text, "Zuse");
    assert_eq!(last.source_uri, Some(shown(&root.path().join("z.txt"))));
    assert!(failure(&found[6]).message.contains("No such file"));
}

#[test]
fn a_file_is_read_whatever_its_ending() {
    let root = folder(&[("a.log", b"Ada"), ("b.json", b"{}"), (".hidden", b"x")]);
    let paths = ["a.log", "b.json", ".hidden"].map(|file| root.path().join(file));
    assert_eq!(outline(&inputs(&paths)), ["a.log", "b.json", ".hidden"]);
}

#[test]
fn of_two_inputs_with_one_id_the_first_keeps_it() {
    let root = folder(&[
        ("one/a.txt", b"1"),
        ("two/a.txt", b"2"),
        ("two/b.txt", b""),
        ("lines.jsonl", b"{\"id\":\"a.txt\",\"text\":\"3\"}\n{\"id\":7,\"text\":\"4\"}\n{\"id\":\"7\",\"text\":\"5\"}\n{\"id\":\"b.txt\",\"text\":\"6\"}"),
    ]);
    let path = |name: &str| root.path().join(name);
    let found = inputs(&[path("one"), path("two"), path("lines.jsonl")]);
    let lines = shown(&path("lines.jsonl"));
    assert_eq!(
        outline(&found),
        [
            "a.txt".to_owned(),
            format!("a.txt ({}): duplicate_id", shown(&path("two/a.txt"))),
            "b.txt: empty".to_owned(),
            format!("a.txt ({lines}:1): duplicate_id"),
            "7".to_owned(),
            format!("7 ({lines}:3): duplicate_id"),
            format!("b.txt ({lines}:4): duplicate_id"),
        ]
    );
    let message = &failure(&found[1]).message;
    for both in ["one/a.txt", "two/a.txt"] {
        assert!(message.contains(both), "{message}");
    }
    assert!(failure(&found[5]).message.contains(&format!("{lines}:2")));
}

#[test]
fn the_same_path_twice_is_refused_the_second_time() {
    let root = folder(&[("a.txt", b"1"), ("b.txt", b"")]);
    let path = root.path().to_owned();
    let found = inputs(&[path.clone(), path.clone(), path]);
    let codes: Vec<_> = outline(&found);
    assert_eq!(codes.len(), 6);
    assert_eq!(codes[..2], ["a.txt", "b.txt: empty"]);
    assert!(codes[4].ends_with("a.txt) (2): duplicate_id"), "{codes:?}");
}

#[test]
fn a_line_is_named_by_its_file_and_number() {
    let root = folder(&[
        (
            "a.jsonl",
            b"{\"id\":\"x\",\"text\":\"1\"}\r\n\r\nsecret\n{\"id\":\"y\",\"text\":\"\"}",
        ),
        ("b.ndjson", b"\n\n"),
    ]);
    let paths = ["a.jsonl", "b.ndjson"].map(|file| root.path().join(file));
    let found = inputs(&paths);
    let (a, b) = (shown(&paths[0]), shown(&paths[1]));
    assert_eq!(
        outline(&found),
        [
            "x".to_owned(),
            format!("{a}:3: broken_line"),
            "y: empty".to_owned(),
            format!("{b}: empty")
        ]
    );
    assert_eq!(
        failure(&found[1]).message,
        format!("{a}, line 3: not a JSON object")
    );
    assert!(failure(&found[2]).message.contains("line 4"));
    let Input::Document(first) = &found[0] else {
        panic!("x is good")
    };
    assert_eq!(first.source_uri, Some(format!("{a}#L1")));
}

#[test]
fn a_wrong_path_is_refused_before_anything_is_read() {
    let root = folder(&[
        ("a.txt", b"1"),
        ("other/a.csv", b"1"),
        ("other/b.jsonl", b"1"),
    ]);
    let good = root.path().join("a.txt");
    assert!(refused(&[]).contains("name a folder"));
    let missing = root.path().join("nowhere");
    assert!(refused(&[good.clone(), missing.clone()]).contains(missing.to_str().unwrap()));
    let message = refused(&[good, root.path().join("other")]);
    for part in ["other", ".txt", ".md", ".jsonl"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn it_can_be_read_on_another_thread() {
    let root = folder(&[("a.txt", b"1")]);
    let inputs = read(&[root.path().to_owned()], SMALL).unwrap();
    assert_eq!(std::thread::spawn(|| inputs.count()).join().unwrap(), 1);
}

#[test]
fn the_broken_examples_are_refused_for_what_they_are_named_for() {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/broken");
    let lines = broken.join("broken-line.jsonl");
    let found: Vec<Input> = read(&[broken, lines.clone()], Limits::default())
        .unwrap()
        .collect();
    let lines = shown(&lines);
    assert_eq!(
        outline(&found),
        [
            "binary.txt: binary".to_owned(),
            "duplicate-a.txt".to_owned(),
            "duplicate-b.txt".to_owned(),
            "empty.txt: empty".to_owned(),
            "good.txt".to_owned(),
            "not-utf8.txt: not_utf8".to_owned(),
            "whitespace.txt: empty".to_owned(),
            "atanasoff".to_owned(),
            format!("{lines}:2: broken_line"),
            "aiken".to_owned(),
            format!("{lines}:4: broken_line"),
            "olsen".to_owned(),
        ]
    );
}
