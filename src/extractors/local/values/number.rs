//! Exact decimal amounts, in figures and in words.

use super::word::Words;

/// `digits × 10^exponent`, without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    digits: u64,
    exponent: i32,
}

impl Amount {
    pub(super) const fn whole(digits: u64) -> Self {
        Self {
            digits,
            exponent: 0,
        }
    }

    /// What a figure says; `None` if it has too many digits to be kept exactly.
    pub(super) fn of_figure(figure: &str) -> Option<Self> {
        let mut digits = 0_u64;
        let mut exponent = 0;
        let mut decimal = false;
        for byte in figure.bytes() {
            match byte {
                b'.' => decimal = true,
                b'0'..=b'9' => {
                    digits = digits
                        .checked_mul(10)?
                        .checked_add(u64::from(byte - b'0'))?;
                    exponent -= i32::from(decimal);
                }
                _ => {}
            }
        }
        Some(Self { digits, exponent })
    }

    pub(super) const fn scaled(self, tens: i32) -> Self {
        Self {
            digits: self.digits,
            exponent: self.exponent + tens,
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut digits, mut exponent) = (self.digits, self.exponent);
        if digits == 0 {
            return f.write_str("0");
        }
        while exponent < 0 && digits.is_multiple_of(10) {
            (digits, exponent) = (digits / 10, exponent + 1);
        }
        let digits = digits.to_string();
        if exponent >= 0 {
            let zeros = usize::try_from(exponent).unwrap_or(0);
            return write!(f, "{digits}{:0<zeros$}", "");
        }
        let decimals = usize::try_from(-exponent).unwrap_or(0);
        let digits = format!("{digits:0>width$}", width = decimals + 1);
        let (whole, part) = digits.split_at(digits.len() - decimals);
        write!(f, "{whole}.{part}")
    }
}

/// An amount in figures or words at `at`, and the index behind it. It has no scale yet.
pub(super) fn amount(words: &Words<'_>, at: usize) -> Option<(Amount, usize)> {
    if let Some(figure) = words.figure(at) {
        return Some((Amount::of_figure(figure)?, at + 1));
    }
    let lower = lower(words.text(at))?;
    if let Some(tens) = tens(lower.as_str()) {
        let dash = words.dash(at + 1).unwrap_or(at + 1);
        let unit = self::lower(words.next(dash)).and_then(|word| small(word.as_str()));
        return Some(match unit {
            Some(unit) if unit > 0 && unit < 10 => (Amount::whole(tens + unit), dash + 1),
            Some(_) | None => (Amount::whole(tens), at + 1),
        });
    }
    Some((Amount::whole(small(lower.as_str())?), at + 1))
}

/// The words that multiply at `at`, as a power of ten, and the index behind them.
pub(super) fn scale(words: &Words<'_>, mut at: usize) -> (i32, usize) {
    let mut tens = 0;
    // "hundred thousand", "thousand million": more than two say nothing.
    for _ in 0..2 {
        let Some(word) = lower(words.next(at)) else {
            break;
        };
        tens += match word.as_str() {
            "hundred" => 2,
            "thousand" => 3,
            "million" => 6,
            "billion" => 9,
            "trillion" => 12,
            _ => break,
        };
        at += 1;
    }
    (tens, at)
}

/// A short word in lower case, on the stack.
pub(super) struct Lower {
    bytes: [u8; 16],
    len: usize,
}

impl Lower {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// `word` in lower case, if it is short and ASCII, as all words of this room's tables are.
pub(super) fn lower(word: &str) -> Option<Lower> {
    let source = word.as_bytes();
    if source.is_empty() || source.len() > 16 || !word.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(source) {
        *to = from.to_ascii_lowercase();
    }
    Some(Lower {
        bytes,
        len: source.len(),
    })
}

fn small(word: &str) -> Option<u64> {
    Some(match word {
        "one" => 1,
        "two" => 2,
        "three" => 3,
        "four" => 4,
        "five" => 5,
        "six" => 6,
        "seven" => 7,
        "eight" => 8,
        "nine" => 9,
        "ten" => 10,
        "eleven" => 11,
        "twelve" => 12,
        "thirteen" => 13,
        "fourteen" => 14,
        "fifteen" => 15,
        "sixteen" => 16,
        "seventeen" => 17,
        "eighteen" => 18,
        "nineteen" => 19,
        _ => return None,
    })
}

fn tens(word: &str) -> Option<u64> {
    Some(match word {
        "twenty" => 20,
        "thirty" => 30,
        "forty" => 40,
        "fifty" => 50,
        "sixty" => 60,
        "seventy" => 70,
        "eighty" => 80,
        "ninety" => 90,
        _ => return None,
    })
}

/// An ordinal at `at` (`19th`, `nineteenth`, `twenty-first`), and the index behind it.
pub(super) fn ordinal(words: &Words<'_>, at: usize) -> Option<(u64, usize)> {
    if let Some(figure) = words.figure(at) {
        let number = figure.parse().ok()?;
        return has_ordinal_ending(words, at + 1).then_some((number, at + 2));
    }
    let lower = lower(words.text(at))?;
    if let Some(tens) = tens(lower.as_str()) {
        let after = words.dash(at + 1)?;
        let unit = self::lower(words.next(after)).and_then(|word| nth(word.as_str()))?;
        return (unit < 10).then_some((tens + unit, after + 1));
    }
    Some((nth(lower.as_str())?, at + 1))
}

/// Whether the word at `at` makes the figure before it an ordinal.
pub(super) fn has_ordinal_ending(words: &Words<'_>, at: usize) -> bool {
    words.is_joined(at) && matches!(words.text(at), "st" | "nd" | "rd" | "th")
}

fn nth(word: &str) -> Option<u64> {
    Some(match word {
        "first" => 1,
        "second" => 2,
        "third" => 3,
        "fourth" => 4,
        "fifth" => 5,
        "sixth" => 6,
        "seventh" => 7,
        "eighth" => 8,
        "ninth" => 9,
        "tenth" => 10,
        "eleventh" => 11,
        "twelfth" => 12,
        "thirteenth" => 13,
        "fourteenth" => 14,
        "fifteenth" => 15,
        "sixteenth" => 16,
        "seventeenth" => 17,
        "eighteenth" => 18,
        "nineteenth" => 19,
        "twentieth" => 20,
        _ => return None,
    })
}
