//! The keys by which a cluster that exists already is found again: names that may be one thing's share one.
//!
//! Knows spellings only. Keys decide nothing: what shares one is compared, and what shares none is never compared. A
//! key is kept as a hash, and its rules may not change without clusters being lost from sight, so they are plain.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::name_key;

/// Words of a name that are no part of it for a key.
const SILENT: [&str; 14] = [
    "inc",
    "corp",
    "corporation",
    "co",
    "company",
    "ltd",
    "llc",
    "plc",
    "ag",
    "gmbh",
    "mr",
    "mrs",
    "ms",
    "dr",
];
/// Letters of what may be an acronym. **Source:** one letter says nothing, and longer ones are words.
const ACRONYM: std::ops::RangeInclusive<usize> = 2..=8;

/// The keys of a thing with these names, ascending; the hashes are the same on every machine and in every release. A
/// value is known by nothing but itself.
#[must_use]
pub fn block_keys<'a>(
    names: impl IntoIterator<Item = &'a str>,
    value: Option<&str>,
) -> BTreeSet<i64> {
    let mut keys = BTreeSet::new();
    if let Some(value) = value {
        keys.insert(hashed("value", value));
        return keys;
    }
    for name in names {
        keys_of_name(name, &mut keys);
    }
    keys
}

fn keys_of_name(name: &str, keys: &mut BTreeSet<i64>) {
    let same = name_key(name);
    if same.is_empty() {
        return;
    }
    keys.insert(hashed("name", &same));
    let letters = plain(&same);
    let all: Vec<&str> = letters.split_whitespace().collect();
    let mut words: Vec<&str> = all
        .iter()
        .copied()
        .filter(|word| !SILENT.contains(word))
        .collect();
    if words.is_empty() {
        words = all;
    }
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return;
    };
    // Word order, hyphens, accents, legal forms.
    let mut sorted = words.clone();
    sorted.sort_unstable();
    keys.insert(hashed("words", &sorted.join(" ")));
    // Vowels and doubled letters are where spellings differ.
    keys.insert(hashed("sound", &skeleton(&sorted.concat())));
    keys.insert(hashed("last", last));
    if words.len() > 1 {
        let initial = first.chars().next().unwrap_or_default();
        keys.insert(hashed("initial", &format!("{initial} {last}")));
        let acronym: String = words
            .iter()
            .filter_map(|word| word.chars().next())
            .collect();
        if ACRONYM.contains(&acronym.chars().count()) {
            keys.insert(hashed("acronym", &acronym));
        }
    }
    let said: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    let is_shouted =
        said.chars().all(|c| !c.is_lowercase()) && said.chars().any(char::is_uppercase);
    if is_shouted && ACRONYM.contains(&said.chars().count()) {
        keys.insert(hashed("acronym", &said.to_lowercase()));
    }
}

/// Lower-case letters and digits without their accents; everything else parts words.
fn plain(name: &str) -> String {
    name.nfkd()
        .filter(|c| !is_combining_mark(*c) && *c != '\'')
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect()
}

fn skeleton(word: &str) -> String {
    let mut skeleton = String::with_capacity(word.len());
    let mut before = None;
    for c in word.chars() {
        let is_vowel = matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y' | 'h');
        // The first letter stays: names that begin with another one are other names.
        if before != Some(c) && (!is_vowel || skeleton.is_empty()) {
            skeleton.push(c);
        }
        before = Some(c);
    }
    skeleton
}

/// FNV-1a: short, and the same for ever.
fn hashed(kind: &str, key: &str) -> i64 {
    let bytes = kind.bytes().chain([0]).chain(key.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(name: &str) -> BTreeSet<i64> {
        block_keys([name], None)
    }

    #[test]
    fn names_that_may_be_one_things_share_a_key() {
        for (a, b) in [
            ("The Royal Society", "royal society"),
            ("Intel Corp.", "Intel"),
            ("Zoë Müller", "Zoe Muller"),
            ("Keller, Maria", "Maria Keller"),
            ("J. K. Rowling", "Joanne Rowling"),
            ("Angela Merkel", "Merkel"),
            ("IBM", "International Business Machines"),
            ("Catherine", "Catharine"),
            ("Philipp", "Philip"),
        ] {
            assert!(!keys(a).is_disjoint(&keys(b)), "{a} / {b}");
        }
    }

    #[test]
    fn other_names_share_none() {
        for (a, b) in [("Paris", "Paris Hilton"), ("Vienna", "Oslo"), ("", "…")] {
            assert!(keys(a).is_disjoint(&keys(b)), "{a} / {b}");
        }
    }

    #[test]
    fn a_value_is_known_by_itself_alone() {
        let a = block_keys(["13 March 1963"], Some("1963-03-13"));
        assert_eq!(a, block_keys(["March 13, 1963"], Some("1963-03-13")));
        assert!(a.is_disjoint(&keys("1963-03-13")));
    }

    /// They are stored: a key that changed would lose every cluster from sight.
    #[test]
    fn a_key_stays_what_it_is() {
        assert!(keys("Ada").contains(&hashed("name", "ada")));
        assert_eq!(hashed("name", "ada"), -1_907_306_122_807_622_750);
    }
}
