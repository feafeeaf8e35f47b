//! Whether two names are of one thing: the same if every word of the shorter one could stand for one of the longer one's,
//! letter by letter; different if their first letters are; unsure otherwise.

use serde_json::{Value, json};

use super::block;

/// The answer to a prompt with `<pairs>`.
pub(super) fn answer(prompt: &str) -> Value {
    let pairs = block::find(prompt, "pairs").unwrap_or_default();
    let (mut answers, mut number, mut sides) = (Vec::new(), None, Vec::new());
    for line in pairs.lines() {
        if let Some(begun) = line.strip_suffix('.').and_then(|line| line.parse().ok()) {
            (number, sides) = (Some::<u64>(begun), Vec::new());
        } else if let Some(name) = name(line) {
            sides.push(name);
            if let (Some(number), [one, other]) = (number, &*sides) {
                answers.push(json!({"pair": number, "verdict": verdict(one, other)}));
            }
        }
    }
    json!({"pairs": answers})
}

/// The name in `  A: "Angela Merkel" [person]; also …`.
fn name(line: &str) -> Option<&str> {
    let rest = line
        .strip_prefix("  A: \"")
        .or(line.strip_prefix("  B: \""))?;
    Some(rest.split_once("\" [")?.0)
}

fn verdict(one: &str, other: &str) -> &'static str {
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let words: Vec<&str> = long.split_whitespace().collect();
    let fits = |word: &str| {
        let initial = word.strip_suffix('.').unwrap_or(word);
        words.iter().any(|other| other.starts_with(initial))
    };
    let initials: String = words
        .iter()
        .filter_map(|word| word.chars().next())
        .filter(|c| c.is_uppercase())
        .collect();
    if short == initials || short.split_whitespace().all(fits) {
        "same"
    } else if one.chars().next() == other.chars().next() {
        "unsure"
    } else {
        "different"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_verdict() {
        let line = |number: u8, one: &str, other: &str| {
            format!(
                "{number}.\n  A: \"{one}\" [person]; also \"x\"\n     - {one} came.\n  B: \"{other}\" [person]\n"
            )
        };
        let prompt = format!(
            "<pairs>\n{}{}{}{}</pairs>",
            line(1, "J. Smith", "John Smith"),
            line(2, "GEF", "Global Energy Forum"),
            line(3, "Kowalski", "Kowalsky"),
            line(4, "Adam", "Eve"),
        );
        let wanted = json!({"pairs": [
            {"pair": 1, "verdict": "same"},
            {"pair": 2, "verdict": "same"},
            {"pair": 3, "verdict": "unsure"},
            {"pair": 4, "verdict": "different"},
        ]});
        assert_eq!(answer(&prompt), wanted);
    }
}
