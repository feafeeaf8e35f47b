//! Dates as text has them, in the Extended Date/Time Format: `1963-03-13`, `1963-03`, `1963`, `199X`, `18XX`,
//! `1969-22` (a summer), `1939/1945`, `-0043` (44 BC), `XXXX-03-13` (of any year).
//!
//! **Source:** Library of Congress, Extended Date/Time Format (ISO 8601-2:2019), levels 0 to 2. Two dates with a dash or
//! "to" between them are two; a span is one only where its end is no date of its own (`2009–10`, `March 10–12, 1963`).
//! In figures the month comes first (`3/4/2012` is 4 March) unless it can't; with full stops, the day does. A weekday,
//! "yesterday" and a year in a list of figures are no dates.

use super::{
    Found,
    number::{self, has_ordinal_ending},
    word::Words,
};
use crate::graph::ValueKind;

const SURE: f32 = 0.95;
const LIKELY: f32 = 0.85;

/// A date with a word or a sign that makes it one, at `at`; returns the index behind it.
pub(super) fn written(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    if !words.is_apart(at) {
        return None;
    }
    if let Some(figure) = words.figure(at) {
        return in_figures(words, at, figure, found)
            .or_else(|| day_month(words, at, figure, found))
            .or_else(|| decade(words, at, figure, found))
            .or_else(|| century(words, at, found))
            .or_else(|| quarter(words, at, found))
            .or_else(|| with_era(words, at, found));
    }
    let first = words.text(at);
    if let Some(month) = month(first) {
        return month_first(words, at, month, found);
    }
    if matches!(first, "AD" | "CE") {
        let (year, after) = plain_year(words, at + 1, 1..=2099)?;
        push(words, at, after, four(year), SURE, found);
        return Some(after);
    }
    season(words, at, found)
        .or_else(|| century(words, at, found))
        .or_else(|| quarter(words, at, found))
}

/// A year alone at `at`, if what stands around it does not make it an amount.
pub(super) fn year(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    let (year, after) = plain_year(words, at, 1000..=2099)?;
    if !words.is_apart(at) || counts(words, at, after, year) {
        return None;
    }
    // `2009–10` is one span; `1939–1945` is two dates.
    if let Some(second) = words.dash(after)
        && words.is_joined(after) == words.is_joined(second)
        && let Some(tail) = words.figure(second).filter(|tail| tail.len() == 2)
        && let Ok(tail) = tail.parse::<u32>()
        && tail == (year + 1) % 100
        && !is_tied(words, second + 1)
    {
        let normal = format!("{year:04}/{:04}", year + 1);
        push(words, at, second + 1, normal, LIKELY, found);
        return Some(second + 1);
    }
    if is_tied(words, after) {
        return None;
    }
    let about = circa(words, at);
    let normal = format!("{year:04}{}", if about { "~" } else { "" });
    push(words, at, after, normal, LIKELY, found);
    Some(after)
}

fn push(
    words: &Words<'_>,
    from: usize,
    to: usize,
    normal: String,
    confidence: f32,
    found: &mut Vec<Found>,
) {
    let at = words.bytes(from, to);
    found.push(Found::new(at, ValueKind::Date, normal, confidence));
}

fn four(year: u32) -> String {
    format!("{year:04}")
}

/// A figure that is nothing but a year of `range` at `at`, and the index behind it.
fn plain_year(
    words: &Words<'_>,
    at: usize,
    range: std::ops::RangeInclusive<u32>,
) -> Option<(u32, usize)> {
    let figure = words.next_figure(at).or_else(|| words.figure(at))?;
    if figure.len() > 4 || figure.starts_with('0') {
        return None;
    }
    let year = figure.parse().ok()?;
    range.contains(&year).then_some((year, at + 1))
}

/// Whether a figure runs on into what stands at `after`: `1990x`, `19:45`, `1990/5`, `1990%`.
fn is_tied(words: &Words<'_>, after: usize) -> bool {
    words.is_joined(after)
        && match words.text(after) {
            ":" | "/" | "%" | "_" | "@" | "°" | "€" | "£" | "$" | "+" => {
                words.is_joined(after + 1) || matches!(words.text(after), "%" | "°" | "€" | "£")
            }
            _ => !words.is_mark(after),
        }
}

fn circa(words: &Words<'_>, at: usize) -> bool {
    match words.before(at) {
        "circa" | "c" | "ca" => true,
        "." => at >= 2 && matches!(words.text(at - 2), "c" | "ca"),
        _ => false,
    }
}

/// Words before a figure that may be a year of any time.
const BEFORE_YEARS: &[&str] = &[
    "in", "In", "since", "Since", "of", "until", "till", "from", "From", "by", "By", "to", "and",
    "during", "During", "after", "After", "before", "Before", "late", "early", "mid", "–", "-",
    "—", "(", "between", "Between", "for", "the", "The", "circa", "c", "ca", ".", ",", "born", "b",
    "died", "d", "around", ";", "on", "spring", "summer", "autumn", "fall", "winter", "year", "A",
    "a", "his", "her", "their", "its", "through", "or", "as", "Act", "January",
];

/// Words before a figure that is no year.
const BEFORE_AMOUNTS: &[&str] = &[
    "about",
    "approximately",
    "nearly",
    "almost",
    "some",
    "than",
    "least",
    "roughly",
    "No",
    "no",
    "number",
    "Number",
    "Route",
    "Highway",
    "Flight",
    "flight",
    "Room",
    "Section",
    "Article",
    "Chapter",
    "Page",
    "page",
    "pp",
    "Unit",
    "model",
    "Model",
    "Class",
    "Area",
    "Interstate",
    "Road",
    "£",
    "€",
    "$",
    "¥",
    "×",
    "x",
    "=",
    "ISO",
    "RFC",
    "Windows",
    "Type",
    "exactly",
    "totalling",
    "totaling",
    "US-",
];

/// Whether a figure that could be a year counts something.
fn counts(words: &Words<'_>, at: usize, after: usize, year: u32) -> bool {
    let before = match words.before(at) {
        // "No. 1950" counts as "No 1950" does.
        "." if at >= 2 && matches!(words.text(at - 2), "No" | "no" | "Nos" | "pp" | "p") => "No",
        before => before,
    };
    let amount = BEFORE_AMOUNTS.contains(&before);
    if amount {
        return true;
    }
    let next = words.next(after);
    if matches!(
        next,
        "people" | "men" | "women" | "children" | "percent" | "per" | "°"
    ) {
        return true;
    }
    let dated = BEFORE_YEARS.contains(&before);
    let many = next.len() > 3
        && next.ends_with('s')
        && !next.ends_with("ss")
        && next.starts_with(|c: char| c.is_ascii_lowercase())
        && !matches!(
            next,
            "was" | "this" | "has" | "series" | "as" | "is" | "his" | "its"
        );
    // A year of our time is one unless something speaks against it, an older one if something speaks for it.
    if (1700..=2035).contains(&year) {
        return many && !dated;
    }
    many || !dated
}

fn month(word: &str) -> Option<u32> {
    Some(match word {
        "January" | "Jan" => 1,
        "February" | "Feb" => 2,
        "March" | "Mar" => 3,
        "April" | "Apr" => 4,
        "May" => 5,
        "June" | "Jun" => 6,
        "July" | "Jul" => 7,
        "August" | "Aug" => 8,
        "September" | "Sep" | "Sept" => 9,
        "October" | "Oct" => 10,
        "November" | "Nov" => 11,
        "December" | "Dec" => 12,
        _ => return None,
    })
}

/// The full stop of a short month.
fn past_stop(words: &Words<'_>, month: usize) -> usize {
    let short = words.text(month).len() <= 4 && words.text(month) != "May";
    let stop = short && words.is_joined(month + 1) && words.text(month + 1) == ".";
    month + 1 + usize::from(stop)
}

fn day_of(words: &Words<'_>, at: usize, figure: &str, month: u32) -> Option<(u32, usize)> {
    if figure.len() > 2 {
        return None;
    }
    let day = figure.parse().ok()?;
    let most = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let after = at + 1 + usize::from(has_ordinal_ending(words, at + 1));
    ((1..=most).contains(&day) && !is_tied(words, after)).then_some((day, after))
}

/// The year that belongs to a month or day, which a comma or "of" may come before; and the index behind it.
fn year_after(words: &Words<'_>, at: usize) -> Option<(String, usize)> {
    let at = match words.next(at) {
        "," | "of" => at + 1,
        _ => at,
    };
    words.next_figure(at)?;
    if let Some((year, after)) = era_year(words, at) {
        return Some((year, after));
    }
    let (year, after) = plain_year(words, at, 1000..=2099)?;
    (!is_tied(words, after)).then(|| (four(year), after))
}

/// `44 BC`, `476 AD`, `300 B.C.`, as a year of four digits and the index behind it.
fn era_year(words: &Words<'_>, at: usize) -> Option<(String, usize)> {
    let (year, after) = plain_year(words, at, 1..=9999)?;
    let (before_christ, end) = era(words, after)?;
    Some((signed(year, before_christ), end))
}

fn era(words: &Words<'_>, at: usize) -> Option<(bool, usize)> {
    let dotted = |second: &str| {
        words.next(at + 1) == "."
            && words.next(at + 2) == second
            && words.is_joined(at + 1)
            && words.is_joined(at + 2)
            && words.next(at + 3) == "."
    };
    match words.next(at) {
        "BC" | "BCE" => Some((true, at + 1)),
        "AD" | "CE" => Some((false, at + 1)),
        "B" if dotted("C") => Some((true, at + 4)),
        "A" if dotted("D") => Some((false, at + 4)),
        _ => None,
    }
}

/// A year with its era. There is no year 0: 1 BC is `0000`.
fn signed(year: u32, before_christ: bool) -> String {
    if before_christ && year > 1 {
        format!("-{:04}", year - 1)
    } else if before_christ {
        "0000".to_owned()
    } else {
        four(year)
    }
}

fn with_era(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    let (normal, after) = era_year(words, at)?;
    push(words, at, after, normal, SURE, found);
    Some(after)
}

/// `2012-03-04`, `3/4/2012`, `4.3.2012`.
fn in_figures(words: &Words<'_>, at: usize, figure: &str, found: &mut Vec<Found>) -> Option<usize> {
    let joined = |from: usize, to: usize| (from..=to).all(|index| words.is_joined(index));
    let two = |figure: &str| {
        (figure.len() <= 2)
            .then(|| figure.parse::<u32>().ok())
            .flatten()
    };
    let mark = words.text(at + 1);
    let (year, month, day, after) = if mark == "." && joined(at + 1, at + 2) && figure.contains('.')
    {
        let (day, month) = figure.split_once('.')?;
        let (year, after) = plain_year(words, at + 2, 1000..=2099)?;
        (year, two(month)?, two(day)?, after)
    } else if matches!(mark, "-" | "/") && joined(at + 1, at + 4) && words.text(at + 3) == mark {
        let (second, third) = (words.figure(at + 2)?, words.figure(at + 4)?);
        if figure.len() == 4 && second.len() == 2 && third.len() == 2 {
            let (year, _) = plain_year(words, at, 1000..=2099)?;
            (year, two(second)?, two(third)?, at + 5)
        } else if third.len() == 4 {
            let (year, after) = plain_year(words, at + 4, 1000..=2099)?;
            let (first, second) = (two(figure)?, two(second)?);
            let (month, day) = if first > 12 {
                (second, first)
            } else {
                (first, second)
            };
            (year, month, day, after)
        } else {
            return None;
        }
    } else {
        return None;
    };
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    // A time may follow at once, anything else not.
    let ends = !is_tied(words, after) || words.text(after).starts_with('T');
    if !fits || !ends || matches!(words.text(after), "-" | "/") && words.is_joined(after) {
        return None;
    }
    push(
        words,
        at,
        after,
        format!("{year:04}-{month:02}-{day:02}"),
        SURE,
        found,
    );
    Some(after)
}

/// `13 March 1963`, `the 13th of March`, `10–12 March 2009`.
fn day_month(words: &Words<'_>, at: usize, figure: &str, found: &mut Vec<Found>) -> Option<usize> {
    let read = |at: usize, figure: &str| {
        let ordinal = has_ordinal_ending(words, at + 1);
        let mut next = at + 1 + usize::from(ordinal);
        if ordinal && words.next(next) == "of" {
            next += 1;
        }
        let month = month(words.next(next))?;
        let (day, _) = day_of(words, at, figure, month)?;
        let after = past_stop(words, next);
        Some((day, month, after))
    };
    let date = |day: u32, month: u32, year: Option<&str>| {
        format!("{}-{month:02}-{day:02}", year.unwrap_or("XXXX"))
    };
    if let Some((day, month, after)) = read(at, figure) {
        let year = year_after(words, after);
        let end = year.as_ref().map_or(after, |(_, end)| *end);
        let year = year.as_ref().map(|(year, _)| year.as_str());
        let confidence = if year.is_some() { SURE } else { LIKELY };
        push(words, at, end, date(day, month, year), confidence, found);
        return Some(end);
    }
    // Two days that share their month and year.
    let after = at + 1 + usize::from(has_ordinal_ending(words, at + 1));
    let second = match words.next(after) {
        "to" | "and" | "or" => after + 1,
        _ => words.dash(after)?,
    };
    let other = words.next_figure(second)?;
    let (day, month, next) = read(second, other)?;
    let (first, _) = day_of(words, at, figure, month)?;
    let year = year_after(words, next);
    let end = year.as_ref().map_or(next, |(_, end)| *end);
    let year = year.as_ref().map(|(year, _)| year.as_str());
    push(words, at, after, date(first, month, year), LIKELY, found);
    push(words, second, end, date(day, month, year), SURE, found);
    Some(end)
}

/// `March 13, 1963`, `March 1963`, `Mar. 13`, `in March`.
fn month_first(words: &Words<'_>, at: usize, month: u32, found: &mut Vec<Found>) -> Option<usize> {
    let next = past_stop(words, at);
    let figure = words.next_figure(next);
    if let Some((day, after)) = figure.and_then(|figure| day_of(words, next, figure, month)) {
        // `March 10–12, 1963`
        let until = words.dash(after).and_then(|second| {
            let figure = words.next_figure(second)?;
            let (last, end) = day_of(words, second, figure, month)?;
            (last > day).then_some((last, end))
        });
        let after = until.map_or(after, |(_, end)| end);
        let year = year_after(words, after);
        let end = year.as_ref().map_or(after, |(_, end)| *end);
        let named = year.as_ref().map_or("XXXX", |(year, _)| year);
        let mut normal = format!("{named}-{month:02}-{day:02}");
        if let Some((last, _)) = until {
            normal = format!("{normal}/{named}-{month:02}-{last:02}");
        }
        let confidence = if year.is_some() { SURE } else { LIKELY };
        push(words, at, end, normal, confidence, found);
        return Some(end);
    }
    if let Some((year, end)) = year_after(words, next) {
        push(words, at, end, format!("{year}-{month:02}"), SURE, found);
        return Some(end);
    }
    // Alone it may be a name or a verb.
    let dated = matches!(
        words.before(at),
        "in" | "In"
            | "since"
            | "Since"
            | "until"
            | "Until"
            | "by"
            | "By"
            | "last"
            | "next"
            | "during"
            | "early"
            | "late"
            | "mid"
            | "following"
            | "of"
            | "from"
            | "From"
            | "to"
            | "till"
    );
    let full = words.text(at).len() > 3 || words.text(at) == "May";
    let runs_on = words.next(next).starts_with(char::is_uppercase);
    if !dated || !full || runs_on {
        return None;
    }
    push(words, at, next, format!("XXXX-{month:02}"), 0.7, found);
    Some(next)
}

/// `1990s`, `the mid-1990s`.
fn decade(words: &Words<'_>, at: usize, figure: &str, found: &mut Vec<Found>) -> Option<usize> {
    let mut after = at + 1;
    if matches!(words.text(after), "'" | "’") && words.is_joined(after) {
        after += 1;
    }
    let is_decade = figure.len() == 4
        && words.is_joined(after)
        && words.text(after) == "s"
        && (after == at + 1 || words.is_joined(at + 1));
    if !is_decade {
        return None;
    }
    let (year, _) = plain_year(words, at, 1000..=2099)?;
    if year % 10 != 0 {
        return None;
    }
    let normal = format!("{:03}X", year / 10);
    push(words, prefixed(words, at), after + 1, normal, SURE, found);
    Some(after + 1)
}

/// Where a date begins that "mid-" belongs to.
fn prefixed(words: &Words<'_>, at: usize) -> usize {
    let tied = at >= 2 && words.is_joined(at) && words.is_joined(at - 1);
    if tied && words.text(at - 1) == "-" && words.text(at - 2).eq_ignore_ascii_case("mid") {
        at - 2
    } else {
        at
    }
}

/// `the 19th century`, `nineteenth-century`, `5th century BC`.
fn century(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    let (number, after) = number::ordinal(words, at)?;
    let noun = words.dash(after).unwrap_or(after);
    let is_century = matches!(words.next(noun), "century" | "centuries" | "Century");
    if !is_century || !(1..=21).contains(&number) {
        return None;
    }
    let (before_christ, end) = era(words, noun + 1).unwrap_or((false, noun + 1));
    // Century n BC are the years -(100n - 1) to -(100n - 100), counted with a year 0.
    let normal = format!(
        "{}{:02}XX",
        if before_christ { "-" } else { "" },
        number - 1
    );
    push(words, prefixed(words, at), end, normal, SURE, found);
    Some(end)
}

/// `the first quarter of 2009`.
fn quarter(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    let (number, after) = number::ordinal(words, at)?;
    if words.next(after) != "quarter" || !(1..=4).contains(&number) {
        return None;
    }
    let (year, end) = year_after(words, after + 1)?;
    push(
        words,
        at,
        end,
        format!("{year}-{}", 32 + number),
        SURE,
        found,
    );
    Some(end)
}

/// `summer 1969`, `the summer of 1969`.
fn season(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    let season = match words.text(at) {
        "spring" | "Spring" => 21,
        "summer" | "Summer" => 22,
        "autumn" | "Autumn" | "fall" | "Fall" => 23,
        "winter" | "Winter" => 24,
        _ => return None,
    };
    let (year, end) = year_after(words, at + 1)?;
    push(words, at, end, format!("{year}-{season}"), SURE, found);
    Some(end)
}
