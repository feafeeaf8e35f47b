//! How long a server asks to be left alone, by whichever of its headers says so.
//!
//! Knows no clock: a date is read against the `Date` of the same response, so that a wrong clock here does no harm.

use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest pause that a header can ask for; after it the server is asked again.
///
/// **Source:** an hour; limits of a day exist, but a header with a typing mistake must not stop a batch for a year.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long a response of `status` asks to be left alone. Limits that are met are told in responses of every kind,
/// and say something about now only in a 429.
pub(super) fn retry_after(status: u16, headers: &HeaderMap) -> Option<Duration> {
    if (200..300).contains(&status) {
        return None;
    }
    milliseconds(headers)
        .or_else(|| seconds_or_date(headers))
        .or_else(|| (status == 429).then(|| reset(headers)).flatten())
        .map(|wait| wait.min(LONGEST))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A number of seconds that a person or a program wrote; negative ones are none.
fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

fn of_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)
}

fn milliseconds(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = number(text(headers, "retry-after-ms")?)?;
    Some(of_seconds(milliseconds / 1000.0))
}

fn seconds_or_date(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER.as_str())?;
    if let Some(seconds) = number(value) {
        return Some(of_seconds(seconds));
    }
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    let now = DateTime::parse_from_rfc2822(text(headers, DATE.as_str())?).ok()?;
    Some((until - now).to_std().unwrap_or(Duration::ZERO))
}

/// When the limit that was met is lifted: that of which nothing is left, else the one that takes longest.
fn reset(headers: &HeaderMap) -> Option<Duration> {
    let limits: Vec<(bool, Duration)> = ["requests", "tokens"]
        .into_iter()
        .filter_map(|what| {
            let wait = duration(text(headers, &format!("x-ratelimit-reset-{what}"))?)?;
            let left = text(headers, &format!("x-ratelimit-remaining-{what}"));
            Some((left == Some("0"), wait))
        })
        .collect();
    let met = limits.iter().any(|&(met, _)| met);
    limits
        .into_iter()
        .filter(|&(this, _)| this || !met)
        .map(|(_, wait)| wait)
        .max()
}

/// `6m0s`, `20ms`, `1h2m`, `0.5s`, or a bare number of seconds.
fn duration(text: &str) -> Option<Duration> {
    if let Some(seconds) = number(text) {
        return Some(of_seconds(seconds));
    }
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount = number(&rest[..digits])?;
        let tail = &rest[digits..];
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        sum += amount
            * match &tail[..letters] {
                "d" => 86_400.0,
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &tail[letters..];
    }
    (!text.is_empty()).then(|| of_seconds(sum))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn asked(status: u16, headers: &[(&str, &str)]) -> Option<u64> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        retry_after(status, &headers).map(|wait| u64::try_from(wait.as_millis()).unwrap())
    }

    #[test]
    fn every_form_of_header_is_read() {
        let now = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (status, headers, wanted) in [
            (429, vec![("retry-after", "7")], Some(7000)),
            (503, vec![("retry-after", "0.5")], Some(500)),
            (
                429,
                vec![("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT"), now],
                Some(20_000),
            ),
            (
                429,
                vec![("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT"), now],
                Some(0),
            ),
            (
                429,
                vec![("retry-after", "Sun, 06 Nov 1994 08:49:57 GMT")],
                None,
            ),
            (
                429,
                vec![("retry-after", "2"), ("retry-after-ms", "1500")],
                Some(1500),
            ),
            (
                429,
                vec![("x-ratelimit-reset-requests", "6m0s")],
                Some(360_000),
            ),
            (429, vec![("x-ratelimit-reset-tokens", "20ms")], Some(20)),
            (
                429,
                vec![
                    ("x-ratelimit-reset-requests", "20s"),
                    ("x-ratelimit-remaining-requests", "9"),
                    ("x-ratelimit-reset-tokens", "1m1.5s"),
                    ("x-ratelimit-remaining-tokens", "12"),
                ],
                Some(61_500),
            ),
            (
                429,
                vec![
                    ("x-ratelimit-reset-requests", "2s"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-tokens", "1m"),
                    ("x-ratelimit-remaining-tokens", "12"),
                ],
                Some(2000),
            ),
            // Told in every response; says nothing about a 500.
            (500, vec![("x-ratelimit-reset-tokens", "20ms")], None),
            (200, vec![("retry-after", "7")], None),
            (429, vec![("retry-after", "99999999999")], Some(3_600_000)),
            (429, vec![("retry-after", "-1")], None),
            (429, vec![("retry-after", "soon")], None),
            (429, vec![("x-ratelimit-reset-tokens", "6 parsecs")], None),
            (429, vec![], None),
        ] {
            assert_eq!(asked(status, &headers), wanted, "{status} {headers:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(value in "[0-9.a-zµ :,-]{0,40}") {
            if let Ok(value) = HeaderValue::from_str(&value) {
                for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"] {
                    let headers =
                        [(HeaderName::from_static(name), value.clone())].into_iter().collect();
                    let _ = retry_after(429, &headers);
                }
            }
        }
    }
}
