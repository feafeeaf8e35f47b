//! Money, percentages and quantities: an amount, or a range of two, with what it is an amount of.
//!
//! Normal forms: `USD 5000000`, `5.2%`, `12 km`; a range is `5/10 km`.

use super::{
    Found,
    number::{self, Amount},
    units,
    word::Words,
};
use crate::graph::ValueKind;

/// One amount or a range, with its scale, and the index behind it.
struct Measure {
    amounts: (Amount, Option<Amount>),
    is_figure: bool,
    after: usize,
}

impl Measure {
    fn normal(&self) -> String {
        match self.amounts {
            (amount, None) => amount.to_string(),
            (from, Some(to)) => format!("{from}/{to}"),
        }
    }
}

/// An amount at `at`; returns the index behind it.
pub(super) fn amount(words: &Words<'_>, at: usize, found: &mut Vec<Found>) -> Option<usize> {
    if words.is_mark(at) {
        return with_sign(words, at, at, found);
    }
    if !words.is_apart(at) {
        return None;
    }
    if words.figure(at).is_none() {
        // `US$ 12`, `EUR 20`
        if words.is_joined(at + 1) && units::sign(words.text(at + 1), words.text(at)).is_some() {
            return with_sign(words, at, at + 1, found);
        }
        if let Some(code) = units::code(words.text(at)) {
            let measure = measure(words, at + 1, true).filter(|measure| measure.is_figure)?;
            return Some(money(words, at, &measure, code, measure.after, found));
        }
    }
    let measure = measure(words, at, false)?;
    let after = measure.after;
    // A hyphen ties the two in "a four-year term".
    let noun = if measure.amounts.1.is_none() {
        words.dash(after).unwrap_or(after)
    } else {
        after
    };
    let word = |index: usize| words.next(noun + index);
    if let Some((code, count)) = units::currency(word(0), word(1), word(2)) {
        return Some(money(words, at, &measure, code, noun + count, found));
    }
    if measure.is_figure
        && let Some(code) = units::sign(words.next(after), "").filter(|_| words.next(after) != "$")
        && words
            .figure(after + 1)
            .is_none_or(|_| !words.is_joined(after + 1))
    {
        return Some(money(words, at, &measure, code, after + 1, found));
    }
    let percent = match (word(0), word(1)) {
        ("%" | "percent" | "pct", _) => Some(noun + 1),
        ("per", "cent") => Some(noun + 2),
        _ => None,
    };
    if let Some(end) = percent {
        let normal = format!("{}%", measure.normal());
        push(words, at, end, ValueKind::Percentage, normal, 0.95, found);
        return Some(end);
    }
    let (symbol, count) = units::unit(word(0), word(1), word(2), measure.is_figure)?;
    let end = noun + count;
    // "5 m-wide" is fine, "5 m.p.h." and "3 s'" are something else; a symbol that runs on is none.
    let runs_on = words.is_joined(end) && !words.is_mark(end);
    let spelled = words.is_joined(end) && words.is_joined(end + 1) && words.text(end) == ".";
    if runs_on || spelled {
        return None;
    }
    let normal = format!("{} {symbol}", measure.normal());
    let kind = ValueKind::Quantity;
    push(
        words,
        at,
        end,
        kind,
        normal,
        if measure.is_figure { 0.9 } else { 0.8 },
        found,
    );
    Some(end)
}

/// `$5 million` from `begin`, whose sign is at `sign`.
fn with_sign(
    words: &Words<'_>,
    begin: usize,
    sign: usize,
    found: &mut Vec<Found>,
) -> Option<usize> {
    let before = if begin == sign { "" } else { words.text(begin) };
    let code = units::sign(words.text(sign), before)?;
    let measure = measure(words, sign + 1, true).filter(|measure| measure.is_figure)?;
    // `$500 US`
    Some(money(words, begin, &measure, code, measure.after, found))
}

fn money(
    words: &Words<'_>,
    from: usize,
    measure: &Measure,
    code: &str,
    end: usize,
    found: &mut Vec<Found>,
) -> usize {
    let normal = format!("{code} {}", measure.normal());
    push(words, from, end, ValueKind::Money, normal, 0.95, found);
    end
}

fn push(
    words: &Words<'_>,
    from: usize,
    to: usize,
    kind: ValueKind,
    normal: String,
    confidence: f32,
    found: &mut Vec<Found>,
) {
    found.push(Found::new(words.bytes(from, to), kind, normal, confidence));
}

/// The amount at `at`. In `money`, letters may scale it (`$5m`), and a range may repeat the sign (`$5–$10`).
fn measure(words: &Words<'_>, at: usize, money: bool) -> Option<Measure> {
    if money {
        words.next_figure(at)?;
    }
    let (first, after) = number::amount(words, at)?;
    let is_figure = words.figure(at).is_some();
    let (tens, after) = scaled(words, after, money);
    let single = Measure {
        amounts: (first.scaled(tens), None),
        is_figure,
        after,
    };
    let Some(second) = between(words, after) else {
        return Some(single);
    };
    let second = if money && units::sign(words.next(second), "").is_some() {
        second + 1
    } else {
        second
    };
    let other = words
        .next_figure(second)
        .filter(|_| is_figure)
        .and_then(Amount::of_figure);
    let Some(other) = other else {
        return Some(single);
    };
    let (scale, end) = scaled(words, second + 1, money);
    // The scale of the second holds for the first, unless that has its own.
    let first = first.scaled(if tens == 0 { scale } else { tens });
    Some(Measure {
        amounts: (first, Some(other.scaled(scale))),
        is_figure,
        after: end,
    })
}

/// Where the second amount of a range begins.
fn between(words: &Words<'_>, at: usize) -> Option<usize> {
    if words.next(at) == "to" {
        return Some(at + 1);
    }
    words.dash(at)
}

fn scaled(words: &Words<'_>, at: usize, money: bool) -> (i32, usize) {
    if money && words.is_joined(at) {
        let tens = match words.text(at) {
            "k" | "K" => 3,
            "m" | "M" | "mn" | "mio" => 6,
            "b" | "bn" | "B" => 9,
            "tn" | "T" => 12,
            _ => 0,
        };
        if tens > 0 {
            return (tens, at + 1);
        }
    }
    number::scale(words, at)
}
