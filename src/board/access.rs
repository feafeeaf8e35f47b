//! Who looks: whoever has an API key, as the password of HTTP Basic, whatever the name. A browser asks for it, and sends
//! it with all that a page loads from here.
//!
//! Invariants: an organization comes from the key and from nothing else that is sent; a key is never logged, and never
//! handed on to a route; what is asked of the database counts towards the organization's rate of requests.

use std::time::Duration;

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use graphmill_jobs::OrganizationId;

use super::State;
use crate::{
    keys::{Holder, Keyring, Refusal},
    queue::RateLimiter,
    store::Scope,
};

/// How long it may take to say who asks.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// What a browser is told, so that it asks for a key.
const CHALLENGE: &str = r#"Basic realm="graphmill: an API key is the password", charset="UTF-8""#;

/// How those who look are told apart.
#[derive(Debug)]
pub struct Access {
    who: Who,
    rates: RateLimiter,
}

#[derive(Debug)]
enum Who {
    Keys(Keyring),
    Anybody(OrganizationId),
}

/// Who looks.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Anybody, where there are no keys.
    Anybody(OrganizationId),
    /// Whoever has this key.
    Key(Holder),
}

impl Caller {
    /// Whose work is shown.
    pub(super) const fn organization(&self) -> OrganizationId {
        match self {
            Self::Anybody(organization) => *organization,
            Self::Key(holder) => holder.organization,
        }
    }
}

impl Access {
    /// By their keys.
    #[must_use]
    pub const fn by_key(keyring: Keyring, rates: RateLimiter) -> Self {
        Self {
            who: Who::Keys(keyring),
            rates,
        }
    }

    /// Not at all: whoever reaches the board sees all that `organization` has.
    #[must_use]
    pub const fn open(organization: OrganizationId, rates: RateLimiter) -> Self {
        Self {
            who: Who::Anybody(organization),
            rates,
        }
    }

    /// Over once the caller's key lets nobody in any more.
    pub(super) async fn gone(&self, caller: &Caller) {
        match (&self.who, caller) {
            (Who::Keys(keyring), Caller::Key(holder)) => keyring.gone(holder).await,
            (Who::Keys(_) | Who::Anybody(_), Caller::Anybody(_))
            | (Who::Anybody(_), Caller::Key(_)) => std::future::pending().await,
        }
    }

    async fn caller(&self, shown: Option<HeaderValue>) -> Result<Caller, Response> {
        let keyring = match &self.who {
            Who::Keys(keyring) => keyring,
            Who::Anybody(organization) => return Ok(Caller::Anybody(*organization)),
        };
        let Some(key) = shown.as_ref().and_then(password) else {
            return Err(unknown(
                "an API key is needed, as the password; any name will do",
            ));
        };
        let looked = tokio::time::timeout(LOOK_TIMEOUT, keyring.admit(&key)).await;
        match looked {
            Ok(Ok(holder)) if holder.scope >= Scope::Read => Ok(Caller::Key(holder)),
            Ok(Ok(_)) => Err((
                StatusCode::FORBIDDEN,
                "this API key lacks the scope `read`\n",
            )
                .into_response()),
            Ok(Err(
                refusal @ (Refusal::Malformed
                | Refusal::Unknown
                | Refusal::Expired
                | Refusal::Token),
            )) => Err(unknown(&refusal.to_string())),
            Ok(Err(Refusal::Store(error))) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a key could not be checked"
                );
                Err(nobody_knows())
            }
            Err(_) => Err(nobody_knows()),
        }
    }
}

/// Lets in whoever may look, and not too often.
pub(super) async fn admit(
    Shared(state): Shared<State>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = &state.0.access;
    let shown = request.headers_mut().remove(header::AUTHORIZATION);
    let caller = match access.caller(shown).await {
        Ok(caller) => caller,
        Err(refused) => return refused,
    };
    // The pages' files are the same for all and cost nothing.
    let asks = request.uri().path().starts_with("/api/");
    if let Caller::Key(holder) = &caller
        && let Some(rate) = holder.rate.filter(|_| asks)
    {
        let taken = access.rates.take(holder.organization, rate).await;
        if !taken.allowed {
            let wait = u64::try_from(taken.wait.as_millis().div_ceil(1000)).unwrap_or(1);
            return (
                StatusCode::TOO_MANY_REQUESTS,
                [(header::RETRY_AFTER, HeaderValue::from(wait.max(1)))],
                "the organization makes more requests a second than it may\n",
            )
                .into_response();
        }
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// The password of HTTP Basic, or what follows `Bearer`.
fn password(shown: &HeaderValue) -> Option<String> {
    let (scheme, rest) = shown.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

fn unknown(why: &str) -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, CHALLENGE)],
        format!("{why}\n"),
    )
        .into_response()
}

fn nobody_knows() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(header::RETRY_AFTER, "1")],
        "Postgres does not answer, so nobody knows whose key this is: trying again may help\n",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_password() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let shown = |text: &str| password(&HeaderValue::from_str(text).unwrap());
        for (text, key) in [
            (basic("anybody:gm_a_b"), Some("gm_a_b")),
            (basic(":gm_a_b"), Some("gm_a_b")),
            (basic("a:b:c"), Some("b:c")),
            (basic("gm_a_b:"), Some("")),
            (basic("gm_a_b"), None),
            ("basic Om0=".to_owned(), Some("m")),
            ("Bearer gm_a_b".to_owned(), Some("gm_a_b")),
            ("Basic gm_a_b".to_owned(), None),
            ("Digest gm_a_b".to_owned(), None),
            ("gm_a_b".to_owned(), None),
        ] {
            assert_eq!(shown(&text).as_deref(), key, "{text}");
        }
    }
}
