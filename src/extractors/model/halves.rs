//! Cutting a stretch of text in two, where an answer about all of it would be too long.

use std::ops::Range;

use crate::graph::sentence_ranges;

/// How often a chunk is cut in two.
///
/// **Source:** three times makes eight pieces of 250 characters of the usual chunk; a model that has not enough room
/// for the names in those will not have it in less, and each cut doubles the bill.
pub(super) const DEPTH: u32 = 3;

/// A shorter stretch without a sentence's end is left whole, in bytes.
///
/// **Source:** as short as three cuts make the usual chunk.
const SHORTEST: usize = 250;

/// The two halves of `bytes` of `text`: cut between two sentences as near as can be to the middle, or else at white
/// space; `None` if it is short, or has neither.
pub(super) fn halves(text: &str, bytes: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let stretch = &text[bytes.clone()];
    let middle = stretch.len() / 2;
    let nearest = |cuts: &mut dyn Iterator<Item = usize>| {
        cuts.filter(|&cut| 0 < cut && cut < stretch.len())
            .filter(|&cut| !stretch[..cut].trim().is_empty() && !stretch[cut..].trim().is_empty())
            .min_by_key(|cut| cut.abs_diff(middle))
    };
    let mut sentences = sentence_ranges(stretch)
        .into_iter()
        .map(|sentence| sentence.start);
    let cut = nearest(&mut sentences).or_else(|| {
        let mut words = stretch
            .char_indices()
            .filter(|(_, character)| character.is_whitespace())
            .map(|(at, character)| at + character.len_utf8());
        (stretch.len() >= SHORTEST)
            .then(|| nearest(&mut words))
            .flatten()
    })?;
    let cut = bytes.start + cut;
    Some([bytes.start..cut, cut..bytes.end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Option<[&str; 2]> {
        halves(text, &(0..text.len())).map(|halves| halves.map(|half| &text[half]))
    }

    #[test]
    fn it_cuts_between_sentences_near_the_middle() {
        assert_eq!(
            cut("One is. Two is. Three is. Four is."),
            Some(["One is. Two is. ", "Three is. Four is."])
        );
        let text = "x. One is. Two is.";
        assert_eq!(halves(text, &(3..18)), Some([3..11, 11..18]));
        assert_eq!(cut("One is short"), None);
        assert_eq!(cut(""), None);
        let long = "word ".repeat(60);
        let [one, two] = cut(&long).unwrap();
        assert!(one.len().abs_diff(two.len()) < 10);
        assert_eq!(cut(&"x".repeat(600)), None);
    }

    proptest::proptest! {
        #[test]
        fn halves_are_the_whole_and_both_smaller(text in "([A-Ca-cé漢 .\n]|Ab c. ){0,200}") {
            if let Some([one, two]) = cut(&text) {
                proptest::prop_assert_eq!(format!("{one}{two}"), text.as_str());
                proptest::prop_assert!(one.len() < text.len() && two.len() < text.len());
            }
        }
    }
}
