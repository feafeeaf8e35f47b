//! The script, read by a tokenizer as strict as Neo4j's: escapes of Unicode first, wherever they stand.

use proptest::prelude::*;

use super::{HOSTILE, cluster, document, entity, everything, file, hostile, relation};
use crate::graph::export::{ExportFormat, ExportWriter};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A string literal's value.
    Text(String),
    /// A name in backticks.
    Name(String),
    /// A word or a number.
    Word(String),
    Sign(char),
}

/// The first step of Neo4j's reader: `\uXXXX` becomes its character, in strings and outside of them. Whether a
/// reader takes `\\u` for an escaped backslash or sees `\u` in it differs: `naive` is the second kind.
fn without_unicode_escapes(text: &str, naive: bool) -> String {
    let mut read = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if !naive && rest.starts_with("\\\\") {
            read.push_str("\\\\");
            rest = &rest[2..];
        } else if let Some(hex) = rest.strip_prefix("\\u") {
            let code = u32::from_str_radix(&hex[..4], 16).unwrap();
            read.push(char::from_u32(code).unwrap());
            rest = &hex[4..];
        } else {
            read.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    read
}

/// The statements, each as its tokens. Fails at whatever Cypher would refuse: an open quote or bracket, an unknown
/// escape, a sign that has no meaning here.
fn statements(text: &str, naive: bool) -> Vec<Vec<Token>> {
    let text = without_unicode_escapes(text, naive);
    let mut chars = text.chars().peekable();
    let (mut statements, mut tokens, mut open) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\n' => {}
            '/' => {
                assert_eq!(chars.next(), Some('/'), "a lone slash");
                assert!(tokens.is_empty(), "a comment in a statement: {tokens:?}");
                while chars.next().is_some_and(|c| c != '\n') {}
            }
            '\'' => {
                let mut value = String::new();
                loop {
                    match chars.next().expect("a string is not closed") {
                        '\'' => break,
                        '\\' => value.push(match chars.next().unwrap() {
                            '\\' => '\\',
                            '\'' => '\'',
                            'n' => '\n',
                            'r' => '\r',
                            't' => '\t',
                            other => panic!("`\\{other}` is no escape"),
                        }),
                        c => value.push(c),
                    }
                }
                tokens.push(Token::Text(value));
            }
            '`' => {
                let mut name = String::new();
                loop {
                    match chars.next().expect("a name is not closed") {
                        '`' if chars.next_if_eq(&'`').is_some() => name.push('`'),
                        '`' => break,
                        c => name.push(c),
                    }
                }
                assert!(!name.is_empty(), "a name is empty");
                tokens.push(Token::Name(name));
            }
            '(' | '[' | '{' => {
                open.push(c);
                tokens.push(Token::Sign(c));
            }
            ')' | ']' | '}' => {
                let wanted = match open.pop() {
                    Some('(') => ')',
                    Some('[') => ']',
                    _ => '}',
                };
                assert_eq!(c, wanted, "{tokens:?}");
                tokens.push(Token::Sign(c));
            }
            ';' => {
                assert!(open.is_empty(), "{open:?} is open: {tokens:?}");
                statements.push(std::mem::take(&mut tokens));
            }
            ':' | ',' | '=' | '+' | '-' | '>' => tokens.push(Token::Sign(c)),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) =
                    chars.next_if(|&c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
                {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => panic!("`{}` stands outside of quotes", c.escape_debug()),
        }
    }
    assert!(tokens.is_empty(), "a statement does not end: {tokens:?}");
    statements
}

fn both(text: &str) -> Vec<Vec<Token>> {
    let strict = statements(text, false);
    assert_eq!(strict, statements(text, true), "readers differ about it");
    strict
}

/// The rows of the statements that merge this, `[name, …]` or nothing: as many as there are `id`s or members.
fn rows(statements: &[Vec<Token>], merged: &str) -> usize {
    let word = |word: &str| Token::Word(word.to_owned());
    statements
        .iter()
        .filter(|tokens| {
            let at = tokens.iter().rposition(|token| *token == word("AS"));
            at.is_some_and(|at| {
                tokens[at..]
                    .windows(5)
                    .any(|five| five[0] == word("MERGE") && five[4] == word(merged))
            })
        })
        .map(|tokens| {
            let keys = tokens.windows(3).filter(|three| {
                three[0] == Token::Sign('{')
                    && [word("id"), word("cluster")].contains(&three[1])
                    && three[2] == Token::Sign(':')
            });
            // The pattern behind the list has one or two of its own.
            let values = keys.count();
            let end = tokens
                .iter()
                .rposition(|token| *token == word("AS"))
                .unwrap();
            let behind = tokens[end..]
                .windows(2)
                .filter(|two| two[0] == Token::Sign('{') && two[1] == word("id"))
                .count();
            values - behind
        })
        .sum()
}

fn texts(statements: &[Vec<Token>]) -> Vec<&str> {
    statements
        .iter()
        .flatten()
        .filter_map(|token| match token {
            Token::Text(text) => Some(text.as_str()),
            Token::Name(_) | Token::Word(_) | Token::Sign(_) => None,
        })
        .collect()
}

#[test]
fn constraints_come_first_and_every_row_is_merged() {
    let text = file(ExportFormat::Cypher, everything);
    let statements = both(&text);
    for statement in &statements[..3] {
        assert_eq!(
            statement[..2],
            ["CREATE", "CONSTRAINT"].map(|word| Token::Word(word.to_owned()))
        );
    }
    for (merged, wanted) in [("Document", 1), ("Entity", 2), ("Cluster", 1)] {
        assert_eq!(rows(&statements, merged), wanted, "{merged}: {text}");
    }
    assert_eq!(statements.len(), 3 + 1 + 1 + 1 + 1 + 1 + 1);
    for wanted in [
        "SET e:`person`, e += row.data MERGE (e)-[:IN_DOCUMENT]->(d);",
        "MERGE (s)-[r:`knows` {id: row.id}]->(o) SET r += row.data;",
        "{cluster: 'clu_1', entity: 'ent_2'}",
        "{id: 'link_1', left: 'ent_1', right: 'ent_2', data: {score: 0.8, reason: 'spelling', status: 'proposed'}}",
        "MERGE (l)-[s:SAME_AS {id: row.id}]->(r) SET s += row.data;",
        "mention_starts: [4, 9]",
        "mention_confidences: [0.8, 0.9]",
        "evidence_texts: ['Ada knew \"Bob\",\\nwell']",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing:\n{text}");
    }
}

#[test]
fn hostile_names_come_back() {
    let text = file(ExportFormat::Cypher, hostile);
    let statements = both(&text);
    let texts = texts(&statements);
    for name in HOSTILE {
        // As document, entity, class, mentions, their classes, value, evidence, cluster and its class.
        let times = texts.iter().filter(|text| **text == name).count();
        assert!(times >= 9, "{name:?} came back {times} times\n{text}");
    }
    for (merged, wanted) in [("Document", HOSTILE.len()), ("Entity", HOSTILE.len())] {
        assert_eq!(rows(&statements, merged), wanted, "{merged}");
    }
    assert!(
        !text
            .chars()
            .any(|c| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2028}')),
        "what can't be seen is escaped"
    );
}

#[test]
fn names_of_ours_are_not_given_to_others() {
    let text = file(ExportFormat::Cypher, |writer| {
        let mut row = entity("ent_1", "n");
        row.class = "Document".to_owned();
        writer.entity(&row).unwrap();
        row.class = String::new();
        writer.entity(&row).unwrap();
        let mut row = relation();
        row.predicate = "MEMBER_OF".to_owned();
        writer.relation(&row).unwrap();
    });
    let statements = both(&text);
    let named = |name: &str| {
        statements
            .iter()
            .flatten()
            .any(|token| *token == Token::Name(name.to_owned()))
    };
    assert!(
        named("Document_") && named("MEMBER_OF_") && named("_"),
        "{text}"
    );
}

#[test]
fn statements_stay_small_and_lose_nothing() {
    let text = file(
        ExportFormat::Cypher,
        |writer: &mut ExportWriter<Vec<u8>>| {
            writer.document(&document()).unwrap();
            for number in 0..2500 {
                writer
                    .entity(&entity(&format!("ent_{number}"), "n"))
                    .unwrap();
            }
            let mut row = entity("ent_long", &"x".repeat(1 << 19));
            row.mentions.truncate(1);
            writer.entity(&row).unwrap();
            writer.entity(&entity("ent_last", "n")).unwrap();
            let mut row = cluster();
            row.members = (0..2500).map(|number| format!("ent_{number}")).collect();
            writer.cluster(&row).unwrap();
        },
    );
    let statements = both(&text);
    assert_eq!(rows(&statements, "Entity"), 2502);
    let members = text.matches("{cluster: ").count();
    assert_eq!(members, 2500);
    let most = text.split("UNWIND").map(|part| part.lines().count()).max();
    assert!(most <= Some(1003), "{most:?} lines");
    // The long one ends its statement.
    assert_eq!(text.matches("CREATE CONSTRAINT").count(), 3);
    let long = text.find("ent_long").unwrap();
    let last = text.find("ent_last").unwrap();
    assert!(text[long..last].contains(" AS row "));
}

proptest! {
    #[test]
    fn any_name_comes_back(name in "(?s).{0,24}", odd in r"[\\u0027'`n;/]{0,12}") {
        for name in [name, odd] {
            let mut row = entity("ent_1", &name);
            row.class.clone_from(&name);
            let text = file(ExportFormat::Cypher, |writer| writer.entity(&row).unwrap());
            let statements = both(&text);
            prop_assert!(texts(&statements).iter().filter(|text| **text == name).count() >= 4);
            prop_assert_eq!(statements.len(), 4);
        }
    }
}
