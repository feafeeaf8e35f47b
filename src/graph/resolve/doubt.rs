//! Two clusters that may be one thing, as somebody is asked about them who can read; and what an answer may do.
//!
//! The rules propose, whoever is asked says, and the constraints have the last word: no answer unites what contradicts
//! itself. Invariant: a question says the same whichever side comes first, and whatever the order of anything else.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Reason,
    compare::conflict,
    form::{Form, is_small},
    intake::Node,
    kind::Kind,
    things::{MOST, agree},
};
use crate::graph::{ClassId, NameLabel, Text, sentences};

/// A side of a question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Described {
    /// The name that it goes by.
    pub name: String,
    /// Its class.
    pub class: String,
    /// What else it is called.
    pub also: Vec<String>,
    /// Sentences, or parts of them, in which it is named, word for word.
    pub contexts: Vec<String>,
}

/// Two that may be one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DoubtfulPair {
    /// The one; the lesser of the two.
    pub left: Described,
    /// The other.
    pub right: Described,
}

impl DoubtfulPair {
    /// The pair, whichever side is named first.
    #[must_use]
    pub fn new(one: Described, other: Described) -> Self {
        let (left, right) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self { left, right }
    }
}

/// What somebody says who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sameness {
    /// One thing.
    Same,
    /// Two things.
    Different,
    /// It can't be told from what was shown.
    Unsure,
}

/// Who bears a name, and where.
#[derive(Debug, Clone)]
pub struct Bearer<'a, D> {
    /// The name.
    pub name: &'a str,
    /// The normal form of a value.
    pub value: Option<&'a str>,
    /// The class.
    pub class: ClassId,
    /// What a tagger calls the names of the class.
    pub label: Option<NameLabel>,
    /// The document.
    pub document: D,
}

/// Whether two clusters may become one thing because somebody says so who was not sure by any rule: nothing about them
/// contradicts itself, type, numbers, generations, first and middle names, and no document keeps them apart.
///
/// `told`: it was said of these very two. Otherwise it follows from what was said of others, and then their names have
/// to agree by themselves, so that no chain of answers grows.
#[must_use]
pub fn may_be_one<D: Ord + Copy>(
    left: &[Bearer<'_, D>],
    right: &[Bearer<'_, D>],
    told: bool,
) -> bool {
    let (Some(left), Some(right)) = (forms(left), forms(right)) else {
        return false;
    };
    left.iter().all(|(a, here)| {
        right.iter().all(|(b, there)| {
            !conflict(a, b, Reason::Part)
                && (a.form.key == b.form.key || here.is_disjoint(there))
                && (told || follows(a, b))
        })
    })
}

/// Whether it may follow from what was said of others: a short form agrees with whatever is long, which is not enough
/// here, where nothing but answers led from one to the other.
fn follows(a: &Node, b: &Node) -> bool {
    let is_short = |node: &Node| node.form.is_bare() || node.form.acronym;
    if !agree(a, b) {
        return false;
    }
    if !is_short(a) && !is_short(b) {
        return true;
    }
    let (short, long) = if is_short(a) { (a, b) } else { (b, a) };
    let letters = || {
        let words = long.form.words().filter(|word| !is_small(word));
        words
            .filter_map(|word| word.chars().next())
            .collect::<String>()
    };
    let inside = |word: &str| long.form.words().any(|other| other == word);
    short.form.words().all(inside) || *short.form.key == *letters()
}

/// Each form once, with its documents; none of values, which are one thing or not without asking, nor of more forms
/// than are compared.
fn forms<D: Ord + Copy>(bearers: &[Bearer<'_, D>]) -> Option<BTreeMap<Node, BTreeSet<D>>> {
    let mut forms: BTreeMap<Node, BTreeSet<D>> = BTreeMap::new();
    for bearer in bearers {
        let kind = Kind::of(Some(&bearer.class), bearer.label);
        let node = Node {
            kind,
            form: Form::of(bearer.name, kind),
            value: None,
            apart: 0,
        };
        if bearer.value.is_some() || !node.is_name() {
            return None;
        }
        forms.entry(node).or_default().insert(bearer.document);
    }
    (forms.len() <= MOST).then_some(forms)
}

/// What stands around the name at `at..end` (characters) of `window`, which is a stretch of a text: its sentence, cut to
/// about `most` characters, in one line.
#[must_use]
pub fn context(window: &str, at: u32, end: u32, most: u32) -> String {
    let text = Text::new(window);
    let end = end.min(text.chars()).max(at.min(text.chars()));
    let at = at.min(end);
    let sentence = sentences(&text)
        .into_iter()
        .find(|sentence| sentence.start <= at && at < sentence.end);
    let (mut from, mut to) = sentence.map_or((at, end), |sentence| (sentence.start, sentence.end));
    let room = most.saturating_sub(end - at) / 2;
    let (first, last) = (from, to);
    from = from.max(at.saturating_sub(room));
    to = to.min(end.saturating_add(room)).max(end);
    let words: Vec<&str> = text
        .slice(crate::graph::Span::new(from, to))
        .split_whitespace()
        .collect();
    let (before, after) = (
        if from > first { "…" } else { "" },
        if to < last { "…" } else { "" },
    );
    format!("{before}{}{after}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearers<'a>(names: &[(&'a str, &str, u32)]) -> Vec<Bearer<'a, u32>> {
        let bearer = |&(name, class, document): &(&'a str, &str, u32)| Bearer {
            name,
            value: None,
            class: ClassId::new(class.to_owned()),
            label: None,
            document,
        };
        names.iter().map(bearer).collect()
    }

    #[test]
    fn no_answer_unites_what_contradicts_itself() {
        let (per, org) = ("person", "organization");
        for (left, right, told, follows) in [
            // Said of the two, nothing speaks against it.
            (("GEF", org, 0), ("Global Energy Forum", org, 1), true, true),
            (("J. Smith", per, 0), ("John Smith", per, 1), true, true),
            (("Kowalski", per, 0), ("Kowalsky", per, 1), true, false),
            // A type, a number, a first name, a document that keeps them apart.
            (
                ("Washington", per, 0),
                ("Washington", "location", 1),
                false,
                false,
            ),
            (
                ("Apollo 11 Board", org, 0),
                ("Apollo 12 Board", org, 1),
                false,
                false,
            ),
            (
                ("John Smith", per, 0),
                ("James Smith", per, 1),
                false,
                false,
            ),
            (
                ("GEF", org, 0),
                ("Global Energy Forum", org, 0),
                false,
                false,
            ),
        ] {
            let (one, other) = (bearers(&[left]), bearers(&[right]));
            assert_eq!(may_be_one(&one, &other, true), told, "{left:?} {right:?}");
            assert_eq!(may_be_one(&other, &one, true), told, "{left:?} {right:?}");
            assert_eq!(
                may_be_one(&one, &other, false),
                follows,
                "{left:?} {right:?}"
            );
        }
        let both = bearers(&[("J. Smith", per, 0), ("John Smith", per, 1)]);
        let james = bearers(&[("James Smith", per, 2)]);
        assert!(!may_be_one(&both, &james, true), "one of them contradicts");
    }

    #[test]
    fn values_are_never_in_doubt() {
        let mut one = bearers(&[("13 March 1963", "date", 0)]);
        one[0].value = Some("1963-03-13");
        assert!(!may_be_one(
            &one,
            &bearers(&[("March 1963", "date", 1)]),
            true
        ));
    }

    #[test]
    fn a_pair_has_no_first_side() {
        let side = |name: &str| Described {
            name: name.to_owned(),
            class: "person".to_owned(),
            also: Vec::new(),
            contexts: Vec::new(),
        };
        assert_eq!(
            DoubtfulPair::new(side("b"), side("a")),
            DoubtfulPair::new(side("a"), side("b"))
        );
    }

    #[test]
    fn a_context_is_the_sentence_and_no_longer_than_asked() {
        let window = "It rained. Then J. Smith\nmet Dr. Novak in Oslo. Nobody came.";
        let at = u32::try_from(window.find("J. Smith").unwrap()).unwrap();
        assert_eq!(
            context(window, at, at + 8, 200),
            "Then J. Smith met Dr. Novak in Oslo."
        );
        assert_eq!(context(window, at, at + 8, 20), "Then J. Smith met D…");
        assert_eq!(context("", 5, 9, 20), "");
        let long = "ä".repeat(500);
        assert!(context(&long, 250, 260, 60).chars().count() <= 62);
    }
}
