//! The items of a list in whatever a model wrote: pure JSON, JSON in prose or fences, JSON that breaks off.
//!
//! It keeps what is complete and mends nothing: a repaired item would be an invented one. Invariants: no panic
//! whatever is read, and the time grows as the text does.

use serde_json::{Deserializer, Value};

/// What could be read of an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Salvaged {
    /// The complete items, in order.
    pub(super) items: Vec<Value>,
    /// Items that have begun and are not JSON.
    pub(super) broken: u32,
    /// The list was found; without it, there is nothing to be read.
    pub(super) found: bool,
    /// The JSON is whole.
    pub(super) whole: bool,
}

/// Longer answers are cut: no cap of tokens allows them.
const LONGEST: usize = 1 << 20;

/// Items that are not JSON before the rest is not read either: no answer that means something has so many.
const BROKEN: u32 = 256;

/// How many places are tried as the beginning of a whole object.
const STARTS: usize = 64;

/// The items of the list named `key` in `content`.
pub(super) fn salvage(content: &str, key: &str) -> Salvaged {
    let content = thoughtless(content);
    let mut end = content.len().min(LONGEST);
    while !content.is_char_boundary(end) {
        end -= 1;
    }
    let content = &content[..end];
    whole(content, key).unwrap_or_else(|| piecemeal(content, key))
}

/// The first whole object in `content`.
pub(super) fn object(content: &str) -> Option<Value> {
    let content = thoughtless(content);
    content
        .match_indices('{')
        .take(STARTS)
        .filter_map(|(at, _)| value(&content[at..]))
        .map(|(value, _)| value)
        .find(Value::is_object)
}

/// `content` without what a model wrote to itself first.
fn thoughtless(content: &str) -> &str {
    let content = content.trim_start();
    let thinks = ["<think>", "<thinking>"]
        .iter()
        .any(|tag| content.starts_with(tag));
    let end = ["</think>", "</thinking>"]
        .iter()
        .filter_map(|tag| Some(content.find(tag)? + tag.len()))
        .min();
    match end {
        Some(end) => &content[end..],
        None if thinks => "",
        None => content,
    }
}

/// The JSON value at the beginning of `text`, and where it ends.
fn value(text: &str) -> Option<(Value, usize)> {
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

/// The first object that has the list, or the first bare list of objects.
fn whole(content: &str, key: &str) -> Option<Salvaged> {
    let mut at = 0;
    let may_be_bare = list_start(content, key).is_none();
    for _ in 0..STARTS {
        at += content[at..].find(['{', '['])?;
        let Some((value, length)) = value(&content[at..]) else {
            at += 1;
            continue;
        };
        let items = match value {
            Value::Object(mut object) => match object.remove(key) {
                Some(Value::Array(items)) => Some(items),
                _ => None,
            },
            Value::Array(items) => {
                (may_be_bare && items.iter().any(Value::is_object)).then_some(items)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        if let Some(items) = items {
            return Some(Salvaged {
                items,
                broken: 0,
                found: true,
                whole: true,
            });
        }
        at += length;
    }
    None
}

/// The complete objects of the list, one by one.
fn piecemeal(content: &str, key: &str) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let Some(start) = list_start(content, key) else {
        return salvaged;
    };
    salvaged.found = true;
    let mut at = start;
    while let Some(next) = content[at..].find(['{', ']']) {
        at += next;
        if content[at..].starts_with(']') {
            break;
        }
        if let Some((item, length)) = value(&content[at..]) {
            salvaged.items.push(item);
            at += length;
        } else {
            salvaged.broken += 1;
            at += 1;
            if salvaged.broken == BROKEN {
                break;
            }
        }
    }
    salvaged
}

/// The first byte behind the `[` of `"key": [`.
fn list_start(content: &str, key: &str) -> Option<usize> {
    let quoted = format!("\"{key}\"");
    content.match_indices(&quoted).find_map(|(at, _)| {
        let rest = content[at + quoted.len()..].trim_start();
        let rest = rest.strip_prefix(':')?.trim_start();
        let rest = rest.strip_prefix('[')?;
        Some(content.len() - rest.len())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(content: &str) -> (usize, u32, bool, bool) {
        let salvaged = salvage(content, "mentions");
        (
            salvaged.items.len(),
            salvaged.broken,
            salvaged.found,
            salvaged.whole,
        )
    }

    #[test]
    fn whatever_stands_around_it_is_cut() {
        let plain = r#"{"mentions":[{"quote":"A"},{"quote":"B {"}]}"#;
        for content in [
            plain.to_owned(),
            format!("```json\n{plain}\n```"),
            format!("Sure! Here {{it}} is: {plain} Anything else [perhaps]?"),
            format!("<think>Is it {{\"mentions\":[]}}?</think>\n{plain}"),
            format!("So, {{\"mentions\":[]}}?</think>{plain}"),
            format!("{{\"note\":1}} {plain}"),
            r#"[{"quote":"A"},{"quote":"B"}]"#.to_owned(),
        ] {
            assert_eq!(read(&content), (2, 0, true, true), "{content}");
        }
        assert_eq!(read(r#"{"mentions":[]}"#), (0, 0, true, true));
    }

    #[test]
    fn every_complete_item_of_a_broken_list_is_kept() {
        for (content, items, broken) in [
            (r#"{"mentions":[{"quote":"A"},{"quote":"B"},{"quo"#, 2, 1),
            (r#"{ "mentions" : [ "Angela"#, 0, 0),
            (
                r#"{"mentions":[{"quote":"A"},{"quote":"B""label":1},{"quote":"C"}]"#,
                2,
                1,
            ),
            (
                r#"{"mentions":[{"quote":"A"} {"quote":"B"}], "x":[{}]}"#,
                2,
                0,
            ),
            (r#"```json {"mentions" : [{"quote":"A"},"#, 1, 0),
        ] {
            assert_eq!(read(content), (items, broken, true, false), "{content}");
        }
        let salvaged = salvage(r#"{"mentions":[{"quote":"A"},{"#, "mentions");
        assert_eq!(salvaged.items, [json!({"quote":"A"})]);
    }

    #[test]
    fn what_has_no_list_is_not_readable() {
        for content in [
            "",
            "I can't.",
            "<think>hm {\"mentions\":[]}",
            "{\"mentions\":7}",
            "[1,2]",
            "{}",
        ] {
            assert_eq!(read(content), (0, 0, false, false), "{content}");
        }
    }

    #[test]
    fn the_time_is_linear() {
        for unit in [
            "{",
            "[",
            "{\"",
            "[[1,",
            "{\"mentions\":[",
            "{\"mentions\":[{",
            "{\"a\":[",
            "\\",
            "<think>",
        ] {
            let content = unit.repeat((1 << 20) / unit.len());
            let begun = std::time::Instant::now();
            let _ = salvage(&content, "mentions");
            assert!(
                begun.elapsed().as_secs() < 20,
                "{unit} took {:?}",
                begun.elapsed()
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), json in r#"([\[{}\]":,a-cé\\ ]|"mentions":|<think>|</think>){0,60}"#) {
            let _ = salvage(&text, "mentions");
            let _ = salvage(&json, "mentions");
        }

        #[test]
        fn a_cut_answer_keeps_a_prefix_of_its_items(quotes in prop::collection::vec("[a-zé\"\\\\{}\\[\\] ]{0,12}", 0..8), cut in 0..400_usize) {
            let items: Vec<Value> = quotes.iter().map(|quote| json!({"quote": quote})).collect();
            let whole = json!({"mentions": items}).to_string();
            let cut: String = whole.chars().take(cut).collect();
            let salvaged = salvage(&cut, "mentions");
            // What stands within a broken item is at most one more, and fails the check of items.
            prop_assert!(salvaged.items.len() <= items.len() + 1);
            for (salvaged, item) in salvaged.items.iter().zip(&items) {
                if salvaged.get("quote").is_some() {
                    prop_assert_eq!(salvaged, item);
                }
            }
        }
    }
}
