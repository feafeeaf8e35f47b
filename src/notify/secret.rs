//! The secret that webhooks are signed with, and the signature: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::Webhook;

/// What a secret in the form of the Standard Webhooks begins with: the rest is the key in base64.
const PREFIX: &str = "whsec_";
/// Bytes that a key has at least. **Source:** Standard Webhooks want 24 to 64 bytes; a key that was thought up by a
/// person may do with less.
const LEAST: usize = 16;

/// One key, or several while one takes another's place: each signs.
#[derive(Clone)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// A secret that can't be used; it is not quoted. Trying again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// What follows the prefix is not base64.
    #[error("what follows `whsec_` is not base64")]
    Encoding,
    /// The key is too short to keep anybody from guessing it.
    #[error(
        "it is shorter than 16 bytes: make one with `echo whsec_$(head -c 32 /dev/urandom | base64)`"
    )]
    Short,
}

impl Secrets {
    /// Reads one secret, or several with spaces between them: `whsec_` and the key in base64, or any other text, whose
    /// bytes are the key. `None`: there is none.
    ///
    /// # Errors
    /// [`SecretsError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Option<Self>, SecretsError> {
        let keys = text.split_whitespace().map(|secret| {
            let key = match secret.strip_prefix(PREFIX) {
                Some(encoded) => STANDARD
                    .decode(encoded)
                    .map_err(|_| SecretsError::Encoding)?,
                None => secret.as_bytes().to_vec(),
            };
            if key.len() < LEAST {
                return Err(SecretsError::Short);
            }
            Hmac::new_from_slice(&key).map_err(|_| SecretsError::Short)
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        Ok((!keys.is_empty()).then_some(Self(keys)))
    }

    /// The header `webhook-signature`: `v1,` and the signature in base64, for each key.
    #[must_use]
    pub fn sign(&self, webhook: Webhook<'_>) -> String {
        let Webhook {
            id,
            timestamp,
            body,
        } = webhook;
        let signed = format!("{id}.{timestamp}.{body}");
        let signatures: Vec<String> = self
            .0
            .iter()
            .map(|key| {
                let signature = key.clone().chain_update(&signed).finalize().into_bytes();
                format!("v1,{}", STANDARD.encode(signature))
            })
            .collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: Webhook<'_> = Webhook {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: r#"{"test": 2432232314}"#,
    };

    #[test]
    fn the_signature_is_that_of_the_standard_webhooks() {
        // **Source:** the test of the reference libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let secrets = Secrets::parse(secret).unwrap().unwrap();
        assert_eq!(secrets.sign(WEBHOOK), signature);
        let both = Secrets::parse(&format!("{secret}  a-secret-of-our-own "))
            .unwrap()
            .unwrap();
        let signed = both.sign(WEBHOOK);
        assert!(signed.starts_with(&format!("{signature} v1,")), "{signed}");
        assert_eq!(signed.split(' ').count(), 2);
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_shown() {
        assert_eq!(
            Secrets::parse("whsec_!").unwrap_err(),
            SecretsError::Encoding
        );
        assert_eq!(
            Secrets::parse("whsec_YWJj").unwrap_err(),
            SecretsError::Short
        );
        assert_eq!(Secrets::parse("hunter2").unwrap_err(), SecretsError::Short);
        assert!(Secrets::parse(" ").unwrap().is_none());
        let secrets = Secrets::parse("correct-horse-battery").unwrap();
        assert_eq!(format!("{secrets:?}"), "Some(Secrets(…))");
    }
}
