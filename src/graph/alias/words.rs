//! A name as rules see it: its words without what says nothing of who is meant.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use crate::graph::{NameLabel, name_key};

/// What stands before a person's name and is no part of it.
const TITLES: [&str; 68] = [
    "mr",
    "mrs",
    "ms",
    "miss",
    "mx",
    "dr",
    "doctor",
    "prof",
    "professor",
    "sir",
    "dame",
    "lord",
    "lady",
    "president",
    "vice",
    "prime",
    "minister",
    "chancellor",
    "king",
    "queen",
    "prince",
    "princess",
    "emperor",
    "empress",
    "tsar",
    "sultan",
    "sheikh",
    "count",
    "countess",
    "duke",
    "duchess",
    "baron",
    "baroness",
    "earl",
    "pope",
    "cardinal",
    "archbishop",
    "bishop",
    "rev",
    "reverend",
    "father",
    "saint",
    "st",
    "rabbi",
    "general",
    "gen",
    "colonel",
    "col",
    "major",
    "maj",
    "captain",
    "capt",
    "lieutenant",
    "lt",
    "sergeant",
    "sgt",
    "admiral",
    "adm",
    "senator",
    "sen",
    "representative",
    "rep",
    "governor",
    "gov",
    "judge",
    "justice",
    "secretary",
    "hon",
];

/// What stands after a company's name and is no part of it.
const LEGAL: [&str; 24] = [
    "inc",
    "incorporated",
    "corp",
    "corporation",
    "co",
    "company",
    "ltd",
    "limited",
    "llc",
    "llp",
    "lp",
    "plc",
    "gmbh",
    "ag",
    "kg",
    "sa",
    "sas",
    "sarl",
    "srl",
    "spa",
    "nv",
    "bv",
    "ab",
    "oy",
];

/// What a place's name may have and leave out. No `county`: Orange County is not Orange.
const PLACE: [&str; 18] = [
    "people",
    "kingdom",
    "city",
    "town",
    "village",
    "province",
    "republic",
    "islands",
    "island",
    "river",
    "mountains",
    "archipelago",
    "peninsula",
    "cdp",
    "prefecture",
    "oblast",
    "region",
    "area",
];

/// What an organization's name may have after it and leave out.
const ORGANIZATION: [&str; 24] = [
    "university",
    "college",
    "school",
    "institute",
    "group",
    "holdings",
    "records",
    "party",
    "club",
    "fc",
    "bank",
    "hospital",
    "museum",
    "airlines",
    "airways",
    "motors",
    "association",
    "foundation",
    "society",
    "press",
    "publishing",
    "bros",
    "brothers",
    "band",
];

/// Words between the words of a name.
const SMALL: [&str; 30] = [
    "of", "the", "and", "for", "in", "on", "at", "to", "a", "an", "de", "la", "le", "les", "des",
    "du", "del", "da", "do", "di", "von", "van", "der", "den", "el", "al", "bin", "ibn", "und",
    "et",
];

pub(super) fn is_particle(word: &str) -> bool {
    SMALL.contains(&word)
}

/// A name's words.
#[derive(Debug)]
pub(super) struct Words {
    /// The words joined: what variants of one spelling share.
    pub(super) key: String,
    each: Vec<String>,
    /// As it is written, but for blank and marks around it.
    written: String,
}

impl Words {
    pub(super) fn of(spelling: &str, label: NameLabel) -> Self {
        let folded: String = name_key(spelling)
            .nfkd()
            .filter(|&c| !is_combining_mark(c))
            .map(plain)
            .collect();
        let mut words: Vec<String> = folded
            .split(|c: char| {
                c.is_whitespace() || matches!(c, '-' | '‐' | '‑' | '–' | '/' | '&' | ',')
            })
            .flat_map(|word| initials_apart(word, label))
            .map(|word| {
                word.chars()
                    .filter(|c| c.is_alphanumeric())
                    .collect::<String>()
            })
            .filter(|word| !word.is_empty())
            .collect();
        match label {
            NameLabel::Per => {
                let titles = words
                    .iter()
                    .take_while(|word| TITLES.contains(&word.as_str()))
                    .count();
                words.drain(..titles.min(words.len().saturating_sub(1)));
            }
            NameLabel::Org => {
                while words.len() > 1
                    && words
                        .last()
                        .is_some_and(|last| LEGAL.contains(&last.as_str()))
                {
                    words.pop();
                }
            }
            NameLabel::Loc | NameLabel::Misc => {}
        }
        Self {
            key: words.join(" "),
            each: words,
            written: spelling
                .split_whitespace()
                .filter(|word| !word.eq_ignore_ascii_case("the"))
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    /// How much of the whole name it is.
    pub(super) fn fullness(&self) -> usize {
        self.each
            .iter()
            .filter(|word| word.chars().count() > 1)
            .count()
    }

    pub(super) fn last(&self) -> Option<&str> {
        self.each.last().map(String::as_str)
    }

    /// The words that are no initials and no particles.
    pub(super) fn full(&self) -> impl Iterator<Item = &str> {
        self.each
            .iter()
            .map(String::as_str)
            .filter(|word| word.chars().count() > 1 && !is_particle(word))
    }

    /// Its words in the order of the alphabet, so that "University of Cambridge" is "Cambridge University"; empty for
    /// a single word.
    pub(super) fn sorted(&self) -> String {
        let mut words: Vec<&str> = self
            .each
            .iter()
            .map(String::as_str)
            .filter(|word| !is_particle(word))
            .collect();
        if words.len() < 2 {
            return String::new();
        }
        words.sort_unstable();
        words.join(" ")
    }

    /// Whether it is a short form of `long`: the same words in the same order, some left out, some an initial.
    pub(super) fn shortens(&self, long: &Self, label: NameLabel) -> bool {
        if self.each.len() > long.each.len() || self.key == long.key {
            return false;
        }
        let mut rest = long.each.iter();
        let mut whole = false;
        let mut left_out: Vec<&str> = Vec::new();
        for word in &self.each {
            let found = rest.by_ref().find(|other| {
                let fits = *other == word || (label == NameLabel::Per && is_initial(word, other));
                if !fits {
                    left_out.push(other);
                }
                fits
            });
            let Some(found) = found else {
                return false;
            };
            whole |= found == word && word.chars().count() > 1 && !is_particle(word);
        }
        left_out.extend(rest.map(String::as_str));
        whole
            && match label {
                NameLabel::Per => true,
                NameLabel::Loc => left_out
                    .iter()
                    .all(|word| PLACE.contains(word) || is_particle(word)),
                // "Parliament" of "Norwegian Parliament", "Butler" of "Butler University"; but Samsung Electronics is
                // not Samsung.
                NameLabel::Org => {
                    self.last() == long.last()
                        || left_out.iter().all(|word| ORGANIZATION.contains(word))
                }
                // A sequel begins like what it goes on from: what a work leaves out makes it another one.
                NameLabel::Misc => false,
            }
    }

    /// The letters that its words begin with, with and without the small ones.
    pub(super) fn initials(&self) -> Vec<String> {
        if self.each.len() < 2 {
            return Vec::new();
        }
        let letters = |small: bool| -> String {
            self.each
                .iter()
                .filter(|word| small || !is_particle(word))
                .filter_map(|word| word.chars().next())
                .collect()
        };
        let mut all = vec![letters(true), letters(false)];
        all.dedup();
        all.retain(|letters| letters.chars().count() > 1);
        all
    }

    /// Whether it is an acronym whose letters `long` has in this order, from the first one on.
    pub(super) fn abbreviates(&self, long: &Self) -> bool {
        let Some(acronym) = self.acronym() else {
            return false;
        };
        let mut letters = long.key.chars();
        long.each.len() > 1
            && acronym.chars().next() == long.key.chars().next()
            && acronym
                .chars()
                .all(|wanted| letters.any(|letter| letter == wanted))
    }

    /// Its letters, if it is written like an acronym.
    pub(super) fn acronym(&self) -> Option<String> {
        let letters: String = self
            .written
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        let capitals = letters.chars().filter(|c| c.is_uppercase()).count();
        let blank = self.written.contains(char::is_whitespace) && !self.written.contains('.');
        let count = letters.chars().count();
        ((2..=10).contains(&count) && !blank && capitals * 3 >= count * 2)
            .then(|| letters.to_lowercase())
    }
}

/// Letters that are no base letter with a mark, but are written without one as well.
fn plain(c: char) -> char {
    match c {
        'ł' => 'l',
        'ø' => 'o',
        'đ' | 'ð' => 'd',
        'ı' => 'i',
        other => other,
    }
}

/// "j.r." is two initials of a person; elsewhere "u.s" is one word.
fn initials_apart(word: &str, label: NameLabel) -> Vec<&str> {
    if label == NameLabel::Per && word.contains('.') {
        word.split('.').collect()
    } else {
        vec![word]
    }
}

/// Whether one is the first letter of the other.
fn is_initial(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    short.chars().count() == 1 && long.starts_with(short)
}
