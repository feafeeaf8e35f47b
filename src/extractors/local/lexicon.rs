//! The word lists, and the one question that they answer: what does this word hint at?
//!
//! They are small and written from general knowledge; a name that no list has is judged by its context.

use std::{collections::HashMap, sync::LazyLock};

use super::token::Token;

/// What a word hints at: any number of the hints below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hints(u32);

impl Hints {
    pub(super) const PERSON: Self = Self(1);
    pub(super) const ORGANIZATION: Self = Self(1 << 1);
    pub(super) const PLACE: Self = Self(1 << 2);
    pub(super) const EVENT: Self = Self(1 << 3);
    pub(super) const WORK: Self = Self(1 << 4);
    /// A word of grammar, or one that is capitalized only because it opens a sentence.
    pub(super) const FUNCTION: Self = Self(1 << 5);
    /// A title or an office before a person's name.
    pub(super) const ROLE: Self = Self(1 << 6);
    /// A title that stays part of the name before "of".
    pub(super) const NOBLE: Self = Self(1 << 7);
    /// A month or a day of the week.
    pub(super) const MONTH: Self = Self(1 << 8);
    /// A small word inside a name: von, de, van.
    pub(super) const PARTICLE: Self = Self(1 << 9);
    /// Ends a name after a comma: Inc., Jr.
    pub(super) const SUFFIX: Self = Self(1 << 10);
    pub(super) const NOT_A_NAME: Self = Self(1 << 11);
    pub(super) const KIN: Self = Self(1 << 12);
    pub(super) const FIRST_NAME: Self = Self(1 << 13);
    pub(super) const COUNTRY: Self = Self(1 << 14);
    pub(super) const REGION: Self = Self(1 << 15);
    pub(super) const CITY: Self = Self(1 << 16);
    pub(super) const NATIONALITY: Self = Self(1 << 17);
    pub(super) const LISTED_ORGANIZATION: Self = Self(1 << 18);
    /// Begins a name before a capital, and is nothing alone: New York, First World War.
    pub(super) const ADJECTIVE: Self = Self(1 << 19);
    /// Ends no person's name: an office, not a surname.
    pub(super) const OFFICEHOLDER: Self = Self(1 << 20);
    /// Any place that a list has by name.
    pub(super) const LISTED_PLACE: Self = Self(Self::COUNTRY.0 | Self::REGION.0 | Self::CITY.0);

    pub(super) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl std::ops::BitOr for Hints {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

static CUES: LazyLock<HashMap<&'static str, Hints>> = LazyLock::new(|| {
    let mut cues: HashMap<&'static str, Hints> = HashMap::new();
    for line in include_str!("cues.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let mut words = line.split_whitespace();
        let hint = match words.next() {
            Some("person") => Hints::PERSON,
            Some("organization") => Hints::ORGANIZATION,
            Some("place") => Hints::PLACE,
            Some("event") => Hints::EVENT,
            Some("work") => Hints::WORK,
            Some("function") => Hints::FUNCTION,
            Some("role") => Hints::ROLE,
            Some("noble") => Hints::NOBLE,
            Some("month") => Hints::MONTH,
            Some("particle") => Hints::PARTICLE,
            Some("suffix") => Hints::SUFFIX,
            Some("kin") => Hints::KIN,
            Some("officeholder") => Hints::OFFICEHOLDER,
            Some("adjective") => Hints::ADJECTIVE,
            _ => Hints::NOT_A_NAME,
        };
        for word in words {
            cues.entry(word).or_default().0 |= hint.0;
        }
    }
    cues
});

static NAMES: LazyLock<HashMap<&'static str, Hints>> = LazyLock::new(|| {
    let mut names: HashMap<&'static str, Hints> = HashMap::new();
    for (list, hint) in [
        (include_str!("first_names.txt"), Hints::FIRST_NAME),
        (include_str!("countries.txt"), Hints::COUNTRY),
        (include_str!("regions.txt"), Hints::REGION),
        (include_str!("cities.txt"), Hints::CITY),
        (include_str!("nationalities.txt"), Hints::NATIONALITY),
        (
            include_str!("organizations.txt"),
            Hints::LISTED_ORGANIZATION,
        ),
    ] {
        for name in list.lines() {
            names.entry(name).or_default().0 |= hint.0;
        }
    }
    names
});

/// The hints of a word in lower case.
pub(super) fn word(lower: &str) -> Hints {
    CUES.get(lower).copied().unwrap_or_default()
}

/// The hints of a whole name as it is written.
pub(super) fn name(written: &str) -> Hints {
    NAMES.get(written).copied().unwrap_or_default()
}

impl Token<'_> {
    /// What its lower-case form hints at.
    pub(super) fn hints(&self) -> Hints {
        let lower = self.lower.as_str();
        let last = lower.rsplit('-').next().unwrap_or(lower);
        let stem = lower.strip_suffix('.').filter(|stem| stem.len() > 1);
        word(if self.word() { last } else { lower }) | word(stem.unwrap_or(""))
    }

    /// What its written form hints at as a name.
    pub(super) fn named(&self) -> Hints {
        name(self.text)
    }

    /// A word with a capital, at its beginning or inside.
    pub(super) fn capital(&self) -> bool {
        self.word() && self.text.contains(char::is_uppercase)
    }

    pub(super) fn word(&self) -> bool {
        self.text.starts_with(char::is_alphabetic)
    }

    pub(super) fn is_number(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_digit())
    }

    pub(super) fn is_quote(&self) -> bool {
        matches!(self.text, "\"" | "“" | "”" | "„" | "«" | "»" | "*" | "_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_read() {
        assert!(word("university").any(Hints::ORGANIZATION));
        assert!(word("river").any(Hints::PLACE));
        assert!(word("inc.").any(Hints::SUFFIX));
        assert!(word("tv").any(Hints::NOT_A_NAME));
        assert!(name("Ada").any(Hints::FIRST_NAME));
        assert!(name("New York City").any(Hints::LISTED_PLACE));
        assert!(name("German").any(Hints::NATIONALITY));
        assert_eq!(name("Xyzzy"), Hints::default());
    }
}
