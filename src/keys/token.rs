//! A token for one stream: what a browser's `EventSource`, which sends no header, puts into the address instead of a key.
//!
//! It names the key that it was asked for with, and is signed with that key's stored hash: there is no other secret to
//! keep, every replica can check it, and it ends with its key. The signature covers the path of the stream, so it opens
//! that one alone. An address ends up in histories and logs of proxies; so a token lets nobody connect after
//! [`STREAM_TOKEN`].

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// How long a token may be connected with; a stream that is open by then stays open.
pub const STREAM_TOKEN: Duration = Duration::from_secs(60);

/// What is signed begins with this, so that no signature means anything else.
const PURPOSE: &[u8] = b"graphmill stream token 1\0";
/// Bytes of the signature.
const SIGNATURE: usize = 32;

/// A token.
#[derive(Clone)]
pub struct StreamToken {
    prefix: String,
    ends_ms: u64,
    signature: [u8; SIGNATURE],
}

impl fmt::Debug for StreamToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamToken({}, …)", self.prefix)
    }
}

impl StreamToken {
    pub(super) fn sign(prefix: &str, hash: &[u8; 32], now_ms: u64, path: &str) -> (Self, u64) {
        let life = u64::try_from(STREAM_TOKEN.as_millis()).unwrap_or(0);
        let ends_ms = now_ms.saturating_add(life);
        let mut signature = [0; SIGNATURE];
        if let Some(mac) = mac(hash, prefix, ends_ms, path) {
            signature.copy_from_slice(&mac.finalize().into_bytes());
        }
        let token = Self {
            prefix: prefix.to_owned(),
            ends_ms,
            signature,
        };
        (token, ends_ms)
    }

    /// The token as it is sent: safe in a query as it stands.
    #[must_use]
    pub fn reveal(&self) -> String {
        let Self {
            prefix,
            ends_ms,
            signature,
        } = self;
        format!("{prefix}.{ends_ms}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (prefix, ends, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_short =
            prefix.len() <= 32 && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (parts.next().is_none() && is_short).then_some(())?;
        Some(Self {
            prefix: prefix.to_owned(),
            ends_ms: ends.parse().ok()?,
            signature: signature.try_into().ok()?,
        })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it was given out for the stream at `path`; compared in constant time.
    pub(super) fn is_signed(&self, hash: &[u8; 32], path: &str) -> bool {
        mac(hash, &self.prefix, self.ends_ms, path)
            .is_some_and(|mac| mac.verify_slice(&self.signature).is_ok())
    }

    pub(super) const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.ends_ms
    }
}

fn mac(hash: &[u8; 32], prefix: &str, ends_ms: u64, path: &str) -> Option<Hmac<Sha256>> {
    let mac = Hmac::new_from_slice(hash).ok()?;
    Some(
        mac.chain_update(PURPOSE)
            .chain_update(prefix)
            .chain_update([0])
            .chain_update(ends_ms.to_be_bytes())
            .chain_update(path),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_stream_with_its_key_until_it_ends() {
        let (hash, other) = ([7; 32], [8; 32]);
        let (token, ends) = StreamToken::sign("abc", &hash, 1_000, "/api/batches/b/events");
        assert_eq!(ends, 61_000);
        let read = StreamToken::parse(&token.reveal()).unwrap();
        assert_eq!(read.prefix(), "abc");
        assert!(read.is_signed(&hash, "/api/batches/b/events"));
        assert!(!read.is_signed(&hash, "/api/batches/c/events"));
        assert!(!read.is_signed(&other, "/api/batches/b/events"));
        assert!(read.is_fresh(60_999) && !read.is_fresh(61_000));
        let later = StreamToken {
            ends_ms: 90_000,
            ..read.clone()
        };
        assert!(!later.is_signed(&hash, "/api/batches/b/events"));
        let of_another = StreamToken {
            prefix: "abd".to_owned(),
            ..read
        };
        assert!(!of_another.is_signed(&hash, "/api/batches/b/events"));
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        for text in ["", ".", "a.1", "a.1.AA", "a.1.AA.b", "a.x.AA", "é.1.AA"] {
            assert!(StreamToken::parse(text).is_none(), "{text}");
        }
    }
}
