//! Where a webhook goes.

use std::fmt;

use reqwest::Url;

/// Characters of an address at most. **Source:** what proxies and receivers take; the column's CHECK.
const LONGEST: usize = 2048;

/// An http or https address without a user's name or password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

/// An address that no webhook is sent to. Trying again does not help; it is not quoted, for it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none.
    #[error("it is no address such as https://example.com/hooks/graphmill")]
    Malformed,
    /// Another scheme.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// It names a user or a password.
    #[error(
        "it must not hold a user or a password: receivers know us by the signature, see docs/WEBHOOKS.md"
    )]
    Credentials,
    /// It is too long.
    #[error("it has more than 2048 characters")]
    TooLong,
}

impl Address {
    /// Reads an address. A fragment, which is never sent, is dropped.
    ///
    /// # Errors
    /// [`AddressError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let mut url = Url::parse(text.trim()).map_err(|_| AddressError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        url.set_fragment(None);
        if url.as_str().chars().count() > LONGEST {
            return Err(AddressError::TooLong);
        }
        Ok(Self(url))
    }

    /// All of it: what is stored and sent to, and never logged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Without the query, which may hold a token.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        f.write_str(shown.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_taken() {
        for (text, wanted) in [
            ("", AddressError::Malformed),
            ("example.com/hook", AddressError::Malformed),
            ("http://", AddressError::Malformed),
            ("ftp://example.com/", AddressError::Scheme),
            ("file:///etc/passwd", AddressError::Scheme),
            ("javascript:alert(1)", AddressError::Scheme),
            ("https://me@example.com/", AddressError::Credentials),
            ("https://me:word@example.com/", AddressError::Credentials),
            ("https://:word@example.com/", AddressError::Credentials),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), wanted, "{text}");
        }
        let long = format!("https://example.com/{}", "a".repeat(LONGEST));
        assert_eq!(Address::parse(&long).unwrap_err(), AddressError::TooLong);
    }

    #[test]
    fn all_is_sent_and_the_query_is_not_shown() {
        let address = Address::parse(" http://10.0.0.7:8080/hook?token=abc#here ").unwrap();
        assert_eq!(address.as_str(), "http://10.0.0.7:8080/hook?token=abc");
        for shown in [address.to_string(), format!("{address:?}")] {
            assert_eq!(shown, "http://10.0.0.7:8080/hook");
        }
    }
}
