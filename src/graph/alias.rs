//! Which names of one document are of one thing: "Merkel" and "Angela Merkel", "IBM" and "International Business
//! Machines".
//!
//! Deterministic rules by label, over names that were already told apart by their key. A short form joins a longer one
//! only if a single thing of the document fits; how alike two spellings look is never asked. Names of different labels
//! stay apart. The time is linear in the names but for a bounded factor ([`MOST`]).

mod words;

use std::collections::HashMap;

use super::NameLabel;
use words::Words;

/// One spelling key with its label, in the order of its first mention.
#[derive(Debug, Clone)]
pub(super) struct Name<'a> {
    /// As it is written where it is first mentioned.
    pub(super) spelling: &'a str,
    /// What it is a name of.
    pub(super) label: NameLabel,
    /// The name that it stands behind in brackets, as in "Association of Southeast Asian Nations (ASEAN)".
    pub(super) explains: Option<usize>,
}

/// The most names that share a word with another one and are still compared with it. A document that has more says too
/// little about who is meant.
const MOST: usize = 200;

/// For each name the first one of its thing, and how full a form it is: the more, the fuller.
pub(super) fn same(names: &[Name<'_>]) -> Vec<(usize, usize)> {
    let words: Vec<Words> = names
        .iter()
        .map(|name| Words::of(name.spelling, name.label))
        .collect();
    let mut things = Things((0..names.len()).collect());
    things.share(names, words.iter().map(|words| words.key.clone()));
    things.share(
        names,
        words
            .iter()
            .zip(names)
            .map(|(words, name)| match name.label {
                NameLabel::Org => words.sorted(),
                NameLabel::Per | NameLabel::Loc | NameLabel::Misc => String::new(),
            }),
    );
    things.shorten(names, &words);
    things.acronyms(names, &words);
    things.beside(names, &words);
    (0..names.len())
        .map(|index| (things.first(index), words[index].fullness()))
        .collect()
}

/// A forest over names, whose roots are the first ones.
struct Things(Vec<usize>);

impl Things {
    fn first(&mut self, mut name: usize) -> usize {
        while self.0[name] != name {
            self.0[name] = self.0[self.0[name]];
            name = self.0[name];
        }
        name
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }

    /// Joins names of one label that have one key; an empty key is none.
    fn share(&mut self, names: &[Name<'_>], keys: impl Iterator<Item = String>) {
        let mut seen: HashMap<(NameLabel, String), usize> = HashMap::new();
        for (index, (name, key)) in names.iter().zip(keys).enumerate() {
            if !key.is_empty() {
                let first = *seen.entry((name.label, key)).or_insert(index);
                self.join(first, index);
            }
        }
    }

    /// Joins a short form with the one thing whose name it is a part of.
    fn shorten(&mut self, names: &[Name<'_>], words: &[Words]) {
        let mut with: HashMap<(NameLabel, &str), Vec<usize>> = HashMap::new();
        for (index, (name, words)) in names.iter().zip(words).enumerate() {
            for word in words.full() {
                let list = with.entry((name.label, word)).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        // Longer ones first, so that a thing's forms are one before a shorter form asks how many things fit.
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(words[index].count()));
        for short in order {
            let label = names[short].label;
            let mut lists = words[short]
                .full()
                .filter_map(|word| with.get(&(label, word)));
            let last = words[short]
                .last()
                .and_then(|word| with.get(&(label, word)))
                .filter(|list| list.len() <= MOST);
            let Some(others) = last.or_else(|| lists.find(|list| list.len() <= MOST)) else {
                continue;
            };
            let mut fits: Vec<(usize, bool)> = Vec::new();
            for &long in others {
                if long == short || !words[short].shortens(&words[long], label) {
                    continue;
                }
                let thing = self.first(long);
                let surname = words[short].last() == words[long].last();
                match fits.iter_mut().find(|(other, _)| *other == thing) {
                    Some((_, also)) => *also |= surname,
                    None => fits.push((thing, surname)),
                }
            }
            // "Clinton" is Hillary Clinton and not Clinton Smith.
            if label == NameLabel::Per && fits.len() > 1 {
                fits.retain(|&(_, surname)| surname);
            }
            let own = self.first(short);
            fits.retain(|&(thing, _)| thing != own);
            if let [(thing, _)] = fits[..] {
                self.join(short, thing);
            }
        }
    }

    /// Joins "IBM" with the one thing whose words begin with these letters.
    fn acronyms(&mut self, names: &[Name<'_>], words: &[Words]) {
        let mut long: HashMap<(NameLabel, String), Vec<usize>> = HashMap::new();
        for (index, (name, words)) in names.iter().zip(words).enumerate() {
            for letters in words.initials() {
                let list = long.entry((name.label, letters)).or_default();
                if list.len() <= MOST {
                    list.push(index);
                }
            }
        }
        for (short, name) in names.iter().enumerate() {
            if name.label == NameLabel::Per {
                continue;
            }
            let Some(letters) = words[short].acronym() else {
                continue;
            };
            let Some(list) = long.get(&(name.label, letters)) else {
                continue;
            };
            let mut things: Vec<usize> = list.iter().map(|&long| self.first(long)).collect();
            things.sort_unstable();
            things.dedup();
            if let [thing] = things[..] {
                self.join(short, thing);
            }
        }
    }

    /// Joins an acronym in brackets with the name before them, if that has its letters.
    fn beside(&mut self, names: &[Name<'_>], words: &[Words]) {
        for (short, name) in names.iter().enumerate() {
            if let Some(long) = name.explains
                && names[long].label == name.label
                && words[short].abbreviates(&words[long])
            {
                self.join(short, long);
            }
        }
    }
}

#[cfg(test)]
mod tests;
