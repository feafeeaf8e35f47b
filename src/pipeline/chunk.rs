//! Cuts a text into chunks that an extractor can take in one go.
//!
//! Chunks begin and end with a sentence; neighbours share sentences, so that what is said across a border is seen
//! whole once. Invariant: the starts are strictly ascending and every character that is not blank is in a chunk.

use serde::{Deserialize, Serialize};

use super::{
    stage::{Job, Unit, UnitResult, Work},
    units::UnitOutput,
};
use crate::{
    extractors::ExtractError,
    graph::{Span, Text, sentences},
};

/// One unit: the document.
pub(super) fn plan(settings: &ChunkSettings) -> Vec<Unit> {
    vec![Unit {
        number: 0,
        input: [
            settings.chars,
            settings.overlap_sentences,
            settings.min_chars,
        ]
        .map(u32::to_be_bytes)
        .concat(),
        job: Job::Chunk,
    }]
}

pub(super) async fn work(work: &Work) -> UnitResult {
    let (text, settings) = (work.document.text.clone(), work.settings.chunks);
    // Ten megabytes take a moment: not on a thread that others wait for.
    tokio::task::spawn_blocking(move || chunk(&text, &settings))
        .await
        .map(UnitOutput::Chunks)
        .map_err(|_| ExtractError::Transient("the document could not be cut".to_owned()))
}

/// How large chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkSettings {
    /// The most characters of a chunk; only the last may have more, by less than `min_chars`.
    ///
    /// **Source:** 2,000 characters are about 500 tokens of English: small enough for a model to list every name in
    /// one answer, large enough that most sentences stand with those that they refer to.
    pub chars: u32,
    /// How many sentences a chunk repeats from the one before it; fewer where they do not fit.
    ///
    /// **Source:** one; a statement that spans more than two sentences is rarely stated as a relation.
    pub overlap_sentences: u32,
    /// What is new in the last chunk and shorter than this goes to the chunk before it.
    ///
    /// **Source:** 100 characters are about a sentence: not worth a call of its own.
    pub min_chars: u32,
}

impl Default for ChunkSettings {
    fn default() -> Self {
        Self {
            chars: 2000,
            overlap_sentences: 1,
            min_chars: 100,
        }
    }
}

/// The chunks of `text`: none if it is blank, one if it fits.
#[must_use]
pub fn chunk(text: &Text, settings: &ChunkSettings) -> Vec<Span> {
    let limit = settings.chars.max(1);
    let inner = text.as_str().trim();
    if text.chars() <= limit && !inner.is_empty() {
        // It fits: nobody needs to know where its sentences end.
        let start = text.as_str().len() - text.as_str().trim_start().len();
        return vec![text.span(start..start + inner.len())];
    }
    let pieces = pieces(text, limit);
    let mut chunks: Vec<Span> = Vec::new();
    let (mut first, mut fresh) = (0, 0);
    while fresh < pieces.len() {
        let start = pieces[first].start;
        let new = pieces[fresh..]
            .iter()
            .take_while(|piece| piece.end - start <= limit)
            .count();
        // A piece fits alone, and the overlap was chosen so that the next one fits: at least one is new.
        let next = fresh + new.max(1);
        chunks.push(Span::new(start, pieces[next - 1].end));
        let shared = settings.overlap_sentences as usize;
        first = pieces.get(next).map_or(next, |after| {
            (next.saturating_sub(shared).max(first + 1)..next)
                .find(|&from| after.end - pieces[from].start <= limit)
                .unwrap_or(next)
        });
        fresh = next;
    }
    merge_tail(&mut chunks, settings.min_chars);
    chunks
}

/// Gives a last chunk with little that is new to the one before it.
fn merge_tail(chunks: &mut Vec<Span>, min_chars: u32) {
    if let [.., before, last] = chunks.as_mut_slice()
        && last.end - before.end < min_chars
    {
        before.end = last.end;
        chunks.pop();
    }
}

/// The sentences, those that are too long cut at white space, or anywhere if they have none.
fn pieces(text: &Text, limit: u32) -> Vec<Span> {
    let mut pieces = Vec::new();
    for sentence in sentences(text) {
        if sentence.len() <= limit {
            pieces.push(sentence);
        } else {
            cut(text.slice(sentence), sentence.start, limit, &mut pieces);
        }
    }
    pieces
}

/// Cuts `sentence`, which begins at character `offset`, into pieces of at most `limit` characters.
fn cut(sentence: &str, offset: u32, limit: u32, pieces: &mut Vec<Span>) {
    // The end of the last word that is complete, and the piece's first and last character that is not blank.
    let (mut start, mut word_end, mut end) = (None, None, 0);
    let mut word_start = offset;
    let mut in_word = false;
    for (at, character) in (offset..).zip(sentence.chars()) {
        if character.is_whitespace() {
            if in_word {
                word_end = Some(end);
            }
            in_word = false;
            continue;
        }
        if !in_word {
            word_start = at;
            in_word = true;
        }
        if let Some(first) = start
            && at - first >= limit
        {
            let (cut_at, rest) = match word_end {
                Some(word_end) => (word_end, word_start),
                None => (end, at),
            };
            pieces.push(Span::new(first, cut_at));
            start = Some(rest);
            word_end = None;
        }
        start = start.or(Some(at));
        end = at + 1;
    }
    if let Some(first) = start {
        pieces.push(Span::new(first, end));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(chars: u32, overlap_sentences: u32, min_chars: u32) -> ChunkSettings {
        ChunkSettings {
            chars,
            overlap_sentences,
            min_chars,
        }
    }

    fn parts(text: &str, settings: &ChunkSettings) -> Vec<String> {
        let indexed = Text::new(text);
        chunk(&indexed, settings)
            .into_iter()
            .map(|span| indexed.slice(span).to_owned())
            .collect()
    }

    #[test]
    fn chunks_share_a_sentence() {
        assert_eq!(
            parts("One is. Two is. Three is. Four is.", &settings(18, 1, 0)),
            ["One is. Two is.", "Two is. Three is.", "Three is. Four is."]
        );
        assert_eq!(
            parts("One is. Two is a long one. Three.", &settings(19, 1, 0)),
            ["One is.", "Two is a long one.", "Three."]
        );
    }

    #[test]
    fn a_short_tail_joins_the_chunk_before_it() {
        assert_eq!(
            parts("One is here. Two is here. End.", &settings(26, 1, 10)),
            ["One is here. Two is here. End."]
        );
    }

    #[test]
    fn a_long_sentence_is_cut_at_white_space() {
        assert_eq!(
            parts("one two three fourfourfour", &settings(8, 1, 0)),
            ["one two", "three", "fourfour", "four"]
        );
    }

    #[test]
    fn the_time_is_linear() {
        for unit in ["a", "a ", "A b. ", "é\n", "  ", "."] {
            let text = Text::new(unit.repeat(1_000_000 / unit.len()));
            let begun = std::time::Instant::now();
            let _ = chunk(&text, &ChunkSettings::default());
            assert!(
                begun.elapsed().as_secs() < 20,
                "{unit:?} took {:?}",
                begun.elapsed()
            );
        }
    }

    proptest! {
        #[test]
        fn chunks_cover_the_text_in_steps_forward(
            text in "([A-Ca-cé漢😀ש.! \n1-]|Ab c. ){0,200}",
            chars in 1..60_u32, overlap in 0..4_u32, min_chars in 0..30_u32,
        ) {
            let indexed = Text::new(text.as_str());
            let settings = settings(chars, overlap, min_chars);
            let chunks = chunk(&indexed, &settings);
            prop_assert_eq!(&chunks, &chunk(&indexed, &settings));
            let mut covered = vec![false; text.chars().count()];
            for (index, span) in chunks.iter().enumerate() {
                prop_assert!(!span.is_empty() && span.end <= indexed.chars());
                let allowed = if index + 1 == chunks.len() { chars + min_chars } else { chars };
                prop_assert!(span.len() <= allowed, "{} > {}", span.len(), allowed);
                covered[span.start as usize..span.end as usize].fill(true);
            }
            for (character, covered) in text.chars().zip(covered) {
                prop_assert!(covered || character.is_whitespace());
            }
            for pair in chunks.windows(2) {
                prop_assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end);
            }
            if indexed.chars() <= chars && !text.trim().is_empty() {
                prop_assert_eq!(chunks.len(), 1);
                prop_assert_eq!(indexed.slice(chunks[0]), text.trim());
            }
        }
    }
}
