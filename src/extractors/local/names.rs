//! Where names begin and end: runs of capitals, with the small words that belong inside and without the titles,
//! articles and endings that do not.

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
};

use super::{
    lexicon::{self, Hints},
    token::Token,
};

/// A name in a sentence.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// Its tokens.
    pub(super) tokens: Range<usize>,
    /// It stands in quotation marks.
    pub(super) quoted: bool,
    /// A person's title stands before it.
    pub(super) titled: bool,
}

/// Which words a chunk writes in lower case, and which with a capital inside a sentence: what tells a name at the
/// beginning of a sentence from another word.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    lower: HashSet<&'a str>,
    capital: HashSet<&'a str>,
}

impl<'a> Seen<'a> {
    pub(super) fn read(&mut self, sentence: &'a [Token<'_>]) {
        for (index, token) in sentence.iter().enumerate().filter(|(_, token)| token.word) {
            if !token.capital {
                self.lower.insert(&token.lower);
            } else if !is_initial_word(sentence, index) {
                self.capital.insert(token.text);
            }
        }
    }
}

/// A longer run is a headline, not a name.
const LONGEST_RUN: usize = 12;

/// The most words of a quoted title.
const LONGEST_TITLE: usize = 9;

/// The names of a sentence, ascending; none overlap.
pub(super) fn names(sentence: &[Token<'_>], seen: &Seen<'_>) -> Vec<Name> {
    let words = || sentence.iter().filter(|token| token.word);
    if words().count() > 4 && words().all(Token::is_acronym) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < sentence.len() {
        if let Some(end) = quoted_title(sentence, at) {
            found.push(Name {
                tokens: at + 1..end,
                quoted: true,
                titled: false,
            });
            at = end + 1;
        } else if starts_name(sentence, at) {
            let end = run_end(sentence, at);
            if end - at <= LONGEST_RUN {
                split(sentence, at..end, seen, &mut found);
            }
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// Whether only marks stand before a word in its sentence, or a mark that opens direct speech.
fn is_initial_word(sentence: &[Token<'_>], index: usize) -> bool {
    let Some(before) = index.checked_sub(1) else {
        return true;
    };
    let mark = &sentence[before];
    !mark.word
        && !mark.is_number()
        && (before == 0 || mark.is_quote() || matches!(mark.text, ":" | "#" | "•"))
}

fn is_name_word(sentence: &[Token<'_>], index: usize) -> bool {
    let Some(token) = sentence.get(index).filter(|token| token.capital) else {
        return false;
    };
    if token.hints.any(Hints::MONTH) {
        let neighbour = |at: Option<usize>| at.and_then(|at| sentence.get(at));
        let named = token.named.any(Hints::FIRST_NAME)
            && neighbour(Some(index + 1))
                .is_some_and(|next| next.capital && !next.hints.any(Hints::FUNCTION));
        return named
            && !neighbour(index.checked_sub(1))
                .is_some_and(|before| before.is_number() || before.is("in"));
    }
    true
}

fn starts_name(sentence: &[Token<'_>], index: usize) -> bool {
    is_name_word(sentence, index) && {
        let token = &sentence[index];
        let small = token.hints.any(Hints::FUNCTION);
        // "A. Smith" and "US" are written like function words.
        !small || token.is_acronym() && token.text.len() > 1 || token.text.ends_with('.')
    }
}

/// The title that the quotation mark at `open` opens, up to the mark that closes it.
fn quoted_title(sentence: &[Token<'_>], open: usize) -> Option<usize> {
    if !sentence[open].is_quote() {
        return None;
    }
    let end = (open + 1..sentence.len().min(open + LONGEST_TITLE + 2))
        .find(|&at| sentence[at].is_quote())?;
    let inside = &sentence[open + 1..end];
    let content = || {
        inside
            .iter()
            .filter(|t| t.word && !t.hints.any(Hints::FUNCTION | Hints::PARTICLE))
    };
    let titled = inside.first()?.capital
        && content().next().is_some()
        && content().all(|token| token.capital)
        && !inside.last()?.is(",")
        && !inside.last()?.is(".");
    titled.then_some(end)
}

/// The end of the run of capitals that begins at `start`.
fn run_end(sentence: &[Token<'_>], start: usize) -> usize {
    let mut end = start + 1;
    while let Some(next) = sentence.get(end) {
        let run = &sentence[start..end];
        let length = if is_name_word(sentence, end) {
            usize::from(!next.is("i") || run.last().is_some_and(|last| last.is("war")))
        } else if next.is_number() {
            let place = run
                .last()
                .is_some_and(|last| last.named.any(Hints::LISTED_PLACE));
            let score = sentence
                .get(end + 1)
                .is_some_and(|t| matches!(t.text, "-" | "–" | "," | "%"));
            usize::from(next.text.len() <= 3 && !place && !score)
        } else {
            joined(sentence, run, end)
        };
        if length == 0 {
            break;
        }
        end += length;
    }
    // What was taken for the middle of a name may be its end.
    while end > start + 1
        && sentence[end - 1].hints.any(Hints::FUNCTION)
        && !sentence[end - 1].is_acronym()
        && !sentence[end - 2].is("war")
        && !sentence[end - 1].text.ends_with('.')
    {
        end -= 1;
    }
    end
}

/// How many tokens from `at` join the run before it to the name that goes on behind them; 0 if none do.
fn joined(sentence: &[Token<'_>], run: &[Token<'_>], at: usize) -> usize {
    let (Some(first), Some(last), Some(link)) = (run.first(), run.last(), sentence.get(at)) else {
        return 0;
    };
    let capital = |at: usize| {
        is_name_word(sentence, at)
            && !sentence[at].hints.any(Hints::FUNCTION)
            && !sentence[at].hints.any(Hints::MONTH)
    };
    let after_article = if sentence
        .get(at + 1)
        .is_some_and(|token| token.is("the") && !token.capital)
    {
        2
    } else {
        1
    };
    let organized = || run.iter().any(|token| token.hints.any(Hints::ORGANIZATION));
    match link.lower.as_str() {
        "of" if capital(at + after_article) => {
            let office = last.hints.any(Hints::ROLE) && !last.hints.any(Hints::NOBLE);
            let person = first.named.any(Hints::FIRST_NAME) && run.len() > 1;
            if office || person || first.named.any(Hints::NATIONALITY) && run.len() == 1 {
                0
            } else {
                after_article + 1
            }
        }
        "for" if organized() && capital(at + after_article) => after_article + 1,
        "&" if capital(at + 1) => 2,
        "and" if capital(at + 1) => {
            let behind = (at + 1..sentence.len())
                .take_while(|&at| capital(at))
                .last()
                .unwrap_or(at + 1);
            if is_one_name(sentence, run, at..=behind) {
                2
            } else {
                0
            }
        }
        "'s" if capital(at + 1) && run.len() <= 2 => {
            let behind = (at + 1..sentence.len())
                .take_while(|&at| capital(at))
                .last()
                .unwrap_or(at + 1);
            let kept = first.named.any(Hints::FIRST_NAME)
                || first.text == "St."
                || first.is_one_of(&[
                    "king", "queen", "women", "men", "children", "people", "workers", "lloyd",
                    "trinity",
                ]);
            let head = sentence[behind]
                .hints
                .any(Hints::ORGANIZATION | Hints::PLACE);
            if kept && head && behind <= at + 3 {
                2
            } else {
                0
            }
        }
        "," if sentence.get(at + 1).is_some_and(|token| {
            token.capital && token.hints.any(Hints::SUFFIX) || token.text == "D.C."
        }) =>
        {
            2
        }
        _ if link.is_quote() => {
            let close = (at + 2..(at + 4).min(sentence.len())).find(|&at| sentence[at].is_quote());
            match close {
                Some(close) if (at + 1..close).all(&capital) && capital(close + 1) => {
                    close + 2 - at
                }
                _ => 0,
            }
        }
        _ if link.hints.any(Hints::PARTICLE) && link.word => {
            let second = sentence
                .get(at + 1)
                .is_some_and(|token| !token.capital && token.hints.any(Hints::PARTICLE));
            let length = 1 + usize::from(second);
            if capital(at + length) { length + 1 } else { 0 }
        }
        _ => 0,
    }
}

/// Whether "and" stands within one name: in a listed name, in an office's name, or before "Sons" or "Company".
fn is_one_name(sentence: &[Token<'_>], run: &[Token<'_>], rest: RangeInclusive<usize>) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return false;
    };
    let tail = &sentence[*rest.end()];
    let cue = tail.is_one_of(&[
        "company", "co", "co.", "sons", "brothers", "partners", "ltd", "ltd.", "inc", "inc.",
    ]);
    let office = run.len() > 2
        && first.is_one_of(&[
            "department",
            "ministry",
            "institute",
            "faculty",
            "school",
            "bureau",
            "office",
            "academy",
        ]);
    let single =
        rest.end() - rest.start() == 1 || tail.hints.any(Hints::SUFFIX) || tail.is("company");
    let written: Vec<&str> = run
        .iter()
        .chain(&sentence[rest])
        .map(|token| token.text)
        .collect();
    let listed = lexicon::name(&written.join(" ")) != Hints::default();
    listed || office || cue && single && !last.named.any(Hints::LISTED_PLACE)
}

/// The names in a run: without titles, cut behind a nationality and before an office.
fn split(sentence: &[Token<'_>], run: Range<usize>, seen: &Seen<'_>, found: &mut Vec<Name>) {
    let Range { mut start, end } = run;
    let token = |at: usize| &sentence[at];
    let headed = |at: usize| {
        let head = token(at);
        !head.hints.any(Hints::PERSON | Hints::ROLE)
            && (head
                .hints
                .any(Hints::ORGANIZATION | Hints::PLACE | Hints::EVENT)
                || head.hints.any(Hints::SUFFIX) && !head.text.starts_with(['J', 'S']))
    };
    let mut titled = false;
    while start + 1 < end {
        let (first, second) = (token(start), token(start + 1));
        let office =
            first.hints.any(Hints::ROLE) && !second.is("of") && !headed(end - 1) && second.word;
        let opener = is_initial_word(sentence, start) && is_opener(first, seen) && second.capital;
        let adjective = first.named.any(Hints::NATIONALITY)
            && (second.hints.any(Hints::ROLE | Hints::PERSON)
                || second.named.any(Hints::FIRST_NAME))
            && !headed(end - 1);
        if adjective {
            found.push(Name {
                tokens: start..start + 1,
                quoted: false,
                titled: false,
            });
        } else if !office && !opener {
            break;
        }
        titled = (titled || office && !first.is("foreign")) && !opener;
        start += 1;
    }
    let inner = (start + 1..end.saturating_sub(1)).find(|&at| {
        token(at).hints.any(Hints::ROLE)
            && !token(at - 1).is("of")
            && !token(at + 1).is("of")
            && !headed(end - 1)
            && !titled
    });
    if let Some(office) = inner {
        keep(sentence, start..office, titled, seen, found);
        split(sentence, office..end, seen, found);
    } else {
        // A year before an event is a part of its name.
        let dated = start > 0
            && token(start - 1).is_number()
            && token(start - 1).text.len() == 4
            && (token(end - 1).hints.any(Hints::EVENT) || token(end - 1).is("olympics"));
        keep(
            sentence,
            start - usize::from(dated)..end,
            titled,
            seen,
            found,
        );
    }
}

fn is_opener(first: &Token<'_>, seen: &Seen<'_>) -> bool {
    let known = first.named != Hints::default()
        || first.hints.any(Hints::ADJECTIVE)
        || seen.capital.contains(first.text)
        || first.is_acronym()
        || first.is_initial();
    !known
        && (seen.lower.contains(first.lower.as_str())
            || ["ly", "ing", "ed"]
                .iter()
                .any(|ending| first.lower.len() > 5 && first.lower.ends_with(ending)))
}

/// Adds the name if it is one.
fn keep(
    sentence: &[Token<'_>],
    tokens: Range<usize>,
    titled: bool,
    seen: &Seen<'_>,
    found: &mut Vec<Name>,
) {
    let [token] = &sentence[tokens.clone()] else {
        let words = &sentence[tokens.clone()];
        let roles = words
            .iter()
            .all(|t| t.hints.any(Hints::ROLE | Hints::FUNCTION))
            || words
                .last()
                .is_some_and(|last| last.hints.any(Hints::OFFICEHOLDER))
                && words
                    .first()
                    .is_some_and(|first| !first.named.any(Hints::FIRST_NAME));
        if !tokens.is_empty() && !roles {
            found.push(Name {
                tokens,
                quoted: false,
                titled,
            });
        }
        return;
    };
    let listed = token.named != Hints::default();
    let known = titled || listed || token.is_acronym();
    let short = token.is_initial() || token.text.chars().count() < 2;
    let refused = token
        .hints
        .any(Hints::NOT_A_NAME | Hints::ROLE | Hints::MONTH)
        || token.hints.any(Hints::FUNCTION) && !token.is_acronym()
        || token.hints.any(Hints::ADJECTIVE)
        || short;
    let opens = is_initial_word(sentence, tokens.start);
    let follower = sentence.get(tokens.end);
    let subject = follower.is_some_and(|next| {
        next.is_one_of(&[
            "is", "was", "has", "had", "'s", "(", "became", "also", "and", "did", "would",
        ]) || next.lower.len() > 4 && next.lower.ends_with("ed")
    });
    let common = token.hints.any(Hints::NOUN)
        || is_opener(token, seen)
        || seen.lower.contains(token.lower.as_str());
    let kept = known
        || if opens {
            seen.capital.contains(token.text) || subject && !common
        } else {
            !token.hints.any(Hints::KIN)
        };
    if kept && !refused {
        found.push(Name {
            tokens,
            quoted: false,
            titled,
        });
    }
}
