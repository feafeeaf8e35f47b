//! From a mention's label to a class of the ontology at hand.
//!
//! The label decides what kind of thing it is; small lists and the words in and right around the name decide which
//! finer class, if the ontology has one. Knows no weight. The time is linear in the mentions.

use std::collections::HashMap;

use super::{
    lists::{self, Listed},
    token::{self, Token},
};
use crate::graph::{ClassId, Mention, MentionType, NameLabel, Ontology, Text, ValueKind, name_key};

/// How many bytes on either side of a mention may tell its class.
const WINDOW: usize = 60;

/// A finer kind of thing than a label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Fine {
    Country,
    Group,
    Language,
    Event,
    Award,
    Product,
    Work,
}

impl Fine {
    /// The ids that ontologies have for it, the usual one first.
    const fn ids(self) -> &'static [&'static str] {
        match self {
            Self::Country => &["country"],
            Self::Group => &["group", "nationality"],
            Self::Language => &["language"],
            Self::Event => &["event"],
            Self::Award => &["award"],
            Self::Product => &["product"],
            Self::Work => &["work", "creative_work"],
        }
    }
}

/// The class of each mention for which the ontology has one.
pub(super) fn classify(text: &Text, group: &[Mention], ontology: &Ontology) -> Vec<MentionType> {
    let (values, group): (Vec<&Mention>, Vec<&Mention>) =
        group.iter().partition(|mention| mention.value.is_some());
    let tops = Tops::new(ontology);
    let fine: Vec<Option<Fine>> = group.iter().map(|mention| fine(text, mention)).collect();
    // What one mention of a name is told to be by its context, the others are too.
    let mut told: HashMap<(NameLabel, String), Fine> = HashMap::new();
    let key = |mention: &Mention| {
        (
            mention.label.unwrap_or(NameLabel::Misc),
            name_key(text.slice(mention.span)),
        )
    };
    for (mention, fine) in group.iter().zip(&fine) {
        if let Some(fine) = fine {
            let entry = told.entry(key(mention)).or_insert(*fine);
            *entry = (*entry).min(*fine);
        }
    }
    let values = values.into_iter().filter_map(|mention| {
        let value = mention.value.as_ref()?;
        Some(MentionType {
            span: mention.span,
            class: class_of_value(value.kind, ontology)?,
            confidence: mention.confidence,
        })
    });
    let mut types: Vec<MentionType> = group
        .iter()
        .filter_map(|mention| {
            let label = mention.label.unwrap_or(NameLabel::Misc);
            let class = told
                .get(&key(mention))
                .and_then(|fine| tops.fine(*fine))
                .or_else(|| tops.of(label))?;
            Some(MentionType {
                span: mention.span,
                class,
                confidence: mention.confidence,
            })
        })
        .chain(values)
        .collect();
    types.sort_by_key(|given| given.span);
    types
}

/// The class of a value, which was known when it was found. One for which the ontology has no class is not published.
fn class_of_value(kind: ValueKind, ontology: &Ontology) -> Option<ClassId> {
    let id = ClassId::new(match kind {
        ValueKind::Date => "date",
        ValueKind::Money => "money",
        ValueKind::Percentage => "percentage",
        ValueKind::Quantity => "quantity",
    });
    ontology.class(&id).is_some().then_some(id)
}

/// The topmost class of each label, and which finer ones there are.
struct Tops<'a> {
    ontology: &'a Ontology,
    by_label: [Option<ClassId>; 4],
}

impl<'a> Tops<'a> {
    fn new(ontology: &'a Ontology) -> Self {
        let by_label = [
            NameLabel::Per,
            NameLabel::Org,
            NameLabel::Loc,
            NameLabel::Misc,
        ]
        .map(|label| {
            // Parents stand before their children.
            let top = ontology
                .classes
                .iter()
                .find(|class| ontology.label_of(&class.id) == Some(label));
            let usual = match label {
                NameLabel::Per => "person",
                NameLabel::Org => "organization",
                NameLabel::Loc => "location",
                NameLabel::Misc => "thing",
            };
            let named = ontology.class(&ClassId::new(usual));
            // An ontology without labels may still have the usual names.
            top.or(named.filter(|class| ontology.label_of(&class.id).is_none()))
                .map(|class| class.id.clone())
        });
        Self { ontology, by_label }
    }

    fn of(&self, label: NameLabel) -> Option<ClassId> {
        self.by_label[label as usize].clone()
    }

    fn fine(&self, fine: Fine) -> Option<ClassId> {
        fine.ids()
            .iter()
            .map(|id| ClassId::new(*id))
            .find(|id| self.ontology.class(id).is_some())
    }
}

/// What finer kind of thing a mention surely is.
fn fine(text: &Text, mention: &Mention) -> Option<Fine> {
    let label = mention.label.unwrap_or(NameLabel::Misc);
    let whole = text.as_str();
    let bytes = text.bytes(mention.span);
    let name = &whole[bytes.clone()];
    match label {
        NameLabel::Per | NameLabel::Org => None,
        NameLabel::Loc if lists::is(name, Listed::Nationality) => Some(Fine::Group),
        NameLabel::Loc => lists::is(name, Listed::Country).then_some(Fine::Country),
        NameLabel::Misc => {
            let (start, end) = around(whole, &bytes);
            let before = token::tokens(whole, start..bytes.start);
            let own = token::tokens(whole, bytes.clone());
            let after = token::tokens(whole, bytes.end..end);
            of_misc(name, &own, &before, &after)
        }
    }
}

fn around(text: &str, bytes: &std::ops::Range<usize>) -> (usize, usize) {
    let mut start = bytes.start.saturating_sub(WINDOW);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let mut end = (bytes.end + WINDOW).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (start, end)
}

fn of_misc(
    name: &str,
    own: &[Token<'_>],
    before: &[Token<'_>],
    after: &[Token<'_>],
) -> Option<Fine> {
    let next = after.first();
    let previous = before.last();
    let tongue = previous
        .is_some_and(|previous| previous.is_one_of(&["speak", "speaks", "spoke", "spoken"]))
        || next.is_some_and(|next| {
            next.is_one_of(&[
                "language",
                "languages",
                "dialect",
                "alphabet",
                "-speaking",
                "grammar",
            ])
        })
        || previous.is_some_and(|previous| previous.is("in"))
            && before.iter().rev().nth(1).is_some_and(|verb| {
                verb.is_one_of(&[
                    "written",
                    "published",
                    "sung",
                    "recorded",
                    "spoken",
                    "fluent",
                ])
            });
    if lists::is(name, Listed::Language) && (tongue || !lists::is(name, Listed::Nationality)) {
        return Some(Fine::Language);
    }
    if lists::is(name, Listed::Nationality) || lists::is(name, Listed::Group) {
        return Some(Fine::Group);
    }
    // The head of a name is its last word, or the one before "of": Battle of Hastings, Nobel Prize in Physics.
    let head = own
        .iter()
        .position(|token| token.is_one_of(&["of", "in", "for", "on", "at"]))
        .filter(|&at| at > 0)
        .map_or(own.last(), |at| own.get(at - 1));
    let ending = own
        .iter()
        .rev()
        .find(|token| token.text.starts_with(char::is_alphabetic));
    let by_head = head
        .and_then(|head| by_noun(&head.lower))
        .or_else(|| ending.and_then(|last| by_noun(&last.lower)));
    if by_head.is_some() {
        return by_head;
    }
    // World War II, 2006 Winter Olympics, Super Bowl XL.
    if let Some(inside) = own.iter().find_map(|token| {
        by_noun(&token.lower).filter(|fine| matches!(fine, Fine::Event | Fine::Award))
    }) {
        return Some(inside);
    }
    // "the novel X", "his film “X”", "X, a song by …", "X is an opera".
    let spoken = before
        .iter()
        .rev()
        .find(|token| token.text.starts_with(char::is_alphanumeric));
    if let Some(fine) = spoken.and_then(|noun| by_noun(&noun.lower)) {
        return Some(fine);
    }
    let copula = next.is_some_and(|next| next.is_one_of(&["is", "was", ",", "are", "were"]));
    if copula
        && after
            .get(1)
            .is_some_and(|article| article.is_one_of(&["a", "an", "the"]))
    {
        let nouns = after[2..].iter().take_while(|token| {
            token.text.starts_with(char::is_alphanumeric)
                && !token.is_one_of(&["by", "of", "in", "that", "which", "and", "for", "from"])
        });
        if let Some(fine) = nouns.filter_map(|noun| by_noun(&noun.lower)).last() {
            return Some(fine);
        }
    }
    let quoted = previous.is_some_and(is_quote) && next.is_some_and(is_quote);
    if quoted {
        return Some(Fine::Work);
    }
    // A letter and a number, or a number at its end: B-52, Windows 95.
    let numbered = own.iter().any(|token| {
        token.text.contains(|c: char| c.is_ascii_digit()) && token.text.contains(char::is_uppercase)
    });
    numbered.then_some(Fine::Product)
}

fn is_quote(token: &Token<'_>) -> bool {
    matches!(
        token.text,
        "\"" | "“" | "”" | "„" | "«" | "»" | "*" | "_" | "`" | "‘" | "’" | "'"
    )
}

fn by_noun(lower: &str) -> Option<Fine> {
    match lists::noun(lower)? {
        "event" => Some(Fine::Event),
        "award" => Some(Fine::Award),
        "product" => Some(Fine::Product),
        "work" => Some(Fine::Work),
        "language" => Some(Fine::Language),
        _ => None,
    }
}
