//! Names in a text: runs of words that begin with a capital.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::block;

/// Words that begin a sentence oftener than a name.
const NO_NAMES: &[&str] = &[
    "a",
    "after",
    "all",
    "also",
    "although",
    "an",
    "and",
    "another",
    "any",
    "are",
    "as",
    "at",
    "because",
    "before",
    "both",
    "but",
    "by",
    "despite",
    "during",
    "each",
    "even",
    "every",
    "few",
    "for",
    "from",
    "had",
    "has",
    "he",
    "her",
    "here",
    "his",
    "how",
    "however",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "later",
    "many",
    "meanwhile",
    "more",
    "most",
    "my",
    "nevertheless",
    "no",
    "not",
    "now",
    "of",
    "on",
    "once",
    "one",
    "only",
    "or",
    "other",
    "our",
    "she",
    "since",
    "so",
    "some",
    "such",
    "that",
    "the",
    "their",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "three",
    "through",
    "to",
    "two",
    "under",
    "until",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "which",
    "while",
    "who",
    "why",
    "with",
    "yet",
    "you",
];
/// Words within a name that need no capital.
const JOINTS: &[&str] = &["of", "de", "da", "del", "der", "du", "la", "van", "von"];
/// Words of which one makes a name that of an organization.
const ORGANIZATIONS: &[&str] = &[
    "Academy",
    "Agency",
    "Airlines",
    "Association",
    "Bank",
    "Club",
    "College",
    "Commission",
    "Committee",
    "Company",
    "Corp",
    "Corporation",
    "Council",
    "Department",
    "Foundation",
    "Group",
    "Inc",
    "Institute",
    "Laboratory",
    "Ltd",
    "Ministry",
    "Museum",
    "Party",
    "Press",
    "School",
    "Society",
    "Union",
    "University",
];
/// Words after which a name is that of a place.
const BEFORE_PLACES: &[&str] = &["in", "at", "from", "near", "to", "In", "At", "From", "Near"];
/// Words after which a name is that of a person.
const BEFORE_PERSONS: &[&str] = &[
    "Mr",
    "Mrs",
    "Ms",
    "Dr",
    "President",
    "Chancellor",
    "by",
    "By",
];

/// The answer to a prompt with a `<text>`.
pub(super) fn answer(prompt: &str) -> Value {
    let text = block::find(prompt, "text").unwrap_or_default();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mentions: Vec<Value> = names(text)
        .into_iter()
        .map(|(start, name, label)| {
            let mut mention = json!({"quote": name, "label": label});
            if text.matches(name).count() > 1 {
                // The occurrence is that of the quote in the text, also within other words.
                let occurrence = text[..start].matches(name).count() + 1;
                let last = seen.entry(name).or_default();
                *last = occurrence.max(*last + 1);
                mention["occurrence"] = json!(*last);
            }
            mention
        })
        .collect();
    json!({"mentions": mentions})
}

/// Each name with its place and label, in order.
fn names(text: &str) -> Vec<(usize, &str, &'static str)> {
    let words = words(text);
    let mut names = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (start, word) = words[at];
        let begins = is_capital(word) && !NO_NAMES.contains(&&*word.to_lowercase());
        if !begins {
            at += 1;
            continue;
        }
        let mut last = at;
        while let Some(next) = continued(text, &words, last) {
            last = next;
        }
        let end = words[last].0 + words[last].1.len();
        let name = &text[start..end];
        let before = at.checked_sub(1).map_or("", |before| words[before].1);
        // A lone letter or two is no name.
        if name.len() > 2 {
            names.push((start, name, label(name, before)));
        }
        at = last + 1;
    }
    names
}

/// The word that goes on with a name, if one does: after one space, perhaps behind a joint.
fn continued(text: &str, words: &[(usize, &str)], last: usize) -> Option<usize> {
    let follows = |at: usize| {
        let (start, word) = *words.get(at)?;
        let (before, previous) = words[at - 1];
        (&text[before + previous.len()..start] == " ").then_some(word)
    };
    let next = follows(last + 1)?;
    if is_capital(next) {
        return Some(last + 1);
    }
    (JOINTS.contains(&next) && follows(last + 2).is_some_and(is_capital)).then_some(last + 2)
}

fn label(name: &str, before: &str) -> &'static str {
    let mut words = name.split(' ');
    let is_short = |name: &str| name.len() < 6 && name.chars().all(char::is_uppercase);
    if words.clone().any(|word| ORGANIZATIONS.contains(&word)) || is_short(name) {
        "ORG"
    } else if BEFORE_PLACES.contains(&before) {
        "LOC"
    } else if BEFORE_PERSONS.contains(&before) || words.nth(1).is_some() {
        "PER"
    } else {
        "MISC"
    }
}

fn is_capital(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

/// Words with their places: letters and digits, with hyphens and apostrophes within.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let within = c.is_alphanumeric() || (start.is_some() && matches!(c, '-' | '\'' | '’'));
        match (start, within) {
            (None, true) => start = Some(at),
            (Some(begin), false) => {
                let word = text[begin..at].trim_end_matches(['-', '\'', '’']);
                // The possessive is not of the name.
                let word = word
                    .strip_suffix("'s")
                    .or_else(|| word.strip_suffix("’s"))
                    .unwrap_or(word);
                words.push((begin, word));
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_verbatim_and_have_labels() {
        let text = "The Bank of England's Angela Merkel met Emmanuel Macron in Berlin.\nIn Berlin, IBM sued.";
        let found: Vec<_> = names(text)
            .into_iter()
            .map(|(_, name, label)| (name, label))
            .collect();
        let wanted = [
            ("Bank of England", "ORG"),
            ("Angela Merkel", "PER"),
            ("Emmanuel Macron", "PER"),
            ("Berlin", "LOC"),
            ("Berlin", "LOC"),
            ("IBM", "ORG"),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_quote_that_is_there_twice_says_which_it_is() {
        let answer = answer("<text>\nAnn Lee met Bob Ray. Ann Lee left.\n</text>");
        let wanted = json!({"mentions": [
            {"quote": "Ann Lee", "label": "PER", "occurrence": 1},
            {"quote": "Bob Ray", "label": "PER"},
            {"quote": "Ann Lee", "label": "PER", "occurrence": 2},
        ]});
        assert_eq!(answer, wanted);
    }
}
