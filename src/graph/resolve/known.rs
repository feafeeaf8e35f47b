//! Names that everybody knows to be one thing's: countries, states, institutions; first names and their short forms.
//!
//! Written by hand for this project, from general knowledge. An entry is here only if its names are of one thing nearly
//! wherever news use them; "Georgia" and "Congo" are not. Keys are as `form` writes them: lower case, no marks.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use super::form::folded;

/// First names that are enough to know who is meant.
const ALONE: [&str; 12] = [
    "saddam", "osama", "usama", "usamah", "muammar", "benazir", "elvis", "oprah", "whoopi",
    "slobodan", "adolf", "hillary",
];

/// First names that are places as often.
const TOWNS: [&str; 8] = [
    "charlotte",
    "florence",
    "victoria",
    "chelsea",
    "virginia",
    "madison",
    "lincoln",
    "sofia",
];

/// From a name's key to the canonical one.
type Table = HashMap<String, String>;

/// Places: the canonical name, then others. Regions of a country, which follow a city's name, are marked by `+`.
const PLACES: &str = include_str!("known/places.txt");
/// Institutions.
const ORGANIZATIONS: &str = include_str!("known/organizations.txt");
/// Events.
const EVENTS: &str = include_str!("known/events.txt");
/// First names: a full one, then its short forms.
const SHORT: &str = include_str!("known/short.txt");
/// First names of women, and of men or both.
const WOMEN: &str = include_str!("known/women.txt");
const MEN: &str = include_str!("known/men.txt");
/// Surnames that many people have.
const SURNAMES: &str = include_str!("known/surnames.txt");

static PLACE: LazyLock<Table> = LazyLock::new(|| table(PLACES));
static ORGANIZATION: LazyLock<Table> = LazyLock::new(|| table(ORGANIZATIONS));
static EVENT: LazyLock<Table> = LazyLock::new(|| table(EVENTS));
static REGION: LazyLock<HashSet<String>> = LazyLock::new(|| {
    lines(PLACES)
        .filter_map(|line| line.strip_prefix('+'))
        .flat_map(names)
        .map(key)
        .collect()
});
static NICK: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let mut full: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in lines(SHORT) {
        let mut each = names(line);
        let Some(first) = each.next() else { continue };
        for short in each {
            full.entry(short).or_default().push(first);
        }
    }
    full
});
static FEMALE: LazyLock<HashSet<&str>> = LazyLock::new(|| WOMEN.split_whitespace().collect());
static COMMON: LazyLock<HashSet<&str>> = LazyLock::new(|| SURNAMES.split_whitespace().collect());
static GIVEN: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let short = lines(SHORT).flat_map(names);
    let all = WOMEN.split_whitespace().chain(MEN.split_whitespace());
    all.chain(short).collect()
});

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn names(line: &'static str) -> impl Iterator<Item = &'static str> {
    line.split(';').map(str::trim)
}

fn table(text: &'static str) -> Table {
    let mut canonical = HashMap::new();
    for line in lines(text) {
        let mut each = names(line.trim_start_matches('+'));
        let Some(first) = each.next() else { continue };
        let first = key(first);
        canonical.extend(each.map(|name| (key(name), first.clone())));
        canonical.insert(first.clone(), first);
    }
    canonical
}

fn key(name: &str) -> String {
    folded(name, false).join(" ")
}

/// The canonical name of a place.
pub(super) fn place(key: &str) -> Option<&'static str> {
    PLACE.get(key).map(String::as_str)
}

/// The canonical name of an institution.
pub(super) fn organization(key: &str) -> Option<&'static str> {
    ORGANIZATION.get(key).map(String::as_str)
}

/// The canonical name of an event.
pub(super) fn event(key: &str) -> Option<&'static str> {
    EVENT.get(key).map(String::as_str)
}

/// The canonical name of a country or region that may stand behind a city's.
pub(super) fn region(key: &str) -> Option<&'static str> {
    REGION.contains(key).then(|| place(key)).flatten()
}

/// Whether people are called so.
pub(super) fn is_given(word: &str) -> bool {
    GIVEN.contains(word)
}

/// Whether so many people have this surname, or it is a first name too, that it alone says nothing.
pub(super) fn is_common(word: &str) -> bool {
    COMMON.contains(word) || (GIVEN.contains(word) && !ALONE.contains(&word))
}

/// Whether it is a first name and nothing more, even where nobody says that it is a person's.
pub(super) fn is_only_given(word: &str) -> bool {
    GIVEN.contains(word)
        && !COMMON.contains(word)
        && !ALONE.contains(&word)
        && !TOWNS.contains(&word)
}

/// Whether women are called so.
pub(super) fn is_female(word: &str) -> bool {
    FEMALE.contains(word)
}

/// Whether one is a short form of the other, or both are of one name.
pub(super) fn is_short_for(a: &str, b: &str) -> bool {
    let none = Vec::new();
    let (of_a, of_b) = (NICK.get(a).unwrap_or(&none), NICK.get(b).unwrap_or(&none));
    of_a.contains(&b) || of_b.contains(&a) || of_a.iter().any(|full| of_b.contains(full))
}

/// The full forms of a first name, itself among them.
pub(super) fn full_forms(word: &str) -> impl Iterator<Item = &str> {
    let full = NICK.get(word).map(Vec::as_slice).unwrap_or_default();
    std::iter::once(word).chain(full.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_two_things() {
        for text in [PLACES, ORGANIZATIONS, EVENTS] {
            let mut seen: HashMap<String, &str> = HashMap::new();
            for line in lines(text) {
                for name in names(line.trim_start_matches('+')) {
                    let before = seen.insert(key(name), line);
                    assert!(before.is_none_or(|other| other == line), "{name}");
                }
            }
        }
    }

    #[test]
    fn short_forms_are_known_both_ways() {
        assert!(is_short_for("bill", "william"));
        assert!(is_short_for("william", "will"));
        assert!(is_short_for("bill", "will"));
        assert!(!is_short_for("bill", "bob"));
        assert!(is_given("angela") && is_female("angela"));
        assert_eq!(place("usa"), Some("united states"));
        assert_eq!(region("calif"), Some("california"));
    }
}
