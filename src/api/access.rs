//! Who asks, and what they may: each route says in its arguments what it needs, so that none can be forgotten; and what
//! says nothing is shut to whoever has no key.
//!
//! Must not know any route but those in [`OPEN`]. Invariants: no request reaches a route before its key was checked; an
//! organization comes from the key and from nothing else that is sent; a key or a token is never logged, and never
//! handed on to a route.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    extract::{self, FromRequestParts, MatchedPath, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts,
        uri::PathAndQuery,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use graphmill_jobs::OrganizationId;

use super::{State, problem::Problem};
use crate::{
    flow::RequestRate,
    keys::{Holder, Keyring, Refusal},
    queue::{RateLimiter, Taken},
    store::Scope,
};

/// Routes that need no key: they say nothing of anybody's.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/docs"];
/// What an answer without a look at the body takes off the wire, in bytes: a client that still writes when the
/// connection closes sees a broken pipe instead of the reason.
const DRAINED: usize = 1 << 20;
/// How long it may take to say who asks: a pool waits for Postgres for as long as a request may last.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the body may take for that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// **Source:** draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How those who ask are told apart.
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

impl Access {
    /// By their keys.
    #[must_use]
    pub const fn by_key(keyring: Keyring, rates: RateLimiter) -> Self {
        Self {
            who: Who::Keys(keyring),
            rates,
        }
    }

    /// Not at all: whoever reaches the server owns all that `organization` has.
    #[must_use]
    pub const fn open(organization: OrganizationId, rates: RateLimiter) -> Self {
        Self {
            who: Who::Anybody(organization),
            rates,
        }
    }

    pub(super) const fn keyring(&self) -> Option<&Keyring> {
        match &self.who {
            Who::Keys(keyring) => Some(keyring),
            Who::Anybody(_) => None,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Anybody, where there are no keys: the owner of this organization.
    Owner(OrganizationId),
    /// Whoever has this key.
    Key(Holder),
    /// Whoever was given a token for the stream that is asked for.
    Stream(Holder),
}

impl Caller {
    const fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Owner(_) => None,
            Self::Key(holder) | Self::Stream(holder) => Some(holder),
        }
    }

    /// The organization, if the caller may do what `scope` says.
    fn with(&self, scope: Scope) -> Result<OrganizationId, Problem> {
        match self {
            Self::Owner(organization) => Ok(*organization),
            Self::Key(holder) if holder.scope >= scope => Ok(holder.organization),
            Self::Key(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!("this API key lacks the scope `{}`", scope.as_str()),
            )
            .with("scope", scope.as_str())),
            Self::Stream(_) => Err(no_key()),
        }
    }
}

/// The organization that is asked about, for a route that only reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads(pub(super) OrganizationId);

/// The organization that is asked about, for a route that changes what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writes(pub(super) OrganizationId);

/// The organization that is asked about, for a route that says who may ask.
#[expect(dead_code, reason = "no route says so yet")]
#[derive(Debug, Clone, Copy)]
pub(super) struct Administers(pub(super) OrganizationId);

/// The organization that is asked about, for a route that streams its events: by a key that reads, or by a token for
/// this stream alone, as `?token=`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams(pub(super) OrganizationId);

/// Who asks, of a request that came through [`admit`].
fn caller(parts: &Parts) -> Result<&Caller, Problem> {
    parts.extensions.get::<Caller>().ok_or_else(no_key)
}

macro_rules! granted {
    ($($needs:ident: $scope:ident),+) => {$(
        impl FromRequestParts<State> for $needs {
            type Rejection = Problem;

            async fn from_request_parts(
                parts: &mut Parts,
                _: &State,
            ) -> Result<Self, Self::Rejection> {
                caller(parts)?.with(Scope::$scope).map(Self)
            }
        }
    )+};
}

granted!(Reads: Read, Writes: Write, Administers: Admin);

impl FromRequestParts<State> for Streams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        match caller(parts)? {
            Caller::Stream(holder) => Ok(Self(holder.organization)),
            caller @ (Caller::Owner(_) | Caller::Key(_)) => caller.with(Scope::Read).map(Self),
        }
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        caller(parts).cloned()
    }
}

/// Lets in whoever may ask at all, and not too often.
pub(super) async fn admit(
    extract::State(state): extract::State<State>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    if matched.is_some_and(|path| OPEN.contains(&path.as_str())) {
        return next.run(request).await;
    }
    let access = &state.0.access;
    let shown = request.headers().get(header::AUTHORIZATION).cloned();
    let asked = (request.method().clone(), request.uri().clone());
    let looked = tokio::time::timeout(LOOK_TIMEOUT, who(access, shown, asked)).await;
    let caller = match looked.unwrap_or_else(|_| Err(nobody_knows())) {
        Ok(caller) => caller,
        Err(problem) => return turn_away(request, problem.into_response()).await,
    };
    conceal(&mut request);
    let rate = caller
        .holder()
        .and_then(|holder| Some((holder, holder.rate?)));
    let taken = match rate {
        None => None,
        Some((holder, rate)) => {
            let taken = access.rates.take(holder.organization, rate).await;
            if !taken.allowed {
                let mut refused = too_often(rate).into_response();
                limits(refused.headers_mut(), rate, &taken);
                return turn_away(request, refused).await;
            }
            Some((rate, taken))
        }
    };
    let holder = caller.holder().cloned();
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if let Some((rate, taken)) = taken {
        limits(response.headers_mut(), rate, &taken);
    }
    match (holder, access.keyring()) {
        (Some(holder), Some(keyring)) if is_stream(&response) => {
            ending_with(response, holder, keyring.clone())
        }
        _ => response,
    }
}

/// Who asks, by what is shown.
async fn who(
    access: &Access,
    shown: Option<HeaderValue>,
    (method, uri): (Method, Uri),
) -> Result<Caller, Problem> {
    let keyring = match &access.who {
        Who::Keys(keyring) => keyring,
        Who::Anybody(organization) => return Ok(Caller::Owner(*organization)),
    };
    let admitted = match (shown, token(&uri)) {
        (Some(shown), _) => {
            let key = bearer(&shown).ok_or_else(no_key)?;
            keyring.admit(key).await.map(Caller::Key)
        }
        (None, Some(token)) if method == Method::GET => {
            let admitted = keyring.admit_to_stream(token, uri.path()).await;
            admitted.map(Caller::Stream)
        }
        (None, _) => return Err(no_key()),
    };
    admitted.map_err(|refusal| refused(&refusal))
}

/// What follows `Bearer`, in whatever case.
fn bearer(shown: &HeaderValue) -> Option<&str> {
    let (scheme, key) = shown.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The token in a query; it has no character that would be escaped there.
fn token(uri: &Uri) -> Option<&str> {
    let mut pairs = uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("token="))
}

pub(super) fn refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Store(error) => Problem::store(error),
        Refusal::Malformed | Refusal::Unknown | Refusal::Expired | Refusal::Token => {
            Problem::new(StatusCode::UNAUTHORIZED, refusal.to_string())
        }
    }
}

fn no_key() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "an API key is needed: `Authorization: Bearer gm_…`",
    )
}

fn nobody_knows() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "Postgres does not answer, so nobody knows whose key this is: trying again may help",
    )
}

fn too_often(rate: RequestRate) -> Problem {
    let per_second = rate.per_second;
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("the organization makes more than {per_second} requests a second"),
    )
    .with("quota", "requests a second")
    .with("limit", per_second)
}

/// Says how many requests are left; to one that was refused, when to try again.
fn limits(headers: &mut HeaderMap, rate: RequestRate, taken: &Taken) {
    let seconds = |time: Duration| time.as_millis().div_ceil(1000);
    let window = rate.burst.div_ceil(rate.per_second.max(1));
    let said = [
        (
            RATE_LIMIT_POLICY,
            format!("\"organization\";q={};w={window}", rate.burst),
        ),
        (
            RATE_LIMIT,
            format!(
                "\"organization\";r={};t={}",
                taken.left,
                seconds(taken.full)
            ),
        ),
    ];
    for (name, value) in said {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    if !taken.allowed {
        let wait = u64::try_from(seconds(taken.wait)).unwrap_or(1).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
}

/// Answers without the route, after what little of the body is there was taken off the wire.
async fn turn_away(request: Request, response: Response) -> Response {
    // It waits for our word before it sends.
    if !request.headers().contains_key(header::EXPECT) {
        let drained = drain(request.into_body().into_data_stream());
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    }
    response
}

async fn drain(mut parts: BodyDataStream) {
    let mut read = 0;
    while let Some(Ok(part)) = parts.next().await {
        read += part.len();
        if read > DRAINED {
            return;
        }
    }
}

/// Takes what was shown out of the request, so that no route can log or pass it on.
fn conceal(request: &mut Request) {
    request.headers_mut().remove(header::AUTHORIZATION);
    let uri = request.uri();
    if token(uri).is_none() {
        return;
    }
    let rest: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.starts_with("token="))
        .collect();
    let without: Cow<'_, str> = if rest.is_empty() {
        uri.path().into()
    } else {
        format!("{}?{}", uri.path(), rest.join("&")).into()
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(without) = PathAndQuery::try_from(without.as_ref()) {
        parts.path_and_query = Some(without);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn is_stream(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// A stream that ends once its key is revoked or has expired: it would outlive its key by hours.
fn ending_with(response: Response, holder: Holder, keyring: Keyring) -> Response {
    let gone = async move { keyring.gone(&holder).await };
    let (parts, body) = response.into_parts();
    let body = body.into_data_stream().take_until(Box::pin(gone));
    Response::from_parts(parts, Body::from_stream(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_one_way() {
        let shown = |text: &str| bearer(&HeaderValue::from_str(text).unwrap()).map(str::to_owned);
        for text in ["Bearer gm_a_b", "bearer gm_a_b", "BEARER  gm_a_b "] {
            assert_eq!(shown(text).as_deref(), Some("gm_a_b"), "{text}");
        }
        for text in ["gm_a_b", "Basic gm_a_b", "Bearergm_a_b", ""] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn no_route_sees_what_was_shown() {
        for (asked, left) in [
            ("/a?token=secret", "/a"),
            ("/a?limit=1&token=secret&after=2", "/a?limit=1&after=2"),
            ("/a?token=&token=secret", "/a"),
            ("/a?tokens=1", "/a?tokens=1"),
            ("/a", "/a"),
        ] {
            let request = Request::builder().uri(asked);
            let request = request.header(header::AUTHORIZATION, "Bearer secret");
            let mut request = request.body(Body::empty()).unwrap();
            conceal(&mut request);
            assert_eq!(request.uri(), left);
            assert!(request.headers().is_empty());
        }
    }
}
