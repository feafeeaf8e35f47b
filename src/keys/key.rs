//! How a key looks: `gm_` prefix `_` secret and checksum, in an alphabet without `i`, `l`, `o` and `u`.
//!
//! The prefix is public: a key is listed, looked up and revoked by it. The checksum tells what was mistyped or cut off
//! from what is unknown, without asking anybody; it guards against mistakes, not against attackers.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that scanners for leaked secrets can know it.
const MARK: &str = "gm";
/// Digits, and letters that are not taken for others. **Source:** Crockford's base 32, in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of the prefix: 60 bits, so that two keys never share one.
const PREFIX: usize = 12;
/// Characters of the secret: 200 bits.
const SECRET: usize = 40;
/// Characters of the checksum: one in 10⁹ mistakes gets through.
const CHECKSUM: usize = 6;

/// A key. Its secret is shown by [`Key::reveal`] alone.
#[derive(Clone)]
pub struct Key {
    prefix: String,
    secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({MARK}_{}_…)", self.prefix)
    }
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; PREFIX + SECRET];
        getrandom::fill(&mut random)?;
        let (prefix, secret) = random.split_at(PREFIX);
        Ok(Self {
            prefix: spell(prefix),
            secret: spell(secret),
        })
    }

    /// Reads a key; `None` if it is none, or was cut off or mistyped.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let (mark, prefix, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let whole =
            mark == MARK && parts.next().is_none() && is_spelled(prefix) && is_spelled(rest);
        if !whole || prefix.len() != PREFIX || rest.len() != SECRET + CHECKSUM {
            return None;
        }
        let (secret, checksum) = rest.split_at(SECRET);
        (checksum == check(prefix, secret)).then(|| Self {
            prefix: prefix.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// What it is listed and looked up by.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The whole key, for whoever is to have it.
    #[must_use]
    pub fn reveal(&self) -> String {
        let Self { prefix, secret } = self;
        format!("{MARK}_{prefix}_{secret}{}", check(prefix, secret))
    }

    /// What is stored of it: SHA-256 of its secret, which is too long to be guessed however fast a hash is.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.secret).into()
    }

    /// Whether this is the key of `hash`, in a time that does not depend on where they differ.
    pub(super) fn is(&self, hash: &[u8; 32]) -> bool {
        self.hash().ct_eq(hash).into()
    }
}

/// The prefix in what somebody gave to name a key: `gm_…`, the prefix alone, or the whole key.
#[must_use]
pub fn prefix_in(text: &str) -> &str {
    let rest = text.strip_prefix("gm_").unwrap_or(text);
    rest.split('_').next().unwrap_or(rest)
}

/// Random bytes as characters: 256 is a multiple of 32, so each is as likely as any other.
fn spell(bytes: &[u8]) -> String {
    let characters = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    characters.collect()
}

fn is_spelled(text: &str) -> bool {
    text.bytes().all(|byte| ALPHABET.contains(&byte))
}

fn check(prefix: &str, secret: &str) -> String {
    let digest = Sha256::new()
        .chain_update(MARK)
        .chain_update("_")
        .chain_update(prefix)
        .chain_update("_")
        .chain_update(secret)
        .finalize();
    spell(&digest[..CHECKSUM])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_shown() {
        let key = Key::generate().unwrap();
        let shown = key.reveal();
        let read = Key::parse(&shown).unwrap();
        assert_eq!((read.prefix(), read.hash()), (key.prefix(), key.hash()));
        assert!(read.is(&key.hash()));
        assert!(!read.is(&Key::generate().unwrap().hash()));
        assert_eq!(shown.len(), 3 + PREFIX + 1 + SECRET + CHECKSUM);
        for given in [&shown, key.prefix(), &shown[..3 + PREFIX]] {
            assert_eq!(prefix_in(given), key.prefix());
        }
    }

    #[test]
    fn a_mistake_shows_without_asking_anybody() {
        let shown = Key::generate().unwrap().reveal();
        for at in 0..shown.len() {
            let mut mistyped = shown.clone().into_bytes();
            mistyped[at] = if mistyped[at] == b'7' { b'8' } else { b'7' };
            let mistyped = String::from_utf8(mistyped).unwrap();
            assert!(Key::parse(&mistyped).is_none(), "{at}");
            assert!(Key::parse(&shown[..at]).is_none(), "{at}");
        }
        for other in [
            format!("{shown}0"),
            format!("{shown}_"),
            format!(" {shown}"),
            "é_é_é".to_owned(),
        ] {
            assert!(Key::parse(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn no_two_keys_are_one_and_none_is_told_by_debug() {
        let keys: Vec<Key> = (0..1000).map(|_| Key::generate().unwrap()).collect();
        let prefixes: std::collections::HashSet<_> = keys.iter().map(Key::prefix).collect();
        let hashes: std::collections::HashSet<_> = keys.iter().map(Key::hash).collect();
        assert_eq!((prefixes.len(), hashes.len()), (1000, 1000));
        for key in &keys {
            assert!(!format!("{key:?}").contains(&key.secret));
        }
    }
}
