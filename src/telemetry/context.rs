//! A place in a trace, as the W3C's `traceparent` says it. Pure: knows the format and nothing of who traces.
//!
//! Invariant: whatever is not a trace context by the standard is none, and no reason to refuse anything.

use std::fmt;

/// The length of a `traceparent` of version 00. **Source:** W3C Trace Context, §3.2.2.
const LENGTH: usize = 55;

/// A place in a trace: whatever is done because of it hangs below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

impl TraceContext {
    /// The place that `traceparent` names; `None` if it names none, which the standard has treated like no header at
    /// all. Of versions to come it reads what version 00 has.
    ///
    /// **Source:** W3C Trace Context, §3.2.2 and §4.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let (known, rest) = bytes.split_at_checked(LENGTH)?;
        let &[v1, v2, b'-', ref ids @ .., b'-', f1, f2] = known else {
            return None;
        };
        let (trace, span) = ids.split_at_checked(32)?;
        let span = span.strip_prefix(b"-")?;
        let version = hex(&[v1, v2])?;
        if version == 0xff || (version == 0 && !rest.is_empty()) {
            return None;
        }
        if !rest.is_empty() && rest.first() != Some(&b'-') {
            return None;
        }
        let flags = hex(&[f1, f2])?;
        Self::new(hex(trace)?, u64::try_from(hex(span)?).ok()?, flags & 1 == 1)
    }

    /// The place with these ids; `None` if one of them is zero, which names nothing.
    #[must_use]
    pub const fn new(trace: u128, span: u64, sampled: bool) -> Option<Self> {
        if trace == 0 || span == 0 {
            return None;
        }
        Some(Self {
            trace,
            span,
            sampled,
        })
    }

    /// The trace.
    #[must_use]
    pub const fn trace(self) -> u128 {
        self.trace
    }

    /// The span in it.
    #[must_use]
    pub const fn span(self) -> u64 {
        self.span
    }

    /// Whether whoever began the trace records it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.sampled
    }

    /// The trace's id as it is written, 32 hex digits.
    #[must_use]
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// As `traceparent` of version 00; of the flags only the one that this version knows.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// Lower-case hex digits: upper case is no trace context.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |sum, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_standards_own_example_is_read_and_written() {
        let context = TraceContext::parse(GOOD).unwrap();
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span(), 0xb7ad_6b71_6920_3331);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), GOOD);
    }

    #[test]
    fn flags_that_nobody_knows_are_let_go() {
        let context = TraceContext::parse(&GOOD.replace("-01", "-fe")).unwrap();
        assert!(!context.is_sampled());
        assert_eq!(context.to_string(), GOOD.replace("-01", "-00"));
    }

    #[test]
    fn a_version_to_come_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00-", "cc-", 1);
        for text in [
            later.clone(),
            format!("{later}-what-the-future-will-be-like"),
        ] {
            assert_eq!(
                TraceContext::parse(&text),
                TraceContext::parse(GOOD),
                "{text}"
            );
        }
        assert_eq!(TraceContext::parse(&format!("{later}.more")), None);
    }

    #[test]
    fn what_is_none_is_none() {
        for text in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1..=u128::MAX, span in 1..=u64::MAX, sampled: bool) {
            let context = TraceContext::new(trace, span, sampled).unwrap();
            prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        }

        #[test]
        fn nothing_makes_it_panic(text in ".{0,80}", hexish in "[0-9a-f-]{50,60}") {
            let _ = TraceContext::parse(&text);
            if let Some(context) = TraceContext::parse(&hexish) {
                prop_assert_eq!(context.to_string().len(), LENGTH);
            }
        }
    }
}
