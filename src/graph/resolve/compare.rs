//! Whether two names may be of one thing: what contradicts, and what persons' names leave open.

use super::{
    Reason,
    form::{Form, Generation, is_small},
    intake::Node,
    known,
    sound::skeleton,
};

/// Whether two nodes can't be one thing, whatever else speaks for it.
pub(super) fn conflict(a: &Node, b: &Node, reason: Reason) -> bool {
    if a.kind.conflicts(b.kind) || a.value != b.value {
        return true;
    }
    let (x, y) = (&a.form, &b.form);
    let generations = x.generation != y.generation
        && x.generation != Generation::Unsaid
        && y.generation != Generation::Unsaid;
    if generations || (x.woman && is_man(y)) || (y.woman && is_man(x)) {
        return true;
    }
    if matches!(reason, Reason::SameName | Reason::Known) || x.key == y.key {
        return false;
    }
    // An acronym leaves the number to its expansion.
    let short = x.is_bare() || y.is_bare();
    let people = a.is_person() && b.is_person();
    if !short && !people && numerals(x) != numerals(y) {
        return true;
    }
    people && !short && names_conflict(x, y)
}

/// Whether the first name of a full form is no woman's but somebody's.
fn is_man(form: &Form) -> bool {
    !form.is_bare() && known::is_given(form.first()) && !known::is_female(form.first())
}

/// The numbers in a name, arabic or roman, in order.
fn numerals(form: &Form) -> Vec<&str> {
    let mut found: Vec<&str> = form
        .words()
        .enumerate()
        .filter(|(place, word)| {
            let place = *place;
            let digit = word.chars().any(|c| c.is_ascii_digit());
            digit || is_roman(word) || (place > 0 && matches!(*word, "i" | "v" | "x"))
        })
        .map(|(_, word)| word)
        .collect();
    found.sort_unstable();
    found
}

fn is_roman(word: &str) -> bool {
    matches!(
        word,
        "ii" | "iii"
            | "iv"
            | "vi"
            | "vii"
            | "viii"
            | "ix"
            | "xi"
            | "xii"
            | "xiii"
            | "xiv"
            | "xv"
            | "xvi"
            | "xvii"
            | "xviii"
            | "xix"
            | "xx"
            | "xxi"
    )
}

/// How two first names stand to each other; the more alike, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum First {
    /// Two people.
    Other,
    /// "J." and "John".
    Initial,
    /// "Bill" and "William".
    Short,
    /// "Mohamed" and "Mohammed".
    Spelling,
    Same,
}

pub(super) fn first(a: &str, b: &str) -> First {
    if a == b {
        First::Same
    } else if is_initial_of(a, b) || is_initial_of(b, a) {
        First::Initial
    } else if known::is_short_for(a, b) {
        First::Short
    } else if skeleton(a) == skeleton(b)
        || (!(known::is_given(a) && known::is_given(b)) && one_letter(a, b))
    {
        First::Spelling
    } else {
        First::Other
    }
}

fn is_initial_of(a: &str, b: &str) -> bool {
    a.chars().count() == 1 && b.starts_with(a)
}

/// Whether two longer words differ in one letter, and not in one that makes another word of it.
pub(super) fn one_letter(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let ending = long
        .strip_prefix(short)
        .is_some_and(|rest| matches!(rest, "s" | "n" | "a" | "o" | "e" | "i"));
    let gender =
        a.len() == b.len() && a[..a.len().saturating_sub(1)] == b[..b.len().saturating_sub(1)];
    short.len() >= 5
        && !ending
        && !gender
        && a.is_ascii()
        && b.is_ascii()
        && a.as_bytes()[0] == b.as_bytes()[0]
        && !a.bytes().chain(b.bytes()).any(|byte| byte.is_ascii_digit())
        && strsim::osa_distance(a, b) == 1
}

/// The middle names of a person's full form: what stands between the first and the last name.
pub(super) fn middles(form: &Form) -> impl Iterator<Item = &str> {
    let count = form.count();
    form.words()
        .enumerate()
        .filter(move |&(place, word)| place > 0 && place + 1 < count && !is_small(word))
        .map(|(_, word)| word)
}

/// Whether middle names may be one person's: the shorter list is the beginning of the longer one, or none.
pub(super) fn middles_fit(a: &Form, b: &Form) -> bool {
    let (a, b): (Vec<&str>, Vec<&str>) = (middles(a).collect(), middles(b).collect());
    a.iter().zip(&b).all(|(a, b)| first(a, b) != First::Other)
}

/// Whether two full names contradict each other in their parts.
fn names_conflict(a: &Form, b: &Form) -> bool {
    if a.last() != b.last() {
        // Another order, a second surname, another spelling: evidence says which.
        return false;
    }
    first(a.first(), b.first()) == First::Other && !turned_or_compact(a, b)
        || (a.first() == b.first() && !middles_fit(a, b))
}

fn turned_or_compact(a: &Form, b: &Form) -> bool {
    let inside = |a: &Form, b: &Form| a.words().all(|word| b.words().any(|other| word == other));
    inside(a, b) || inside(b, a) || compact(a) == compact(b)
}

/// The key without blanks.
pub(super) fn compact(form: &Form) -> String {
    form.key.chars().filter(|&c| c != ' ').collect()
}

/// Whether two full names may be one person's.
pub(super) fn person_fits(a: &Form, b: &Form) -> bool {
    let last = a.last() == b.last()
        || one_letter(a.last(), b.last())
        || skeleton(a.last()) == skeleton(b.last())
        || turned_or_compact(a, b);
    last && (first(a.first(), b.first()) != First::Other || turned_or_compact(a, b))
        && middles_fit(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::resolve::kind::Kind;

    fn person(name: &str) -> Form {
        Form::of(name, Kind::Person)
    }

    #[test]
    fn names_of_one_person_fit_and_of_two_do_not() {
        for (a, b, fits) in [
            ("J. K. Rowling", "Joanne Rowling", true),
            ("Bill Clinton", "William Jefferson Clinton", true),
            ("Mohamed ElBaradei", "Mohammed ElBaradei", true),
            ("George W. Bush", "George H. W. Bush", false),
            ("John Smith", "Adam Smith", false),
            ("Erik Smith", "Erin Smith", false),
            ("Maria Lopez", "Mario Lopez", false),
            ("John Smith", "John Jones", false),
        ] {
            assert_eq!(person_fits(&person(a), &person(b)), fits, "{a} / {b}");
        }
    }
}
