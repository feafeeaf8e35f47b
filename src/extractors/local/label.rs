//! What kind of thing a name is: by its own words, by the word lists, and by what stands around it.

use std::{collections::HashMap, ops::Range};

use super::{
    lexicon::{self, Hints},
    names::Name,
    token::Token,
};
use crate::graph::NameLabel;

/// A kind of thing; finer than a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Person,
    Organization,
    Place,
    Event,
    Work,
    Nationality,
    Other,
}

impl Kind {
    pub(super) const fn label(self) -> NameLabel {
        match self {
            Self::Person => NameLabel::Per,
            Self::Organization => NameLabel::Org,
            Self::Place => NameLabel::Loc,
            Self::Event | Self::Work | Self::Nationality | Self::Other => NameLabel::Misc,
        }
    }

    /// The kind that a noun names.
    fn of(hints: Hints) -> Option<Self> {
        [
            (Hints::PERSON, Self::Person),
            (Hints::ORGANIZATION, Self::Organization),
            (Hints::PLACE, Self::Place),
            (Hints::EVENT, Self::Event),
            (Hints::WORK, Self::Work),
        ]
        .into_iter()
        .find_map(|(hint, kind)| hints.any(hint).then_some(kind))
    }
}

/// A kind and how sure it is, 0 to 1.
///
/// **Source:** set by hand from what the rules got right over 500 introductions of encyclopedia articles; not
/// calibrated.
pub(super) type Guess = (Kind, f32);

/// How far a description may be from its name, in tokens.
const REACH: usize = 14;

/// The kind of one name by itself and its sentence.
pub(super) fn guess(sentence: &[Token<'_>], name: &Name) -> Guess {
    let range = name.tokens.clone();
    let words = &sentence[range.clone()];
    let written: String = words
        .iter()
        .map(|word| word.text)
        .collect::<Vec<_>>()
        .join(" ");
    let listed = lexicon::name(&written);
    if name.titled {
        return (Kind::Person, 0.95);
    }
    if listed.any(Hints::NATIONALITY) {
        return (Kind::Nationality, 0.95);
    }
    let described = description(sentence, range.end);
    if listed.any(Hints::COUNTRY | Hints::REGION) {
        return (Kind::Place, 0.95);
    }
    if listed.any(Hints::CITY) {
        return (
            described
                .filter(|kind| *kind == Kind::Person)
                .unwrap_or(Kind::Place),
            0.9,
        );
    }
    if listed.any(Hints::LISTED_ORGANIZATION) {
        return (Kind::Organization, 0.9);
    }
    if let Some(kind) = by_head(words).filter(|_| !name.quoted) {
        return kind;
    }
    if name.quoted {
        return match described.or_else(|| noun_before(sentence, range.start)) {
            Some(kind) => (kind, 0.8),
            None => (Kind::Work, 0.6),
        };
    }
    if born(sentence, range.end) {
        return (Kind::Person, 0.95);
    }
    if let Some(person) = by_person_form(words) {
        return person;
    }
    if let Some(kind) = described {
        return (kind, 0.85);
    }
    if let Some(kind) = noun_before(sentence, range.start) {
        return (kind, 0.8);
    }
    if made(sentence, &range) && words.len() <= 3 {
        return (Kind::Work, 0.65);
    }
    if words.len() == 1 && words[0].is_acronym() {
        return (Kind::Organization, 0.6);
    }
    by_neighbours(sentence, range)
}

/// By the noun that the name is built on: "University of X", "X River", "Battle of X".
fn by_head(words: &[Token<'_>]) -> Option<Guess> {
    let first = words.first()?;
    let last = words.last()?;
    if last.is_one_of(&["jr", "jr.", "sr", "sr."]) {
        return Some((Kind::Person, 0.9));
    }
    if last.hints.any(Hints::SUFFIX) && words.len() > 1 {
        return Some((Kind::Organization, 0.95));
    }
    let link = words
        .iter()
        .skip(1)
        .position(|word| word.is("of") || word.is("for"));
    if let Some(link) = link {
        let head = &words[link];
        if head.hints.any(Hints::NOBLE) {
            return Some((Kind::Person, 0.85));
        }
        if let Some(kind) = Kind::of(head.hints).filter(|kind| *kind != Kind::Person) {
            return Some((kind, 0.85));
        }
        return Some((Kind::Work, 0.5));
    }
    if words.len() == 1 {
        return match Kind::of(last.hints) {
            _ if last.is("olympics") => Some((Kind::Event, 0.9)),
            Some(Kind::Organization) => Some((Kind::Organization, 0.6)),
            _ => None,
        };
    }
    if first.is_one_of(&[
        "mount", "lake", "fort", "cape", "mt.", "ft.", "san", "santa", "rio", "los", "port",
        "isle", "st.", "saint", "north", "south", "east", "west", "northern", "southern",
        "eastern", "western", "upper", "lower",
    ]) && Kind::of(last.hints).is_none_or(|kind| matches!(kind, Kind::Person | Kind::Place))
    {
        return Some((Kind::Place, 0.8));
    }
    if last.is_one_of(&["award", "awards", "prize", "medal", "trophy"]) {
        return Some((Kind::Other, 0.8));
    }
    let tail = words
        .iter()
        .rev()
        .find(|word| word.word && !word.is_initial() && !is_roman(word))?;
    let kind = Kind::of(tail.hints)?;
    let personal = first.named.any(Hints::FIRST_NAME) && words.len() == 2;
    match kind {
        Kind::Person => None,
        Kind::Place | Kind::Work | Kind::Event if personal => None,
        Kind::Organization
            if personal
                && !tail.is_one_of(&[
                    "university",
                    "college",
                    "school",
                    "company",
                    "hospital",
                    "foundation",
                    "institute",
                    "museum",
                    "records",
                    "press",
                ]) =>
        {
            None
        }
        Kind::Organization | Kind::Event | Kind::Place => Some((kind, 0.85)),
        Kind::Work | Kind::Nationality | Kind::Other => Some((kind, 0.75)),
    }
}

fn is_roman(word: &Token<'_>) -> bool {
    word.text.chars().all(|c| matches!(c, 'I' | 'V' | 'X'))
}

/// By a first name, initials or a particle.
fn by_person_form(words: &[Token<'_>]) -> Option<Guess> {
    let first = words.first()?;
    if words.iter().any(|word| word.is("&") || word.is("and")) {
        return (words.len() > 1).then_some((Kind::Organization, 0.6));
    }
    if words.len() == 1 {
        return first
            .named
            .any(Hints::FIRST_NAME)
            .then_some((Kind::Person, 0.6));
    }
    if first.named.any(Hints::FIRST_NAME)
        || is_roman(words.last()?) && words.len() == 2 && first.named.any(Hints::FIRST_NAME)
    {
        return Some((Kind::Person, 0.9));
    }
    let initial = words[..words.len() - 1]
        .iter()
        .any(|word| word.is_initial() && word.text.ends_with('.'));
    let particle = words
        .iter()
        .skip(1)
        .any(|word| !word.capital && word.hints.any(Hints::PARTICLE));
    (initial || particle && words.len() <= 4).then_some((Kind::Person, 0.75))
}

/// Whether the words after a name speak of a life: "(born", "(1815 – 1852)", "was born".
fn born(sentence: &[Token<'_>], end: usize) -> bool {
    let at = |offset: usize| sentence.get(end + offset);
    if at(0).is_some_and(|token| token.is("(")) {
        let inside: Vec<&Token<'_>> = sentence[end + 1..]
            .iter()
            .take(24)
            .take_while(|token| !token.is(")"))
            .collect();
        let years = inside
            .iter()
            .filter(|token| token.is_number() && token.text.len() == 4)
            .count();
        let dated = inside.iter().any(|token| token.hints.any(Hints::MONTH));
        return inside
            .iter()
            .any(|token| token.is_one_of(&["born", "née", "b."]))
            || dated && years == 2;
    }
    at(0).is_some_and(|token| token.is_one_of(&["was", "is"]))
        && at(1).is_some_and(|token| token.is("born"))
        || at(0).is_some_and(|token| token.is_one_of(&["said", "says", "who", "died", "wrote"]))
}

/// Whether the name is something that was made: "built the X", "X was completed".
fn made(sentence: &[Token<'_>], name: &Range<usize>) -> bool {
    let is_making = |token: &Token<'_>| {
        token.is_one_of(&[
            "built",
            "build",
            "designed",
            "programmed",
            "invented",
            "wrote",
            "completed",
            "rebuilt",
            "developed",
        ])
    };
    let before = name.start.saturating_sub(2)..name.start;
    let was = sentence
        .get(name.end)
        .is_some_and(|token| token.is_one_of(&["was", "is", "were"]));
    sentence[before].iter().any(is_making)
        || was && sentence.get(name.end + 1).is_some_and(is_making)
}

/// The kind that the text behind a name says it is: "X is a …", "X, the …".
fn description(sentence: &[Token<'_>], end: usize) -> Option<Kind> {
    let mut at = end;
    if sentence.get(at)?.is_quote() {
        at += 1;
    }
    if sentence.get(at)?.is("(") {
        let close = sentence[at..]
            .iter()
            .take(40)
            .position(|token| token.is(")"))?;
        at += close + 1;
    }
    let mut copula = false;
    if sentence.get(at)?.is(",") {
        at += 1;
    } else if sentence[at].is_one_of(&["is", "was", "are", "were", "became"]) {
        copula = true;
        at += 1;
    } else {
        return None;
    }
    while sentence.get(at)?.is_one_of(&[
        "also",
        "formerly",
        "once",
        "now",
        "still",
        "originally",
        "one",
        "of",
    ]) {
        at += 1;
    }
    if !sentence
        .get(at)?
        .is_one_of(&["a", "an", "the", "his", "her", "its", "two"])
        && copula
    {
        return None;
    }
    let mut kind = None;
    for token in sentence[at..].iter().take(REACH) {
        let noun = if token.capital {
            None
        } else {
            Kind::of(token.hints)
        };
        let plural = token
            .lower
            .strip_suffix('s')
            .and_then(|stem| Kind::of(lexicon::word(stem)));
        let stop = !token.word && !token.is_number() && !matches!(token.text, "-" | "\"")
            || token.is_one_of(&[
                "of", "in", "for", "from", "by", "with", "at", "that", "which", "who", "to", "on",
                "and", "or", "where",
            ]);
        if kind.is_some() && (noun.is_none() || stop) {
            return kind;
        }
        if stop && !token.is("and") {
            return None;
        }
        kind = noun
            .or(plural.filter(|_| copula && !token.capital))
            .or(kind);
    }
    kind
}

/// The kind that the noun right before a name says it is: "the film X", "the city of X".
fn noun_before(sentence: &[Token<'_>], start: usize) -> Option<Kind> {
    let mut before = start.checked_sub(1)?;
    if sentence[before].is_quote() || sentence[before].is_one_of(&["named", "called"]) {
        before = before.checked_sub(1)?;
    }
    let of = sentence[before].is("of");
    if of {
        before = before.checked_sub(1)?;
    }
    let noun = &sentence[before];
    let kind = Kind::of(noun.hints).filter(|_| !noun.capital)?;
    // Only places are named with "of": the city of X, but a member of X.
    match (of, kind) {
        (true, Kind::Place) if !noun.is_one_of(&["side", "center", "centre", "part"]) => Some(kind),
        (true, _) => None,
        (false, kind) => Some(kind),
    }
}

/// By the small words around a name, and by its length.
fn by_neighbours(sentence: &[Token<'_>], range: Range<usize>) -> Guess {
    let words = &sentence[range.clone()];
    let near = |at: usize| sentence.get(at);
    let before = |back: usize| range.start.checked_sub(back).and_then(near);
    let place_at = |at: usize| near(at).is_some_and(|token| token.named.any(Hints::LISTED_PLACE));
    let before_place =
        near(range.end).is_some_and(|token| token.is(",")) && place_at(range.end + 1);
    let preposition = before(1).or(None).filter(|token| !token.capital);
    let plain = words
        .iter()
        .all(|word| word.word && word.capital && !word.is_acronym());
    let article = preposition.is_some_and(|token| token.is("the"));
    let located =
        preposition.is_some_and(|token| token.is_one_of(&["in", "near", "throughout", "outside"]));
    if before_place && plain && words.len() <= 3 {
        return (Kind::Place, 0.75);
    }
    if located && words.len() <= 3 {
        return (Kind::Place, 0.7);
    }
    if preposition.is_some_and(|token| token.is_one_of(&["at", "from", "to"])) && words.len() == 1 {
        return (Kind::Place, 0.5);
    }
    let acting = near(range.end).is_some_and(|next| {
        next.lower.len() > 4 && next.lower.ends_with("ed")
            || next.is_one_of(&["became", "'s", "left", "won", "met"])
    });
    let by = preposition.is_some_and(|token| token.is_one_of(&["by", "with"]));
    match words.len() {
        1 if acting || by => (Kind::Person, 0.45),
        1 if article => (Kind::Other, 0.35),
        1 => (Kind::Other, 0.3),
        2 if plain && !article => (Kind::Person, 0.5),
        _ if article => (Kind::Organization, 0.4),
        _ => (Kind::Other, 0.35),
    }
}

/// One name in a chunk and what is thought of it.
pub(super) struct Labelled {
    /// As it is written, in lower case, words joined by a space.
    pub(super) key: String,
    pub(super) guess: Guess,
}

/// Makes the same name the same kind everywhere: its surest guess wins, a surname follows its person and an acronym
/// stays what it was said to be.
pub(super) fn agree(names: &mut [Labelled]) {
    let mut best: HashMap<String, Guess> = HashMap::new();
    let surer = |best: &mut HashMap<String, Guess>, key: &str, guess: Guess| {
        let entry = best.entry(key.to_owned()).or_insert(guess);
        if guess.1 > entry.1 || guess.1 >= entry.1 && guess.0 < entry.0 {
            *entry = guess;
        }
    };
    for name in names.iter() {
        surer(&mut best, &name.key, name.guess);
    }
    for name in names.iter() {
        let (kind, confidence) = best.get(&name.key).copied().unwrap_or(name.guess);
        if kind == Kind::Person
            && confidence >= 0.5
            && let Some((rest, last)) = name.key.rsplit_once(' ')
        {
            surer(&mut best, last, (Kind::Person, 0.8));
            let first = rest.split(' ').next().unwrap_or(rest);
            surer(&mut best, first, (Kind::Person, 0.55));
        }
    }
    for name in names.iter_mut() {
        name.guess = best.get(&name.key).copied().unwrap_or(name.guess);
    }
}
