//! Good answers made bad, each in one way.
//!
//! Knows the fields of the answers to graphmill's prompts; must not know HTTP.

use serde_json::{Value, json};

use super::script::Then;

/// The content of a message: the answer, after what `then` does to it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other behaviour has its place elsewhere"
)]
pub(super) fn content(then: &Then, mut answer: Value) -> String {
    match then {
        Then::WrongLabels => {
            each(
                &mut answer,
                &["label", "class", "predicate", "verdict"],
                |value| {
                    *value = json!("banana");
                },
            );
        }
        Then::Verdict(word) => each(&mut answer, &["verdict"], |value| *value = json!(word)),
        Then::WrongNumbers => {
            each(
                &mut answer,
                &["mention", "subject", "object", "pair"],
                |value| {
                    *value = json!(value.as_u64().unwrap_or(0) + 1_000);
                },
            );
            for item in items(&mut answer).filter(|item| item.get("label").is_some()) {
                item["occurrence"] = json!(1_000);
            }
        }
        Then::InventedQuotes => quotes(&mut answer, |_| "Zaphod Beeblebrox".to_owned()),
        Then::QuoteWhitespace => quotes(&mut answer, |quote| quote.replace(' ', "\n  ")),
        Then::QuoteCase => quotes(&mut answer, str::to_uppercase),
        Then::QuoteTypography => quotes(&mut answer, |quote| {
            quote
                .replace('\'', "’")
                .replace('-', "\u{2011}")
                .replace(' ', "\u{a0}")
        }),
        Then::OtherShape => answer = json!([{"result": answer, "confidence": "high"}]),
        _ => {}
    }
    let text = answer.to_string();
    match then {
        Then::Truncate => half(&text).to_owned(),
        Then::Prose => format!(
            "Sure! Here is what I found {{as you asked}}:\n\n{text}\n\nLet me know if you need anything else [1]."
        ),
        Then::Fences => format!("```json\n{text}\n```"),
        Then::Think => format!(
            "<think>\nThe user wants JSON such as {{\"mentions\": []}}. Let me look.\n</think>\n\n{text}"
        ),
        Then::BrokenJson => text.replace("\":", "\"=").replacen('{', "{,", 1),
        Then::EmptyContent => String::new(),
        Then::Huge(bytes) => format!("{text}{}", " ".repeat(bytes.saturating_sub(text.len()))),
        _ => text,
    }
}

/// The first half of a text, or a little less.
pub(super) fn half(text: &str) -> &str {
    upto(text, text.len() / 2)
}

/// At most so many bytes of a text.
pub(super) fn upto(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The objects in the lists of an answer.
fn items(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    let lists = answer
        .as_object_mut()
        .into_iter()
        .flat_map(|object| object.values_mut());
    lists.filter_map(Value::as_array_mut).flatten()
}

fn each(answer: &mut Value, fields: &[&str], change: impl Fn(&mut Value)) {
    for item in items(answer) {
        for field in fields {
            if let Some(value) = item.get_mut(field) {
                change(value);
            }
        }
    }
}

fn quotes(answer: &mut Value, change: impl Fn(&str) -> String) {
    each(answer, &["quote"], |value| {
        *value = json!(change(value.as_str().unwrap_or_default()));
    });
}
