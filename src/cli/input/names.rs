//! Which ids the run has already seen, and where.
//!
//! Invariant: no two inputs of a run carry one id, refused ones included. An id costs 24 bytes here whatever its
//! length, so that a run over a million documents stays small.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// The most characters of a refused input's name, as of a document's id.
const NAME_CHARACTERS: usize = 512;

/// Where an input stands: the number of its PATH, and its line if that is read by lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) path: u32,
    /// From 1; 0 for an input that is a file. Saturates, and only messages name it.
    pub(super) line: u32,
}

impl Origin {
    pub(super) fn new(path: usize, line: u64) -> Self {
        Self {
            path: u32::try_from(path).unwrap_or(u32::MAX),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }
}

/// The ids so far, by the first 128 bits of their SHA-256.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: HashMap<[u64; 2], Origin>,
}

impl Names {
    /// Takes `id` for the input at `origin`; `Err` says who has it already.
    pub(super) fn take(&mut self, id: &str, origin: Origin) -> Result<(), Origin> {
        match self.seen.entry(key(id)) {
            std::collections::hash_map::Entry::Occupied(taken) => Err(*taken.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(origin);
                Ok(())
            }
        }
    }

    /// A name for an input that is refused: `wanted` if it can be had, else `wanted` with a number.
    pub(super) fn take_for_refused(&mut self, wanted: &str, origin: Origin) -> String {
        let wanted = shortened(wanted);
        let mut name = wanted.clone();
        let mut number = 2_u32;
        while self.take(&name, origin).is_err() {
            name = shortened(&format!("{wanted} ({number})"));
            number += 1;
        }
        name
    }
}

fn key(id: &str) -> [u64; 2] {
    let hash: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let word = |from: usize| {
        hash[from..from + 8]
            .iter()
            .fold(0_u64, |word, &byte| word << 8 | u64::from(byte))
    };
    [word(0), word(8)]
}

/// `text` with a mark for each control character: names go to terminals and to the database.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{FFFD}")
}

/// The end of a name says more than its beginning.
fn shortened(name: &str) -> String {
    let characters = name.chars().count();
    if characters <= NAME_CHARACTERS {
        return printable(name);
    }
    let cut = characters - (NAME_CHARACTERS - 1);
    std::iter::once('…')
        .chain(printable(name).chars().skip(cut))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_owner_of_an_id_is_known() {
        let mut names = Names::default();
        let first = Origin::new(0, 7);
        assert_eq!(names.take("a", first), Ok(()));
        assert_eq!(names.take("a", Origin::new(1, 2)), Err(first));
        assert_eq!(names.take("b", Origin::new(1, 2)), Ok(()));
    }

    #[test]
    fn refused_inputs_get_names_of_their_own() {
        let mut names = Names::default();
        let origin = Origin::new(0, 1);
        assert_eq!(names.take_for_refused("a\nb", origin), "a\u{FFFD}b");
        assert_eq!(names.take_for_refused("a\nb", origin), "a\u{FFFD}b (2)");
        let long = "é".repeat(600);
        let one = names.take_for_refused(&long, origin);
        let two = names.take_for_refused(&long, origin);
        assert_eq!(one.chars().count(), 512);
        assert_eq!(two.chars().count(), 512);
        assert_ne!(one, two);
    }
}
