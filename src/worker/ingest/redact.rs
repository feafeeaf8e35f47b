//! What is kept of an envelope that was refused: its beginning, without anything that could be a key.
//!
//! Pure. Invariant: no run of 20 or more characters of a key's alphabet comes through, however the JSON spells it, and
//! nothing of the value of a field that is named like one; what is cut away for nothing is no loss.

/// The most bytes that are kept.
const KEPT: usize = 4096;
/// The longest run of letters, digits and underscores that comes through. **Source:** the secret of a key has 46.
const LONGEST_RUN: usize = 19;

/// The beginning of what was sent, for people to look at.
pub(super) fn redacted(payload: &[u8]) -> String {
    // Enough to see a key whole that begins just before the end of what is kept.
    let beginning = &payload[..payload.len().min(2 * KEPT)];
    let text = unescaped(&String::from_utf8_lossy(beginning));
    let mut kept = without_runs(&without_value(&text));
    if kept.len() > KEPT {
        let end = (0..=KEPT).rev().find(|&at| kept.is_char_boundary(at));
        kept.truncate(end.unwrap_or(0));
    }
    kept
}

/// The text with `\u0067` as the letter that it stands for: nothing that a key is made of stays in disguise.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 6);
        let letter = code
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32)
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_');
        if let Some(letter) = letter {
            plain.push(letter);
            rest = &rest[at + 6..];
        } else {
            plain.push_str("\\u");
            rest = &rest[at + 2..];
        }
    }
    plain + rest
}

/// The text without what follows a name of a key, up to the next quote.
fn without_value(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("api_key") {
        let (before, after) = rest.split_at(at + "api_key".len());
        plain.push_str(before);
        // The quote that ends the name, and those around the value.
        let end = after.match_indices('"').nth(2).map(|(at, _)| at);
        plain.push_str("\": \"…");
        rest = &after[end.unwrap_or(after.len())..];
    }
    plain + rest
}

fn without_runs(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, plain: &mut String| {
        if run.len() > LONGEST_RUN {
            plain.push('…');
        } else {
            plain.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            run.push(c);
        } else {
            flush(&mut run, &mut plain);
            plain.push(c);
        }
    }
    flush(&mut run, &mut plain);
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::Key;

    fn assert_hidden(sent: &str, key: &str) {
        let kept = redacted(sent.as_bytes());
        for at in 0..key.len() - 20 {
            assert!(!kept.contains(&key[at..at + 20]), "{kept}");
        }
    }

    #[test]
    fn no_key_comes_through_wherever_it_stands() {
        let key = Key::generate().unwrap().reveal();
        let escaped: Vec<String> = key.bytes().map(|b| format!("\\u{b:04x}")).collect();
        let escaped = escaped.concat();
        for sent in [
            format!(r#"{{"v":1,"api_key":"{key}","key":"k"}}"#),
            format!(r#"{{"v":1,"apikey":"{key}"}}"#),
            format!(r#"{{"v":1,"api_key":"{key}"#),
            key.clone(),
            format!(r#"{{"v":1,"x":"{escaped}"}}"#),
            format!(r#"{{"v":1,"api_key":["{key}"]}}"#),
            format!("{}{key}", " ".repeat(KEPT - 30)),
            format!("Authorization: Bearer {key}"),
        ] {
            assert_hidden(&sent, &key);
        }
        // One that is none, or was cut off, is not shown either.
        let kept = redacted(br#"{"v": 1, "api_key": "hunter2", "key": "nightly", "nmae": 1}"#);
        assert!(!kept.contains("hunter2"), "{kept}");
        assert!(kept.contains("nightly") && kept.contains("nmae"), "{kept}");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_something_short_is_kept(sent in proptest::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(redacted(&sent).len() <= KEPT);
        }

        #[test]
        fn no_key_comes_through_in_any_text(before in ".{0,60}", after in ".{0,60}") {
            let key = Key::generate().unwrap().reveal();
            assert_hidden(&format!("{before}{key}{after}"), &key);
        }
    }
}
