//! Who asks, and what they may: each route says in its arguments what it needs, so that none can be forgotten.
//!
//! Must not know any route. Until there are keys, whoever reaches the server owns it: only loopback is served.

use std::future::{Ready, ready};

use axum::{extract::FromRequestParts, http::request::Parts};
use graphmill_jobs::OrganizationId;

use super::State;

/// The organization that is asked about, for a route that only reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reads(pub(super) OrganizationId);

/// The organization that is asked about, for a route that changes what it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writes(pub(super) OrganizationId);

macro_rules! granted {
    ($($needs:ident),+) => {$(
        impl FromRequestParts<State> for $needs {
            type Rejection = super::problem::Problem;

            fn from_request_parts(
                _: &mut Parts,
                _: &State,
            ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
                let granted: Ready<_> = ready(Ok(Self(OrganizationId::DEFAULT)));
                granted
            }
        }
    )+};
}

granted!(Reads, Writes);
